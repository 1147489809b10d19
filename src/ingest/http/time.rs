//! Device times as JSON senders write them: RFC 3339, epochs in any common unit, the usual log formats.
//!
//! Pure functions. What is not understood is `None`; the event is then taken without a device time.

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDate, NaiveDateTime, TimeZone};

use crate::model::Timestamp;

/// Formats that name their zone by an offset.
const WITH_OFFSET: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f %z", "%d/%b/%Y:%H:%M:%S %z"];

/// Formats that name no zone.
const WITHOUT_ZONE: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y/%m/%d %H:%M:%S%.f", "%b %d %Y %H:%M:%S%.f"];

/// The longest text looked at, in bytes: no time stamp is longer.
const MAX_TEXT: usize = 64;

/// A time given as text. `zone` is the zone of times that name none; `None` means the system's. `now` gives the year
/// where the text has none.
pub(super) fn from_text(text: &str, zone: Option<FixedOffset>, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TEXT {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return from_number(text);
    }
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Some(time);
    }
    if let Some(time) = WITH_OFFSET.iter().find_map(|format| DateTime::parse_from_str(text, format).ok()) {
        return Some(Timestamp::from_micros(time.timestamp_micros()));
    }
    if let Ok(time) = DateTime::parse_from_rfc2822(text) {
        return Some(Timestamp::from_micros(time.timestamp_micros()));
    }
    for suffix in [" UTC", " GMT", "Z", " Z"] {
        if let Some(naive) = text.strip_suffix(suffix).and_then(parse_naive) {
            return Some(Timestamp::from_micros(naive.and_utc().timestamp_micros()));
        }
    }
    parse_naive(text).and_then(|naive| in_zone(naive, zone)).or_else(|| without_year(text, zone, now))
}

/// Commas before fractions are what Python's logging writes.
fn parse_naive(text: &str) -> Option<NaiveDateTime> {
    let text = text.replace(',', ".");
    if let Some(time) = WITHOUT_ZONE.iter().find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok()) {
        return Some(time);
    }
    NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0))
}

/// A time the clock shows twice is taken as the first; one it skips is unknown.
fn in_zone(naive: NaiveDateTime, zone: Option<FixedOffset>) -> Option<Timestamp> {
    let micros = match zone {
        Some(zone) => zone.from_local_datetime(&naive).earliest()?.timestamp_micros(),
        None => Local.from_local_datetime(&naive).earliest()?.timestamp_micros(),
    };
    Some(Timestamp::from_micros(micros))
}

/// `Mar  1 12:00:00`: the year that brings it nearest to now, as for syslog.
fn without_year(text: &str, zone: Option<FixedOffset>, now: Timestamp) -> Option<Timestamp> {
    let this_year = now.to_utc().year();
    let distance = |time: &Timestamp| time.since(now).max(now.since(*time));
    (this_year - 1..=this_year + 1)
        .filter_map(|year| NaiveDateTime::parse_from_str(&format!("{year} {text}"), "%Y %b %d %H:%M:%S%.f").ok())
        .filter_map(|naive| in_zone(naive, zone))
        .min_by_key(distance)
}

/// A time given as a JSON number since 1970: seconds, milliseconds, microseconds or nanoseconds, told apart by size
/// (seconds reach 100,000,000,000 in the year 5138, milliseconds passed it in 1973).
pub(super) fn from_number(text: &str) -> Option<Timestamp> {
    let Some((whole, fraction)) = split_decimal(text) else {
        let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
        // An exponent is written by programs that print floats; their precision is a float's anyway.
        return from_number(&format!("{number:.6}")).filter(|_| number < 1e18);
    };
    let whole: i64 = whole.parse().ok()?;
    // The first fraction digits that make six with the unit's own: exact, where a float would lose microseconds.
    let (scale, digits) = match whole {
        0..100_000_000_000 => (1_000_000, 6),
        100_000_000_000..100_000_000_000_000 => (1_000, 3),
        100_000_000_000_000..100_000_000_000_000_000 => (1, 0),
        100_000_000_000_000_000.. => return Some(Timestamp::from_micros(whole / 1_000)),
        _ => return None,
    };
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(digits).collect();
    let micros = whole.checked_mul(scale)?.checked_add(fraction.parse().unwrap_or(0))?;
    Some(Timestamp::from_micros(micros))
}

/// `12.5` as `12` and `5`; `None` if there is anything but digits and one point.
fn split_decimal(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && digits(whole) && digits(fraction)).then_some((whole, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let now = Timestamp::parse_rfc3339("2026-01-02T00:00:00Z").expect("a time");
        let found = from_text(text, FixedOffset::east_opt(3600), now).map(|time| time.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn the_usual_forms_are_understood() {
        for (text, expected) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
            ("2026-03-01T12:00:00.123456+01:00", "2026-03-01T11:00:00.123456Z"),
            ("2026-03-01T12:00:00+0100", "2026-03-01T11:00:00Z"),
            ("2026-03-01 12:00:00", "2026-03-01T11:00:00Z"),
            ("2026-03-01T12:00:00.5", "2026-03-01T11:00:00.500Z"),
            ("2026-03-01 12:00:00,250", "2026-03-01T11:00:00.250Z"),
            ("2026-03-01 12:00:00 UTC", "2026-03-01T12:00:00Z"),
            ("2026/03/01 12:00:00", "2026-03-01T11:00:00Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("Sun, 01 Mar 2026 12:00:00 +0000", "2026-03-01T12:00:00Z"),
            ("01/Mar/2026:12:00:00 +0000", "2026-03-01T12:00:00Z"),
            ("Dec 31 23:00:00", "2025-12-31T22:00:00Z"),
            ("Jan  3 00:00:00", "2026-01-02T23:00:00Z"),
            ("1772366400", "2026-03-01T12:00:00Z"),
            ("1772366400.25", "2026-03-01T12:00:00.250Z"),
            ("1772366400123", "2026-03-01T12:00:00.123Z"),
            ("1772366400123456", "2026-03-01T12:00:00.123456Z"),
            ("1772366400123456789", "2026-03-01T12:00:00.123456Z"),
        ] {
            check(text, Some(expected));
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in ["", "soon", "2026-13-01T00:00:00Z", "1.2.3", ".", "99999999999999999999", "2026-02-30 12:00:00"] {
            check(text, None);
        }
    }

    #[test]
    fn numbers_may_have_exponents_but_not_signs() {
        let time = |text: &str| from_number(text).map(|time| time.to_string());
        assert_eq!(time("1.7723664e9").as_deref(), Some("2026-03-01T12:00:00Z"));
        assert_eq!(time("-1"), None);
        assert_eq!(time("1e300"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,70}") {
            let _ = from_text(&text, None, Timestamp::from_millis(0));
            let _ = from_number(&text);
        }
    }
}
