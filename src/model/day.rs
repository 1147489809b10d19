//! A calendar day in UTC: what retention counts in. Pure.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{EventId, InvalidName, Timestamp};

/// Milliseconds of a day; UTC as computers count it has no leap seconds.
const DAY_MS: i64 = 86_400_000;

/// A day, by its number since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day of a moment.
    pub const fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(DAY_MS))
    }

    /// The day an event belongs to: that of its id's time, which is when it was received.
    pub fn of_event(id: EventId) -> Self {
        Self(id.millis().div_euclid(DAY_MS))
    }

    /// Its first moment.
    pub const fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(DAY_MS))
    }

    /// So many days later, or earlier if negative.
    #[must_use]
    pub const fn plus(self, days: i64) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// Whole days from `earlier` to this one; negative if that is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The calendar year.
    pub fn year(self) -> i32 {
        self.date().year()
    }

    /// The day of the month, from 1.
    pub fn day_of_month(self) -> u32 {
        self.date().day()
    }

    fn date(self) -> NaiveDate {
        DateTime::from_timestamp_millis(self.0.saturating_mul(DAY_MS)).unwrap_or_default().date_naive()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.date();
        write!(f, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
    }
}

impl FromStr for Day {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| InvalidName {
            kind: "day",
            text: text.chars().take(40).collect(),
            why: "write it as 2026-01-31",
        })?;
        let start = date.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
        Ok(Self::of(Timestamp::from(start)))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc_and_ends_before_the_next() {
        let check = |millis: i64, text: &str| {
            let day = Day::of(Timestamp::from_millis(millis));
            assert_eq!(day.to_string(), text);
            assert_eq!(text.parse::<Day>().expect("its own text"), day);
            assert!(day.start().as_millis() <= millis && millis < day.plus(1).start().as_millis());
        };
        check(0, "1970-01-01");
        check(-1, "1969-12-31");
        check(1_798_761_599_999, "2026-12-31");
        check(1_798_761_600_000, "2027-01-01");
        check(1_709_164_800_000, "2024-02-29");
        assert!("2026-02-30".parse::<Day>().is_err() && "x".parse::<Day>().is_err());
    }
}
