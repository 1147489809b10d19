//! Delivery targets kept at run time, at rest. What a definition may say is not known here.

use async_trait::async_trait;

use super::{Change, StoreResult};

/// The table of kept targets, in the change log.
pub const TARGETS_TABLE: &str = "delivery_targets";

/// A target that is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTarget {
    /// Its name.
    pub name: String,
    /// Its kind, for people who look at the table.
    pub kind: String,
    /// What stands below `[[targets]]` in a file, as it was written.
    pub definition: String,
    /// Whether it is spoken to.
    pub enabled: bool,
}

/// The kept targets; every mutation writes its line in the change log in the same transaction.
#[async_trait]
pub trait TargetStore: Send + Sync {
    /// Every kept target, by name.
    async fn targets(&self) -> StoreResult<Vec<KeptTarget>>;

    /// Keeps a target for each name, or with `None` forgets the one that is kept: all of them or none. Durable when this
    /// returns. What is so already is neither written nor logged.
    async fn put_targets(&self, targets: Vec<(String, Option<KeptTarget>)>, change: &Change) -> StoreResult<()>;
}
