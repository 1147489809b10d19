//! From the bytes of one syslog message to an event.
//!
//! Nothing that arrives is refused for its form: what is not understood is kept as text, with a flag that says so. The
//! parser never panics, keeps no state and takes memory in proportion to the (bounded) input only.

use std::net::IpAddr;

use chrono::FixedOffset;

use super::rfc5424::{self, Header};
use super::stamp::{Memo, Reference};
use super::{cursor::Cursor, rfc3164, stamp};
use crate::model::{Event, Flag, Severity, Timestamp};

/// Facility of a message without a PRI: user (RFC 3164 section 4.3.3 gives it PRI 13, user.notice).
const FACILITY_USER: u8 = 1;

/// Highest PRI: facility 23, severity 7.
const HIGHEST_PRI: u32 = 191;

/// U+FEFF, with which RFC 5424 section 6.4 marks a message in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How the messages of one batch are read.
#[derive(Debug, Clone)]
pub struct ParseOptions {
    pub(super) memo: Memo,
    /// Zone of time stamps that name none; `None` for the system's.
    pub zone: Option<FixedOffset>,
    /// The current time: decides the year of time stamps that have none.
    pub now: Timestamp,
    /// Bytes kept of a message; what is beyond is cut and flagged.
    pub max_message_bytes: usize,
}

impl ParseOptions {
    /// For messages received at `now`.
    pub fn new(zone: Option<FixedOffset>, now: Timestamp, max_message_bytes: usize) -> Self {
        Self { memo: Memo::default(), zone, now, max_message_bytes }
    }
}

/// Reads one message into `event`, which brings its id, receive time and source. `None` if there is nothing but blanks.
pub fn parse(bytes: &[u8], mut event: Event, options: &ParseOptions) -> Option<Event> {
    let bytes = trim_end(bytes);
    if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return None;
    }
    let kept = bytes.get(..options.max_message_bytes).map_or(bytes, whole_characters);
    if kept.len() < bytes.len() {
        event.flags.push(Flag::Truncated);
    }
    event.raw = match std::str::from_utf8(kept) {
        Ok(text) => text.into(),
        Err(_) => {
            event.flags.push(Flag::InvalidUtf8);
            String::from_utf8_lossy(kept).into()
        }
    };
    // The readers cut parts out of the event's raw text, so the text they look at must be the same one.
    let raw = event.raw.clone();
    read_text(raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&raw), &mut event, options);
    if let Some(unmarked) = event.message.strip_prefix(BYTE_ORDER_MARK) {
        event.message = event.message.part(unmarked);
    }
    if event.hostname.is_empty() {
        event.hostname = address_text(event.source.peer).into();
        event.flags.push(Flag::HostFromPeer);
    }
    Some(event)
}

/// Without the line ends and NULs that senders put behind a message.
fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r' | 0] = bytes {
        bytes = rest;
    }
    bytes
}

/// `bytes` without a UTF-8 character that the cut left incomplete at the end.
pub(super) fn whole_characters(bytes: &[u8]) -> &[u8] {
    let tail = bytes.iter().rev().take(4).take_while(|byte| (0x80..0xc0).contains(*byte)).count();
    let Some(start) = bytes.len().checked_sub(tail + 1) else { return bytes };
    let expected = match bytes.get(start) {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => return bytes,
    };
    if tail + 1 < expected { bytes.get(..start).unwrap_or(bytes) } else { bytes }
}

/// The address as text. Devices without a host name of their own are many, and IPv4 written by hand takes a third of the
/// formatter's time.
fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
    text
}

fn read_text(text: &str, event: &mut Event, options: &ParseOptions) {
    let reference = Reference { memo: &options.memo, zone: options.zone, now: options.now, before_mnemonic: false };
    let Some((pri, content)) = pri(text) else {
        event.facility = Some(FACILITY_USER);
        event.severity = Some(Severity::NOTICE);
        event.flags.push(Flag::NoPri);
        read_without_pri(text, event, &reference);
        return;
    };
    event.facility = Some(pri >> 3);
    event.severity = Some(Severity::from_pri(pri));
    if !read_content(content, event, &reference) {
        event.flags.push(Flag::Unparsed);
    }
}

/// The PRI and what follows it: `<`, one to three digits of at most 191, `>`.
fn pri(text: &str) -> Option<(u8, &str)> {
    let mut cursor = Cursor::new(text);
    if !cursor.eat(b'<') {
        return None;
    }
    let (value, _) = cursor.number(3).filter(|(value, _)| *value <= HIGHEST_PRI)?;
    if !cursor.eat(b'>') {
        return None;
    }
    Some((u8::try_from(value).ok()?, cursor.rest()))
}

/// Reads what follows a valid PRI; whether its header was understood.
fn read_content(content: &str, event: &mut Event, reference: &Reference<'_>) -> bool {
    match rfc5424::read(content, event, reference) {
        Header::Understood => return true,
        Header::Broken => {
            event.message = event.raw.part(content);
            return false;
        }
        Header::Foreign => {}
    }
    // Some devices put the version before a header that is none of RFC 5424's.
    let mut cursor = Cursor::new(content);
    if rfc5424::skip_version(&mut cursor) {
        let versioned = cursor.rest();
        let stamped = stamp::read(&mut cursor, reference).is_some();
        if rfc3164::read_epoch_line(versioned, event) || (stamped && rfc3164::read(versioned, event, reference)) {
            return true;
        }
    }
    rfc3164::read(content, event, reference)
}

/// Keeps the whole text as the message. A line that begins with a time stamp, as in a log file, still tells its time,
/// host and program.
fn read_without_pri(text: &str, event: &mut Event, reference: &Reference<'_>) {
    let dated = stamp::read(&mut Cursor::new(text.trim_start_matches(['*', '.'])), reference).is_some();
    let marked = text.starts_with(['%', ':']) || text.starts_with(|c: char| c.is_ascii_digit());
    if !text.starts_with('<') && (dated || marked) {
        rfc3164::read(text, event, reference);
    }
    event.message = event.raw.part(text);
}
