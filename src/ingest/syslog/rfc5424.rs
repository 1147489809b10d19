//! The header and structured data of RFC 5424.
//!
//! A header that breaks off keeps what was understood before the break and the whole text; structured data that cannot
//! be read becomes part of the message. Nothing is dropped and nothing here can fail.

use super::cursor::Cursor;
use super::stamp::{self, Moment, Reference};
use crate::model::{Event, Flag, SdElement};

/// Longest header field in bytes: the RFC allows 255 for the host and less for the others. A longer one is no header.
const LONGEST_FIELD: usize = 255;

/// How far the header was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// Completely; message and all fields are set.
    Understood,
    /// It is RFC 5424, but breaks off; the fields before the break are set, the message is not.
    Broken,
    /// It is something else; nothing was set.
    Foreign,
}

/// Reads `text`, which follows the PRI, into `event`.
pub(super) fn read(text: &str, event: &mut Event, reference: &Reference<'_>) -> Header {
    let mut cursor = Cursor::new(text);
    if !skip_version(&mut cursor) {
        return Header::Foreign;
    }
    let moment = match time_field(&mut cursor, reference) {
        Some(moment) => moment,
        None if complete_without_time(cursor) => {
            cursor.skip(cursor.word().len() + 1);
            Some(Moment::Bad)
        }
        None => return Header::Foreign,
    };
    match moment {
        Some(Moment::Known(time)) => event.timestamp = Some(time),
        Some(Moment::Bad) => event.flags.push(Flag::BadTimestamp),
        None => {}
    }
    let Some(host) = field(&mut cursor) else { return Header::Broken };
    if let Some(host) = host {
        event.hostname = event.raw.part(host);
    }
    for place in [&mut event.app_name, &mut event.proc_id, &mut event.msg_id] {
        let Some(value) = field(&mut cursor) else { return Header::Broken };
        *place = value.map(|value| event.raw.part(value));
    }
    if cursor.rest().is_empty() {
        return Header::Broken;
    }
    match structured_data(&mut cursor) {
        Some(elements) => {
            event.structured_data = elements;
            cursor.eat(b' ');
        }
        None => event.flags.push(Flag::BadStructuredData),
    }
    event.message = event.raw.part(cursor.rest());
    Header::Understood
}

/// Moves over `VERSION SP` (RFC 5424 section 6.2.2: one to three digits, the first not 0).
pub(super) fn skip_version(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = *cursor;
    let found = ahead.peek() != Some(b'0') && ahead.number(3).is_some() && ahead.eat(b' ');
    if found {
        *cursor = ahead;
    }
    found
}

/// The time field with the blank after it; `Some(None)` for NILVALUE, `None` when it has not the shape of a time.
#[expect(clippy::option_option, reason = "not a time, and no time, are different answers")]
fn time_field(cursor: &mut Cursor<'_>, reference: &Reference<'_>) -> Option<Option<Moment>> {
    let mut ahead = *cursor;
    let moment = if ahead.eat(b'-') { None } else { Some(stamp::read_rfc5424(&mut ahead, reference)?) };
    if !ahead.eat(b' ') {
        return None;
    }
    *cursor = ahead;
    Some(moment)
}

/// Whether a full header follows, leaving aside what its time field says.
fn complete_without_time(mut cursor: Cursor<'_>) -> bool {
    (0..5).all(|_| field(&mut cursor).is_some()) && structured_data(&mut cursor).is_some()
}

/// A header field with the blank that ends it; `Some(None)` for NILVALUE and for an empty one.
#[expect(clippy::option_option, reason = "a broken header and an absent value are different answers")]
fn field<'a>(cursor: &mut Cursor<'a>) -> Option<Option<&'a str>> {
    let rest = cursor.rest();
    let end = rest.bytes().take(LONGEST_FIELD + 1).position(|byte| byte == b' ')?;
    cursor.skip(end + 1);
    Some(rest.get(..end).filter(|value| !value.is_empty() && *value != "-"))
}

/// `-` or elements, up to the blank before the message; `None` (and no move) if it is neither.
fn structured_data(cursor: &mut Cursor<'_>) -> Option<Vec<SdElement>> {
    let mut ahead = *cursor;
    let mut elements = Vec::new();
    if !ahead.eat(b'-') {
        while ahead.peek() == Some(b'[') {
            elements.push(element(&mut ahead)?);
        }
        if elements.is_empty() {
            return None;
        }
    } else if ahead.peek().is_some_and(|byte| byte != b' ') {
        return None;
    }
    *cursor = ahead;
    Some(elements)
}

/// `[SD-ID name="value" ...]`.
fn element(cursor: &mut Cursor<'_>) -> Option<SdElement> {
    cursor.eat(b'[');
    let id = sd_name(cursor)?.to_owned();
    let mut params = Vec::new();
    loop {
        let separated = skip_spaces(cursor);
        if cursor.eat(b']') {
            return Some(SdElement { id, params });
        }
        if !separated {
            return None;
        }
        let name = sd_name(cursor)?.to_owned();
        if !(cursor.eat(b'=') && cursor.eat(b'"')) {
            return None;
        }
        params.push((name, sd_value(cursor)?));
    }
}

fn skip_spaces(cursor: &mut Cursor<'_>) -> bool {
    let mut found = false;
    while cursor.eat(b' ') {
        found = true;
    }
    found
}

/// A name: anything but `=`, blank, `]` and `"` (section 6.3.3).
fn sd_name<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let rest = cursor.rest();
    let end = rest.bytes().take(LONGEST_FIELD + 1).position(|byte| matches!(byte, b'=' | b' ' | b']' | b'"'))?;
    cursor.skip(end);
    rest.get(..end).filter(|name| !name.is_empty())
}

/// A value up to its closing quote, unescaped: a backslash is dropped only before `"`, `\` and `]` (section 6.3.3).
fn sd_value(cursor: &mut Cursor<'_>) -> Option<String> {
    let rest = cursor.rest();
    let mut value = String::new();
    let mut kept = 0;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', rest.as_bytes().get(at..)?)?;
        let escaped = rest.as_bytes().get(at + 1).is_some_and(|byte| matches!(byte, b'"' | b'\\' | b']'));
        match rest.as_bytes().get(at)? {
            b'"' => {
                value.push_str(rest.get(kept..at)?);
                cursor.skip(at + 1);
                return Some(value);
            }
            _ if escaped => {
                value.push_str(rest.get(kept..at)?);
                kept = at + 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
}
