//! What Cisco devices put before `%FACILITY-SEVERITY-MNEMONIC`: sequence numbers, origin and device ids, time stamps in a
//! dozen forms, uptimes, node and task names, in nearly any order.
//!
//! The mnemonic is found first; then everything before it must be understood as one of these parts, or the line is left
//! to the reader of ordinary RFC 3164 lines. The text from the mnemonic on stays the message, so that rules written for
//! `%LINK-3-UPDOWN` find it. Juniper's explicit priorities have the same shape and are read here too.

use super::cursor::{Cursor, is_blank};
use super::names::{bare_host, bracketed};
use super::stamp::{self, Moment, Reference};

/// A mnemonic begins within so many bytes: a sequence number, two names of 64 and a stamp with a zone fit in.
const LONGEST_PREAMBLE: usize = 256;

/// The parts found before the message.
#[derive(Debug, Default)]
pub(super) struct Preamble<'a> {
    /// Origin id, device id or host name.
    pub(super) host: Option<&'a str>,
    /// The first time stamp.
    pub(super) moment: Option<Moment>,
    /// The process of IOS XR and Junos, the task of wireless controllers.
    pub(super) program: Option<&'a str>,
    /// Its process id.
    pub(super) process_id: Option<&'a str>,
    /// The mnemonic without its mark; absent in debug output.
    pub(super) mnemonic: Option<&'a str>,
    /// Where the message begins.
    pub(super) message_at: usize,
    /// Whether a sequence number or the mark of an unsynchronised clock was seen, as only Cisco devices write them.
    marked: bool,
    /// Whether a time stamp or an uptime was seen.
    stamped: bool,
}

/// Reads the preamble of `text`, or `None` if this is not a Cisco line.
pub(super) fn read<'a>(text: &'a str, reference: &Reference<'_>) -> Option<Preamble<'a>> {
    if let Some((at, mnemonic)) = find_mnemonic(text) {
        let mut preamble = Preamble { message_at: at, mnemonic: Some(mnemonic), ..Preamble::default() };
        let mut cursor = Cursor::new(text.get(..at)?);
        let reference = Reference { before_mnemonic: true, ..*reference };
        return preamble.read_to_end(&mut cursor, &reference).then_some(preamble);
    }
    debug_output(text, reference)
}

/// Debug output has no mnemonic: a sequence number or a clock mark, then a stamp that a colon ends.
fn debug_output<'a>(text: &'a str, reference: &Reference<'_>) -> Option<Preamble<'a>> {
    let mut cursor = Cursor::new(text);
    skip_gap(&mut cursor);
    let mut ahead = cursor;
    if !skip_sequence(&mut ahead) && !matches!(cursor.peek(), Some(b'*' | b'.')) {
        return None;
    }
    let mut preamble = Preamble::default();
    while !preamble.stamped {
        skip_gap(&mut cursor);
        preamble.part(&mut cursor, reference)?;
    }
    let complete = preamble.marked && cursor.eat(b':');
    cursor.skip_blanks();
    preamble.message_at = cursor.position();
    (complete && !cursor.rest().is_empty()).then_some(preamble)
}

/// Where the first mnemonic begins, and it without its mark. Wireless controllers mark it with `#` instead of `%`.
fn find_mnemonic(text: &str) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    let head = bytes.get(..LONGEST_PREAMBLE).unwrap_or(bytes);
    memchr::memchr2_iter(b'%', b'#', head).find_map(|at| {
        let starts_word = at == 0 || bytes.get(at - 1).is_some_and(|byte| is_blank(*byte) || *byte == b':');
        let name = if starts_word { mnemonic(text.get(at + 1..)?)? } else { return None };
        Some((at, name))
    })
}

/// `FACILITY-SEVERITY-MNEMONIC` at the start of `text`, with sub-facilities before the severity (`LINK-SP-3-UPDOWN`).
fn mnemonic(text: &str) -> Option<&str> {
    let length =
        text.bytes().take(96).take_while(|byte| byte.is_ascii_alphanumeric() || b"_-/.".contains(byte)).count();
    let ended = text.as_bytes().get(length).is_none_or(|byte| is_blank(*byte) || b":[(".contains(byte));
    let name = text.get(..length).filter(|name| ended && name.starts_with(|c: char| c.is_ascii_alphabetic()))?;
    let mut parts = name.split('-').skip(1).peekable();
    while let Some(part) = parts.next() {
        // Small-business switches write the severity as a letter: `%LINK-W-Down`.
        let severity = matches!(part.as_bytes(), [b'0'..=b'7' | b'A' | b'C' | b'D' | b'E' | b'I' | b'N' | b'W']);
        if severity && parts.peek().is_some_and(|next| !next.is_empty()) {
            return Some(name);
        }
    }
    None
}

/// Moves over `123:`; whether it was there. The colon of an IPv6 address does not end a number.
fn skip_sequence(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = *cursor;
    let numbered = ahead.number(10).is_some() && ahead.eat(b':');
    if !numbered || ahead.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b':') {
        return false;
    }
    *cursor = ahead;
    true
}

/// An origin id of several words (`logging origin-id string`), up to the colon before a time stamp.
fn spaced_origin<'a>(cursor: Cursor<'a>, reference: &Reference<'_>) -> Option<&'a str> {
    let (origin, _) = cursor.rest().split_once(": ")?;
    if origin.len() > 64 || origin.contains(':') || !origin.contains(' ') {
        return None;
    }
    let mut behind = cursor;
    behind.skip(origin.len() + 2);
    behind.skip_blanks();
    if let Some(b'*' | b'.') = behind.peek() {
        behind.skip(1);
    }
    (stamp::skip_uptime(&mut behind) || stamp::read(&mut behind, reference).is_some()).then_some(origin)
}

/// Parts are separated by blanks and colons, often both.
fn skip_gap(cursor: &mut Cursor<'_>) {
    while cursor.skip_blanks() || cursor.eat(b':') {}
}

impl<'a> Preamble<'a> {
    /// Whether all that is left can be understood.
    fn read_to_end(&mut self, cursor: &mut Cursor<'a>, reference: &Reference<'_>) -> bool {
        loop {
            skip_gap(cursor);
            if cursor.peek().is_none() {
                return true;
            }
            if self.part(cursor, reference).is_none() {
                return false;
            }
        }
    }

    /// Reads one part and moves behind it (a sequence number's and a name's colon included); `None` if it is none.
    fn part(&mut self, cursor: &mut Cursor<'a>, reference: &Reference<'_>) -> Option<()> {
        if cursor.rest().starts_with("%$") {
            // NX-OS wraps the name of a virtual device context so: `%$ VDC-1 %$`.
            let end = cursor.rest().get(2..)?.find("%$")?;
            cursor.skip(end + 4);
            return Some(());
        }
        if let Some(b'*' | b'.' | b';') = cursor.peek() {
            cursor.skip(1);
            self.marked = true;
            if self.stamp(cursor, reference) {
                return Some(());
            }
            return self.task(cursor);
        }
        if self.stamp(cursor, reference) {
            return Some(());
        }
        if skip_sequence(cursor) {
            self.marked = true;
            return Some(());
        }
        self.name(cursor, reference)
    }

    /// A time stamp or an uptime. Of two stamps the first is the one that the sender of the line vouches for.
    fn stamp(&mut self, cursor: &mut Cursor<'a>, reference: &Reference<'_>) -> bool {
        if stamp::skip_uptime(cursor) {
            self.stamped = true;
            return true;
        }
        let Some(moment) = stamp::read(cursor, reference) else { return false };
        self.moment.get_or_insert(moment);
        self.stamped = true;
        true
    }

    /// The rest of `*spamApTask7:`, as wireless controllers name their tasks.
    fn task(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let name = cursor.word().strip_suffix(':').filter(|name| !name.is_empty())?;
        cursor.skip(name.len() + 1);
        self.program.get_or_insert(name);
        Some(())
    }

    /// A host, a program or an IOS XR node.
    fn name(&mut self, cursor: &mut Cursor<'a>, reference: &Reference<'_>) -> Option<()> {
        let word = cursor.word();
        let name = word.strip_suffix(':').unwrap_or(word);
        if let Some((program, process_id)) = bracketed(name) {
            cursor.skip(word.len());
            self.program.get_or_insert(program);
            self.process_id.get_or_insert(process_id);
            return Some(());
        }
        if self.host.is_none() && self.program.is_none() {
            if let Some(origin) = spaced_origin(*cursor, reference).filter(|_| self.marked) {
                cursor.skip(origin.len() + 1);
                self.host = Some(origin);
                return Some(());
            }
            if bare_host(name) {
                cursor.skip(word.len());
                self.host = Some(name);
                return Some(());
            }
        }
        if let Some((node, stamp)) = word.split_once(':')
            && node.contains('/')
            && !stamp.is_empty()
        {
            // `RP/0/RSP0/CPU0:Jul 20 ...`: the node stands directly before the stamp.
            cursor.skip(node.len() + 1);
            return Some(());
        }
        if name.len() < word.len() && self.program.is_none() && !name.is_empty() {
            cursor.skip(word.len());
            self.program = Some(name);
            return Some(());
        }
        None
    }
}
