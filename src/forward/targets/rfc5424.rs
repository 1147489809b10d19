//! An alert as an RFC 5424 message. Pure.
//!
//! The message part is UTF-8 without a byte order mark (section 6.4, `MSG-ANY`): too many receivers show the mark.

use chrono::SecondsFormat;

use super::text::{clip_bytes, readable};
use crate::model::{Alert, Cause, Event, Protocol, SdElement, Severity};

/// Bytes of one value in the structured data.
const VALUE: usize = 1_024;

/// How messages are to look.
pub(super) struct Shape {
    /// The facility of events that brought none.
    pub(super) facility: u8,
    /// The id of our element.
    pub(super) sd_id: String,
    /// Bytes of a message.
    pub(super) max_bytes: usize,
    /// Whether a line that came by syslog goes on as it came.
    pub(super) keep_original: bool,
}

/// The message, within its bytes.
pub(super) fn message(alert: &Alert, shape: &Shape) -> String {
    let event = &alert.event;
    let by_syslog = matches!(event.source.protocol, Protocol::SyslogUdp | Protocol::SyslogTcp | Protocol::SyslogTls);
    if shape.keep_original && by_syslog && !event.raw.is_empty() {
        return clip_bytes(&event.raw, shape.max_bytes);
    }
    let facility = event.facility.unwrap_or(shape.facility);
    let severity = event.severity.map_or(4, Severity::number);
    let mut text = format!(
        "<{}>1 {} {} {} {} {} ",
        u32::from(facility) * 8 + u32::from(severity),
        event.event_time().to_utc().to_rfc3339_opts(SecondsFormat::Micros, true),
        header(Some(&event.hostname), 255),
        header(event.app_name.as_deref(), 48),
        header(event.proc_id.as_deref(), 128),
        header(event.msg_id.as_deref(), 32),
    );
    // Half of the message is the text's: what was decided matters more than what a device packed around it.
    let room = (shape.max_bytes / 2).saturating_sub(text.len());
    structured_data(alert, &shape.sd_id, room, &mut text);
    let left = shape.max_bytes.saturating_sub(text.len() + 1);
    text.push(' ');
    text.push_str(&clip_bytes(&readable(&event.message), left));
    text
}

/// A field of the header: printable ASCII without blanks, `-` if there is none.
fn header(value: Option<&str>, most: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let value: String = value.unwrap_or_default().chars().take(most).map(printable).collect();
    if value.is_empty() { "-".to_owned() } else { value }
}

/// Our element, then as many of the event's own as fit into `room`.
fn structured_data(alert: &Alert, sd_id: &str, room: usize, text: &mut String) {
    let start = text.len();
    let (event, mut params) = (&alert.event, Vec::new());
    let mut put = |name: &str, value: &str| params.push((name.to_owned(), value.to_owned()));
    put("event", &event.id.to_string());
    match &alert.cause {
        Cause::Rule(rule) => put("rule", &rule.to_string()),
        Cause::Unmatched { count, .. } => put("unhandled", &count.to_string()),
    }
    put("team", alert.team.as_str());
    put("handling", alert.handling.as_str());
    put("environment", alert.environment.name());
    put("source", event.source.protocol.name());
    put("peer", &event.source.peer.to_string());
    put("correlation", &event.correlation());
    let mut ours = element(sd_id, &params);
    if ours.len() > room {
        // Whatever a sender chose as its correlation id: our element stays.
        params.pop();
        ours = element(sd_id, &params);
    }
    text.push_str(&ours);
    for element in own(event, sd_id) {
        if text.len() - start + element.len() > room {
            return;
        }
        text.push_str(&element);
    }
}

/// The event's elements under legal names; ours is not repeated (an id may be there once, section 6.3.2).
fn own<'a>(event: &'a Event, sd_id: &'a str) -> impl Iterator<Item = String> + 'a {
    let mut seen = vec![sd_id.to_owned()];
    event.structured_data.iter().filter_map(move |SdElement { id, params }| {
        let id = sd_name(id);
        if seen.contains(&id) {
            return None;
        }
        seen.push(id.clone());
        Some(element(&id, params))
    })
}

fn element(id: &str, params: &[(String, String)]) -> String {
    let mut text = format!("[{id}");
    for (name, value) in params {
        text.push_str(&format!(" {}=\"", sd_name(name)));
        // Three characters have a meaning within a value (section 6.3.3).
        for character in clip_bytes(&readable(value), VALUE).chars() {
            if matches!(character, '"' | '\\' | ']') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    text.push(']');
    text
}

fn sd_name(name: &str) -> String {
    let legal = |c: char| if u8::try_from(c).is_ok_and(is_sd_name) { c } else { '_' };
    let name: String = name.chars().take(32).map(legal).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// Whether a byte may stand in a name of structured data (section 6, `SD-NAME`).
pub(super) const fn is_sd_name(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"')
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, another, huge, sample, unhandled};
    use super::*;

    fn shape() -> Shape {
        Shape { facility: 16, sd_id: "mutt@32473".to_owned(), max_bytes: 8_192, keep_original: false }
    }

    #[test]
    fn one_alert_is_one_message() {
        assert_eq!(
            message(&sample(), &shape()),
            format!(
                "<131>1 2026-03-01T12:00:00.000000Z core-sw-1 LINK-3-UPDOWN - - \
                 [mutt@32473 event=\"{ID}\" rule=\"7\" team=\"NETO\" handling=\"Page_only\" environment=\"prod\" \
                 source=\"syslog_udp\" peer=\"192.0.2.1\" correlation=\"{ID}\"] \
                 Link <Te1/1> \"down\" & @all *flaps*"
            )
        );
        assert!(message(&unhandled(), &shape()).contains(" unhandled=\"100\" "));
    }

    #[test]
    fn the_original_goes_on_as_it_came_if_it_came_by_syslog() {
        let shape = Shape { keep_original: true, ..shape() };
        let alert = sample();
        assert_eq!(message(&alert, &shape), &*alert.event.raw);
        let mut by_http = sample();
        by_http.event.source.protocol = Protocol::Http;
        assert!(message(&by_http, &shape).starts_with("<131>1 "));
    }

    #[test]
    fn nothing_that_was_sent_breaks_the_format() {
        let mut alert = another("a b\u{7f}ä", "two\r\nlines", 0);
        alert.event.facility = Some(23);
        alert.event.app_name = Some("x".repeat(100).as_str().into());
        alert.event.structured_data = vec![
            SdElement { id: "mutt@32473".into(), params: vec![("rule".into(), "0".into())] },
            SdElement { id: "a=b]\"c".into(), params: vec![("n m".into(), "q\"b]s\\".into())] },
        ];
        let text = message(&alert, &shape());
        let start = format!("<184>1 2026-03-01T12:00:00.000000Z a_b__ {} - - [mutt@32473 ", "x".repeat(48));
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains(r#"[a_b__c n_m="q\"b\]s\\"] two"#), "{text}");
        assert_eq!(text.matches("mutt@32473").count(), 1);
    }

    #[test]
    fn a_message_keeps_its_bytes() {
        let mut alert = huge();
        alert.event.correlation_id = Some("c".repeat(5_000).as_str().into());
        alert.event.structured_data =
            vec![SdElement { id: "big".into(), params: vec![("v".into(), "x".repeat(5_000))] }];
        for max_bytes in [480, 1_024, 8_192] {
            let text = message(&alert, &Shape { max_bytes, ..shape() });
            assert!(text.len() <= max_bytes && text.ends_with('…'), "{} of {max_bytes}", text.len());
            assert!(text.contains("rule=\"7\""));
        }
    }
}
