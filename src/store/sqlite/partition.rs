//! Months and the parts they come in, and the names of their files. Pure: it knows no file, only what one is called.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate};

use crate::model::EventId;

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

    /// The month an event belongs to: that of its id's time, which is the time it was received. What the device says
    /// about its own clock has no part in it.
    pub(super) fn of(id: EventId) -> Self {
        Self::of_millis(id.millis())
    }

    /// The one after.
    pub(super) fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }

    /// The one `count` months later.
    pub(super) fn plus(self, count: u32) -> Self {
        (0..count).fold(self, |month, _| month.next())
    }

    /// Its first millisecond since 1970.
    pub(super) fn start_millis(self) -> i64 {
        let first = NaiveDate::from_ymd_opt(self.year, self.month, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
        first.map_or(0, |first| first.and_utc().timestamp_millis())
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

/// One file of the audit: a month, or one part of it when the month outgrew a file. Parts count from 1; they ascend in
/// the order in which they were begun, so part 2 holds what was recorded after part 1 was full, late events included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition {
    /// The month.
    pub(super) month: Month,
    /// Which of the month's files.
    pub(super) part: u32,
}

impl Partition {
    /// The first part of a month.
    pub(super) fn first(month: Month) -> Self {
        Self { month, part: 1 }
    }

    /// The part that comes after this one in its month.
    pub(super) fn next_part(self) -> Self {
        Self { part: self.part.saturating_add(1), ..self }
    }

    /// `events-2026-03.db` for the first part of a month, `events-2026-03.2.db` for the second.
    pub(super) fn file_name(self) -> String {
        format!("events-{self}.db")
    }

    /// The partition of a file, if it is one of ours.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let text = name.strip_prefix("events-")?.strip_suffix(".db")?;
        let parsed = match text.split_once('.') {
            None => Self::first(text.parse().ok()?),
            Some((month, part)) => {
                Self { month: month.parse().ok()?, part: part.parse().ok().filter(|part| *part > 1)? }
            }
        };
        (parsed.to_string() == text).then_some(parsed)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            1 => self.month.fmt(f),
            part => write!(f, "{}.{part}", self.month),
        }
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
    fn a_partition_and_its_file_name_belong_together() {
        let december = Month::of_millis(1_798_761_599_999);
        assert_eq!(december.start_millis(), 1_796_083_200_000);
        assert_eq!(Month::of_millis(december.next().start_millis() - 1), december);
        let first = Partition::first(december);
        let check = |name: &str, expected: Option<Partition>| {
            assert_eq!(Partition::of_file(name), expected, "{name}");
            if let Some(partition) = expected {
                assert_eq!(partition.file_name(), name);
            }
        };
        check("events-2026-12.db", Some(first));
        check("events-2026-12.2.db", Some(first.next_part()));
        check("events-2026-12.17.db", Some(Partition { month: december, part: 17 }));
        check("events-2027-01.db", Some(Partition::first(december.next())));
        assert!(first < first.next_part() && first.next_part() < Partition::first(december.next()));
        for name in [
            "events-2026-13.db",
            "events-2026-1.db",
            "events-2026-12.1.db",
            "events-2026-12.0.db",
            "events-2026-12.02.db",
            "events-2026-12.2.3.db",
            "events-2026-12.x.db",
            "events-2026-12.db-wal",
            "events-2026-12.2.db.damaged-1",
            "x",
        ] {
            check(name, None);
        }
    }
}
