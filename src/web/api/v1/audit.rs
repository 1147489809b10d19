//! The event audit and the change log in version 1.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;

use super::super::super::Web;
use super::super::super::fault::Answer;
use super::super::super::input::Fields;
use super::super::changes;
use super::super::events::{AuditLog, audit_query};
use super::OldPaging;
use crate::admin::ChangeRow;

/// A page of matched events.
#[derive(Debug, Serialize)]
pub(super) struct Logs {
    logs: Vec<AuditLog>,
    pagination: OldPages,
}

/// A page of the change log.
#[derive(Debug, Serialize)]
pub(super) struct Changes {
    changes: Vec<OldChange>,
    pagination: OldPages,
}

/// Where a page stands among the others.
#[derive(Debug, Serialize)]
pub(super) struct OldPages {
    page: usize,
    limit: usize,
    /// Rows there are. Of the event audit an estimate: counting millions of rows for each page would take seconds. It is
    /// never less than what was seen, and exact on the last page.
    total: u64,
    /// Pages there are, by `total`: a script that goes on until the last one finds every row.
    pages: u64,
}

/// A line of the change log with the members that it had.
#[derive(Debug, Serialize)]
pub(super) struct OldChange {
    id: i64,
    changed_at: String,
    /// The same as `changed_at`: both names were in use.
    created_at: String,
    changed_by: String,
    operation: &'static str,
    table_name: String,
    record_id: String,
    old_values: Option<Value>,
    new_values: Option<Value>,
    reason: Option<String>,
    correlation_id: String,
}

impl OldPages {
    pub(super) fn of(paging: OldPaging, total: u64) -> Self {
        let limit = u64::try_from(paging.limit).unwrap_or(1).max(1);
        Self { page: paging.page, limit: paging.limit, total, pages: total.div_ceil(limit) }
    }
}

impl From<&ChangeRow> for OldChange {
    fn from(row: &ChangeRow) -> Self {
        Self {
            id: row.id,
            changed_at: row.changed_at.to_string(),
            created_at: row.changed_at.to_string(),
            changed_by: row.changed_by.clone(),
            operation: row.operation.name(),
            table_name: row.table_name.clone(),
            record_id: row.record_id.clone(),
            old_values: row.old_values.clone(),
            new_values: row.new_values.clone(),
            reason: row.reason.clone(),
            correlation_id: row.correlation_id.clone(),
        }
    }
}

/// `GET /audit-logs`.
pub(super) async fn events(State(web): State<Web>, fields: Fields) -> Answer<Json<Logs>> {
    let paging = OldPaging::of(&fields);
    let found = web.admin.audit_page(&audit_query(&fields)?, paging.page, paging.limit).await?;
    Ok(Json(Logs {
        logs: found.items.iter().map(AuditLog::from).collect(),
        pagination: OldPages::of(paging, found.total),
    }))
}

/// `GET /config-audit`, `GET /audit/config`.
pub(super) async fn changes(State(web): State<Web>, fields: Fields) -> Answer<Json<Changes>> {
    let paging = OldPaging::of(&fields);
    let found = web.admin.changes_page(&changes::query(&fields)?, paging.page, paging.limit).await?;
    Ok(Json(Changes {
        changes: found.rows.iter().map(OldChange::from).collect(),
        pagination: OldPages::of(paging, found.total),
    }))
}
