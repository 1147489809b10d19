//! Who changed what, when and why.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreResult;
use crate::model::Timestamp;

/// Said with every change; a change cannot be written without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The user, API key or command that did it.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// The correlation id of the request it came with.
    pub correlation_id: String,
}

/// What was done to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// One line of `config_audit_log`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeRow {
    /// Its number, ascending.
    pub id: i64,
    /// When.
    pub changed_at: Timestamp,
    /// Who.
    pub changed_by: String,
    /// What was done.
    pub operation: Operation,
    /// `alert_rules`, `development_hosts`, `device_teams`, `dynamic_config`, `users`, or an action's kind.
    pub table_name: String,
    /// The key of the row that changed.
    pub record_id: String,
    /// Before; null for a creation.
    pub old_values: Option<serde_json::Value>,
    /// After; null for a deletion.
    pub new_values: Option<serde_json::Value>,
    /// Why.
    pub reason: Option<String>,
    /// The request it came with.
    pub correlation_id: String,
}

/// Which lines of the change log; members that are `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeQuery {
    /// The table.
    pub table_name: Option<String>,
    /// The row.
    pub record_id: Option<String>,
    /// Only lines with a smaller number: where the last page ended.
    pub before: Option<i64>,
    /// Lines wanted, at most 1,000.
    pub limit: usize,
}

/// Something a person did that is no row of a table: a letter replayed, an outbox emptied.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// What it was done to, in the place of a table's name: `targets`, `outboxes`, `dead_letters`.
    pub kind: &'static str,
    /// Which one.
    pub record_id: String,
    /// Before; `None` if it makes something.
    pub old: Option<serde_json::Value>,
    /// After; `None` if it removes something.
    pub new: Option<serde_json::Value>,
}

/// The change log: its reading side, and lines for what is no row. Lines about rows are written inside each store's own
/// transactions.
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// Lines newest first.
    async fn changes(&self, query: &ChangeQuery) -> StoreResult<Vec<ChangeRow>>;

    /// Writes the line of an action; it is durable when this returns.
    async fn note_action(&self, action: Action, change: &Change) -> StoreResult<()>;

    /// How many lines `query` would find without its `before` and `limit`.
    async fn count_changes(&self, query: &ChangeQuery) -> StoreResult<u64>;
}
