//! Every metric: its name, kind, unit, help text and labels, in one table.
//!
//! The reference page `docs/METRICS.md` is made from [`ALL`] and compared by a test. Label values come from enums and
//! from the names of queues and targets, never from hosts, messages or rule text. Upstream's names are kept.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::Sample;

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of seconds.
    Histogram,
}

/// One metric's description.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels, comma separated; empty for none.
    pub labels: &'static str,
    /// What it means, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($constant:ident = $name:literal, $kind:ident, $labels:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every metric of the program.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: Kind::$kind, labels: $labels, help: $help }),*];
    };
}

metrics_table! {
    EVENTS_RECEIVED = "mutt_events_received_total", Counter, "source", "Events that reached the process, by protocol, or `recovered` for those found in the queue at start: each is then committed or dropped.";
    EVENTS_COMMITTED = "mutt_events_committed_total", Counter, "", "Events on stable storage in the event queue.";
    EVENTS_DROPPED = "mutt_events_dropped_total", Counter, "source,reason", "Events not taken, by protocol and reason.";
    INGEST_RATE_LIMITED = "mutt_ingest_rate_limited_total", Counter, "", "Events refused by the ingest rate limit.";
    INGEST_REQUESTS = "mutt_ingest_requests_total", Counter, "status", "Ingest API requests by HTTP status.";
    INGEST_LATENCY = "mutt_ingest_latency_seconds", Histogram, "", "Time from an ingest request to its answer, durable storage included.";
    INGEST_FLAGGED = "mutt_ingest_flagged_total", Counter, "flag", "Events that were taken but not fully understood, by what was wrong.";
    KERNEL_DROPS = "mutt_ingest_kernel_drops_total", Counter, "listener", "Datagrams the kernel dropped because a listener's receive buffer was full.";
    LISTENER_UP = "mutt_listener_up", Gauge, "listener", "1 while a listener is bound, 0 when it could not be.";
    SYSLOG_CONNECTIONS = "mutt_syslog_connections", Gauge, "", "Open syslog connections over TCP and TLS.";
    QUEUE_DEPTH = "mutt_queue_depth", Gauge, "queue", "Items waiting in a queue, leased ones included.";
    QUEUE_BYTES = "mutt_queue_bytes", Gauge, "queue", "Bytes waiting in a queue.";
    QUEUE_COMMITS = "mutt_queue_commits_total", Counter, "queue", "Group commits (one sync each) of a queue.";
    QUEUE_ERRORS = "mutt_queue_errors_total", Counter, "queue,reason", "Storage errors, damaged records and quarantined generations of a queue.";
    ALERTER_PROCESSED = "mutt_alerter_events_processed_total", Counter, "status", "Events judged, by outcome: forwarded, ignored (matched, not forwarded), unhandled, error (dead letter).";
    ALERTER_BATCH_SECONDS = "mutt_alerter_batch_seconds", Histogram, "", "Time to judge, audit and route one batch.";
    UNHANDLED_META_ALERTS = "mutt_unhandled_meta_alerts_total", Counter, "", "Meta-alerts made because too many events of one kind were unhandled.";
    UNHANDLED_COUNTERS = "mutt_unhandled_counters", Gauge, "", "Hosts and signatures being counted.";
    RULES_ACTIVE = "mutt_rules_active", Gauge, "", "Active rules in force.";
    RULES_RELOADS = "mutt_rules_reloads_total", Counter, "result", "Reloads of rules, hosts and teams, by result.";
    AUDIT_ROWS = "mutt_audit_rows_total", Counter, "", "Rows written to the audit.";
    AUDIT_PARTITIONS = "mutt_audit_partitions", Gauge, "", "Files of the audit, those made ahead included.";
    AUDIT_BYTES = "mutt_audit_bytes", Gauge, "", "Bytes in use in the files of the audit.";
    RECENT_BYTES = "mutt_recent_bytes", Gauge, "", "Bytes of the recent store on disk.";
    RECENT_DROPPED = "mutt_recent_dropped_total", Counter, "", "Events the recent store did not take because its writer was behind or its disk failed.";
    SECRET_USED = "mutt_secret_used_total", Counter, "secret,slot", "Uses of a secret that were taken, by its place: current or next.";
    SECRETS_RELOADS = "mutt_secrets_reloads_total", Counter, "status", "Times the sources of secrets were read again because they changed, by success or failure; a failure changes nothing.";
    SECRETS_IN_FORCE = "mutt_secrets_in_force", Gauge, "", "1 while the secrets in force are those of the sources, 0 while a source cannot be used.";
    VAULT_UP = "mutt_vault_up", Gauge, "", "1 while Vault answers as it should, 0 while it does not; only with Vault.";
    VAULT_REQUESTS = "mutt_vault_reads_total", Counter, "result", "Readings of the secret in Vault, by success or failure.";
    FORWARD_REQUESTS = "mutt_moog_requests_total", Counter, "status,reason", "Deliveries tried, by status (success, retry, failed) and reason.";
    FORWARD_LATENCY = "mutt_moog_request_seconds", Histogram, "", "Time of one delivery.";
    FORWARD_DEAD = "mutt_forward_dead_letters_total", Counter, "target", "Alerts given up and put into the dead letter queue.";
    TARGET_UP = "mutt_forward_target_up", Gauge, "target", "1 after a delivery that the target took, 0 after one that failed.";
    TRACE_SPANS = "mutt_trace_spans_total", Counter, "outcome", "Spans of traced events: exported, dropped (no room in the queue) or failed (the collector did not take them).";
    WEB_STREAMS = "mutt_web_streams", Gauge, "", "Streams of server-sent events that are open.";
    HTTP_REQUESTS = "mutt_http_requests_total", Counter, "status", "Requests to UI and API by HTTP status.";
    LOGINS = "mutt_logins_total", Counter, "result", "Logins to the web UI, by result.";
    BUILD_INFO = "mutt_build_info", Gauge, "version", "1, with the version as label.";
    UPTIME = "mutt_uptime_seconds", Gauge, "", "Seconds since the process started.";
    ALERTER_BACKPRESSURE = "mutt_alerter_backpressure_active", Gauge, "", "1 while more alerts wait than alerter_queue_warn_threshold.";
    ALERTER_SHED = "mutt_alerter_shed_events_total", Counter, "mode", "While alerts wait beyond alerter_queue_shed_threshold: alerts put into dlq.forwarder (dlq) and pauses made (defer).";
    FORWARD_DELIVERIES = "mutt_forward_deliveries_total", Counter, "target,status,reason", "Alerts tried, by target, status (success, retry, failed) and reason.";
    FORWARD_SECRET = "mutt_forward_secret_used_total", Counter, "target,secret", "Deliveries taken with the current or the next key of a target.";
    FORWARD_DIVERTED = "mutt_forward_diverted_total", Counter, "target", "Alerts that a failing target's fallback took over.";
    DIVERTING = "mutt_forward_diverting", Gauge, "target", "1 while a fallback takes over a failing target's alerts.";
    BREAKER_STATE = "mutt_forward_circuit_breaker_state", Gauge, "target", "0 while the target is spoken to, 1 while it is left alone because of failures or one alert is tried.";
    BREAKER_TRIPS = "mutt_forward_circuit_breaker_trips_total", Counter, "target", "How often the target was left alone because of failures.";
    MOOG_BREAKER_STATE = "mutt_moog_circuit_breaker_state", Gauge, "", "mutt_forward_circuit_breaker_state of the target moogsoft, under upstream's name.";
    MOOG_BREAKER_TRIPS = "mutt_moog_circuit_breaker_trips_total", Counter, "", "mutt_forward_circuit_breaker_trips_total of the target moogsoft, under upstream's name.";
    AUTO_REMEDIATION = "mutt_auto_remediation_total", Counter, "action", "What remediation runs did: dead letters put back (replayed), set aside in the queue dead (poison), without a target (skipped_no_target), not put back for a fault of storage (failed); and targets with letters that were not healthy (skipped_unhealthy).";
    HEALTH_STATUS = "mutt_moog_health_status", Gauge, "", "1 if Moogsoft answered its last health probe, else 0.";
    TARGET_HEALTH = "mutt_forward_target_health", Gauge, "target", "1 if a target answered its last health probe, else 0.";
    DEAD_LETTER_ACTIONS = "mutt_dead_letter_actions_total", Counter, "action", "Dead letters that people put back (replay), took away (discard) or changed (edit).";
    STORE_DAMAGED = "mutt_store_damaged_total", Counter, "store", "Damaged parts of stores met and left out: database files, audit rows, frames of the recent store.";
    CONFIG_RELOADS = "mutt_config_reloads_total", Counter, "status", "Configurations that were put into force (success) or could not be used (failure): by SIGHUP or by a changed setting.";
    CONFIG_IN_FORCE = "mutt_config_last_reload_successful", Gauge, "", "1 if the configuration that was read or changed last is in force, 0 if it could not be used and the one before stayed.";
    SLO_ERROR_RATIO = "mutt_slo_error_ratio", Gauge, "slo,window", "Share of bad events of a service level within a window (5m, 1h, 6h, 24h, 30d).";
    SLO_OBJECTIVE = "mutt_slo_objective", Gauge, "slo", "Share of good events that a service level asks for.";
    SLO_STATE = "mutt_slo_state", Gauge, "slo", "How a service level is: 0 ok, 1 warning, 2 critical.";
    RULES_STEPS = "mutt_rules_steps_total", Counter, "", "Work of finding the rules that may match, in comparisons of a text; trying a regular expression counts 16. Divided by the events judged it says how well rules and traffic go together.";
    API_KEY_USED = "mutt_api_key_uses_total", Counter, "key,slot", "Requests that an API key opened, by its name and which of its values it was.";
    API_KEY_REFUSED = "mutt_api_key_refusals_total", Counter, "reason", "Requests with a known API key that were refused: expired, network (from elsewhere), scope (for something else).";
    TLS_HANDSHAKES = "mutt_tls_handshakes_total", Counter, "listener,result", "TLS handshakes of a listener, by how they ended: ok, failed, timeout, left (the peer went away), gave_way (too many at once), no_certificate.";
    TLS_RELOADS = "mutt_tls_reloads_total", Counter, "listener,result", "Certificates read, by whether they could be used (ok) or the old one stays (failed).";
    EVENTS_ARCHIVED = "mutt_events_archived_total", Counter, "", "Events that left the audit for the archive.";
    EVENTS_DELETED = "mutt_events_deleted_total", Counter, "reason", "Events deleted for good: expired (older than archives are kept), cap (the archive had too many bytes), erased (a host's data).";
    OLDEST_EVENT_AGE = "mutt_oldest_event_age_days", Gauge, "", "Days since the day of the oldest event in the audit; copies of restored archives do not count.";
    ARCHIVE_BYTES = "mutt_archive_bytes", Gauge, "", "Bytes of the archive's files.";
    ARCHIVE_FILES = "mutt_archive_files", Gauge, "", "Files of the archive.";
    ARCHIVES_DAMAGED = "mutt_archives_damaged", Gauge, "", "Archives that were not what they should be when they were last read: by a run, or on request.";
    ARCHIVE_DOUBT = "mutt_archive_manifest_in_doubt", Gauge, "", "1 while the manifest of the archive is in doubt, so that nothing is archived or deleted, else 0.";
    ARCHIVES_VERIFIED = "mutt_archives_verified_total", Counter, "result", "Archives read as a whole and compared with the manifest, by a run or on request: ok, damaged.";
    RETENTION_RUNS = "mutt_retention_runs_total", Counter, "result", "Retention runs, by how they ended: ok, failed.";
    RETENTION_LAST_RUN = "mutt_retention_last_run_timestamp_seconds", Gauge, "", "When the last retention run began, in seconds since 1970.";
    RETENTION_LAST_RUN_OK = "mutt_retention_last_run_ok", Gauge, "", "1 if the last retention run of this process did everything it should, 0 if something failed.";
    AUDIT_CHAIN = "mutt_audit_chain_ok", Gauge, "", "1 if the change log was as it was written when it was last verified, at the start or once a day, 0 if it was tampered with.";
    TLS_EXPIRY = "mutt_tls_certificate_expiry_seconds", Gauge, "listener", "Seconds until the certificate of a listener expires; negative when it has.";
}

/// Bounds of the latency histograms in seconds: from a fast sync to a receiver's time-out.
const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Counters with a label whose few values are known: they are there from the start, so that what reads them need not know that
/// what is missing is zero.
const AT_ZERO: [(&str, &str, &[&str]); 4] = [
    (EVENTS_RECEIVED, "source", &["http", "syslog_udp", "syslog_tcp", "syslog_tls", "snmp_trap"]),
    (ALERTER_PROCESSED, "status", &["forwarded", "ignored", "unhandled", "error"]),
    (EVENTS_DELETED, "reason", &["expired", "cap", "erased"]),
    (RETENTION_RUNS, "result", &["ok", "failed"]),
];

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder (once a process: the `metrics` crate has one recorder for all) and describes every metric.
/// The handle renders the Prometheus text format.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new().set_buckets(LATENCY_BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
        metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    }
    Ok(RECORDER.get_or_init(|| handle).clone())
}

/// What `/metrics` says now; empty before [`install`].
pub fn render() -> String {
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Events not taken since the start, by source and reason, as the counter has them; most first.
pub fn dropped() -> Vec<Dropped> {
    let text = render();
    let mut all: Vec<Dropped> = super::samples(&text).filter_map(|sample| Dropped::of(&sample)).collect();
    all.sort_unstable_by(|a, b| b.events.cmp(&a.events).then_with(|| a.source.cmp(&b.source)));
    all
}

/// Events that were not taken for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The protocol they came by.
    pub source: String,
    /// Why, as in the counter's label.
    pub reason: String,
    /// How many.
    pub events: u64,
}

impl Dropped {
    fn of(sample: &Sample<'_>) -> Option<Self> {
        let events = sample.count();
        if sample.name != EVENTS_DROPPED || events == 0 {
            return None;
        }
        Some(Self { source: sample.label("source")?.to_owned(), reason: sample.label("reason")?.to_owned(), events })
    }
}

fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => {
                metrics::describe_counter!(metric.name, metric.help);
                if metric.labels.is_empty() {
                    metrics::counter!(metric.name).increment(0);
                }
            }
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    for (name, label, values) in AT_ZERO {
        for value in values {
            metrics::counter!(name, label => *value).increment(0);
        }
    }
}

/// The reference page, as Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the UI port and on the ingest port, in the Prometheus text format. Counters start at zero with each\n\
         process; most of those with labels appear with their first count. This page is made from the table in\n\
         `src/telemetry/metrics.rs` by `muttd metrics-reference`. How to scrape, alarms and a dashboard:\n\
         [MONITORING.md](MONITORING.md).\n\n\
         Two sums always hold for one process life, once nothing is in flight:\n\n\
         * `mutt_events_received_total` = `mutt_events_committed_total` + `mutt_events_dropped_total`, each summed over its labels;\n\
         * `mutt_events_committed_total` + what was queued at the start = `mutt_alerter_events_processed_total` + `mutt_queue_depth{queue=\"ingest\"}`.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram (seconds)",
        };
        let labels = metric.labels.split(',').filter(|label| !label.is_empty()).map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        page.push_str(&format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.help));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_whose_labels_are_known_are_there_before_they_count() {
        let text = install().expect("a recorder").render();
        for metric in ALL.iter().filter(|metric| metric.kind == Kind::Counter && metric.labels.is_empty()) {
            assert!(text.contains(&format!("\n{} ", metric.name)), "{} is not there", metric.name);
        }
        for (name, label, values) in AT_ZERO {
            for value in values {
                assert!(text.contains(&format!("\n{name}{{{label}=\"{value}\"}} ")), "{name} of {value} is not there");
            }
        }
    }

    #[test]
    fn what_was_dropped_is_read_back_by_source_and_reason() {
        let check = |line: &str, expected: Option<(&str, &str, u64)>| {
            let expected = expected.map(|(source, reason, events)| Dropped {
                source: source.to_owned(),
                reason: reason.to_owned(),
                events,
            });
            let found = crate::telemetry::samples(line).next().and_then(|sample| Dropped::of(&sample));
            assert_eq!(found, expected, "{line}");
        };
        let line = r#"mutt_events_dropped_total{source="http",reason="queue_full"} 12"#;
        check(line, Some(("http", "queue_full", 12)));
        check(
            r#"mutt_events_dropped_total{reason="stopping",source="syslog_udp"} 3e2"#,
            Some(("syslog_udp", "stopping", 300)),
        );
        check(r#"mutt_events_dropped_total{source="http",reason="queue_full"} 0"#, None);
        check("# HELP mutt_events_dropped_total x", None);
        check("mutt_events_received_total{source=\"http\"} 3", None);
    }
}
