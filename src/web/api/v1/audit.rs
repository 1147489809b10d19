//! The event audit and the change log in version 1.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use super::super::super::Web;
use super::super::super::fault::Answer;
use super::super::super::input::Fields;
use super::super::changes::{self, ChangeFilters};
use super::super::events::{AuditFilters, AuditLog, audit_query};
use super::OldPaging;
use crate::admin::ChangeRow;
use crate::web::openapi::parameters::number;

/// A page of matched events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OldLogs {
    logs: Vec<AuditLog>,
    pagination: OldPagination,
}

/// A page of the change log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OldChanges {
    changes: Vec<OldChange>,
    pagination: OldPagination,
}

/// Where a page stands among the others.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OldPagination {
    page: usize,
    limit: usize,
    /// Rows there are. Of the event audit an estimate: counting millions of rows for each page would take seconds. It is
    /// never less than what was seen, and exact on the last page.
    total: u64,
    /// Pages there are, by `total`: a script that goes on until the last one finds every row.
    pages: u64,
}

/// A line of the change log with the members that it had.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OldChange {
    id: i64,
    #[schema(format = DateTime)]
    changed_at: String,
    /// The same as `changed_at`: both names were in use.
    #[schema(format = DateTime)]
    created_at: String,
    changed_by: String,
    operation: &'static str,
    table_name: String,
    record_id: String,
    #[schema(value_type = Option<Object>)]
    old_values: Option<Value>,
    #[schema(value_type = Option<Object>)]
    new_values: Option<Value>,
    reason: Option<String>,
    correlation_id: String,
}

impl OldPagination {
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

/// The parameters of lists by page.
pub(super) enum OldPages {}

impl IntoParams for OldPages {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            number("page", 1, 1_000_000, "Which page; 1 unless said"),
            number("limit", 1, 200, "How many a page; 50 unless said"),
        ]
    }
}

/// Matched events
#[utoipa::path(get, path = "/audit-logs", params(AuditFilters, OldPages), responses((status = 200, body = OldLogs)))]
pub(super) async fn events(State(web): State<Web>, fields: Fields) -> Answer<Json<OldLogs>> {
    let paging = OldPaging::of(&fields);
    let found = web.admin.audit_page(&audit_query(&fields)?, paging.page, paging.limit).await?;
    Ok(Json(OldLogs {
        logs: found.items.iter().map(AuditLog::from).collect(),
        pagination: OldPagination::of(paging, found.total),
    }))
}

/// The change log
#[utoipa::path(get, path = "/config-audit", params(ChangeFilters), responses((status = 200, body = OldChanges)))]
pub(super) async fn changes(State(web): State<Web>, fields: Fields) -> Answer<Json<OldChanges>> {
    let paging = OldPaging::of(&fields);
    let found = web.admin.changes_page(&changes::query(&fields)?, paging.page, paging.limit).await?;
    Ok(Json(OldChanges {
        changes: found.rows.iter().map(OldChange::from).collect(),
        pagination: OldPagination::of(paging, found.total),
    }))
}

/// The change log, by its older name
#[utoipa::path(get, path = "/audit/config", params(ChangeFilters), responses((status = 200, body = OldChanges)))]
pub(super) async fn changes_by_older_name(web: State<Web>, fields: Fields) -> Answer<Json<OldChanges>> {
    changes(web, fields).await
}
