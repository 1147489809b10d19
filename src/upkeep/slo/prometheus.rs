//! The same figures from a Prometheus server that scrapes this appliance, beside our own.
//!
//! One task asks it every minute, one query a window, and keeps the last answer. The appliance's own figures and states
//! never depend on it: a Prometheus that is away is told with what it said last, and with why. Its address comes from file
//! or environment alone. Nothing is kept over a restart.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::counting::{OUR_FAULT, PerLevel};
use super::settings::Settings;
use super::{Level, WINDOWS, Window};
use crate::clock::Clock;
use crate::live::{Live, LiveSender, live};
use crate::model::Timestamp;
use crate::net::outbound;
use crate::telemetry::metrics::{
    ALERTER_PROCESSED, EVENTS_DROPPED, EVENTS_RECEIVED, FORWARD_DELIVERIES, FORWARD_LATENCY, INGEST_LATENCY,
    RULES_RELOADS,
};

/// Time between two looks: as often as our own buckets change.
const EVERY: Duration = Duration::from_secs(60);
/// Between two looks while it does not answer, so that it is found soon after it came.
const AGAIN: Duration = Duration::from_secs(10);
/// Time for one query.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer; twelve numbers take some 2 KiB.
const MAX_ANSWER: usize = 256 << 10;

/// Where the Prometheus server is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Its address, as `http://prometheus.example:9090`; empty for none.
    pub url: String,
    /// Matchers that choose this appliance among those it scrapes, as `instance="10.0.0.7:8090"`; may be empty.
    pub matchers: String,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// What it says of one level and window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Events that went wrong, about: Prometheus extrapolates between its scrapes.
    pub bad: f64,
    /// All.
    pub total: f64,
}

impl Figures {
    /// The share of bad ones; 0 if there are none at all.
    pub fn error_ratio(self) -> f64 {
        if self.total > 0.0 { (self.bad / self.total).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Figures for each level, in the order of [`Level::ALL`], by the windows of [`WINDOWS`].
pub type AllFigures = PerLevel<[Figures; 5]>;

/// What is known from Prometheus.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrometheusReport {
    /// Where it is.
    pub address: String,
    /// What it said last, and when.
    pub figures: Option<(Timestamp, AllFigures)>,
    /// Why it says nothing now.
    pub trouble: Option<String>,
}

/// Starts asking; `None` if there is no Prometheus. An address that cannot be asked is told as trouble.
pub(super) fn start(
    settings: &PrometheusSettings,
    objectives: Live<Settings>,
    clock: Clock,
    stop: CancellationToken,
) -> Option<Live<PrometheusReport>> {
    if settings.url.is_empty() {
        return None;
    }
    let address = settings.url.trim().trim_end_matches('/').to_owned();
    let (sender, report) = live(PrometheusReport { address: address.clone(), ..PrometheusReport::default() });
    let watch = Watch { settings: PrometheusSettings { url: address, ..settings.clone() }, objectives, clock, sender };
    // It holds nothing that a stop would have to wait for.
    tokio::spawn(watch.run(stop));
    Some(report)
}

struct Watch {
    settings: PrometheusSettings,
    objectives: Live<Settings>,
    clock: Clock,
    sender: LiveSender<PrometheusReport>,
}

impl Watch {
    async fn run(self, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = self.ask() => asked,
            };
            let pause = if asked.is_ok() { EVERY } else { AGAIN };
            self.tell(asked);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Publishes an answer; people are told when it begins to fail and when it is well again.
    fn tell(&self, asked: Result<AllFigures, String>) {
        let before = self.sender.get();
        let (address, now) = (before.address.clone(), self.clock.now());
        let report = match asked {
            Ok(figures) => {
                if before.trouble.is_some() {
                    tracing::info!(address, "Prometheus answers again");
                }
                PrometheusReport { address, figures: Some((now, figures)), trouble: None }
            }
            Err(why) => {
                if before.trouble.is_none() {
                    tracing::warn!(
                        address,
                        error = why,
                        "Prometheus cannot be asked for the service levels; our own figures go on"
                    );
                }
                PrometheusReport { address, figures: before.figures, trouble: Some(why) }
            }
        };
        self.sender.set(report);
    }

    async fn ask(&self) -> Result<AllFigures, String> {
        let settings = &self.settings;
        let client = outbound::client(&settings.url, settings.ca_file.as_deref(), TIMEOUT)?;
        let objectives = self.objectives.get();
        let mut figures = AllFigures::default();
        for (place, window) in WINDOWS.iter().enumerate() {
            let body = format!("query={}", encoded(&query(&objectives, *window, &settings.matchers)));
            let request = client.post(format!("{}/api/v1/query", settings.url));
            let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(body);
            let answer = request.send().await.map_err(outbound::silence)?;
            let status = answer.status();
            let body = outbound::body(answer, MAX_ANSWER).await?;
            let body: Value = serde_json::from_slice(&body).map_err(|_| format!("it answers {status} and no JSON"))?;
            read(&body, place, &mut figures).map_err(|why| format!("it answers {status}: {why}"))?;
        }
        Ok(figures)
    }
}

/// One query for all levels over a window: for each the bad and all of them, with the level's name in `slo` and which it is
/// in `part`. The terms are those of `packaging/prometheus/recording.rules.yml`.
fn query(settings: &Settings, window: Window, matchers: &str) -> String {
    let term = |metric: &str, own: &str| {
        let both: Vec<&str> = [own, matchers].into_iter().filter(|text| !text.is_empty()).collect();
        format!("sum(increase({metric}{{{}}}[{}]))", both.join(","), window.name)
    };
    let quick = |metric: &str, bound: f64| {
        // Prometheus 3 writes whole bounds with a decimal.
        let le = format!("le=~\"{}(\\\\.0)?\"", bound.to_string().replace('.', "\\\\."));
        let count = term(&format!("{metric}_count"), "");
        (format!("{count} - {}", term(&format!("{metric}_bucket"), &le)), count)
    };
    let ours = format!("reason=~\"{}\"", OUR_FAULT.join("|"));
    let parts = Level::ALL.map(|level| match level {
        Level::IngestAvailability => (term(EVENTS_DROPPED, &ours), term(EVENTS_RECEIVED, "source!=\"recovered\"")),
        Level::IngestLatency => quick(INGEST_LATENCY, settings.ingest_latency),
        Level::ForwardSuccess => (term(FORWARD_DELIVERIES, "status!=\"success\""), term(FORWARD_DELIVERIES, "")),
        Level::ForwardLatency => quick(FORWARD_LATENCY, settings.forward_latency),
        Level::ProcessingSuccess => (term(ALERTER_PROCESSED, "status=\"error\""), term(ALERTER_PROCESSED, "")),
        Level::RuleReloadSuccess => (term(RULES_RELOADS, "result=\"failure\""), term(RULES_RELOADS, "")),
    });
    let named = |level: Level, part: &str, term: &str| {
        let slo = level.name();
        format!("label_replace(label_replace({term},\"slo\",\"{slo}\",\"\",\"\"),\"part\",\"{part}\",\"\",\"\")")
    };
    let terms = Level::ALL.into_iter().zip(&parts);
    let terms = terms.flat_map(|(level, (bad, total))| [named(level, "bad", bad), named(level, "total", total)]);
    terms.collect::<Vec<_>>().join(" or ")
}

/// Puts the answer to one window's query in its place; a part without a value has none, so it is 0.
fn read(answer: &Value, place: usize, figures: &mut AllFigures) -> Result<(), String> {
    if answer["status"] != "success" {
        let why = answer["error"].as_str().unwrap_or("it is no Prometheus");
        return Err(why.chars().take(200).collect());
    }
    for series in answer["data"]["result"].as_array().into_iter().flatten() {
        let label = |name: &str| series["metric"][name].as_str().unwrap_or_default();
        let value = series["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
        let (Some(value), Some(level)) = (value.filter(|v| v.is_finite()), find(label("slo"))) else { continue };
        let figures = &mut figures[level.index()][place];
        match label("part") {
            "bad" => figures.bad = value.max(0.0),
            "total" => figures.total = value.max(0.0),
            _ => {}
        }
    }
    Ok(())
}

fn find(name: &str) -> Option<Level> {
    Level::ALL.into_iter().find(|level| level.name() == name)
}

/// For a form: everything but letters and digits percent-encoded.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Team;
    use serde_json::json;

    fn settings() -> Settings {
        Settings::for_team(Team::new("NETO").expect("a team"))
    }

    #[test]
    fn a_query_asks_for_both_parts_of_every_level() {
        let query = query(&settings(), WINDOWS[1], "instance=\"a:1\"");
        assert_eq!(query.matches("label_replace(label_replace(").count(), 12, "{query}");
        let bad = "sum(increase(mutt_events_dropped_total{reason=~\"queue_full|rate_limited|storage|stopping\",\
                   instance=\"a:1\"}[1h]))";
        assert!(query.contains(bad), "{query}");
        assert!(
            query.contains("mutt_ingest_latency_seconds_bucket{le=~\"0\\\\.5(\\\\.0)?\",instance=\"a:1\"}[1h]"),
            "{query}"
        );
    }

    #[test]
    fn an_answer_is_read_by_its_labels_and_a_fault_is_told() {
        let series =
            |slo: &str, part: &str, value: &str| json!({"metric": {"slo": slo, "part": part}, "value": [1, value]});
        let answer = json!({"status": "success", "data": {"result": [
            series("ingest_availability", "bad", "2.5"),
            series("ingest_availability", "total", "10"),
            series("forward_success", "total", "NaN"),
            series("unknown", "total", "1"),
        ]}});
        let mut figures = AllFigures::default();
        read(&answer, 2, &mut figures).expect("an answer");
        assert_eq!(figures[0][2], Figures { bad: 2.5, total: 10.0 });
        assert_eq!((figures[0][2].error_ratio(), figures[2][2].error_ratio()), (0.25, 0.0));
        let fault = json!({"status": "error", "error": "query timed out"});
        assert_eq!(read(&fault, 0, &mut figures), Err("query timed out".to_owned()));
        assert!(read(&json!([]), 0, &mut figures).is_err());
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_told_and_what_it_said_stays() {
        let (sender, report) = live(PrometheusReport { address: "http://p".into(), ..PrometheusReport::default() });
        let watch = Watch {
            settings: PrometheusSettings { url: "ftp://p".into(), ..PrometheusSettings::default() },
            objectives: Live::constant(settings()),
            clock: Clock::fixed(Timestamp::from_millis(7)),
            sender,
        };
        watch.tell(Ok(AllFigures::default()));
        watch.tell(watch.ask().await);
        let told = report.get();
        assert_eq!(told.figures, Some((Timestamp::from_millis(7), AllFigures::default())));
        assert!(told.trouble.as_deref().is_some_and(|why| why.contains("ftp")), "{told:?}");
        watch.tell(Ok(AllFigures::default()));
        assert_eq!(report.get().trouble, None);
    }
}
