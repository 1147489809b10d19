//! What the alerter tells about single events, once all that follows from them is durable: spans for those that are
//! traced, and at level debug a line of the log for each. Decides nothing and keeps nothing.

use std::sync::Arc;

use tracing::{Level, debug, enabled};

use crate::model::{Judged, Timestamp};
use crate::telemetry::trace::{Sampler, Span, Tracer};

/// When the steps of a batch began and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Its judging.
    pub(super) judging: (Timestamp, Timestamp),
    /// The writing of its audit rows and counters.
    pub(super) writing: (Timestamp, Timestamp),
}

/// Tells about a batch.
pub(super) fn tell(tracer: &Tracer, batch: &[Arc<Vec<Judged>>], times: Times) {
    if let Some(sampler) = tracer.sampler() {
        record(tracer, sampler, batch, times);
    }
    if enabled!(Level::DEBUG) {
        batch.iter().flat_map(|judged| judged.iter()).for_each(log);
    }
}

fn record(tracer: &Tracer, sampler: Sampler, batch: &[Arc<Vec<Judged>>], times: Times) {
    let events = batch.iter().flat_map(|judged| judged.iter());
    for Judged { event, decision } in events.filter(|judged| sampler.takes(&judged.event)) {
        let stage = |name, during| Span::of_stage(event, tracer.next_id(), name, during);
        tracer.record(stage("queue", (event.received_at, times.judging.0)));
        let judge = stage("judge", times.judging).with("muttd.environment", decision.environment.name());
        tracer.record(match &decision.matched {
            Some(matched) => {
                judge.with("muttd.rule.id", matched.rule.0).with("muttd.handling", matched.handling.as_str())
            }
            None => judge,
        });
        tracer.record(stage("audit", times.writing));
    }
}

fn log(judged: &Judged) {
    let Judged { event, decision } = judged;
    debug!(
        event.id = %event.id,
        trace_id = %event.trace_id(),
        correlation_id = event.correlation(),
        rule.id = decision.rule().map(|rule| rule.0),
        forwarded = decision.forwarded(),
        "Judged an event"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::fixtures::event;
    use crate::live::Live;
    use crate::model::{Decision, Environment, TraceContext};
    use crate::telemetry::trace::Settings;
    use tokio::sync::mpsc;

    #[test]
    fn each_step_of_a_traced_event_is_a_span_below_the_events() {
        let (sender, mut spans) = mpsc::channel(9);
        let tracer = Tracer::to(sender, Live::constant(Settings { per_million: 0 }));
        let mut traced = event("sw1", "fan failed");
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        traced.trace = TraceContext::parse(sent, None).map(Box::new);
        let judged = |event| Judged { event, decision: Decision { environment: Environment::Prod, matched: None } };
        let batch = [Arc::new(vec![judged(traced.clone()), judged(event("sw2", "not traced"))])];
        let at = |seconds: i64| Timestamp::from_millis(1_900_000_000_000 + seconds * 1_000);
        tell(&tracer, &batch, Times { judging: (at(1), at(2)), writing: (at(2), at(4)) });
        drop(tracer);
        let mut found = Vec::new();
        while let Ok(span) = spans.try_recv() {
            assert_eq!((span.trace_id, span.parent), (traced.trace_id(), Some(traced.id.into())));
            found.push((span.name, span.start, span.end));
        }
        let expected = [("queue", traced.received_at, at(1)), ("judge", at(1), at(2)), ("audit", at(2), at(4))];
        assert_eq!(found, expected);
    }
}
