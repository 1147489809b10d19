//! Retention: events leave the audit to the day, live on in the archive for years, and are deleted when their time is up.
//!
//! A run does, in this order: finish what an interrupted run left ([`settle`]), end restores whose time is up, carry out
//! erasures, delete archives that are too old or too many ([`expiry`]), archive days ([`days`]), drop empty files, cut the
//! change log, read some archives back. Each step can be repeated; what is deleted is told by the log, by a metric, by the
//! manifest and by a line of the change log. One event is removed from the audit only after the file it went to was read
//! back from the disk, and only if it is what that file says.
//!
//! There is one run at a time, on a thread of its own that rests as long as it works. Killed at any moment, it loses
//! nothing and doubles nothing: the next run begins with what is unfinished.
//!
//! **The rule of days.** An event belongs to the UTC day of its id, which is when it was received. With
//! `event_retention_days = 90` the audit keeps today and the 90 days before it; day 91 before today leaves. So an
//! event stays at least 90 times 24 hours, and less than 91 days and the time to the next run.

mod days;
mod erase;
mod expiry;
mod notice;
mod plan;
mod report;
mod restore;
mod run;
mod schedule;
mod settings;
mod tasks;
mod tell;
mod verify;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

pub use report::{ArchiveCheck, ArchivedDay, ExpiredFile, Nearness, Report};
pub use settings::Settings;
pub use tasks::TaskState;

use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Alert, Day, EventIds, Timestamp};
use crate::store::archive::{Archive, FileName, write_whole};
use crate::store::{AuditSize, Change, HoldBook, StoreError, Stores};
use report::Memory;
use run::Run;
use tasks::Tasks;

/// How often it is looked whether a run is due; clocks that are set are noticed within this time.
const LOOK: Duration = Duration::from_secs(30);

/// Searches of the archive at once.
const SEARCHES: usize = 2;

/// The name under which the appliance's own runs stand in the change log.
pub const ACTOR: &str = "retention";

/// Sends an alert on its way; an error is why it could not.
pub type Tell = Arc<dyn Fn(Alert) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;
/// Free bytes of the disk that holds the archive, if they can be told.
pub type FreeSpace = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// How fast a run works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It rests as long as it works, so that it never takes more than half of what one thread could.
    Gentle,
    /// As fast as it can: nobody else is there.
    Full,
}

/// What retention works with.
pub struct RetentionParts {
    /// What it works on: audit, archive, holds, change log, recent events, counters.
    pub stores: Stores,
    /// What it goes by.
    pub settings: Live<Settings>,
    /// Which way a notice takes.
    pub tell: Tell,
    /// Free bytes of the disk.
    pub free: FreeSpace,
    /// How fast it works.
    pub pace: Pace,
    /// The name of this appliance in its notices.
    pub node: String,
    /// Numbers for those notices.
    pub ids: EventIds,
    /// The time.
    pub clock: Clock,
    /// Ends a run that is under way.
    pub stop: CancellationToken,
}

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RetentionError {
    /// Another run is under way; this one was not begun.
    #[error("a retention run is under way since {since}; wait until it has ended")]
    Busy {
        /// Since when.
        since: Timestamp,
    },
    /// It cannot be done to what is there.
    #[error("{0}")]
    Refused(String),
    /// A store fails; try again later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The appliance is stopping; what is unfinished is done by the next run.
    #[error("the appliance is stopping")]
    Stopped,
}

impl RetentionError {
    /// Whether it is the fault of one archive or day, so that others can be gone on with.
    const fn is_about_one_thing(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Store(error) => {
                matches!(error, StoreError::Conflict(_) | StoreError::Invalid(_) | StoreError::NotFound { .. })
            }
            Self::Busy { .. } | Self::Stopped => false,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Task {
    /// A whole run.
    Run(Change),
    /// What a run would do.
    DryRun(Change),
    /// Only the erasures that wait.
    Erase(Change),
    /// Put the events of files into the audit until a moment.
    Restore {
        /// The files.
        names: Vec<FileName>,
        /// Until when.
        until: Timestamp,
        /// Who asks.
        change: Change,
    },
    /// Remove the restored copies of files from the audit now.
    Return {
        /// The files.
        names: Vec<FileName>,
        /// Who asks.
        change: Change,
    },
    /// Read files and compare them.
    Verify {
        /// The files.
        names: Vec<FileName>,
        /// Who asks.
        change: Change,
    },
    /// Accept the archive as it is after its manifest came into doubt.
    Accept(Change),
}

/// Retention as it is; clones share it.
#[derive(Clone)]
pub struct Retention {
    inner: Arc<Inner>,
}

struct Inner {
    parts: RetentionParts,
    memory: Mutex<Memory>,
    memory_file: PathBuf,
    /// Room for searches of the archive: each may keep a core busy for its whole time.
    searches: Arc<Semaphore>,
    /// The task under way, and how the last ones ended.
    tasks: Mutex<Tasks>,
    /// The day of the oldest event in the audit that is no restored copy, as of the end of the last task.
    oldest: Mutex<Option<Day>>,
}

/// A task that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Its number, for [`Retention::task`].
    pub task: u64,
    /// What it did, when it has ended.
    pub ended: oneshot::Receiver<Result<Report, RetentionError>>,
}

/// How things stand.
#[derive(Debug, Clone)]
pub struct RetentionStatus {
    /// Since when a run is under way.
    pub running_since: Option<Timestamp>,
    /// When the last run began.
    pub last_run: Option<Timestamp>,
    /// What it did.
    pub last_report: Report,
    /// When the next one is due; `None` if the appliance does not run retention by itself.
    pub next_run: Option<Timestamp>,
    /// What the audit takes.
    pub audit: AuditSize,
    /// Files of the archive.
    pub archive_files: u64,
    /// Their bytes.
    pub archive_bytes: u64,
    /// Archives that were not what they should be when they were last read.
    pub damaged: Vec<String>,
    /// What is wrong with the manifest.
    pub doubt: Option<String>,
    /// How near the audit's cap is.
    pub audit_cap: Nearness,
    /// How near the archive's cap is.
    pub archive_cap: Nearness,
    /// What it goes by.
    pub settings: Settings,
}

impl Retention {
    /// Reads what is remembered of the last run.
    pub fn new(parts: RetentionParts) -> Self {
        let memory_file = parts.stores.archive.folder().join("last-run.json");
        let memory = std::fs::read(&memory_file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut memory: Memory = memory.unwrap_or_default();
        if memory.unbegun || memory.report.started_at != memory.last_run {
            // The last run could not begin or did not come to its end: the next one is due now.
            memory.last_run = None;
        }
        let searches = Arc::new(Semaphore::new(SEARCHES));
        let (memory, tasks, oldest) = (Mutex::new(memory), Mutex::default(), Mutex::new(None));
        let inner = Inner { memory, memory_file, searches, tasks, oldest, parts };
        let retention = Self { inner: Arc::new(inner) };
        retention.inner.publish();
        retention
    }

    /// The archive, for whoever looks at it.
    pub fn archive(&self) -> &Arc<Archive> {
        &self.inner.parts.stores.archive
    }

    /// Room for one search of the archive; waits while others have it. `None` never comes: nothing closes it.
    pub async fn search_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.searches).acquire_owned().await.ok()
    }

    /// When each archive was last read as a whole and compared, by name; those that were only read when they were written are
    /// not in it.
    pub fn checks(&self) -> BTreeMap<String, ArchiveCheck> {
        self.inner.memory.lock().checked.clone()
    }

    /// Holds and erasures.
    pub fn holds(&self) -> &Arc<dyn HoldBook> {
        &self.inner.parts.stores.holds
    }

    /// Does a task on a thread of its own and waits for its end. Whoever stops waiting does not stop the task.
    pub async fn execute(&self, task: Task) -> Result<Report, RetentionError> {
        self.begin(task)?.ended.await.map_err(|_| RetentionError::Stopped)?
    }

    /// Begins a task on a thread of its own.
    pub fn begin(&self, task: Task) -> Result<Begun, RetentionError> {
        let now = self.inner.parts.clock.now();
        let number = self.inner.tasks.lock().begin(now)?;
        let (answer, ended) = oneshot::channel();
        let (inner, runtime) = (Arc::clone(&self.inner), tokio::runtime::Handle::current());
        let spawned = std::thread::Builder::new().name("retention".to_owned()).spawn(move || {
            be_nice();
            let ending = Ending { inner: &inner, task: number };
            let result = inner.work(runtime, now, task);
            inner.tasks.lock().end(number, result.clone());
            drop(ending);
            // Whoever asked may have gone; what was done stands.
            let _ = answer.send(result);
        });
        match spawned {
            Ok(_) => Ok(Begun { task: number, ended }),
            Err(error) => {
                let error = unavailable(format!("its thread cannot start: {error}"));
                self.inner.tasks.lock().end(number, Err(error.clone()));
                Err(error)
            }
        }
    }

    /// How a task stands; `None` if there was none of that number, or it was too long ago, or before the last start.
    pub fn task(&self, number: u64) -> Option<TaskState> {
        self.inner.tasks.lock().state(number)
    }

    /// Runs when it is time, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        if let Ok(oldest) = tell::oldest_of_its_own(&self.inner.parts).await {
            *self.inner.oldest.lock() = oldest;
        }
        loop {
            if self.is_due() {
                let change = Change::new(ACTOR, format!("retention-{}", self.inner.parts.clock.now()));
                match self.begin(Task::Run(change)) {
                    // What went wrong in it was told by the run itself.
                    Ok(begun) => drop(begun.ended.await),
                    Err(RetentionError::Busy { .. }) => {}
                    Err(error) => tracing::error!("The retention run failed: {error}"),
                }
            }
            self.inner.publish();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn is_due(&self) -> bool {
        let settings = self.inner.parts.settings.get();
        let (last_run, now) = (self.inner.memory.lock().last_run, self.inner.parts.clock.now());
        settings.enabled && schedule::due(last_run, now, settings.hour).0
    }

    /// How things stand.
    pub async fn status(&self) -> Result<RetentionStatus, RetentionError> {
        let parts = &self.inner.parts;
        let settings = (*parts.settings.get()).clone();
        let memory = self.inner.memory.lock().clone();
        let running_since = self.inner.tasks.lock().since();
        let audit = parts.stores.shelf.size().await?;
        let (due, next) = schedule::due(memory.last_run, parts.clock.now(), settings.hour);
        let next = if due { Some(parts.clock.now()) } else { next };
        let (archive_files, archive_bytes) = parts.stores.archive.size();
        Ok(RetentionStatus {
            running_since,
            last_run: memory.last_run,
            last_report: memory.report,
            next_run: next.filter(|_| settings.enabled),
            audit,
            archive_files,
            archive_bytes,
            damaged: self.inner.damaged(),
            doubt: parts.stores.archive.doubt(),
            audit_cap: memory.audit,
            archive_cap: memory.archive,
            settings,
        })
    }
}

/// Ends a task that nothing else ended, whatever happened: the next may begin.
struct Ending<'a> {
    inner: &'a Inner,
    task: u64,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.inner.tasks.lock().end(self.task, Err(unavailable("it panicked, see the log".to_owned())));
    }
}

impl Inner {
    /// Does a task. A fault in this program ends the task alone, and people are told if it was a run.
    fn work(&self, runtime: tokio::runtime::Handle, now: Timestamp, task: Task) -> Result<Report, RetentionError> {
        let run = Run::new(self, runtime, now);
        let change = match &task {
            Task::Run(change) => Some(change.clone()),
            _ => None,
        };
        let result = catch_unwind(AssertUnwindSafe(|| run.execute(task)));
        result.unwrap_or_else(|_| {
            let why = "it panicked, see the log; what is unfinished is done by the next run";
            match change {
                Some(change) => run.could_not(&change, why.to_owned()),
                None => tracing::error!("A task of retention failed: {why}"),
            }
            Err(unavailable(why.to_owned()))
        })
    }

    /// Remembers; a failure costs no more than a run that comes once more.
    fn remember(&self, change: impl FnOnce(&mut Memory)) {
        let text = {
            let mut memory = self.memory.lock();
            change(&mut memory);
            serde_json::to_vec(&*memory)
        };
        let written = text.map_err(std::io::Error::from).and_then(|text| write_whole(&self.memory_file, &text));
        if let Err(error) = written {
            tracing::warn!(%error, "What the retention run did could not be noted in {}", self.memory_file.display());
        }
    }
}

fn unavailable(why: String) -> RetentionError {
    StoreError::Unavailable { store: "retention".to_owned(), why }.into()
}

/// Lets everything else go first. It only costs time where it is not granted.
fn be_nice() {
    // SAFETY: the call takes no pointers; on Linux, 0 is the calling thread alone.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

#[cfg(test)]
mod tests;
