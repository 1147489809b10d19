//! Requests that belong to a trace: what their events carry on, and the span of the request itself. Keeps nothing.

use axum::http::{HeaderMap, StatusCode};

use crate::model::{SpanId, Timestamp, TraceContext};
use crate::net::http::sent_trace;
use crate::telemetry::trace::{Span, SpanKind, Tracer};

/// A request with a `traceparent`.
pub(super) struct TracedRequest {
    sent: TraceContext,
    /// The request's own span, if it is recorded.
    span: Option<SpanId>,
    start: Timestamp,
}

impl TracedRequest {
    /// `None` for a request that belongs to no trace; its events have traces of their own.
    pub(super) fn begin(tracer: &Tracer, headers: &HeaderMap, start: Timestamp) -> Option<Self> {
        let sent = sent_trace(headers)?;
        let span = tracer.sampler().filter(|_| sent.sampled).map(|_| tracer.next_id());
        Some(Self { sent, span, start })
    }

    /// What its events carry on.
    pub(super) fn context(&self) -> TraceContext {
        self.span.map_or_else(|| self.sent.clone(), |span| self.sent.below(span))
    }

    /// Ends with the answer.
    pub(super) fn end(self, tracer: &Tracer, status: StatusCode, now: Timestamp) {
        let Some(span_id) = self.span else { return };
        let fault = status.is_server_error().then(|| format!("answered with {status}"));
        tracer.record(Span {
            trace_id: self.sent.trace_id,
            span_id,
            parent: Some(self.sent.span_id),
            state: self.sent.state,
            name: "POST ingest",
            kind: SpanKind::Server,
            start: self.start,
            end: now,
            attributes: vec![
                ("http.request.method", "POST".into()),
                ("http.response.status_code", i64::from(status.as_u16()).into()),
            ],
            fault,
        });
    }
}
