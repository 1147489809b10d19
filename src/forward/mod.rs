//! From the outboxes to the receivers: one task for each target.
//!
//! The way of one alert: it is leased from its target's outbox, once breaker and rate limit admit it, and handed to the
//! [`Target`], several at once. What the target answers decides:
//!
//! * taken (2xx): the alert is acked, and the answer noted in the event's story;
//! * not now (5xx, 408, time-outs, connection errors): it is released with a delay and comes again. Nobody waits for it
//!   meanwhile: the worker holds no sleeping alert. If it fails `max_tries` times while the target takes others, it is
//!   given up; what fails because the target is down is not counted ([`strikes`]), and the target is left alone
//!   ([`breaker`]);
//! * too many (429): nothing is sent to the target until the time it named;
//! * the key is refused (401, 403): the other key is tried at once; without one that works the target is left alone;
//! * refused (any other answer), or given up: it goes to `dlq.forwarder` with the answer, then it is acked.
//!
//! Nothing is acked before the receiver, the outbox of a [`fallback`] or the dead letter queue has it, so a crash at any
//! moment sends an alert twice at most; receivers tell by the alert's key and the event's id. Targets are dumb: a kind
//! makes a request and gives a verdict; breaker, limit, tries, keys and accounting are the forwarder's, once for all.

mod answer;
mod breaker;
mod commands;
mod definition;
mod delivery;
mod desk;
mod fallback;
mod guard;
mod http;
mod kind;
mod limit;
mod retry;
mod settings;
mod spans;
mod strikes;
mod target;
mod targets;
mod worker;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, Verdict, classify};
pub use definition::{TargetConfig, Wiring};
pub use guard::Guard;
pub use http::{Http, check_url, public_address};
pub use kind::{KindOptions, Prepared, RawOptions, TargetKind, TargetParts};
pub use settings::Settings;
pub use target::{DeliveryError, FailureReason, Receipt, Target};
pub use targets::KINDS;

use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Alert, DeadLetter, TargetName};
use crate::queue::{Outboxes, Queue};
pub use crate::secret::{Secret, SecretPair, Secrets};
use crate::store::AuditLog;
use crate::telemetry::trace::Tracer;
use crate::telemetry::{TargetCommand, TargetHandle};

/// What the forwarder of one target works with.
pub struct ForwarderParts {
    /// Alerts waiting for the target.
    pub outbox: Queue<Alert>,
    /// The outboxes of all targets, for a target's fallback.
    pub outboxes: Outboxes,
    /// Where alerts go that the target will not take (`dlq.forwarder`).
    pub dead: Queue<DeadLetter>,
    /// The target's name.
    pub name: TargetName,
    /// The receiver and how it is spoken to; replaced when the configuration changes.
    pub wiring: Live<Wiring>,
    /// Keeps what receivers said.
    pub audit: Arc<dyn AuditLog>,
    /// The target's line on the board.
    pub board: TargetHandle,
    /// The wall clock.
    pub clock: Clock,
    /// Takes the spans of deliveries.
    pub tracer: Tracer,
}

/// Starts the forwarder of one target; people reach it by `commands`. When `stop` is cancelled it leases no more, gives deliveries under way five
/// seconds to end, and the task ends; what was not answered by then comes again after the next start.
pub fn start(
    parts: ForwarderParts,
    commands: mpsc::Receiver<TargetCommand>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(worker::run(parts, commands, stop))
}

#[cfg(test)]
mod outage_tests;
#[cfg(test)]
mod tests;
