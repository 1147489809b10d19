//! One line of the log with its fields, and the layer that makes it of what the program reports: it goes into the ring
//! and, where the format asks for it, to standard error as JSON or to the journal.
//!
//! Fields of the spans around an event are the line's too, so that what is told while a request or a delivery is under way
//! carries its ids. Lengths and the number of fields are bounded, whatever is reported. Keeps nothing itself.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Number, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::journal::Journal;
use super::memory::LogRing;
use crate::clock::Clock;
use crate::model::Timestamp;

/// Bytes of a line's sentence, at most.
const MAX_MESSAGE: usize = 4 << 10;
/// Bytes of a field's text, at most.
const MAX_VALUE: usize = 1 << 10;
/// Fields of one line, at most; our own have ten at the most.
const MAX_FIELDS: usize = 32;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For one who looks for a fault.
    Debug,
    /// What happens in the course of things.
    Info,
    /// Something is not as it should be, and was coped with.
    Warn,
    /// Somebody must act.
    Error,
}

impl LogLevel {
    /// Every level, from the least to the most important.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name used in the API and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    /// Syslog's number for it (RFC 5424 section 6.2.1), as the journal wants it.
    pub(super) const fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
            Self::Debug | Self::Trace => 7,
        }
    }

    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Its number since the start, from 1; given by the ring.
    pub id: u64,
    /// When it was written.
    pub at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// The module that wrote it, as `muttd::forward::desk`.
    pub module: Cow<'static, str>,
    /// The sentence.
    pub message: String,
    /// What can be searched, in order; no name twice.
    pub fields: Vec<(Cow<'static, str>, Value)>,
}

impl LogLine {
    /// The part of the program that wrote it: `forward`; the name of the crate for what is not ours.
    pub fn component(&self) -> &str {
        let mut parts = self.module.split("::");
        let first = parts.next().unwrap_or_default();
        if first == env!("CARGO_PKG_NAME") { parts.next().unwrap_or(first) } else { first }
    }

    /// What it takes in memory, in bytes, roughly.
    pub(super) fn approximate_bytes(&self) -> usize {
        let value = |value: &Value| value.as_str().map_or(16, str::len);
        size_of::<Self>()
            + self.message.len()
            + self
                .fields
                .iter()
                .map(|(name, text)| name.len() + value(text) + size_of::<(Cow<'_, str>, Value)>())
                .sum::<usize>()
    }

    /// Adds a field unless there is one of that name, or too many.
    fn add(&mut self, (name, value): &(Cow<'static, str>, Value)) {
        if self.fields.len() < MAX_FIELDS && self.fields.iter().all(|(known, _)| known != name) {
            self.fields.push((name.clone(), value.clone()));
        }
    }

    /// One JSON object: time, level, module and sentence, then the fields.
    fn to_json(&self) -> String {
        let mut members = Map::new();
        members.insert("timestamp".into(), self.at.to_string().into());
        members.insert("level".into(), self.level.name().to_ascii_uppercase().into());
        members.insert("message".into(), self.message.as_str().into());
        members.insert("target".into(), self.module.as_ref().into());
        for (name, value) in &self.fields {
            // A field may be called like a member of ours; the member stays what it is.
            members.entry(name.as_ref()).or_insert_with(|| value.clone());
        }
        Value::Object(members).to_string()
    }
}

/// Where lines go besides the ring.
pub(super) enum Outlet {
    /// Nowhere: another layer writes them.
    None,
    /// To standard error, one JSON object each.
    Json,
    /// To systemd's journal.
    Journal(Journal),
}

/// Makes lines of events.
pub(super) struct Lines {
    pub(super) ring: LogRing,
    pub(super) outlet: Outlet,
    pub(super) clock: Clock,
}

/// The fields of a span, kept with it.
struct SpanFields(Fields);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut line = LogLine {
            id: 0,
            at: self.clock.now(),
            level: LogLevel::of(*metadata.level()),
            module: fields.log_target.map_or(Cow::Borrowed(metadata.target()), Cow::Owned),
            message: fields.message,
            fields: Vec::with_capacity(fields.named.len()),
        };
        fields.named.iter().for_each(|field| line.add(field));
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                fields.named.iter().for_each(|field| line.add(field));
            }
        }
        match &self.outlet {
            Outlet::None => {}
            // A log that cannot be written has nowhere to say so.
            Outlet::Json => drop(writeln!(std::io::stderr().lock(), "{}", line.to_json())),
            Outlet::Journal(journal) => journal.write(&line),
        }
        self.ring.push(line);
    }
}

/// Collects fields.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(Cow<'static, str>, Value)>,
    /// The module, for lines of crates that report by another way (`log`).
    log_target: Option<String>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "log.target" => self.log_target = value.as_str().map(str::to_owned),
            "log.module_path" | "log.file" | "log.line" => {}
            name => {
                let known = self.named.iter().position(|(known, _)| known == name);
                match known {
                    Some(place) => self.named[place].1 = value,
                    None if self.named.len() < MAX_FIELDS => self.named.push((Cow::Borrowed(name), value)),
                    None => {}
                }
            }
        }
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let is_message = field.name() == "message";
        let mut bounded = Bounded { text: String::new(), most: if is_message { MAX_MESSAGE } else { MAX_VALUE } };
        // It stops writing when it is full, which is no fault.
        let _ = bounded.write_fmt(text);
        if is_message {
            self.message = bounded.text;
        } else {
            self.put(field, Value::String(bounded.text));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Number::from_f64(value).map_or(Value::Null, Value::Number));
    }
}

/// Text that takes no more than so many bytes.
struct Bounded {
    text: String,
    most: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.most - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.most = self.text.len();
        Err(fmt::Error)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// What is reported within `report`, as the ring has it.
    pub(in crate::telemetry::logs) fn ring_of(report: impl FnOnce()) -> LogRing {
        let ring = LogRing::default();
        let clock = Clock::fixed(Timestamp::from_millis(1_800_000_000_000));
        let lines = Lines { ring: ring.clone(), outlet: Outlet::None, clock };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), report);
        ring
    }

    #[test]
    fn a_line_has_its_own_fields_and_those_of_the_spans_around_it() {
        let ring = ring_of(|| {
            let outer = tracing::info_span!("request", correlation_id = "c-1", attempt = 1);
            let _outer = outer.entered();
            let inner = tracing::info_span!("delivery", trace_id = tracing::field::Empty);
            inner.record("trace_id", "abc");
            let _inner = inner.entered();
            tracing::warn!(attempt = 2_u64, ok = false, share = 0.5, name = %"x", "It {}", "broke");
        });
        let lines = ring.all();
        let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
        assert_eq!(
            (line.id, line.level, line.component(), line.message.as_str()),
            (1, LogLevel::Warn, "telemetry", "It broke")
        );
        let json: Value = serde_json::from_str(&line.to_json()).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "timestamp": "2027-01-15T08:00:00Z", "level": "WARN", "message": "It broke",
                "target": "muttd::telemetry::logs::line::tests",
                "attempt": 2, "ok": false, "share": 0.5, "name": "x", "correlation_id": "c-1", "trace_id": "abc",
            })
        );
    }

    #[test]
    fn what_is_reported_is_bounded() {
        let long = "\u{fc}".repeat(10_000);
        let ring = ring_of(|| tracing::info!(value = long, "{long}"));
        let line = &ring.all()[0];
        assert_eq!((line.message.len(), line.fields[0].1.as_str().map(str::len)), (MAX_MESSAGE, Some(MAX_VALUE)));
        assert!(line.approximate_bytes() < 2 * (MAX_MESSAGE + MAX_VALUE));
    }

    #[test]
    fn levels_are_found_by_name_and_ordered_by_importance() {
        assert_eq!(LogLevel::find("WARN"), Some(LogLevel::Warn));
        assert_eq!(LogLevel::find("loud"), None);
        assert!(LogLevel::ALL.is_sorted());
    }
}
