//! Retention, archives, legal holds and erasures, as operators deal with them.
//!
//! What takes long is begun and waited for only some seconds; it goes on when nobody waits. Everything that changes something
//! is a line of the change log, written by the store or by the run itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::actor::{legible, stated};
use super::{Actor, Admin, AdminError};
use crate::model::{Day, DeliveryNote, EventId, Judged, Timestamp, host_key};
use crate::store::archive::{ArchiveFault, ArchiveHits, FileName, FileState};
use crate::store::{Erasure, EventQuery, Hold, HoldDraft};
use crate::upkeep::retention::{ArchiveCheck, Report, RetentionError, RetentionStatus, Task, TaskState};

/// How long a caller waits for the end of what it began.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a search of the archive may look before it answers with what it has.
const SEARCH_BUDGET: Duration = Duration::from_secs(2);
/// Longest name and reason, in characters.
const MAX_TEXT: usize = 500;
/// Longest restore.
const MAX_RESTORE_DAYS: u32 = 366;
/// Most files one restore takes: a year of days with three files each.
const MAX_RESTORE_FILES: usize = 1_100;

/// How something that takes long stands.
#[derive(Debug, Clone)]
pub enum Begun {
    /// It has ended.
    Done(Box<Report>),
    /// It is still under way; [`Admin::retention_task`] tells how it ended.
    UnderWay {
        /// Its number.
        task: u64,
    },
}

/// Which archives to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveFilter {
    /// Of this day or later.
    pub from: Option<Day>,
    /// Of this day or earlier.
    pub to: Option<Day>,
    /// Only those that come after this one in the list, which need not be there any more.
    pub after: Option<FileName>,
}

/// A page of the list of archives.
#[derive(Debug, Clone)]
pub struct ArchivePage {
    /// Archives, newest first.
    pub files: Vec<FileState>,
    /// How many fit the days.
    pub total: usize,
    /// The last of this page, if others come after it.
    pub next: Option<FileName>,
}

/// What an erasure would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasurePlan {
    /// Rows of the audit, at least.
    pub audit_rows: u64,
    /// Archives that may hold events of the host.
    pub archive_files: u64,
}

/// Which archives to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreChoice {
    /// This one.
    File(String),
    /// Those of these days, both included.
    Days(Day, Day),
}

impl From<RetentionError> for AdminError {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::Busy { .. } | RetentionError::Refused(_) => Self::Conflict(error.to_string()),
            RetentionError::Store(error) => error.into(),
            RetentionError::Stopped => Self::Unavailable(error.to_string()),
        }
    }
}

impl Admin {
    /// How retention stands.
    pub async fn retention(&self) -> Result<RetentionStatus, AdminError> {
        Ok(self.parts.retention.status().await?)
    }

    async fn begin(&self, task: Task) -> Result<Begun, AdminError> {
        let begun = self.parts.retention.begin(task)?;
        match tokio::time::timeout(PATIENCE, begun.ended).await {
            Err(_) => Ok(Begun::UnderWay { task: begun.task }),
            Ok(Ok(result)) => Ok(Begun::Done(Box::new(result?))),
            Ok(Err(_)) => Err(RetentionError::Stopped.into()),
        }
    }

    /// How something stands that was begun and not waited for. An error is why it failed.
    pub fn retention_task(&self, task: u64) -> Result<Begun, AdminError> {
        match self.parts.retention.task(task) {
            Some(TaskState::UnderWay) => Ok(Begun::UnderWay { task }),
            Some(TaskState::Ended(result)) => Ok(Begun::Done(result?)),
            None => Err(AdminError::NotFound { what: "task of retention", key: task.to_string() }),
        }
    }

    /// Runs retention now.
    pub async fn run_retention(&self, actor: &Actor, reason: Option<&str>) -> Result<Begun, AdminError> {
        self.begin(Task::Run(actor.change(reason)?)).await
    }

    /// Says what a run would do.
    pub async fn plan_retention(&self, actor: &Actor) -> Result<Begun, AdminError> {
        self.begin(Task::DryRun(actor.change(None)?)).await
    }

    /// Every archive, newest first.
    pub fn archives(&self) -> Vec<FileState> {
        let mut files = self.parts.retention.archive().files();
        files.reverse();
        files
    }

    /// Archives of some days, newest first. Files that come and go between two pages move nothing else.
    pub fn archive_page(&self, filter: &ArchiveFilter, limit: usize) -> ArchivePage {
        let mut files = self.archives();
        files.retain(|file| {
            filter.from.is_none_or(|from| file.facts.day >= from) && filter.to.is_none_or(|to| file.facts.day <= to)
        });
        let total = files.len();
        if let Some(after) = filter.after {
            files.retain(|file| file.facts.name.parse::<FileName>().is_ok_and(|name| name < after));
        }
        let is_last = files.len() <= limit;
        files.truncate(limit);
        let next = files.last().filter(|_| !is_last).and_then(|file| file.facts.name.parse().ok());
        ArchivePage { files, total, next }
    }

    /// What is wrong with the archive's manifest.
    pub fn archive_doubt(&self) -> Option<String> {
        self.parts.retention.archive().doubt()
    }

    /// When each archive was last read as a whole and compared, by name.
    pub fn archive_checks(&self) -> BTreeMap<String, ArchiveCheck> {
        self.parts.retention.checks()
    }

    /// One archive.
    pub fn archive(&self, name: &str) -> Result<FileState, AdminError> {
        let file = name.parse().ok().and_then(|name| self.parts.retention.archive().file(name));
        file.ok_or_else(|| no_archive(name))
    }

    /// Where an archive lies, to be downloaded.
    pub fn archive_path(&self, name: &str) -> Result<PathBuf, AdminError> {
        let file = self.archive(name)?;
        let name: FileName = file.facts.name.parse().map_err(|_| no_archive(name))?;
        Ok(self.parts.retention.archive().path(name))
    }

    /// What does not fit between manifest and files, without reading the files.
    pub async fn archive_overview(&self) -> Result<Vec<ArchiveFault>, AdminError> {
        let archive = std::sync::Arc::clone(self.parts.retention.archive());
        let looked = tokio::task::spawn_blocking(move || archive.overview()).await;
        Ok(looked.map_err(|error| AdminError::Unavailable(error.to_string()))??)
    }

    /// Reads archives and compares them: one, a sample of so many, or all.
    pub async fn verify_archives(
        &self,
        name: Option<&str>,
        sample: Option<usize>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Begun, AdminError> {
        let mut names: Vec<FileName> = match name {
            Some(name) => vec![self.archive(name)?.facts.name.parse().map_err(|_| no_archive(name))?],
            None => self.archives().iter().filter_map(|file| file.facts.name.parse().ok()).collect(),
        };
        if let Some(sample) = sample.filter(|sample| *sample < names.len()) {
            // Spread evenly, beginning anywhere, so that each call takes others.
            let mut random = [0_u8; 8];
            getrandom::fill(&mut random).map_err(|error| AdminError::Unavailable(error.to_string()))?;
            let (all, start) = (names.len(), usize::from_le_bytes(random) % names.len());
            names = (0..sample).filter_map(|n| names.get((start + n * all / sample) % all).copied()).collect();
        }
        self.begin(Task::Verify { names, change: actor.change(reason)? }).await
    }

    /// Accepts the archive as it is after its manifest came into doubt.
    pub async fn accept_archive(&self, actor: &Actor, reason: Option<&str>) -> Result<Begun, AdminError> {
        stated(reason, "say why the archive is accepted as it is")?;
        self.begin(Task::Accept(actor.change(reason)?)).await
    }

    /// Archived events, newest first.
    pub async fn search_archives(&self, query: &EventQuery) -> Result<ArchiveHits, AdminError> {
        let (archive, query) = (std::sync::Arc::clone(self.parts.retention.archive()), query.prepared());
        let _one_at_a_time = self.parts.retention.search_place().await;
        let found = tokio::task::spawn_blocking(move || archive.search(&query, Instant::now() + SEARCH_BUDGET)).await;
        found.map_err(|error| AdminError::Unavailable(error.to_string()))
    }

    /// One archived event with what receivers said to it.
    pub async fn archived_event(&self, id: EventId) -> Result<(Judged, Vec<DeliveryNote>), AdminError> {
        let archive = std::sync::Arc::clone(self.parts.retention.archive());
        let found = tokio::task::spawn_blocking(move || archive.get(id)).await;
        let found = found.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        found.ok_or_else(|| AdminError::NotFound { what: "archived event", key: id.to_string() })
    }

    /// Puts archives into the audit for some days.
    pub async fn restore_archives(
        &self,
        choice: RestoreChoice,
        days: u32,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Begun, AdminError> {
        if !(1..=MAX_RESTORE_DAYS).contains(&days) {
            return Err(AdminError::invalid("days", format!("give 1 to {MAX_RESTORE_DAYS} days")));
        }
        let names: Vec<FileName> = match choice {
            RestoreChoice::File(name) => vec![self.archive(&name)?.facts.name.parse().map_err(|_| no_archive(&name))?],
            RestoreChoice::Days(from, to) => {
                let files = self.parts.retention.archive().files();
                let names = files.iter().filter_map(|file| file.facts.name.parse::<FileName>().ok());
                names.filter(|name| (from..=to).contains(&name.day)).collect()
            }
        };
        if names.is_empty() {
            return Err(AdminError::invalid("from", "there are no archives of these days"));
        }
        if names.len() > MAX_RESTORE_FILES {
            return Err(AdminError::invalid("to", format!("these are more than {MAX_RESTORE_FILES} files at once")));
        }
        let until = self.parts.clock.now().plus(Duration::from_hours(24 * u64::from(days)));
        self.begin(Task::Restore { names, until, change: actor.change(reason)? }).await
    }

    /// Removes the restored copy of an archive from the audit now.
    pub async fn return_archive(&self, name: &str, actor: &Actor, reason: Option<&str>) -> Result<Begun, AdminError> {
        let names = vec![self.archive(name)?.facts.name.parse().map_err(|_| no_archive(name))?];
        self.begin(Task::Return { names, change: actor.change(reason)? }).await
    }

    /// Legal holds in force.
    pub async fn holds(&self) -> Result<Vec<Hold>, AdminError> {
        Ok(self.parts.stores.holds.holds().await?)
    }

    /// Places a hold.
    pub async fn place_hold(&self, draft: HoldDraft, actor: &Actor) -> Result<Hold, AdminError> {
        let name = needed("name", &draft.name)?;
        let reason = needed("reason", &draft.reason)?;
        let hostname = draft.hostname.as_deref().map(str::trim).filter(|hostname| !hostname.is_empty());
        let hostname = hostname.map(|hostname| needed("hostname", hostname)).transpose()?;
        if let (Some(from), Some(to)) = (draft.from, draft.to)
            && from >= to
        {
            return Err(AdminError::invalid("to", "it is not after `from`"));
        }
        let change = actor.change(Some(&reason))?;
        let draft = HoldDraft { name, hostname, reason, ..draft };
        let hold = self.parts.stores.holds.place(draft, &change).await?;
        tracing::info!(hold = hold.id, by = hold.placed_by, "Legal hold {} was placed", hold.id);
        Ok(hold)
    }

    /// Lifts a hold.
    pub async fn lift_hold(&self, id: i64, actor: &Actor, reason: Option<&str>) -> Result<(), AdminError> {
        stated(reason, "say why the hold is not needed any more")?;
        self.parts.stores.holds.lift(id, &actor.change(reason)?).await?;
        tracing::info!(hold = id, by = actor.name, "Legal hold {id} was lifted");
        Ok(())
    }

    /// Requests to erase, newest first.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, AdminError> {
        Ok(self.parts.stores.holds.erasures().await?)
    }

    /// What erasing a host's data would do.
    pub async fn plan_erasure(&self, hostname: &str) -> Result<ErasurePlan, AdminError> {
        let key = host_key(&needed("hostname", hostname)?);
        let mut query = EventQuery { hostname: Some(key.clone()), limit: 1_000, ..EventQuery::default() };
        let mut audit_rows = 0;
        for _ in 0..10 {
            let page = self.parts.stores.audit.search(&query).await?;
            audit_rows += page.items.len() as u64;
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        let archive = std::sync::Arc::clone(self.parts.retention.archive());
        let counted = tokio::task::spawn_blocking(move || {
            let names = archive.files().into_iter().filter_map(|file| file.facts.name.parse::<FileName>().ok());
            let readers = names.filter_map(|name| archive.read(name).ok());
            readers.filter(|reader| reader.index.frames.iter().any(|frame| frame.may_hold_host(&key))).count() as u64
        });
        let archive_files = counted.await.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        Ok(ErasurePlan { audit_rows, archive_files })
    }

    /// Takes a request to erase a host's data down and begins to carry it out. While a run is under way it waits for the next.
    pub async fn erase_host(&self, hostname: &str, reason: &str, actor: &Actor) -> Result<Erasure, AdminError> {
        let (hostname, reason) = (needed("hostname", hostname)?, needed("reason", reason)?);
        let change = actor.change(Some(&reason))?;
        let erasure = self.parts.stores.holds.request_erasure(&hostname, &reason, &change).await;
        let erasure = erasure.map_err(|error| match error {
            crate::store::StoreError::Invalid(why) => AdminError::Conflict(why),
            other => other.into(),
        })?;
        match self.begin(Task::Erase(change)).await {
            Ok(_) | Err(AdminError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        let now = self.parts.stores.holds.erasures().await?.into_iter().find(|other| other.id == erasure.id);
        Ok(now.unwrap_or(erasure))
    }

    /// The moment, for those who show ages.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}

fn no_archive(name: &str) -> AdminError {
    AdminError::NotFound { what: "archive", key: name.chars().take(80).collect() }
}

/// A text that must be there, without what does not belong into one line.
fn needed(field: &'static str, text: &str) -> Result<String, AdminError> {
    if text.chars().count() > MAX_TEXT {
        return Err(AdminError::invalid(field, format!("it is longer than {MAX_TEXT} characters")));
    }
    let text = legible(text).ok_or_else(|| AdminError::invalid(field, "it is missing"))?;
    Ok(text.replace(char::is_control, " "))
}
