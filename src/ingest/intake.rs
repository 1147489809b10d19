//! The only place that appends events: gathers what all listeners bring into micro-batches and has them committed.
//!
//! Batching is natural: while [`APPENDS_AT_ONCE`] appends wait for their sync, further submissions gather, and the next
//! record takes all of them. A lone event is committed at once; under load a record holds a thousand.
//! Memory is bounded by [`BUDGET_BYTES`]: whoever submits waits for room.
//!
//! Counting: an event is counted as received and committed when it is durable, or as received and dropped when its
//! listener gives it up ([`Intake::count_dropped`]), so received = committed + dropped at every moment.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{DropReason, Gate, Refusal};
use crate::model::{Event, Flag, Protocol, write_events};
use crate::queue::{Form, Queue, QueueError};
use crate::telemetry::Rates;
use crate::telemetry::metrics::{EVENTS_COMMITTED, EVENTS_DROPPED, EVENTS_RECEIVED, INGEST_FLAGGED};

/// Events in one record, at most.
const BATCH_EVENTS: u64 = 1_024;
/// Bytes of events in one record, at most: far enough below the record limit even if nothing compresses.
const BATCH_BYTES: usize = 512 << 10;
/// Bytes of an event's head and own texts, usually.
const HEAD_BYTES: usize = 96;
/// Appends waiting for their sync at once: one being synced, one being encoded.
const APPENDS_AT_ONCE: usize = 2;
/// Bytes of events between listeners and the queue, at most.
const BUDGET_BYTES: usize = 32 << 20;

/// What a listener that waited is told: its events are on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Events waiting in the queue after these were added.
    pub queue_depth: u64,
}

/// Events that were not taken, given back, and why.
#[derive(Debug)]
pub struct Refused {
    /// The events, for listeners that can hold them and try again.
    pub events: Vec<Event>,
    /// Why.
    pub refusal: Refusal,
}

/// Events as the queue keeps them, written by the listener's own task; the events themselves stay with the listener
/// as long as it may get them back.
struct Submission {
    forms: Vec<Form>,
    summary: Summary,
    bytes: usize,
    /// `None` for listeners that do not wait (UDP).
    answer: Option<Waiting>,
    _room: OwnedSemaphorePermit,
}

/// Who waits for the answer.
type Waiting = oneshot::Sender<Result<Receipt, Refusal>>;

/// The entrance to the event queue; clones share it.
#[derive(Clone)]
pub struct Intake {
    gate: Arc<Gate>,
    queue: Queue<Event>,
    room: Arc<Semaphore>,
    sender: mpsc::Sender<Submission>,
}

impl Intake {
    /// Starts the batching task on the current runtime; it ends when every clone is dropped and all is committed.
    /// The handle that comes with it can be awaited for that.
    pub fn start(queue: Queue<Event>, gate: Gate, rates: Rates) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(65_536);
        let task = tokio::spawn(run(receiver, queue.clone(), rates));
        let intake = Self { gate: Arc::new(gate), queue, room: Arc::new(Semaphore::new(BUDGET_BYTES)), sender };
        (intake, task)
    }

    /// Hands over events and waits until they are on stable storage (`Ok`) or refused (given back).
    pub async fn submit(&self, events: Vec<Event>) -> Result<Receipt, Refused> {
        if events.is_empty() {
            return Ok(Receipt { queue_depth: self.queue.depth().items });
        }
        let (answer, answered) = oneshot::channel();
        if let Err(refusal) = self.hand_over(&events, Some(answer)).await {
            return Err(Refused { events, refusal });
        }
        match answered.await {
            Ok(Ok(receipt)) => Ok(receipt),
            Ok(Err(refusal)) => Err(Refused { events, refusal }),
            Err(_) => Err(Refused { events, refusal: Refusal::Stopping }),
        }
    }

    /// Hands over events without waiting for the disk; waits only for room. What cannot be stored later is counted as
    /// dropped; what the gate refuses now is counted too, because a datagram cannot be given back.
    pub async fn offer(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        if let Err(refusal) = self.hand_over(&events, None).await {
            Summary::of(&events).count_dropped(refusal.reason());
        }
    }

    async fn hand_over(&self, events: &[Event], answer: Option<Waiting>) -> Result<(), Refusal> {
        self.gate.admit(events.len(), self.queue.depth())?;
        let in_memory = events.iter().map(Event::approximate_bytes).sum::<usize>();
        let permits = u32::try_from(in_memory.clamp(1, BUDGET_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| Refusal::Stopping)?;
        let forms = write(events);
        let bytes = forms.iter().map(|form| form.bytes.len()).sum();
        let submission = Submission { forms, summary: Summary::of(events), bytes, answer, _room: room };
        self.sender.send(submission).await.map_err(|_| Refusal::Stopping)
    }

    /// Events waiting in the queue.
    pub fn queue_depth(&self) -> u64 {
        self.queue.depth().items
    }

    /// Counts the events that an earlier life of the process left in the queue, so that what is processed never exceeds
    /// what was committed. To be called before anything takes events from the queue.
    pub fn count_recovered(events: u64) {
        if events > 0 {
            metrics::counter!(EVENTS_RECEIVED, "source" => "recovered").increment(events);
            metrics::counter!(EVENTS_COMMITTED).increment(events);
        }
    }

    /// Counts events that a listener gives up, or that never became events.
    pub fn count_dropped(protocol: Protocol, reason: DropReason, events: u64) {
        metrics::counter!(EVENTS_RECEIVED, "source" => protocol.name()).increment(events);
        metrics::counter!(EVENTS_DROPPED, "source" => protocol.name(), "reason" => reason.name()).increment(events);
    }
}

/// Writes events in pieces that fit into records.
fn write(events: &[Event]) -> Vec<Form> {
    let mut forms = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |event: &&Event| {
            bytes += event.approximate_bytes();
            bytes <= BATCH_BYTES
        };
        let (some, more) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let mut written = Vec::with_capacity(some.iter().map(|event| event.raw.len() + HEAD_BYTES).sum());
        write_events(some.iter(), &mut written);
        forms.push(Form { items: u32::try_from(some.len()).unwrap_or(u32::MAX), bytes: written });
        rest = more;
    }
    forms
}

/// What is counted of some events.
#[derive(Debug, Clone, Copy, Default)]
struct Summary {
    events: u64,
    /// By the order of [`Protocol::ALL`].
    protocols: [u64; Protocol::ALL.len()],
    /// By the order of [`Flag::ALL`].
    flags: [u64; Flag::ALL.len()],
}

impl Summary {
    fn of(events: &[Event]) -> Self {
        let mut summary = Self { events: events.len() as u64, ..Self::default() };
        for event in events {
            let protocol = Protocol::ALL.iter().position(|other| *other == event.source.protocol);
            summary.protocols[protocol.unwrap_or(0)] += 1;
            for flag in &event.flags {
                let flag = Flag::ALL.iter().position(|other| other == flag);
                summary.flags[flag.unwrap_or(0)] += 1;
            }
        }
        summary
    }

    fn by_protocol(&self) -> impl Iterator<Item = (Protocol, u64)> {
        Protocol::ALL.into_iter().zip(self.protocols).filter(|(_, count)| *count > 0)
    }

    fn count_committed(&self) {
        for (protocol, count) in self.by_protocol() {
            metrics::counter!(EVENTS_RECEIVED, "source" => protocol.name()).increment(count);
        }
        metrics::counter!(EVENTS_COMMITTED).increment(self.events);
        for (flag, count) in Flag::ALL.into_iter().zip(self.flags).filter(|(_, count)| *count > 0) {
            metrics::counter!(INGEST_FLAGGED, "flag" => flag.name()).increment(count);
        }
    }

    fn count_dropped(&self, reason: DropReason) {
        self.by_protocol().for_each(|(protocol, count)| Intake::count_dropped(protocol, reason, count));
    }
}

/// Gathers submissions into records until every sender is gone, then waits for the appends under way.
async fn run(mut receiver: mpsc::Receiver<Submission>, queue: Queue<Event>, rates: Rates) {
    let appends = Arc::new(Semaphore::new(APPENDS_AT_ONCE));
    let mut held_back = None;
    loop {
        // The slot first: while none is free, submissions gather in the channel.
        let Ok(slot) = Arc::clone(&appends).acquire_owned().await else { return };
        let Some(first) = next(&mut held_back, &mut receiver).await else { break };
        let batch = gather(first, &mut held_back, &mut receiver);
        let (queue, rates) = (queue.clone(), rates.clone());
        tokio::spawn(async move {
            commit(&queue, &rates, batch).await;
            drop(slot);
        });
    }
    let all = u32::try_from(APPENDS_AT_ONCE).unwrap_or(u32::MAX);
    // Every slot free again means that nothing is under way.
    drop(appends.acquire_many(all).await);
}

async fn next(held_back: &mut Option<Submission>, receiver: &mut mpsc::Receiver<Submission>) -> Option<Submission> {
    match held_back.take() {
        Some(submission) => Some(submission),
        None => receiver.recv().await,
    }
}

fn gather(
    first: Submission,
    held_back: &mut Option<Submission>,
    receiver: &mut mpsc::Receiver<Submission>,
) -> Vec<Submission> {
    let (mut events, mut bytes) = (first.summary.events, first.bytes);
    let mut batch = vec![first];
    while let Ok(submission) = receiver.try_recv() {
        if events + submission.summary.events > BATCH_EVENTS || bytes + submission.bytes > BATCH_BYTES {
            *held_back = Some(submission);
            break;
        }
        events += submission.summary.events;
        bytes += submission.bytes;
        batch.push(submission);
    }
    batch
}

/// Appends one batch and tells everyone who waits.
async fn commit(queue: &Queue<Event>, rates: &Rates, mut batch: Vec<Submission>) {
    let forms: Vec<Form> = batch.iter_mut().flat_map(|submission| std::mem::take(&mut submission.forms)).collect();
    match queue.append_forms(&forms).await {
        Ok(()) => {
            batch.iter().for_each(|submission| submission.summary.count_committed());
            rates.count_received(batch.iter().map(|submission| submission.summary.events).sum());
            let receipt = Receipt { queue_depth: queue.depth().items };
            for submission in batch {
                answer(submission.answer, Ok(receipt));
            }
        }
        Err(error) => {
            let refusal = refusal_of(&error);
            let events: u64 = batch.iter().map(|submission| submission.summary.events).sum();
            tracing::warn!(queue.name = queue.name(), events, "Events refused: {error}");
            for submission in batch {
                match submission.answer {
                    None => submission.summary.count_dropped(refusal.reason()),
                    waiting => answer(waiting, Err(refusal.clone())),
                }
            }
        }
    }
}

/// A listener that stopped waiting needs no answer.
fn answer(waiting: Option<Waiting>, result: Result<Receipt, Refusal>) {
    if let Some(waiting) = waiting {
        drop(waiting.send(result));
    }
}

fn refusal_of(error: &QueueError) -> Refusal {
    match error {
        QueueError::Full { .. } | QueueError::Storage { .. } => Refusal::Storage(error.to_string()),
        QueueError::TooLarge { .. } => Refusal::TooLarge(error.to_string()),
        QueueError::Closed { .. } => Refusal::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn events_found_at_start_are_counted_as_received_and_committed() {
        let recorder = metrics::install().expect("a recorder");
        Intake::count_recovered(0);
        Intake::count_recovered(7);
        let text = recorder.render();
        assert!(text.contains("mutt_events_received_total{source=\"recovered\"} 7\n"), "{text}");
        let committed = text.lines().find_map(|line| line.strip_prefix("mutt_events_committed_total "));
        let committed: f64 = committed.expect("counted").parse().expect("a number");
        assert!(committed >= 7.0, "other tests count here too: {committed}");
    }
}
