//! One event's way as a list of steps in their order: received, judged, kept, delivered or not, given up, put back. It is
//! put together from what the stores and queues say now; what one of them cannot say is told as a warning.

use super::{Admin, EventStory};
use crate::model::{EventId, Timestamp};
use crate::remedy::DeadQueue;

use super::dead_letters::LetterReader;

/// Letters looked at in each queue for those of one event.
const MOST_LOOKED_AT: usize = 20_000;

/// A letter of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLetter {
    /// The queue it lies in.
    pub queue: DeadQueue,
    /// Its place there.
    pub seq: u64,
    /// The stage or target that gave up.
    pub origin: String,
    /// Why.
    pub reason: String,
    /// How often it was put back before.
    pub replays: u32,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// Where an event was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptIn {
    /// In the store of recent events.
    pub recent: bool,
    /// As a row of the audit.
    pub audit: bool,
}

/// One step of an event's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStep {
    /// When, where that is known.
    pub at: Option<Timestamp>,
    /// `received`, `judged`, `kept`, `delivery`, `dead_letter`, `replayed`.
    pub kind: &'static str,
    /// What happened, as a sentence.
    pub what: String,
}

impl Admin {
    /// The dead letters of an event that wait now, and what could not be looked at.
    pub(super) async fn letters_of(&self, id: EventId, warnings: &mut Vec<String>) -> Vec<EventLetter> {
        let mut found = Vec::new();
        for queue in DeadQueue::ALL {
            let mut reader = LetterReader::new(self, queue, 0);
            let mut looked_at = 0;
            loop {
                if looked_at >= MOST_LOOKED_AT {
                    warnings
                        .push(format!("only the oldest {MOST_LOOKED_AT} letters of {} were looked at", queue.name()));
                    break;
                }
                let page = match reader.page(MOST_LOOKED_AT).await {
                    Ok(Some(page)) => page,
                    Ok(None) => break,
                    Err(error) => {
                        warnings.push(format!("the queue {} cannot be looked at: {error}", queue.name()));
                        break;
                    }
                };
                looked_at += page.len();
                let letters = page.into_iter().filter_map(|item| Some((item.seq, item.letter.ok()?)));
                found.extend(letters.filter(|(_, letter)| letter.event_id == Some(id)).map(|(seq, letter)| {
                    EventLetter {
                        queue,
                        seq,
                        origin: letter.origin,
                        reason: letter.reason,
                        replays: letter.replays,
                        died_at: letter.died_at,
                    }
                }));
            }
        }
        found
    }
}

impl EventStory {
    /// The way, oldest step first.
    pub fn steps(&self) -> Vec<EventStep> {
        let event = &self.judged.event;
        let step = |at: Option<Timestamp>, kind, what: String| EventStep { at, kind, what };
        let mut steps = vec![
            step(
                Some(event.received_at),
                "received",
                format!("received over {} from {}", event.source.protocol.name(), event.source.peer),
            ),
            step(None, "judged", self.judgement()),
            step(None, "kept", self.kept()),
        ];
        let mut later: Vec<EventStep> = self
            .deliveries
            .iter()
            .map(|note| {
                let what = format!(
                    "try {} to deliver to {}: {}; {}",
                    note.attempt,
                    note.target.as_str(),
                    note.outcome.name(),
                    note.answer
                );
                step(Some(note.at), "delivery", what)
            })
            .collect();
        for letter in &self.letters {
            let what =
                format!("{} gave it up and it waits in {}: {}", letter.origin, letter.queue.name(), letter.reason);
            later.push(step(Some(letter.died_at), "dead_letter", what));
        }
        if let Some((times, first)) = event.replays() {
            let what = format!("put back into the work {times} times since it was first given up at {first}");
            later.push(step(Some(first), "replayed", what));
        }
        later.sort_by_key(|step| step.at);
        steps.extend(later);
        if self.judged.decision.forwarded() && self.deliveries.is_empty() && self.letters.is_empty() {
            steps.push(step(
                None,
                "delivery",
                "its alert waits for its target, or the target's answer is not noted".into(),
            ));
        }
        steps
    }

    fn judgement(&self) -> String {
        let decision = &self.judged.decision;
        let environment = decision.environment.name();
        let Some(matched) = &decision.matched else {
            return format!("no rule matched; it was counted as unhandled ({environment} host)");
        };
        let why = self.explained.iter().find(|told| told.rule.id == matched.rule && told.matched);
        let why = why.map(|told| format!(": {}", told.why)).unwrap_or_default();
        let out = if matched.handling.is_forwarded() { "an alert was made" } else { "recorded, no alert" };
        let (rule, handling, team) = (matched.rule, &matched.handling, matched.team.as_str());
        if rule.0 == 0 {
            return format!("made by the appliance itself for team {team}: {handling}, {out}");
        }
        format!("rule {rule} decided ({environment} host){why}; {handling} for team {team}, {out}")
    }

    fn kept(&self) -> String {
        match self.kept_in {
            KeptIn { recent: true, audit: true } => "kept in the audit and among the recent events".into(),
            KeptIn { recent: false, audit: true } => "kept in the audit".into(),
            KeptIn { recent: true, audit: false } => "kept among the recent events only".into(),
            KeptIn { .. } => "kept nowhere any more".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::admin::testing::{NOON, TestAdmin, matched};
    use crate::model::{DeadLetter, DeathClass, DeliveryNote, DeliveryOutcome, TargetName};
    use std::sync::Arc;

    #[tokio::test]
    async fn an_events_way_is_told_step_by_step_to_where_it_is_now() {
        let house = TestAdmin::new().await;
        let judged = matched(1, "core1", "link down", 7);
        let id = judged.event.id;
        house.stores.audit.record(vec![judged.clone()]).await.expect("recorded");
        house.stores.recent.append(&Arc::new(vec![judged.clone()]));
        let note = DeliveryNote {
            event_id: id,
            target: TargetName::new("moogsoft").expect("a name"),
            at: NOON,
            attempt: 1,
            outcome: DeliveryOutcome::DeadLettered,
            answer: "400 no class".into(),
        };
        house.stores.audit.note_deliveries(vec![note]).await.expect("noted");
        let later = NOON.plus(std::time::Duration::from_secs(1));
        let letter =
            DeadLetter::of_event(&judged.event, "moogsoft", DeathClass::Refused, "it was refused".into(), later);
        house.queues.dead_alerts.append(&[letter]).await.expect("room");
        let story = house.admin.event(id).await.expect("there");
        let steps = story.steps();
        let kinds: Vec<&str> = steps.iter().map(|step| step.kind).collect();
        assert_eq!(kinds, ["received", "judged", "kept", "delivery", "dead_letter"], "{steps:?}");
        assert!(steps[1].what.contains("rule 7 decided"), "{steps:?}");
        assert!(steps[2].what.contains("audit and among the recent"), "{steps:?}");
        assert!(steps[3].what.contains("400 no class") && steps[4].what.contains("dlq.forwarder"), "{steps:?}");
        assert_eq!((story.letters.len(), story.letters[0].reason.as_str()), (1, "it was refused"));
    }
}
