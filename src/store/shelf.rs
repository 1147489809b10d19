//! The audit as retention sees it: whole days that are read, removed row by row, and put back.

use async_trait::async_trait;

use super::StoreResult;
use super::archive::Record;
use crate::model::{Day, EventId};

/// Where reading a day goes on: after this row of that file, or after the notes of that event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// At the beginning.
    #[default]
    Start,
    /// In the day's n-th file, after this ordinal.
    Row(usize, i64),
    /// Among notes without a row, after those of this event.
    Note(EventId),
}

/// Some lines of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Rows with their notes, or notes of events that have no row.
    pub records: Vec<Record>,
    /// Where to go on; `None` at the end of the day.
    pub next: Option<Place>,
}

/// What the audit takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of pages in use: what counts against `audit_max_bytes`.
    pub used: u64,
    /// Bytes of its files. A file gives room back only when its last row has left.
    pub files: u64,
    /// The day of its oldest row.
    pub oldest: Option<Day>,
}

/// A file that was deleted because nothing was left in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// Days of the audit. A day is that of the event's id, in UTC.
#[async_trait]
pub trait AuditShelf: Send + Sync {
    /// Days before `before` of which anything is there, oldest first.
    async fn days(&self, before: Day) -> StoreResult<Vec<Day>>;

    /// Rows of a day.
    async fn rows_of(&self, day: Day) -> StoreResult<u64>;

    /// The next lines of a day, at most `limit` of them. What is recorded while a day is read may or may not be among them.
    async fn read_day(&self, day: Day, place: Place, limit: usize) -> StoreResult<Chunk>;

    /// Removes exactly these: each row if it is what the record says, each note if it is there. All of one day or nothing, and
    /// overwritten in the file. Answers how many rows went. A row that is not what the record says is an error.
    async fn remove(&self, records: Vec<Record>) -> StoreResult<u64>;

    /// Puts events and notes back; what is there already is left as it is. Answers how many rows came.
    async fn put_back(&self, records: Vec<Record>) -> StoreResult<u64>;

    /// Forgets the name of a host that has no rows any more.
    async fn forget_host(&self, key: &str) -> StoreResult<()>;

    /// Deletes the files of past months in which nothing is left.
    async fn drop_empty(&self) -> StoreResult<Vec<DroppedFile>>;

    /// What it takes.
    async fn size(&self) -> StoreResult<AuditSize>;
}
