//! The change log and the dead letters over the API.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Web;
use super::super::fault::Answer;
use super::super::input::Fields;
use super::Paging;
use crate::admin::{ChangeQuery, ChangeRow, DeadItem, DeadPage, DeadQueue};
use crate::model::event_json;

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

fn change_json(row: &ChangeRow) -> Value {
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

/// `GET /dead-letters`: both queues, or the one in `queue`, oldest first; `next_cursor` goes on in that queue.
pub(super) async fn dead_letters(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&["queue", "limit", "cursor"])?;
    let asked = fields.parsed("queue", "dlq.alerter or dlq.forwarder", |text| text.parse::<DeadQueue>().ok())?;
    let limit = fields.number("limit", 50, 1, 200)?;
    let from = fields.parsed("cursor", "a cursor from an earlier answer", |text| text.parse().ok())?.unwrap_or(0);
    let mut queues = Vec::new();
    for queue in DeadQueue::ALL.into_iter().filter(|queue| asked.is_none_or(|asked| asked == *queue)) {
        let page = web.admin.dead_letters(queue, from, limit).await?;
        queues.push(page_json(queue, &page));
    }
    Ok(Json(json!({"queues": queues})))
}

fn page_json(queue: DeadQueue, page: &DeadPage) -> Value {
    json!({
        "queue": queue.name(),
        "total": page.total,
        "items": page.items.iter().map(item_json).collect::<Vec<_>>(),
        "next_cursor": page.next.map(|seq| seq.to_string()),
    })
}

fn item_json(item: &DeadItem) -> Value {
    let letter = item.letter.as_ref();
    json!({
        "seq": item.seq,
        "origin": letter.ok().map(|letter| &letter.origin),
        "reason": letter.map_or_else(Clone::clone, |letter| letter.reason.clone()),
        "attempts": letter.ok().map(|letter| letter.attempts),
        "died_at": letter.ok().map(|letter| letter.died_at.to_string()),
        "event_id": letter.ok().and_then(|letter| letter.event_id).map(|id| id.to_string()),
        "event": item.record.event().map(event_json),
    })
}
