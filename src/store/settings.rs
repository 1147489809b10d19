//! Settings changed at run time, at rest. What a value may be is not known here: values are texts, as they would be
//! written in the environment.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Change, StoreResult};

/// The table of kept settings, in the change log.
pub const SETTINGS_TABLE: &str = "dynamic_config";

/// The kept settings; every mutation writes its line in the change log in the same transaction.
#[async_trait]
pub trait SettingsStore: Send + Sync {
    /// Every kept setting, by key.
    async fn settings(&self) -> StoreResult<BTreeMap<String, String>>;

    /// Keeps a value for a key, or with `None` forgets the one that is kept. Durable when this returns. Nothing is
    /// written, nor logged, if it is so already.
    async fn put_setting(&self, key: &str, value: Option<&str>, change: &Change) -> StoreResult<()>;
}
