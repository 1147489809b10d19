//! What we log and count, and where it goes: metrics for machines, boards and rates for the pages.

mod certificates;
mod listeners;
pub mod logs;
pub mod metrics;
pub mod otlp;
mod rates;
mod sample;
mod targets;
pub mod trace;

pub use certificates::{CertificateBoard, CertificateFacts, CertificateStatus};
pub use listeners::{ListenerBoard, ListenerHandle, ListenerState, ListenerStatus};
pub use rates::{RateSummary, Rates};
pub use sample::{Sample, samples};
pub use targets::{BreakerState, NoForwarder, TargetBoard, TargetCommand, TargetHandle, TargetStatus, TestReport};
