//! Lines in the manner of RFC 3164 (`Mmm dd hh:mm:ss host program[id]: text`), as freely as devices read it.
//!
//! Every part may be missing. What is not understood stays in the message; nothing is dropped and nothing here can fail.

use super::cisco::{self, Preamble};
use super::cursor::Cursor;
use super::names::{self, Tag};
use super::stamp::{self, Moment, Reference};
use crate::model::{Event, Flag};

/// How AIX marks what it relays.
const AIX_RELAY: &str = "Message forwarded from ";

/// Reads `text`, which follows the PRI, into `event`; whether any header was found.
pub(super) fn read(text: &str, event: &mut Event, reference: &Reference<'_>) -> bool {
    if let Some(preamble) = cisco::read(text, reference) {
        take_preamble(text, &preamble, event);
        return true;
    }
    let mut cursor = Cursor::new(text);
    cursor.skip_blanks();
    let stamped = match stamp::read(&mut cursor, reference) {
        Some(moment) => {
            set_moment(event, moment);
            true
        }
        None => false,
    };
    if !stamped {
        let tag = names::tag(&mut cursor);
        let rest = if tag.is_some() { cursor.rest() } else { text };
        set_tag(event, tag);
        event.message = event.raw.part(rest);
        return tag.is_some();
    }
    after_stamp(&mut cursor, event);
    true
}

/// Reads seconds since 1970, a host and text, as Meraki devices send after the version; whether that is what it is.
pub(super) fn read_epoch_line(text: &str, event: &mut Event) -> bool {
    let mut cursor = Cursor::new(text);
    let Some(moment) = stamp::read_epoch(&mut cursor) else { return false };
    set_moment(event, moment);
    after_stamp(&mut cursor, event);
    true
}

fn set_moment(event: &mut Event, moment: Moment) {
    match moment {
        Moment::Known(time) => event.timestamp = Some(time),
        Moment::Bad => event.flags.push(Flag::BadTimestamp),
    }
}

fn set_tag(event: &mut Event, tag: Option<Tag<'_>>) {
    if let Some(tag) = tag {
        event.app_name = Some(event.raw.part(tag.program));
        event.proc_id = tag.process_id.map(|id| event.raw.part(id));
    }
}

fn take_preamble(text: &str, preamble: &Preamble<'_>, event: &mut Event) {
    if let Some(moment) = preamble.moment {
        set_moment(event, moment);
    }
    if let Some(host) = preamble.host {
        event.hostname = event.raw.part(host);
    }
    event.app_name = preamble.program.map(|program| event.raw.part(program));
    event.proc_id = preamble.process_id.filter(|id| !id.is_empty()).map(|id| event.raw.part(id));
    event.msg_id = preamble.mnemonic.map(|mnemonic| event.raw.part(mnemonic));
    event.message = event.raw.part(text.get(preamble.message_at..).unwrap_or(text));
}

/// Host, tag and text. A colon directly behind the stamp means that no host follows.
fn after_stamp(cursor: &mut Cursor<'_>, event: &mut Event) {
    let host_may_follow = !cursor.eat(b':');
    cursor.skip_blanks();
    skip_unknown_host(cursor);
    let tag = names::tag(cursor);
    if tag.is_none()
        && host_may_follow
        && let Some(host) = host(cursor)
    {
        event.hostname = event.raw.part(host);
        let mut ahead = *cursor;
        ahead.skip_blanks();
        if let Some(tag) = names::tag(&mut ahead) {
            *cursor = ahead;
            set_tag(event, Some(tag));
        }
    }
    set_tag(event, tag);
    event.message = event.raw.part(cursor.rest());
}

/// Moves over a `-` that stands for an unknown host, if a program's name follows it.
fn skip_unknown_host(cursor: &mut Cursor<'_>) {
    let mut ahead = *cursor;
    if ahead.eat(b'-') && ahead.skip_blanks() {
        let mut further = ahead;
        if names::tag(&mut further).is_some() {
            *cursor = ahead;
        }
    }
}

/// The host after a stamp, with one blank behind it. A word that ends the line is text, and so is a number, unless a
/// program's name follows.
fn host<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    if let Some(relayed) = cursor.rest().strip_prefix(AIX_RELAY)
        && let Some((host, _)) = relayed.split_once(':').filter(|(host, _)| names::host(host))
    {
        cursor.skip(AIX_RELAY.len() + host.len() + 1);
        cursor.eat(b' ');
        return Some(host);
    }
    if cursor.rest().starts_with("last message repeated ") {
        return None;
    }
    let word = cursor.word();
    let mut ahead = *cursor;
    ahead.skip(word.len());
    if !names::host(word) || !ahead.skip_blanks() || ahead.peek().is_none() {
        return None;
    }
    let mut further = ahead;
    if names::all_digits(word) && names::tag(&mut further).is_none() {
        return None;
    }
    // `host : text`, as ASA writes its device id.
    if ahead.peek() == Some(b':') && ahead.peek_after(1) == Some(b' ') {
        ahead.skip(2);
        *cursor = ahead;
    } else {
        cursor.skip(word.len() + 1);
    }
    Some(word)
}
