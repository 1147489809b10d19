//! Values as people read them: sizes, times, counts, and text from outside with everything invisible made visible.
//! Pure functions.

use std::fmt::Write;
use std::time::Duration;

use crate::model::Timestamp;

/// The names of the control characters from 0 to 31 (ASCII, RFC 20 section 4). Their pictures in Unicode would be
/// shorter, but many fonts lack them and show all of them as the same empty box.
const CONTROL_NAMES: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR", "SO", "SI", "DLE",
    "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
];

/// Text from outside for a page: control characters by name, characters that turn or hide text by code. Escaping for
/// HTML is the template's work.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_visible(&mut out, c);
    }
    out
}

/// The same, but line breaks stay what they are: for text in a box of its own.
pub(super) fn visible_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' { out.push(c) } else { push_visible(&mut out, c) }
    }
    out
}

fn push_visible(out: &mut String, c: char) {
    let code = u32::from(c);
    let name = usize::try_from(code).ok().and_then(|code| CONTROL_NAMES.get(code));
    if let Some(name) = name {
        let _ = write!(out, "<{name}>");
    } else if is_invisible(c) {
        let _ = write!(out, "<U+{code:04X}>");
    } else {
        out.push(c);
    }
}

/// DEL and C1 controls; soft hyphen; zero-width and direction marks; line separators; invisible operators; BOM; tags.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The start of a text.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('\u{2026}');
    }
    shown
}

/// A moment in UTC, to the millisecond.
pub(super) fn moment(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// A moment in UTC, to the second.
pub(super) fn short_moment(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A number with its thousands set apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as people look at what they cannot read: place, hexadecimal, and as text where that is harmless. No more than
/// `most` bytes.
pub(super) fn hex_dump(bytes: &[u8], most: usize) -> String {
    let mut out = String::new();
    for (line, row) in bytes[..bytes.len().min(most)].chunks(16).enumerate() {
        let hex = row.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let text = row.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' });
        let _ = writeln!(out, "{:08x}  {hex:<47}  {}", line * 16, text.collect::<String>());
    }
    if bytes.len() > most {
        let _ = writeln!(out, "and {} bytes more", bytes.len() - most);
    }
    out
}

/// Bytes in the unit that fits.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Events per second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 || per_second == 0.0 {
        // Rates are counts divided by seconds: never negative, never near the end of the range.
        count(per_second.round() as u64)
    } else {
        format!("{per_second:.1}")
    }
}

/// A span of time in its two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// How long ago something was.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    let since = now.since(time);
    if since < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", span(since)) }
}

/// Text for a query or a path segment (RFC 3986 section 2.3: unreserved characters stay).
pub(super) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A day since 1970, as `2026-03-01`.
pub(super) fn day_label(day: i64) -> String {
    let time = Timestamp::from_millis(day.saturating_mul(86_400_000));
    time.to_utc().format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_with_their_place_and_no_more_than_asked() {
        let dump = hex_dump(b"\xff\x00<b>0123456789abcdef", 18);
        let expected = "00000000  ff 00 3c 62 3e 30 31 32 33 34 35 36 37 38 39 61  ..<b>0123456789a\n\
                        00000010  62 63                                            bc\nand 3 bytes more\n";
        assert_eq!(dump, expected);
        assert_eq!(hex_dump(&[], 10), "");
    }

    #[test]
    fn nothing_from_outside_stays_invisible() {
        assert_eq!(visible("a\0b\tc\x1b[31m\x7f"), "a<NUL>b<TAB>c<ESC>[31m<U+007F>");
        assert_eq!(visible("\u{202e}evil\u{85}\n"), "<U+202E>evil<U+0085><LF>");
        assert_eq!(visible("plain caf\u{e9} \u{1f600}"), "plain caf\u{e9} \u{1f600}");
        assert_eq!(visible_lines("a\r\nb"), "a<CR>\nb");
    }

    #[test]
    fn numbers_read_easily() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(0), bytes(1_023), bytes(1_536), bytes(5 << 30)], ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([rate(0.0), rate(0.25), rate(99.94), rate(1_234.6)], ["0", "0.2", "99.9", "1,235"]);
        let spans = [5, 65, 3_700, 90_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn text_survives_an_address() {
        assert_eq!(url_encode("/events?q=a b&c=%é"), "%2Fevents%3Fq%3Da%20b%26c%3D%25%C3%A9");
    }
}
