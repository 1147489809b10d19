//! What went wrong with a queue's storage, kept for people to see.
//!
//! Each fault is logged once, counted and kept in a short list. Nothing here touches the disk; a restart starts with an
//! empty list, while what was set aside stays in the queue's `quarantine` directory.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::model::Timestamp;
use crate::telemetry::metrics::QUEUE_ERRORS;

/// Faults kept for the pages; older ones are in the log.
const MAX_KEPT: usize = 100;

/// What kind of fault it was; the `reason` label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A record that did not match its checksum was set aside.
    Damaged,
    /// A whole generation that cannot be read was set aside.
    Quarantined,
    /// The disk refused a read or a write.
    Storage,
}

impl FaultKind {
    /// The label it is counted under.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Quarantined => "quarantined",
            Self::Storage => "storage",
        }
    }
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The queue, as in metrics.
    pub queue: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// What kind it was.
    pub kind: FaultKind,
    /// What happened and what was done about it.
    pub what: String,
    /// Where the bytes were put, if they were set aside.
    pub kept_at: Option<PathBuf>,
}

/// The faults of one queue; clones share the list.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    queue: Arc<str>,
    clock: Clock,
    kept: Arc<Mutex<VecDeque<Fault>>>,
}

impl Faults {
    pub(super) fn new(queue: Arc<str>, clock: Clock) -> Self {
        Self { queue, clock, kept: Arc::default() }
    }

    /// Logs, counts and keeps a fault.
    pub(super) fn report(&self, kind: FaultKind, what: String, kept_at: Option<PathBuf>) {
        tracing::error!(
            queue.name = &*self.queue,
            fault.kind = kind.name(),
            fault.kept_at = kept_at.as_ref().map(|path| path.display().to_string()),
            "Queue `{}`: {what}",
            self.queue
        );
        self.count(kind);
        let mut kept = self.kept.lock();
        if kept.len() == MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back(Fault { queue: self.queue.to_string(), at: self.clock.now(), kind, what, kept_at });
    }

    /// Counts a fault that is the same as one reported before.
    pub(super) fn count(&self, kind: FaultKind) {
        metrics::counter!(QUEUE_ERRORS, "queue" => self.queue.to_string(), "reason" => kind.name()).increment(1);
    }

    /// What is kept, oldest first.
    pub(super) fn list(&self) -> Vec<Fault> {
        self.kept.lock().iter().cloned().collect()
    }
}
