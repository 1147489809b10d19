//! Dead letters: what a stage gave up on, for people who look. Looking never takes anything out of a queue.

use std::str::FromStr;

use serde::de::DeserializeOwned;

use super::{Admin, AdminError};
use crate::model::{Alert, DeadLetter, Event, InvalidName};
use crate::queue::{Item, Leased, Seq, decode_items};

/// Most letters one call returns.
const MAX_LETTERS: usize = 200;

/// One of the two dead letter queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadQueue {
    /// Events the alerter gave up on.
    Alerter,
    /// Alerts a forwarder gave up on.
    Forwarder,
}

impl DeadQueue {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Alerter, Self::Forwarder];

    /// The queue's name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alerter => "dlq.alerter",
            Self::Forwarder => "dlq.forwarder",
        }
    }
}

impl FromStr for DeadQueue {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|queue| queue.name() == text).ok_or_else(|| InvalidName {
            kind: "queue",
            text: text.chars().take(40).collect(),
            why: "use dlq.alerter or dlq.forwarder",
        })
    }
}

/// What a dead letter holds.
#[derive(Debug, Clone)]
pub enum DeadRecord {
    /// An event that could not be judged.
    Event(Box<Event>),
    /// An alert that could not be delivered.
    Alert(Box<Alert>),
    /// Bytes that are not understood.
    Bytes(usize),
}

impl DeadRecord {
    /// The event within, if it could be read.
    pub fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Alert(alert) => Some(&alert.event),
            Self::Bytes(_) => None,
        }
    }
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

/// Letters of one queue, oldest first.
#[derive(Debug, Clone)]
pub struct DeadPage {
    /// The letters.
    pub items: Vec<DeadItem>,
    /// Where to go on; `None` at the end.
    pub next: Option<Seq>,
    /// Letters there are in all.
    pub total: u64,
}

impl Admin {
    /// Letters of a queue from `from` on.
    pub async fn dead_letters(&self, queue: DeadQueue, from: Seq, limit: usize) -> Result<DeadPage, AdminError> {
        let source = match queue {
            DeadQueue::Alerter => &self.parts.queues.dead_events,
            DeadQueue::Forwarder => &self.parts.queues.dead_alerts,
        };
        let limit = limit.clamp(1, MAX_LETTERS);
        let records = source.peek(from, limit).await?;
        let next = records.last().filter(|_| records.len() == limit).map(|record| record.seq.saturating_add(1));
        let items = records.into_iter().flat_map(|record| opened(queue, record)).collect();
        Ok(DeadPage { items, next, total: source.depth().items })
    }
}

fn opened(queue: DeadQueue, record: Leased<DeadLetter>) -> Vec<DeadItem> {
    let seq = record.seq;
    match record.items {
        Ok(letters) => letters
            .into_iter()
            .map(|letter| DeadItem { seq, record: contents(queue, &letter.payload), letter: Ok(letter) })
            .collect(),
        Err(error) => {
            vec![DeadItem { seq, record: DeadRecord::Bytes(error.payload.len()), letter: Err(error.to_string()) }]
        }
    }
}

fn contents(queue: DeadQueue, payload: &[u8]) -> DeadRecord {
    let unreadable = DeadRecord::Bytes(payload.len());
    match queue {
        DeadQueue::Alerter => decode(payload).map_or(unreadable, |event| DeadRecord::Event(Box::new(event))),
        DeadQueue::Forwarder => decode(payload).map_or(unreadable, |alert| DeadRecord::Alert(Box::new(alert))),
    }
}

/// A payload is the postcard form of one record, or a whole queue record when a stage could not take it apart.
fn decode<T: Item + DeserializeOwned>(payload: &[u8]) -> Option<T> {
    if let Ok((record, [])) = postcard::take_from_bytes(payload) {
        return Some(record);
    }
    decode_items(payload.to_vec()).ok()?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admin::testing::judged;
    use crate::queue::{Backend, MemoryBackend, Queue};

    #[tokio::test]
    async fn a_letter_is_read_in_both_forms_and_garbage_is_counted() {
        let event = judged(1, "core1", "it broke").event;
        let plain = postcard::to_stdvec(&event).expect("encodes");
        let backend = Arc::new(MemoryBackend::new("events"));
        Queue::of_singles("events", Arc::clone(&backend) as _)
            .append(std::slice::from_ref(&event))
            .await
            .expect("room");
        let record = backend.peek(0, 1).await.expect("there").remove(0).payload;
        for payload in [plain, record] {
            assert_eq!(contents(DeadQueue::Alerter, &payload).event(), Some(&event));
        }
        assert!(matches!(contents(DeadQueue::Alerter, b"\xff\xff"), DeadRecord::Bytes(2)));
    }
}
