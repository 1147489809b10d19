//! Attempts to deliver, as receivers and tracing systems are told of them: each has a span of its own below the event's,
//! and an HTTP receiver gets its id in `traceparent`, so that what happens there can be seen below it. Keeps nothing.

use super::{DeliveryError, Receipt};
use crate::model::{Alert, SpanId, TargetName, Timestamp};
use crate::telemetry::trace::{Span, SpanKind, Tracer};

/// One attempt under way.
pub(super) struct Attempt {
    start: Timestamp,
    /// For each alert its span, if it is recorded.
    spans: Vec<Option<SpanId>>,
}

impl Attempt {
    /// Begins: from here on the alerts carry the context that their receiver is told.
    pub(super) fn begin(tracer: &Tracer, alerts: &mut [Alert], start: Timestamp) -> Self {
        let sampler = tracer.sampler();
        let spans = alerts.iter_mut().map(|alert| {
            let id = tracer.next_id();
            let recorded = sampler.is_some_and(|sampler| sampler.takes(&alert.event));
            alert.event.trace = Some(Box::new(alert.event.trace_below(id, recorded)));
            recorded.then_some(id)
        });
        Self { start, spans: spans.collect() }
    }

    /// Ends: `ended` is what the target answered, `None` if it failed itself.
    pub(super) fn end<'a>(
        self,
        tracer: &Tracer,
        target: &TargetName,
        alerts: impl Iterator<Item = (u32, &'a Alert)>,
        ended: Option<&Result<Receipt, DeliveryError>>,
        now: Timestamp,
    ) {
        let (answer, outcome, fault) = match ended {
            Some(Ok(receipt)) => (receipt.answer.clone(), "taken", None),
            Some(Err(error)) => (error.to_string(), error.reason().name(), Some(error.to_string())),
            None => (String::new(), "internal", Some("the target failed while it made the request".to_owned())),
        };
        for ((attempt, alert), span) in alerts.zip(self.spans) {
            let Some(id) = span else { continue };
            let span = Span::of_stage(&alert.event, id, "deliver", (self.start, now))
                .with("muttd.target", target.as_str())
                .with("muttd.attempt", i64::from(attempt))
                .with("muttd.outcome", outcome);
            let span = match status_of(&answer) {
                Some(status) => span.with("http.response.status_code", status),
                None => span,
            };
            tracer.record(Span { kind: SpanKind::Client, fault: fault.clone(), ..span });
        }
    }
}

/// The HTTP status that an answer begins with, if it came by HTTP.
fn status_of(answer: &str) -> Option<i64> {
    let number = answer.split(|c: char| !c.is_ascii_digit()).next()?;
    number.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_start_of_an_answer() {
        let check = |answer: &str, expected: Option<i64>| assert_eq!(status_of(answer), expected, "{answer}");
        check("200 OK: taken", Some(200));
        check("503: later", Some(503));
        check("250 2.0.0 queued", Some(250));
        check("connection refused", None);
        check("99999", None);
        check("", None);
    }
}
