//! Version, rates and state of the appliance over the API.

use axum::Json;
use axum::extract::State;
use chrono::DateTime;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::fault::Answer;
use super::super::probes::readiness_json;
use super::changes::ChainReport;
use super::target_view::Target;
use crate::admin::VERSION;
use crate::net::api_version::{API_VERSION, SUPPORTED_VERSIONS};
use crate::telemetry::{CertificateStatus, ListenerState, ListenerStatus};

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new().routes(routes!(metrics)).routes(routes!(status)).routes(routes!(version))
}

/// Rates for dashboards, under upstream's names and in its unit: events per minute.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Metrics {
    summary: MetricsSummary,
    chart_24h: Chart,
}

#[derive(Debug, Serialize, ToSchema)]
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
#[derive(Debug, Serialize, ToSchema)]
struct Chart {
    /// The starts of the hours in UTC, as `14:00`.
    labels: Vec<String>,
    /// Events per minute in each, as an average.
    data: Vec<f64>,
    /// Events in each.
    totals: Vec<u64>,
}

/// Rates
///
/// Events per minute over the last minute, quarter and hour, and by hour of the last day.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = Metrics)))]
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
#[derive(Debug, Serialize, ToSchema)]
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

/// What runs here
#[utoipa::path(get, path = "/version", responses((status = 200, body = Version)))]
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

/// Everything at a glance
///
/// With the checks of `/ready`.
#[utoipa::path(get, path = "/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(web): State<Web>) -> Answer<Json<Status>> {
    let overview = web.admin.overview().await;
    let readiness = web.admin.readiness().await;
    Ok(Json(Status {
        version: VERSION,
        uptime_seconds: overview.uptime.as_secs(),
        readiness: readiness_json(&readiness),
        queues: overview
            .queues
            .into_iter()
            .map(|line| QueueRow { name: line.name, items: line.depth.items, bytes: line.depth.bytes })
            .collect(),
        queue_faults: overview
            .queue_faults
            .into_iter()
            .map(|fault| QueueFaultRow {
                queue: fault.queue,
                at: fault.at.to_string(),
                kind: fault.kind.name(),
                what: fault.what,
            })
            .collect(),
        listeners: overview.listeners.iter().map(listener_row).collect(),
        certificates: web.admin.certificates().iter().map(certificate_row).collect(),
        dropped: overview
            .dropped
            .into_iter()
            .map(|dropped| DroppedRow { source: dropped.source, reason: dropped.reason, events: dropped.events })
            .collect(),
        targets: overview.targets.iter().map(Target::from).collect(),
        change_log: ChainReport::new(web.admin.trail_report().as_deref(), None),
        rules: RuleCounts { active: overview.rules.0, total: overview.rules.1 },
        unhandled: overview
            .unhandled
            .into_iter()
            .map(|overrun| UnhandledRow {
                hostname: overrun.kind.hostname.to_string(),
                signature: overrun.kind.signature.to_string(),
                count: overrun.count,
                window_start: overrun.window_start.to_string(),
                last_event_id: overrun.last.to_string(),
                sample: overrun.sample.to_string(),
            })
            .collect(),
        storage: Storage {
            data_dir: web.admin.data_dir(),
            disk_free_bytes: overview.disk.map(|disk| disk.free),
            disk_total_bytes: overview.disk.map(|disk| disk.total),
            recent_bytes: overview.recent_bytes,
            audit_rows: overview.audit_rows,
        },
        warnings: overview.warnings,
    }))
}

/// Everything at a glance.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// The program's.
    version: &'static str,
    uptime_seconds: u64,
    /// As `/ready` tells it.
    #[schema(value_type = Object, additional_properties)]
    readiness: Value,
    /// What waits in each queue.
    queues: Vec<QueueRow>,
    /// What went wrong with the storage of queues.
    queue_faults: Vec<QueueFaultRow>,
    listeners: Vec<ListenerRow>,
    certificates: Vec<CertificateRow>,
    /// Events that were not taken since the start.
    dropped: Vec<DroppedRow>,
    /// The delivery targets, as `/targets` lists them.
    targets: Vec<Target>,
    /// Whether the change trail is as it was written.
    change_log: ChainReport,
    rules: RuleCounts,
    /// Hosts with the most events that no rule matches.
    unhandled: Vec<UnhandledRow>,
    storage: Storage,
    /// What a person should know.
    warnings: Vec<String>,
}

/// A queue.
#[derive(Serialize, ToSchema)]
struct QueueRow {
    name: String,
    items: u64,
    bytes: u64,
}

/// A fault of a queue's storage.
#[derive(Serialize, ToSchema)]
struct QueueFaultRow {
    queue: String,
    #[schema(format = DateTime)]
    at: String,
    kind: &'static str,
    what: String,
}

/// A listener.
#[derive(Serialize, ToSchema)]
struct ListenerRow {
    name: String,
    /// Whether it listens.
    up: bool,
    address: Option<String>,
    /// Why it does not listen.
    error: Option<String>,
    /// Requests or messages received.
    received: u64,
    /// Datagrams that the kernel dropped.
    kernel_drops: u64,
    /// 0 where it does not matter.
    receive_buffer_bytes: u64,
    /// What is to be done.
    hint: Option<String>,
}

/// The certificate of a listener.
#[derive(Serialize, ToSchema)]
struct CertificateRow {
    listener: String,
    file: Option<String>,
    /// Its fingerprint.
    sha256: Option<String>,
    #[schema(format = DateTime)]
    valid_from: Option<String>,
    #[schema(format = DateTime)]
    valid_to: Option<String>,
    #[schema(format = DateTime)]
    in_use_since: Option<String>,
    /// Whether clients show one: `off`, `optional` or `required`.
    client_certificates: &'static str,
    /// Why another one is not in use.
    problem: Option<String>,
}

/// Events that were not taken.
#[derive(Serialize, ToSchema)]
struct DroppedRow {
    source: String,
    reason: String,
    events: u64,
}

/// How many rules there are.
#[derive(Serialize, ToSchema)]
struct RuleCounts {
    active: usize,
    total: usize,
}

/// Events of one host and kind that no rule matches.
#[derive(Serialize, ToSchema)]
struct UnhandledRow {
    hostname: String,
    /// The kind of message.
    signature: String,
    count: u64,
    #[schema(format = DateTime)]
    window_start: String,
    last_event_id: String,
    sample: String,
}

/// What is kept on disk.
#[derive(Serialize, ToSchema)]
struct Storage {
    data_dir: String,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
    recent_bytes: u64,
    /// About how many rows the audit has.
    audit_rows: Option<u64>,
}

fn certificate_row(status: &CertificateStatus) -> CertificateRow {
    let facts = status.facts.as_ref();
    CertificateRow {
        listener: status.listener.to_string(),
        file: facts.map(|facts| facts.file.to_string()),
        sha256: facts.map(|facts| facts.fingerprint.clone()),
        valid_from: facts.map(|facts| facts.from.to_string()),
        valid_to: facts.map(|facts| facts.to.to_string()),
        in_use_since: facts.map(|facts| facts.since.to_string()),
        client_certificates: status.clients,
        problem: status.problem.clone(),
    }
}

fn listener_row(listener: &ListenerStatus) -> ListenerRow {
    let (address, error) = match &listener.state {
        ListenerState::Listening(address) => (Some(address.to_string()), None),
        ListenerState::Failed(why) => (None, Some(why.clone())),
    };
    ListenerRow {
        name: listener.name.to_string(),
        up: error.is_none(),
        address,
        error,
        received: listener.received,
        kernel_drops: listener.kernel_drops,
        receive_buffer_bytes: listener.receive_buffer,
        hint: listener.hint(),
    }
}
