//! One line of an archive: an event with its decision and what receivers said to it, as JSON that a person can read and
//! that is turned back into exactly what it was.
//!
//! The names are the archive's own and do not follow the program's types: what was written once stays readable. A member
//! that is absent was absent, empty or null. [`SCHEMA`] is raised when a member changes its meaning. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};

use crate::model::{
    Day, Decision, DeliveryNote, DeliveryOutcome, Environment, Event, EventId, Flag, Handling, Judged, Matched, Oid,
    RuleId, SdElement, Severity, Source, TargetName, Team, Text, Timestamp, Trap, VarKind, Varbind,
};

/// What the members mean.
pub const SCHEMA: u32 = 1;

/// What a line of an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An event and its story.
    Event(Box<Judged>, Vec<DeliveryNote>),
    /// Further notes of an event that was archived before, or that is not audited at all.
    Notes(EventId, Vec<DeliveryNote>),
    /// A row that could not be read any more: kept as it lay in the database, so that it is not lost twice.
    Damaged(DamagedRow),
}

/// A row whose checksum was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedRow {
    /// Its event's id.
    pub id: EventIdText,
    /// The checksum it should have.
    pub crc: u32,
    /// Its bytes, in hexadecimal.
    pub body: String,
}

/// An event id as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventIdText(pub EventId);

impl Serialize for EventIdText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventIdText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Record {
    /// The event it is about.
    pub fn id(&self) -> EventId {
        match self {
            Self::Event(judged, _) => judged.event.id,
            Self::Notes(id, _) => *id,
            Self::Damaged(row) => row.id.0,
        }
    }

    /// The day it belongs to.
    pub fn day(&self) -> Day {
        Day::of_event(self.id())
    }

    /// Appends its line, with the line's end.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), String> {
        let written = match self {
            Self::Event(judged, notes) => serde_json::to_writer(&mut *out, &EventLine::of(judged, notes)),
            Self::Notes(id, notes) => {
                let notes = notes.iter().map(NoteLine::of).collect();
                serde_json::to_writer(&mut *out, &NotesLine { notes_of: EventIdText(*id), deliveries: notes })
            }
            Self::Damaged(row) => serde_json::to_writer(&mut *out, &DamagedLine { damaged: Cow::Borrowed(row) }),
        };
        written.map_err(|error| error.to_string())?;
        out.push(b'\n');
        Ok(())
    }

    /// Reads a line, or says what is wrong with it.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        let told = |error: serde_json::Error| error.to_string();
        // The first member says which kind of line it is.
        if line.starts_with("{\"notes_of\":") {
            let line: NotesLine<'_> = serde_json::from_str(line).map_err(told)?;
            let id = line.notes_of.0;
            return Ok(Self::Notes(id, notes(id, line.deliveries)?));
        }
        if line.starts_with("{\"damaged\":") {
            let line: DamagedLine<'_> = serde_json::from_str(line).map_err(told)?;
            return Ok(Self::Damaged(line.damaged.into_owned()));
        }
        let line: EventLine<'_> = serde_json::from_str(line).map_err(told)?;
        let id = line.id.0;
        let (judged, deliveries) = line.judged()?;
        Ok(Self::Event(Box::new(judged), notes(id, deliveries)?))
    }
}

fn notes(id: EventId, lines: Vec<NoteLine<'_>>) -> Result<Vec<DeliveryNote>, String> {
    lines.into_iter().map(|line| line.note(id)).collect()
}

#[derive(Serialize, Deserialize)]
struct NotesLine<'a> {
    notes_of: EventIdText,
    #[serde(borrow)]
    deliveries: Vec<NoteLine<'a>>,
}

#[derive(Serialize, Deserialize)]
struct DamagedLine<'a> {
    damaged: Cow<'a, DamagedRow>,
}

#[derive(Serialize, Deserialize)]
struct NoteLine<'a> {
    #[serde(borrow)]
    target: Cow<'a, str>,
    at: At,
    attempt: u32,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    answer: Cow<'a, str>,
}

impl<'a> NoteLine<'a> {
    fn of(note: &'a DeliveryNote) -> Self {
        Self {
            target: note.target.as_str().into(),
            at: At(note.at),
            attempt: note.attempt,
            outcome: note.outcome.name().into(),
            answer: note.answer.as_str().into(),
        }
    }

    fn note(self, event_id: EventId) -> Result<DeliveryNote, String> {
        let outcomes = [DeliveryOutcome::Delivered, DeliveryOutcome::Retrying, DeliveryOutcome::DeadLettered];
        let outcome = outcomes.into_iter().find(|outcome| outcome.name() == self.outcome);
        Ok(DeliveryNote {
            event_id,
            target: TargetName::new(&self.target).map_err(|error| error.to_string())?,
            at: self.at.0,
            attempt: self.attempt,
            outcome: outcome.ok_or_else(|| format!("there is no outcome `{}`", self.outcome))?,
            answer: self.answer.into_owned(),
        })
    }
}

/// A moment: RFC 3339 with microseconds, or `@` and microseconds since 1970 for what no calendar of four digits holds.
struct At(Timestamp);

/// From year 1 to year 9999, in microseconds.
const CALENDAR: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

impl Serialize for At {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if CALENDAR.contains(&self.0.as_micros()) {
            return serializer.serialize_str(&self.0.to_utc().to_rfc3339_opts(SecondsFormat::Micros, true));
        }
        serializer.collect_str(&format_args!("@{}", self.0.as_micros()))
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let at = match text.strip_prefix('@') {
            Some(micros) => micros.parse().ok().map(Timestamp::from_micros),
            None => Timestamp::parse_rfc3339(&text),
        };
        at.map(Self).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no time")))
    }
}

#[derive(Serialize, Deserialize)]
struct EventLine<'a> {
    id: EventIdText,
    received_at: At,
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    peer: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<At>,
    #[serde(borrow)]
    hostname: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    severity: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    facility: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proc_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    msg_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    structured_data: Vec<SdLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trap: Option<TrapLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    raw: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    environment: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<DecisionLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deliveries: Vec<NoteLine<'a>>,
}

#[derive(Serialize, Deserialize)]
struct DecisionLine {
    rule_id: i64,
    handling: String,
    team: String,
}

#[derive(Serialize, Deserialize)]
struct SdLine {
    id: String,
    params: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct TrapLine {
    oid: String,
    version: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    inform: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uptime: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    varbinds: Vec<VarbindLine>,
}

#[derive(Serialize, Deserialize)]
struct VarbindLine {
    oid: String,
    r#type: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl<'a> EventLine<'a> {
    fn of(judged: &'a Judged, notes: &'a [DeliveryNote]) -> Self {
        let (event, decision) = (&judged.event, &judged.decision);
        let text = |text: &'a Option<Text>| text.as_deref().map(Cow::Borrowed);
        Self {
            id: EventIdText(event.id),
            received_at: At(event.received_at),
            protocol: event.source.protocol.name().into(),
            peer: event.source.peer,
            correlation_id: text(&event.correlation_id),
            timestamp: event.timestamp.map(At),
            hostname: event.hostname.as_str().into(),
            message: event.message.as_str().into(),
            severity: event.severity.map(Severity::number),
            facility: event.facility,
            app_name: text(&event.app_name),
            proc_id: text(&event.proc_id),
            msg_id: text(&event.msg_id),
            structured_data: event.structured_data.iter().map(SdLine::of).collect(),
            trap: event.trap.as_deref().map(TrapLine::of),
            fields: text(&event.fields),
            raw: event.raw.as_str().into(),
            flags: event.flags.iter().map(flag_name).collect(),
            environment: decision.environment.name().into(),
            decision: decision.matched.as_ref().map(|matched| DecisionLine {
                rule_id: matched.rule.0,
                handling: matched.handling.as_str().to_owned(),
                team: matched.team.as_str().to_owned(),
            }),
            deliveries: notes.iter().map(NoteLine::of).collect(),
        }
    }

    fn judged(self) -> Result<(Judged, Vec<NoteLine<'a>>), String> {
        let source = Source { protocol: self.protocol.parse().map_err(told)?, peer: self.peer };
        let mut event = Event::new(self.id.0, self.received_at.0, source);
        event.raw = Text::from(&*self.raw);
        // A text that occurs in what arrived is a piece of it, so that the event takes no more room than it did.
        let raw = event.raw.clone();
        let piece = |text: Cow<'_, str>| match raw.as_str().find(&*text) {
            Some(at) => raw.part(raw.as_str().get(at..at + text.len()).unwrap_or_default()),
            None => Text::from(text),
        };
        event.correlation_id = self.correlation_id.map(piece);
        event.timestamp = self.timestamp.map(|at| at.0);
        event.hostname = piece(self.hostname);
        event.message = piece(self.message);
        event.severity = match self.severity {
            Some(number) => Some(Severity::new(number).ok_or_else(|| format!("there is no severity {number}"))?),
            None => None,
        };
        event.facility = self.facility;
        event.app_name = self.app_name.map(piece);
        event.proc_id = self.proc_id.map(piece);
        event.msg_id = self.msg_id.map(piece);
        event.structured_data =
            self.structured_data.into_iter().map(|sd| SdElement { id: sd.id, params: sd.params }).collect();
        event.trap = self.trap.map(TrapLine::trap).transpose()?.map(Box::new);
        event.fields = self.fields.map(piece);
        event.flags = self.flags.iter().map(|name| flag(name)).collect::<Result<_, _>>()?;
        let environment = match &*self.environment {
            "prod" => Environment::Prod,
            "dev" => Environment::Dev,
            other => return Err(format!("there is no environment `{other}`")),
        };
        let matched = self.decision.map(DecisionLine::matched).transpose()?;
        Ok((Judged { event, decision: Decision { environment, matched } }, self.deliveries))
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl DecisionLine {
    fn matched(self) -> Result<Matched, String> {
        Ok(Matched {
            rule: RuleId(self.rule_id),
            handling: Handling::new(&self.handling).map_err(told)?,
            team: Team::new(&self.team).map_err(told)?,
        })
    }
}

impl SdLine {
    fn of(element: &SdElement) -> Self {
        Self { id: element.id.clone(), params: element.params.clone() }
    }
}

/// Every type of a varbind's value; the archive has the standard's names.
const KINDS: [VarKind; 10] = [
    VarKind::Integer,
    VarKind::OctetString,
    VarKind::ObjectIdentifier,
    VarKind::IpAddress,
    VarKind::Counter32,
    VarKind::Gauge32,
    VarKind::TimeTicks,
    VarKind::Counter64,
    VarKind::Opaque,
    VarKind::Null,
];

impl TrapLine {
    fn of(trap: &Trap) -> Self {
        let varbind = |varbind: &Varbind| VarbindLine {
            oid: varbind.oid.to_string(),
            r#type: varbind.kind.name().to_owned(),
            value: varbind.value.clone(),
            name: varbind.name.clone(),
        };
        Self {
            oid: trap.oid.to_string(),
            version: trap.version.clone(),
            inform: trap.inform,
            agent: trap.agent,
            uptime: trap.uptime,
            varbinds: trap.varbinds.iter().map(varbind).collect(),
        }
    }

    fn trap(self) -> Result<Trap, String> {
        let varbind = |line: VarbindLine| {
            let kind = KINDS.into_iter().find(|kind| kind.name() == line.r#type);
            Ok(Varbind {
                oid: oid(&line.oid)?,
                kind: kind.ok_or_else(|| format!("there is no type `{}`", line.r#type))?,
                value: line.value,
                name: line.name,
            })
        };
        Ok(Trap {
            oid: oid(&self.oid)?,
            varbinds: self.varbinds.into_iter().map(varbind).collect::<Result<_, String>>()?,
            agent: self.agent,
            uptime: self.uptime,
            version: self.version,
            inform: self.inform,
        })
    }
}

/// The arcs as they were printed, whatever their number: an event that was taken once is never refused here.
fn oid(text: &str) -> Result<Oid, String> {
    if text.is_empty() {
        return Ok(Oid::default());
    }
    let arcs: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
    arcs.map(Oid::new).map_err(|_| format!("`{text}` is no object identifier"))
}

fn flag_name(flag: &Flag) -> Cow<'static, str> {
    match flag {
        Flag::Replayed { times, first_died } => format!("replayed:{times}:{first_died}").into(),
        other => other.name().into(),
    }
}

fn flag(name: &str) -> Result<Flag, String> {
    let unknown = || format!("there is no flag `{name}`");
    if let Some((times, first_died)) = name.strip_prefix("replayed:").and_then(|rest| rest.split_once(':')) {
        let numbers = (times.parse(), first_died.parse());
        let (Ok(times), Ok(first_died)) = numbers else { return Err(unknown()) };
        return Ok(Flag::Replayed { times, first_died });
    }
    Flag::ALL.into_iter().find(|flag| flag.name() == name).ok_or_else(unknown)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Protocol;

    /// Any text, also such as JSON has to escape.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![".{0,40}", Just("a \"quoted\" \\ line\nwith \u{1}\u{2028} ends\r".to_owned())]
    }

    fn trap() -> impl Strategy<Value = Trap> {
        let varbind = (vec(any::<u32>(), 0..6), 0..KINDS.len(), text(), proptest::option::of(text()));
        (vec(any::<u32>(), 0..9), vec(varbind, 0..4), any::<Option<[u8; 4]>>(), any::<Option<u32>>(), any::<bool>())
            .prop_map(|(oid, varbinds, agent, uptime, inform)| Trap {
                oid: Oid::new(oid),
                varbinds: varbinds
                    .into_iter()
                    .map(|(oid, kind, value, name)| Varbind { oid: Oid::new(oid), kind: KINDS[kind], value, name })
                    .collect(),
                agent: agent.map(IpAddr::from),
                uptime,
                version: "2c".to_owned(),
                inform,
            })
    }

    fn event() -> impl Strategy<Value = Event> {
        let flag = prop_oneof![
            (0..Flag::ALL.len()).prop_map(|index| Flag::ALL[index]),
            any::<(u16, u32)>().prop_map(|(times, first_died)| Flag::Replayed { times, first_died }),
        ];
        let texts = (text(), text(), text(), vec(proptest::option::of(text()), 5));
        let parts = (vec((text(), vec((text(), text()), 0..3)), 0..3), proptest::option::of(trap()), vec(flag, 0..3));
        let rest = (0..Protocol::ALL.len(), any::<[u8; 16]>(), any::<i64>(), any::<Option<i64>>(), 0..8_u8);
        (any::<u128>(), texts, parts, rest, any::<Option<u8>>()).prop_map(|(id, texts, parts, rest, facility)| {
            let source = Source { protocol: Protocol::ALL[rest.0], peer: IpAddr::from(rest.1) };
            let id = EventId::from_bytes(id.to_be_bytes());
            let mut event = Event::new(id, Timestamp::from_micros(rest.2), source);
            event.timestamp = rest.3.map(Timestamp::from_micros);
            event.severity = Severity::new(rest.4);
            event.facility = facility;
            (event.hostname, event.message, event.raw) = (texts.0.into(), texts.1.into(), texts.2.into());
            let mut further = texts.3.into_iter().map(|text| text.map(Text::from));
            let places = [
                &mut event.correlation_id,
                &mut event.app_name,
                &mut event.proc_id,
                &mut event.msg_id,
                &mut event.fields,
            ];
            places.into_iter().for_each(|place| *place = further.next().flatten());
            event.structured_data = parts.0.into_iter().map(|(id, params)| SdElement { id, params }).collect();
            event.trap = parts.1.map(Box::new);
            event.flags = parts.2;
            event
        })
    }

    /// Any event with any decision and story.
    pub(in super::super) fn record() -> impl Strategy<Value = Record> {
        let note = (0..3_usize, any::<i64>(), any::<u32>(), text());
        let decision = (any::<bool>(), any::<Option<i64>>());
        (event(), decision, vec(note, 0..3)).prop_map(|(event, (dev, rule), notes)| {
            let id = event.id;
            let matched = rule.map(|rule| Matched {
                rule: RuleId(rule),
                handling: Handling::new("Some_word").expect("a handling"),
                team: Team::new("Team A").expect("a team"),
            });
            let environment = if dev { Environment::Dev } else { Environment::Prod };
            let outcomes = [DeliveryOutcome::Delivered, DeliveryOutcome::Retrying, DeliveryOutcome::DeadLettered];
            let notes = notes.into_iter().map(|(outcome, at, attempt, answer)| DeliveryNote {
                event_id: id,
                target: TargetName::new("moog").expect("a name"),
                at: Timestamp::from_micros(at),
                attempt,
                outcome: outcomes[outcome],
                answer,
            });
            Record::Event(Box::new(Judged { event, decision: Decision { environment, matched } }), notes.collect())
        })
    }

    proptest! {
        #[test]
        fn a_line_is_turned_back_into_what_it_was(record in record()) {
            let mut line = Vec::new();
            record.write(&mut line).expect("written");
            let text = std::str::from_utf8(&line).expect("UTF-8");
            prop_assert_eq!(text.matches('\n').count(), 1, "one record, one line");
            prop_assert_eq!(&Record::read(text.trim_end()).expect("read"), &record);
            let Record::Event(judged, notes) = record else { unreachable!() };
            let notes = Record::Notes(judged.event.id, notes);
            line.clear();
            notes.write(&mut line).expect("written");
            prop_assert_eq!(Record::read(std::str::from_utf8(&line).expect("UTF-8").trim_end()).expect("read"), notes);
        }
    }

    #[test]
    fn lines_that_are_none_say_what_is_wrong() {
        for line in ["", "{}", "{\"notes_of\":\"x\",\"deliveries\":[]}", "{\"damaged\":{}}"] {
            assert!(Record::read(line).is_err(), "{line}");
        }
    }
}
