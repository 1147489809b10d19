//! Months, their files, and where in a file an event lies. Pure except for [`Months`], which knows the files there are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chrono::{DateTime, Datelike};
use parking_lot::Mutex;

use super::worker::Readers;
use crate::model::EventId;

/// Ordinals tried for an event whose own is taken by another one.
pub(super) const PROBES: i64 = 64;

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// The month of a time in milliseconds since 1970; times outside the calendar fall into January 1970.
    pub(super) fn of_millis(millis: i64) -> Self {
        let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
        Self { year: time.year(), month: time.month() }
    }

    /// The month an event belongs to: that of its id's time.
    pub(super) fn of(id: EventId) -> Self {
        Self::of_millis(id.millis())
    }

    /// The one after.
    pub(super) fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }

    /// `events-2026-03.db`
    pub(super) fn file_name(self) -> String {
        format!("events-{self}.db")
    }

    /// The month of a file, if it is one of ours.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        name.strip_prefix("events-")?.strip_suffix(".db")?.parse().ok()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (year, month) = text.rsplit_once('-').ok_or(())?;
        let parsed = Self { year: year.parse().map_err(|_| ())?, month: month.parse().map_err(|_| ())? };
        if (1..=12).contains(&parsed.month) && parsed.to_string() == text { Ok(parsed) } else { Err(()) }
    }
}

/// A month's file, for readers.
#[derive(Debug)]
pub(super) struct MonthFile {
    pub(super) month: Month,
    pub(super) readers: Arc<Readers>,
    /// Whether damage in it was logged: once a file and process is enough.
    pub(super) damage_told: AtomicBool,
}

/// The files there are, shared by the writer and the readers.
#[derive(Debug)]
pub(super) struct Months {
    folder: PathBuf,
    files: Mutex<BTreeMap<Month, Arc<MonthFile>>>,
}

impl Months {
    /// Looks which files there are.
    pub(super) fn scan(folder: &Path) -> std::io::Result<Self> {
        let months = Self { folder: folder.to_owned(), files: Mutex::new(BTreeMap::new()) };
        for entry in std::fs::read_dir(folder)? {
            if let Some(month) = entry?.file_name().to_str().and_then(Month::of_file) {
                months.add(month);
            }
        }
        Ok(months)
    }

    /// Where a month's file is or would be.
    pub(super) fn path(&self, month: Month) -> PathBuf {
        self.folder.join(month.file_name())
    }

    /// A file was made (again); readers of one that was there before are let go.
    pub(super) fn add(&self, month: Month) {
        let readers = Arc::new(Readers::new(self.path(month), month.file_name()));
        let file = MonthFile { month, readers, damage_told: AtomicBool::new(false) };
        self.files.lock().insert(month, Arc::new(file));
    }

    /// Whether there is a file.
    pub(super) fn has(&self, month: Month) -> bool {
        self.files.lock().contains_key(&month)
    }

    /// A month's file, if there is one.
    pub(super) fn get(&self, month: Month) -> Option<Arc<MonthFile>> {
        self.files.lock().get(&month).cloned()
    }

    /// All files, newest month first.
    pub(super) fn newest_first(&self) -> Vec<Arc<MonthFile>> {
        self.files.lock().values().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventIds, Timestamp};

    #[test]
    fn ordinals_ascend_like_ids_also_before_2020() {
        let ids = EventIds::new(3);
        let times = [0, 1, 1_500, 1_577_836_799_999, 1_577_836_800_000, 1_790_000_000_000, 3_700_000_000_000];
        let made: Vec<EventId> =
            times.iter().flat_map(|millis| [*millis; 3]).map(|m| ids.next(Timestamp::from_millis(m))).collect();
        for pair in made.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].ordinal() < pair[1].ordinal(), "{} {}", pair[0], pair[1]);
        }
        for id in made {
            assert!(EventId::floor(id.ordinal()) <= id);
            assert!(EventId::floor(id.ordinal() + 1) > id);
            assert_eq!(EventId::floor(id.ordinal()).ordinal(), id.ordinal());
        }
    }

    #[test]
    fn a_month_and_its_file_name_belong_together() {
        let december = Month::of_millis(1_798_761_599_999);
        assert_eq!(december.file_name(), "events-2026-12.db");
        assert_eq!(Month::of_file("events-2026-12.db"), Some(december));
        assert_eq!(december.next().file_name(), "events-2027-01.db");
        for name in
            ["events-2026-13.db", "events-2026-1.db", "events-2026-12.db-wal", "events-2026-12.db.damaged-1", "x"]
        {
            assert_eq!(Month::of_file(name), None, "{name}");
        }
    }
}
