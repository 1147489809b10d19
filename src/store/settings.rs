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

    /// Keeps a value for each key, or with `None` forgets the one that is kept: all of them or none. Durable when this
    /// returns. What is so already is neither written nor logged.
    async fn put_settings(&self, settings: Vec<(String, Option<String>)>, change: &Change) -> StoreResult<()>;
}
