//! What leaves the house, and what could not.

use serde::{Deserialize, Serialize};

use super::{Environment, Event, EventId, Handling, RuleId, TargetName, Team, Timestamp};

/// Why an alert exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// This rule matched.
    Rule(RuleId),
    /// Nothing matched, too often.
    Unmatched {
        /// The message with its variable parts replaced.
        signature: String,
        /// How many such events were counted.
        count: u64,
        /// The counting window in seconds.
        window_seconds: u64,
    },
}

/// An event that is to reach a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The event; its id identifies the alert.
    pub event: Event,
    /// Why it goes out.
    pub cause: Cause,
    /// The host's environment.
    pub environment: Environment,
    /// The handling that was chosen.
    pub handling: Handling,
    /// The team it goes to.
    pub team: Team,
}

impl Alert {
    /// What receivers deduplicate by: host and cause, never time or counter, so that repeats fall together.
    pub fn key(&self) -> String {
        match &self.cause {
            Cause::Rule(rule) => format!("{}:rule:{rule}", self.event.hostname),
            Cause::Unmatched { signature, .. } => format!("{}:unhandled:{signature}", self.event.hostname),
        }
    }
}

/// How one delivery attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryOutcome {
    /// The receiver took it.
    Delivered,
    /// It will be tried again.
    Retrying,
    /// It was given up and is a dead letter.
    DeadLettered,
}

impl DeliveryOutcome {
    /// The name used in the API and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// One line in an event's story: what a receiver said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryNote {
    /// The event the alert was made from.
    pub event_id: EventId,
    /// Where it went.
    pub target: TargetName,
    /// When.
    pub at: Timestamp,
    /// Which try, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: DeliveryOutcome,
    /// The receiver's answer: status and the start of the body, or the connection error.
    pub answer: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventIds, Protocol, Source};

    #[test]
    fn repeats_have_one_key_whatever_their_time_and_count() {
        let ids = EventIds::new(1);
        let alert = |second: i64, cause: Cause| {
            let now = Timestamp::from_millis(second * 1_000);
            let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() };
            let mut event = Event::new(ids.next(now), now, source);
            event.hostname = "sw1".into();
            event.message = format!("fan 3 failed at {second}").as_str().into();
            let team = Team::new("NETO").expect("a team");
            Alert { event, cause, environment: Environment::Prod, handling: Handling::PageOnly, team }
        };
        let unmatched = |count| Cause::Unmatched { signature: "fan # failed at #".into(), count, window_seconds: 60 };
        assert_eq!(alert(1, Cause::Rule(RuleId(7))).key(), alert(2, Cause::Rule(RuleId(7))).key());
        assert_ne!(alert(1, Cause::Rule(RuleId(7))).key(), alert(1, Cause::Rule(RuleId(8))).key());
        assert_eq!(alert(1, unmatched(100)).key(), alert(2, unmatched(200)).key());
    }
}
