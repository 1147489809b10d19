//! The audit in one SQLite file a month: the thread that writes it and the calls that read it.
//!
//! Calls that wait for the writer at the same time share a transaction and its sync. Nothing is ever changed in place.
//! On a crash, what was answered is there; what was not is there as a whole call or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, error, warn};

use super::audit_search::{self, Budget, get, rows};
use super::audit_write::AuditWriter;
use super::connect::Fault;
use super::months::Months;
use super::worker::{Answer, Worker};
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{DeliveryNote, EventId, Judged};
use crate::store::{
    AuditLog, AuditSettings, EventPage, EventQuery, NumberedPage, PartitionInfo, StoreError, StoreResult,
};

/// What the audit is called in errors and logs.
pub(super) const STORE: &str = "audit";
/// Rows gathered into one transaction; a single larger call stays in one piece.
const GROUP_ROWS: usize = 16_384;
/// How long a search may look before it answers with what it has.
const SEARCH_BUDGET: Duration = Duration::from_secs(1);
/// How long totals may be counted before a page goes without.
const COUNT_BUDGET: Duration = Duration::from_millis(20);
/// Searches at once: each may keep a core busy for its whole budget.
const SEARCHES: usize = 2;

/// Work for the writer thread besides recording.
type Errand = Box<dyn FnOnce(&mut AuditWriter) + Send>;

enum Job {
    Record(Vec<Judged>, Answer<()>),
    Note(Vec<DeliveryNote>, Answer<()>),
    Errand(Errand),
}

/// The audit of one node.
pub struct AuditDb {
    worker: Worker<Job>,
    months: Arc<Months>,
    clock: Clock,
    searches: Semaphore,
}

impl AuditDb {
    /// Opens the files in `folder`, which is made if it is not there, with the usual settings.
    pub fn open(folder: &Path, clock: Clock) -> StoreResult<Self> {
        Self::open_with(folder, clock, Live::constant(AuditSettings::default()))
    }

    /// Opens the files in `folder`, which is made if it is not there.
    pub fn open_with(folder: &Path, clock: Clock, settings: Live<AuditSettings>) -> StoreResult<Self> {
        let unavailable = |why: String| StoreError::Unavailable { store: STORE.to_owned(), why };
        std::fs::create_dir_all(folder)
            .and_then(|()| Months::scan(folder))
            .map_err(|error| unavailable(format!("folder `{}`: {error}", folder.display())))
            .map(Arc::new)
            .and_then(|months| {
                let writer =
                    AuditWriter::open(Arc::clone(&months), clock.clone(), settings).map_err(|fault| fault.of(STORE))?;
                let worker = Worker::start(STORE, move |jobs| run(jobs, writer))?;
                // Files are made ahead after every job; this is the first.
                worker.tell(Job::Errand(Box::new(|writer| {
                    if let Err(fault) = writer.index_old_files() {
                        warn!(store = STORE, reason = ?fault, "an old file of the audit could not be given its index; searches read it row by row");
                    }
                })));
                Ok(Self { worker, months, clock, searches: Semaphore::new(SEARCHES) })
            })
    }

    /// Runs `work` on the writer thread, between two transactions of others.
    pub(super) async fn errand<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut AuditWriter) -> Result<T, Fault> + Send + 'static,
    ) -> StoreResult<T> {
        let errand = |answer: Answer<T>| {
            Job::Errand(Box::new(move |writer: &mut AuditWriter| {
                // Whoever asked may have gone; what was done stands.
                let _ = answer.send(work(writer).map_err(|fault| fault.of(STORE)));
            }))
        };
        self.worker.ask(errand).await
    }

    /// The files there are.
    pub(super) fn months(&self) -> &Arc<Months> {
        &self.months
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Arc<Months>) -> Result<T, Fault> + Send + 'static,
    ) -> StoreResult<T> {
        let unavailable = |why: String| StoreError::Unavailable { store: STORE.to_owned(), why };
        let _permit = self.searches.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let months = Arc::clone(&self.months);
        let read = tokio::task::spawn_blocking(move || body(&months)).await;
        read.map_err(|error| unavailable(error.to_string()))?.map_err(|fault| fault.of(STORE))
    }
}

#[async_trait]
impl AuditLog for AuditDb {
    async fn record(&self, rows: Vec<Judged>) -> StoreResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.worker.ask(|answer| Job::Record(rows, answer)).await
    }

    async fn note_deliveries(&self, notes: Vec<DeliveryNote>) -> StoreResult<()> {
        if notes.is_empty() {
            return Ok(());
        }
        self.worker.ask(|answer| Job::Note(notes, answer)).await
    }

    async fn search(&self, query: &EventQuery) -> StoreResult<EventPage> {
        let query = query.prepared();
        let (page, work) =
            self.read(move |months| audit_search::search(months, &query, Instant::now() + SEARCH_BUDGET)).await?;
        debug!(rows = work.rows, runs = work.runs, partitions = work.partitions, "the audit was searched");
        Ok(page)
    }

    async fn numbered(&self, query: &EventQuery, skip: u64) -> StoreResult<NumberedPage> {
        let query = query.prepared();
        let (page, work) = self
            .read(move |months| {
                let budget = Budget { search: SEARCH_BUDGET, count: COUNT_BUDGET };
                audit_search::numbered(months, &query, skip, budget)
            })
            .await?;
        debug!(rows = work.rows, runs = work.runs, partitions = work.partitions, "a page of the audit was made");
        Ok(page)
    }

    async fn get(&self, id: EventId) -> StoreResult<Option<Judged>> {
        self.read(move |months| get(months, id)).await
    }

    async fn deliveries(&self, id: EventId) -> StoreResult<Vec<DeliveryNote>> {
        self.read(move |months| audit_search::deliveries(months, id)).await
    }

    async fn approximate_rows(&self) -> StoreResult<u64> {
        self.read(rows).await
    }

    async fn partitions(&self) -> StoreResult<Vec<PartitionInfo>> {
        let now = self.clock.now();
        self.read(move |months| audit_search::partitions(months, now)).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.worker.close().await
    }
}

/// Calls that share a transaction.
#[derive(Default)]
struct Group {
    rows: Vec<Vec<Judged>>,
    notes: Vec<Vec<DeliveryNote>>,
    count: usize,
    answers: Vec<Answer<()>>,
}

impl Group {
    /// Takes a call in; an errand comes back, because it is run alone.
    fn add(&mut self, job: Job) -> Option<Errand> {
        match job {
            Job::Record(rows, answer) => {
                self.count += rows.len();
                self.rows.push(rows);
                self.answers.push(answer);
            }
            Job::Note(notes, answer) => {
                self.count += notes.len();
                self.notes.push(notes);
                self.answers.push(answer);
            }
            Job::Errand(errand) => return Some(errand),
        }
        None
    }

    /// `first` and the calls that wait behind it, up to the next errand.
    fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Self, Option<Errand>) {
        let mut group = Self::default();
        let mut errand = group.add(first);
        while errand.is_none() && group.count < GROUP_ROWS {
            let Ok(job) = jobs.try_recv() else { break };
            errand = group.add(job);
        }
        (group, errand)
    }
}

fn run(mut jobs: mpsc::Receiver<Job>, mut writer: AuditWriter) {
    while let Some(job) = jobs.blocking_recv() {
        let (group, errand) = Group::gather(job, &mut jobs);
        if !group.answers.is_empty() {
            let result = guarded(&mut writer, |writer| writer.write(&group.rows, &group.notes));
            let result = result.map_err(|fault| fault.of(STORE));
            for answer in group.answers {
                // Whoever asked may have gone; the rows stand nevertheless.
                let _ = answer.send(result.clone());
            }
        }
        if let Some(errand) = errand {
            // Who sent it is told by the errand itself, or by its silence.
            let _ = guarded(&mut writer, |writer| {
                errand(writer);
                Ok(())
            });
        }
        writer.publish();
        if let Err(fault) = writer.prepare_ahead() {
            warn!(store = STORE, reason = ?fault, "the coming months' files could not be made; each will be made when its first event comes");
        }
    }
    if let Err(fault) = writer.finish() {
        warn!(store = STORE, reason = ?fault, "the audit's log was not written back; the next start reads it");
    }
}

/// Runs `work`; a panic fails it, not the thread.
fn guarded<T>(writer: &mut AuditWriter, work: impl FnOnce(&mut AuditWriter) -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(|| work(writer))).unwrap_or_else(|_| {
        writer.reset();
        error!(store = STORE, "writing the audit panicked; the call was rolled back");
        Err(Fault::Told(StoreError::Unavailable { store: STORE.to_owned(), why: "its writer panicked".to_owned() }))
    })
}
