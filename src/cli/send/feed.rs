//! Makes the bytes of message number N of a run, in the shape its protocol wants.
//!
//! Lines of a file and synthetic lines are shaped once and only get their running number when sent, which costs tens of
//! nanoseconds; samples are made afresh, so that their time stamps are true. It does no I/O after the file was read.
//! What is sent by the hundred thousand a second is laid out once more, by [`Feed::pool`].

use std::sync::Arc;

use chrono::{Local, SecondsFormat};
use memchr::memmem;
use serde_json::{Value, json};

use super::pool::{Message, Pool};
use super::snmp::{TrapError, TrapMessage, TrapValue, Wrapping};
use super::synthetic::{self, Synthetic};
use crate::cli::samples::SampleStream;
use crate::clock::Clock;
use crate::model::Oid;

/// Where marks go in a trap: net-snmp's OID for experiments (NET-SNMP-MIB, netSnmpPlaypen).
const PLAYPEN: [u32; 9] = [1, 3, 6, 1, 4, 1, 8072, 9999, 9999];
/// Digits of the running number in synthetic lines: enough for ten hours at 250,000 a second.
const SYNTHETIC_DIGITS: usize = 10;

/// Where messages come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Lines of a file, sent in their order, again from the first when more are asked for.
    Lines(Vec<String>),
    /// Sample messages of imaginary devices.
    Samples {
        /// Seed of the stream.
        seed: u64,
    },
    /// Lines for measuring.
    Synthetic(Synthetic),
}

/// What a protocol wants of a message.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A syslog line without framing.
    Syslog,
    /// A JSON object.
    Json,
    /// An SNMP message.
    Trap(Wrapping),
}

/// Text put into every message, followed by ` seq=` and the running number.
#[derive(Debug, Clone)]
pub struct Marker {
    /// The text.
    pub text: String,
    /// Digits of the number, leading zeros included.
    pub digits: usize,
}

/// A line that cannot be sent this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} cannot be sent: {why}")]
pub struct FeedError {
    /// Its number in the file, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub why: String,
}

/// Supplies one connection; a clone shares the shaped lines.
#[derive(Debug)]
pub struct Feed {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Templates(Arc<[Template]>),
    Samples { seed: u64, stream: Box<SampleStream>, shape: Shape, marker: Option<Marker> },
}

/// A finished message with the places that change.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    /// The digits of the running number: where they start and how many.
    number: Option<(usize, usize)>,
    request_id_at: Option<usize>,
}

impl Feed {
    /// Shapes the messages of `origin`.
    pub fn new(origin: &Origin, shape: &Shape, marker: Option<&Marker>) -> Result<Self, FeedError> {
        let kind = match origin {
            Origin::Lines(lines) => Kind::Templates(file_templates(lines, shape, marker)?.into()),
            Origin::Samples { seed } => Kind::Samples {
                seed: *seed,
                stream: Box::new(SampleStream::new(*seed)),
                shape: shape.clone(),
                marker: marker.cloned(),
            },
            Origin::Synthetic(spec) => Kind::Templates(synthetic_templates(spec, shape, marker)?.into()),
        };
        Ok(Self { kind })
    }

    /// The same feed for another connection; samples of connection `index` differ from those of the others.
    pub fn for_connection(&self, index: u64) -> Self {
        let kind = match &self.kind {
            Kind::Samples { seed, shape, marker, .. } => {
                let seed = seed.wrapping_add(index);
                let stream = Box::new(SampleStream::new(seed));
                Kind::Samples { seed, stream, shape: shape.clone(), marker: marker.clone() }
            }
            Kind::Templates(templates) => Kind::Templates(Arc::clone(templates)),
        };
        Self { kind }
    }

    /// Everything that connection `index` of `of` sends, laid out one message after the other between what `frame` puts
    /// around it; `None` if messages are made afresh or would take too much memory, so that [`Feed::put`] has to serve.
    pub fn pool(&self, index: u64, of: u64, frame: impl Fn(&[u8], &mut Vec<u8>) -> usize) -> Option<Pool> {
        let Kind::Templates(templates) = &self.kind else { return None };
        let length = templates.len() as u64;
        let messages = (0..length).map(|at| {
            let template = &templates[usize::try_from((index + at * of) % length).unwrap_or(0)];
            Message { bytes: &template.bytes, number: template.number }
        });
        Pool::new(messages, index + 1, of, frame)
    }

    /// Appends message `number` (from 0) to `out`; the answer is where in the message its request id lies, if it has
    /// one. Running numbers that people see start at 1.
    pub fn put(&mut self, number: u64, out: &mut Vec<u8>) -> Option<usize> {
        match &mut self.kind {
            Kind::Templates(templates) => {
                let at = usize::try_from(number % templates.len() as u64).unwrap_or(0);
                let template = &templates[at];
                let start = out.len();
                out.extend_from_slice(&template.bytes);
                if let Some((at, digits)) = template.number {
                    write_digits(&mut out[start + at..start + at + digits], number + 1);
                }
                template.request_id_at
            }
            Kind::Samples { stream, shape, marker, .. } => {
                let mark = marker.as_ref().map(|marker| marker.with(number + 1));
                // Samples hold nothing that a version cannot carry; if one did, it would be left out, not the run.
                let template = sample_template(stream, shape, mark.as_deref()).ok()?;
                out.extend_from_slice(&template.bytes);
                template.request_id_at
            }
        }
    }
}

impl Marker {
    fn with(&self, number: u64) -> String {
        let blank = if self.text.is_empty() { "" } else { " " };
        format!("{}{blank}seq={number:0width$}", self.text, width = self.digits)
    }

    /// Where the digits of the mark made for number 0 lie in a finished message.
    fn find(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let zeros = format!("seq={}", "0".repeat(self.digits));
        memmem::rfind(bytes, zeros.as_bytes()).map(|at| (at + "seq=".len(), self.digits))
    }
}

/// Writes a number with leading zeros; of one too long for its place the last digits stay.
fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn template(bytes: Vec<u8>, marker: Option<&Marker>) -> Template {
    let number = marker.and_then(|marker| marker.find(&bytes));
    Template { bytes, number, request_id_at: None }
}

fn trap_template(trap: &TrapMessage, wrapping: &Wrapping, marker: Option<&Marker>) -> Result<Template, TrapError> {
    let encoded = trap.encode(wrapping, 0)?;
    Ok(Template { request_id_at: encoded.request_id_at, ..template(encoded.bytes, marker) })
}

fn file_templates(lines: &[String], shape: &Shape, marker: Option<&Marker>) -> Result<Vec<Template>, FeedError> {
    let mark = marker.map(|marker| marker.with(0));
    let shaped = lines.iter().enumerate().map(|(at, line)| {
        let fault = |why: String| FeedError { line: at + 1, why };
        match shape {
            Shape::Syslog => {
                let text = mark.as_ref().map_or_else(|| line.clone(), |mark| format!("{line} {mark}"));
                Ok(template(text.into_bytes(), marker))
            }
            Shape::Json => Ok(template(json_line(line, mark.as_deref()).into_bytes(), marker)),
            Shape::Trap(wrapping) => {
                let json: Value = serde_json::from_str(line).map_err(|error| {
                    fault(format!("give traps as JSON objects with trap_oid and varbinds ({error})"))
                })?;
                let mut trap = TrapMessage::from_json(&json).map_err(|error| fault(error.to_string()))?;
                mark_trap(&mut trap, mark.as_deref());
                trap_template(&trap, wrapping, marker).map_err(|error| fault(error.to_string()))
            }
        }
    });
    shaped.collect()
}

/// A JSON object is sent as it is (with the mark at the end of its `message`), other text as the message of an event.
/// What starts like an object and is none is sent untouched: the receiver's answer to it is worth seeing too.
fn json_line(line: &str, mark: Option<&str>) -> String {
    if !line.trim_start().starts_with('{') {
        let message = mark.map_or_else(|| line.to_owned(), |mark| format!("{line} {mark}"));
        return json!({"timestamp": now(), "hostname": "localhost", "message": message}).to_string();
    }
    let (Some(mark), Ok(Value::Object(mut event))) = (mark, serde_json::from_str(line)) else { return line.to_owned() };
    let message = event.get("message").and_then(Value::as_str).unwrap_or_default();
    event.insert("message".into(), format!("{message} {mark}").into());
    Value::Object(event).to_string()
}

fn mark_trap(trap: &mut TrapMessage, mark: Option<&str>) {
    if let Some(mark) = mark {
        trap.varbinds.push((Oid::new(PLAYPEN.to_vec()).child(&[1, 0]), TrapValue::text(mark)));
    }
}

fn sample_template(stream: &mut SampleStream, shape: &Shape, mark: Option<&str>) -> Result<Template, TrapError> {
    match shape {
        Shape::Syslog => {
            let line = stream.syslog();
            Ok(template(mark.map_or(line.clone(), |mark| format!("{line} {mark}")).into_bytes(), None))
        }
        Shape::Json => Ok(template(json_line(&stream.json().to_string(), mark).into_bytes(), None)),
        Shape::Trap(wrapping) => {
            let mut trap = stream.trap();
            mark_trap(&mut trap, mark);
            trap_template(&trap, wrapping, None)
        }
    }
}

fn synthetic_templates(spec: &Synthetic, shape: &Shape, marker: Option<&Marker>) -> Result<Vec<Template>, FeedError> {
    let text = marker.map_or_else(String::new, |marker| marker.text.clone());
    let marker = Marker { text, digits: marker.map_or(SYNTHETIC_DIGITS, |marker| marker.digits.max(SYNTHETIC_DIGITS)) };
    let stamp = Clock::system().now().to_utc().with_timezone(&Local).format("%b %e %H:%M:%S").to_string();
    let iso = now();
    let shaped = synthetic::lines(spec, &marker.with(0), &stamp).into_iter().map(|line| match shape {
        Shape::Syslog => Ok(template(line.syslog(&stamp).into_bytes(), Some(&marker))),
        Shape::Json => {
            let event = json!({
                "timestamp": iso, "hostname": line.host, "severity": line.pri & 7, "app_name": line.app,
                "message": line.text,
            });
            Ok(template(event.to_string().into_bytes(), Some(&marker)))
        }
        Shape::Trap(wrapping) => {
            let playpen = Oid::new(PLAYPEN.to_vec());
            let trap = TrapMessage {
                oid: playpen.child(&[0, 1]),
                agent: [10, 0, 0, 1].into(),
                uptime: 360_000,
                varbinds: vec![(playpen.child(&[1, 0]), TrapValue::text(&line.text))],
            };
            trap_template(&trap, wrapping, Some(&marker)).map_err(|error| FeedError { line: 1, why: error.to_string() })
        }
    });
    shaped.collect()
}

fn now() -> String {
    Clock::system().now().to_utc().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::snmp::{Notification, SnmpVersion};

    fn trap_shape() -> Shape {
        Shape::Trap(Wrapping {
            version: SnmpVersion::V2c,
            notification: Notification::Inform,
            community: "public".into(),
        })
    }

    fn marker() -> Marker {
        Marker { text: "run \"7\"".into(), digits: 6 }
    }

    /// Message 41 of a feed, whose visible number is 42.
    fn message(origin: &Origin, shape: &Shape, marker: Option<&Marker>) -> Vec<u8> {
        let mut out = b"before".to_vec();
        Feed::new(origin, shape, marker).expect("a feed").for_connection(3).put(41, &mut out);
        out.split_off("before".len())
    }

    #[test]
    fn every_shape_of_every_origin_carries_its_running_number() {
        let trap_line = r#"{"trap_oid": "1.3.6.1.6.3.1.1.5.3", "varbinds": []}"#;
        let synthetic = Synthetic { rules: 10, match_percent: 10.0, size: 202, seed: 1 };
        for (line, shape) in
            [("<13>text", Shape::Syslog), (r#"{"message":"text"}"#, Shape::Json), (trap_line, trap_shape())]
        {
            let origins = [
                Origin::Lines(vec![line.to_owned()]),
                Origin::Samples { seed: 1 },
                Origin::Synthetic(synthetic.clone()),
            ];
            for origin in &origins {
                let bytes = message(origin, &shape, Some(&marker()));
                assert!(memmem::find(&bytes, b"00042").is_some(), "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn lines_are_sent_as_they_are_in_order_and_again() {
        let origin = Origin::Lines(vec!["one".into(), "two".into()]);
        let mut feed = Feed::new(&origin, &Shape::Syslog, None).expect("a feed");
        let mut out = Vec::new();
        for number in 0..3 {
            assert_eq!(feed.put(number, &mut out), None);
        }
        assert_eq!(out, b"onetwoone");
    }

    #[test]
    fn text_becomes_the_message_of_an_event_and_broken_json_stays_broken() {
        let event: Value = serde_json::from_str(&json_line("plain \"text\"", Some("seq=1"))).expect("JSON");
        assert_eq!(event["message"], "plain \"text\" seq=1");
        assert_eq!(json_line("{broken", Some("seq=1")), "{broken");
        let event: Value = serde_json::from_str(&json_line(r#"{"a":1,"message":"m"}"#, Some("x"))).expect("JSON");
        assert_eq!(event, json!({"a": 1, "message": "m x"}));
    }

    #[test]
    fn a_trap_line_that_is_none_is_named() {
        let origin = Origin::Lines(vec![r#"{"trap_oid":"1.3.6.1"}"#.into(), "linkDown".into()]);
        let error = Feed::new(&origin, &trap_shape(), None).expect_err("no trap");
        assert_eq!(error.line, 2);
    }

    #[test]
    fn an_inform_says_where_its_request_id_is() {
        let origin = Origin::Samples { seed: 9 };
        let mut out = Vec::new();
        let at = Feed::new(&origin, &trap_shape(), None).expect("a feed").put(0, &mut out).expect("an offset");
        assert_eq!(out[at - 2..at], [0x02, 0x04]);
    }
}
