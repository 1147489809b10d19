//! Requests to pages and API as spans: below the sender's, or one in so many with a trace of its own. Keeps nothing.

use axum::http::{HeaderMap, Method, StatusCode};

use crate::admin::Admin;
use crate::model::{SpanId, Timestamp, TraceContext, TraceId};
use crate::net::http::sent_trace;
use crate::telemetry::trace::{Span, SpanKind};

/// Characters of a path that are told.
const MAX_PATH: usize = 200;

/// One request under way.
pub(super) struct RequestSpan {
    sent: Option<TraceContext>,
    /// Its ids, if it is recorded.
    ids: Option<(TraceId, SpanId)>,
    start: Timestamp,
}

impl RequestSpan {
    /// Begins.
    pub fn begin(admin: &Admin, headers: &HeaderMap) -> Self {
        let tracer = admin.tracer();
        let sent = sent_trace(headers);
        let ids = tracer.sampler().and_then(|sampler| {
            let span = tracer.next_id();
            let whole = || [*tracer.next_id().as_bytes(), *span.as_bytes()].concat().try_into().ok();
            let trace = sent.as_ref().map(|sent| sent.trace_id).or_else(|| TraceId::from_bytes(whole()?))?;
            sampler.takes_request(sent.as_ref(), span).then_some((trace, span))
        });
        Self { sent, ids, start: admin.tracer().now() }
    }

    /// The trace that lines of the log should name.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.ids.map(|(trace, _)| trace).or_else(|| Some(self.sent.as_ref()?.trace_id))
    }

    /// Ends with the answer.
    pub fn end(self, admin: &Admin, method: &Method, path: &str, status: StatusCode) {
        let Some((trace_id, span_id)) = self.ids else { return };
        let path: String = path.chars().take(MAX_PATH).collect();
        let parent = self.sent.as_ref().map(|sent| sent.span_id);
        admin.tracer().record(Span {
            trace_id,
            span_id,
            parent,
            state: self.sent.map(|sent| sent.state).unwrap_or_default(),
            name: "web request",
            kind: SpanKind::Server,
            start: self.start,
            end: admin.tracer().now(),
            attributes: vec![
                ("http.request.method", method.as_str().into()),
                ("url.path", path.into()),
                ("http.response.status_code", i64::from(status.as_u16()).into()),
            ],
            fault: status.is_server_error().then(|| format!("answered with {status}")),
        });
    }
}
