//! What counts as good and bad: the six service levels in terms of the program's counters. Pure. The same terms stand in
//! `packaging/prometheus/recording.rules.yml`.

use super::Settings;
use crate::telemetry::metrics::{
    ALERTER_PROCESSED, EVENTS_DROPPED, EVENTS_RECEIVED, FORWARD_DELIVERIES, FORWARD_LATENCY, INGEST_LATENCY,
    RULES_RELOADS,
};
use crate::telemetry::{Sample, samples};

/// Something for each level, in the order of [`Level::ALL`].
pub(super) type PerLevel<T> = [T; 6];

/// Reasons of drops that are ours, not the sender's.
pub(super) const OUR_FAULT: [&str; 4] = ["queue_full", "rate_limited", "storage", "stopping"];

/// A service level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Events stored, of all received.
    IngestAvailability,
    /// HTTP ingest requests answered in time.
    IngestLatency,
    /// Deliveries that were taken.
    ForwardSuccess,
    /// Deliveries that were quick enough.
    ForwardLatency,
    /// Events that were judged.
    ProcessingSuccess,
    /// Reloads of rules, hosts and teams that succeeded.
    RuleReloadSuccess,
}

impl Level {
    /// Every level.
    pub const ALL: PerLevel<Self> = [
        Self::IngestAvailability,
        Self::IngestLatency,
        Self::ForwardSuccess,
        Self::ForwardLatency,
        Self::ProcessingSuccess,
        Self::RuleReloadSuccess,
    ];

    /// Its place in [`Self::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Its name in API, metrics and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IngestAvailability => "ingest_availability",
            Self::IngestLatency => "ingest_latency",
            Self::ForwardSuccess => "forward_success",
            Self::ForwardLatency => "forward_latency",
            Self::ProcessingSuccess => "processing_success",
            Self::RuleReloadSuccess => "rule_reload_success",
        }
    }

    /// What is good, of what.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::IngestAvailability => {
                "events that were stored, of all received; what a sender got wrong does not count"
            }
            Self::IngestLatency => "HTTP ingest requests that were answered in time",
            Self::ForwardSuccess => "deliveries that the target took, of all tried",
            Self::ForwardLatency => "deliveries that were quick enough",
            Self::ProcessingSuccess => "events that were judged; the others became dead letters",
            Self::RuleReloadSuccess => "reloads of rules, hosts and teams that succeeded",
        }
    }
}

/// Events of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that went wrong.
    pub bad: u64,
    /// All.
    pub total: u64,
}

impl Counts {
    /// What was added since `earlier`.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self { bad: self.bad.saturating_sub(earlier.bad), total: self.total.saturating_sub(earlier.total) }
    }

    /// Adds.
    pub(super) const fn add(&mut self, more: Self) {
        self.bad = self.bad.saturating_add(more.bad);
        self.total = self.total.saturating_add(more.total);
    }

    /// The share of bad ones; 0 if there are none at all.
    pub fn error_ratio(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.bad.min(self.total) as f64 / self.total as f64 }
    }
}

/// What the counters say, since the process began.
pub(super) fn read(text: &str, settings: &Settings) -> PerLevel<Counts> {
    let mut counts = PerLevel::<Counts>::default();
    // Of histograms the good ones are counted.
    let mut quick = [0_u64; 2];
    for sample in samples(text) {
        let count = sample.count();
        let mut add = |level: Level, is_bad: bool| {
            let counts = &mut counts[level.index()];
            counts.total += count;
            if is_bad {
                counts.bad += count;
            }
        };
        match sample.name {
            EVENTS_RECEIVED if sample.label("source") != Some("recovered") => add(Level::IngestAvailability, false),
            // Received already.
            EVENTS_DROPPED if sample.label("reason").is_some_and(|reason| OUR_FAULT.contains(&reason)) => {
                counts[Level::IngestAvailability.index()].bad += count;
            }
            FORWARD_DELIVERIES => add(Level::ForwardSuccess, sample.label("status") != Some("success")),
            ALERTER_PROCESSED => add(Level::ProcessingSuccess, sample.label("status") == Some("error")),
            RULES_RELOADS => add(Level::RuleReloadSuccess, sample.label("result") == Some("failure")),
            name => {
                let latencies = [
                    (INGEST_LATENCY, Level::IngestLatency, settings.ingest_latency),
                    (FORWARD_LATENCY, Level::ForwardLatency, settings.forward_latency),
                ];
                for (index, (metric, level, bound)) in latencies.into_iter().enumerate() {
                    match name.strip_prefix(metric) {
                        Some("_count") => counts[level.index()].total += count,
                        Some("_bucket") if is_bound(&sample, bound) => quick[index] += count,
                        _ => {}
                    }
                }
            }
        }
    }
    for (quick, level) in quick.into_iter().zip([Level::IngestLatency, Level::ForwardLatency]) {
        let counts = &mut counts[level.index()];
        counts.bad = counts.total.saturating_sub(quick);
    }
    counts
}

fn is_bound(sample: &Sample<'_>, bound: f64) -> bool {
    sample.label("le").and_then(|le| le.parse::<f64>().ok()).is_some_and(|le| (le - bound).abs() < 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Team;

    #[test]
    fn the_counters_are_read_as_good_and_bad() {
        let text = r#"
mutt_events_received_total{source="http"} 100
mutt_events_received_total{source="recovered"} 7
mutt_events_dropped_total{source="http",reason="queue_full"} 3
mutt_events_dropped_total{source="http",reason="unauthorized"} 5
mutt_ingest_latency_seconds_bucket{le="0.5"} 18
mutt_ingest_latency_seconds_bucket{le="1"} 20
mutt_ingest_latency_seconds_count 20
mutt_forward_deliveries_total{target="moogsoft",status="success",reason="ok"} 8
mutt_forward_deliveries_total{target="moogsoft",status="retry",reason="timeout"} 2
mutt_moog_request_seconds_bucket{le="2"} 9
mutt_moog_request_seconds_count 10
mutt_alerter_events_processed_total{status="ignored"} 50
mutt_alerter_events_processed_total{status="error"} 1
mutt_rules_reloads_total{result="success"} 4
mutt_rules_reloads_total{result="failure"} 1
"#;
        let settings = Settings::for_team(Team::new("NETO").expect("a team"));
        let found = read(text, &settings);
        let pairs = found.map(|counts| (counts.bad, counts.total));
        assert_eq!(pairs, [(3, 100), (2, 20), (2, 10), (1, 10), (1, 51), (1, 5)]);
        let slower = Settings { ingest_latency: 1.0, ..settings };
        assert_eq!(read(text, &slower)[1], Counts { bad: 0, total: 20 });
    }

    #[test]
    fn nothing_at_all_is_no_error() {
        assert!(Counts::default().error_ratio().abs() < f64::EPSILON);
        assert!((Counts { bad: 9, total: 3 }.error_ratio() - 1.0).abs() < f64::EPSILON);
    }
}
