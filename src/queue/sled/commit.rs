//! The writer of a queue: one thread that commits for everyone. Many producers share one `fdatasync`.
//!
//! All appends that wait when the last commit ended become one atomic batch of the newest generation; producers are told
//! after the sync. Acks and releases of work queues are written by the same thread, without a sync of their own: losing
//! them repeats records, no more.
//!
//! When a commit fails, every producer in it is told so, its sequences are burnt and the generation is left: the next
//! append begins a new one, the old one is opened anew to be read. Nothing acknowledged is lost; a record whose producer
//! was told of the failure may still appear, after everything acknowledged before it and before everything after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::core::{Access, Core};
use super::disk;
use super::generation::{Durability, Generation, Trouble};
use super::layout::{Retry, Stored, Totals, settle_weight};
use super::state::Kind;
use crate::queue::backend::{QueueError, Record, Seq};
use crate::queue::fault::FaultKind;
use crate::telemetry::metrics::QUEUE_COMMITS;

/// After a failure appends are refused without trying for this long, so that a full or broken disk is not hammered.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Bytes ever written to a generation below which it is not worth replacing, in itself or by a smaller copy.
const WORTH_REPLACING: u64 = 8 << 20;

/// Tells the caller how it went.
pub(super) type Answer = oneshot::Sender<Result<(), QueueError>>;

/// What becomes of leased records.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// They are forgotten.
    Ack,
    /// They are due again after this delay, which ends at this instant.
    Release(Duration, Option<tokio::time::Instant>),
}

/// What the writer is asked to do.
pub(super) enum Command {
    /// Store records; the permit keeps waiting bytes bounded.
    Append(Vec<Record>, Answer, OwnedSemaphorePermit),
    /// Settle leased records of a work queue.
    Settle(Vec<Seq>, Verdict, Answer),
    /// Delete what is drained.
    Sweep,
    /// Finish, close, end.
    Close(Answer),
}

#[derive(Default)]
struct Group {
    appends: Vec<(Vec<Record>, Answer, OwnedSemaphorePermit)>,
    settles: Vec<(Vec<Seq>, Verdict, Answer)>,
    close: Option<Answer>,
}

/// The newest generation, open.
struct Tail {
    first: Seq,
    generation: Arc<Generation>,
    totals: Totals,
}

/// See the module's documentation.
pub(super) struct Writer {
    core: Arc<Core>,
    next: Seq,
    tail: Option<Tail>,
    refusing: Option<Refusing>,
}

/// Why appends are refused; reported when it begins and when it ends.
struct Refusing {
    error: QueueError,
    since: Instant,
    /// When the disk was last asked.
    tried: Instant,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, next: Seq) -> Self {
        Self { core, next, tail: None, refusing: None }
    }

    /// Works until it is closed, or until the last sender is gone, which leaves everything as a crash would.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let group = gather(first, &mut commands, self.core.shape().most_appended());
            self.commit_appends(group.appends);
            self.commit_settles(group.settles);
            self.sweep();
            if let Some(answer) = group.close {
                self.tail = None;
                drop(answer.send(self.core.finish()));
                return;
            }
        }
    }

    fn commit_appends(&mut self, appends: Vec<(Vec<Record>, Answer, OwnedSemaphorePermit)>) {
        if appends.is_empty() {
            return;
        }
        let mut records = Vec::new();
        let mut answers = Vec::new();
        for (mut more, answer, room) in appends {
            records.append(&mut more);
            answers.push((answer, room));
        }
        let result = self.store(records);
        self.note_outcome(&result);
        for (answer, _room) in answers {
            // A producer that stopped waiting needs no answer; its records stay.
            drop(answer.send(result.clone()));
        }
        if result.is_ok() {
            self.core.changed.notify_waiters();
        }
    }

    /// Reports trouble when it begins and when it ends, not each time.
    fn note_outcome(&mut self, result: &Result<(), QueueError>) {
        match (result, &mut self.refusing) {
            (Ok(()), None) => {}
            (Ok(()), Some(Refusing { error, since, .. })) => {
                tracing::info!(
                    queue.name = &*self.core.name,
                    duration_ms = since.elapsed().as_millis(),
                    "Queue `{}` takes records again after: {error}",
                    self.core.name
                );
                self.refusing = None;
            }
            (Err(error), None) => {
                self.core.faults.report(FaultKind::Storage, format!("appends are refused: {error}"), None);
                let now = Instant::now();
                self.refusing = Some(Refusing { error: error.clone(), since: now, tried: now });
            }
            (Err(error), Some(refusing)) => {
                self.core.faults.count(FaultKind::Storage);
                refusing.error = error.clone();
            }
        }
    }

    fn store(&mut self, records: Vec<Record>) -> Result<(), QueueError> {
        if let Some(Refusing { error: error @ QueueError::Storage { .. }, tried, .. }) = &mut self.refusing {
            if tried.elapsed() < REST_AFTER_FAILURE {
                return Err(error.clone());
            }
            *tried = Instant::now();
        }
        self.check_room(&records)?;
        let bytes = records.iter().map(|record| record.payload.len()).sum();
        let mut tail = self.take_tail(bytes).map_err(|trouble| self.core.storage_error(trouble))?;
        let mut change = tail.generation.change();
        let mut stored = Vec::with_capacity(records.len());
        let mut totals = Totals { next: self.next, ..tail.totals };
        for record in records {
            change.put(totals.next, &record);
            let seq = totals.next;
            totals.append(&record);
            stored.push((seq, record));
        }
        self.next = totals.next;
        let committed = tail.generation.commit(change, &totals, Durability::PowerCut);
        let mut shelf = self.core.shelf.lock();
        let mut state = self.core.state.lock();
        let committed = match committed {
            // Set aside as damaged in the meantime: what was written went with it.
            Ok(()) if shelf.totals_of(tail.first).is_none() => Err("its generation was set aside".to_owned()),
            Ok(()) => Ok(()),
            Err(trouble) => Err(trouble.to_string()),
        };
        if let Err(why) = committed {
            shelf.doubt(tail.first);
            state.skip_to(self.next);
            return Err(self.core.storage_error(why));
        }
        shelf.written(tail.first, totals);
        state.committed(stored, &totals);
        tail.totals = totals;
        self.tail = Some(tail);
        metrics::counter!(QUEUE_COMMITS, "queue" => self.core.name.to_string()).increment(1);
        Ok(())
    }

    fn check_room(&self, records: &[Record]) -> Result<(), QueueError> {
        let free = disk::free_bytes(&self.core.dir).map_err(|error| self.core.storage_error(error))?;
        let reserve = self.core.options.reserve_free_bytes;
        let bytes: u64 = records.iter().map(|record| record.payload.len() as u64).sum();
        if free >= reserve.saturating_add(bytes) {
            return Ok(());
        }
        Err(QueueError::Full {
            queue: self.core.name.to_string(),
            why: format!("the disk has {free} bytes free and {reserve} are kept in reserve; free some or add some"),
        })
    }

    /// The newest generation if it can take that much more, otherwise a new one. Left out of `self` until the commit
    /// succeeded. What is too large to be appended between two syncs goes into a generation in which nothing
    /// acknowledged can suffer from it.
    fn take_tail(&mut self, bytes: usize) -> Result<Tail, Trouble> {
        let last = self.core.shelf.lock().last();
        let is_large = bytes > 2 * self.core.shape().most_appended();
        let fits = |totals: &Totals| !self.is_full(totals) && (!is_large || totals.written == 0);
        let reusable = last.filter(|(_, totals)| fits(totals));
        match (self.tail.take(), reusable) {
            (Some(tail), Some((first, _))) if tail.first == first => return Ok(tail),
            _ => {}
        }
        let reusable = reusable.filter(|_| self.refusing.is_none());
        let (first, totals) = match reusable {
            Some(last) => last,
            None => (self.roll()?, Totals::empty(self.next)),
        };
        let generation = self.core.generation(first, Access::Write)?;
        Ok(Tail { first, generation, totals })
    }

    fn is_full(&self, totals: &Totals) -> bool {
        let options = &self.core.options;
        match self.core.kind {
            Kind::Log => {
                totals.written_items >= options.generation_items || totals.written >= options.log_generation_bytes
            }
            Kind::Work => {
                totals.written >= options.work_generation_bytes || totals.written_items >= options.generation_items
            }
        }
    }

    /// Begins a new generation at the next sequence; returns it.
    fn roll(&mut self) -> Result<Seq, Trouble> {
        self.tail = None;
        let mut shelf = self.core.shelf.lock();
        if let Some((last, totals)) = shelf.last() {
            // A failed write into a fresh generation: nothing in it was acknowledged.
            if totals.next == last {
                shelf.discard(last)?;
                self.core.state.lock().remove_generation(last);
            } else if let Err(trouble) = shelf.note(last) {
                tracing::debug!(queue.name = &*self.core.name, "No totals written beside generation {last}: {trouble}");
            }
        }
        shelf.create(self.next)?;
        self.core.state.lock().add_generation(self.next);
        Ok(self.next)
    }

    fn commit_settles(&mut self, settles: Vec<(Vec<Seq>, Verdict, Answer)>) {
        if settles.is_empty() {
            return;
        }
        let mut by_generation: BTreeMap<Seq, Vec<(Seq, Verdict)>> = BTreeMap::new();
        {
            let state = self.core.state.lock();
            for (seqs, verdict, _) in &settles {
                for &seq in seqs.iter().filter(|seq| state.hands.is_leased(**seq)) {
                    if let Some(first) = state.generation_of(seq) {
                        by_generation.entry(first).or_default().push((seq, *verdict));
                    }
                }
            }
        }
        let mut failed = None;
        for (first, settled) in self.portions(by_generation) {
            if let Err(trouble) = self.settle(first, &settled) {
                self.core.faults.report(FaultKind::Storage, format!("cannot note acks and releases: {trouble}"), None);
                failed = Some(self.core.storage_error(trouble));
            }
        }
        for (_, verdict, answer) in settles {
            let result = match (&failed, verdict) {
                (Some(error), Verdict::Ack) => Err(error.clone()),
                // The record is released all the same; only its due time would not survive a restart.
                _ => Ok(()),
            };
            drop(answer.send(result));
        }
        self.core.changed.notify_waiters();
    }

    /// Cuts what is to be settled into pieces that may be written between two syncs.
    fn portions(&self, by_generation: BTreeMap<Seq, Vec<(Seq, Verdict)>>) -> Vec<(Seq, Vec<(Seq, Verdict)>)> {
        let most = self.core.shape().most_settled();
        let state = self.core.state.lock();
        let mut portions: Vec<(Seq, Vec<(Seq, Verdict)>)> = Vec::new();
        for (first, settled) in by_generation {
            let mut weight = most;
            for (seq, verdict) in settled {
                let more = state.hands.get(seq).map_or(0, |hand| settle_weight(hand.bytes as usize));
                if weight + more > most {
                    portions.push((first, Vec::new()));
                    weight = 0;
                }
                weight += more;
                portions.last_mut().into_iter().for_each(|(_, portion)| portion.push((seq, verdict)));
            }
        }
        portions
    }

    /// Writes acks and releases of one generation. What failed stays leased if it was acked, so that the ack can be
    /// repeated.
    fn settle(&mut self, first: Seq, settled: &[(Seq, Verdict)]) -> Result<(), Trouble> {
        let written = self.write_settled(first, settled);
        if written.is_err() {
            if self.tail.as_ref().is_some_and(|tail| tail.first == first) {
                self.tail = None;
            }
            self.core.shelf.lock().doubt(first);
        }
        let mut state = self.core.state.lock();
        for (seq, verdict) in settled {
            match verdict {
                Verdict::Ack if written.is_ok() => drop(state.forget(*seq)),
                Verdict::Ack => {}
                Verdict::Release(_, due) => state.hands.release(*seq, *due),
            }
        }
        state.settle_last();
        written
    }

    fn write_settled(&mut self, first: Seq, settled: &[(Seq, Verdict)]) -> Result<(), Trouble> {
        let generation = self.core.generation(first, Access::Write)?;
        let mut change = generation.change();
        let Some(mut totals) = self.core.shelf.lock().totals_of(first) else { return Ok(()) };
        for (seq, verdict) in settled {
            let Some(hand) = self.core.state.lock().hands.get(*seq).copied() else { continue };
            match verdict {
                Verdict::Ack => {
                    generation.remove(*seq, hand.bytes as usize, &mut change)?;
                    totals.holds.subtract(hand.items, hand.bytes as usize);
                }
                Verdict::Release(delay, _) => {
                    let delay_micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
                    let due_micros = self.core.options.clock.now().as_micros().saturating_add(delay_micros);
                    let retry = Retry { attempt: hand.attempt, due_micros, delay_micros };
                    change.put_retry(*seq, hand.bytes as usize, retry);
                }
            }
        }
        generation.commit(change, &totals, Durability::Kill)?;
        self.core.shelf.lock().written(first, totals);
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.first == first) {
            tail.totals = totals;
        }
        self.compact_if_sparse(first, &totals);
        Ok(())
    }

    /// Rewrites an old generation of which little is left.
    fn compact_if_sparse(&mut self, first: Seq, totals: &Totals) {
        let mut shelf = self.core.shelf.lock();
        let is_last = shelf.last().is_some_and(|(last, _)| last == first);
        let is_sparse = totals.written >= WORTH_REPLACING && totals.holds.bytes < totals.written / 8;
        if is_last || !is_sparse || totals.holds.records == 0 {
            return;
        }
        let compacted = shelf.compact(first);
        drop(shelf);
        match compacted {
            Ok(damaged) => {
                for Stored { seq, body, .. } in damaged {
                    body.err().into_iter().for_each(|damaged| self.core.set_record_aside(seq, damaged));
                }
            }
            // It stays as it was, and is tried again with the next ack in it.
            Err(trouble) => {
                let what = format!("cannot compact generation {first}: {trouble}");
                self.core.faults.report(FaultKind::Storage, what, None);
            }
        }
    }

    /// Deletes generations in which nothing is left, and replaces the newest one once that gives much space back.
    fn sweep(&mut self) {
        let drained = self.core.state.lock().drained();
        for first in drained {
            let last = self.core.shelf.lock().last();
            if let Some((_, totals)) = last.filter(|(last, _)| *last == first)
                && (totals.written < self.core.worth_rolling() || self.roll().is_err())
            {
                continue;
            }
            // First out of sight, then away: whoever looks meanwhile finds nothing there, which is true.
            self.core.state.lock().remove_generation(first);
            let discarded = self.core.shelf.lock().discard(first);
            if let Err(error) = discarded {
                let what = format!("cannot delete the drained generation {first}: {error}");
                self.core.faults.report(FaultKind::Storage, what, None);
            }
        }
    }
}

impl Core {
    /// Bytes ever written to the newest generation from which on it is replaced when it is drained: half of a full one,
    /// so that a busy queue that is always nearly empty does not replace it all the time.
    pub(super) fn worth_rolling(&self) -> u64 {
        match self.kind {
            Kind::Log => self.options.log_generation_bytes / 2,
            Kind::Work => self.options.work_generation_bytes / 2,
        }
    }
}

/// Everything that waits, until it reaches `most_bytes` of payload.
fn gather(first: Command, commands: &mut mpsc::Receiver<Command>, most_bytes: usize) -> Group {
    let mut group = Group::default();
    let mut bytes = 0;
    let mut command = Some(first);
    while let Some(next) = command {
        match next {
            Command::Append(records, answer, room) => {
                bytes += records.iter().map(|record| record.payload.len()).sum::<usize>();
                group.appends.push((records, answer, room));
            }
            Command::Settle(seqs, verdict, answer) => group.settles.push((seqs, verdict, answer)),
            Command::Sweep => {}
            Command::Close(answer) => group.close = Some(answer),
        }
        let is_done = bytes >= most_bytes || group.close.is_some();
        command = if is_done { None } else { commands.try_recv().ok() };
    }
    group
}
