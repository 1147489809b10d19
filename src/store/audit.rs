//! The audit: what was decided about each event, and what receivers said to it.

use async_trait::async_trait;

use super::{EventPage, EventQuery, NumberedPage, StoreResult};
use crate::model::{DeliveryNote, EventId, Judged, Timestamp};

/// How the audit's partitions are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSettings {
    /// Months whose files are made ahead (`partition_advance_months`).
    pub advance_months: u32,
    /// Bytes from which on a month goes on in a further file (`partition_max_bytes`).
    pub max_bytes: u64,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { advance_months: 3, max_bytes: 4 << 30 }
    }
}

/// What a partition of the audit is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Takes what comes now.
    Current,
    /// A part of a month whose size is used up; a further part takes what comes.
    Full,
    /// Of a month that is over; late events still come here.
    Closed,
    /// Made for a month to come.
    Ahead,
    /// Holds events of a month to come: the clock was wrong when they were received.
    Future,
    /// It cannot be read.
    Damaged,
}

impl PartitionState {
    /// Its name, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Full => "full",
            Self::Closed => "closed",
            Self::Ahead => "ahead",
            Self::Future => "future",
            Self::Damaged => "damaged",
        }
    }
}

/// One file of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The month of its events, UTC: `2026-11`.
    pub month: String,
    /// Which of the month's files, from 1.
    pub part: u32,
    /// The file's name.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// When its oldest event was received.
    pub first: Option<Timestamp>,
    /// When its newest event was received.
    pub last: Option<Timestamp>,
    /// What it is at the moment.
    pub state: PartitionState,
}

/// Rows by event id, kept for months.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Writes one row an event; durable (power-safe) when it returns. An id that is there already is left as it is.
    async fn record(&self, rows: Vec<Judged>) -> StoreResult<()>;

    /// Adds to the stories of events. Need not be power-safe: a lost note is a lost remark, not a lost alert.
    async fn note_deliveries(&self, notes: Vec<DeliveryNote>) -> StoreResult<()>;

    /// Events newest first; stops at a time budget and says where to go on.
    async fn search(&self, query: &EventQuery) -> StoreResult<EventPage>;

    /// The page of events that comes after `skip` newer ones; as quick at any depth.
    async fn numbered(&self, query: &EventQuery, skip: u64) -> StoreResult<NumberedPage>;

    /// One event's row.
    async fn get(&self, id: EventId) -> StoreResult<Option<Judged>>;

    /// What receivers said about one event, oldest first.
    async fn deliveries(&self, id: EventId) -> StoreResult<Vec<DeliveryNote>>;

    /// Rows kept, about: a number for people.
    async fn approximate_rows(&self) -> StoreResult<u64>;

    /// The files that the rows lie in, newest first; none where there are no such files.
    async fn partitions(&self) -> StoreResult<Vec<PartitionInfo>> {
        Ok(Vec::new())
    }

    /// Finishes what was handed over and tidies up; later calls answer `Unavailable`. A store with nothing to finish
    /// need not implement it.
    async fn close(&self) -> StoreResult<()> {
        Ok(())
    }
}
