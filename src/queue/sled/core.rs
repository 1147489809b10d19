//! What the callers' side and the writer of one queue share, and the work they do on it.
//!
//! Locks, always taken in this order and never across an `.await`: cursor, shelf, state. Async code takes only the state,
//! for moments; the other two are for the writer's thread and for blocking tasks.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cursor::CursorFile;
use super::disk;
use super::generation::{Generation, Trouble};
use super::layout::{Damaged, Retry, Shape, Stored};
use super::shelf::{Opened, Quarantined, Recounted, Shelf};
use super::state::{Claim, Counts, Fresh, Kind, State};
use crate::queue::backend::{Depth, Lease, QueueError, Record, Seq};
use crate::queue::fault::{FaultKind, Faults};
use crate::queue::options::QueueOptions;

/// Damaged records kept as files in one life of the process; further ones are only counted.
const MOST_DAMAGED_KEPT: u32 = 1_000;

/// One read from the disk.
const READ_RECORDS: usize = 1_024;
/// One read from the disk.
const READ_BYTES: usize = 4 << 20;

/// How long a record rests that could not be read because the disk failed.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Whether a generation is opened to be read or to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// See the module's documentation.
pub(super) struct Core {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    pub(super) dir: PathBuf,
    pub(super) options: QueueOptions,
    pub(super) faults: Faults,
    pub(super) state: Mutex<State>,
    pub(super) shelf: Mutex<Shelf>,
    /// Wakes consumers: something was committed, released, read or closed.
    pub(super) changed: Notify,
    cursor: Mutex<CursorFile>,
    lock: Mutex<Option<File>>,
    damaged_kept: AtomicU32,
    is_cursor_failing: AtomicBool,
}

impl Core {
    /// Opens the queue in `dir`; returns it and the next sequence.
    pub(super) fn open(dir: &Path, name: &str, kind: Kind, options: QueueOptions) -> Result<(Self, Seq), QueueError> {
        let name: Arc<str> = name.into();
        let failed = |why: String| QueueError::Storage { queue: name.to_string(), why };
        disk::create_dir(dir).map_err(|error| failed(format!("cannot create {}: {error}", dir.display())))?;
        let lock = disk::lock_dir(dir).map_err(|error| failed(error.to_string()))?;
        let (cursor, mark) = CursorFile::open(&dir.join("cursor")).map_err(|error| failed(error.to_string()))?;
        let (shelf, quarantined) = Shelf::load(dir, shape_of(kind)).map_err(|error| failed(error.to_string()))?;
        let next = shelf.next().map_err(|error| failed(error.to_string()))?.max(mark.position);
        let generations = shelf.totals().map(|(first, totals)| {
            let mut waits = totals.holds;
            let acked = mark.acked.iter().find(|(generation, _)| kind == Kind::Log && *generation == first);
            waits.less(acked.map_or(Depth::default(), |(_, acked)| *acked));
            (first, Counts { holds: totals.holds, waits })
        });
        let state = State::new(kind, options.handoff_bytes, generations.collect(), next, &mark);
        let faults = Faults::new(Arc::clone(&name), options.clock.clone());
        for gone in quarantined {
            report_quarantine(&faults, gone);
        }
        let core = Self {
            name,
            kind,
            dir: dir.to_owned(),
            options,
            faults,
            state: Mutex::new(state),
            shelf: Mutex::new(shelf),
            changed: Notify::new(),
            cursor: Mutex::new(cursor),
            lock: Mutex::new(Some(lock)),
            damaged_kept: AtomicU32::new(0),
            is_cursor_failing: AtomicBool::new(false),
        };
        Ok((core, next))
    }

    pub(super) fn shape(&self) -> Shape {
        shape_of(self.kind)
    }

    pub(super) fn storage_error(&self, why: impl ToString) -> QueueError {
        QueueError::Storage { queue: self.name.to_string(), why: why.to_string() }
    }

    pub(super) fn closed_error(&self) -> QueueError {
        QueueError::Closed { queue: self.name.to_string() }
    }

    /// An open generation; one that turns out to be damaged is set aside, and the answer is [`Trouble::Broken`].
    pub(super) fn generation(&self, first: Seq, access: Access) -> Result<Arc<Generation>, Trouble> {
        let mut shelf = self.shelf.lock();
        let opened = match access {
            Access::Read => shelf.open(first),
            Access::Write => shelf.open_to_write(first),
        };
        match opened {
            Ok(Opened { generation, recounted }) => {
                if let Some(Recounted { totals, missing }) = recounted {
                    self.state.lock().recount(first, totals.holds);
                    if missing > 0 {
                        let what = format!("{missing} records of generation {first} are not there any more");
                        self.faults.report(FaultKind::Damaged, what, None);
                    }
                }
                Ok(generation)
            }
            Err(trouble) => Err(self.set_generation_aside(&mut shelf, first, trouble)),
        }
    }

    /// Sets a generation aside if it is damaged; passes other trouble on.
    fn set_generation_aside(&self, shelf: &mut Shelf, first: Seq, trouble: Trouble) -> Trouble {
        let Trouble::Broken(why) = &trouble else { return trouble };
        match shelf.quarantine(first, why.clone()) {
            Ok(gone) => report_quarantine(&self.faults, gone),
            Err(error) => {
                let what = format!("cannot set aside the damaged generation {first}: {error}");
                self.faults.report(FaultKind::Storage, what, None);
            }
        }
        self.state.lock().remove_generation(first);
        trouble
    }

    /// Reads on from where the consumer is; ends what [`State::start_read`] began, whatever happens.
    pub(super) fn read_ahead(&self, range: Range<Seq>) -> Result<(), Trouble> {
        let result = self.read_some(range.clone(), READ_RECORDS);
        let (stored, read_to) = match &result {
            Ok((_, read_to)) => (Ok(()), *read_to),
            Err(trouble) => (Err(trouble.clone()), range.start),
        };
        let fresh = result.map_or_else(|_| Vec::new(), |(stored, _)| self.sort_out(stored));
        {
            let mut state = self.state.lock();
            state.finish_read(fresh, read_to);
            state.settle_last();
        }
        self.changed.notify_waiters();
        stored
    }

    /// Some records of `range`, and how far that got.
    fn read_some(&self, range: Range<Seq>, records: usize) -> Result<(Vec<Stored>, Seq), Trouble> {
        let mut from = range.start;
        while from < range.end {
            let (generation, to) = {
                let state = self.state.lock();
                match state.generation_of(from) {
                    Some(first) => (Some(first), state.range_of(first).end.min(range.end)),
                    None => (None, range.end.min(state.first_from(from))),
                }
            };
            let read = match generation {
                Some(first) => self.read_generation(first, from..to, records),
                None => Ok(Vec::new()),
            };
            match read {
                Ok(stored) => {
                    if let Some(last) = stored.last() {
                        let read_to = last.seq + 1;
                        return Ok((stored, read_to));
                    }
                    from = to.max(from + 1);
                }
                // It was set aside; what comes after it goes on.
                Err(Trouble::Broken(_)) => from = to.max(from + 1),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok((Vec::new(), range.end))
    }

    fn read_generation(&self, first: Seq, range: Range<Seq>, records: usize) -> Result<Vec<Stored>, Trouble> {
        let generation = match self.generation(first, Access::Read) {
            Ok(generation) => generation,
            // It was drained and deleted between the look at the state and now.
            Err(Trouble::Io(_)) if self.state.lock().generation_of(first) != Some(first) => return Ok(Vec::new()),
            Err(trouble) => return Err(trouble),
        };
        generation.read(range.start, range.end, records, READ_BYTES).map_err(|trouble| {
            drop(generation);
            self.set_generation_aside(&mut self.shelf.lock(), first, trouble)
        })
    }

    /// Records that can be handed out; delayed and damaged ones go where they belong.
    fn sort_out(&self, stored: Vec<Stored>) -> Vec<Fresh> {
        let mut fresh = Vec::with_capacity(stored.len());
        for Stored { seq, retry, body } in stored {
            let record = match body {
                Ok(record) => record,
                Err(damaged) => {
                    self.set_record_aside(seq, damaged);
                    continue;
                }
            };
            let attempt = retry.map_or(0, |retry| retry.attempt);
            match retry.and_then(|retry| self.rest_of(retry)) {
                Some(rest) => {
                    let due = Instant::now() + rest;
                    let mut state = self.state.lock();
                    // A claimed record is out already, whatever its due time.
                    if state.hands.get(seq).is_some() {
                        continue;
                    }
                    state.hands.restore_delayed(seq, attempt, record.items, record.payload.len(), due);
                }
                None => fresh.push(Fresh { seq, attempt, record }),
            }
        }
        fresh
    }

    /// How long a record from before the restart still has to wait.
    fn rest_of(&self, retry: Retry) -> Option<Duration> {
        let micros = (retry.due_micros - self.options.clock.now().as_micros()).min(retry.delay_micros);
        u64::try_from(micros).ok().filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    /// Reads what a claim needs from the disk and notes in the cursor file what is out; ends in the leases.
    pub(super) fn complete(&self, claim: Claim) -> Result<Vec<Lease>, QueueError> {
        let Claim { mut fresh, again } = claim;
        let mut leases = Vec::with_capacity(fresh.len() + again.len());
        let mut failure = None;
        for (seq, attempt) in again {
            match self.read_again(seq, attempt) {
                Ok(lease) => leases.extend(lease),
                Err(trouble) => {
                    self.state.lock().hands.release(seq, Some(Instant::now() + REST_AFTER_FAILURE));
                    failure = Some(trouble);
                }
            }
        }
        leases.append(&mut fresh);
        self.write_mark();
        match failure {
            Some(trouble) if leases.is_empty() => Err(self.storage_error(trouble)),
            _ => Ok(leases),
        }
    }

    /// A record that was handed out before; `None` if there is nothing left of it.
    fn read_again(&self, seq: Seq, attempt: u32) -> Result<Option<Lease>, Trouble> {
        let Some(first) = self.state.lock().generation_of(seq) else { return Ok(None) };
        let stored = match self.read_generation(first, seq..seq + 1, 1) {
            Err(Trouble::Broken(_)) => return Ok(None),
            other => other?.pop(),
        };
        let body = match stored {
            Some(stored) => stored.body,
            None => Err(Damaged { why: "it is not there any more".to_owned(), bytes: Vec::new() }),
        };
        match body {
            Ok(record) => {
                self.state.lock().hands.measure(seq, record.items, record.payload.len());
                Ok(Some(Lease { seq, attempt, items: record.items, payload: record.payload }))
            }
            Err(damaged) => {
                self.set_record_aside(seq, damaged);
                let mut state = self.state.lock();
                state.forget(seq);
                state.settle_last();
                Ok(None)
            }
        }
    }

    /// Reads claimed records; those that are gone are let go, since a claim may name what was acked long ago.
    pub(super) fn complete_claimed(&self, claimed: Vec<(Seq, u32)>) -> Result<Vec<Lease>, QueueError> {
        let mut leases = Vec::with_capacity(claimed.len());
        let mut failure = None;
        for (seq, attempt) in claimed {
            let generation = self.state.lock().generation_of(seq);
            let stored = match generation {
                Some(first) => self.read_generation(first, seq..seq + 1, 1).map(|mut stored| stored.pop()),
                None => Ok(None),
            };
            match stored {
                Ok(Some(Stored { body: Ok(Record { items, payload }), retry, .. })) => {
                    let attempt = attempt.max(retry.map_or(0, |retry| retry.attempt).saturating_add(1));
                    let mut state = self.state.lock();
                    state.hands.lease_again(seq, attempt);
                    state.hands.measure(seq, items, payload.len());
                    leases.push(Lease { seq, attempt, items, payload });
                }
                Ok(Some(Stored { body: Err(damaged), .. })) => {
                    self.set_record_aside(seq, damaged);
                    self.state.lock().let_go(seq);
                }
                Ok(None) | Err(Trouble::Broken(_)) => self.state.lock().let_go(seq),
                Err(trouble) => {
                    self.state.lock().hands.release(seq, Some(Instant::now() + REST_AFTER_FAILURE));
                    failure = Some(trouble);
                }
            }
        }
        self.write_mark();
        match failure {
            Some(trouble) if leases.is_empty() => Err(self.storage_error(trouble)),
            _ => Ok(leases),
        }
    }

    /// Waiting records for someone who looks.
    pub(super) fn peek(&self, from: Seq, max: usize) -> Result<Vec<Lease>, QueueError> {
        let mut found = Vec::new();
        let (mut from, end) = (from, self.state.lock().end());
        let mut room = 4 * READ_BYTES;
        while found.len() < max && from < end && room > 0 {
            let (stored, read_to) = self
                .read_some(from..end, (max - found.len()).min(READ_RECORDS))
                .map_err(|trouble| self.storage_error(trouble))?;
            from = read_to;
            for Stored { seq, retry, body } in stored {
                let Ok(record) = body else { continue };
                let Some(attempt) = self.state.lock().attempts_of_waiting(seq) else { continue };
                let attempt = attempt.max(retry.map_or(0, |retry| retry.attempt));
                room = room.saturating_sub(record.payload.len());
                found.push(Lease { seq, attempt, items: record.items, payload: record.payload });
            }
        }
        found.truncate(max);
        Ok(found)
    }

    /// Keeps the bytes of a damaged record and says so.
    pub(super) fn set_record_aside(&self, seq: Seq, damaged: Damaged) {
        let Damaged { why, bytes } = damaged;
        let mut kept_at = None;
        if self.damaged_kept.fetch_add(1, Ordering::Relaxed) < MOST_DAMAGED_KEPT {
            let dir = self.dir.join("quarantine");
            let path = dir.join(format!("record-{seq:020}.bin"));
            if disk::create_dir(&dir).and_then(|()| std::fs::write(&path, bytes)).is_ok() {
                kept_at = Some(path);
            }
        }
        self.faults.report(FaultKind::Damaged, format!("record {seq} is damaged and was set aside: {why}"), kept_at);
    }

    /// Writes the cursor file. A failure costs repeats after a crash, so it is reported, once, and not passed on.
    pub(super) fn write_mark(&self) {
        let mut cursor = self.cursor.lock();
        let mark = self.state.lock().mark();
        let result = cursor.write(mark);
        drop(cursor);
        let was_failing = self.is_cursor_failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !was_failing => {
                let what = format!("cannot write the cursor file, a crash would repeat records: {error}");
                self.faults.report(FaultKind::Storage, what, None);
            }
            Err(_) => self.faults.count(FaultKind::Storage),
            Ok(()) => {}
        }
    }

    /// The last act of a queue: everything synced, all files closed, the lock given back.
    pub(super) fn finish(&self) -> Result<(), QueueError> {
        self.write_mark();
        let synced = self.cursor.lock().sync();
        let closed = self.shelf.lock().close();
        self.lock.lock().take();
        synced.map_err(|error| self.storage_error(error))?;
        closed.map_err(|trouble| self.storage_error(trouble))
    }
}

const fn shape_of(kind: Kind) -> Shape {
    match kind {
        Kind::Log => Shape::LOG,
        Kind::Work => Shape::WORK,
    }
}

fn report_quarantine(faults: &Faults, gone: Quarantined) {
    let what = format!("a generation cannot be read and was set aside: {}", gone.why);
    faults.report(FaultKind::Quarantined, what, Some(gone.kept_at));
}
