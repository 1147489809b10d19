//! API keys over the API, for admins.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment, parse_time};
use super::created;
use crate::access::{Network, Scope, Scopes};
use crate::admin::{KeyInfo, KeyInput, ShownKey};

/// `GET /keys`.
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Value>> {
    let keys: Vec<Value> = web.admin.api_keys().await?.iter().map(key_json).collect();
    Ok(Json(json!({"total": keys.len(), "keys": keys})))
}

/// `GET /keys/{name}`.
pub(super) async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<Value>> {
    Ok(Json(key_json(&web.admin.api_key(&name).await?)))
}

/// `POST /keys`: answers with the value, shown this once.
pub(super) async fn create(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let made = web.admin.create_api_key(input(&body)?, &caller.0, body.reason.as_deref()).await?;
    Ok(created("keys", &made.info.name, with_value(&made)))
}

/// `POST /keys/{name}/rotate`: a NEXT value, shown this once.
pub(super) async fn rotate(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    Ok(Json(with_value(&web.admin.rotate_api_key(&name, &caller.0, reason.as_deref()).await?)))
}

/// `POST /keys/{name}/promote`.
pub(super) async fn promote(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    Ok(Json(key_json(&web.admin.promote_api_key(&name, &caller.0, reason.as_deref()).await?)))
}

/// `DELETE /keys/{name}`.
pub(super) async fn revoke(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.revoke_api_key(&name, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn input(body: &JsonBody) -> Result<KeyInput, Fault> {
    body.only(&["name", "scopes", "networks", "expires_at"])?;
    let mut scopes = Vec::new();
    for word in texts(body, "scopes")? {
        let scope =
            Scope::parse(&word).ok_or_else(|| Fault::field("scopes", "each is ingest, read, write or admin"))?;
        scopes.push(scope);
    }
    let mut networks: Vec<Network> = Vec::new();
    for text in texts(body, "networks")? {
        networks.push(text.parse().map_err(|error| Fault::field("networks", format!("{error}")))?);
    }
    let expires_at = match body.members()?.get("expires_at") {
        None | Some(Value::Null) => None,
        Some(_) => {
            let time = parse_time(body.text("expires_at")?);
            Some(time.ok_or_else(|| Fault::field("expires_at", "it is not a time such as 2027-01-01T00:00:00Z"))?)
        }
    };
    Ok(KeyInput { name: body.text("name")?.to_owned(), scopes: Scopes::new(scopes), networks, expires_at })
}

/// A member that is a list of texts; one that is missing is empty.
fn texts(body: &JsonBody, name: &str) -> Result<Vec<String>, Fault> {
    let wrong = || Fault::field(name, "it is not a list of texts");
    match body.members()?.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn key_json(key: &KeyInfo) -> Value {
    json!({
        "name": key.name,
        "scopes": key.scopes.iter().map(Scope::name).collect::<Vec<_>>(),
        "networks": key.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "expires_at": key.expires_at.map(|at| at.to_string()),
        "has_next": key.has_next,
        "created_at": key.created.0.to_string(),
        "created_by": key.created.1,
        "rotated_at": key.rotated_at.map(|at| at.to_string()),
        "last_used": key.last_used.map(|(at, _)| at.to_string()),
        "last_peer": key.last_used.map(|(_, peer)| peer.to_string()),
    })
}

fn with_value(shown: &ShownKey) -> Value {
    let mut key = key_json(&shown.info);
    key["value"] = shown.value.reveal().into();
    key
}
