//! Secrets over the API: how each is, and its exchange. A value is in no answer but the one to whoever had it made.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment, parse_time};
use crate::admin::{SecretAct, SecretChanged, SecretLines, secret_json};
use crate::model::Timestamp;
use crate::secret::{Secret, Slot};

/// `GET /secrets`.
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Value>> {
    Ok(Json(lines_json(&web.admin.secret_lines())))
}

/// `GET /secrets/{name}`.
pub(super) async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<Value>> {
    Ok(Json(secret_json(&web.admin.secret_line(&name)?)))
}

/// `PUT /secrets/{name}`.
pub(super) async fn set(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    body: JsonBody,
) -> Answer<Response> {
    body.only(&["value", "slot", "promote_at"])?;
    let value = Secret::new(body.text("value")?);
    let slot = match body.members()?.get("slot").map(|slot| slot.as_str().unwrap_or_default()) {
        None | Some("current") => Slot::Current,
        Some("next") => Slot::Next,
        Some(_) => return Err(Fault::field("slot", "it is `current` or `next`")),
    };
    let promote_at = promote_at(&body)?;
    if promote_at.is_some() && slot == Slot::Current {
        return Err(Fault::field("promote_at", "it belongs to a next value"));
    }
    let act = SecretAct::Set { slot, value, promote_at };
    changed(web.admin.change_secret(&name, act, &caller.0, body.reason.as_deref()).await?)
}

/// `POST /secrets/{name}/rotate`.
pub(super) async fn rotate(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    body: JsonBody,
) -> Answer<Response> {
    body.only(&["value", "promote_at"])?;
    let value = if body.members()?.contains_key("value") { Some(Secret::new(body.text("value")?)) } else { None };
    let act = SecretAct::Rotate { value, promote_at: promote_at(&body)? };
    changed(web.admin.change_secret(&name, act, &caller.0, body.reason.as_deref()).await?)
}

/// `POST /secrets/{name}/promote`.
pub(super) async fn promote(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Response> {
    changed(web.admin.change_secret(&name, SecretAct::Promote, &caller.0, reason.as_deref()).await?)
}

/// `POST /secrets/{name}/cancel`.
pub(super) async fn cancel(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Response> {
    changed(web.admin.change_secret(&name, SecretAct::Cancel, &caller.0, reason.as_deref()).await?)
}

fn promote_at(body: &JsonBody) -> Answer<Option<Timestamp>> {
    match body.members()?.get("promote_at") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let time = parse_time(text);
            time.map(Some).ok_or_else(|| Fault::field("promote_at", "it is not a time such as 2026-03-01T12:00:00Z"))
        }
        Some(_) => Err(Fault::field("promote_at", "it is not a text")),
    }
}

/// The secret after the act; a value that was made is in it, and nobody on the way may keep the answer.
fn changed(changed: SecretChanged) -> Answer<Response> {
    let mut body = secret_json(&changed.line);
    if let Some(made) = changed.made {
        body["made"] = json!({"slot": Slot::Next.name(), "value": made.reveal()});
    }
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// All secrets as the API tells of them.
fn lines_json(secrets: &SecretLines) -> Value {
    let time = |at: Timestamp| at.to_string();
    let vault = secrets.vault.as_ref().map(|vault| {
        json!({
            "address": vault.address,
            "version": vault.version,
            "last_success": vault.last_success.map(time),
            "trouble": vault.trouble.as_ref().map(|(since, why)| json!({"since": time(*since), "error": why})),
        })
    });
    json!({
        "secrets": secrets.lines.iter().map(secret_json).collect::<Vec<_>>(),
        "total": secrets.lines.len(),
        "fault": secrets.fault.as_ref().map(|(since, why)| json!({"since": time(*since), "error": why})),
        "vault": vault,
        "used_since": secrets.counted_since.map(time),
    })
}
