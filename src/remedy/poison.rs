//! Which letters are not put back by themselves any more, and what the operator is told of them. Pure.

use std::collections::BTreeMap;

use super::Settings;
use super::letters::{DeadItem, DeadQueue, DeadRecord};
use crate::model::{
    Alert, Cause, DeadLetter, DeathClass, Environment, Event, EventId, Handling, Protocol, Severity, Source, Timestamp,
};

/// What reports are deduplicated by: all of them fall together at the receiver.
const SIGNATURE: &str = "messages set aside in the queue dead";
/// What names this program in events it makes itself.
const APP_NAME: &str = "muttd";
/// Error: a message that mattered did not arrive, and somebody has to look.
const SEVERITY: u8 = 3;
/// Characters of a reason in the report: the rest is on the page.
const REASON_CHARS: usize = 300;

/// What is to become of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is put back when the way is free.
    PutBack,
    /// It goes to the queue `dead`, for this reason.
    SetAside(String),
}

/// Decides by what a letter holds, why it died and how often it was put back.
pub(super) fn fate(item: &DeadItem, max_poison_retries: u32) -> Fate {
    let letter = match &item.letter {
        Ok(letter) => letter,
        Err(why) => return Fate::SetAside(format!("the letter cannot be read: {why}")),
    };
    if matches!(item.record, DeadRecord::Bytes(_)) {
        return Fate::SetAside("its bytes are not understood".to_owned());
    }
    match letter.class {
        // Whatever ended the process would end it again, each time with everything else that is in work.
        DeathClass::Crashed => Fate::SetAside("the process ended while it was in work".to_owned()),
        // Its alert went out all the same; judging it again would only send that a second time.
        DeathClass::Audit => Fate::SetAside("the audit will never take it".to_owned()),
        DeathClass::TooLarge => Fate::SetAside("it is too large for any queue".to_owned()),
        _ if letter.replays >= max_poison_retries => {
            Fate::SetAside(format!("put back {} times and died again", letter.replays))
        }
        _ => Fate::PutBack,
    }
}

/// The letter as it goes to the queue `dead`.
pub(super) fn set_aside(item: DeadItem, queue: DeadQueue, why: &str, now: Timestamp) -> DeadLetter {
    let holds = item.record.holds();
    match (item.letter, item.record) {
        (Ok(letter), _) => {
            let reason = format!("{why}; {}", letter.reason);
            DeadLetter { holds, reason, ..letter }
        }
        (Err(_), DeadRecord::Bytes(bytes)) => DeadLetter::of_bytes(queue.name(), bytes, why.to_owned(), 0, now),
        (Err(_), _) => DeadLetter::of_bytes(queue.name(), Vec::new(), why.to_owned(), 0, now),
    }
}

/// Whether a letter is such a report itself: reporting that would never end.
pub(super) fn is_report(record: &DeadRecord) -> bool {
    let DeadRecord::Alert(alert) = record else { return false };
    let is_ours = alert.event.app_name.as_deref().is_some_and(|name| name == APP_NAME);
    is_ours && matches!(&alert.cause, Cause::Unmatched { signature, .. } if *signature == *SIGNATURE)
}

/// What was set aside in one run.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// By who gave up, and why.
    groups: BTreeMap<(String, DeathClass), u64>,
    /// The first one's reason.
    sample: String,
}

impl Findings {
    pub(super) fn add(&mut self, letter: &DeadLetter) {
        if self.groups.is_empty() {
            self.sample = letter.reason.chars().take(REASON_CHARS).collect();
        }
        *self.groups.entry((letter.origin.clone(), letter.class)).or_default() += 1;
    }

    fn count(&self) -> u64 {
        self.groups.values().sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// One sentence for the log and the alert.
    pub(super) fn sentence(&self) -> String {
        let groups =
            self.groups.iter().map(|((origin, class), count)| format!("{count} of {origin} ({})", class.name()));
        let groups = groups.collect::<Vec<_>>().join(", ");
        let messages = if self.count() == 1 { "1 message was" } else { &format!("{} messages were", self.count()) };
        format!(
            "{messages} set aside in the queue `dead` and will not be tried again: {groups}; the first: {}",
            self.sample
        )
    }

    /// The alert that tells the operator. A ticket: the message itself may have been worth a page, this is not.
    pub(super) fn alert(&self, id: EventId, node: &str, settings: &Settings, now: Timestamp) -> Alert {
        let source = Source { protocol: Protocol::Internal, peer: std::net::Ipv4Addr::LOCALHOST.into() };
        let mut event = Event::new(id, now, source);
        event.timestamp = Some(now);
        event.hostname = node.into();
        event.severity = Severity::new(SEVERITY);
        event.app_name = Some(APP_NAME.into());
        event.message = self.sentence().as_str().into();
        let groups = self.groups.iter().map(
            |((origin, class), count)| serde_json::json!({"origin": origin, "class": class.name(), "count": count}),
        );
        let fields = serde_json::json!({"count": self.count(), "groups": groups.collect::<Vec<_>>()});
        event.fields = Some(fields.to_string().as_str().into());
        Alert {
            event,
            cause: Cause::Unmatched {
                signature: SIGNATURE.into(),
                count: self.count(),
                window_seconds: settings.interval.as_secs(),
            },
            environment: Environment::Prod,
            handling: Handling::TicketOnly,
            team: settings.team.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventIds;
    use crate::remedy::fixtures::{NOW, alert, event, team};

    fn item(letter: DeadLetter) -> DeadItem {
        DeadItem { seq: 1, record: DeadRecord::of(&letter, DeadQueue::Forwarder), letter: Ok(letter) }
    }

    fn letter(class: DeathClass, replays: u32) -> DeadLetter {
        let letter = DeadLetter::of_alert(&alert("core1"), "moogsoft", class, "422 no such class".into(), NOW);
        DeadLetter { replays, ..letter }
    }

    fn check(class: DeathClass, replays: u32, expected: Option<&str>) {
        let found = match fate(&item(letter(class, replays)), 3) {
            Fate::PutBack => None,
            Fate::SetAside(why) => Some(why),
        };
        assert_eq!(found.as_deref(), expected, "{class:?} after {replays}");
    }

    #[test]
    fn letters_are_put_back_as_often_as_allowed_and_some_never() {
        check(DeathClass::Refused, 0, None);
        check(DeathClass::ServerError, 2, None);
        check(DeathClass::Refused, 3, Some("put back 3 times and died again"));
        check(DeathClass::Crashed, 0, Some("the process ended while it was in work"));
        check(DeathClass::Audit, 0, Some("the audit will never take it"));
        check(DeathClass::TooLarge, 0, Some("it is too large for any queue"));
        let garbage = DeadLetter::of_bytes("moogsoft", vec![0xff], "garbled".into(), 1, NOW);
        assert_eq!(fate(&item(garbage), 3), Fate::SetAside("its bytes are not understood".into()));
    }

    #[test]
    fn a_letter_that_cannot_be_read_itself_keeps_its_bytes() {
        let item = DeadItem { seq: 1, letter: Err("format 9".into()), record: DeadRecord::Bytes(vec![9, 1]) };
        let Fate::SetAside(why) = fate(&item, 3) else { panic!("it can never be put back") };
        let letter = set_aside(item, DeadQueue::Alerter, &why, NOW);
        assert_eq!((letter.origin.as_str(), letter.payload.as_slice()), ("dlq.alerter", [9, 1].as_slice()));
        assert_eq!(
            (letter.class, letter.reason.as_str()),
            (DeathClass::Undecodable, "the letter cannot be read: format 9")
        );
    }

    #[test]
    fn the_report_says_how_many_of_which_and_is_known_as_such() {
        let mut findings = Findings::default();
        findings.add(&letter(DeathClass::Refused, 3));
        findings.add(&letter(DeathClass::Refused, 3));
        findings.add(&DeadLetter::of_event(&event("a"), "alerter", DeathClass::Judging, "it broke".into(), NOW));
        let report = findings.alert(EventIds::new(1).next(NOW), "mutt1", &Settings::for_team(team()), NOW);
        let expected = "3 messages were set aside in the queue `dead` and will not be tried again: 1 of alerter (judging), \
                        2 of moogsoft (refused); the first: 422 no such class";
        assert_eq!(&*report.event.message, expected);
        assert_eq!(report.key(), "mutt1:unhandled:messages set aside in the queue dead");
        assert!(is_report(&DeadRecord::Alert(Box::new(report))));
        assert!(!is_report(&DeadRecord::Alert(Box::new(alert("core1")))));
    }
}
