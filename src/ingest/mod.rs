//! From sockets into the event queue.
//!
//! Each listener turns what it receives into [`crate::model::Event`]s and hands them to [`Intake`], the only place that
//! appends to the event queue. What is lost under overload, and where it is counted:
//!
//! * UDP and traps: the kernel drops datagrams when a receive buffer is full (`mutt_ingest_kernel_drops_total`); the
//!   listener drops what the gate refuses (`mutt_events_dropped_total{source,reason}`);
//! * TCP: nothing; the listener stops reading until there is room;
//! * HTTP: nothing that was answered with 2xx; refusals are 413, 429 and 503 and counted by reason.
//!
//! Each kind of input has its own room, and the queue's last places are kept for those that cannot wait (ADR-009).

mod gate;
pub mod http;
mod intake;
mod settings;
pub mod snmp;
pub mod syslog;
#[cfg(test)]
mod testing;

pub use gate::{Gate, Refusal};
pub use intake::{Intake, Receipt, Refused};
pub use settings::{DropReason, Secrets, Settings};

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::access::KeyRing;
use crate::clock::Clock;
use crate::live::Live;
use crate::model::EventIds;
use crate::telemetry::ListenerBoard;
use crate::telemetry::trace::Tracer;

/// What every listener is given.
#[derive(Clone)]
pub struct ListenerContext {
    /// Where events go.
    pub intake: Intake,
    /// Makes event ids.
    pub ids: Arc<EventIds>,
    /// The time.
    pub clock: Clock,
    /// Limits and options, replaceable at run time.
    pub settings: Live<Settings>,
    /// API keys and communities, replaceable at run time.
    pub secrets: Live<Secrets>,
    /// Named API keys, replaceable at run time.
    pub keys: Live<KeyRing>,
    /// Where listeners tell how they are.
    pub board: ListenerBoard,
    /// Takes the spans of requests.
    pub tracer: Tracer,
    /// Cancelled when the listener is to let go of its socket; connections that are open go on.
    pub release: CancellationToken,
    /// Cancelled when everything is to stop taking; a child of it is `release`.
    pub stop: CancellationToken,
}
