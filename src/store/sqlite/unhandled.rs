//! Counters of unhandled events on disk: a journal of what each group of batches changed, and checkpoints.
//!
//! Counting happens in memory (see `counters`); a group of calls costs one transaction with two rows: the new state of
//! each counter it touched, and the answers it gave. So a crash at any point either leaves no trace of a batch or all
//! of it, and a batch that comes again gets the answer it got. Every [`JOURNAL_ROWS`] transactions or [`JOURNAL_BYTES`]
//! the counters that changed are written to their table and the journal is emptied.
//!
//! Journal and answers have a format byte, then an lz4 block of postcard. A row that cannot be read is skipped with a
//! warning: a counter may then be too low.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::connect::{Fault, checkpoint, name_of, open_or_replace, set_aside};
use super::counters::{Counters, Tally, Touched};
use super::schema;
use super::worker::{Answer, Worker, in_transaction};
use crate::clock::Clock;
use crate::model::{EventId, Text, Timestamp, host_key};
use crate::store::{Overrun, Sighting, StoreError, StoreResult, Unhandled, UnhandledEvents, UnhandledPolicy};
use crate::telemetry::metrics::{STORE_DAMAGED, UNHANDLED_COUNTERS};

/// Transactions between checkpoints: at one a second, about an hour; replayed in some milliseconds.
const JOURNAL_ROWS: u64 = 4_096;
/// Journal bytes between checkpoints: replayed in a fraction of a second.
const JOURNAL_BYTES: usize = 8 << 20;
/// Batches whose answers are remembered at least; a consumer repeats only what it had not acked, some dozens.
const ANSWERS_KEPT: usize = 10_000;
/// Counters touched by one transaction, about: calls that wait share one up to here.
const GROUP_SIGHTINGS: usize = 16_384;
/// Format byte of journal and answers.
const FORMAT: u8 = 2;
/// Largest row accepted when reading, so that a damaged length cannot ask for all memory.
const MAX_ROW: usize = 256 << 20;

enum Job {
    Count(Arc<UnhandledEvents>, UnhandledPolicy, Answer<Vec<Overrun>>),
    Top(usize, Answer<Vec<Overrun>>),
    Forget(String, Answer<u64>),
}

/// The counters of one node in `state.db`.
pub struct UnhandledDb {
    worker: Worker<Job>,
}

impl UnhandledDb {
    /// Opens or makes the database; a damaged one is set aside and counting starts anew.
    pub fn open(path: &Path, clock: Clock) -> StoreResult<Self> {
        let store = name_of(path);
        let counting = Counting::open(path, clock).map_err(|fault| fault.of(&store))?;
        Ok(Self { worker: Worker::start(&store, move |jobs| run(jobs, counting))? })
    }
}

#[async_trait]
impl Unhandled for UnhandledDb {
    async fn count(&self, events: Arc<UnhandledEvents>, policy: UnhandledPolicy) -> StoreResult<Vec<Overrun>> {
        if events.batches.is_empty() {
            return Ok(Vec::new());
        }
        self.worker.ask(|answer| Job::Count(events, policy, answer)).await
    }

    async fn top(&self, limit: usize) -> StoreResult<Vec<Overrun>> {
        self.worker.ask(|answer| Job::Top(limit, answer)).await
    }

    async fn forget_host(&self, key: &str) -> StoreResult<u64> {
        let key = key.to_owned();
        self.worker.ask(|answer| Job::Forget(key, answer)).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.worker.close().await
    }
}

/// A waiting call.
struct Call {
    events: Arc<UnhandledEvents>,
    policy: UnhandledPolicy,
    answer: Answer<Vec<Overrun>>,
}

fn run(mut jobs: mpsc::Receiver<Job>, mut counting: Counting) {
    while let Some(job) = jobs.blocking_recv() {
        let mut calls = Vec::new();
        let mut size = take(job, &mut counting, &mut calls);
        while size < GROUP_SIGHTINGS {
            let Ok(job) = jobs.try_recv() else { break };
            size += take(job, &mut counting, &mut calls);
        }
        if calls.is_empty() {
            continue;
        }
        let counted = catch_unwind(AssertUnwindSafe(|| counting.count(&calls))).unwrap_or_else(|_| {
            counting.stale = true;
            error!(store = counting.store, "counting unhandled events panicked; the call was rolled back");
            Err(Fault::Told(counting.unavailable("its writer panicked")))
        });
        match counted {
            Ok(answers) => {
                for (call, overruns) in calls.into_iter().zip(answers) {
                    // Whoever asked may have gone; asked again, it gets the same answer.
                    let _ = call.answer.send(Ok(overruns));
                }
            }
            Err(fault) => {
                let error = fault.of(&counting.store);
                for call in calls {
                    let _ = call.answer.send(Err(error.clone()));
                }
            }
        }
    }
    if let Err(fault) = counting.finish() {
        warn!(store = counting.store, reason = ?fault, "the last checkpoint failed; the next start reads the journal");
    }
}

fn take(job: Job, counting: &mut Counting, calls: &mut Vec<Call>) -> usize {
    match job {
        Job::Top(limit, answer) => {
            let _ = answer.send(Ok(counting.counters.top(limit)));
            0
        }
        Job::Forget(key, answer) => {
            let forgotten = counting.forget_host(&key).map_err(|fault| fault.of(&counting.store));
            let _ = answer.send(forgotten);
            0
        }
        Job::Count(events, policy, answer) => {
            let size = events.batches.iter().map(|batch| batch.sightings.len()).sum();
            calls.push(Call { events, policy, answer });
            size
        }
    }
}

/// The state of a counter as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Delta {
    number: u64,
    count: u64,
    window_start: Timestamp,
    fired: bool,
    at: Timestamp,
    /// For a new counter: what it counts. Later changes of the sample wait for a checkpoint.
    new: Option<Definition>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Definition {
    hostname: String,
    signature: String,
    last: EventId,
    sample: String,
}

/// Answers by batch, as one transaction gave them.
type Answers = Vec<(EventId, Vec<Overrun>)>;

/// Where a remembered answer is.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    seq: i64,
    /// Most answers are empty; those are not read back from disk.
    empty: bool,
}

/// The state of the writer thread.
struct Counting {
    store: String,
    path: PathBuf,
    clock: Clock,
    connection: Connection,
    counters: Counters,
    answers: HashMap<EventId, Remembered>,
    order: VecDeque<EventId>,
    next_seq: i64,
    journal_rows: u64,
    journal_bytes: usize,
    /// Set by a panic: what is in memory may be half a change and is read anew.
    stale: bool,
}

impl Counting {
    fn open(path: &Path, clock: Clock) -> Result<Self, Fault> {
        let open = || open_or_replace(path, schema::STATE, &clock);
        let load = |connection| Self::load(path, clock.clone(), connection);
        match open().and_then(load) {
            Err(fault) if fault.is_damage() => {
                set_aside(path, &clock, &fault)?;
                open().and_then(load)
            }
            other => other,
        }
    }

    fn load(path: &Path, clock: Clock, connection: Connection) -> Result<Self, Fault> {
        let mut counting = Self {
            store: name_of(path),
            path: path.to_owned(),
            clock,
            connection,
            counters: Counters::default(),
            answers: HashMap::new(),
            order: VecDeque::new(),
            next_seq: 1,
            journal_rows: 0,
            journal_bytes: 0,
            stale: false,
        };
        counting.load_counters()?;
        counting.load_journal()?;
        counting.load_answers()?;
        metrics::gauge!(UNHANDLED_COUNTERS).set(counting.counters.len() as f64);
        Ok(counting)
    }

    fn load_counters(&mut self) -> Result<(), Fault> {
        let mut statement = self.connection.prepare(
            "SELECT id, hostname, signature, count, window_start, fired, last, at, sample FROM counters ORDER BY id",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let tally = Tally {
                count: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                window_start: Timestamp::from_micros(row.get(4)?),
                fired: row.get(5)?,
                last: EventId::from_bytes(row.get(6)?),
                at: Timestamp::from_micros(row.get(7)?),
            };
            let names = (row.get_ref(1)?.as_str().unwrap_or_default(), row.get_ref(2)?.as_str().unwrap_or_default());
            self.counters.put(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), names, tally, row.get(8)?);
        }
        self.counters.mark_clean();
        Ok(())
    }

    fn load_journal(&mut self) -> Result<(), Fault> {
        let mut statement = self.connection.prepare("SELECT seq, body FROM journal ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_blob().unwrap_or_default();
            self.next_seq = self.next_seq.max(row.get::<_, i64>(0)?.saturating_add(1));
            self.journal_rows += 1;
            self.journal_bytes += body.len();
            let Some(deltas) = decode::<Vec<Delta>>(&self.store, body) else { continue };
            for Delta { number, count, window_start, fired, at, new } in deltas {
                match new {
                    Some(new) => {
                        let tally = Tally { count, window_start, fired, last: new.last, at };
                        self.counters.put(number, (&new.hostname, &new.signature), tally, new.sample);
                    }
                    None => {
                        // `last` is not in the journal; `set` keeps the one that is known.
                        let tally = Tally { count, window_start, fired, last: EventId::from_bytes([0; 16]), at };
                        self.counters.set(number, tally);
                    }
                }
            }
        }
        self.counters.order_by_time();
        Ok(())
    }

    fn load_answers(&mut self) -> Result<(), Fault> {
        let mut statement = self.connection.prepare("SELECT seq, body FROM answers ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            self.next_seq = self.next_seq.max(seq.saturating_add(1));
            let body = row.get_ref(1)?.as_blob().unwrap_or_default();
            for (key, overruns) in decode::<Answers>(&self.store, body).unwrap_or_default() {
                if self.answers.insert(key, Remembered { seq, empty: overruns.is_empty() }).is_none() {
                    self.order.push_back(key);
                }
            }
        }
        Ok(())
    }

    /// Counts all calls in one transaction and answers each; on failure nothing was counted.
    fn count(&mut self, calls: &[Call]) -> Result<Vec<Vec<Overrun>>, Fault> {
        if self.stale {
            let connection = open_or_replace(&self.path, schema::STATE, &self.clock)?;
            *self = Self::load(&self.path, self.clock.clone(), connection)?;
        }
        let answers = match self.try_count(calls) {
            Err(fault) if fault.is_damage() => {
                self.replace_file(&fault)?;
                self.try_count(calls)?
            }
            other => other?,
        };
        let most = calls.iter().map(|call| call.policy.max_counters).max().unwrap_or(usize::MAX);
        self.counters.shrink(most);
        metrics::gauge!(UNHANDLED_COUNTERS).set(self.counters.len() as f64);
        self.checkpoint_if_due();
        Ok(answers)
    }

    fn try_count(&mut self, calls: &[Call]) -> Result<Vec<Vec<Overrun>>, Fault> {
        let mut touched = Touched::default();
        let mut fresh: HashMap<EventId, Vec<Overrun>> = HashMap::new();
        let result = self.apply(calls, &mut touched, &mut fresh).and_then(|answers| {
            self.commit(&touched, fresh)?;
            Ok(answers)
        });
        if result.is_err() {
            self.counters.undo(&touched);
        }
        result
    }

    fn apply(
        &mut self,
        calls: &[Call],
        touched: &mut Touched,
        fresh: &mut HashMap<EventId, Vec<Overrun>>,
    ) -> Result<Vec<Vec<Overrun>>, Fault> {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let mut answer: HashMap<EventId, Vec<Overrun>> = HashMap::new();
            let UnhandledEvents { kinds, batches } = &*call.events;
            let mut numbers = vec![None; kinds.len()];
            let mut order = Vec::with_capacity(batches.len());
            for batch in batches {
                if answer.contains_key(&batch.key) {
                    continue;
                }
                let overruns = match (fresh.get(&batch.key), self.answers.get(&batch.key)) {
                    (Some(overruns), _) => overruns.clone(),
                    (None, Some(remembered)) => self.recall(batch.key, *remembered)?,
                    (None, None) => {
                        let see = |sighting: &Sighting| {
                            let kind = (kinds.get(sighting.kind)?, numbers.get_mut(sighting.kind)?);
                            self.counters.see(kind, sighting, call.policy, touched)
                        };
                        let overruns: Vec<Overrun> = batch.sightings.iter().filter_map(see).collect();
                        fresh.insert(batch.key, overruns.clone());
                        overruns
                    }
                };
                order.push(batch.key);
                answer.insert(batch.key, overruns);
            }
            answers.push(order.iter().flat_map(|key| answer.remove(key).unwrap_or_default()).collect());
        }
        Ok(answers)
    }

    /// The answer a batch got when it was counted.
    fn recall(&self, key: EventId, remembered: Remembered) -> Result<Vec<Overrun>, Fault> {
        if remembered.empty {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare_cached("SELECT body FROM answers WHERE seq = ?1")?;
        let body: Option<Vec<u8>> = statement.query_row([remembered.seq], |row| row.get(0)).optional()?;
        let answers = body.and_then(|body| decode::<Answers>(&self.store, &body)).unwrap_or_default();
        Ok(answers.into_iter().find(|(other, _)| *other == key).map(|(_, overruns)| overruns).unwrap_or_default())
    }

    fn commit(&mut self, touched: &Touched, fresh: HashMap<EventId, Vec<Overrun>>) -> Result<(), Fault> {
        if fresh.is_empty() {
            return Ok(());
        }
        let seq = self.next_seq;
        let deltas: Vec<Delta> = touched.iter().filter_map(|(number, before)| self.delta(*number, *before)).collect();
        let answers: Answers = fresh.into_iter().collect();
        let (journal, given) = (self.encode(&deltas)?, self.encode(&answers)?);
        in_transaction(&mut self.connection, |transaction| {
            transaction.prepare_cached("INSERT INTO journal VALUES (?1, ?2)")?.execute(params![seq, journal])?;
            transaction.prepare_cached("INSERT INTO answers VALUES (?1, ?2)")?.execute(params![seq, given])?;
            Ok(())
        })?;
        self.next_seq = seq.saturating_add(1);
        self.journal_rows += 1;
        self.journal_bytes += journal.len();
        for (key, overruns) in answers {
            self.answers.insert(key, Remembered { seq, empty: overruns.is_empty() });
            self.order.push_back(key);
        }
        Ok(())
    }

    fn delta(&self, number: u64, before: Option<Tally>) -> Option<Delta> {
        let counter = self.counters.get(number)?;
        let Tally { count, window_start, fired, last, at } = counter.tally;
        let (hostname, signature) = counter.names();
        let new = before.is_none().then(|| Definition {
            hostname: hostname.to_owned(),
            signature: signature.to_owned(),
            last,
            sample: counter.sample.clone(),
        });
        Some(Delta { number, count, window_start, fired, at, new })
    }

    /// Forgets a host: its counters, and what of it stands in the journal and in answers that were given.
    fn forget_host(&mut self, key: &str) -> Result<u64, Fault> {
        let is_it = |hostname: &str| host_key(hostname) == key;
        let forgotten = self.counters.forget_host(is_it);
        self.connection.pragma_update(None, "secure_delete", true)?;
        // Empties the journal, in which the counters of the host stand too.
        self.checkpoint()?;
        let mut given: Vec<(i64, Vec<u8>)> = Vec::new();
        {
            let mut statement = self.connection.prepare("SELECT seq, body FROM answers")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let body = row.get_ref(1)?.as_blob().unwrap_or_default();
                let mut answers = decode::<Answers>(&self.store, body).unwrap_or_default();
                let mut touched = false;
                for overrun in answers.iter_mut().flat_map(|(_, overruns)| overruns) {
                    if is_it(&overrun.kind.hostname) {
                        // That it was told stays known, so that it is not told twice; what it said does not.
                        (overrun.sample, overrun.kind.signature) = (Text::default(), Text::default());
                        touched = true;
                    }
                }
                if touched {
                    given.push((row.get(0)?, self.encode(&answers)?));
                }
            }
        }
        in_transaction(&mut self.connection, |transaction| {
            for (seq, body) in &given {
                transaction.execute("UPDATE answers SET body = ?2 WHERE seq = ?1", params![seq, body])?;
            }
            Ok(())
        })?;
        checkpoint(&self.connection)?;
        metrics::gauge!(UNHANDLED_COUNTERS).set(self.counters.len() as f64);
        Ok(forgotten)
    }

    fn checkpoint_if_due(&mut self) {
        if self.journal_rows < JOURNAL_ROWS && self.journal_bytes < JOURNAL_BYTES {
            return;
        }
        if let Err(fault) = self.checkpoint() {
            warn!(store = self.store, reason = ?fault, "a checkpoint of the counters failed; the journal grows until the next");
            self.journal_rows = 0;
            self.journal_bytes = 0;
        }
    }

    /// Writes the counters that changed to their table and empties the journal, in one transaction.
    fn checkpoint(&mut self) -> Result<(), Fault> {
        while self.order.len() > ANSWERS_KEPT {
            if let Some(key) = self.order.pop_front() {
                self.answers.remove(&key);
            }
        }
        let oldest =
            self.order.front().and_then(|key| self.answers.get(key)).map_or(self.next_seq, |oldest| oldest.seq);
        let counters = &self.counters;
        in_transaction(&mut self.connection, |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM counters WHERE id = ?1")?;
            for number in counters.forgotten() {
                delete.execute([column(*number)])?;
            }
            let mut put = transaction
                .prepare_cached("INSERT OR REPLACE INTO counters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
            for (number, counter) in counters.dirty() {
                let (hostname, signature) = counter.names();
                let tally = counter.tally;
                put.execute(params![
                    column(number),
                    hostname,
                    signature,
                    column(tally.count),
                    tally.window_start.as_micros(),
                    tally.fired,
                    tally.last.as_bytes(),
                    tally.at.as_micros(),
                    counter.sample,
                ])?;
            }
            transaction.execute("DELETE FROM journal", [])?;
            transaction.execute("DELETE FROM answers WHERE seq < ?1", [oldest])?;
            Ok(())
        })?;
        self.counters.mark_clean();
        self.journal_rows = 0;
        self.journal_bytes = 0;
        Ok(())
    }

    /// The file broke while it was in use: the counters are all in memory, so only answers already given are lost.
    fn replace_file(&mut self, fault: &Fault) -> Result<(), Fault> {
        set_aside(&self.path, &self.clock, fault)?;
        self.connection = open_or_replace(&self.path, schema::STATE, &self.clock)?;
        self.counters.mark_dirty();
        self.checkpoint()
    }

    fn finish(&mut self) -> Result<(), Fault> {
        if !self.stale {
            self.checkpoint()?;
        }
        checkpoint(&self.connection)
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, Fault> {
        let plain = postcard::to_stdvec(value).map_err(|error| self.unavailable(&error.to_string()))?;
        let mut body = vec![FORMAT];
        body.extend_from_slice(&lz4_flex::compress_prepend_size(&plain));
        Ok(body)
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable { store: self.store.clone(), why: why.to_owned() }
    }
}

/// SQLite's integers are signed; counts beyond do not occur.
fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn decode<T: DeserializeOwned>(store: &str, body: &[u8]) -> Option<T> {
    let decoded = match body {
        [FORMAT, packed @ ..] => lz4_flex::block::uncompressed_size(packed)
            .ok()
            .filter(|(size, _)| *size <= MAX_ROW)
            .and_then(|(size, block)| {
                let plain = lz4_flex::block::decompress(block, size).ok()?;
                postcard::from_bytes(&plain).ok()
            }),
        _ => None,
    };
    if decoded.is_none() {
        metrics::counter!(STORE_DAMAGED, "store" => "row").increment(1);
        warn!(store, "a row of the counters' journal is damaged and left out; a counter may be too low");
    }
    decoded
}
