//! Splits a body into items, each the text of one event: a JSON object, an array, lines (NDJSON), and the envelopes of
//! rsyslog's omhttp for Kafka's REST proxy (`records`) and for Loki (`streams`).
//!
//! What it never does: let one bad line spoil the others of an NDJSON body, hold more than [`MAX_ITEMS`] items, or
//! make more than a bounded amount of text out of an envelope. Pure but for the visitor it calls.

use std::fmt;
use std::ops::ControlFlow;

use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::answer::{Rejection, Shape};
use super::members::Members;

/// Items in one request, at most.
pub(super) const MAX_ITEMS: usize = 100_000;

/// Bytes of text made for the items of a Loki envelope, at most: its labels are repeated in every item, so a small body
/// could become a very large one.
const MAX_MADE_BYTES: usize = 8 << 20;

/// One item as it was found.
pub(super) enum Item<'a> {
    /// Text of an object, its members already found.
    Parsed(&'a str, Box<Members<'a>>),
    /// Text that should be an object and is not looked at yet.
    Text(&'a str),
    /// Not JSON, or not an object; why.
    Bad(String),
}

/// Calls `visit` for every item in order. `Err` means that the body as a whole cannot be used.
pub(super) fn split<'a>(text: &'a str, visit: &mut dyn FnMut(Item<'_>)) -> Result<Shape, Rejection> {
    let text: &'a str = text.trim_matches([' ', '\t', '\r', '\n', '\0']);
    let mut counted = Counted { visit, items: 0 };
    match text.as_bytes().first() {
        None => {
            Err(Rejection::Malformed("the body is empty; send a JSON object, an array of them, or one per line".into()))
        }
        Some(b'[') => array(text, &mut counted).map(|()| Shape::Batch),
        Some(_) => match Members::parse(text) {
            Ok(members) => object(text, members, &mut counted),
            Err(whole) => lines(text, &whole, &mut counted),
        },
    }
}

/// Hands items on up to the limit.
struct Counted<'v> {
    visit: &'v mut dyn FnMut(Item<'_>),
    items: usize,
}

impl Counted<'_> {
    fn take(&mut self, item: Item<'_>) -> ControlFlow<()> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return ControlFlow::Break(());
        }
        (self.visit)(item);
        ControlFlow::Continue(())
    }

    fn check(&self) -> Result<(), Rejection> {
        if self.items > MAX_ITEMS { Err(Rejection::TooMany { limit: MAX_ITEMS }) } else { Ok(()) }
    }
}

/// What serde_json says of a syntax error: a fixed text and a position. Its other errors may repeat input.
pub(super) fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => "not a JSON object".to_owned(),
        _ => format!("not valid JSON: {error}"),
    }
}

/// A body that is one object: an event, or an envelope around several.
fn object<'a>(text: &'a str, members: Members<'a>, counted: &mut Counted<'_>) -> Result<Shape, Rejection> {
    if members.has_no_event() {
        if let Some(records) = members.other("records") {
            each(records, &mut |record| counted.take(kafka_record(record).as_item()))?;
            counted.check()?;
            return Ok(Shape::Batch);
        }
        if let Some(streams) = members.other("streams") {
            let mut made = 0;
            each(streams, &mut |stream| loki_stream(stream, &mut made, counted))?;
            counted.check()?;
            if made > MAX_MADE_BYTES {
                return Err(Rejection::TooLarge { limit: MAX_MADE_BYTES });
            }
            return Ok(Shape::Batch);
        }
    }
    let taken = counted.take(Item::Parsed(text, Box::new(members)));
    debug_assert!(taken.is_continue(), "one item is below every limit");
    Ok(Shape::Single)
}

fn array(text: &str, counted: &mut Counted<'_>) -> Result<(), Rejection> {
    each(text, &mut |item| counted.take(Item::Text(item)))?;
    counted.check()
}

/// One item a line. If no line is JSON at all, the body is judged as a whole, with the error found there.
fn lines(text: &str, whole: &serde_json::Error, counted: &mut Counted<'_>) -> Result<Shape, Rejection> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    let first = lines.next();
    if lines.peek().is_none() || !text.lines().any(|line| Members::parse(line.trim()).is_ok()) {
        return Err(Rejection::Malformed(describe(whole)));
    }
    for line in first.into_iter().chain(lines) {
        if counted.take(Item::Text(line)).is_break() {
            break;
        }
    }
    counted.check()?;
    Ok(Shape::Batch)
}

/// Calls `visit` with the text of each element of a JSON array, without holding them all.
fn each(text: &str, visit: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), Rejection> {
    let mut elements = Elements { visit, stopped: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let result = deserializer.deserialize_seq(&mut elements).and_then(|()| deserializer.end());
    match result {
        Err(_) if elements.stopped => Ok(()),
        Err(error) => Err(Rejection::Malformed(describe(&error).replace("JSON object", "JSON array"))),
        Ok(()) => Ok(()),
    }
}

struct Elements<'v> {
    visit: &'v mut dyn FnMut(&str) -> ControlFlow<()>,
    stopped: bool,
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(element) = sequence.next_element::<&'de RawValue>()? {
            if (self.visit)(element.get()).is_break() {
                self.stopped = true;
                return Err(serde::de::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

/// Text of an item found in an envelope.
enum Found<'a> {
    Borrowed(&'a str),
    Made(String),
    Bad(&'static str),
}

impl Found<'_> {
    fn as_item(&self) -> Item<'_> {
        match self {
            Self::Borrowed(text) => Item::Text(text),
            Self::Made(text) => Item::Text(text),
            Self::Bad(why) => Item::Bad((*why).to_owned()),
        }
    }
}

/// `{"value": {..}}`, or with the object as a string, as omhttp's `kafkarest` sends it.
fn kafka_record(text: &str) -> Found<'_> {
    #[derive(Deserialize)]
    struct Record<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let Ok(record) = serde_json::from_str::<Record<'_>>(text) else { return Found::Bad("a record without a value") };
    if record.value.get().starts_with('"') {
        return serde_json::from_str(record.value.get()).map_or(Found::Bad("a value that is no text"), Found::Made);
    }
    Found::Borrowed(record.value.get())
}

/// A stream of a Loki push request: labels, and lines with their time in nanoseconds. A line that is itself an object
/// is the event; what it lacks comes from the labels.
#[derive(Deserialize)]
struct Stream<'a> {
    #[serde(default)]
    stream: Map<String, Value>,
    #[serde(borrow)]
    values: Vec<&'a RawValue>,
}

fn loki_stream(text: &str, made: &mut usize, counted: &mut Counted<'_>) -> ControlFlow<()> {
    let Ok(stream) = serde_json::from_str::<Stream<'_>>(text) else {
        return counted.take(Item::Bad("a stream without values".to_owned()));
    };
    for value in &stream.values {
        let Some(event) = loki_event(&stream.stream, value) else {
            counted.take(Item::Bad("a value that is not [\"time\", \"line\"]".to_owned()))?;
            continue;
        };
        *made += event.len();
        if *made > MAX_MADE_BYTES {
            return ControlFlow::Break(());
        }
        counted.take(Item::Text(&event))?;
    }
    ControlFlow::Continue(())
}

fn loki_event(labels: &Map<String, Value>, value: &RawValue) -> Option<String> {
    let mut parts = serde_json::from_str::<Vec<Value>>(value.get()).ok()?.into_iter();
    let (Value::String(time), Value::String(line)) = (parts.next()?, parts.next()?) else { return None };
    let mut event = match serde_json::from_str::<Value>(&line) {
        Ok(Value::Object(members)) => members,
        _ => Map::from_iter([("message".to_owned(), Value::String(line))]),
    };
    for (name, label) in labels {
        event.entry(name).or_insert_with(|| label.clone());
    }
    let host = ["host", "instance", "nodename"].into_iter().find_map(|name| labels.get(name)).cloned();
    if let Some(host) = host {
        event.entry("hostname").or_insert(host);
    }
    event.entry("timestamp").or_insert(Value::String(time));
    Some(Value::Object(event).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items as text, bad ones as `!`, and the shape.
    fn found(body: &str) -> Result<(Shape, Vec<String>), Rejection> {
        let mut items = Vec::new();
        let shape = split(body, &mut |item| {
            items.push(match item {
                Item::Parsed(text, _) | Item::Text(text) => text.to_owned(),
                Item::Bad(_) => "!".to_owned(),
            });
        })?;
        Ok((shape, items))
    }

    fn check(body: &str, shape: Shape, items: &[&str]) {
        let (found_shape, found_items) = found(body).unwrap_or_else(|rejection| panic!("{body}: {rejection:?}"));
        assert_eq!((found_shape, found_items.iter().map(String::as_str).collect::<Vec<_>>()), (shape, items.to_vec()));
    }

    #[test]
    fn every_batch_mode_is_split() {
        check(r#" {"a":1} "#, Shape::Single, &[r#"{"a":1}"#]);
        check("{\"a\":\n1}", Shape::Single, &["{\"a\":\n1}"]);
        check(r#"[{"a":1}, 2,{"b":[3]}]"#, Shape::Batch, &[r#"{"a":1}"#, "2", r#"{"b":[3]}"#]);
        check("[]", Shape::Batch, &[]);
        check("{\"a\":1}\n\n{\"b\":2}\r\n", Shape::Batch, &[r#"{"a":1}"#, r#"{"b":2}"#]);
        check("{\"a\":1}\noops\n{\"b\":2}", Shape::Batch, &[r#"{"a":1}"#, "oops", r#"{"b":2}"#]);
        check("oops\n{\"b\":2}", Shape::Batch, &["oops", r#"{"b":2}"#]);
        check(
            r#"{"records":[{"value":{"a":1}},{"value":"{\"b\":2}"},{"key":1}]}"#,
            Shape::Batch,
            &[r#"{"a":1}"#, r#"{"b":2}"#, "!"],
        );
        check(
            r#"{"streams":[{"stream":{"host":"h","job":"j"},"values":[["1772366400000000000","text"],["2","{\"hostname\":\"x\"}"],[1]]}]}"#,
            Shape::Batch,
            &[
                r#"{"message":"text","host":"h","job":"j","hostname":"h","timestamp":"1772366400000000000"}"#,
                r#"{"hostname":"x","host":"h","job":"j","timestamp":"2"}"#,
                "!",
            ],
        );
        check(r#"{"records":[],"message":"m"}"#, Shape::Single, &[r#"{"records":[],"message":"m"}"#]);
    }

    #[test]
    fn a_body_that_is_not_json_is_refused_without_being_repeated() {
        for body in ["", " \n ", "<script>", "{\"a\":1", "[{\"a\":1},", "[1]]", "\"<script>\"", "{\n<script>\n}", "5"] {
            match found(body) {
                Err(Rejection::Malformed(text)) => assert!(!text.contains("script"), "{text}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_number_of_items_is_limited() {
        let body = format!("[{}1]", "1,".repeat(MAX_ITEMS));
        assert!(matches!(found(&body), Err(Rejection::TooMany { .. })));
        let body = "{}\n".repeat(MAX_ITEMS + 1);
        assert!(matches!(found(&body), Err(Rejection::TooMany { .. })));
    }

    #[test]
    fn labels_cannot_be_multiplied_without_bound() {
        let values = r#"["1","x"],"#.repeat(9_000);
        let body =
            format!(r#"{{"streams":[{{"stream":{{"l":"{}"}},"values":[{values}["1","x"]]}}]}}"#, "y".repeat(2_000));
        assert!(matches!(found(&body), Err(Rejection::TooLarge { .. })));
    }
}
