//! From the event queue to audit rows and alerts.
//!
//! The way of one batch, in this order:
//!
//! 1. **Lease** up to sixteen records of the event queue, unless the outboxes are too full ([`pressure`]).
//! 2. **Judge** every event against one snapshot of rules and hosts, off the async threads. An event whose judging
//!    panics is tried again and then becomes a dead letter; the others are not affected.
//! 3. **Record**: audit rows and the counters of unhandled events, at the same time; both are durable when they
//!    return. Counters that reached their threshold become meta-alerts, which are audited too.
//! 4. **Show**: the whole batch goes to the recent store, which never makes anyone wait.
//! 5. **Route**: an alert for each event that is to be forwarded, into the outboxes; dead letters into `dlq.alerter`.
//! 6. **Ack** the records, then count.
//!
//! While one batch is recorded the next one is judged; batches are recorded in order, one at a time.
//!
//! What happens on a crash: nothing is acked before everything that follows from it is durable, so the batch is judged
//! again. Audit rows are kept by event id and counters by batch, so repeating them changes nothing; an alert may go out
//! twice, with the same id. Storage that fails is tried again for ever; the batch in hand waits, the event queue grows
//! behind it, and nothing is lost or given up.
//!
//! A record during which the process died several times is taken apart, and the event that did it becomes a dead
//! letter: see [`worker`] and `docs/adr/ADR-005-processing-order.md`.

mod effects;
mod judgement;
mod meta;
mod pressure;
mod refresh;
mod route;
mod selection;
mod settings;
mod signature;
mod spans;
mod traffic;
mod worker;

#[cfg(test)]
mod fixtures;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::rules::Ruling;
pub use refresh::{Loaded, RefreshParts, announce, load_ruling, refresh};
pub use selection::Route;
pub use settings::{AuditScope, Settings, ShedMode};
pub use traffic::Traffic;

use crate::clock::Clock;
use crate::live::Live;
use crate::model::{DeadLetter, Event, Judged};
use crate::queue::{Outboxes, Queue};
use crate::store::{AuditLog, Unhandled};
use crate::telemetry::Rates;
use crate::telemetry::trace::Tracer;

/// Takes every judged event for the recent store; must neither wait nor fail.
pub type RecentSink = Arc<dyn Fn(&Arc<Vec<Judged>>) + Send + Sync>;

/// What the alerter works with.
#[derive(Clone)]
pub struct AlerterParts {
    /// Where events wait.
    pub events: Queue<Event>,
    /// Where alerts go, by target.
    pub outboxes: Outboxes,
    /// Events that could not be judged (`dlq.alerter`).
    pub dead_events: Queue<DeadLetter>,
    /// Alerts that are shed (`dlq.forwarder`).
    pub dead_alerts: Queue<DeadLetter>,
    /// Audit rows.
    pub audit: Arc<dyn AuditLog>,
    /// The recent store.
    pub recent: RecentSink,
    /// Counters of unhandled events.
    pub unhandled: Arc<dyn Unhandled>,
    /// Rules and hosts in force.
    pub ruling: Live<Ruling>,
    /// What the traffic is like, for those who load rules.
    pub traffic: Arc<Traffic>,
    /// What may change while it runs.
    pub settings: Live<Settings>,
    /// The wall clock.
    pub clock: Clock,
    /// Alerts per minute, for the pages.
    pub rates: Rates,
    /// Takes the spans of traced events.
    pub tracer: Tracer,
}

/// Starts the alerter. When `stop` is cancelled it finishes the batches in hand (well under a second unless storage is
/// failing, in which case it leaves them for the next start) and the task ends.
pub fn start(parts: AlerterParts, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(worker::run(parts, stop))
}

#[cfg(test)]
mod tests;
