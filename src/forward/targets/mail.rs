//! An alert, or several, as a mail. Pure.
//!
//! The mail has a plain part and, if wanted, an HTML part in which every text is escaped. Headers are made of single
//! lines and encoded by the mail library, so nothing that a device sends can become a header or a recipient. The id is
//! made from the events' ids and the reference from the alert's key: a mail that comes twice is known as such, and
//! mails about the same thing stand together.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::text::{
    Grade, Group, cause_of, clip, clip_escaped, grouped, headline, html, left_out, one_line, readable, short_hash,
    summary, worst,
};
use crate::model::{Alert, Severity, Timestamp};

/// UTF-16 units of a subject.
const SUBJECT: usize = 200;
/// UTF-16 units of a message's text.
const TEXT: usize = 64 << 10;
/// Lines of a digest, and UTF-16 units of each.
const LINES: usize = 100;
const LINE: usize = 500;
/// Keys that a digest refers to: a header is no place for a hundred.
const REFERENCES: usize = 10;

/// Who writes to whom.
pub(super) struct Letterhead {
    /// The target's name, a part of the mails' ids.
    pub(super) target: String,
    /// The sender.
    pub(super) from: Mailbox,
    /// The recipients.
    pub(super) to: Vec<Mailbox>,
    /// Before each subject.
    pub(super) subject_prefix: String,
    /// Whether there is an HTML part.
    pub(super) html: bool,
}

/// The mail, ready to be sent.
pub(super) fn compose(alerts: &[Alert], head: &Letterhead, now: Timestamp) -> Result<Vec<u8>, String> {
    let ids: Vec<String> = alerts.iter().map(|alert| alert.event.id.to_string()).collect();
    let hash = short_hash(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let id = match ids.as_slice() {
        [id] => head.id(id),
        _ => head.id(&format!("digest-{hash}")),
    };
    let references = references(alerts, head);
    let date = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(now.as_micros()).unwrap_or(0));
    let mut mail = Message::builder()
        .from(head.from.clone())
        .subject(one_line(&format!("{} {}", head.subject_prefix, subject(alerts))))
        .message_id(Some(id))
        .references(references)
        .date(date)
        // RFC 3834: no holiday notes in answer to machines; the second is Exchange's word for it.
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("X-Auto-Response-Suppress", "All"));
    for recipient in &head.to {
        mail = mail.to(recipient.clone());
    }
    let plain = plain_text(alerts);
    let mail = if head.html {
        let part = |kind, text: String| SinglePart::builder().header(kind).body(text);
        let parts = MultiPart::alternative()
            .boundary(format!("muttd-{hash}"))
            .singlepart(part(ContentType::TEXT_PLAIN, plain))
            .singlepart(part(ContentType::TEXT_HTML, html_text(alerts)));
        mail.multipart(parts)
    } else {
        mail.header(ContentType::TEXT_PLAIN).body(plain)
    };
    Ok(mail.map_err(|error| format!("no mail can be made: {error}"))?.formatted())
}

impl Letterhead {
    fn id(&self, local: &str) -> String {
        format!("<{local}.{}@{}>", self.target, self.from.email.domain())
    }
}

const fn header_name(name: &'static str) -> HeaderName {
    HeaderName::new_from_ascii_str(name)
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(header_name(name), value.to_owned())
}

fn references(alerts: &[Alert], head: &Letterhead) -> String {
    let groups = grouped(alerts);
    let ids =
        groups.iter().take(REFERENCES).map(|group| head.id(&format!("key-{}", short_hash(&[&group.alert.key()]))));
    ids.collect::<Vec<_>>().join(" ")
}

fn subject(alerts: &[Alert]) -> String {
    let subject = match alerts {
        [alert] => format!("{}: {}", Grade::of(&alert.event).name(), headline(alert)),
        alerts => format!("{}: {}", worst(alerts).name(), summary(alerts)),
    };
    clip(&one_line(&subject), SUBJECT)
}

/// What is said about one alert, name by name.
fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let event = &alert.event;
    let mut facts = vec![
        ("Host", one_line(&event.hostname)),
        ("Severity", event.severity.map_or("none given", Severity::name).to_owned()),
        ("Team", alert.team.to_string()),
        ("Handling", alert.handling.to_string()),
        ("Environment", alert.environment.name().to_owned()),
        ("Cause", cause_of(alert)),
        ("Time", event.event_time().to_string()),
        ("Source", format!("{} from {}", event.source.protocol, event.source.peer)),
    ];
    if let Some(name) = event.app_name.as_deref() {
        facts.push(("Program", clip(&one_line(name), LINE)));
    }
    facts.push(("Event", event.id.to_string()));
    facts
}

fn plain_text(alerts: &[Alert]) -> String {
    let [alert] = alerts else {
        let (lines, more) = list(alerts);
        let lines: Vec<String> = lines.iter().map(|line| clip(line, LINE)).chain(more).collect();
        return format!("{}\n\n{}\n", summary(alerts), lines.join("\n"));
    };
    let facts = facts(alert).into_iter().map(|(name, value)| format!("{:<12} {value}\n", format!("{name}:")));
    format!("{}\n\n{}", clip(&readable(&alert.event.message), TEXT), facts.collect::<String>())
}

fn html_text(alerts: &[Alert]) -> String {
    let escaped = |text: &str, most| clip_escaped(text, most, html);
    let body = match alerts {
        [alert] => {
            let rows = facts(alert).into_iter().map(|(name, value)| {
                format!("<tr><th align=\"left\">{name}</th><td>{}</td></tr>\n", escaped(&value, LINE))
            });
            let text = escaped(&readable(&alert.event.message), TEXT);
            format!("<pre>{text}</pre>\n<table>\n{}</table>", rows.collect::<String>())
        }
        alerts => {
            let (lines, more) = list(alerts);
            let lines = lines.iter().map(|line| escaped(line, LINE)).chain(more);
            let items: String = lines.map(|line| format!("<li>{line}</li>\n")).collect();
            format!("<p>{}</p>\n<ul>\n{items}</ul>", summary(alerts))
        }
    };
    format!("<!DOCTYPE html>\n<html><body>\n{body}\n</body></html>\n")
}

fn list(alerts: &[Alert]) -> (Vec<String>, Option<String>) {
    let groups = grouped(alerts);
    let line = |group: &Group<'_>| {
        let event = &group.alert.event;
        format!("{} {}: {}", event.event_time(), Grade::of(event).name(), group.headline())
    };
    (groups.iter().take(LINES).map(line).collect(), left_out(&groups, LINES))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, RECEIVED, another, huge, sample};
    use super::*;

    fn head(html: bool) -> Letterhead {
        Letterhead {
            target: "noc".to_owned(),
            from: "MUTT <mutt@example.org>".parse().expect("a mailbox"),
            to: vec![
                "noc@example.org".parse().expect("a mailbox"),
                "Ärger <b@example.org>".parse().expect("a mailbox"),
            ],
            subject_prefix: "[muttd]".to_owned(),
            html,
        }
    }

    fn text(alerts: &[Alert], html: bool) -> String {
        String::from_utf8(compose(alerts, &head(html), RECEIVED).expect("a mail")).expect("ASCII").replace("\r\n", "\n")
    }

    #[test]
    fn one_alert_is_one_mail() {
        assert_eq!(
            text(&[sample()], false),
            format!(
                "From: MUTT <mutt@example.org>\n\
                 Subject: [muttd] error: core-sw-1: Link <Te1/1> \"down\" & @all *flaps*\n\
                 Message-ID: <{ID}.noc@example.org>\n\
                 References: <key-6b7edc6a3b6ff4dc.noc@example.org>\n\
                 Date: Sun, 01 Mar 2026 12:00:00 +0000\n\
                 Auto-Submitted: auto-generated\n\
                 X-Auto-Response-Suppress: All\n\
                 To: noc@example.org, =?utf-8?b?w4RyZ2Vy?= <b@example.org>\n\
                 Content-Type: text/plain; charset=utf-8\n\
                 Content-Transfer-Encoding: 7bit\n\
                 \n\
                 Link <Te1/1> \"down\" & @all *flaps*\n\
                 \n\
                 Host:        core-sw-1\n\
                 Severity:    error\n\
                 Team:        NETO\n\
                 Handling:    Page_only\n\
                 Environment: prod\n\
                 Cause:       rule 7\n\
                 Time:        2026-03-01T12:00:00Z\n\
                 Source:      syslog_udp from 192.0.2.1\n\
                 Program:     LINK-3-UPDOWN\n\
                 Event:       {ID}\n"
            )
        );
    }

    #[test]
    fn the_html_part_escapes_what_devices_say() {
        let mail = text(&[sample()], true);
        assert!(mail.contains("Content-Type: multipart/alternative;"), "{mail}");
        assert!(mail.contains("<pre>Link &lt;Te1/1&gt; &quot;down&quot; &amp; @all *flaps*</pre>"), "{mail}");
        assert!(!mail.contains("<pre>Link <Te1/1>"), "{mail}");
    }

    #[test]
    fn several_alerts_are_a_digest() {
        let alerts = [sample(), another("sw2", "fan <1> failed", 1), sample()];
        let mail = text(&alerts, false);
        assert!(mail.contains("\nSubject: [muttd] critical: 3 alerts from 2 hosts\n"), "{mail}");
        assert!(mail.contains("\nMessage-ID: <digest-"), "{mail}");
        assert_eq!(mail.matches("<key-").count(), 2, "{mail}");
        // The multiplication sign makes the text quoted-printable.
        let lines = "3 alerts from 2 hosts\n\n\
                     2026-03-01T12:00:00Z critical: sw2: fan <1> failed\n\
                     2026-03-01T12:00:00Z error: 2 =C3=97 core-sw-1: Link";
        assert!(mail.contains(lines), "{mail}");
        let quoted = text(&alerts, true);
        assert!(quoted.contains("fan &lt;1&gt; failed"), "{quoted}");
    }

    #[test]
    fn nothing_a_device_sends_becomes_a_header() {
        let evil = "x\r\nBcc: victim@example.org\r\n\r\nbody\r\n.\r\nMAIL FROM:<a@b>";
        let mail = text(&[another(evil, evil, 3)], true);
        let (headers, _) = mail.split_once("\n\n").expect("headers");
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
        assert!(headers.contains("Subject: [muttd] error: x Bcc: victim@example.org"), "{headers}");
    }

    #[test]
    fn the_same_alerts_make_the_same_mail() {
        assert_eq!(text(&[sample()], true), text(&[sample()], true));
        let later = another("core-sw-1", "later and other", 5);
        let reference = |mail: &str| mail.lines().find(|line| line.starts_with("References")).map(str::to_owned);
        assert_eq!(reference(&text(&[sample()], false)), reference(&text(&[later], false)));
    }

    #[test]
    fn a_mail_is_bounded() {
        assert!(text(&vec![huge(); 100], true).len() < 1 << 20);
        assert!(text(&[huge()], true).len() < 1 << 20);
        assert!(text(&[huge()], true).lines().all(|line| line.len() <= 998), "RFC 5322 section 2.1.1");
    }
}
