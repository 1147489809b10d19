//! When retention runs: once a day at an hour of local time, and as soon as possible when that was missed. Pure.
//!
//! The hour of a day may be there twice (clocks go back: the first counts) or not at all (clocks go forward: the next
//! moment that exists counts). So a day has exactly one moment, whatever the zone does.

use std::time::Duration;

use chrono::{DateTime, Days, Local, MappedLocalTime, NaiveDate, NaiveDateTime, TimeZone as _, Utc};

use crate::model::Timestamp;

/// A recorded run this far in the future was recorded by a clock that was wrong.
const WRONG: Duration = Duration::from_hours(24);

/// Resolves a local time.
type Resolve<'a> = &'a dyn Fn(NaiveDateTime) -> MappedLocalTime<DateTime<Utc>>;

/// When the run of a day is due.
fn slot(day: NaiveDate, hour: u32, resolve: Resolve<'_>) -> Option<Timestamp> {
    let begin = day.and_hms_opt(hour, 0, 0)?;
    // Zones leave out an hour, some half of one, one left out a whole day.
    let mut quarter = 0;
    loop {
        match resolve(begin + chrono::TimeDelta::minutes(15 * quarter)) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => return Some(Timestamp::from(at)),
            MappedLocalTime::None if quarter < 4 * 24 => quarter += 1,
            MappedLocalTime::None => return None,
        }
    }
}

/// The last moment up to now at which a run was due, and the next one.
fn slots(now: Timestamp, today: NaiveDate, hour: u32, resolve: Resolve<'_>) -> (Option<Timestamp>, Option<Timestamp>) {
    let days = [today.checked_sub_days(Days::new(1)), Some(today), today.checked_add_days(Days::new(1))];
    let further = today.checked_add_days(Days::new(2));
    let slots: Vec<Timestamp> =
        days.into_iter().chain([further]).flatten().filter_map(|day| slot(day, hour, resolve)).collect();
    let last = slots.iter().copied().filter(|slot| *slot <= now).max();
    let next = slots.iter().copied().filter(|slot| *slot > now).min();
    (last, next)
}

/// Whether a run is due now, and when the next one is.
fn judge(
    last_run: Option<Timestamp>,
    now: Timestamp,
    today: NaiveDate,
    hour: u32,
    resolve: Resolve<'_>,
) -> (bool, Option<Timestamp>) {
    let (last_slot, next) = slots(now, today, hour, resolve);
    let due = match (last_run, last_slot) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(run), Some(slot)) => run < slot || run > now.plus(WRONG),
    };
    (due, next)
}

/// Whether a run is due now, and when the next one is, by this machine's time zone.
pub(super) fn due(last_run: Option<Timestamp>, now: Timestamp, hour: u32) -> (bool, Option<Timestamp>) {
    let today = now.to_utc().with_timezone(&Local).date_naive();
    let resolve = |local: NaiveDateTime| Local.from_local_datetime(&local).map(|at| at.with_timezone(&Utc));
    judge(last_run, now, today, hour, &resolve)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn utc(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a time")
    }

    /// Central European time in 2026: +1 h, from 29 March 01:00 UTC to 25 October 01:00 UTC +2 h.
    fn berlin(local: NaiveDateTime) -> MappedLocalTime<DateTime<Utc>> {
        let summer = utc("2026-03-29T01:00:00Z").to_utc()..utc("2026-10-25T01:00:00Z").to_utc();
        let (winter_time, summer_time) = (local.and_utc() - TimeDelta::hours(1), local.and_utc() - TimeDelta::hours(2));
        match (summer.contains(&summer_time), !summer.contains(&winter_time)) {
            (true, true) => MappedLocalTime::Ambiguous(summer_time, winter_time),
            (true, false) => MappedLocalTime::Single(summer_time),
            (false, true) => MappedLocalTime::Single(winter_time),
            (false, false) => MappedLocalTime::None,
        }
    }

    fn check(last_run: Option<&str>, now: &str, due: bool, next: &str) {
        let now = utc(now);
        let offset = if (utc("2026-03-29T01:00:00Z")..utc("2026-10-25T01:00:00Z")).contains(&now) { 2 } else { 1 };
        let today = (now.to_utc() + TimeDelta::hours(offset)).date_naive();
        let judged = judge(last_run.map(utc), now, today, 2, &berlin);
        assert_eq!(judged, (due, Some(utc(next))), "last run {last_run:?}, now {now}");
    }

    #[test]
    fn it_runs_once_a_day_and_catches_up() {
        check(None, "2026-06-10T05:00:00Z", true, "2026-06-11T00:00:00Z");
        check(Some("2026-06-10T00:00:01Z"), "2026-06-10T05:00:00Z", false, "2026-06-11T00:00:00Z");
        check(Some("2026-06-10T00:00:01Z"), "2026-06-10T23:59:59Z", false, "2026-06-11T00:00:00Z");
        check(Some("2026-06-10T00:00:01Z"), "2026-06-11T00:00:00Z", true, "2026-06-12T00:00:00Z");
        check(Some("2026-05-01T00:00:01Z"), "2026-06-11T13:00:00Z", true, "2026-06-12T00:00:00Z");
    }

    #[test]
    fn a_day_whose_hour_is_missing_or_there_twice_has_one_run() {
        // On 29 March 02:00 does not exist; the run is at 03:00, which is 01:00 UTC.
        check(Some("2026-03-28T01:00:01Z"), "2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z");
        check(Some("2026-03-28T01:00:01Z"), "2026-03-29T01:00:00Z", true, "2026-03-30T00:00:00Z");
        // On 25 October 02:00 comes twice; the first is 00:00 UTC.
        check(Some("2026-10-24T00:00:01Z"), "2026-10-25T00:00:00Z", true, "2026-10-26T01:00:00Z");
        check(Some("2026-10-25T00:00:01Z"), "2026-10-25T01:00:00Z", false, "2026-10-26T01:00:00Z");
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_stop_the_runs() {
        check(Some("2027-06-10T00:00:01Z"), "2026-06-11T13:00:00Z", true, "2026-06-12T00:00:00Z");
        check(Some("2026-06-11T14:00:00Z"), "2026-06-11T13:00:00Z", false, "2026-06-12T00:00:00Z");
    }
}
