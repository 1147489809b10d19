//! Secrets over the API: how each is, and its exchange. A value is in no answer but the one to whoever had it made.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment, body_time};
use crate::admin::{SecretAct, SecretChanged, SecretLines, SecretView};
use crate::model::Timestamp;
use crate::secret::{Secret, Slot};

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, set))
        .routes(routes!(rotate))
        .routes(routes!(promote))
        .routes(routes!(cancel))
}

/// All secrets, without their values.
#[derive(Serialize, ToSchema)]
struct SecretList {
    secrets: Vec<SecretView>,
    total: usize,
    /// Why the sources could not be read again; what was read before stays in force.
    fault: Option<Trouble>,
    /// How the way to HashiCorp Vault is, if there is one.
    vault: Option<VaultView>,
    /// Since when uses are counted.
    #[schema(format = DateTime)]
    used_since: Option<String>,
}

/// What is wrong, and since when.
#[derive(Serialize, ToSchema)]
struct Trouble {
    #[schema(format = DateTime)]
    since: String,
    error: String,
}

/// How the way to HashiCorp Vault is.
#[derive(Serialize, ToSchema)]
struct VaultView {
    address: String,
    /// The version of the secret that was read.
    version: Option<u64>,
    #[schema(format = DateTime)]
    last_success: Option<String>,
    trouble: Option<Trouble>,
}

/// A place of a secret.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SlotName {
    Current,
    Next,
}

/// A value for a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetSecret {
    /// The value.
    #[schema(write_only)]
    value: String,
    /// Where it is put; CURRENT unless said.
    slot: Option<SlotName>,
    /// When a NEXT value becomes the CURRENT one by itself.
    #[schema(format = DateTime)]
    promote_at: Option<String>,
}

/// The beginning of an exchange.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateSecret {
    /// The NEXT value; the appliance makes one unless it is given.
    #[schema(write_only)]
    value: Option<String>,
    /// When it becomes the CURRENT one by itself.
    #[schema(format = DateTime)]
    promote_at: Option<String>,
}

/// All secrets, without their values
#[utoipa::path(get, path = "/secrets", responses((status = 200, body = SecretList)))]
async fn list(State(web): State<Web>) -> Json<SecretList> {
    Json(SecretList::from(&web.admin.secret_lines()))
}

/// One secret, without its values
#[utoipa::path(
    get,
    path = "/secrets/{name}",
    params(("name" = String, Path, description = "The secret's name, such as `ingest_api_key`")),
    responses((status = 200, body = SecretView))
)]
async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<SecretView>> {
    Ok(Json(SecretView::from(&web.admin.secret_line(&name)?)))
}

/// Sets a value of a secret
#[utoipa::path(
    put,
    path = "/secrets/{name}",
    params(("name" = String, Path, description = "The secret's name")),
    request_body = SetSecret,
    responses((status = 200, body = SecretView), (status = 409, description = "It is changed elsewhere, not here"))
)]
async fn set(State(web): State<Web>, caller: Caller, Segment(name): Segment, body: JsonBody) -> Answer<Response> {
    let wanted: SetSecret = body.read()?;
    let slot = match wanted.slot {
        None | Some(SlotName::Current) => Slot::Current,
        Some(SlotName::Next) => Slot::Next,
    };
    let promote_at = body_time("promote_at", wanted.promote_at.as_deref())?;
    if promote_at.is_some() && slot == Slot::Current {
        return Err(Fault::field("promote_at", "it belongs to a next value"));
    }
    let act = SecretAct::Set { slot, value: Secret::new(&wanted.value), promote_at };
    changed(&web.admin.change_secret(&name, act, &caller.0, body.reason.as_deref()).await?)
}

/// Begins the exchange of a secret
///
/// A NEXT value is accepted, or tried, beside the CURRENT one. One that is made here is shown this once.
#[utoipa::path(
    post,
    path = "/secrets/{name}/rotate",
    params(("name" = String, Path, description = "The secret's name")),
    request_body = RotateSecret,
    responses((status = 200, body = SecretView), (status = 409, description = "It is changed elsewhere, not here"))
)]
async fn rotate(State(web): State<Web>, caller: Caller, Segment(name): Segment, body: JsonBody) -> Answer<Response> {
    let wanted: RotateSecret = body.read()?;
    let promote_at = body_time("promote_at", wanted.promote_at.as_deref())?;
    let act = SecretAct::Rotate { value: wanted.value.as_deref().map(Secret::new), promote_at };
    changed(&web.admin.change_secret(&name, act, &caller.0, body.reason.as_deref()).await?)
}

/// Ends the exchange of a secret
///
/// NEXT becomes CURRENT.
#[utoipa::path(
    post,
    path = "/secrets/{name}/promote",
    params(("name" = String, Path, description = "The secret's name")),
    responses((status = 200, body = SecretView), (status = 409, description = "It has no NEXT value"))
)]
async fn promote(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Response> {
    changed(&web.admin.change_secret(&name, SecretAct::Promote, &caller.0, reason.as_deref()).await?)
}

/// Breaks the exchange of a secret off
///
/// NEXT is forgotten.
#[utoipa::path(
    post,
    path = "/secrets/{name}/cancel",
    params(("name" = String, Path, description = "The secret's name")),
    responses((status = 200, body = SecretView), (status = 409, description = "It has no NEXT value"))
)]
async fn cancel(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Response> {
    changed(&web.admin.change_secret(&name, SecretAct::Cancel, &caller.0, reason.as_deref()).await?)
}

/// The secret after the act; a value that was made is in it, and nobody on the way may keep the answer.
fn changed(changed: &SecretChanged) -> Answer<Response> {
    let mut response = Json(SecretView::from(changed)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl From<&SecretLines> for SecretList {
    fn from(secrets: &SecretLines) -> Self {
        let time = |at: Timestamp| at.to_string();
        let trouble = |told: &(Timestamp, String)| Trouble { since: told.0.to_string(), error: told.1.clone() };
        let vault = secrets.vault.as_ref().map(|vault| VaultView {
            address: vault.address.clone(),
            version: vault.version,
            last_success: vault.last_success.map(time),
            trouble: vault.trouble.as_ref().map(trouble),
        });
        Self {
            secrets: secrets.lines.iter().map(SecretView::from).collect(),
            total: secrets.lines.len(),
            fault: secrets.fault.as_ref().map(trouble),
            vault,
            used_since: secrets.counted_since.map(time),
        }
    }
}
