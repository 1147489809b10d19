//! One JSON object becomes one event: which member goes where, and what is kept when a member is odd.
//!
//! Pure functions. Members are found as slices of the body and only those an event needs are decoded. A member without
//! a place of its own, or whose value does not fit its place, is kept in `fields` as it was sent. Of a repeated member
//! the first that is not null counts; `raw` keeps all of it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as DeError, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::items::describe;
use super::{structured, time, varbinds};
use crate::ingest::{DropReason, Settings};
use crate::model::{
    Event, EventIds, Flag, Severity, Source, TRACEPARENT, TRACESTATE, Text, Timestamp, TraceContext, Trap,
    parse_facility,
};
use crate::net::http::is_sane_correlation_id;

/// Bytes of JSON one event may have. Three copies of it (raw, message, fields) stay below a queue record's megabyte.
const MAX_EVENT_BYTES: usize = 256 << 10;
/// Bytes of a host name: a DNS name has at most 253 (RFC 1035 section 2.3.4).
const MAX_HOSTNAME_BYTES: usize = 255;
/// Levels of nesting kept; what reads events later (serde_json) stops at 128, some of which it needs itself.
const MAX_DEPTH: usize = 100;

/// The members that have a place of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Hostname,
    Message,
    Timestamp,
    Severity,
    SyslogSeverity,
    Facility,
    AppName,
    ProcId,
    MsgId,
    StructuredData,
    TrapOid,
    Varbinds,
    CorrelationId,
}

/// Number of [`Place`]s.
const PLACES: usize = Place::CorrelationId as usize + 1;

impl Place {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "hostname" => Self::Hostname,
            "message" => Self::Message,
            "timestamp" => Self::Timestamp,
            "severity" => Self::Severity,
            "syslog_severity" => Self::SyslogSeverity,
            "facility" => Self::Facility,
            "app_name" | "appname" | "app" => Self::AppName,
            "proc_id" | "procid" => Self::ProcId,
            "msg_id" | "msgid" => Self::MsgId,
            "structured_data" => Self::StructuredData,
            "trap_oid" => Self::TrapOid,
            "varbinds" => Self::Varbinds,
            "correlation_id" => Self::CorrelationId,
            _ => return None,
        })
    }
}

/// A member's name and its value as sent.
type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// The members of one object, as slices of its text.
#[derive(Default)]
pub(super) struct Members<'a> {
    placed: [Option<Member<'a>>; PLACES],
    others: Vec<Member<'a>>,
}

impl<'a> Members<'a> {
    /// Finds the members of the object that `text` is.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Whether this is an envelope rather than an event.
    pub(super) fn has_no_event(&self) -> bool {
        self.get(Place::Hostname).is_none() && self.get(Place::Message).is_none()
    }

    /// The value, as sent, of a member without a place of its own.
    pub(super) fn other(&self, name: &str) -> Option<&'a str> {
        self.others.iter().find(|(other, _)| other == name).map(|(_, value)| value.get())
    }

    fn get(&self, place: Place) -> Option<&'a str> {
        self.placed[place as usize].as_ref().map(|(_, value)| value.get()).filter(|value| *value != "null")
    }

    /// A member's text; numbers count as text where `Scalar::into_text` says so.
    fn scalar(&self, place: Place) -> Option<Scalar<'a>> {
        self.get(place).map(Scalar::of)
    }

    /// Puts a member whose value does not fit its place among the others.
    fn displace(&mut self, place: Place) {
        self.others.extend(self.placed[place as usize].take().filter(|(_, value)| value.get() != "null"));
    }

    fn insert(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        match Place::of(&name) {
            None => self.others.push((name, value)),
            Some(place) => {
                let slot = &mut self.placed[place as usize];
                if slot.as_ref().is_none_or(|(_, earlier)| earlier.get() == "null") {
                    *slot = Some((name, value));
                }
            }
        }
    }

    /// Whether a member is there and says something: not null, and not an empty text.
    fn says(&self, name: &str) -> bool {
        let value = match Place::of(name) {
            Some(place) => self.get(place),
            None => self.other(name).filter(|value| *value != "null"),
        };
        value.is_some_and(|value| !matches!(Scalar::of(value), Scalar::Text(text) if text.trim().is_empty()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(Name(name)) = map.next_key()? {
            members.insert(name, map.next_value::<&'de RawValue>()?);
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E: DeError>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: DeError>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// A value that may have a place in an event.
#[derive(Debug, PartialEq)]
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(&'a str),
    /// Truth values, arrays, objects.
    Other,
}

impl<'a> Scalar<'a> {
    fn of(value: &'a str) -> Self {
        match value.as_bytes().first() {
            Some(b'"') => Self::Text(decode(value)),
            Some(b'-' | b'0'..=b'9') => Self::Number(value),
            _ => Self::Other,
        }
    }

    /// Text or number as text; `None` for anything else and for empty text.
    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            Self::Number(number) => Some(Cow::Borrowed(number)),
            Self::Text(_) | Self::Other => None,
        }
    }
}

/// The text a JSON string stands for. Half surrogate pairs, which serde_json refuses in text, become U+FFFD.
fn decode(quoted: &str) -> Cow<'_, str> {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Cow::Borrowed(inside);
    }
    if let Ok(text) = serde_json::from_str::<String>(quoted) {
        return Cow::Owned(text);
    }
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = String;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("text")
        }

        fn visit_bytes<E: DeError>(self, bytes: &[u8]) -> Result<String, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
    }
    let decoded = serde_json::Deserializer::from_str(quoted).deserialize_bytes(Bytes);
    Cow::Owned(decoded.unwrap_or_else(|_| inside.to_owned()))
}

/// Why an object is no event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoEvent {
    pub(super) reason: DropReason,
    pub(super) text: String,
    pub(super) missing: Vec<String>,
}

impl NoEvent {
    pub(super) fn malformed(text: String) -> Self {
        Self { reason: DropReason::Malformed, text, missing: Vec::new() }
    }

    fn invalid(text: &str) -> Self {
        Self { reason: DropReason::InvalidFields, text: text.to_owned(), missing: Vec::new() }
    }
}

/// Makes the events of one request.
pub(super) struct Maker<'s> {
    pub(super) settings: &'s Settings,
    pub(super) ids: &'s EventIds,
    pub(super) now: Timestamp,
    pub(super) source: Source,
    /// The request's own correlation id, if it has one.
    pub(super) correlation_id: Option<&'s str>,
    /// The trace that the request belongs to.
    pub(super) trace: Option<&'s TraceContext>,
}

impl Maker<'_> {
    /// The event that `text` describes.
    pub(super) fn read(&self, text: &str) -> Result<Event, NoEvent> {
        self.check_size(text)?;
        let members = Members::parse(text).map_err(|error| NoEvent::malformed(describe(&error)))?;
        self.make(text, members)
    }

    /// The same when the members are found already.
    pub(super) fn event(&self, text: &str, members: Members<'_>) -> Result<Event, NoEvent> {
        self.check_size(text)?;
        self.make(text, members)
    }

    fn check_size(&self, text: &str) -> Result<(), NoEvent> {
        if text.len() <= MAX_EVENT_BYTES {
            return Ok(());
        }
        let text = format!("the event has more than {MAX_EVENT_BYTES} bytes of JSON");
        Err(NoEvent { reason: DropReason::TooLarge, text, missing: Vec::new() })
    }

    fn make(&self, text: &str, mut members: Members<'_>) -> Result<Event, NoEvent> {
        self.check_required(&members)?;
        let mut event = Event::new(self.ids.next(self.now), self.now, self.source);
        event.raw = text.into();
        self.set_host_and_message(&mut event, text, &mut members)?;
        self.set_time(&mut event, &members);
        set_header(&mut event, text, &mut members);
        set_structured_data(&mut event, &mut members);
        set_trap(&mut event, &mut members);
        let own_id = correlation_id(&mut members).map(|id| event.raw.part_of_copy(text, &id));
        event.correlation_id = own_id.or_else(|| self.correlation_id.map(Text::from));
        event.trace = own_trace(&members).or_else(|| self.trace.cloned()).map(Box::new);
        event.fields = fields(&members.others)?.map(Text::from);
        Ok(event)
    }

    fn check_required(&self, members: &Members<'_>) -> Result<(), NoEvent> {
        let required = self.settings.required_fields.iter();
        let missing: Vec<String> = required.filter(|name| !members.says(name)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!("missing required fields: {}", missing.join(", "));
        Err(NoEvent { reason: DropReason::InvalidFields, text, missing })
    }

    fn set_host_and_message(&self, event: &mut Event, text: &str, members: &mut Members<'_>) -> Result<(), NoEvent> {
        match members.scalar(Place::Hostname) {
            Some(Scalar::Text(host)) if host.len() > MAX_HOSTNAME_BYTES => {
                return Err(NoEvent::invalid("hostname is longer than 255 bytes"));
            }
            Some(Scalar::Text(host)) if !host.trim().is_empty() => {
                event.hostname = event.raw.part_of_copy(text, host.trim());
            }
            Some(Scalar::Number(_) | Scalar::Other) => return Err(NoEvent::invalid("hostname is not a text")),
            Some(Scalar::Text(_)) | None => {
                event.hostname = self.source.peer.to_string().into();
                event.flags.push(Flag::HostFromPeer);
            }
        }
        match members.scalar(Place::Message) {
            Some(Scalar::Text(message)) => event.message = event.raw.part_of_copy(text, &message),
            Some(Scalar::Number(_) | Scalar::Other) => return Err(NoEvent::invalid("message is not a text")),
            None => {}
        }
        Ok(())
    }

    fn set_time(&self, event: &mut Event, members: &Members<'_>) {
        let Some(value) = members.scalar(Place::Timestamp) else { return };
        event.timestamp = match value {
            Scalar::Text(text) => time::from_text(&text, self.settings.device_zone, self.now),
            Scalar::Number(number) => time::from_number(number),
            Scalar::Other => None,
        };
        if event.timestamp.is_none() {
            event.flags.push(Flag::BadTimestamp);
        }
    }
}

/// The members that syslog has in its header. `syslog_severity` is the more exact name and wins over `severity`.
fn set_header(event: &mut Event, raw: &str, members: &mut Members<'_>) {
    for place in [Place::SyslogSeverity, Place::Severity] {
        let severity = members.scalar(place).and_then(|value| match value {
            Scalar::Text(text) => text.parse::<Severity>().ok(),
            Scalar::Number(number) => number.parse().ok().and_then(Severity::new),
            Scalar::Other => None,
        });
        match severity {
            Some(severity) if event.severity.is_none_or(|earlier| earlier == severity) => {
                event.severity = Some(severity);
            }
            _ => members.displace(place),
        }
    }
    match members.scalar(Place::Facility).and_then(Scalar::into_text).and_then(|text| parse_facility(&text)) {
        Some(facility) => event.facility = Some(facility),
        None => members.displace(Place::Facility),
    }
    let mut text = |place| {
        let text = members.scalar(place).and_then(Scalar::into_text);
        if text.is_none() {
            members.displace(place);
        }
        text.map(|text| event.raw.part_of_copy(raw, &text))
    };
    event.app_name = text(Place::AppName);
    event.proc_id = text(Place::ProcId);
    event.msg_id = text(Place::MsgId);
}

fn set_structured_data(event: &mut Event, members: &mut Members<'_>) {
    let Some(value) = members.get(Place::StructuredData) else { return };
    let elements = match Scalar::of(value) {
        Scalar::Text(text) => structured::from_text(&text),
        Scalar::Number(_) => None,
        Scalar::Other => structured::from_json(value),
    };
    match elements {
        Some(elements) => event.structured_data = elements,
        None => {
            event.flags.push(Flag::BadStructuredData);
            members.displace(Place::StructuredData);
        }
    }
}

/// A trap that another program received and translated. Its SNMP version is not known, so it stays empty.
fn set_trap(event: &mut Event, members: &mut Members<'_>) {
    let oid = members.scalar(Place::TrapOid).and_then(Scalar::into_text).and_then(|text| text.parse().ok());
    let Some(oid) = oid else {
        members.displace(Place::TrapOid);
        members.displace(Place::Varbinds);
        return;
    };
    let mut trap = Trap { oid, varbinds: Vec::new(), agent: None, uptime: None, version: String::new(), inform: false };
    match members.get(Place::Varbinds).and_then(varbinds::from_json) {
        Some(varbinds) => trap.varbinds = varbinds,
        None => members.displace(Place::Varbinds),
    }
    event.trap = Some(Box::new(trap));
}

fn correlation_id<'a>(members: &mut Members<'a>) -> Option<Cow<'a, str>> {
    let id = members.scalar(Place::CorrelationId).and_then(Scalar::into_text).filter(|id| is_sane_correlation_id(id));
    if id.is_none() {
        members.displace(Place::CorrelationId);
    }
    id
}

/// The trace that the event itself names; the members stay among the others too.
fn own_trace(members: &Members<'_>) -> Option<TraceContext> {
    let text = |name| members.other(name).map(Scalar::of).and_then(Scalar::into_text);
    TraceContext::parse(&text(TRACEPARENT)?, text(TRACESTATE).as_deref())
}

/// The members without a place, as the text of an object; of a repeated one the first counts.
fn fields(others: &[Member<'_>]) -> Result<Option<String>, NoEvent> {
    if others.is_empty() {
        return Ok(None);
    }
    let mut seen = HashSet::with_capacity(others.len());
    let mut text = String::with_capacity(others.iter().map(|(name, value)| name.len() + value.get().len() + 4).sum());
    for (name, value) in others.iter().filter(|(name, _)| seen.insert(name.as_ref())) {
        if is_deep(value.get()) {
            return Err(NoEvent::invalid("a member is nested more than 100 levels deep"));
        }
        text.push(if text.is_empty() { '{' } else { ',' });
        // Writing a name as JSON cannot fail: it is text.
        text.push_str(&serde_json::Value::from(name.as_ref()).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    Ok(Some(text))
}

/// Whether valid JSON nests deeper than [`MAX_DEPTH`].
fn is_deep(value: &str) -> bool {
    if !value.starts_with(['[', '{']) {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in value.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, event_json};
    use serde_json::json;

    fn make(text: &str) -> Result<Event, NoEvent> {
        let settings = Settings { device_zone: chrono::FixedOffset::east_opt(0), ..Settings::default() };
        let maker = Maker {
            settings: &settings,
            ids: &EventIds::new(1),
            now: Timestamp::parse_rfc3339("2026-03-01T12:00:00Z").expect("a time"),
            source: Source { protocol: Protocol::Http, peer: [192, 0, 2, 1].into() },
            correlation_id: None,
            trace: None,
        };
        maker.read(text)
    }

    /// The event of the required members and `more`, which is appended to them.
    fn with(more: &str) -> Event {
        make(&format!(r#"{{"hostname":"h","message":"m","timestamp":"2026-03-01T12:00:00Z"{more}}}"#))
            .expect("an event")
    }

    fn check(more: &str, member: &str, expected: serde_json::Value) {
        assert_eq!(event_json(&with(more))[member], expected, "{more}");
    }

    #[test]
    fn members_go_to_their_places() {
        check("", "hostname", json!("h"));
        check("", "message", json!("m"));
        check("", "timestamp", json!("2026-03-01T12:00:00Z"));
        check("", "fields", json!(null));
        check(r#","severity":3"#, "severity", json!(3));
        check(r#","severity":"3""#, "severity", json!(3));
        check(r#","severity":"Error""#, "severity", json!(3));
        check(r#","severity":"7","syslog_severity":2"#, "severity", json!(2));
        check(r#","facility":"local7""#, "facility", json!(23));
        check(r#","appname":"sshd","procid":42,"msgid":"ID1""#, "proc_id", json!("42"));
        check(r#","app":"sshd""#, "app_name", json!("sshd"));
        check(r#","structured_data":"[a x=\"1\"]""#, "structured_data", json!({"a": {"x": "1"}}));
        check(r#","structured_data":{"a":{"x":"1"}}"#, "structured_data", json!({"a": {"x": "1"}}));
        check(r#","trap_oid":".1.3.6.1.6.3.1.1.5.3""#, "trap_oid", json!("1.3.6.1.6.3.1.1.5.3"));
        check(r#","correlation_id":"c-1""#, "correlation_id", json!("c-1"));
        check(r#","site":"x","n":1.50"#, "fields", json!({"site": "x", "n": 1.5}));
    }

    #[test]
    fn members_that_do_not_fit_are_kept_as_fields() {
        check(
            r#","severity":"major","syslog_severity":9"#,
            "fields",
            json!({"severity": "major", "syslog_severity": 9}),
        );
        check(r#","severity":"7","syslog_severity":2"#, "fields", json!({"severity": "7"}));
        check(r#","facility":"x""#, "fields", json!({"facility": "x"}));
        check(r#","app":{"a":1}"#, "fields", json!({"app": {"a": 1}}));
        check(r#","structured_data":"[a""#, "fields", json!({"structured_data": "[a"}));
        check(r#","trap_oid":"linkDown","varbinds":[]"#, "fields", json!({"trap_oid": "linkDown", "varbinds": []}));
        check(r#","correlation_id":"a b""#, "fields", json!({"correlation_id": "a b"}));
    }

    #[test]
    fn numbers_and_text_are_kept_exactly_as_sent() {
        let event = with(r#", "big" : 12345678901234567890.10, "q\"n":"é" "#);
        assert_eq!(event.fields.as_deref(), Some(r#"{"big":12345678901234567890.10,"q\"n":"é"}"#));
        assert!(event.raw.contains(r#""big" : 12345678901234567890.10"#));
    }

    #[test]
    fn the_first_of_a_repeated_member_counts_unless_it_is_null() {
        check(r#","message":"second""#, "message", json!("m"));
        check(r#","severity":null,"severity":4"#, "severity", json!(4));
        check(r#","x":1,"x":2"#, "fields", json!({"x": 1}));
    }

    #[test]
    fn a_time_that_is_not_understood_is_flagged() {
        let event = make(r#"{"hostname":"h","message":"m","timestamp":"soon"}"#).expect("an event");
        assert!(event.timestamp.is_none() && event.has(Flag::BadTimestamp));
        let event = make(r#"{"hostname":"h","message":"m","timestamp":1772366400}"#).expect("an event");
        assert_eq!(event.timestamp, Some(event.received_at));
    }

    fn check_refused(text: &str, reason: DropReason, missing: &[&str]) {
        let error = make(text).expect_err(text);
        assert_eq!(
            (error.reason, error.missing.as_slice()),
            (reason, &*missing.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>())
        );
    }

    #[test]
    fn missing_members_are_named_and_wrong_types_refused() {
        use DropReason::{InvalidFields, Malformed, TooLarge};
        check_refused("{}", InvalidFields, &["hostname", "message", "timestamp"]);
        check_refused(r#"{"hostname":" ","message":"m","timestamp":null}"#, InvalidFields, &["hostname", "timestamp"]);
        check_refused(r#"{"hostname":5,"message":"m","timestamp":1}"#, InvalidFields, &[]);
        check_refused(r#"{"hostname":"h","message":{},"timestamp":1}"#, InvalidFields, &[]);
        check_refused("[]", Malformed, &[]);
        check_refused("{", Malformed, &[]);
        let long = format!(r#"{{"hostname":"h","message":"{}","timestamp":1}}"#, "x".repeat(MAX_EVENT_BYTES));
        check_refused(&long, TooLarge, &[]);
        let host = format!(r#"{{"hostname":"{}","message":"m","timestamp":1}}"#, "h".repeat(256));
        check_refused(&host, InvalidFields, &[]);
        let deep =
            format!(r#"{{"hostname":"h","message":"m","timestamp":1,"x":{}{}}}"#, "[".repeat(101), "]".repeat(101));
        check_refused(&deep, InvalidFields, &[]);
    }

    #[test]
    fn a_required_member_without_a_place_must_be_there_too() {
        let settings = Settings { required_fields: vec!["site".into(), "appname".into()], ..Settings::default() };
        let maker = Maker {
            settings: &settings,
            ids: &EventIds::new(1),
            now: Timestamp::from_millis(0),
            source: Source { protocol: Protocol::Http, peer: [192, 0, 2, 1].into() },
            correlation_id: Some("batch"),
            trace: None,
        };
        assert_eq!(maker.read(r#"{"app":"a"}"#).expect_err("no site").missing, ["site"]);
        let event = maker.read(r#"{"app":"a","site":1}"#).expect("an event");
        assert_eq!((event.hostname.as_str(), event.correlation_id.as_deref()), ("192.0.2.1", Some("batch")));
        assert!(event.has(Flag::HostFromPeer));
    }

    #[test]
    fn escapes_are_decoded_and_half_surrogates_replaced() {
        assert_eq!(decode(r#""a\n\u00e9""#), "a\né");
        assert_eq!(decode(r#""a\ud83db""#), "a\u{fffd}\u{fffd}\u{fffd}b");
        assert_eq!(decode(r#""""#), "");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[{}\[\]",:\\u0-9a-z ]{0,60}"#) {
            let _ = make(&text);
        }
    }
}
