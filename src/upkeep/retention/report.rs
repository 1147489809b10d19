//! What a run did, or would do; and what is remembered from run to run. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{Day, Timestamp};
use crate::store::Hold;

/// Entries of one list that are kept; what is beyond is only counted.
const MOST_LISTED: usize = 1_000;

/// A day that was archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedDay {
    /// The day.
    pub day: Day,
    /// Events.
    pub rows: u64,
    /// The files they went into; none in a dry run.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// An archive that was deleted or rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredFile {
    /// The file.
    pub name: String,
    /// Why: `expired` or `cap`.
    pub reason: String,
    /// Events that went.
    pub rows: u64,
    /// Events that stay because a hold covers them.
    pub held: u64,
}

/// What a run did; in a dry run, what it would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Who asked for it: `retention` for the daily run.
    pub by: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The first day that stays in the audit by age.
    pub keeps_events_from: Option<Day>,
    /// The first day that stays in the archive by age.
    pub keeps_archives_from: Option<Day>,
    /// Files of an interrupted run whose events were still in the audit: finished now.
    pub settled: u64,
    /// Days that were archived, oldest first; a thousand at most are listed.
    pub archived: Vec<ArchivedDay>,
    /// Events in them.
    pub archived_rows: u64,
    /// Their bytes as archives.
    pub archived_bytes: u64,
    /// Archives that went, oldest first; a thousand at most are listed.
    pub deleted: Vec<ExpiredFile>,
    /// Events in them.
    pub deleted_rows: u64,
    /// Restored archives whose time was up.
    pub returned: Vec<String>,
    /// Erasures that were carried out.
    pub erasures: u64,
    /// Files of the audit that were empty and were deleted.
    pub dropped: Vec<String>,
    /// Lines that left the change log.
    pub change_lines: u64,
    /// Archives that were read and compared.
    pub verified: u64,
    /// Archives that are not what they were.
    pub damaged: Vec<String>,
    /// What was put off, and why.
    pub postponed: Vec<String>,
    /// What went wrong; what it concerns is tried again by the next run.
    pub faults: Vec<String>,
}

impl Report {
    /// Whether everything went as it should.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.damaged.is_empty()
    }

    pub(super) fn add_day(&mut self, day: ArchivedDay) {
        self.archived_rows += day.rows;
        self.archived_bytes += day.bytes;
        if self.archived.len() < MOST_LISTED {
            self.archived.push(day);
        }
    }

    pub(super) fn add_expired(&mut self, file: ExpiredFile) {
        self.deleted_rows += file.rows;
        if self.deleted.len() < MOST_LISTED {
            self.deleted.push(file);
        }
    }

    pub(super) fn fault(&mut self, fault: String) {
        if self.faults.len() < MOST_LISTED {
            self.faults.push(fault);
        }
    }
}

/// How near a cap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nearness {
    /// There is no cap, or it is far.
    #[default]
    Far,
    /// More than 80 % are used: something will have to go before its time.
    Near,
    /// Something went before its time.
    Bit,
}

/// What is remembered from run to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// When the last run began that was no dry run.
    pub(super) last_run: Option<Timestamp>,
    /// The day it took for today.
    pub(super) last_day: Option<Day>,
    /// That day, if the run did not believe it.
    pub(super) unusual_day: Option<Day>,
    /// What it did.
    pub(super) report: Report,
    /// What people were last told about the audit's cap.
    pub(super) audit: Nearness,
    /// And about the archive's.
    pub(super) archive: Nearness,
    /// Whether people were told that runs fail.
    pub(super) failing: bool,
    /// Whether the last run could not begin, so that it is tried again at the next start.
    pub(super) unbegun: bool,
    /// When each archive was last read as a whole, by name.
    pub(super) checked: BTreeMap<String, ArchiveCheck>,
    /// Which holds keep expired archives, by name.
    pub(super) held: BTreeMap<String, HeldFile>,
}

/// Which holds keep all that is in an expired archive. As long as each of them is in force, it need not be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldFile {
    /// The file's SHA-256.
    pub(super) sha256: String,
    /// The holds.
    pub(super) by: BTreeSet<HoldMark>,
}

/// A hold, told from every other one, also if its number was given twice because an older configuration was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct HoldMark {
    id: i64,
    placed_at: Timestamp,
}

impl HoldMark {
    pub(super) fn of(hold: &Hold) -> Self {
        Self { id: hold.id, placed_at: hold.placed_at }
    }
}

/// That an archive was read as a whole and compared with the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveCheck {
    /// When.
    pub at: Timestamp,
    /// What did not fit; `None` if it was what it should be.
    pub fault: Option<String>,
}
