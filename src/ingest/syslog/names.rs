//! What may be the name of a host or a program in a line that follows RFC 3164, or nearly so.

use std::net::IpAddr;

use super::cursor::{Cursor, is_blank};

/// Longest host name (RFC 1035 section 2.3.4), and the bound for programs and process ids.
const LONGEST: usize = 255;

/// A program's name with its process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// The name.
    pub(super) program: &'a str,
    /// What stands in brackets behind it.
    pub(super) process_id: Option<&'a str>,
}

/// Whether `word` may be a host: letters, digits, `.`, `-`, `_` and letters of other scripts, or an IP address.
pub(super) fn host(word: &str) -> bool {
    if word.is_empty() || word.len() > LONGEST {
        return false;
    }
    let classes = word.bytes().map(|byte| CLASSES[usize::from(byte)]);
    let (every, any) = classes.fold((HOST, 0), |(every, any), class| (every & class, any | class));
    if every != 0 {
        return any & SPELLED != 0;
    }
    is_address(word)
}

/// A host that is not merely a number.
pub(super) fn bare_host(word: &str) -> bool {
    host(word) && !all_digits(word)
}

/// An IP address, with a zone or not (`fe80::1%eth0`).
fn is_address(word: &str) -> bool {
    word.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

pub(super) fn all_digits(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits `name[id]`.
pub(super) fn bracketed(word: &str) -> Option<(&str, &str)> {
    let (name, id) = word.strip_suffix(']')?.split_once('[')?;
    (!name.is_empty() && name.bytes().all(|byte| is(TAG, byte))).then_some((name, id))
}

/// For each byte, whether it may stand in a host's ([`HOST`]) and in a program's name ([`TAG`]): looked up, because
/// every byte of every header is asked about.
static CLASSES: [u8; 256] = classes();
const HOST: u8 = 1;
const TAG: u8 = 2;
/// Letters and digits of any script: without one of them, nothing is a name.
const SPELLED: u8 = 4;

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | 0x80.. => HOST | TAG | SPELLED,
            b'.' | b'-' | b'_' => HOST | TAG,
            b'/' | b'(' | b')' | b'@' | b'#' | b'+' | b',' | b'*' | b'~' | b'$' => TAG,
            _ => 0,
        };
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}

fn is(class: u8, byte: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Reads `program:`, `program[id]:` or `program[123]` and one blank behind it; `None` (and no move) for anything else.
///
/// A colon counts only before a blank or the end, so that times, URLs and MAC addresses are no programs; brackets
/// without a colon count only around digits, so that `eth0[up]` stays text.
pub(super) fn tag<'a>(cursor: &mut Cursor<'a>) -> Option<Tag<'a>> {
    let rest = cursor.rest();
    let bytes = rest.as_bytes();
    // Most words asked about are hosts and text.
    memchr::memchr2(b':', b'[', cursor.word().as_bytes())?;
    let length = bytes.iter().take(LONGEST).take_while(|byte| is(TAG, **byte)).count();
    let program = rest.get(..length).filter(|name| name.bytes().any(|byte| is(SPELLED, byte)))?;
    let (process_id, end) = match bytes.get(length)? {
        b':' if all_digits(program) || is_address(cursor.word()) => return None,
        b':' => (None, length),
        b'[' => {
            let id = rest.get(length + 1..)?;
            let id_length = id.bytes().take(LONGEST).position(|byte| byte == b']')?;
            (id.get(..id_length), length + id_length + 2)
        }
        _ => return None,
    };
    let colon = bytes.get(end) == Some(&b':');
    let end = end + usize::from(colon);
    let ended = bytes.get(end).is_none_or(|byte| is_blank(*byte) || (colon && process_id.is_some()));
    let numbered = process_id.is_some_and(|id| !id.is_empty() && all_digits(id));
    if !ended || !(colon || numbered) {
        return None;
    }
    cursor.skip(end);
    if cursor.peek() == Some(b' ') {
        cursor.skip(1);
    }
    Some(Tag { program, process_id: process_id.filter(|id| !id.is_empty()) })
}
