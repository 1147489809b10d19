//! W3C trace context (the recommendation of November 2021): which trace an event belongs to, and how that is written in
//! headers. Pure; nothing here decides what is traced.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Event, EventId};

/// Bytes of `tracestate` that are passed on, at most (section 3.3.1.5 asks for 512 at least).
const MAX_STATE: usize = 512;

/// The name of the header, and of the JSON member.
pub const TRACEPARENT: &str = "traceparent";
/// The header for what tracing systems say to themselves.
pub const TRACESTATE: &str = "tracestate";

/// A trace's identity: never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId([u8; 16]);

/// A span's identity: never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanId([u8; 8]);

/// Where in which trace something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span that what follows belongs below.
    pub span_id: SpanId,
    /// Whether whoever began the trace records it.
    pub sampled: bool,
    /// What tracing systems say to themselves, passed on as it is; empty if there is nothing.
    pub state: String,
}

impl TraceId {
    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From 16 bytes; `None` for zeros.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

impl From<EventId> for TraceId {
    /// The trace of an event that came without one: the event's own id, so that either leads to the other.
    fn from(id: EventId) -> Self {
        Self(*id.as_bytes())
    }
}

impl SpanId {
    /// The 8 bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// From a number; zero becomes one.
    pub const fn from_number(number: u64) -> Self {
        Self(if number == 0 { 1_u64.to_be_bytes() } else { number.to_be_bytes() })
    }
}

impl From<EventId> for SpanId {
    /// The span of an event's own way through here, the same whenever it is asked for.
    fn from(id: EventId) -> Self {
        let bytes = id.as_bytes();
        let half = |at: usize| bytes[at..at + 8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Self::from_number(scattered(half(0).rotate_left(32) ^ half(8)))
    }
}

/// Another number for each number, without likeness to it (the finalizer of splitmix64).
pub const fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TraceContext {
    /// Reads what a sender says. A `traceparent` that is not as section 3.2 has it is as good as none; a `tracestate`
    /// that cannot be passed on is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim_matches([' ', '\t']).as_bytes();
        // Later versions may say more behind a further hyphen (section 3.2.4).
        let (fixed, more) = text.split_at_checked(55)?;
        let [version] = hex(&fixed[..2])?;
        let ends = more.is_empty() || (version != 0 && more[0] == b'-');
        if version == 0xff || !ends || [2, 35, 52].iter().any(|at| fixed[*at] != b'-') {
            return None;
        }
        let trace_id = TraceId::from_bytes(hex(&fixed[3..35])?)?;
        let span: [u8; 8] = hex(&fixed[36..52])?;
        let [flags] = hex(&fixed[53..55])?;
        let span_id = (span != [0; 8]).then_some(SpanId(span))?;
        let state = tracestate.map(str::trim).filter(|state| is_state(state)).unwrap_or_default().to_owned();
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1, state })
    }

    /// The header's value.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }

    /// The same trace below another span.
    #[must_use]
    pub fn below(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }
}

/// Whether it may be passed on: short, and without characters that no header holds.
fn is_state(state: &str) -> bool {
    state.len() <= MAX_STATE && state.contains('=') && state.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Bytes of lower-case hexadecimal digits, of which there are twice as many.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (digits.len() == 2 * N).then_some(bytes)
}

impl Event {
    /// The trace the event belongs to: its sender's, else its own.
    pub fn trace_id(&self) -> TraceId {
        self.trace.as_ref().map_or_else(|| self.id.into(), |trace| trace.trace_id)
    }

    /// What the event's receivers are told, below a span of ours.
    pub fn trace_below(&self, span_id: SpanId, sampled: bool) -> TraceContext {
        let own = || TraceContext { trace_id: self.id.into(), span_id, sampled, state: String::new() };
        self.trace.as_ref().map_or_else(own, |trace| trace.below(span_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Source, Timestamp};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_taken_only_as_the_standard_has_it() {
        let check = |text: &str, sampled: Option<bool>| {
            assert_eq!(TraceContext::parse(text, None).map(|context| context.sampled), sampled, "{text}");
        };
        check(GOOD, Some(true));
        check(&GOOD.replace("-01", "-00"), Some(false));
        check(&GOOD.replace("-01", "-03"), Some(true));
        check(&GOOD.replace("00-4", "cc-4"), Some(true));
        check(&format!("{}-what-comes", GOOD.replace("00-4", "01-4")), Some(true));
        check(&format!("{GOOD}-more"), None);
        check(&format!("{}x", GOOD.replace("00-4", "01-4")), None);
        check(&GOOD.replace("00-4", "ff-4"), None);
        check(&GOOD.to_uppercase(), None);
        check(&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), None);
        check(&GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), None);
        check(&GOOD[..54], None);
        check(&GOOD.replace("-00f0", "_00f0"), None);
        check("\u{fc}".repeat(28).as_str(), None);
        check("", None);
    }

    #[test]
    fn it_is_written_as_it_was_read_and_state_that_no_header_holds_is_left_out() {
        let context = TraceContext::parse(GOOD, Some(" vendor=1,other=2 ")).expect("valid");
        assert_eq!((context.traceparent().as_str(), context.state.as_str()), (GOOD, "vendor=1,other=2"));
        for bad in ["no member", "a=\r\nx", "a=\u{fc}", &format!("a={}", "x".repeat(MAX_STATE))] {
            assert_eq!(TraceContext::parse(GOOD, Some(bad)).expect("valid").state, "", "{bad}");
        }
    }

    #[test]
    fn an_event_without_a_trace_has_one_of_its_own_which_is_always_the_same() {
        let id: EventId = "0198c0de-0000-7000-8000-000000000001".parse().expect("an id");
        let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() };
        let mut event = Event::new(id, Timestamp::default(), source);
        assert_eq!(event.trace_id().to_string(), "0198c0de000070008000000000000001");
        assert_eq!(SpanId::from(id), SpanId::from(id));
        assert_ne!(SpanId::from(id), SpanId::from(id.derived()));
        let told = event.trace_below(SpanId::from_number(7), true);
        assert_eq!(told.traceparent(), "00-0198c0de000070008000000000000001-0000000000000007-01");
        event.trace = TraceContext::parse(GOOD, Some("a=b")).map(Box::new);
        let told = event.trace_below(SpanId::from_number(0), false);
        assert_eq!(told.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
        assert_eq!(told.state, "a=b");
    }
}
