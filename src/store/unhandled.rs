//! Counters of events that no rule matched, by host and message signature.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreResult;
use crate::model::{EventId, Text, Timestamp};

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// The host.
    pub hostname: Text,
    /// The message with its variable parts replaced.
    pub signature: Text,
}

/// Events of one kind within one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Place of the kind in [`Unhandled::count`]'s list.
    pub kind: usize,
    /// How many there were in the batch.
    pub count: u64,
    /// The last of them.
    pub last: EventId,
    /// When the last of them was received.
    pub at: Timestamp,
    /// The message of the last of them, shortened.
    pub sample: Text,
}

/// The unhandled events of one queue record. `key` is the id of the record's first event: the same batch counted twice
/// (after a crash between counting and acking) changes nothing the second time and gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnhandledBatch {
    /// Identifies the batch.
    pub key: EventId,
    /// One entry a kind.
    pub sightings: Vec<Sighting>,
}

/// Some batches, which share the names of their kinds: most kinds are in each of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnhandledEvents {
    /// The kinds that occur.
    pub kinds: Vec<Kind>,
    /// The batches, oldest first.
    pub batches: Vec<UnhandledBatch>,
}

/// When counting ends in an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnhandledPolicy {
    /// Events of one host and signature that make one meta-alert.
    pub threshold: u64,
    /// The window: it opens with the first event; when it has passed, counting starts anew.
    pub window: Duration,
    /// Counters kept in memory at most; beyond, those seen longest ago are forgotten.
    pub max_counters: usize,
}

/// A counter that reached the threshold: exactly one for each counter and window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrun {
    /// What was counted.
    pub kind: Kind,
    /// The last event.
    pub last: EventId,
    /// When it was received.
    pub at: Timestamp,
    /// Its message, shortened.
    pub sample: Text,
    /// The count, this batch included.
    pub count: u64,
    /// When the window opened.
    pub window_start: Timestamp,
}

/// The counters.
#[async_trait]
pub trait Unhandled: Send + Sync {
    /// Adds batches; durable when it returns. The answer lists counters that reached the threshold through these
    /// batches, also when these batches were counted before.
    async fn count(&self, events: Arc<UnhandledEvents>, policy: UnhandledPolicy) -> StoreResult<Vec<Overrun>>;

    /// The largest counters, largest first, for people: with what is known of the last event.
    async fn top(&self, limit: usize) -> StoreResult<Vec<Overrun>>;

    /// Forgets every counter of a host, on disk too, and what was answered about it. Answers how many there were. A store
    /// that keeps nothing need not implement it.
    async fn forget_host(&self, _key: &str) -> StoreResult<u64> {
        Ok(0)
    }

    /// Finishes what was handed over and tidies up; later calls answer `Unavailable`. A store with nothing to finish
    /// need not implement it.
    async fn close(&self) -> StoreResult<()> {
        Ok(())
    }
}
