//! Time stamps as devices write them: with or without year, zone and fraction, in the order their makers liked.
//!
//! A stamp that has the shape of one but names no real moment (30 February) is [`Moment::Bad`]: it is passed over, so
//! that the rest of the header is still understood. Nothing here keeps state or reads a clock; "now" is handed in.

use std::cell::Cell;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Local, Offset, TimeZone};

use super::cursor::Cursor;
use crate::model::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

/// Zone names that devices print, with their offset in minutes. Where a name means several zones, the one of the
/// makers' home country (RFC 822 section 5.1 for the American ones).
const ZONES: [(&str, i32); 38] = [
    ("UTC", 0),
    ("GMT", 0),
    ("UCT", 0),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("MET", 60),
    ("CEST", 120),
    ("MEST", 120),
    ("EET", 120),
    ("SAST", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("PKT", 300),
    ("IST", 330),
    ("SGT", 480),
    ("HKT", 480),
    ("AWST", 480),
    ("JST", 540),
    ("KST", 540),
    ("ACST", 570),
    ("AEST", 600),
    ("ACDT", 630),
    ("AEDT", 660),
    ("NZST", 720),
    ("NZDT", 780),
    ("BRT", -180),
    ("AST", -240),
    ("EDT", -240),
    ("EST", -300),
    ("CDT", -300),
    ("CST", -360),
    ("MDT", -360),
    ("MST", -420),
    ("PDT", -420),
    ("PST", -480),
    ("HST", -600),
];

/// The stamp resolved last and its moment, both without the fraction: messages that come together mostly bear the same
/// second, and the calendar and the system's zone cost more than the rest of a header. Good for one "now" and one zone.
#[derive(Debug, Clone, Default)]
pub struct Memo(Cell<Option<(Parts, Moment)>>);

/// What a stamp needs to become a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference<'m> {
    /// What was resolved with the same zone and now.
    pub(super) memo: &'m Memo,
    /// Zone of stamps that name none; `None` for the system's.
    pub(super) zone: Option<FixedOffset>,
    /// Decides the year of stamps that have none.
    pub(super) now: Timestamp,
    /// Whether the text is only what stands before a Cisco mnemonic.
    pub(super) before_mnemonic: bool,
}

/// What was found where a time stamp stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// A moment.
    Known(Timestamp),
    /// The shape of a time stamp, but no such moment exists.
    Bad,
}

/// Which zone a stamp names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    /// None, or one we do not know.
    Unnamed,
    /// Seconds east of Greenwich.
    East(i64),
    /// An offset no place on Earth has.
    Bad,
}

/// A stamp's parts as written, not yet checked against the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    year: Option<i64>,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
    zone: Zone,
}

#[derive(Debug, Clone, Copy)]
struct Date {
    year: Option<i64>,
    month: u32,
    day: u32,
}

/// Reads a time stamp of any form in use, its zone included, and moves behind it. `None` (and no move) when the text does
/// not have the shape of one.
pub(super) fn read(cursor: &mut Cursor<'_>, reference: &Reference<'_>) -> Option<Moment> {
    let mut ahead = *cursor;
    let first = ahead.peek()?;
    let (date, iso) = if first.is_ascii_digit() { digit_date(&mut ahead)? } else { (month_date(&mut ahead)?, false) };
    let mut parts = clock_time(&mut ahead, date)?;
    if iso {
        parts.zone = attached_zone(&mut ahead);
    }
    zone_and_year(&mut ahead, &mut parts, reference.before_mnemonic);
    if !ahead.at_word_end() {
        return None;
    }
    *cursor = ahead;
    Some(parts.resolve(reference))
}

/// Reads the time stamp of RFC 5424 section 6.2.3 and moves behind it; a missing zone is forgiven.
pub(super) fn read_rfc5424(cursor: &mut Cursor<'_>, reference: &Reference<'_>) -> Option<Moment> {
    let mut ahead = *cursor;
    let date = iso_date(&mut ahead)?;
    let mut parts = clock_time(&mut ahead, date)?;
    parts.zone = attached_zone(&mut ahead);
    if ahead.peek().is_some_and(|byte| byte != b' ') {
        return None;
    }
    *cursor = ahead;
    Some(parts.resolve(reference))
}

/// Reads seconds since 1970 with an optional fraction, as Meraki devices send, and moves behind them.
pub(super) fn read_epoch(cursor: &mut Cursor<'_>) -> Option<Moment> {
    let mut ahead = *cursor;
    // Nine digits reach back to 1973, ten forward to 2286.
    let (seconds, digits) = ahead.number(10)?;
    if digits < 9 {
        return None;
    }
    let micros = fraction(&mut ahead);
    if !ahead.at_word_end() {
        return None;
    }
    *cursor = ahead;
    Some(Moment::Known(Timestamp::from_micros(i64::from(seconds) * MICROS_PER_SECOND + i64::from(micros))))
}

/// Moves over an uptime stamp that a colon ends (`00:00:46:`, `2d03h:`, `1y12w:`); it says nothing about the moment.
pub(super) fn skip_uptime(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = *cursor;
    let mut units = 0;
    while let Some(digits) = leading_digits(&ahead) {
        match ahead.peek_after(digits) {
            Some(b'y' | b'w' | b'd' | b'h' | b'm' | b's') => ahead.skip(digits + 1),
            _ => break,
        }
        units += 1;
    }
    if units == 0 {
        let date = Date { year: None, month: 1, day: 1 };
        if clock_time(&mut ahead, date).is_none() {
            return false;
        }
    }
    if ahead.peek() != Some(b':') {
        return false;
    }
    *cursor = ahead;
    true
}

fn leading_digits(cursor: &Cursor<'_>) -> Option<usize> {
    let count = cursor.rest().bytes().take(6).take_while(u8::is_ascii_digit).count();
    (count > 0).then_some(count)
}

/// `yyyy Mmm dd`, `dd Mmm yyyy` or an ISO date (then `true`).
fn digit_date(cursor: &mut Cursor<'_>) -> Option<(Date, bool)> {
    let mut ahead = *cursor;
    if let Some(date) = iso_date(&mut ahead) {
        *cursor = ahead;
        return Some((date, true));
    }
    let (number, digits) = cursor.number(4)?;
    let separated = cursor.skip_blanks() || cursor.eat(b'-');
    if !separated {
        return None;
    }
    let month = month_name(cursor)?;
    if !(cursor.skip_blanks() || cursor.eat(b'-')) {
        return None;
    }
    let (other, other_digits) = cursor.number(4)?;
    if !cursor.skip_blanks() {
        return None;
    }
    match (digits, other_digits) {
        (4, 1 | 2) => Some((Date { year: Some(i64::from(number)), month, day: other }, false)),
        (1 | 2, 4) => Some((Date { year: Some(i64::from(other)), month, day: number }, false)),
        _ => None,
    }
}

/// `yyyy-mm-dd` or `yyyy/mm/dd`, with the `T` or blanks after it.
fn iso_date(cursor: &mut Cursor<'_>) -> Option<Date> {
    let (year, digits) = cursor.number(4)?;
    let separator = cursor.peek().filter(|byte| digits == 4 && matches!(byte, b'-' | b'/'))?;
    cursor.skip(1);
    let (month, _) = cursor.number(2)?;
    if !cursor.eat(separator) {
        return None;
    }
    let (day, _) = cursor.number(2)?;
    let divided = cursor.eat(b'T') || cursor.eat(b't') || cursor.skip_blanks();
    divided.then_some(Date { year: Some(i64::from(year)), month, day })
}

/// `Mmm dd` or `Mmm dd yyyy`, perhaps after a weekday, with the blanks after it.
fn month_date(cursor: &mut Cursor<'_>) -> Option<Date> {
    let month = match month_name(cursor) {
        Some(month) => month,
        None if skip_weekday(cursor) => {
            cursor.eat(b',');
            cursor.skip_blanks();
            month_name(cursor)?
        }
        None => return None,
    };
    if !cursor.skip_blanks() {
        return None;
    }
    let (day, _) = cursor.number(2)?;
    cursor.eat(b',');
    if !cursor.skip_blanks() {
        return None;
    }
    let mut ahead = *cursor;
    if let Some((year, 4)) = ahead.number(4)
        && ahead.skip_blanks()
    {
        *cursor = ahead;
        return Some(Date { year: Some(i64::from(year)), month, day });
    }
    Some(Date { year: None, month, day })
}

/// Three letters in lower case, which no further letter or digit follows.
fn three_letters(cursor: &Cursor<'_>) -> Option<[u8; 3]> {
    let letters: [u8; 3] = cursor.rest().as_bytes().get(..3)?.try_into().ok()?;
    let alone = !cursor.peek_after(3).is_some_and(|byte| byte.is_ascii_alphanumeric());
    alone.then(|| letters.map(|letter| letter.to_ascii_lowercase()))
}

/// The number of a month's short name, behind which it moves.
fn month_name(cursor: &mut Cursor<'_>) -> Option<u32> {
    let number = match &three_letters(cursor)? {
        b"jan" => 1,
        b"feb" => 2,
        b"mar" => 3,
        b"apr" => 4,
        b"may" => 5,
        b"jun" => 6,
        b"jul" => 7,
        b"aug" => 8,
        b"sep" => 9,
        b"oct" => 10,
        b"nov" => 11,
        b"dec" => 12,
        _ => return None,
    };
    cursor.skip(3);
    Some(number)
}

/// Moves over a weekday's short name; whether there was one.
fn skip_weekday(cursor: &mut Cursor<'_>) -> bool {
    let names = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
    let found = three_letters(cursor).is_some_and(|letters| names.contains(&&letters));
    cursor.skip(if found { 3 } else { 0 });
    found
}

/// `hh:mm:ss` with an optional fraction and AM or PM.
fn clock_time(cursor: &mut Cursor<'_>, date: Date) -> Option<Parts> {
    let (mut hour, _) = cursor.number(2)?;
    if !cursor.eat(b':') {
        return None;
    }
    let (minute, 2) = cursor.number(2)? else { return None };
    if !cursor.eat(b':') {
        return None;
    }
    let (second, 2) = cursor.number(2)? else { return None };
    // Cisco's call managers write `10:53:18 PM.213`.
    let half = match cursor.rest().as_bytes() {
        [b' ', half @ (b'A' | b'P'), b'M', b' ' | b'.' | b':', ..] => Some(*half),
        _ => None,
    };
    if let Some(half) = half {
        cursor.skip(3);
        hour = match (half, hour) {
            (b'A', 12) => 0,
            (b'P', 1..=11) => hour + 12,
            _ => hour,
        };
    }
    let micros = fraction(cursor);
    let Date { year, month, day } = date;
    Some(Parts { year, month, day, hour, minute, second, micros, zone: Zone::Unnamed })
}

/// A fraction of a second in microseconds, 0 when there is none; digits beyond the sixth are dropped.
fn fraction(cursor: &mut Cursor<'_>) -> u32 {
    let starts = matches!(cursor.peek(), Some(b'.' | b','));
    if !starts || !cursor.peek_after(1).is_some_and(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    cursor.skip(1);
    let mut micros = 0;
    let mut unit = 100_000;
    while let Some(digit) = cursor.peek().filter(u8::is_ascii_digit) {
        micros += u32::from(digit - b'0') * unit;
        unit /= 10;
        cursor.skip(1);
    }
    micros
}

/// `Z`, `+hh:mm`, `+hhmm` or `+hh` directly behind the time.
fn attached_zone(cursor: &mut Cursor<'_>) -> Zone {
    if cursor.eat(b'Z') || cursor.eat(b'z') {
        return Zone::East(0);
    }
    numeric_zone(cursor).unwrap_or(Zone::Unnamed)
}

fn numeric_zone(cursor: &mut Cursor<'_>) -> Option<Zone> {
    let sign = match cursor.peek()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let mut ahead = *cursor;
    ahead.skip(1);
    let (number, digits) = ahead.number(4)?;
    let (hours, minutes) = match digits {
        1 | 2 => {
            let mut further = ahead;
            match (further.eat(b':'), further.number(2)) {
                (true, Some((minutes, 2))) => {
                    ahead = further;
                    (number, minutes)
                }
                _ => (number, 0),
            }
        }
        4 => (number / 100, number % 100),
        _ => return None,
    };
    *cursor = ahead;
    if hours > 23 || minutes > 59 {
        return Some(Zone::Bad);
    }
    Some(Zone::East(sign * i64::from(hours * 3_600 + minutes * 60)))
}

/// A zone and a year behind the time, in either order, each only if it stands alone.
fn zone_and_year(cursor: &mut Cursor<'_>, parts: &mut Parts, before_mnemonic: bool) {
    if parts.zone == Zone::Unnamed
        && let Some(zone) = detached_zone(cursor, before_mnemonic)
    {
        parts.zone = zone;
    }
    if parts.year.is_none() {
        let mut ahead = *cursor;
        if ahead.skip_blanks()
            && let Some((year @ 1970..=2099, 4)) = ahead.number(4)
            && ahead.at_word_end()
        {
            parts.year = Some(i64::from(year));
            *cursor = ahead;
            if let Some(zone) = detached_zone(cursor, before_mnemonic).filter(|_| parts.zone == Zone::Unnamed) {
                parts.zone = zone;
            }
        }
    }
}

/// A zone after the time: an offset, `TZ-6`, a known name, or any short name that a Cisco message follows.
fn detached_zone(cursor: &mut Cursor<'_>, before_mnemonic: bool) -> Option<Zone> {
    let mut ahead = *cursor;
    let attached = !ahead.skip_blanks();
    if let Some(zone) = numeric_zone(&mut ahead)
        && ahead.at_word_end()
    {
        *cursor = ahead;
        return Some(zone);
    }
    if attached {
        return None;
    }
    // The word behind a stamp is nearly always a host; only a capital letter begins a zone that would be believed.
    if !before_mnemonic && !ahead.peek().is_some_and(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let rest = ahead.rest();
    let letters = rest.bytes().take(8).take_while(u8::is_ascii_alphabetic).count();
    let name = rest.get(..letters).filter(|name| (1..=6).contains(&name.len()))?;
    ahead.skip(letters);
    if !ahead.at_word_end() && !matches!(ahead.peek(), Some(b'+' | b'-')) {
        return None;
    }
    let same = |known: &str| known.len() == letters && known.eq_ignore_ascii_case(name);
    let known = ZONES.iter().find(|(known, _)| same(known));
    let mut zone = known.map(|(_, minutes)| Zone::East(i64::from(*minutes) * 60));
    if name == "TZ" || zone == Some(Zone::East(0)) {
        // RFC 3164 section 5.4 has `TZ-6`; others write `UTC+2`.
        zone = numeric_zone(&mut ahead).or(zone);
    }
    if !ahead.at_word_end() {
        return None;
    }
    // Without the message's mark, a word before a colon may be a program's name: only upper-case zones are believed.
    let upper = name.bytes().all(|byte| byte.is_ascii_uppercase());
    let believed = (zone.is_some() && upper && !ahead.rest().is_empty()) || (before_mnemonic && colon_is_last(ahead));
    if !believed {
        return None;
    }
    *cursor = ahead;
    Some(zone.unwrap_or(Zone::Unnamed))
}

/// Whether a colon is all that is left, blanks aside.
fn colon_is_last(mut cursor: Cursor<'_>) -> bool {
    cursor.skip_blanks();
    cursor.eat(b':') && cursor.rest().trim_ascii().is_empty()
}

impl Parts {
    fn resolve(&self, reference: &Reference<'_>) -> Moment {
        let whole = Self { micros: 0, ..*self };
        let moment = match reference.memo.0.get() {
            Some((known, moment)) if known == whole => moment,
            _ => {
                let moment = whole.calculate(reference);
                reference.memo.0.set(Some((whole, moment)));
                moment
            }
        };
        match moment {
            Moment::Known(second) => Moment::Known(second.plus(Duration::from_micros(u64::from(self.micros)))),
            Moment::Bad => Moment::Bad,
        }
    }

    fn calculate(&self, reference: &Reference<'_>) -> Moment {
        // Second 60 is a leap second; it runs into the next minute.
        let valid = self.hour < 24 && self.minute < 60 && self.second <= 60 && self.zone != Zone::Bad;
        let moment = match self.year {
            _ if !valid => None,
            Some(year) => self.in_year(year, reference),
            None => self.nearest(reference),
        };
        moment.map_or(Moment::Bad, |micros| Moment::Known(Timestamp::from_micros(micros)))
    }

    /// Microseconds since the epoch, `None` if the year has no such day.
    fn in_year(&self, year: i64, reference: &Reference<'_>) -> Option<i64> {
        if self.month == 0 || self.month > 12 || self.day == 0 || self.day > days_in_month(year, self.month) {
            return None;
        }
        let seconds = i64::from(self.hour * 3_600 + self.minute * 60 + self.second);
        let local = days_from_epoch(year, self.month, self.day) * MICROS_PER_DAY + seconds * MICROS_PER_SECOND;
        let east = match (self.zone, reference.zone) {
            (Zone::East(seconds), _) => seconds,
            (_, Some(zone)) => i64::from(zone.local_minus_utc()),
            (_, None) => system_offset(local),
        };
        Some(local - east * MICROS_PER_SECOND)
    }

    /// The moment in the year that brings it nearest to now. 29 February may be up to four years away.
    fn nearest(&self, reference: &Reference<'_>) -> Option<i64> {
        const HALF_A_YEAR: i64 = 180 * MICROS_PER_DAY;
        let now = reference.now.as_micros();
        let this_year = year_of(now);
        let distance = |micros: &i64| micros.saturating_sub(now).saturating_abs();
        let same = self.in_year(this_year, reference);
        if same.as_ref().is_some_and(|micros| distance(micros) < HALF_A_YEAR) {
            return same;
        }
        let near = |reach: i64| {
            let years = (this_year - reach)..=(this_year + reach);
            years.filter_map(|year| self.in_year(year, reference)).min_by_key(distance)
        };
        near(1).or_else(|| near(4))
    }
}

/// Seconds east of Greenwich on this machine at the local time `micros`. A time that the change to summer time skips is
/// read as if the clock had not been changed.
fn system_offset(micros: i64) -> i64 {
    let Some(naive) = DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc()) else { return 0 };
    let offset = match Local.offset_from_local_datetime(&naive).earliest() {
        Some(offset) => offset.fix(),
        None => Local.offset_from_utc_datetime(&naive).fix(),
    };
    i64::from(offset.local_minus_utc())
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day comes last and
/// month lengths follow the pattern 31, 30, 31, 30, 31 (153 days in five months).
const fn days_from_epoch(year: i64, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month as i64 - 3) } else { (year - 1, month as i64 + 9) };
    let century_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + century_days + (153 * month + 2) / 5 + day as i64 - 1 - DAYS_TO_1970
}

/// The calendar year at `micros`, UTC: the inverse of [`days_from_epoch`], for the year alone. Four hundred years have
/// 146,097 days; the subtractions undo the leap days of every 4, 100 and 400 years.
const fn year_of(micros: i64) -> i64 {
    let days = micros.div_euclid(MICROS_PER_DAY) + DAYS_TO_1970;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Years counted from March: its 306th day is the first of January.
    year + era * 400 + (day_of_year >= 306) as i64
}
