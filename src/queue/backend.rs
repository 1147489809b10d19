//! The seam below the queues: bytes in, bytes out.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::fault::Fault;

/// Position of a record in its queue; ascending, never reused, also not after a restart.
pub type Seq = u64;

/// What is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How many items the payload holds; what [`Depth::items`] counts.
    pub items: u32,
    /// The encoded items, at most [`Record::MAX_BYTES`].
    pub payload: Vec<u8>,
}

impl Record {
    /// Largest payload in bytes. sled writes values above a quarter of its 8 MiB segments to files of their own, which
    /// it neither syncs nor removes; staying well below keeps that from ever happening.
    pub const MAX_BYTES: usize = 1 << 20;
}

/// A record handed out for processing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What to ack or release it by.
    pub seq: Seq,
    /// 1 for the first time it is handed out; grows with each release and with each crash while it was leased.
    pub attempt: u32,
    /// Items in the payload.
    pub items: u32,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Depth {
    /// Items appended and not acked.
    pub items: u64,
    /// Records appended and not acked.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

impl Depth {
    /// Counts a record in.
    pub(super) fn add(&mut self, record: &Record) {
        self.items += u64::from(record.items);
        self.records += 1;
        self.bytes += record.payload.len() as u64;
    }

    /// Counts a record out.
    pub(super) fn subtract(&mut self, items: u32, bytes: usize) {
        self.less(Depth { items: u64::from(items), records: 1, bytes: bytes as u64 });
    }

    /// Adds another depth.
    pub(super) fn plus(&mut self, other: Depth) {
        self.items = self.items.saturating_add(other.items);
        self.records = self.records.saturating_add(other.records);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Takes another depth away, never below zero.
    pub(super) fn less(&mut self, other: Depth) {
        self.items = self.items.saturating_sub(other.items);
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Why a queue did not do what it was asked, and so what the caller should do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// Nothing was stored; refuse input (503) and try again when there is room.
    #[error("queue `{queue}` cannot take more: {why}")]
    Full {
        /// The queue.
        queue: String,
        /// Which bound was met, with its value.
        why: String,
    },
    /// The disk failed; nothing of this call is certain to be stored. Refuse input, alarm, try again.
    #[error("the storage of queue `{queue}` cannot be used: {why}")]
    Storage {
        /// The queue.
        queue: String,
        /// What the system said.
        why: String,
    },
    /// A payload above [`Record::MAX_BYTES`]; split it or refuse it.
    #[error("a record of {bytes} bytes is too large for queue `{queue}` (at most {limit})")]
    TooLarge {
        /// The queue.
        queue: String,
        /// Size of the payload.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The queue was closed; the process is stopping.
    #[error("queue `{queue}` is closed")]
    Closed {
        /// The queue.
        queue: String,
    },
}

/// Refuses records that are too large for a queue.
pub(super) fn check_size(queue: &str, records: &[Record]) -> Result<(), QueueError> {
    match records.iter().map(|record| record.payload.len()).find(|bytes| *bytes > Record::MAX_BYTES) {
        Some(bytes) => Err(QueueError::TooLarge { queue: queue.to_owned(), bytes, limit: Record::MAX_BYTES }),
        None => Ok(()),
    }
}

/// One queue's storage. See the module documentation of [`crate::queue`] for what each verb guarantees.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Stores the records, in order; returns when they are on stable storage.
    async fn append(&self, records: Vec<Record>) -> Result<(), QueueError>;

    /// Up to `max` due records, oldest first; waits up to `wait` for the first one, then returns what is there.
    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError>;

    /// Forgets leased records. Sequences that are not leased are ignored.
    async fn ack(&self, seqs: &[Seq]) -> Result<(), QueueError>;

    /// Gives leased records back, due again after `delay`. Sequences that are not leased are ignored.
    async fn release(&self, seqs: &[Seq], delay: Duration) -> Result<(), QueueError>;

    /// Up to `max` waiting records from `from` on, without leasing them: for people who look. `attempt` is how often a
    /// record was handed out so far.
    async fn peek(&self, from: Seq, max: usize) -> Result<Vec<Lease>, QueueError>;

    /// Leases these records, wherever they wait: for letters that are picked one by one. Those that are leased already,
    /// acked or unknown are left out, so of two callers one gets a record. A delay does not hold them back. A queue that
    /// is consumed in order leaves out what it never handed out.
    async fn claim(&self, seqs: &[Seq]) -> Result<Vec<Lease>, QueueError>;

    /// How much waits; O(1).
    fn depth(&self) -> Depth;

    /// What went wrong with the storage since the start, oldest first.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// Finishes what is under way and syncs; later calls answer `Closed`.
    async fn close(&self) -> Result<(), QueueError>;
}
