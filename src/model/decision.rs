//! What was decided about an event.

use serde::{Deserialize, Serialize};

use super::{Environment, Event, Handling, RuleId, Team};

/// The outcome of judging one event: which rule matched and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the host is a development host.
    pub environment: Environment,
    /// The rule that won, with what it says for this environment; `None` if no rule matched.
    pub matched: Option<Matched>,
}

/// The winning rule's say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The rule; 0 marks the meta-alert for unhandled events, which no rule made.
    pub rule: RuleId,
    /// Its handling for the host's environment.
    pub handling: Handling,
    /// The team the alert goes to.
    pub team: Team,
}

impl Decision {
    /// Whether the event goes on to a receiver.
    pub fn forwarded(&self) -> bool {
        self.matched.as_ref().is_some_and(|matched| matched.handling.is_forwarded())
    }

    /// The rule that won.
    pub fn rule(&self) -> Option<RuleId> {
        self.matched.as_ref().map(|matched| matched.rule)
    }
}

/// An event with its decision: what the audit and the recent store keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The event.
    pub event: Event,
    /// What was decided.
    pub decision: Decision,
}
