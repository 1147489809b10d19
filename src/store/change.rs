//! Who changed what, when and why.

use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{StoreResult, TrailHead, TrailReport};
use crate::model::Timestamp;

/// By which door a change came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Via {
    /// A page of the web UI.
    Page,
    /// The API, called by a program.
    Api,
    /// The API, called by a command of `muttd`.
    Cli,
    /// The appliance itself: the first start, a reload.
    #[default]
    Appliance,
}

impl Via {
    /// The word in the change log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Appliance => "appliance",
        }
    }
}

/// Where a change came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// By which door.
    pub via: Via,
    /// The sender's address; `None` for what the appliance does itself.
    pub peer: Option<IpAddr>,
}

/// Said with every change; a change cannot be written without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The user, API key or command that did it.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// The correlation id of the request it came with.
    pub correlation_id: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Change {
    /// A change that the appliance makes itself, without a reason; set what else is known.
    pub fn new(by: impl Into<String>, correlation_id: impl Into<String>) -> Self {
        Self { by: by.into(), reason: None, correlation_id: correlation_id.into(), origin: Origin::default() }
    }
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
    /// By which door: `page`, `api`, `cli`, `appliance`; `None` for lines from before this was kept.
    pub changed_via: Option<String>,
    /// The sender's address.
    pub changed_from: Option<String>,
    /// The line's link in the hash chain, in hexadecimal.
    pub hash: Option<String>,
}

/// Which lines of the change log; members that are `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeQuery {
    /// The table.
    pub table_name: Option<String>,
    /// The row.
    pub record_id: Option<String>,
    /// Who.
    pub user: Option<String>,
    /// What was done.
    pub operation: Option<Operation>,
    /// Not before this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
    /// With this request.
    pub correlation_id: Option<String>,
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// Only lines with a smaller number: where the last page ended.
    pub before: Option<i64>,
    /// Only lines with a greater number: where the last page ended, when the oldest come first.
    pub after: Option<i64>,
    /// Lines passed over before the first: those of the pages before.
    pub skip: usize,
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
    /// Lines newest first, or oldest first if asked for.
    async fn changes(&self, query: &ChangeQuery) -> StoreResult<Vec<ChangeRow>>;

    /// Writes the line of an action; it is durable when this returns.
    async fn note_action(&self, action: Action, change: &Change) -> StoreResult<()>;

    /// How many lines `query` would find without its `before`, `after` and `limit`.
    async fn count_changes(&self, query: &ChangeQuery) -> StoreResult<u64>;

    /// Compares every line with the hash chain, its seal and its anchor, and with heads that were taken earlier. Reads
    /// line by line; writes nothing.
    async fn verify_trail(&self, against: &[TrailHead]) -> StoreResult<TrailReport>;

    /// Removes the lines from before a moment, with a line that says so: the chain goes on from where it was cut. Lines of a
    /// log that is in doubt are all kept. Answers how many lines went.
    async fn cut_before(&self, before: Timestamp, change: &Change) -> StoreResult<u64>;

    /// The sealed end of the log.
    async fn trail_head(&self) -> StoreResult<TrailHead>;

    /// Copies the configuration database, and beside it the keys and the anchor of the log's chain, into an empty folder.
    /// Nothing is written meanwhile, so the copies fit each other.
    async fn snapshot(&self, folder: PathBuf) -> StoreResult<()>;

    /// Accepts the log as it is now: keeps a copy of the database as evidence, chains every line anew and writes a line
    /// that says what was found and who accepted it. Returns the name of the copy.
    async fn reseal_trail(&self, change: &Change) -> StoreResult<String>;
}
