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
        if byte == b' ' && at > 0 {
            at = skip_plain_words(bytes, at);
        }
        let start = at;
        let Some(&byte) = bytes.get(at) else { break };
        match KINDS[usize::from(byte)] {
            OTHER => at += 1,
            BLANK => {
                while bytes.get(at).is_some_and(|byte| KINDS[usize::from(*byte)] == BLANK) {
                    at += 1;
                }
                if start == 0 || &bytes[start..at] != b" " {
                    out.push_str(&text[pending..start]);
                    if !out.is_empty() {
                        out.push(' ');
                    }
                    pending = at;
                }
            }
            _ => {
                let (end, counts) = token(bytes, at);
                let variety = counts.variety(end - at);
                at = end;
                // A Cisco mnemonic is the very name of the kind: %LINK-3-UPDOWN.
                if variety == Variety::Word || (start > 0 && bytes[start - 1] == b'%') {
                    continue;
                }
                out.push_str(&text[pending..start]);
                match variety {
                    Variety::Number => out.push_str("<n>"),
                    _ => push_token(&text[start..at], counts, out),
                }
                pending = at;
            }
        }
    }
    out.push_str(&text[pending..]);
}

/// Bytes that are looked at together: a vector register of any machine, so that the loop becomes a few instructions.
const BLOCK: usize = 16;

/// From a blank on, moves over words that stay as they are: those without digits and colons, each after one blank. Ends
/// at the blank before the first other word, or at the end. Most of a message is passed over here, ten times as fast as
/// token by token.
fn skip_plain_words(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    let telling = loop {
        let block = bytes.get(at..).and_then(<[u8]>::first_chunk::<{ BLOCK + 1 }>);
        let Some(block) = block else { break telling_byte(bytes, at) };
        let found = (0..BLOCK).fold(0, |found, at| found | u8::from(is_telling(block[at], block[at + 1])));
        if found != 0 {
            break telling_byte(bytes, at);
        }
        at += BLOCK;
    };
    let Some(telling) = telling else { return bytes.len() };
    bytes[from..=telling].iter().rposition(|byte| *byte == b' ').map_or(from, |blank| from + blank)
}

fn telling_byte(bytes: &[u8], from: usize) -> Option<usize> {
    let next = |index: usize| bytes.get(index + 1).copied().unwrap_or(b' ');
    (from..bytes.len()).find(|index| is_telling(bytes[*index], next(*index)))
}

/// Whether a byte before `next` may make a word or a gap one that changes.
const fn is_telling(byte: u8, next: u8) -> bool {
    // No `||`: a branch for each byte would keep the loop from being turned into vector instructions.
    (byte.wrapping_sub(b'0') < 10) | (byte < b' ') | (byte == 0x7f) | (byte == b':') | ((byte == b' ') & (next <= b' '))
}

/// Kinds of bytes.
const OTHER: u8 = 0;
const BLANK: u8 = 1;
const LETTER: u8 = 2;
const DIGIT: u8 = 3;

/// The kind of every byte: a look-up is what keeps the pass quick.
const KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            0..=b' ' | 0x7f => BLANK,
            _ => OTHER,
        };
        byte += 1;
    }
    kinds
};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variety {
    /// No digits: it stays. (A MAC or IPv6 address of letters alone has colons.)
    Word,
    /// Nothing but digits.
    Number,
    /// Has to be looked at.
    Mixed,
}

/// Counts of the bytes of a token, several in one number: which letter follows which is as good as random in what is
/// replaced, so adding is three times as quick as branching.
#[derive(Debug, Clone, Copy, Default)]
struct Counts(u64);

/// Bits of one count: no token has more bytes than [`MAX_INPUT`].
const COUNT_BITS: u32 = 9;
const _: () = assert!(MAX_INPUT < 1 << COUNT_BITS);

const DIGITS: u32 = 0;
/// `a` to `f`.
const HEX_LETTERS: u32 = 1;
const OTHER_LETTERS: u32 = 2;
const COLONS: u32 = 3;
const DOTS: u32 = 4;
const DASHES: u32 = 5;
/// Changes between digit and anything else.
const TURNS: u32 = 6;

/// What each byte adds.
const ADDENDS: [u64; 256] = {
    let mut addends = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let count = match byte {
            b'0'..=b'9' => DIGITS,
            b'a'..=b'f' | b'A'..=b'F' => HEX_LETTERS,
            b':' => COLONS,
            b'.' => DOTS,
            b'-' => DASHES,
            _ => OTHER_LETTERS,
        };
        addends[byte as usize] = 1 << (count * COUNT_BITS);
        byte += 1;
    }
    addends
};

impl Counts {
    const fn of(self, count: u32) -> usize {
        ((self.0 >> (count * COUNT_BITS)) & ((1 << COUNT_BITS) - 1)) as usize
    }

    fn variety(self, length: usize) -> Variety {
        match (self.of(DIGITS), self.of(COLONS)) {
            (0, 0 | 1) => Variety::Word,
            (digits, _) if digits == length => Variety::Number,
            _ => Variety::Mixed,
        }
    }

    fn add(&mut self, byte: u8, turns: bool) {
        self.0 += ADDENDS[usize::from(byte)] + (u64::from(turns) << (TURNS * COUNT_BITS));
    }
}

/// Where the token ends that starts here, and what it consists of. A token is letters and digits, joined by single `:`,
/// `.`, `-` or `_`, or by the `::` of an IPv6 address.
fn token(bytes: &[u8], start: usize) -> (usize, Counts) {
    let mut end = start;
    let mut counts = Counts::default();
    let mut was_digit = bytes.get(start).is_some_and(u8::is_ascii_digit);
    loop {
        while let Some(&byte) = bytes.get(end)
            && KINDS[usize::from(byte)] >= LETTER
        {
            let is_digit = KINDS[usize::from(byte)] == DIGIT;
            counts.add(byte, is_digit != was_digit);
            was_digit = is_digit;
            end += 1;
        }
        let Some(&byte) = bytes.get(end) else { break };
        let next = bytes.get(end + 1).copied().unwrap_or(b' ');
        let goes_on = KINDS[usize::from(next)] >= LETTER;
        match byte {
            b'.' | b'-' | b'_' if goes_on => {}
            b':' if goes_on || next == b':' => {}
            _ => break,
        }
        counts.add(byte, was_digit);
        was_digit = false;
        end += 1;
    }
    (end, counts)
}

fn push_token(token: &str, counts: Counts, out: &mut String) {
    if let Some(placeholder) = Shape::of(counts).placeholder(token) {
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
struct Shape {
    digits: usize,
    /// `a` to `f`.
    hex_letters: usize,
    other_letters: usize,
    colons: usize,
    dots: usize,
    dashes: usize,
    /// Changes between digit and anything else.
    turns: usize,
}

impl Shape {
    fn of(counts: Counts) -> Self {
        Self {
            digits: counts.of(DIGITS),
            hex_letters: counts.of(HEX_LETTERS),
            other_letters: counts.of(OTHER_LETTERS),
            colons: counts.of(COLONS),
            dots: counts.of(DOTS),
            dashes: counts.of(DASHES),
            turns: counts.of(TURNS),
        }
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
    fn skipping_words_changes_nothing() {
        // The same text behind a first word and behind a blank that starts it goes both ways through the loop.
        let pieces =
            ["fan", "7", "a:b", "ab:cd:ef", "x", "\t", " ", "  ", "é", "10.0.0.1", "%A-3-B", "word.", ":", "a1b2"];
        for seed in 0..4_000_usize {
            let mut state = seed;
            let mut text = String::new();
            for _ in 0..24 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) % pieces.len()]);
                text.push_str(if state >> 61 & 3 == 0 { "" } else { " " });
            }
            let words: Vec<String> = text.split(' ').map(|word| signature(&event("h", word))).collect();
            let expected = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ");
            let expected: String = expected.chars().take(MAX_CHARS).collect();
            assert_eq!(signature(&event("h", &text)), expected.trim_end(), "{text:?}");
        }
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
