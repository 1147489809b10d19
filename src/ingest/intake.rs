//! The only place that appends events: gathers what all listeners bring into micro-batches and has them committed.
//!
//! Batching is natural: while [`APPENDS_AT_ONCE`] appends wait for their sync, further submissions gather, and the next
//! record takes all of them. A lone event is committed at once; under load a record holds a thousand. In between, what
//! comes by stream or datagram waits up to [`PACE`] for company.
//!
//! Each kind of input has a lane of its own: a channel, and room for [`LANE_BYTES`], for which its listeners wait. Records
//! are filled from the lanes in turn, so that an input which floods neither takes the room of the others nor makes them
//! wait behind all that it brought.
//!
//! Counting: an event is counted as received and committed when it is durable, or as received and dropped when its
//! listener gives it up ([`Intake::count_dropped`]), so received = committed + dropped at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{DropReason, Gate, Refusal};
use crate::model::{Event, Flag, Protocol, write_events};
use crate::queue::{Form, Queue, QueueError};
use crate::telemetry::Rates;
use crate::telemetry::metrics::{EVENTS_COMMITTED, EVENTS_DROPPED, EVENTS_RECEIVED, INGEST_FLAGGED};
use crate::telemetry::trace::{Span, Tracer};

/// Events in one record, at most.
const BATCH_EVENTS: u64 = 1_024;
/// Bytes of events in one record, at most: far enough below the record limit even if nothing compresses.
const BATCH_BYTES: usize = 512 << 10;
/// Bytes of an event's head and own texts, usually.
const HEAD_BYTES: usize = 96;
/// Appends waiting for their sync at once: one being synced, one being encoded.
const APPENDS_AT_ONCE: usize = 2;
/// Records of streams and datagrams begin no sooner after one another, unless half a record waits: each costs a sync.
const PACE: Duration = Duration::from_millis(4);
/// Kinds of inputs: HTTP, syslog datagrams, traps, syslog streams.
const LANES: usize = 4;
/// Bytes of events between the listeners of one lane and the queue, at most; eight records.
const LANE_BYTES: usize = 8 << 20;
/// Submissions waiting in one lane; each holds room for at least one event of some 600 bytes, so bytes run out first.
const LANE_SUBMISSIONS: usize = 16_384;

/// The lane of a protocol.
const fn lane_of(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Http | Protocol::Internal => 0,
        Protocol::SyslogUdp => 1,
        Protocol::SnmpTrap => 2,
        Protocol::SyslogTcp | Protocol::SyslogTls => 3,
    }
}

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
    answer: Option<Asker>,
    /// The spans of those that are traced; they end when the events are durable.
    spans: Vec<Span>,
    _room: OwnedSemaphorePermit,
    _under_way: UnderWay,
}

/// Events that were let in and are not in the queue yet; counted until this is dropped.
struct UnderWay {
    all: Arc<AtomicU64>,
    events: u64,
}

impl UnderWay {
    /// Counts `events`; also how many others there were before.
    fn begin(all: &Arc<AtomicU64>, events: u64) -> (Self, u64) {
        let before = all.fetch_add(events, Ordering::Relaxed);
        (Self { all: Arc::clone(all), events }, before)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.fetch_sub(self.events, Ordering::Relaxed);
    }
}

/// Who asked, and waits for the answer.
type Asker = oneshot::Sender<Result<Receipt, Refusal>>;

/// The entrance to the event queue; clones share it.
#[derive(Clone)]
pub struct Intake {
    gate: Arc<Gate>,
    queue: Queue<Event>,
    lanes: [Lane; LANES],
    /// Events between the gate and the queue.
    under_way: Arc<AtomicU64>,
    tracer: Tracer,
}

/// The way in for one kind of input.
#[derive(Clone)]
struct Lane {
    room: Arc<Semaphore>,
    sender: mpsc::Sender<Submission>,
}

impl Intake {
    /// Starts the batching task on the current runtime; it ends when every clone is dropped and all is committed.
    /// The handle that comes with it can be awaited for that.
    pub fn start(queue: Queue<Event>, gate: Gate, rates: Rates, tracer: Tracer) -> (Self, tokio::task::JoinHandle<()>) {
        let (lanes, waiting) = lanes();
        let task = tokio::spawn(run(waiting, queue.clone(), rates, tracer.clone()));
        (Self { gate: Arc::new(gate), queue, lanes, under_way: Arc::default(), tracer }, task)
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
    /// dropped; what the gate refuses now is counted too, because a datagram cannot be given back. More than the queue
    /// may hold at all is offered in halves: that they came at once is no fault of their senders.
    pub async fn offer(&self, events: Vec<Event>) {
        let mut waiting = vec![events.as_slice()];
        while let Some(events) = waiting.pop() {
            if events.is_empty() {
                continue;
            }
            let Err(refusal) = self.hand_over(events, None).await else { continue };
            if refusal.needs_parts(events.len()) {
                let (first, second) = events.split_at(events.len() / 2);
                waiting.extend([second, first]);
            } else {
                Summary::of(events).count_dropped(refusal.reason());
            }
        }
    }

    async fn hand_over(&self, events: &[Event], answer: Option<Asker>) -> Result<(), Refusal> {
        // One listener brings all of them, so they are all of one protocol.
        let protocol = events.first().map_or(Protocol::Internal, |event| event.source.protocol);
        let (under_way, before) = UnderWay::begin(&self.under_way, events.len() as u64);
        self.gate.admit(protocol, events.len(), self.queue.depth(), before)?;
        let lane = &self.lanes[lane_of(protocol)];
        let in_memory = events.iter().map(Event::approximate_bytes).sum::<usize>();
        let permits = u32::try_from(in_memory.clamp(1, LANE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&lane.room).acquire_many_owned(permits).await.map_err(|_| Refusal::Stopping)?;
        let forms = write(events);
        let bytes = forms.iter().map(|form| form.bytes.len()).sum();
        let (summary, spans) = (Summary::of(events), traced(&self.tracer, events));
        let submission = Submission { forms, summary, bytes, answer, spans, _room: room, _under_way: under_way };
        lane.sender.send(submission).await.map_err(|_| Refusal::Stopping)
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

/// The spans of the events that are traced, and a line of the log for each at level debug.
fn traced(tracer: &Tracer, events: &[Event]) -> Vec<Span> {
    if tracing::enabled!(tracing::Level::DEBUG) {
        for event in events {
            tracing::debug!(
                event.id = %event.id,
                trace_id = %event.trace_id(),
                correlation_id = event.correlation(),
                source = event.source.protocol.name(),
                "Took an event"
            );
        }
    }
    let Some(sampler) = tracer.sampler() else { return Vec::new() };
    let span = |event: &Event| {
        Span::of_event(event, "receive", event.received_at)
            .with("muttd.source", event.source.protocol.name())
            .with("network.peer.address", event.source.peer.to_string())
    };
    events.iter().filter(|event| sampler.takes(event)).map(span).collect()
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
                if let Some(flag) = Flag::ALL.iter().position(|other| other == flag) {
                    summary.flags[flag] += 1;
                }
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

/// Both ends of every lane.
fn lanes() -> ([Lane; LANES], Waiting) {
    let mut receivers = Vec::with_capacity(LANES);
    let lanes = std::array::from_fn(|_| {
        let (sender, receiver) = mpsc::channel(LANE_SUBMISSIONS);
        receivers.push(receiver);
        Lane { room: Arc::new(Semaphore::new(LANE_BYTES)), sender }
    });
    let held_back = receivers.iter().map(|_| None).collect();
    (lanes, Waiting { receivers, held_back, turn: 0 })
}

/// What waits in the lanes.
struct Waiting {
    receivers: Vec<mpsc::Receiver<Submission>>,
    /// For each lane a submission that did not fit into the last record.
    held_back: Vec<Option<Submission>>,
    /// The lane that begins the next record.
    turn: usize,
}

impl Waiting {
    /// The submission that begins a record, from the lane whose turn it is or the next one that has any; `None` once
    /// every sender is gone and nothing is left.
    async fn first(&mut self) -> Option<Submission> {
        std::future::poll_fn(|context| {
            let mut open = false;
            for lane in (0..LANES).map(|step| (self.turn + step) % LANES) {
                let polled = match self.held_back[lane].take() {
                    Some(submission) => Poll::Ready(Some(submission)),
                    None => self.receivers[lane].poll_recv(context),
                };
                match polled {
                    Poll::Ready(Some(submission)) => {
                        self.turn = (lane + 1) % LANES;
                        return Poll::Ready(Some(submission));
                    }
                    Poll::Ready(None) => {}
                    Poll::Pending => open = true,
                }
            }
            if open { Poll::Pending } else { Poll::Ready(None) }
        })
        .await
    }

    /// Adds to a record one submission of each lane in turn, until nothing waits or nothing fits.
    fn gather(&mut self, batch: &mut Vec<Submission>) {
        let (mut events, mut bytes) =
            (events_in(batch), batch.iter().map(|submission| submission.bytes).sum::<usize>());
        let mut idle = 0;
        let mut lane = self.turn;
        while idle < LANES {
            idle += 1;
            if self.held_back[lane].is_none()
                && let Ok(submission) = self.receivers[lane].try_recv()
            {
                if events + submission.summary.events > BATCH_EVENTS || bytes + submission.bytes > BATCH_BYTES {
                    self.held_back[lane] = Some(submission);
                } else {
                    events += submission.summary.events;
                    bytes += submission.bytes;
                    batch.push(submission);
                    idle = 0;
                }
            }
            lane = (lane + 1) % LANES;
        }
    }
}

fn events_in(batch: &[Submission]) -> u64 {
    batch.iter().map(|submission| submission.summary.events).sum()
}

impl Submission {
    /// Whether nobody waits for the answer, be it a client or the sender of an inform: a stream's sender has none.
    fn can_wait(&self) -> bool {
        let waits = [Protocol::Http, Protocol::SnmpTrap, Protocol::Internal];
        self.summary.by_protocol().all(|(protocol, _)| !waits.contains(&protocol))
    }
}

/// Gathers submissions into records until every sender is gone, then waits for the appends under way.
async fn run(mut waiting: Waiting, queue: Queue<Event>, rates: Rates, tracer: Tracer) {
    let appends = Arc::new(Semaphore::new(APPENDS_AT_ONCE));
    let mut begun = tokio::time::Instant::now();
    loop {
        // The slot first: while none is free, submissions gather in the lanes.
        let Ok(slot) = Arc::clone(&appends).acquire_owned().await else { return };
        let Some(first) = waiting.first().await else { break };
        let mut batch = vec![first];
        waiting.gather(&mut batch);
        let since = begun.elapsed();
        if since < PACE && batch.iter().all(Submission::can_wait) && events_in(&batch) < BATCH_EVENTS / 2 {
            tokio::time::sleep(PACE - since).await;
            waiting.gather(&mut batch);
        }
        begun = tokio::time::Instant::now();
        let (queue, rates, tracer) = (queue.clone(), rates.clone(), tracer.clone());
        tokio::spawn(async move {
            commit(&queue, &rates, &tracer, batch).await;
            drop(slot);
        });
    }
    let all = u32::try_from(APPENDS_AT_ONCE).unwrap_or(u32::MAX);
    // Every slot free again means that nothing is under way.
    drop(appends.acquire_many(all).await);
}

/// Appends one batch and tells everyone who waits.
async fn commit(queue: &Queue<Event>, rates: &Rates, tracer: &Tracer, mut batch: Vec<Submission>) {
    let forms: Vec<Form> = batch.iter_mut().flat_map(|submission| std::mem::take(&mut submission.forms)).collect();
    match queue.append_forms(&forms).await {
        Ok(()) => {
            batch.iter().for_each(|submission| submission.summary.count_committed());
            rates.count_received(events_in(&batch));
            let receipt = Receipt { queue_depth: queue.depth().items };
            for submission in batch {
                submission.spans.into_iter().for_each(|span| tracer.record(Span { end: tracer.now(), ..span }));
                answer(submission.answer, Ok(receipt));
            }
        }
        Err(error) => {
            let refusal = refusal_of(&error);
            let events = events_in(&batch);
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
fn answer(waiting: Option<Asker>, result: Result<Receipt, Refusal>) {
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
    use crate::model::{EventIds, Source, Timestamp};
    use crate::telemetry::metrics;

    /// Submits `events` events of a protocol, each time one submission.
    fn submit(lanes: &[Lane; LANES], protocol: Protocol, events: u64) {
        let ids = EventIds::new(1);
        let (now, peer) = (Timestamp::from_millis(1), std::net::IpAddr::from([192, 0, 2, 1]));
        let events: Vec<Event> =
            (0..events).map(|_| Event::new(ids.next(now), now, Source { protocol, peer })).collect();
        let lane = &lanes[lane_of(protocol)];
        let room = Arc::clone(&lane.room).try_acquire_many_owned(1).expect("room");
        let (forms, summary) = (write(&events), Summary::of(&events));
        let (under_way, _) = UnderWay::begin(&Arc::default(), summary.events);
        let spans = Vec::new();
        let submission =
            Submission { forms, summary, bytes: 100, answer: None, spans, _room: room, _under_way: under_way };
        let sent = lane.sender.try_send(submission);
        assert!(sent.is_ok(), "the lane is full");
    }

    /// Protocols and numbers of the submissions in the next record.
    async fn record(waiting: &mut Waiting) -> Vec<(Protocol, u64)> {
        let first = waiting.first().await.expect("something waits");
        let mut batch = vec![first];
        waiting.gather(&mut batch);
        batch.iter().flat_map(|submission| submission.summary.by_protocol()).collect()
    }

    #[tokio::test]
    async fn records_are_filled_from_the_lanes_in_turn() {
        let (lanes, mut waiting) = lanes();
        for _ in 0..3 {
            submit(&lanes, Protocol::SyslogTcp, BATCH_EVENTS);
        }
        for _ in 0..2 {
            submit(&lanes, Protocol::Http, 1);
            submit(&lanes, Protocol::SyslogUdp, 500);
        }
        let (http, udp, tcp) = (Protocol::Http, Protocol::SyslogUdp, Protocol::SyslogTcp);
        assert_eq!(record(&mut waiting).await, [(http, 1), (udp, 500), (http, 1), (udp, 500)]);
        for _ in 0..2 {
            submit(&lanes, Protocol::Http, 1);
        }
        assert_eq!(record(&mut waiting).await, [(tcp, BATCH_EVENTS)], "a submission that fills a record has its turn");
        assert_eq!(record(&mut waiting).await, [(http, 1), (http, 1)]);
        assert_eq!(record(&mut waiting).await, [(tcp, BATCH_EVENTS)]);
        drop(lanes);
        assert_eq!(record(&mut waiting).await, [(tcp, BATCH_EVENTS)], "what waits is taken after the last sender left");
        assert!(waiting.first().await.is_none());
    }

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
