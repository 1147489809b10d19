//! Spans: what the stages tell about single events on their way, for whoever traces them.
//!
//! A trace is either begun by a sender, whose decision to record it is kept, or it is an event's own: its trace id is the
//! event's id, and one in so many is recorded, by the id, so that every stage decides alike. Recording a span puts it into
//! a bounded queue and never waits; what finds no room is counted and gone. While nothing is exported a stage asks one
//! `Option` a batch. Nothing is kept over a crash: traces are for looking, the audit is for knowing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::metrics::TRACE_SPANS;
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Event, EventId, SpanId, Timestamp, TraceContext, TraceId, scattered};

/// Events among which [`Settings::per_million`] are chosen.
const MILLION: u64 = 1_000_000;

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Of a million traces that nobody else decided about, so many are recorded.
    pub per_million: u64,
}

/// Which side of an exchange a span is on; the numbers are OTLP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work within the appliance.
    Internal = 1,
    /// A request that was answered.
    Server = 2,
    /// A request that was made.
    Client = 3,
    /// A message that was taken.
    Consumer = 5,
}

/// What is said about a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// The trace's `tracestate`.
    pub state: String,
    /// What was done.
    pub name: &'static str,
    /// Which side it is.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is said about it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed, if it did.
    pub fault: Option<String>,
}

impl Span {
    /// The span of an event's own way; the stages' spans lie below it.
    pub fn of_event(event: &Event, name: &'static str, end: Timestamp) -> Self {
        let parent = event.trace.as_ref();
        Self {
            trace_id: event.trace_id(),
            span_id: event.id.into(),
            parent: parent.map(|parent| parent.span_id),
            state: parent.map(|parent| parent.state.clone()).unwrap_or_default(),
            name,
            kind: SpanKind::Consumer,
            start: event.received_at,
            end,
            attributes: vec![("muttd.event.id", event.id.to_string().into())],
            fault: None,
        }
    }

    /// A stage's share of it.
    pub fn of_stage(event: &Event, span_id: SpanId, name: &'static str, (start, end): (Timestamp, Timestamp)) -> Self {
        let way = Self::of_event(event, name, end);
        Self { span_id, parent: Some(way.span_id), kind: SpanKind::Internal, start, ..way }
    }

    /// The same with one more thing said about it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Attribute>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }
}

/// Takes spans; clones share the queue.
#[derive(Debug, Clone)]
pub struct Tracer {
    ids: Arc<AtomicU64>,
    clock: Clock,
    export: Option<Export>,
}

#[derive(Debug, Clone)]
struct Export {
    spans: mpsc::Sender<Span>,
    settings: Live<Settings>,
}

/// Which events are traced now.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    per_million: u64,
}

impl Tracer {
    /// One that records nothing; it still gives out span ids, which receivers are told.
    pub fn off() -> Self {
        // Ids are no secret: without random numbers they only might meet those of another process.
        let seed = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        Self { ids: Arc::new(AtomicU64::new(seed)), clock: Clock::system(), export: None }
    }

    /// One that records into `spans`.
    pub fn to(spans: mpsc::Sender<Span>, settings: Live<Settings>) -> Self {
        Self { export: Some(Export { spans, settings }), ..Self::off() }
    }

    /// The time that spans are told in.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A span id that was not used before.
    pub fn next_id(&self) -> SpanId {
        SpanId::from_number(scattered(self.ids.fetch_add(1, Ordering::Relaxed)))
    }

    /// Which events to record; `None` if none at all.
    pub fn sampler(&self) -> Option<Sampler> {
        self.export.as_ref().map(|export| Sampler { per_million: export.settings.get().per_million })
    }

    /// Hands a span over.
    pub fn record(&self, span: Span) {
        let Some(export) = &self.export else { return };
        if export.spans.try_send(span).is_err() {
            metrics::counter!(TRACE_SPANS, "outcome" => "dropped").increment(1);
        }
    }
}

impl Sampler {
    /// Whether this event's way is recorded.
    pub fn takes(self, event: &Event) -> bool {
        event.trace.as_ref().map_or_else(|| self.chooses(event.id), |trace| trace.sampled)
    }

    /// Whether what belongs to no event is recorded: as its sender decided, else by its own id.
    pub fn takes_request(self, sent: Option<&TraceContext>, own: SpanId) -> bool {
        sent.map_or_else(|| self.is_chosen(u64::from_be_bytes(*own.as_bytes())), |sent| sent.sampled)
    }

    fn chooses(self, id: EventId) -> bool {
        self.is_chosen(u64::from_be_bytes(*SpanId::from(id).as_bytes()))
    }

    const fn is_chosen(self, number: u64) -> bool {
        scattered(number) % MILLION < self.per_million
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::live;
    use crate::model::{EventIds, Protocol, Source};

    fn events(count: usize) -> Vec<Event> {
        let ids = EventIds::new(3);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let source = Source { protocol: Protocol::Http, peer: [192, 0, 2, 1].into() };
        (0..count).map(|_| Event::new(ids.next(now), now, source)).collect()
    }

    #[test]
    fn as_many_events_are_traced_as_the_setting_says_and_every_stage_chooses_alike() {
        let (sender, settings) = live(Settings { per_million: 100_000 });
        let tracer = Tracer::to(mpsc::channel(1).0, settings);
        let events = events(20_000);
        let chosen = |tracer: &Tracer| {
            let sampler = tracer.sampler().expect("it is on");
            events.iter().filter(|event| sampler.takes(event)).map(|event| event.id).collect::<Vec<_>>()
        };
        let first = chosen(&tracer);
        assert!((1_700..2_300).contains(&first.len()), "{}", first.len());
        assert_eq!(chosen(&tracer.clone()), first);
        sender.set(Settings { per_million: 0 });
        assert!(chosen(&tracer).is_empty());
        sender.set(Settings { per_million: MILLION });
        assert_eq!(chosen(&tracer).len(), events.len());
        assert!(Tracer::off().sampler().is_none());
    }

    #[test]
    fn a_senders_decision_is_kept() {
        let tracer = Tracer::to(mpsc::channel(1).0, Live::constant(Settings { per_million: 0 }));
        let mut event = events(1).remove(0);
        for (flags, recorded) in [("01", true), ("00", false)] {
            let sent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            event.trace = TraceContext::parse(&sent, None).map(Box::new);
            let sampler = tracer.sampler().expect("it is on");
            assert_eq!(sampler.takes(&event), recorded, "{sent}");
            assert_eq!(sampler.takes_request(event.trace.as_deref(), tracer.next_id()), recorded);
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_without_waiting() {
        let (sender, mut receiver) = mpsc::channel(1);
        let tracer = Tracer::to(sender, Live::constant(Settings::default()));
        let event = &events(1)[0];
        let span = Span::of_event(event, "receive", event.received_at);
        tracer.record(span.clone());
        tracer.record(span.clone());
        assert_eq!(receiver.try_recv().ok(), Some(span));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn a_stages_span_lies_below_the_events_which_lies_below_the_senders() {
        let mut event = events(1).remove(0);
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        event.trace = TraceContext::parse(sent, Some("a=b")).map(Box::new);
        let way = Span::of_event(&event, "receive", event.received_at);
        let stage = Span::of_stage(&event, SpanId::from_number(9), "judge", (event.received_at, event.received_at));
        assert_eq!(way.parent.map(|id| id.to_string()).as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!((stage.parent, stage.trace_id, stage.state.as_str()), (Some(way.span_id), way.trace_id, "a=b"));
    }
}
