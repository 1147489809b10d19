//! Words and limits that the kinds of targets share: clipping, escaping, naming, and several alerts as one list.
//!
//! Pure. Lengths are counted in UTF-16 units where receivers speak of characters: the strictest of them count so, and
//! no text has fewer of them than it has characters. What is cut ends with an ellipsis, never inside a character.

use sha2::{Digest as _, Sha256};

use crate::model::{Alert, Cause, Event, Severity};

/// What stands where text was cut.
const ELLIPSIS: char = '…';
/// Hexadecimal digits of a hash that stands for the end of a name: 64 bits, enough for the names of one site.
const HASH_DIGITS: usize = 16;

/// How bad an alert is, in the four steps that most receivers know. An event without a severity is a warning: a rule
/// wanted it forwarded, so it is no mere information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// Syslog's emergency, alert and critical.
    Critical,
    /// Syslog's error.
    Error,
    /// Syslog's warning, and no severity at all.
    Warning,
    /// Syslog's notice, informational and debug.
    Info,
}

impl Grade {
    pub(super) fn of(event: &Event) -> Self {
        match event.severity.map(Severity::number) {
            Some(0..=2) => Self::Critical,
            Some(3) => Self::Error,
            Some(4) | None => Self::Warning,
            Some(_) => Self::Info,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// The colour that marks it in chats, as red, green and blue.
    pub(super) const fn colour(self) -> u32 {
        match self {
            Self::Critical => 0x00A3_0200,
            Self::Error => 0x00D9_3F0B,
            Self::Warning => 0x00DA_A038,
            Self::Info => 0x0043_9FE0,
        }
    }
}

/// The colour as `#rrggbb`.
pub(super) fn web_colour(grade: Grade) -> String {
    format!("#{:06x}", grade.colour())
}

/// What kind of event it is: the most specific name the sender gave it.
pub(super) fn kind_of(alert: &Alert) -> String {
    let event = &alert.event;
    match (&alert.cause, &event.trap) {
        (Cause::Unmatched { .. }, _) => "unhandled".to_owned(),
        (_, Some(trap)) => trap.oid.to_string(),
        _ => {
            let name = event.msg_id.as_deref().or(event.app_name.as_deref());
            name.unwrap_or_else(|| event.source.protocol.name()).to_owned()
        }
    }
}

/// Why the alert exists, in a few words.
pub(super) fn cause_of(alert: &Alert) -> String {
    match &alert.cause {
        Cause::Rule(rule) => format!("rule {rule}"),
        Cause::Unmatched { count, window_seconds, .. } => {
            format!("no rule, {count} times within {window_seconds} s")
        }
    }
}

/// Host and message in one line.
pub(super) fn headline(alert: &Alert) -> String {
    one_line(&format!("{}: {}", &*alert.event.hostname, &*alert.event.message))
}

/// Severity, team, cause and time in one line.
pub(super) fn particulars(alert: &Alert) -> String {
    let severity = alert.event.severity.map_or("no severity", Severity::name);
    let time = alert.event.event_time();
    one_line(&format!("{severity} · {} · {} · {} · {time}", alert.team, alert.handling, cause_of(alert)))
}

/// Control characters as blanks, runs of blanks as one.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Without control characters, apart from line ends and tabs.
pub(super) fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// At most `most` UTF-16 units.
pub(super) fn clip(text: &str, most: usize) -> String {
    clip_escaped(text, most, |c, out| out.push(c))
}

/// At most `most` UTF-16 units after every character went through `escape`; what a character becomes is not torn.
pub(super) fn clip_escaped(text: &str, most: usize, escape: impl Fn(char, &mut String)) -> String {
    clip_measured(text, most, escape, |piece| piece.encode_utf16().count())
}

/// At most `most` bytes of UTF-8.
pub(super) fn clip_bytes(text: &str, most: usize) -> String {
    clip_measured(text, most, |c, out| out.push(c), str::len)
}

fn clip_measured(
    text: &str,
    most: usize,
    escape: impl Fn(char, &mut String),
    measure: impl Fn(&str) -> usize,
) -> String {
    let ellipsis = measure(ELLIPSIS.encode_utf8(&mut [0; 4]));
    let (mut out, mut used) = (String::with_capacity(text.len().min(most)), 0);
    // Where the text would be cut so that the ellipsis still fits.
    let mut cut = 0;
    let mut piece = String::new();
    for character in text.chars() {
        piece.clear();
        escape(character, &mut piece);
        let size = measure(&piece);
        if used + size > most {
            out.truncate(cut);
            if ellipsis <= most {
                out.push(ELLIPSIS);
            }
            return out;
        }
        used += size;
        out.push_str(&piece);
        if used + ellipsis <= most {
            cut = out.len();
        }
    }
    out
}

/// A name that must stay the same and must stay different: one that is too long keeps its start and ends with a hash
/// of the whole. Counted in bytes, so that it fits whatever the receiver counts.
pub(super) fn clip_key(key: &str, most: usize) -> String {
    if key.len() <= most {
        return key.to_owned();
    }
    let start = key.floor_char_boundary(most.saturating_sub(HASH_DIGITS + 1));
    format!("{}~{}", &key[..start], short_hash(&[key]))
}

/// 64 bits of SHA-256 over the parts, in hexadecimal digits.
pub(super) fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// For text within HTML and its attributes.
pub(super) fn html(character: char, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        other => out.push(other),
    }
}

/// For text within Markdown as chats understand it: every character with a meaning gets a backslash.
pub(super) fn markdown(character: char, out: &mut String) {
    if matches!(character, '\\' | '`' | '*' | '_' | '~' | '|' | '<' | '>' | '[' | ']' | '(' | ')' | '#' | '!') {
        out.push('\\');
    }
    out.push(character);
}

/// Alerts of one key, told as one.
pub(super) struct Group<'a> {
    /// The latest of them.
    pub(super) alert: &'a Alert,
    /// How many there are.
    pub(super) count: usize,
}

impl Group<'_> {
    /// `3 × host: message`, the count only when there is something to count.
    pub(super) fn headline(&self) -> String {
        let line = headline(self.alert);
        if self.count > 1 { format!("{} × {line}", self.count) } else { line }
    }
}

/// The alerts by key: the worst first, else in the order in which the keys came.
pub(super) fn grouped(alerts: &[Alert]) -> Vec<Group<'_>> {
    let mut places = std::collections::HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for alert in alerts {
        let place = *places.entry(alert.key()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => {
                group.alert = alert;
                group.count += 1;
            }
            None => groups.push(Group { alert, count: 1 }),
        }
    }
    groups.sort_by_key(|group| Grade::of(&group.alert.event));
    groups
}

/// The worst of several alerts.
pub(super) fn worst(alerts: &[Alert]) -> Grade {
    alerts.iter().map(|alert| Grade::of(&alert.event)).min().unwrap_or(Grade::Warning)
}

/// `12 alerts from 3 hosts`.
pub(super) fn summary(alerts: &[Alert]) -> String {
    let hosts: std::collections::HashSet<&str> = alerts.iter().map(|alert| &*alert.event.hostname).collect();
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    format!("{} from {}", plural(alerts.len(), "alert"), plural(hosts.len(), "host"))
}

/// `… and 5 more` if a list of `shown` out of `all` alerts leaves some out.
pub(super) fn left_out(groups: &[Group<'_>], shown: usize) -> Option<String> {
    let more: usize = groups.iter().skip(shown).map(|group| group.count).sum();
    (more > 0).then(|| format!("{ELLIPSIS} and {more} more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::alert;

    #[test]
    fn text_is_cut_between_characters_and_within_the_limit() {
        let check = |text: &str, most: usize, expected: &str| {
            let cut = clip(text, most);
            assert_eq!(cut, expected, "{text} in {most}");
            assert!(cut.encode_utf16().count() <= most);
        };
        check("link down", 9, "link down");
        check("link down", 8, "link do…");
        check("🔥🔥🔥", 6, "🔥🔥🔥");
        check("🔥🔥🔥", 5, "🔥🔥…");
        check("🔥🔥🔥", 4, "🔥…");
        check("abc", 0, "");
        check("abc", 1, "…");
        check("", 0, "");
    }

    #[test]
    fn bytes_are_counted_where_bytes_are_limited() {
        assert_eq!(clip_bytes("äöü", 6), "äöü");
        assert_eq!(clip_bytes("äöü", 5), "ä…");
        assert_eq!(clip_bytes("äöü", 2), "");
    }

    #[test]
    fn an_escaped_character_is_not_torn() {
        assert_eq!(clip_escaped("a<b", 6, html), "a&lt;b");
        assert_eq!(clip_escaped("a<b", 5, html), "a…");
        assert_eq!(clip_escaped("<img src='x'>", 99, html), "&lt;img src=&#39;x&#39;&gt;");
        assert_eq!(clip_escaped("*a* [b](c)", 99, markdown), "\\*a\\* \\[b\\]\\(c\\)");
    }

    #[test]
    fn long_keys_stay_different() {
        let (one, two) = (format!("{}1", "x".repeat(300)), format!("{}2", "x".repeat(300)));
        let (short_one, short_two) = (clip_key(&one, 255), clip_key(&two, 255));
        assert_eq!((short_one.len(), short_two.len()), (255, 255));
        assert_ne!(short_one, short_two);
        assert_eq!(short_one, clip_key(&one, 255), "the same each time");
        assert_eq!(clip_key("sw1:rule:7", 255), "sw1:rule:7");
        assert!(clip_key(&"ä".repeat(300), 255).len() <= 255);
    }

    #[test]
    fn line_ends_and_control_characters_do_not_reach_a_line() {
        assert_eq!(one_line("a\r\nBcc: b\t\u{1b}[31mc\u{0}"), "a Bcc: b [31mc");
        assert_eq!(readable("a\r\nb\u{7}\tc"), "a\nb\tc");
    }

    #[test]
    fn alerts_of_one_key_are_told_once_with_their_number_the_worst_first() {
        let mut other = alert("fan failed");
        other.event.hostname = "sw2".into();
        other.event.severity = Severity::new(2);
        let alerts = [alert("link down"), other, alert("link down again")];
        let groups = grouped(&alerts);
        let lines: Vec<String> = groups.iter().map(Group::headline).collect();
        assert_eq!(lines, ["sw2: fan failed", "2 × sw1: link down again"]);
        assert_eq!(left_out(&groups, 1).as_deref(), Some("… and 2 more"));
        assert_eq!(left_out(&groups, 2), None);
        assert_eq!(summary(&alerts), "3 alerts from 2 hosts");
        assert_eq!(worst(&alerts), Grade::Critical);
    }
}
