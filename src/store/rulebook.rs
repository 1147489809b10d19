//! Alert rules at rest.

use async_trait::async_trait;

use super::{Change, StoreResult};
use crate::model::{Rule, RuleDraft, RuleId};

/// The rules; every mutation writes its line in the change log in the same transaction. Changing and removing are
/// [`super::ConfigEdits`]'.
#[async_trait]
pub trait RuleBook: Send + Sync {
    /// Grows with every change of rules, hosts or teams, also by another process: a cheap way to notice one.
    async fn version(&self) -> StoreResult<u64>;

    /// Every rule, by priority, then id. Rows that cannot be read are left out and told as the second part.
    async fn list(&self) -> StoreResult<(Vec<Rule>, Vec<String>)>;

    /// One rule.
    async fn get(&self, id: RuleId) -> StoreResult<Rule>;

    /// Adds rules, all or none; their numbers are given by the store and never a second time.
    async fn create(&self, drafts: Vec<RuleDraft>, change: &Change) -> StoreResult<Vec<Rule>>;

    /// Finishes what was handed over and tidies up; later calls answer `Unavailable`. A store with nothing to finish
    /// need not implement it.
    async fn close(&self) -> StoreResult<()> {
        Ok(())
    }
}
