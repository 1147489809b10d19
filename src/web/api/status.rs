//! Version, rates and state of the appliance over the API.

use axum::Json;
use axum::extract::State;
use chrono::DateTime;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::Web;
use super::super::fault::Answer;
use super::super::probes::readiness_json;
use super::changes::ChainReport;
use super::targets::target_json;
use crate::admin::VERSION;
use crate::net::api_version::{API_VERSION, SUPPORTED_VERSIONS};
use crate::telemetry::{CertificateStatus, ListenerState, ListenerStatus};

/// Rates for dashboards, under upstream's names and in its unit: events per minute.
#[derive(Debug, Serialize)]
pub(super) struct Metrics {
    summary: MetricsSummary,
    chart_24h: Chart,
}

#[derive(Debug, Serialize)]
struct MetricsSummary {
    /// Events per minute over the last minute.
    current_rate_1m: f64,
    /// Events per minute over a quarter of an hour.
    avg_rate_15m: f64,
    /// Events per minute over an hour.
    avg_rate_1h: f64,
    /// Events received within the last hour.
    received_last_hour: u64,
    /// Alerts made within the last hour.
    forwarded_last_hour: u64,
}

/// The last 24 hours, oldest first.
#[derive(Debug, Serialize)]
struct Chart {
    /// The starts of the hours in UTC, as `14:00`.
    labels: Vec<String>,
    /// Events per minute in each, as an average.
    data: Vec<f64>,
    /// Events in each.
    totals: Vec<u64>,
}

/// `GET /metrics`.
pub(super) async fn metrics(State(web): State<Web>) -> Json<Metrics> {
    let rates = web.admin.rates();
    let rounded = |rate: f64| (rate * 100.0).round() / 100.0;
    let per_minute = |per_second: f64| rounded(per_second * 60.0);
    Json(Metrics {
        summary: MetricsSummary {
            current_rate_1m: per_minute(rates.last_minute),
            avg_rate_15m: per_minute(rates.last_15_minutes),
            avg_rate_1h: per_minute(rates.last_hour),
            received_last_hour: rates.received_last_hour,
            forwarded_last_hour: rates.forwarded_last_hour,
        },
        chart_24h: Chart {
            labels: rates.hours.iter().map(|(hour, _)| hour_label(*hour)).collect(),
            data: rates.hours.iter().map(|(_, events)| rounded(*events as f64 / 60.0)).collect(),
            totals: rates.hours.iter().map(|(_, events)| *events).collect(),
        },
    })
}

/// The start of an hour since the epoch, UTC.
pub(in crate::web) fn hour_label(hour: i64) -> String {
    DateTime::from_timestamp(hour.saturating_mul(3_600), 0).unwrap_or_default().format("%H:%M").to_string()
}

/// What runs here and which versions of the API it has.
#[derive(Debug, Serialize)]
pub(super) struct Version {
    service: &'static str,
    /// The program's.
    version: &'static str,
    /// The API's.
    api_version: &'static str,
    /// The same, under the name that MUTT 2.x had.
    current_version: &'static str,
    /// What a request gets that asks for none.
    default_version: &'static str,
    /// Newest first.
    supported_versions: Vec<&'static str>,
}

/// `GET /version`.
pub(super) async fn version() -> Json<Version> {
    Json(Version {
        service: "muttd",
        version: VERSION,
        api_version: API_VERSION,
        current_version: API_VERSION,
        default_version: API_VERSION,
        supported_versions: SUPPORTED_VERSIONS.split(", ").collect(),
    })
}

/// `GET /status`: everything at a glance, with the checks of `/ready`.
pub(super) async fn status(State(web): State<Web>) -> Answer<Json<Value>> {
    let overview = web.admin.overview().await;
    let readiness = web.admin.readiness().await;
    let queues = overview
        .queues
        .iter()
        .map(|line| json!({"name": line.name, "items": line.depth.items, "bytes": line.depth.bytes}));
    Ok(Json(json!({
        "version": VERSION,
        "uptime_seconds": overview.uptime.as_secs(),
        "readiness": readiness_json(&readiness),
        "queues": queues.collect::<Vec<_>>(),
        "queue_faults": overview.queue_faults.iter().map(|fault| json!({
            "queue": fault.queue,
            "at": fault.at.to_string(),
            "kind": fault.kind.name(),
            "what": fault.what,
        })).collect::<Vec<_>>(),
        "listeners": overview.listeners.iter().map(listener_json).collect::<Vec<_>>(),
        "certificates": web.admin.certificates().iter().map(certificate_json).collect::<Vec<_>>(),
        "dropped": overview.dropped.iter().map(|dropped| json!({
            "source": dropped.source,
            "reason": dropped.reason,
            "events": dropped.events,
        })).collect::<Vec<_>>(),
        "targets": overview.targets.iter().map(target_json).collect::<Vec<_>>(),
        "change_log": ChainReport::new(web.admin.trail_report().as_deref(), None),
        "rules": {"active": overview.rules.0, "total": overview.rules.1},
        "unhandled": overview.unhandled.iter().map(|overrun| json!({
            "hostname": overrun.kind.hostname,
            "signature": overrun.kind.signature,
            "count": overrun.count,
            "window_start": overrun.window_start.to_string(),
            "last_event_id": overrun.last.to_string(),
            "sample": overrun.sample,
        })).collect::<Vec<_>>(),
        "storage": {
            "data_dir": web.admin.data_dir(),
            "disk_free_bytes": overview.disk.map(|disk| disk.free),
            "disk_total_bytes": overview.disk.map(|disk| disk.total),
            "recent_bytes": overview.recent_bytes,
            "audit_rows": overview.audit_rows,
        },
        "warnings": overview.warnings,
    })))
}

fn certificate_json(status: &CertificateStatus) -> Value {
    let facts = status.facts.as_ref();
    json!({
        "listener": status.listener,
        "file": facts.map(|facts| &facts.file),
        "sha256": facts.map(|facts| &facts.fingerprint),
        "valid_from": facts.map(|facts| facts.from.to_string()),
        "valid_to": facts.map(|facts| facts.to.to_string()),
        "in_use_since": facts.map(|facts| facts.since.to_string()),
        "client_certificates": status.clients,
        "problem": status.problem,
    })
}

fn listener_json(listener: &ListenerStatus) -> Value {
    let (address, error) = match &listener.state {
        ListenerState::Listening(address) => (Some(address.to_string()), None),
        ListenerState::Failed(why) => (None, Some(why)),
    };
    json!({
        "name": listener.name,
        "up": error.is_none(),
        "address": address,
        "error": error,
        "received": listener.received,
        "kernel_drops": listener.kernel_drops,
        "receive_buffer_bytes": listener.receive_buffer,
        "hint": listener.hint(),
    })
}
