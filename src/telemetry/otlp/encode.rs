//! The protobuf form of OTLP's ExportTraceServiceRequest (opentelemetry-proto 1.x, `trace/v1` and `collector/trace/v1`), as
//! far as it is sent and read here. Field numbers never change, so they stand at their fields below. Pure.

use crate::model::Timestamp;
use crate::telemetry::trace::{Attribute, Span};

/// Wire types (protobuf's encoding guide).
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// OTLP's status code for what failed.
const STATUS_ERROR: u64 = 2;

/// What all spans of this process have in common.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) host: String,
}

/// The body of one export.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let mut own = Vec::new();
    for (name, value) in [("service.name", "muttd"), ("service.version", version), ("host.name", &resource.host)] {
        message(1, &attribute(name, &value.into()), &mut own);
    }
    let mut scope = Vec::new();
    text(1, "muttd", &mut scope);
    text(2, version, &mut scope);
    let mut of_scope = Vec::new();
    message(1, &scope, &mut of_scope);
    spans.iter().for_each(|span| message(2, &one_span(span), &mut of_scope));
    let mut of_resource = Vec::new();
    message(1, &own, &mut of_resource);
    message(2, &of_scope, &mut of_resource);
    let mut body = Vec::new();
    message(1, &of_resource, &mut body);
    body
}

fn one_span(span: &Span) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    message(1, span.trace_id.as_bytes(), &mut out);
    message(2, span.span_id.as_bytes(), &mut out);
    text(3, &span.state, &mut out);
    if let Some(parent) = &span.parent {
        message(4, parent.as_bytes(), &mut out);
    }
    text(5, span.name, &mut out);
    number(6, span.kind as u64, &mut out);
    tag(7, FIXED64, &mut out);
    out.extend_from_slice(&nanos(span.start).to_le_bytes());
    tag(8, FIXED64, &mut out);
    // A clock that was set back between the two must not make a span end before it began.
    out.extend_from_slice(&nanos(span.end.max(span.start)).to_le_bytes());
    for (name, value) in &span.attributes {
        message(9, &attribute(name, value), &mut out);
    }
    if let Some(why) = &span.fault {
        let mut status = Vec::new();
        text(2, why, &mut status);
        number(3, STATUS_ERROR, &mut status);
        message(15, &status, &mut out);
    }
    // The W3C flags: whatever is exported is sampled.
    tag(16, FIXED32, &mut out);
    out.extend_from_slice(&1_u32.to_le_bytes());
    out
}

fn attribute(name: &str, value: &Attribute) -> Vec<u8> {
    let mut any = Vec::new();
    match value {
        // An empty text is still a text: without the field the value would be none at all.
        Attribute::Text(text) => message(1, text.as_bytes(), &mut any),
        Attribute::Number(value) => {
            tag(3, VARINT, &mut any);
            varint(value.cast_unsigned(), &mut any);
        }
    }
    let mut out = Vec::new();
    text(1, name, &mut out);
    message(2, &any, &mut out);
    out
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(0).saturating_mul(1_000)
}

fn tag(field: u32, kind: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | kind), out);
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number; zero is the default and is left out.
fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        tag(field, VARINT, out);
        varint(value, out);
    }
}

/// A text; an empty one is the default and is left out.
fn text(field: u32, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        message(field, value.as_bytes(), out);
    }
}

/// Bytes with their length: a message, a text or an id.
fn message(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    tag(field, BYTES, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// How many spans a collector says it did not take (`partial_success.rejected_spans` of its answer). An answer that is not
/// understood rejects nothing: it came with 200.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let partial = fields(answer).find_map(|(field, value)| if field == 1 { value.bytes() } else { None });
    let rejected = fields(partial.unwrap_or_default()).find_map(|(field, value)| match value {
        Value::Number(number) if field == 1 => Some(number),
        _ => None,
    });
    rejected.unwrap_or(0)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    const fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

/// The fields of a message, as far as it can be read.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = read_varint(&mut rest)?;
        let value = match u32::try_from(tag & 7).ok()? {
            VARINT => Value::Number(read_varint(&mut rest)?),
            BYTES => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                let (bytes, more) = rest.split_at_checked(length)?;
                rest = more;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let check = |number: u64, bytes: &[u8]| {
            let mut out = Vec::new();
            varint(number, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read_varint(&mut out.as_slice()), Some(number));
        };
        check(0, &[0]);
        check(127, &[127]);
        check(300, &[0xac, 2]);
        check(u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn what_a_collector_rejects_is_read_from_its_answer() {
        assert_eq!(rejected(&[]), 0);
        assert_eq!(rejected(&[0x0a, 0]), 0);
        assert_eq!(rejected(&[0x0a, 2, 0x08, 7]), 7);
        assert_eq!(rejected(&[0x0a, 6, 0x12, 2, b'n', b'o', 0x08, 3]), 3);
        assert_eq!(rejected(&[0x0a, 9, 0x08, 7]), 0, "cut off");
        assert_eq!(rejected(b"<html>"), 0);
    }
}
