//! Many changes of what operators configure as one: all of them or none, in one transaction.

use async_trait::async_trait;

use super::{Change, DeviceTeam, KeptTarget, StoreResult};
use crate::model::{Rule, RuleDraft, RuleId};

/// The table of kept settings, in the change log. What a value may be is not known here: values are texts, as they would
/// be written in the environment.
pub const SETTINGS_TABLE: &str = "dynamic_config";

/// One change, or what must be so for all of them.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigEdit {
    /// The rule must be there and have one of these tags; any if none is given.
    ExpectRule(RuleId, Vec<String>),
    /// The host must have a team, and its row one of these tags; any if none is given.
    ExpectTeam(String, Vec<String>),
    /// A rule is added; the store gives its number.
    AddRule(RuleDraft),
    /// A rule is replaced.
    ReplaceRule(Rule),
    /// A rule goes.
    RemoveRule(RuleId),
    /// A host becomes a development host.
    AddDevHost(String),
    /// A host is a production host again.
    RemoveDevHost(String),
    /// A host gets a team.
    PutTeam(DeviceTeam),
    /// A host has no team of its own any more.
    RemoveTeam(String),
    /// A setting is kept, or with `None` forgotten.
    PutSetting(String, Option<String>),
    /// A target is kept, or with `None` forgotten.
    PutTarget(String, Option<KeptTarget>),
}

/// Carries out many changes as one.
#[async_trait]
pub trait ConfigEdits: Send + Sync {
    /// Carries out every change, or none; each has its line in the change log, with the same correlation id. What is so
    /// already is neither written nor logged. Durable when this returns. Answers the numbers that added rules were given,
    /// in their order.
    async fn apply(&self, edits: Vec<ConfigEdit>, change: &Change) -> StoreResult<Vec<RuleId>>;
}
