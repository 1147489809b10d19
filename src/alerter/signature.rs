//! What kind of message is this? Messages that differ only in their variable parts are of one kind.
//!
//! The signature of a message is the message with numbers, addresses, times and other identifiers replaced by
//! placeholders. It is computed for every event that no rule matched, so it is one pass over the bytes that copies long
//! runs and allocates nothing.
//! The signature of a trap is its OID: two traps with one OID are one kind whatever they carry.
//!
//! Signatures are kept with the counters on disk. Changing how they are made splits a running count in two, no more.

use std::fmt::Write;

use crate::model::Event;

/// Characters of a signature, at most.
const MAX_CHARS: usize = 200;
/// Bytes of the message that are looked at: what follows rarely tells the kind.
const MAX_INPUT: usize = 320;
/// Letters and digits in turn at least so often make a token a made-up identifier.
const RANDOM_TURNS: usize = 4;
/// A made-up identifier has at least so many bytes.
const RANDOM_BYTES: usize = 12;

/// Writes the kind of an event, at most 200 characters, over what `out` held.
pub(super) fn write_signature(event: &Event, out: &mut String) {
    out.clear();
    if let Some(trap) = &event.trap {
        // A String takes whatever is written to it.
        let _ = write!(out, "trap {}", trap.oid);
    } else {
        if let Some(app_name) = &event.app_name {
            normalise(app_name, out);
            out.push_str(": ");
        }
        normalise(&event.message, out);
    }
    // No text has more characters than bytes.
    if out.len() > MAX_CHARS
        && let Some((end, _)) = out.char_indices().nth(MAX_CHARS)
    {
        out.truncate(end);
    }
    out.truncate(out.trim_end().len());
}

/// Appends `text` with its variable parts replaced; blanks and control characters become single blanks.
fn normalise(text: &str, out: &mut String) {
    let text = &text[..text.floor_char_boundary(MAX_INPUT)];
    let bytes = text.as_bytes();
    // Everything from here to `at` is to be copied as it is.
    let mut pending = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let end = if byte.is_ascii_alphanumeric() {
            let (end, variable) = token_end(bytes, at);
            // A Cisco mnemonic is the very name of the kind: %LINK-3-UPDOWN.
            if variable && (at == 0 || bytes[at - 1] != b'%') {
                out.push_str(&text[pending..at]);
                push_token(&text[at..end], out);
                pending = end;
            }
            end
        } else if byte <= b' ' || byte == 0x7f {
            let end = at + bytes[at..].iter().take_while(|byte| **byte <= b' ' || **byte == 0x7f).count();
            if &bytes[at..end] != b" " || at == 0 {
                out.push_str(&text[pending..at]);
                if !out.is_empty() {
                    out.push(' ');
                }
                pending = end;
            }
            end
        } else {
            at + 1
        };
        at = end;
    }
    out.push_str(&text[pending..]);
}

/// Where a token ends, and whether it may be variable. A token is letters and digits, joined by single `:`, `.`, `-`
/// or `_`, or by the `::` of an IPv6 address. Without a digit only a MAC or IPv6 address is variable.
fn token_end(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut end = start;
    let (mut has_digit, mut colons) = (false, 0);
    while let Some(&byte) = bytes.get(end) {
        if byte.is_ascii_alphanumeric() {
            has_digit |= byte.is_ascii_digit();
        } else {
            let next = bytes.get(end + 1).copied().unwrap_or(b' ');
            let joined = match byte {
                b'.' | b'-' | b'_' => next.is_ascii_alphanumeric(),
                b':' => next.is_ascii_alphanumeric() || next == b':',
                _ => false,
            };
            if !joined {
                break;
            }
            colons += usize::from(byte == b':');
        }
        end += 1;
    }
    (end, has_digit || colons > 1)
}

fn push_token(token: &str, out: &mut String) {
    let shape = Shape::of(token.as_bytes());
    if let Some(placeholder) = shape.placeholder(token) {
        out.push_str(placeholder);
        return;
    }
    // Names with numbers in them: each number goes, the rest stays.
    let mut rest = token;
    while let Some(number) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..number]);
        out.push_str("<n>");
        rest = rest[number..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
}

/// What a token consists of.
#[derive(Default)]
struct Shape {
    digits: usize,
    /// `a` to `f`.
    hex_letters: usize,
    other_letters: usize,
    colons: usize,
    dots: usize,
    dashes: usize,
    /// Changes between letter and digit.
    turns: usize,
}

impl Shape {
    fn of(token: &[u8]) -> Self {
        let mut shape = Self::default();
        let mut was_digit = None;
        for byte in token {
            match byte {
                b'0'..=b'9' => shape.digits += 1,
                b'a'..=b'f' | b'A'..=b'F' => shape.hex_letters += 1,
                b':' => shape.colons += 1,
                b'.' => shape.dots += 1,
                b'-' => shape.dashes += 1,
                _ => shape.other_letters += 1,
            }
            let is_digit = byte.is_ascii_digit();
            shape.turns += usize::from(was_digit.is_some_and(|was| was != is_digit));
            was_digit = Some(is_digit);
        }
        shape
    }

    /// The placeholder of the whole token, if it is variable as a whole.
    fn placeholder(&self, token: &str) -> Option<&'static str> {
        let separators = self.colons + self.dots + self.dashes;
        if self.digits == 0 && !self.is_mac(token) {
            return None;
        }
        if starts_with_date(token.as_bytes()) {
            return Some("<time>");
        }
        if token.len() > 2 && (token.starts_with("0x") || token.starts_with("0X")) {
            return Some("<hex>");
        }
        if self.other_letters > 0 {
            let random = separators == 0 && token.len() >= RANDOM_BYTES && self.turns >= RANDOM_TURNS;
            return random.then_some("<id>");
        }
        if self.is_mac(token) {
            return Some("<mac>");
        }
        if self.dashes == 4 && token.len() == 36 {
            return Some("<uuid>");
        }
        if self.hex_letters == 0 {
            return self.numeric(separators);
        }
        match separators {
            0 => (token.len() >= 4).then_some("<hex>"),
            _ if self.colons >= 2 && self.dashes == 0 => Some("<ip>"),
            _ => None,
        }
    }

    /// For a token of digits and separators alone.
    fn numeric(&self, separators: usize) -> Option<&'static str> {
        if separators == self.dots {
            return Some(if self.dots == 3 { "<ip>" } else { "<n>" });
        }
        if self.dashes > 0 {
            return None;
        }
        Some(match (self.colons, self.dots) {
            (1, 3) => "<ip>",
            (1 | 2, 0 | 1) => "<time>",
            _ => "<ip>",
        })
    }

    /// Six groups of two (`:` or `-`) or three of four (`.`, as Cisco writes them).
    fn is_mac(&self, token: &str) -> bool {
        let groups = |separator: char, length: usize| token.split(separator).all(|group| group.len() == length);
        (self.colons == 5 && token.len() == 17 && groups(':', 2))
            || (self.dashes == 5 && token.len() == 17 && groups('-', 2))
            || (self.dots == 2 && token.len() == 14 && groups('.', 4))
    }
}

/// `2026-03-01` and what follows it.
fn starts_with_date(token: &[u8]) -> bool {
    token.len() >= 10
        && token[..10].iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::fixtures::event;

    fn signature(event: &Event) -> String {
        let mut out = "left over".to_owned();
        write_signature(event, &mut out);
        out
    }

    fn check(message: &str, expected: &str) {
        assert_eq!(signature(&event("sw1", message)), expected);
    }

    #[test]
    fn variable_parts_become_placeholders() {
        check(
            "Interface GigabitEthernet1/0/24, changed state to down",
            "Interface GigabitEthernet<n>/<n>/<n>, changed state to down",
        );
        check("%LINK-3-UPDOWN: Interface Gi0/1", "%LINK-3-UPDOWN: Interface Gi<n>/<n>");
        check("login from 10.1.2.3 port 51234 failed", "login from <ip> port <n> failed");
        check("peer 10.1.2.3:179 (AS 65001)", "peer <ip> (AS <n>)");
        check("neighbor fe80::1ff:fe23:4567:890a lost", "neighbor <ip> lost");
        check("neighbor 2001:db8::1 lost", "neighbor <ip> lost");
        check("MAC 00:1b:44:11:3a:b7 and 001b.4411.3ab7 and 00-1B-44-11-3A-B7", "MAC <mac> and <mac> and <mac>");
        check("MAC aa:bb:cc:dd:ee:ff moved", "MAC <mac> moved");
        check("job 6ba7b810-9dad-11d1-80b4-00c04fd430c8 ended", "job <uuid> ended");
        check("at 0xDEADBEEF, cookie 9f3ab2c4", "at <hex>, cookie <hex>");
        check("2026-03-01T12:00:00.123Z backup of 12:30:05 done", "<time> backup of <time> done");
        check("session kq8x2mz91bb4 opened", "session <id> opened");
        check("version 15.2.4 up 12.5%", "version <n> up <n>%");
        check("user 'bob' id=42", "user 'bob' id=<n>");
        check("id=42.", "id=<n>.");
    }

    #[test]
    fn words_and_other_alphabets_stay_as_they_are() {
        check("Ошибка  порта\t7", "Ошибка порта <n>");
        check("deface the facade: added", "deface the facade: added");
        check("std::vector error", "std::vector error");
        check("", "");
        check(" \u{0}\n ", "");
    }

    #[test]
    fn messages_of_one_kind_share_a_signature() {
        let first = signature(&event("sw1", "Fan 3 of chassis 0a1b2c3d failed after 17 s at 10:00:01"));
        let second = signature(&event("sw1", "Fan 12 of chassis ffeedd00 failed after 9 s at 23:59:59"));
        assert_eq!(first, second);
    }

    #[test]
    fn a_signature_is_bounded_and_cut_between_characters() {
        let signature = signature(&event("sw1", &"ü1 ".repeat(1_000)));
        assert!(signature.chars().count() <= MAX_CHARS, "{signature}");
    }

    #[test]
    fn the_program_is_part_of_the_kind() {
        let mut named = event("sw1", "restart 5");
        named.app_name = Some("sshd".into());
        assert_eq!(signature(&named), "sshd: restart <n>");
    }
}
