//! What must be searchable and outlive us.
//!
//! Three stores, each with its own promise:
//!
//! * the **audit** ([`AuditLog`]): one row for each event that a rule matched (or for all, or a sample), durable when
//!   [`AuditLog::record`] returns, idempotent by event id, in monthly files;
//! * the **recent store** ([`Recent`]): every event for some days, compressed and scanned, allowed to lose its last
//!   moments in a crash because the queue does not;
//! * the **configuration** ([`RuleBook`], [`Inventory`], [`Accounts`], [`ConfigEdits`], [`ChangeLog`]): each change
//!   and its line in the change log are one transaction;
//!
//! and the counters of unhandled events ([`Unhandled`]), durable when [`Unhandled::count`] returns.

mod accounts;
pub mod archive;
mod audit;
mod change;
mod edits;
mod error;
mod holds;
mod inventory;
mod levels;
mod query;
mod recent;
mod repeats;
mod rulebook;
mod shelf;
pub mod sqlite;
mod tag;
mod targets;
mod trail;
mod unhandled;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use accounts::{Accounts, ApiKey, ApiKeys, KeyChange, LiveSession, Session, SessionClock, User, UserUpdate};
pub use audit::{AuditLog, AuditSettings, PartitionInfo, PartitionState};
pub use change::{Action, Change, ChangeLog, ChangeQuery, ChangeRow, Operation, Origin, Via};
pub use edits::{ConfigEdit, ConfigEdits, SETTINGS_TABLE};
pub use error::{StoreError, StoreResult};
pub use holds::{Erased, Erasure, Hold, HoldBook, HoldDraft};
pub use inventory::{DevHost, DeviceTeam, HostQuery, Inventory};
pub use levels::{LevelRow, Levels, Width};
pub use query::{EventPage, EventQuery, NumberedPage};
pub use recent::{Recent, RecentSettings, Scanned, Watched, Watcher};
pub use repeats::{KeptAnswer, REPEATS_KEPT, Repeat, RepeatId, Repeats};
pub use rulebook::RuleBook;
pub use shelf::{AuditShelf, AuditSize, Chunk, DroppedFile, Place};
pub use sqlite::copy_database;
pub use tag::{rule_tag, target_tag, team_tag};
pub use targets::{KeptTarget, TARGETS_TABLE};
pub use trail::{Tampering, TrailFault, TrailHead, TrailReport};
pub use unhandled::{Kind, Overrun, Sighting, Unhandled, UnhandledBatch, UnhandledEvents, UnhandledPolicy};

use crate::clock::Clock;
use crate::live::Live;

/// The file of the configuration database.
const CONFIG_DB: &str = "config.db";

/// The settings kept below `dir`, read before its stores are open; none if there is nothing yet.
pub fn kept_settings(dir: &Path) -> StoreResult<BTreeMap<String, String>> {
    sqlite::kept_settings(&dir.join(CONFIG_DB))
}

/// The targets kept below `dir`, read before its stores are open; none if there is nothing yet.
pub fn kept_targets(dir: &Path) -> StoreResult<Vec<KeptTarget>> {
    sqlite::kept_targets(&dir.join(CONFIG_DB))
}

/// Where the archive of the stores in `dir` lies: beside them, because it is backed up and moved apart from them.
pub fn archive_folder(dir: &Path) -> PathBuf {
    match dir.file_name() {
        Some(name) if name == "store" => dir.with_file_name("archive"),
        _ => dir.join("archive"),
    }
}

/// Every store of one node.
#[derive(Clone)]
pub struct Stores {
    /// Matched events and what became of them.
    pub audit: Arc<dyn AuditLog>,
    /// The audit by days.
    pub shelf: Arc<dyn AuditShelf>,
    /// Days that have left the audit.
    pub archive: Arc<archive::Archive>,
    /// Legal holds and erasures.
    pub holds: Arc<dyn HoldBook>,
    /// Every event of the last days.
    pub recent: Arc<Recent>,
    /// Alert rules.
    pub rules: Arc<dyn RuleBook>,
    /// Development hosts and device teams.
    pub inventory: Arc<dyn Inventory>,
    /// Many changes of rules, hosts, teams, settings and targets as one.
    pub edits: Arc<dyn ConfigEdits>,
    /// Users and sessions.
    pub accounts: Arc<dyn Accounts>,
    /// API keys.
    pub api_keys: Arc<dyn ApiKeys>,
    /// Who changed what.
    pub changes: Arc<dyn ChangeLog>,
    /// Requests that may come again.
    pub repeats: Arc<dyn Repeats>,
    /// Counters of unhandled events.
    pub unhandled: Arc<dyn Unhandled>,
    /// What the service levels counted.
    pub levels: Arc<dyn Levels>,
}

impl Stores {
    /// Like [`Stores::open_with`], with the audit's usual settings.
    pub fn open(dir: &Path, clock: Clock, recent: Live<RecentSettings>) -> StoreResult<Self> {
        Self::open_with(dir, clock, recent, Live::constant(AuditSettings::default()))
    }

    /// Opens the embedded stores in `dir`, which is made if it is not there: `config.db`, `state.db`, `levels.db`, `audit/`, `recent/`; the archive lies beside it.
    /// Blocks for as long as the disk takes; call it before there is anything to serve.
    pub fn open_with(
        dir: &Path,
        clock: Clock,
        recent: Live<RecentSettings>,
        audit: Live<AuditSettings>,
    ) -> StoreResult<Self> {
        std::fs::create_dir_all(dir).map_err(|error| StoreError::Unavailable {
            store: dir.display().to_string(),
            why: format!("the folder cannot be made: {error}"),
        })?;
        let config = Arc::new(sqlite::ConfigDb::open(&dir.join(CONFIG_DB), clock.clone())?);
        let audit = Arc::new(sqlite::AuditDb::open_with(&dir.join("audit"), clock.clone(), audit)?);
        let key = sqlite::TrailKey::read(dir);
        Ok(Self {
            archive: Arc::new(archive::Archive::open(&archive_folder(dir), key, clock.clone())?),
            holds: Arc::clone(&config) as Arc<dyn HoldBook>,
            shelf: Arc::clone(&audit) as Arc<dyn AuditShelf>,
            audit,
            levels: Arc::new(sqlite::LevelsDb::open(&dir.join("levels.db"), &clock)?),
            recent: Arc::new(Recent::open(&dir.join("recent"), clock.clone(), recent)?),
            unhandled: Arc::new(sqlite::UnhandledDb::open(&dir.join("state.db"), clock)?),
            edits: Arc::clone(&config) as Arc<dyn ConfigEdits>,
            rules: Arc::clone(&config) as Arc<dyn RuleBook>,
            inventory: Arc::clone(&config) as Arc<dyn Inventory>,
            accounts: Arc::clone(&config) as Arc<dyn Accounts>,
            api_keys: Arc::clone(&config) as Arc<dyn ApiKeys>,
            repeats: Arc::clone(&config) as Arc<dyn Repeats>,
            changes: config,
        })
    }

    /// Finishes every write and tidies up. All stores are closed even if one fails; the first failure is told.
    pub async fn close(&self) -> StoreResult<()> {
        let results = [
            self.audit.close().await,
            self.unhandled.close().await,
            self.levels.close().await,
            self.rules.close().await,
            self.recent.close().await,
        ];
        results.into_iter().collect()
    }
}
