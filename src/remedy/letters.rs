//! The queues that letters lie in, and what a letter holds. Looking only: nothing here takes anything out of a queue.
//!
//! Letters are read a page at a time, so memory does not follow their number, and between two pages others have their
//! turn: a hundred thousand letters neither fill the memory nor hold up a forwarder.

use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::model::{Alert, DeadLetter, Event, Holds, InvalidName};
use crate::queue::{Item, Leased, Queue, Queues, Seq, decode_items};

/// One of the queues of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadQueue {
    /// Events the alerter gave up on.
    Alerter,
    /// Alerts a forwarder gave up on.
    Forwarder,
    /// Letters that are not put back by themselves any more.
    Dead,
}

impl DeadQueue {
    /// All of them, in the order letters pass them.
    pub const ALL: [Self; 3] = [Self::Alerter, Self::Forwarder, Self::Dead];

    /// The queue's name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alerter => "dlq.alerter",
            Self::Forwarder => "dlq.forwarder",
            Self::Dead => "dead",
        }
    }

    /// The queue itself.
    pub fn of(self, queues: &Queues) -> &Queue<DeadLetter> {
        match self {
            Self::Alerter => &queues.dead_events,
            Self::Forwarder => &queues.dead_alerts,
            Self::Dead => &queues.dead,
        }
    }
}

impl FromStr for DeadQueue {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|queue| queue.name() == text).ok_or_else(|| InvalidName {
            kind: "queue",
            text: text.chars().take(40).collect(),
            why: "use dlq.alerter, dlq.forwarder or dead",
        })
    }
}

/// What a letter holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadRecord {
    /// An event that could not be judged.
    Event(Box<Event>),
    /// An alert that could not be delivered.
    Alert(Box<Alert>),
    /// Bytes that are not understood, in full.
    Bytes(Vec<u8>),
}

impl DeadRecord {
    /// What the payload of a letter in this queue is.
    pub fn of(letter: &DeadLetter, queue: DeadQueue) -> Self {
        let payload = letter.payload.as_slice();
        let event = || decode(payload).map(|event| Self::Event(Box::new(event)));
        let alert = || decode(payload).map(|alert| Self::Alert(Box::new(alert)));
        let found = match (letter.holds, queue) {
            (Holds::Event, _) | (Holds::Unknown, DeadQueue::Alerter) => event(),
            (Holds::Alert, _) | (Holds::Unknown, DeadQueue::Forwarder) => alert(),
            (Holds::Unknown, DeadQueue::Dead) => None,
        };
        found.unwrap_or_else(|| Self::Bytes(payload.to_vec()))
    }

    /// The event within, if it could be read.
    pub fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Alert(alert) => Some(&alert.event),
            Self::Bytes(_) => None,
        }
    }

    /// Which kind it is.
    pub const fn holds(&self) -> Holds {
        match self {
            Self::Event(_) => Holds::Event,
            Self::Alert(_) => Holds::Alert,
            Self::Bytes(_) => Holds::Unknown,
        }
    }
}

/// A payload is the postcard form of one record, or a whole queue record when a stage could not take it apart.
fn decode<T: Item + DeserializeOwned>(payload: &[u8]) -> Option<T> {
    if let Ok((record, [])) = postcard::take_from_bytes(payload) {
        return Some(record);
    }
    let items: Vec<T> = decode_items(payload.to_vec()).ok()?;
    // Of several only the first could be put back: then it is safer to show bytes than to lose the others.
    let mut items = items.into_iter();
    items.next().filter(|_| items.len() == 0)
}

/// One letter, with its place in the queue.
#[derive(Debug, Clone)]
pub struct DeadItem {
    /// Its place.
    pub seq: Seq,
    /// The letter, or why it cannot be read.
    pub letter: Result<DeadLetter, String>,
    /// What it holds.
    pub record: DeadRecord,
}

impl DeadItem {
    /// Takes a record of a queue of letters apart.
    pub fn of(record: Leased<DeadLetter>, queue: DeadQueue) -> Self {
        let seq = record.seq;
        match record.items.map(<[DeadLetter; 1]>::try_from) {
            Ok(Ok([letter])) => Self { seq, record: DeadRecord::of(&letter, queue), letter: Ok(letter) },
            // The queue keeps one letter a record; anything else is damage.
            Ok(Err(letters)) => {
                let why = format!("the record holds {} letters instead of one", letters.len());
                Self { seq, letter: Err(why), record: DeadRecord::Bytes(Vec::new()) }
            }
            Err(error) => Self { seq, letter: Err(error.to_string()), record: DeadRecord::Bytes(error.payload) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::DeathClass;
    use crate::queue::{Backend, MemoryBackend};
    use crate::remedy::fixtures::{NOW, alert, event};

    #[tokio::test]
    async fn a_letter_is_read_in_both_forms_and_garbage_keeps_its_bytes() {
        let event = event("core1");
        let plain = postcard::to_stdvec(&event).expect("encodes");
        let backend = Arc::new(MemoryBackend::new("events"));
        let queue = Queue::of_singles("events", Arc::clone(&backend) as _);
        queue.append(std::slice::from_ref(&event)).await.expect("room");
        let record = backend.peek(0, 1).await.expect("there").remove(0).payload;
        for payload in [plain, record] {
            let letter = DeadLetter::of_bytes("alerter", payload, String::new(), 1, NOW);
            assert_eq!(DeadRecord::of(&letter, DeadQueue::Alerter).event(), Some(&event));
        }
        let garbage = DeadLetter::of_bytes("alerter", b"\xff\xff".to_vec(), String::new(), 1, NOW);
        assert_eq!(DeadRecord::of(&garbage, DeadQueue::Alerter), DeadRecord::Bytes(b"\xff\xff".to_vec()));
    }

    #[test]
    fn in_the_common_queue_a_letter_knows_what_it_holds() {
        let of_event = DeadLetter::of_event(&event("a"), "alerter", DeathClass::Judging, String::new(), NOW);
        let of_alert = DeadLetter::of_alert(&alert("b"), "alerter", DeathClass::NoTarget, String::new(), NOW);
        assert!(matches!(DeadRecord::of(&of_event, DeadQueue::Dead), DeadRecord::Event(_)));
        assert!(matches!(DeadRecord::of(&of_alert, DeadQueue::Dead), DeadRecord::Alert(_)));
    }
}
