//! Service levels, judged by the appliance itself.
//!
//! Every [`TICK`], and when somebody asks, the program's own metrics are read ([`counting`]), what was added since goes
//! into buckets of minutes and hours ([`tally`]), and each level is judged over five windows ([`verdict`]). So the
//! figures are those that a Prometheus with `packaging/prometheus/recording.rules.yml` computes from the same counters.
//!
//! A change of state that lasts [`CONFIRM`] is told once: in the log, and as an alert on its normal way. Buckets are
//! written after each reading that found something new; a crash loses what was counted since. It reads counters and writes
//! its own buckets, never anything else.

mod counting;
mod notice;
mod prometheus;
mod settings;
mod tally;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use counting::{Counts, Level};
pub use prometheus::{Figures, PrometheusReport, PrometheusSettings};
pub use settings::Settings;
pub use verdict::{LevelReport, State, WINDOWS, Window, WindowReport};

use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Alert, EventIds, Timestamp};
use crate::store::{Levels, StoreResult};
use crate::telemetry::metrics::{SLO_ERROR_RATIO, SLO_OBJECTIVE, SLO_STATE};
use counting::{PerLevel, read};
use tally::Tally;
use verdict::judge;

/// Time between two readings of the counters, and between two writings of the buckets: a commit of some rows.
const TICK: Duration = Duration::from_secs(10);
/// How long a new state must last before it is told: a blip is none.
const CONFIRM: Duration = Duration::from_secs(60);

/// Reads the counters, as text.
pub type ReadMetrics = Arc<dyn Fn() -> String + Send + Sync>;
/// Sends an alert on its way; an error is why it could not.
pub type Tell = Arc<dyn Fn(Alert) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the service levels work with.
pub struct SloParts {
    /// Where buckets are kept.
    pub levels: Arc<dyn Levels>,
    /// The objectives.
    pub settings: Live<Settings>,
    /// The counters.
    pub read: ReadMetrics,
    /// Which way a change of state takes.
    pub tell: Tell,
    /// The name of this appliance in its alerts.
    pub node: String,
    /// Numbers for those alerts.
    pub ids: EventIds,
    /// A Prometheus server that is asked for the same figures.
    pub prometheus: PrometheusSettings,
    /// The time.
    pub clock: Clock,
}

/// The service levels as they are; clones share them.
#[derive(Clone)]
pub struct Slo {
    book: Arc<Mutex<Book>>,
    read: ReadMetrics,
    settings: Live<Settings>,
    clock: Clock,
    prometheus: Option<Live<PrometheusReport>>,
}

/// What is counted, and what was told of it.
struct Book {
    tally: Tally,
    told: PerLevel<Told>,
    /// What the counters said last, and by which settings they were read.
    last: PerLevel<Counts>,
    read_by: Arc<Settings>,
}

/// A level's state as it was told, and the one it has now if that is another.
#[derive(Debug, Clone, Copy)]
struct Told {
    state: State,
    since: Timestamp,
    candidate: Option<(State, Timestamp)>,
}

impl Slo {
    /// Reads what is kept and starts counting. Fails if the store cannot be read.
    pub async fn start(parts: SloParts, stop: CancellationToken) -> StoreResult<(Self, JoinHandle<()>)> {
        let now = parts.clock.now();
        let tally = Tally::of(parts.levels.levels().await?);
        let told = told(&parts.levels.states().await?, now);
        let asked =
            prometheus::start(&parts.prometheus, parts.settings.clone(), parts.clock.clone(), stop.child_token());
        let slo = Self {
            // The process began at zero, so what the counters say first was added since.
            book: Arc::new(Mutex::new(Book { tally, told, last: PerLevel::default(), read_by: parts.settings.get() })),
            read: Arc::clone(&parts.read),
            settings: parts.settings.clone(),
            clock: parts.clock.clone(),
            prometheus: asked,
        };
        let task = tokio::spawn(Keeper { slo: slo.clone(), parts }.run(stop));
        Ok((slo, task))
    }

    /// What Prometheus says of the same levels; `None` if none is asked.
    pub fn prometheus(&self) -> Option<Arc<PrometheusReport>> {
        self.prometheus.as_ref().map(Live::get)
    }

    /// Every level, judged now by what the counters say now.
    pub fn report(&self) -> Vec<LevelReport> {
        self.count();
        self.judged()
    }

    /// Adds what the counters gained. The lock is held while they are read, so that no reading is older than the one before.
    fn count(&self) {
        let settings = self.settings.get();
        let mut book = self.book.lock();
        let counts = read(&(self.read)(), &settings);
        if settings.latencies() != book.read_by.latencies() {
            // By other bounds other requests are bad: counting goes on from here.
            book.last = counts;
        }
        let mut gained = PerLevel::default();
        for (gain, (now, last)) in gained.iter_mut().zip(counts.iter().zip(&book.last)) {
            *gain = now.since(*last);
        }
        (book.last, book.read_by) = (counts, settings);
        book.tally.add(self.clock.now(), &gained);
    }

    fn judged(&self) -> Vec<LevelReport> {
        let (settings, now) = (self.settings.get(), self.clock.now());
        let book = self.book.lock();
        let levels = Level::ALL.into_iter();
        levels.map(|level| judge(level, &book.tally, &settings, now, book.told[level.index()].since)).collect()
    }
}

fn told(states: &BTreeMap<String, String>, now: Timestamp) -> PerLevel<Told> {
    Level::ALL.map(|level| {
        let state = states.get(level.name()).and_then(|name| State::of_name(name)).unwrap_or(State::Ok);
        Told { state, since: now, candidate: None }
    })
}

/// The task.
struct Keeper {
    slo: Slo,
    parts: SloParts,
}

impl Keeper {
    async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            self.slo.count();
            self.write().await;
            for (level, state) in self.changes() {
                self.tell(level, state).await;
            }
        }
        self.slo.count();
        self.write().await;
    }

    /// Writes the buckets that changed. A failure is told once by the log of the store's caller and tried again.
    async fn write(&self) {
        let (rows, keep_from) = {
            let mut book = self.slo.book.lock();
            (book.tally.changed(), book.tally.keep_from(self.parts.clock.now()))
        };
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.parts.levels.put_levels(rows.clone(), keep_from).await {
            tracing::warn!(%error, "The counts of the service levels could not be written; they are kept and tried again");
            self.slo.book.lock().tally.not_written(&rows);
        }
    }

    /// Publishes what is found, and returns the changes of state that lasted.
    fn changes(&self) -> Vec<(LevelReport, State)> {
        let now = self.parts.clock.now();
        let mut changes = Vec::new();
        for report in self.slo.judged() {
            publish(&report);
            let mut book = self.slo.book.lock();
            let told = &mut book.told[report.level.index()];
            if report.state == told.state {
                told.candidate = None;
                continue;
            }
            let begun = match told.candidate {
                Some((state, begun)) if state == report.state => begun,
                _ => now,
            };
            told.candidate = Some((report.state, begun));
            if now.since(begun) >= CONFIRM {
                let before = told.state;
                *told = Told { state: report.state, since: now, candidate: None };
                changes.push((report, before));
            }
        }
        changes
    }

    async fn tell(&self, report: LevelReport, before: State) {
        let sentence = notice::sentence(&report, before);
        match report.state {
            State::Ok => tracing::info!(slo = report.level.name(), "{sentence}"),
            _ => tracing::warn!(slo = report.level.name(), state = report.state.name(), "{sentence}"),
        }
        let now = self.parts.clock.now();
        let settings = self.parts.settings.get();
        let alert = notice::alert(&report, sentence, self.parts.ids.next(now), &self.parts.node, &settings, now);
        if let Err(why) = (self.parts.tell)(alert).await {
            tracing::error!(
                slo = report.level.name(),
                "The change of a service level could not be sent as an alert: {why}"
            );
        }
        if let Err(error) = self.parts.levels.put_state(report.level.name(), report.state.name()).await {
            tracing::warn!(%error, "That a service level's state was told is not kept; after a restart it is told again");
        }
    }
}

fn publish(report: &LevelReport) {
    let slo = report.level.name();
    metrics::gauge!(SLO_OBJECTIVE, "slo" => slo).set(report.objective);
    metrics::gauge!(SLO_STATE, "slo" => slo).set(report.state.number());
    for window in &report.windows {
        metrics::gauge!(SLO_ERROR_RATIO, "slo" => slo, "window" => window.window.name).set(window.error_ratio);
    }
}

#[cfg(test)]
mod tests;
