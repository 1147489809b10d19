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
use crate::model::{Event, Protocol};
use crate::queue::{Queue, QueueError};
use crate::telemetry::Rates;
use crate::telemetry::metrics::{EVENTS_COMMITTED, EVENTS_DROPPED, EVENTS_RECEIVED, INGEST_FLAGGED};

/// Events in one record, at most.
const BATCH_EVENTS: usize = 1_024;
/// Bytes of events in one record, at most: far enough below the record limit even if nothing compresses.
const BATCH_BYTES: usize = 512 << 10;
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

struct Submission {
    events: Vec<Event>,
    bytes: usize,
    /// `None` for listeners that do not wait (UDP).
    answer: Option<oneshot::Sender<Result<Receipt, Refused>>>,
    _room: OwnedSemaphorePermit,
}

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
        self.hand_over(events, Some(answer)).await?;
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(Refused { events: Vec::new(), refusal: Refusal::Stopping }),
        }
    }

    /// Hands over events without waiting for the disk; waits only for room. What cannot be stored later is counted as
    /// dropped; what the gate refuses now is counted too, because a datagram cannot be given back.
    pub async fn offer(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        if let Err(refused) = self.hand_over(events, None).await {
            Self::drop_events(&refused.events, refused.refusal.reason());
        }
    }

    async fn hand_over(
        &self,
        events: Vec<Event>,
        answer: Option<oneshot::Sender<Result<Receipt, Refused>>>,
    ) -> Result<(), Refused> {
        if let Err(refusal) = self.gate.admit(events.len(), self.queue.depth()) {
            return Err(Refused { events, refusal });
        }
        let bytes = events.iter().map(Event::approximate_bytes).sum::<usize>();
        let permits = u32::try_from(bytes.clamp(1, BUDGET_BYTES)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(permits).await else {
            return Err(Refused { events, refusal: Refusal::Stopping });
        };
        let submission = Submission { events, bytes, answer, _room: room };
        self.sender.send(submission).await.map_err(|back| Refused { events: back.0.events, refusal: Refusal::Stopping })
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

    fn drop_events(events: &[Event], reason: DropReason) {
        for (protocol, count) in count_by_protocol(events) {
            Self::count_dropped(protocol, reason, count);
        }
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
    let (mut events, mut bytes) = (first.events.len(), first.bytes);
    let mut batch = vec![first];
    while let Ok(submission) = receiver.try_recv() {
        if events + submission.events.len() > BATCH_EVENTS || bytes + submission.bytes > BATCH_BYTES {
            *held_back = Some(submission);
            break;
        }
        events += submission.events.len();
        bytes += submission.bytes;
        batch.push(submission);
    }
    batch
}

/// Appends one batch and tells everyone who waits.
async fn commit(queue: &Queue<Event>, rates: &Rates, mut batch: Vec<Submission>) {
    let mut events = Vec::with_capacity(batch.iter().map(|submission| submission.events.len()).sum());
    let lengths: Vec<usize> = batch.iter().map(|submission| submission.events.len()).collect();
    for submission in &mut batch {
        events.append(&mut submission.events);
    }
    let result = queue.append(&events).await;
    match result {
        Ok(()) => {
            count_committed(&events);
            rates.count_received(events.len() as u64);
            let receipt = Receipt { queue_depth: queue.depth().items };
            for submission in batch {
                answer(submission.answer, Ok(receipt));
            }
        }
        Err(error) => {
            let refusal = refusal_of(&error);
            tracing::warn!(queue.name = queue.name(), events = events.len(), "Events refused: {error}");
            let mut rest = events.into_iter();
            for (submission, length) in batch.into_iter().zip(lengths) {
                let events: Vec<Event> = rest.by_ref().take(length).collect();
                match submission.answer {
                    None => Intake::drop_events(&events, refusal.reason()),
                    waiting => answer(waiting, Err(Refused { events, refusal: refusal.clone() })),
                }
            }
        }
    }
}

/// A listener that stopped waiting needs no answer.
fn answer(waiting: Option<oneshot::Sender<Result<Receipt, Refused>>>, result: Result<Receipt, Refused>) {
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

fn count_committed(events: &[Event]) {
    for (protocol, count) in count_by_protocol(events) {
        metrics::counter!(EVENTS_RECEIVED, "source" => protocol.name()).increment(count);
    }
    metrics::counter!(EVENTS_COMMITTED).increment(events.len() as u64);
    for flag in events.iter().flat_map(|event| &event.flags) {
        metrics::counter!(INGEST_FLAGGED, "flag" => flag.name()).increment(1);
    }
}

fn count_by_protocol(events: &[Event]) -> Vec<(Protocol, u64)> {
    let mut counts: Vec<(Protocol, u64)> = Vec::new();
    for event in events {
        match counts.iter_mut().find(|(protocol, _)| *protocol == event.source.protocol) {
            Some((_, count)) => *count += 1,
            None => counts.push((event.source.protocol, 1)),
        }
    }
    counts
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
