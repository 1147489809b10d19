//! Why a rule does or does not match an event, for people.

use super::RuleSet;
use super::compile::{Compiled, TextTest};
use super::fold::fold_text;
use super::judge::text_holds;
use crate::model::{Event, RuleId};

/// One rule's answer to one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The rule.
    pub rule: RuleId,
    /// Whether all its conditions hold. The first one that matches, by precedence, decides about the event.
    pub matched: bool,
    /// The conditions that hold, or the first that does not, as a sentence fragment.
    pub why: String,
}

impl RuleSet {
    /// What each active rule says to the event, by precedence. Slow: for people only.
    pub fn explain(&self, event: &Event) -> Vec<Explanation> {
        let text = fold_text(&event.message);
        self.parts.rules.iter().map(|compiled| explain(compiled, event, &text)).collect()
    }

    /// What one rule says to the event; `None` if it is not active or could not be compiled.
    pub fn explain_rule(&self, rule: RuleId, event: &Event) -> Option<Explanation> {
        let compiled = self.parts.rules.iter().find(|compiled| compiled.rule.id == rule)?;
        Some(explain(compiled, event, &fold_text(&event.message)))
    }
}

fn explain(compiled: &Compiled, event: &Event, text: &[u8]) -> Explanation {
    let checks = checks(compiled, event, text);
    let matched = checks.iter().all(|(held, _)| *held);
    let why = match checks.iter().find(|(held, _)| !held) {
        Some((_, why)) => why.clone(),
        None => checks.into_iter().map(|(_, why)| why).collect::<Vec<_>>().join(" and "),
    };
    Explanation { rule: compiled.rule.id, matched, why }
}

/// Each condition of the rule: whether it holds, and that in words.
fn checks(compiled: &Compiled, event: &Event, text: &[u8]) -> Vec<(bool, String)> {
    let draft = &compiled.rule.draft;
    let mut checks = Vec::new();
    if let Some(wanted) = draft.syslog_severity {
        let why = match event.severity {
            Some(severity) if severity == wanted => format!("the severity is {wanted}"),
            Some(severity) => format!("the severity is {severity}, the rule wants {wanted}"),
            None => format!("the event has no severity, the rule wants {wanted}"),
        };
        checks.push((event.severity == Some(wanted), why));
    }
    if let Some(oid) = &compiled.oid {
        checks.push(match &event.trap {
            None => (false, format!("the event is no trap, the rule wants one below {oid}")),
            Some(trap) if oid.is_prefix_of(&trap.oid) => (true, format!("trap {} is {oid} or below it", trap.oid)),
            Some(trap) => (false, format!("trap {} is not below {oid}", trap.oid)),
        });
    }
    let Some(match_string) = &draft.match_string else { return checks };
    let verbs = match compiled.text {
        TextTest::Regex(..) => ["matches", "does not match"],
        _ => ["contains", "does not contain"],
    };
    let held = text_holds(compiled, event, text);
    let verb = if held { verbs[0] } else { verbs[1] };
    checks.push((held, format!("the message {verb} `{match_string}`")));
    checks
}
