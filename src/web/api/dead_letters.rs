//! Dead letters and remediation over the API.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, parse_time};
use super::super::text::hex_dump;
use crate::admin::{
    Acted, DeadGroup, DeadItem, DeadPage, DeadQueue, DeadRecord, LetterEdit, LetterFilter, RemedyStatus, RunReport,
    Selection,
};
use crate::model::{DeathClass, Timestamp, alert_json, event_json};

/// Parameters that say which letters.
const FILTERS: [&str; 6] = ["origin", "class", "hostname", "q", "from", "to"];
/// What a queue may be called.
const QUEUES: &str = "dlq.alerter, dlq.forwarder or dead";
/// Bytes shown of what is not understood.
const SHOWN_BYTES: usize = 4_096;
/// Letters acted on when nothing else is said.
const DEFAULT_ACTED: usize = 1_000;
/// Letters acted on in one call, at most.
const MAX_ACTED: usize = 10_000;

/// Queue and place of one letter, from the address.
pub(super) struct Place(DeadQueue, u64);

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((queue, seq)) = path.map_err(|_| Fault::bad_request("the address is not valid UTF-8"))?;
        let queue = queue.parse().map_err(|_| Fault::field("queue", format!("use {QUEUES}")))?;
        let seq = seq.parse().map_err(|_| Fault::field("seq", "it is not a place in a queue"))?;
        Ok(Self(queue, seq))
    }
}

/// The filter that a query holds.
pub(in crate::web) fn filter(fields: &Fields) -> Answer<LetterFilter> {
    let text = |name: &str| fields.get(name).map(|text| text.trim().to_owned());
    Ok(LetterFilter {
        origin: text("origin"),
        class: fields.parsed("class", &classes(), DeathClass::parse)?,
        hostname: text("hostname"),
        text: text("q"),
        from: fields.time("from")?,
        to: fields.time("to")?,
    })
}

fn classes() -> String {
    format!("one of {}", DeathClass::ALL.map(DeathClass::name).join(", "))
}

/// The queue that a query names.
pub(in crate::web) fn queue(fields: &Fields) -> Answer<Option<DeadQueue>> {
    fields.parsed("queue", QUEUES, |text| text.parse().ok())
}

/// `GET /dead-letters`: every queue, or the one in `queue`, oldest first; `next_cursor` goes on in that queue.
pub(super) async fn list(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&[&["queue", "limit", "cursor"][..], &FILTERS].concat())?;
    let (asked, filter) = (queue(&fields)?, filter(&fields)?);
    let limit = fields.number("limit", 50, 1, 200)?;
    let from = fields.parsed("cursor", "a cursor from an earlier answer", |text| text.parse().ok())?.unwrap_or(0);
    let mut queues = Vec::new();
    for queue in DeadQueue::ALL.into_iter().filter(|queue| asked.is_none_or(|asked| asked == *queue)) {
        let page = web.admin.dead_letters(queue, &filter, from, limit).await?;
        queues.push(page_json(queue, &page));
    }
    Ok(Json(json!({"queues": queues})))
}

/// `GET /dead-letters/groups`: how many died for which reason.
pub(super) async fn groups(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&[&["queue"][..], &FILTERS].concat())?;
    let (asked, filter) = (queue(&fields)?, filter(&fields)?);
    let mut queues = Vec::new();
    for queue in DeadQueue::ALL.into_iter().filter(|queue| asked.is_none_or(|asked| asked == *queue)) {
        let found = web.admin.dead_groups(queue, &filter).await?;
        let groups: Vec<Value> = found.groups.iter().map(group_json).collect();
        queues.push(json!({"queue": queue.name(), "groups": groups, "complete": found.complete}));
    }
    Ok(Json(json!({"queues": queues})))
}

/// `GET /dead-letters/{queue}/{seq}`.
pub(super) async fn show(State(web): State<Web>, Place(queue, seq): Place) -> Answer<Json<Value>> {
    let item = web.admin.dead_letter(queue, seq).await?;
    let mut body = item_json(&item);
    if let (Value::Object(members), DeadRecord::Alert(alert)) = (&mut body, &item.record) {
        members.insert("alert".into(), alert_json(alert));
    }
    if let (Value::Object(members), DeadRecord::Bytes(bytes)) = (&mut body, &item.record) {
        members.insert("bytes".into(), bytes.len().into());
        members.insert("hex".into(), hex_dump(bytes, SHOWN_BYTES).into());
    }
    Ok(Json(body))
}

/// `PATCH /dead-letters/{queue}/{seq}`: changes what the letter holds; it moves to the end of its queue.
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Place(queue, seq): Place,
    body: JsonBody,
) -> Answer<Json<Value>> {
    body.only(&["hostname", "message", "severity", "app_name", "team", "handling"])?;
    let text = |name: &str| body.members()?.get(name).map(|_| body.text(name).map(str::to_owned)).transpose();
    let severity = match body.members()?.get("severity") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(number) => {
            let number = number.as_u64().and_then(|number| u8::try_from(number).ok());
            Some(Some(number.ok_or_else(|| Fault::field("severity", "use 0 to 7, or null for none"))?))
        }
    };
    let edit = LetterEdit {
        hostname: text("hostname")?,
        message: text("message")?,
        severity,
        app_name: text("app_name")?,
        team: text("team")?,
        handling: text("handling")?,
    };
    web.admin.edit_dead(queue, seq, &edit, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(json!({"status": "changed", "queue": queue.name()})))
}

/// `POST /dead-letters/{queue}/{seq}/replay`, with `target` if it is to go to another.
pub(super) async fn replay_one(
    State(web): State<Web>,
    caller: Caller,
    Place(queue, seq): Place,
    body: JsonBody,
) -> Answer<Json<Value>> {
    body.only(&["target"])?;
    let target = body.members()?.get("target").map(|_| body.text("target")).transpose()?;
    let one = Selection::Places(vec![seq]);
    let acted = web.admin.replay_dead(queue, &one, target, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(acted_json("replayed", &acted)))
}

/// `DELETE /dead-letters/{queue}/{seq}`; the reason stands in `X-Change-Reason`.
pub(super) async fn discard_one(
    State(web): State<Web>,
    caller: Caller,
    Place(queue, seq): Place,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    let one = Selection::Places(vec![seq]);
    let acted = web.admin.discard_dead(queue, &one, &caller.0, reason.as_deref()).await?;
    Ok(Json(acted_json("discarded", &acted)))
}

/// `POST /dead-letters/replay`: the letters in `seqs`, or those that fit the filters, `limit` at most.
pub(super) async fn replay(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<Value>> {
    body.only(&[&["queue", "seqs", "limit", "target"][..], &FILTERS].concat())?;
    let (queue, selection) = selection(&body)?;
    let target = body.members()?.get("target").map(|_| body.text("target")).transpose()?;
    let acted = web.admin.replay_dead(queue, &selection, target, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(acted_json("replayed", &acted)))
}

/// `POST /dead-letters/discard`: as `replay`; a reason is needed.
pub(super) async fn discard(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<Value>> {
    body.only(&[&["queue", "seqs", "limit"][..], &FILTERS].concat())?;
    let (queue, selection) = selection(&body)?;
    let acted = web.admin.discard_dead(queue, &selection, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(acted_json("discarded", &acted)))
}

/// `GET /remediation`.
pub(super) async fn remediation(State(web): State<Web>) -> Json<Value> {
    Json(status_json(&web.admin.remediation()))
}

/// `POST /remediation/run`: one run now.
pub(super) async fn run(State(web): State<Web>, caller: Caller, Reason(reason): Reason) -> Answer<Json<Value>> {
    Ok(Json(run_json(&web.admin.remediate(&caller.0, reason.as_deref()).await?)))
}

/// Which letters a body names.
fn selection(body: &JsonBody) -> Answer<(DeadQueue, Selection)> {
    let members = body.members()?;
    let queue = body.text("queue")?.parse().map_err(|_| Fault::field("queue", format!("use {QUEUES}")))?;
    if let Some(seqs) = members.get("seqs") {
        if let Some(name) = FILTERS.iter().find(|name| members.contains_key(**name)) {
            return Err(Fault::field(name, "give either `seqs` or filters"));
        }
        let seqs = seqs.as_array().and_then(|seqs| seqs.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
        let seqs = seqs.filter(|seqs| !seqs.is_empty());
        let seqs = seqs.ok_or_else(|| Fault::field("seqs", "it is not a list of places in the queue"))?;
        return Ok((queue, Selection::Places(seqs)));
    }
    let text = |name: &str| members.get(name).map(|_| body.text(name).map(str::to_owned)).transpose();
    let class = text("class")?
        .map(|name| DeathClass::parse(&name).ok_or_else(|| Fault::field("class", format!("it is not {}", classes()))));
    let time = |name: &str| -> Answer<Option<Timestamp>> {
        let parsed = |text: String| {
            parse_time(&text).ok_or_else(|| Fault::field(name, "it is not a time such as 2026-03-01T12:00:00Z"))
        };
        text(name)?.map(parsed).transpose()
    };
    let filter = LetterFilter {
        origin: text("origin")?,
        class: class.transpose()?,
        hostname: text("hostname")?,
        text: text("q")?,
        from: time("from")?,
        to: time("to")?,
    };
    let limit = match members.get("limit") {
        None => DEFAULT_ACTED,
        Some(limit) => {
            let limit = limit.as_u64().and_then(|limit| usize::try_from(limit).ok());
            let limit = limit.filter(|limit| (1..=MAX_ACTED).contains(limit));
            limit.ok_or_else(|| Fault::field("limit", format!("it is not a whole number from 1 to {MAX_ACTED}")))?
        }
    };
    Ok((queue, Selection::Matching(filter, limit)))
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
    let letter = item.letter.as_ref().ok();
    json!({
        "seq": item.seq,
        "origin": letter.map(|letter| &letter.origin),
        "class": letter.map_or(DeathClass::Undecodable, |letter| letter.class).name(),
        "reason": item.letter.as_ref().map_or_else(Clone::clone, |letter| letter.reason.clone()),
        "answer": letter.and_then(|letter| letter.answer.as_ref()),
        "attempts": letter.map(|letter| letter.attempts),
        "replays": letter.map(|letter| letter.replays),
        "first_died_at": letter.map(|letter| letter.first_died_at.to_string()),
        "died_at": letter.map(|letter| letter.died_at.to_string()),
        "edited": letter.and_then(|letter| letter.edited.as_ref()).map(|edited| json!({
            "by": edited.by,
            "at": edited.at.to_string(),
        })),
        "holds": match &item.record {
            DeadRecord::Event(_) => "event",
            DeadRecord::Alert(_) => "alert",
            DeadRecord::Bytes(_) => "bytes",
        },
        "event_id": letter.and_then(|letter| letter.event_id).map(|id| id.to_string()),
        "event": item.record.event().map(event_json),
    })
}

fn group_json(group: &DeadGroup) -> Value {
    json!({
        "origin": group.origin,
        "class": group.class.name(),
        "reason": group.reason,
        "count": group.count,
        "first_died_at": group.first.map(|time| time.to_string()),
        "died_at": group.last.map(|time| time.to_string()),
        "example_seq": group.example,
    })
}

fn acted_json(done: &str, acted: &Acted) -> Value {
    let kept = acted.kept.iter().map(|(seq, why)| json!({"seq": seq, "reason": why}));
    json!({
        "selected": acted.selected,
        done: acted.done,
        "kept": kept.collect::<Vec<_>>(),
        "more": acted.more,
    })
}

fn status_json(status: &RemedyStatus) -> Value {
    json!({
        "enabled": status.settings.enabled,
        "interval_seconds": status.settings.interval.as_secs(),
        "batch_size": status.settings.batch_size,
        "max_poison_retries": status.settings.max_poison_retries,
        "health_probe_ttl_seconds": status.settings.health_probe_ttl.as_secs(),
        "last_run": status.last.as_ref().map(run_json),
        "targets": status.health.iter().map(|health| json!({
            "name": health.target.as_str(),
            "healthy": health.healthy,
            "checked_at": health.checked_at.map(|time| time.to_string()),
            "why": Some(&health.why).filter(|why| !why.is_empty()),
        })).collect::<Vec<_>>(),
    })
}

fn run_json(report: &RunReport) -> Value {
    let unhealthy = report.unhealthy.iter().map(|(target, why)| json!({"target": target.as_str(), "why": why}));
    json!({
        "at": report.at.to_string(),
        "replayed": report.replayed,
        "poison": report.poison,
        "skipped_unhealthy": unhealthy.collect::<Vec<_>>(),
        "skipped_no_target": report.no_target,
        "failed": report.failed,
        "error": report.error,
    })
}
