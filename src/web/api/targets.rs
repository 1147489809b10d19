//! Delivery targets over the API: how they are and how they are defined, a test, the breaker's reset, and outboxes of targets
//! that are gone.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::conditional::{IfMatch, tagged};
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment};
use super::created;
use crate::admin::{Abandoned, Enabled, TargetDefinition, TargetLine};
use crate::telemetry::TargetStatus;

/// `GET /targets`.
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Value>> {
    let targets = web.admin.target_lines();
    Ok(Json(json!({
        "total": targets.configured.len(),
        "targets": targets.configured.iter().map(line_json).collect::<Vec<_>>(),
        "abandoned": targets.abandoned.iter().map(abandoned_json).collect::<Vec<_>>(),
        "definitions": web.admin.target_definitions().iter().map(definition_json).collect::<Vec<_>>(),
    })))
}

/// `GET /targets/{name}`: how it is, if it is spoken to, and how it is defined.
pub(super) async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Response> {
    let definition = web.admin.target_definition(&name)?;
    let mut shown = definition_json(&definition);
    if let (Ok(line), Some(shown)) = (web.admin.target(&name), shown.as_object_mut())
        && let Value::Object(line) = line_json(&line)
    {
        shown.extend(line);
    }
    Ok(definition_answer(&web, &name, Json(shown)))
}

/// With the tag of what is kept, if the target is.
fn definition_answer(web: &Web, name: &str, body: impl IntoResponse) -> Response {
    match web.admin.target_tag(name) {
        Some(tag) => tagged(&tag, body),
        None => body.into_response(),
    }
}

/// `POST /targets`: adds one to those kept in the store.
pub(super) async fn add(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    body.only(&["definition", "enabled"])?;
    let (definition, enabled) = (body.text("definition")?, enabled(&body)?);
    let made = web.admin.add_target(definition, enabled, &caller.0, body.reason.as_deref()).await?;
    let answer = created("targets", &made.name, definition_json(&made));
    Ok(definition_answer(&web, &made.name, answer))
}

/// `PUT /targets/{name}`.
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    IfMatch(expected): IfMatch,
    body: JsonBody,
) -> Answer<Response> {
    body.only(&["definition", "enabled"])?;
    let (definition, enabled) = (body.text("definition")?, enabled(&body)?);
    let reason = body.reason.as_deref();
    let changed = web.admin.change_target(&name, definition, enabled, expected, &caller.0, reason).await?;
    Ok(definition_answer(&web, &name, Json(definition_json(&changed))))
}

/// `DELETE /targets/{name}`.
pub(super) async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    IfMatch(expected): IfMatch,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.remove_target(&name, expected, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn enabled(body: &JsonBody) -> Answer<Enabled> {
    match body.members()?.get("enabled") {
        None | Some(Value::Bool(true)) => Ok(Enabled::Yes),
        Some(Value::Bool(false)) => Ok(Enabled::No),
        Some(_) => Err(Fault::field("enabled", "it is neither true nor false")),
    }
}

fn definition_json(target: &TargetDefinition) -> Value {
    json!({
        "name": target.name,
        "kind": target.kind,
        "origin": if target.definition.is_some() { "store" } else { "file" },
        "definition": target.definition,
        "enabled": target.enabled,
        "problem": target.problem,
    })
}

/// `POST /targets/{name}/test`.
pub(super) async fn test(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    let report = web.admin.test_target(&name, &caller.0, reason.as_deref()).await?;
    let millis = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({"target": name, "taken": report.taken, "answer": report.answer, "took_ms": millis})))
}

/// `POST /targets/{name}/reset`.
pub(super) async fn reset(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    let before = web.admin.reset_target(&name, &caller.0, reason.as_deref()).await?;
    Ok(Json(json!({"target": name, "breaker": "closed", "breaker_before": before.status.breaker.name()})))
}

/// `POST /outboxes/{name}/move`.
pub(super) async fn move_outbox(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    body: JsonBody,
) -> Answer<Json<Value>> {
    body.only(&["to"])?;
    let to = body.text("to")?;
    let moved = web.admin.move_outbox(&name, to, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(json!({"outbox": name, "to": to, "moved": moved})))
}

/// `DELETE /outboxes/{name}`.
pub(super) async fn discard_outbox(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    let discarded = web.admin.discard_outbox(&name, &caller.0, reason.as_deref()).await?;
    Ok(Json(json!({"outbox": name, "discarded": discarded})))
}

fn abandoned_json(line: &Abandoned) -> Value {
    json!({"name": line.name.as_str(), "waiting": line.waiting.items, "bytes": line.waiting.bytes})
}

fn line_json(line: &TargetLine) -> Value {
    let mut target = target_json(&line.status);
    target["waiting"] = json!(line.waiting.items);
    target["waiting_bytes"] = json!(line.waiting.bytes);
    target
}

/// A target as the API tells of it.
pub(super) fn target_json(target: &TargetStatus) -> Value {
    json!({
        "name": target.name.as_str(),
        "kind": target.kind,
        "address": target.address,
        "up": target.up,
        "last_success": target.last_success.map(|at| at.to_string()),
        "last_error": target.last_error.as_ref().map(|(at, why)| json!({"at": at.to_string(), "error": why})),
        "breaker": {
            "state": target.breaker.name(),
            "trips": target.trips,
            "last_trip": target.last_trip.as_ref().map(|(at, why)| json!({"at": at.to_string(), "error": why})),
            "next_probe": target.next_probe.map(|at| at.to_string()),
        },
        "held_until": target.held_until.map(|at| at.to_string()),
        "diverted_to": target.diverted_to.as_ref().map(|name| name.as_str()),
        "delivered": target.delivered,
        "retried": target.retried,
        "dead": target.dead,
        "diverted": target.diverted,
    })
}
