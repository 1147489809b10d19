//! How the appliance is: what the overview, the status page, `/ready` and `/metrics` show. Changes nothing.

use std::sync::Arc;
use std::time::Duration;

use super::disk::{self, DataUsage, DiskSpace};
use super::{Admin, AdminError, LevelReport, PrometheusReport};
use crate::clock::Clock;
use crate::model::{Judged, Timestamp};
use crate::queue::{Depth, Fault};
use crate::store::Overrun;
use crate::telemetry::metrics::{Dropped, QUEUE_BYTES, QUEUE_DEPTH, RECENT_BYTES, UPTIME};
use crate::telemetry::{CertificateStatus, ListenerState, ListenerStatus, RateSummary, TargetStatus};

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Alerts shown on the overview.
const LAST_ALERTS: usize = 10;

/// Kinds of unhandled events shown on the overview.
const TOP_UNHANDLED: usize = 10;

/// One queue and how much waits in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLine {
    /// Its name.
    pub name: String,
    /// How much waits.
    pub depth: Depth,
}

/// The whole appliance at a glance.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Events per second.
    pub rates: RateSummary,
    /// What waits.
    pub queues: Vec<QueueLine>,
    /// What went wrong with the queues' storage since the start, newest last.
    pub queue_faults: Vec<Fault>,
    /// The listeners.
    pub listeners: Vec<ListenerStatus>,
    /// What was not taken since the start, most first.
    pub dropped: Vec<Dropped>,
    /// The delivery targets.
    pub targets: Vec<TargetStatus>,
    /// The last alerts, newest first.
    pub last_alerts: Vec<Judged>,
    /// What no rule matches, most frequent first.
    pub unhandled: Vec<Overrun>,
    /// Active and all rules.
    pub rules: (usize, usize),
    /// Bytes of the recent store.
    pub recent_bytes: u64,
    /// Rows in the audit, about.
    pub audit_rows: Option<u64>,
    /// Room on the disk.
    pub disk: Option<DiskSpace>,
    /// Time since the start.
    pub uptime: Duration,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// One thing that must work for the appliance to be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is: `listener.syslog_udp`, `store.config`.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// Where it listens, or what is wrong.
    pub detail: String,
}

/// Whether the appliance can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Every check is fine.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Admin {
    /// What Prometheus says of the service levels; `None` if none is asked.
    pub fn prometheus_levels(&self) -> Option<Arc<PrometheusReport>> {
        self.parts.slo.prometheus()
    }

    /// The service levels, judged now.
    pub fn service_levels(&self) -> Vec<LevelReport> {
        self.parts.slo.report()
    }

    /// Everything the overview shows. What cannot be read is told in `warnings`; the rest is shown.
    pub async fn overview(&self) -> Overview {
        let stores = &self.parts.stores;
        let mut warnings = Vec::new();
        let last_alerts = noted(self.last_alerts(LAST_ALERTS).await, &mut warnings).unwrap_or_default();
        let unhandled = stores.unhandled.top(TOP_UNHANDLED).await.map_err(AdminError::from);
        let rules = noted(self.rules().await, &mut warnings).unwrap_or_default();
        warnings.extend(rules.problems);
        let now = self.parts.clock.now();
        warnings.extend(self.certificates().iter().filter_map(|certificate| certificate.hint(now)));
        warnings.extend(self.trail_warning().map(|why| format!("the change log is not as it was written: {why}")));
        let audit_rows = stores.audit.approximate_rows().await.map_err(AdminError::from);
        Overview {
            rates: self.rates(),
            queues: self.queue_lines(),
            queue_faults: self.parts.queues.faults(),
            listeners: self.listeners(),
            dropped: self.dropped(),
            targets: self.targets(),
            last_alerts,
            unhandled: noted(unhandled, &mut warnings).unwrap_or_default(),
            rules: (rules.rules.iter().filter(|rule| rule.draft.is_active).count(), rules.rules.len()),
            recent_bytes: self.recent_bytes(),
            audit_rows: noted(audit_rows, &mut warnings),
            disk: self.disk_space().await,
            uptime: self.uptime(),
            warnings,
        }
    }

    /// Events per second over the last minute, quarter, hour and day.
    pub fn rates(&self) -> RateSummary {
        self.parts.rates.summary()
    }

    /// Every queue and how much waits in it.
    pub fn queue_lines(&self) -> Vec<QueueLine> {
        let named = self.parts.queues.named();
        named.into_iter().map(|(name, depth)| QueueLine { name, depth }).collect()
    }

    /// How the listeners are.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.parts.listeners.status()
    }

    /// Which certificates the listeners serve.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.parts.certificates.status()
    }

    /// Events that were not taken since the start, by source and reason, most first.
    pub fn dropped(&self) -> Vec<Dropped> {
        crate::telemetry::metrics::dropped()
    }

    /// How the delivery targets are.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.parts.targets.status()
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.parts.started.elapsed()
    }

    /// When the process started, by the wall clock.
    pub fn started_at(&self) -> Timestamp {
        self.parts.started_at
    }

    /// The clock everything goes by.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// The data directory, for people.
    pub fn data_dir(&self) -> String {
        self.parts.data_dir.display().to_string()
    }

    fn recent_bytes(&self) -> u64 {
        self.parts.stores.recent.bytes()
    }

    /// Room on the disk that holds the data.
    pub async fn disk_space(&self) -> Option<DiskSpace> {
        let dir = self.parts.data_dir.clone();
        tokio::task::spawn_blocking(move || disk::space(&dir)).await.ok().flatten()
    }

    /// Bytes of each part of the data directory, largest first.
    pub async fn data_usage(&self) -> Vec<DataUsage> {
        let dir = self.parts.data_dir.clone();
        tokio::task::spawn_blocking(move || disk::usage(&dir)).await.unwrap_or_default()
    }

    /// Whether every listener is bound and every store answers.
    pub async fn readiness(&self) -> Readiness {
        let mut checks: Vec<Check> = self.listeners().into_iter().map(listener_check).collect();
        let now = self.parts.clock.now();
        checks.extend(self.certificates().iter().map(|certificate| certificate_check(certificate, now)));
        let stores = &self.parts.stores;
        let config = stores.rules.version().await.map(|version| format!("version {version}"));
        checks.push(store_check("store.config", config));
        let audit = stores.audit.approximate_rows().await.map(|rows| format!("about {rows} rows"));
        checks.push(store_check("store.audit", audit));
        let unhandled = stores.unhandled.top(1).await.map(|_| "answers".to_owned());
        checks.push(store_check("store.unhandled", unhandled));
        Readiness { ready: checks.iter().all(|check| check.ok), checks }
    }

    /// Brings the gauges that nobody else keeps up to date.
    pub fn publish_gauges(&self) {
        for line in self.queue_lines() {
            metrics::gauge!(QUEUE_DEPTH, "queue" => line.name.clone()).set(line.depth.items as f64);
            metrics::gauge!(QUEUE_BYTES, "queue" => line.name).set(line.depth.bytes as f64);
        }
        metrics::gauge!(RECENT_BYTES).set(self.recent_bytes() as f64);
        self.parts.certificates.publish(self.parts.clock.now());
        metrics::gauge!(UPTIME).set(self.uptime().as_secs_f64());
    }
}

fn noted<T>(outcome: Result<T, AdminError>, warnings: &mut Vec<String>) -> Option<T> {
    outcome.map_err(|error| warnings.push(error.to_string())).ok()
}

fn listener_check(listener: ListenerStatus) -> Check {
    let name = format!("listener.{}", listener.name);
    match listener.state {
        ListenerState::Listening(address) => Check { name, ok: true, detail: format!("listening on {address}") },
        ListenerState::Failed(why) => Check { name, ok: false, detail: why },
    }
}

/// An expired certificate is told and fails nothing: what clients make of it is theirs to say.
fn certificate_check(status: &CertificateStatus, now: Timestamp) -> Check {
    let valid = status.facts.as_ref().map(|facts| format!("valid until {}", facts.to));
    let detail = status.hint(now).or(valid).unwrap_or_default();
    Check { name: format!("certificate.{}", status.listener), ok: status.serves(), detail }
}

fn store_check(name: &str, outcome: crate::store::StoreResult<String>) -> Check {
    let (ok, detail) = match outcome {
        Ok(detail) => (true, detail),
        Err(error) => (false, error.to_string()),
    };
    Check { name: name.to_owned(), ok, detail }
}
