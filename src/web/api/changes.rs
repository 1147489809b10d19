//! The change log over the API: its lines, and whether they are as they were written.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody};
use super::Paging;
use crate::admin::{ChangePage, ChangeQuery, ChangeRow, Operation, TrailReport};

/// What restricts, orders and pages the lines.
const PARAMETERS: [&str; 11] =
    ["table_name", "record_id", "user", "operation", "correlation_id", "from", "to", "sort", "page", "limit", "cursor"];

/// `GET /config-audit`: who changed what, newest first unless `sort=asc`. `cursor` goes on where the answer before ended
/// and costs the same however far that is; `page` counts from the start.
pub(super) async fn config_audit(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&PARAMETERS)?;
    let (found, mut answer) = lines(&web, &fields).await?;
    answer["changes"] = found.rows.iter().map(change_json).collect();
    answer["next_cursor"] = json!(found.next.map(|id| id.to_string()));
    Ok(Json(answer))
}

/// `GET /api/v1/config-audit`, `/api/v1/audit/config`: the same lines with the members that version 1 had.
pub(super) async fn config_audit_v1(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&PARAMETERS)?;
    let (found, mut answer) = lines(&web, &fields).await?;
    answer["changes"] = found.rows.iter().map(old_change_json).collect();
    Ok(Json(answer))
}

async fn lines(web: &Web, fields: &Fields) -> Answer<(ChangePage, Value)> {
    let paging = Paging::of(fields, 50)?;
    let query = query(fields)?;
    if fields.get("cursor").is_some() {
        if fields.get("page").is_some() {
            return Err(Fault::field("page", "give a page or a cursor, not both"));
        }
        let found = web.admin.changes(&ChangeQuery { limit: paging.limit, ..query }).await?;
        let pagination = json!({"limit": paging.limit, "total": found.total});
        return Ok((found, json!({"changes": [], "pagination": pagination})));
    }
    let found = web.admin.changes_page(&query, paging.page, paging.limit).await?;
    let pagination = paging.json(found.total);
    Ok((found, json!({"changes": [], "pagination": pagination})))
}

/// The filters of a query, as API and page have them.
pub(in super::super) fn query(fields: &Fields) -> Answer<ChangeQuery> {
    let text = |name: &str| fields.get(name).map(|value| value.trim().to_owned());
    let ascending = fields.parsed("sort", "`asc` or `desc`", |word| match word.to_ascii_lowercase().as_str() {
        "asc" => Some(true),
        "desc" => Some(false),
        _ => None,
    })?;
    let ascending = ascending.unwrap_or(false);
    let cursor = fields.parsed("cursor", "a cursor of an earlier answer", |text| text.parse::<i64>().ok())?;
    let (from, to) = (fields.time("from")?, fields.time("to")?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Fault::field("to", "it is not after `from`"));
    }
    Ok(ChangeQuery {
        table_name: text("table_name"),
        record_id: text("record_id"),
        user: text("user"),
        operation: fields.parsed("operation", "`CREATE`, `UPDATE` or `DELETE`", operation)?,
        correlation_id: text("correlation_id"),
        from,
        to,
        ascending,
        before: cursor.filter(|_| !ascending),
        after: cursor.filter(|_| ascending),
        ..ChangeQuery::default()
    })
}

fn operation(word: &str) -> Option<Operation> {
    let all = [Operation::Create, Operation::Update, Operation::Delete];
    all.into_iter().find(|operation| operation.name().eq_ignore_ascii_case(word))
}

/// `GET /config-audit/chain`: what the last verification found.
pub(super) async fn chain(State(web): State<Web>) -> Answer<Json<Value>> {
    let head = web.admin.trail_head().await?;
    let mut answer = chain_json(web.admin.trail_report().as_deref());
    answer["head"] = json!(head);
    Ok(Json(answer))
}

/// `POST /config-audit/chain/verify`: verifies now.
pub(super) async fn verify(State(web): State<Web>) -> Answer<Json<Value>> {
    let report = web.admin.verify_trail().await?;
    let mut answer = chain_json(Some(&report));
    answer["head"] = json!(report.head);
    Ok(Json(answer))
}

/// `POST /config-audit/chain/accept`: accepts the log as it is.
pub(super) async fn accept(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<Value>> {
    body.only(&[])?;
    let evidence = web.admin.accept_trail(&caller.0, body.reason.as_deref()).await?;
    Ok(Json(json!({"accepted": true, "evidence": evidence})))
}

/// What a verification found.
pub(super) fn chain_json(report: Option<&TrailReport>) -> Value {
    let Some(report) = report else { return json!({"ok": null, "checked_at": null, "faults": []}) };
    json!({
        "ok": report.is_whole(),
        "checked_at": report.checked_at.to_string(),
        "lines": report.lines,
        "found": report.found,
        "faults": report.faults.iter().map(|fault| json!({
            "kind": fault.kind.name(),
            "id": fault.id,
            "changed_at": fault.changed_at.map(|at| at.to_string()),
            "why": fault.why,
        })).collect::<Vec<_>>(),
    })
}

/// A line of the change log as the API tells of it.
pub(super) fn change_json(row: &ChangeRow) -> Value {
    let mut line = old_change_json(row);
    line["changed_via"] = json!(row.changed_via);
    line["changed_from"] = json!(row.changed_from);
    line["hash"] = json!(row.hash);
    line
}

fn old_change_json(row: &ChangeRow) -> Value {
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
