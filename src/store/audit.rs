//! The audit: what was decided about each event, and what receivers said to it.

use async_trait::async_trait;

use super::{EventPage, EventQuery, StoreResult};
use crate::model::{DeliveryNote, EventId, Judged};

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

/// Rows by event id, kept for months.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Writes one row an event; durable (power-safe) when it returns. An id that is there already is left as it is.
    async fn record(&self, rows: Vec<Judged>) -> StoreResult<()>;

    /// Adds to the stories of events. Need not be power-safe: a lost note is a lost remark, not a lost alert.
    async fn note_deliveries(&self, notes: Vec<DeliveryNote>) -> StoreResult<()>;

    /// Events newest first; stops at a time budget and says where to go on.
    async fn search(&self, query: &EventQuery) -> StoreResult<EventPage>;

    /// One event's row.
    async fn get(&self, id: EventId) -> StoreResult<Option<Judged>>;

    /// What receivers said about one event, oldest first.
    async fn deliveries(&self, id: EventId) -> StoreResult<Vec<DeliveryNote>>;

    /// Rows kept, about: a number for people.
    async fn approximate_rows(&self) -> StoreResult<u64>;

    /// Finishes what was handed over and tidies up; later calls answer `Unavailable`. A store with nothing to finish
    /// need not implement it.
    async fn close(&self) -> StoreResult<()> {
        Ok(())
    }
}
