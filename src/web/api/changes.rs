//! The change log over the API.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Web;
use super::super::fault::Answer;
use super::super::input::Fields;
use super::Paging;
use crate::admin::{ChangeQuery, ChangeRow};

/// `GET /config-audit`: who changed what, newest first.
pub(super) async fn config_audit(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&["table_name", "record_id", "page", "limit"])?;
    let paging = Paging::of(&fields, 50)?;
    let query = ChangeQuery {
        table_name: fields.get("table_name").map(str::to_owned),
        record_id: fields.get("record_id").map(str::to_owned),
        ..ChangeQuery::default()
    };
    let found = web.admin.changes_page(&query, paging.page, paging.limit).await?;
    Ok(Json(json!({
        "changes": found.rows.iter().map(change_json).collect::<Vec<_>>(),
        "pagination": paging.json(found.total),
    })))
}

/// A line of the change log as the API tells of it.
pub(super) fn change_json(row: &ChangeRow) -> Value {
    json!({
        "id": row.id,
        "changed_at": row.changed_at.to_string(),
        "changed_by": row.changed_by,
        "operation": row.operation.name(),
        "table_name": row.table_name,
        "record_id": row.record_id,
        "old_values": row.old_values,
        "new_values": row.new_values,
        "reason": row.reason,
        "correlation_id": row.correlation_id,
    })
}
