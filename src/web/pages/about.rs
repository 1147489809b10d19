//! The status page: version, readiness, room on the disk, and how to send to this appliance.

use std::net::SocketAddr;

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::origin::shown_host;
use super::super::text::{bytes, moment, span, visible};
use super::overview::{DroppedView, ListenerView, dropped_views, listener_view};
use super::{Frame, shown};
use crate::admin::{Check, PartitionInfo};
use crate::telemetry::{CertificateStatus, ListenerState, ListenerStatus};

/// How to send by one input.
struct Recipe {
    title: &'static str,
    address: String,
    command: String,
    local_only: bool,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    frame: Frame,
    ready: bool,
    checks: Vec<Check>,
    uptime: String,
    data_dir: String,
    disk: Option<String>,
    usage: Vec<(String, String)>,
    partitions: Vec<PartitionView>,
    certificates: Vec<CertificateView>,
    listeners: Vec<ListenerView>,
    dropped: Vec<DroppedView>,
    hints: Vec<String>,
    recipes: Vec<Recipe>,
}

/// The certificate of a listener.
struct CertificateView {
    listener: &'static str,
    file: String,
    fingerprint: String,
    until: String,
    clients: &'static str,
    problem: Option<String>,
}

impl CertificateView {
    fn new(status: &CertificateStatus) -> Self {
        let facts = status.facts.as_ref();
        Self {
            listener: status.listener,
            file: facts.map(|facts| visible(&facts.file)).unwrap_or_default(),
            fingerprint: facts.map(|facts| facts.fingerprint.clone()).unwrap_or_default(),
            until: facts.map(|facts| moment(facts.to)).unwrap_or_default(),
            clients: status.clients,
            problem: status.problem.as_deref().map(visible),
        }
    }
}

/// A file of the audit.
struct PartitionView {
    file: String,
    state: &'static str,
    rows: u64,
    size: String,
    first: String,
    last: String,
}

impl PartitionView {
    fn new(info: &PartitionInfo) -> Self {
        Self {
            file: visible(&info.file),
            state: info.state.name(),
            rows: info.rows,
            size: bytes(info.bytes),
            first: info.first.map(moment).unwrap_or_default(),
            last: info.last.map(moment).unwrap_or_default(),
        }
    }
}

/// `GET /status`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn, headers: HeaderMap) -> Answer<Response> {
    let readiness = web.admin.readiness().await;
    let disk = web.admin.disk_space().await;
    let usage = web.admin.data_usage().await;
    let listeners = web.admin.listeners();
    let certificates = web.admin.certificates();
    let by_tls = |name: &str| certificates.iter().any(|status| status.listener == name);
    let host = shown_host(&headers).unwrap_or("localhost");
    let clean = |check: Check| Check { detail: visible(&check.detail), ..check };
    shown(&StatusPage {
        frame: Frame::new(&web, &by, "status"),
        ready: readiness.ready,
        checks: readiness.checks.into_iter().map(clean).collect(),
        uptime: span(web.admin.uptime()),
        data_dir: visible(&web.admin.data_dir()),
        disk: disk.map(|disk| format!("{} free of {}", bytes(disk.free), bytes(disk.total))),
        usage: usage.iter().map(|part| (visible(&part.name), bytes(part.bytes))).collect(),
        // A store that fails is told among the checks.
        partitions: web.admin.partitions().await.unwrap_or_default().iter().map(PartitionView::new).collect(),
        recipes: listeners.iter().filter_map(|listener| recipe(listener, host, by_tls(listener.name))).collect(),
        certificates: certificates.iter().map(CertificateView::new).collect(),
        dropped: dropped_views(&web.admin.dropped()),
        hints: listeners.iter().filter_map(ListenerStatus::hint).collect(),
        listeners: listeners.iter().map(listener_view).collect(),
    })
}

fn recipe(listener: &ListenerStatus, host: &str, by_tls: bool) -> Option<Recipe> {
    let ListenerState::Listening(address) = listener.state else { return None };
    let port = address.port();
    let scheme = if by_tls { "https" } else { "http" };
    let (title, command) = match listener.name {
        "syslog_udp" => {
            ("Syslog over UDP", format!("logger -n {host} -P {port} -d --rfc5424 \"test from $(hostname)\""))
        }
        "syslog_tcp" => {
            ("Syslog over TCP", format!("logger -n {host} -P {port} -T --rfc5424 \"test from $(hostname)\""))
        }
        "syslog_tls" => (
            "Syslog over TLS",
            format!("echo '<13>test over TLS' | openssl s_client -quiet -connect {}:{port}", bracketed(host)),
        ),
        // By numbers: Debian has no MIB files from which snmptrap would know names.
        "snmp" => (
            "SNMP traps and informs",
            format!(
                "snmptrap -v 2c -c COMMUNITY {}:{port} '' 1.3.6.1.6.3.1.1.5.3 1.3.6.1.2.1.2.2.1.1.1 i 1",
                bracketed(host)
            ),
        ),
        "ingest_http" => (
            "JSON over HTTP",
            format!(
                "curl -H \"X-API-KEY: $MUTTD_INGEST_API_KEY\" -H 'Content-Type: application/json' -d \
                 '{{\"hostname\":\"test\",\"message\":\"hello\",\"timestamp\":\"2026-01-01T00:00:00Z\"}}' {scheme}://{}:{port}/api/v2/ingest",
                bracketed(host)
            ),
        ),
        _ => return None,
    };
    Some(Recipe { title, address: shown_address(address, host), command, local_only: address.ip().is_loopback() })
}

/// An IPv6 address before a port stands in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The address to aim at: one that is bound to every interface is shown by the name the browser used.
fn shown_address(address: SocketAddr, host: &str) -> String {
    if address.ip().is_unspecified() { format!("{}:{}", bracketed(host), address.port()) } else { address.to_string() }
}
