//! API keys over the API, for admins.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment, body_time};
use super::created;
use crate::access::{Network, Scope, Scopes};
use crate::admin::{KeyInfo, KeyInput, ShownKey};

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, revoke))
        .routes(routes!(rotate))
        .routes(routes!(promote))
}

/// What a key may do.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Scope)]
enum ScopeName {
    /// Send events.
    Ingest,
    /// Look, as a viewer.
    Read,
    /// Change, as an operator.
    Write,
    /// Everything, as an admin.
    Admin,
}

/// An API key, without its value.
#[derive(Serialize, ToSchema)]
struct Key {
    name: String,
    #[schema(value_type = Vec<ScopeName>)]
    scopes: Vec<&'static str>,
    /// Where it may be used from; empty for everywhere.
    networks: Vec<String>,
    /// When it ends; null for never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Whether a NEXT value is accepted beside the CURRENT one.
    has_next: bool,
    #[schema(format = DateTime)]
    created_at: String,
    created_by: String,
    #[schema(format = DateTime)]
    rotated_at: Option<String>,
    #[schema(format = DateTime)]
    last_used: Option<String>,
    /// The address it was used from last.
    last_peer: Option<String>,
    /// The value to send; it is in no later answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// All keys.
#[derive(Serialize, ToSchema)]
struct KeyList {
    total: usize,
    keys: Vec<Key>,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// Its name, in the change trail too.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9._-]+$", example = "rsyslog-dc1")]
    name: String,
    #[schema(min_items = 1)]
    scopes: Vec<ScopeName>,
    /// Networks it may be used from, as addresses or with a prefix length; everywhere if none is given.
    #[schema(max_items = 32, example = json!(["192.0.2.0/24"]))]
    networks: Option<Vec<String>>,
    /// When it ends; it must lie ahead. Never unless said.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Ingest => Self::Ingest,
            ScopeName::Read => Self::Read,
            ScopeName::Write => Self::Write,
            ScopeName::Admin => Self::Admin,
        }
    }
}

impl From<&KeyInfo> for Key {
    fn from(key: &KeyInfo) -> Self {
        Self {
            name: key.name.clone(),
            scopes: key.scopes.iter().map(Scope::name).collect(),
            networks: key.networks.iter().map(ToString::to_string).collect(),
            expires_at: key.expires_at.map(|at| at.to_string()),
            has_next: key.has_next,
            created_at: key.created.0.to_string(),
            created_by: key.created.1.clone(),
            rotated_at: key.rotated_at.map(|at| at.to_string()),
            last_used: key.last_used.map(|(at, _)| at.to_string()),
            last_peer: key.last_used.map(|(_, peer)| peer.to_string()),
            value: None,
        }
    }
}

impl From<&ShownKey> for Key {
    fn from(shown: &ShownKey) -> Self {
        Self { value: Some(shown.value.reveal().to_owned()), ..Self::from(&shown.info) }
    }
}

/// All API keys
#[utoipa::path(get, path = "/keys", responses((status = 200, body = KeyList)))]
async fn list(State(web): State<Web>) -> Answer<Json<KeyList>> {
    let keys: Vec<Key> = web.admin.api_keys().await?.iter().map(Key::from).collect();
    Ok(Json(KeyList { total: keys.len(), keys }))
}

/// One API key
#[utoipa::path(
    get,
    path = "/keys/{name}",
    params(("name" = String, Path, description = "The key's name")),
    responses((status = 200, body = Key))
)]
async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<Key>> {
    Ok(Json(Key::from(&web.admin.api_key(&name).await?)))
}

/// Makes an API key
///
/// The answer has its value, shown this once.
#[utoipa::path(
    post,
    path = "/keys",
    request_body = NewKey,
    responses(
        (status = 201, body = Key, headers(("Location" = String, description = "The address of the new key"))),
        (status = 409, description = "There is a key of that name"),
    )
)]
async fn create(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let wanted: NewKey = body.read()?;
    let made = web.admin.create_api_key(wanted.checked()?, &caller.0, body.reason.as_deref()).await?;
    Ok(created("keys", &made.info.name, Key::from(&made)))
}

/// Begins the exchange of a key's value
///
/// A NEXT value is accepted beside the CURRENT one; it is shown this once.
#[utoipa::path(
    post,
    path = "/keys/{name}/rotate",
    params(("name" = String, Path, description = "The key's name")),
    responses((status = 200, body = Key))
)]
async fn rotate(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Key>> {
    Ok(Json(Key::from(&web.admin.rotate_api_key(&name, &caller.0, reason.as_deref()).await?)))
}

/// Ends the exchange of a key's value
///
/// NEXT becomes CURRENT, and the old value is accepted no more.
#[utoipa::path(
    post,
    path = "/keys/{name}/promote",
    params(("name" = String, Path, description = "The key's name")),
    responses((status = 200, body = Key), (status = 409, description = "The key has no NEXT value, or as for every POST with an `Idempotency-Key`"))
)]
async fn promote(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Key>> {
    Ok(Json(Key::from(&web.admin.promote_api_key(&name, &caller.0, reason.as_deref()).await?)))
}

/// Revokes a key
#[utoipa::path(
    delete,
    path = "/keys/{name}",
    params(("name" = String, Path, description = "The key's name")),
    responses((status = 204, description = "It is accepted no more"))
)]
async fn revoke(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.revoke_api_key(&name, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl NewKey {
    fn checked(self) -> Answer<KeyInput> {
        let mut networks: Vec<Network> = Vec::new();
        for text in self.networks.unwrap_or_default() {
            networks.push(text.parse().map_err(|error| Fault::field("networks", format!("{error}")))?);
        }
        let expires_at = body_time("expires_at", self.expires_at.as_deref())?;
        let scopes = Scopes::new(self.scopes.into_iter().map(Scope::from));
        Ok(KeyInput { name: self.name, scopes, networks, expires_at })
    }
}
