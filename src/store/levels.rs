//! Counts of good and bad events by minute and by hour, from which service levels are computed after a restart too.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::StoreResult;

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
}

impl Width {
    /// In seconds.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}

/// What one service level counted in one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelRow {
    /// How long the bucket is.
    pub width: Width,
    /// Which one: its widths since the epoch.
    pub number: i64,
    /// The service level.
    pub level: String,
    /// Events that went wrong.
    pub bad: u64,
    /// All events.
    pub total: u64,
}

/// What is kept of the service levels.
#[async_trait]
pub trait Levels: Send + Sync {
    /// Every bucket there is.
    async fn levels(&self) -> StoreResult<Vec<LevelRow>>;

    /// Writes buckets, each as it is now, and forgets those of each width before the number given for it. Durable when
    /// this returns; writing a bucket again replaces it.
    async fn put_levels(&self, rows: Vec<LevelRow>, keep_from: [(Width, i64); 2]) -> StoreResult<()>;

    /// The state that was last told of each service level.
    async fn states(&self) -> StoreResult<BTreeMap<String, String>>;

    /// Remembers that a state was told.
    async fn put_state(&self, level: &str, state: &str) -> StoreResult<()>;

    /// Finishes what was handed over.
    async fn close(&self) -> StoreResult<()>;
}
