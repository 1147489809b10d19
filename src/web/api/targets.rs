//! Delivery targets over the API: how they are and how they are defined, a test, the breaker's reset, and outboxes of targets
//! that are gone.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::conditional::{IfMatch, tagged};
use super::super::fault::Answer;
use super::super::input::{JsonBody, Reason, Segment};
use super::created;
use super::target_view::{AbandonedOutbox, DefinedTarget, ShownTarget, Target};
use crate::admin::Enabled;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, change, remove))
        .routes(routes!(test))
        .routes(routes!(reset))
        .routes(routes!(discard_outbox))
        .routes(routes!(move_outbox))
}

/// All delivery targets.
#[derive(Serialize, ToSchema)]
struct TargetList {
    total: usize,
    /// Those that are spoken to.
    targets: Vec<Target>,
    /// Outboxes of targets that are gone, in which alerts wait.
    abandoned: Vec<AbandonedOutbox>,
    /// How each is defined.
    definitions: Vec<DefinedTarget>,
}

/// How a target is to be defined.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TargetInput {
    /// The target as a table of the configuration file (TOML), with its `name` and `kind`; docs/TARGETS.md has the members.
    #[schema(min_length = 1, example = "name = \"noc\"\nkind = \"webhook\"\nurl = \"https://noc.example.net/hook\"")]
    definition: String,
    /// Whether it is to be spoken to; it is unless said.
    enabled: Option<bool>,
}

/// How a test went.
#[derive(Serialize, ToSchema)]
struct TestResult {
    target: String,
    /// Whether the target took it.
    taken: bool,
    /// What it answered, or why there was no answer.
    answer: String,
    took_ms: u64,
}

/// A circuit breaker that was reset.
#[derive(Serialize, ToSchema)]
struct ResetResult {
    target: String,
    breaker: &'static str,
    breaker_before: &'static str,
}

/// Where an outbox is to go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MoveOutbox {
    /// The target that is to get its alerts.
    #[schema(min_length = 1)]
    to: String,
}

/// An outbox that was moved.
#[derive(Serialize, ToSchema)]
struct Moved {
    outbox: String,
    to: String,
    /// Alerts moved.
    moved: u64,
}

/// An outbox that was discarded.
#[derive(Serialize, ToSchema)]
struct Discarded {
    outbox: String,
    /// Alerts discarded.
    discarded: u64,
}

/// All delivery targets
///
/// How each is, how it is defined, and what waits for targets that are gone.
#[utoipa::path(get, path = "/targets", responses((status = 200, body = TargetList)))]
async fn list(State(web): State<Web>) -> Json<TargetList> {
    let targets = web.admin.target_lines();
    Json(TargetList {
        total: targets.configured.len(),
        targets: targets.configured.iter().map(Target::from).collect(),
        abandoned: targets.abandoned.iter().map(AbandonedOutbox::from).collect(),
        definitions: web.admin.target_definitions().iter().map(DefinedTarget::from).collect(),
    })
}

/// One delivery target
///
/// How it is defined, and how it is if it is spoken to.
#[utoipa::path(
    get,
    path = "/targets/{name}",
    params(("name" = String, Path, description = "The target's name")),
    responses((status = 200, body = ShownTarget, headers(("ETag" = Option<String>, description = "The tag of what is kept"))))
)]
async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Response> {
    let definition = web.admin.target_definition(&name)?;
    let shown = ShownTarget::new(&definition, web.admin.target(&name).ok().as_ref());
    Ok(with_tag(&web, &name, Json(shown)))
}

/// With the tag of what is kept, if the target is.
fn with_tag(web: &Web, name: &str, body: impl IntoResponse) -> Response {
    match web.admin.target_tag(name) {
        Some(tag) => tagged(&tag, body),
        None => body.into_response(),
    }
}

/// Adds a delivery target
///
/// It is kept in the store and spoken to at once.
#[utoipa::path(
    post,
    path = "/targets",
    request_body = TargetInput,
    responses(
        (status = 201, body = DefinedTarget, headers(("Location" = String, description = "The address of the new target"))),
        (status = 409, description = "There is a target of that name, kept or in the configuration file"),
    )
)]
async fn add(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let wanted: TargetInput = body.read()?;
    let (definition, enabled) = (&wanted.definition, enabled(wanted.enabled));
    let made = web.admin.add_target(definition, enabled, &caller.0, body.reason.as_deref()).await?;
    Ok(with_tag(&web, &made.name, created("targets", &made.name, DefinedTarget::from(&made))))
}

/// Changes a delivery target
///
/// The new definition is in force when this answers; what waits in its outbox stays.
#[utoipa::path(
    put,
    path = "/targets/{name}",
    params(
        ("name" = String, Path, description = "The target's name"),
        ("If-Match" = Option<String>, Header, description = "The tag of what the sender believes to be kept"),
    ),
    request_body = TargetInput,
    responses((status = 200, body = DefinedTarget), (status = 409, description = "It is defined in the configuration file"),
        (status = 412, description = "Somebody else changed it meanwhile"))
)]
async fn change(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    IfMatch(expected): IfMatch,
    body: JsonBody,
) -> Answer<Response> {
    let wanted: TargetInput = body.read()?;
    let (definition, enabled) = (&wanted.definition, enabled(wanted.enabled));
    let reason = body.reason.as_deref();
    let changed = web.admin.change_target(&name, definition, enabled, expected, &caller.0, reason).await?;
    Ok(with_tag(&web, &name, Json(DefinedTarget::from(&changed))))
}

/// Removes a delivery target
///
/// What waits in its outbox is kept until it is moved or discarded.
#[utoipa::path(
    delete,
    path = "/targets/{name}",
    params(
        ("name" = String, Path, description = "The target's name"),
        ("If-Match" = Option<String>, Header, description = "The tag of what the sender believes to be kept"),
    ),
    responses((status = 204, description = "It is removed"),
        (status = 409, description = "It is defined in the configuration file, or another target falls back to it"),
        (status = 412, description = "Somebody else changed it meanwhile"))
)]
async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    IfMatch(expected): IfMatch,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.remove_target(&name, expected, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

const fn enabled(wanted: Option<bool>) -> Enabled {
    match wanted {
        None | Some(true) => Enabled::Yes,
        Some(false) => Enabled::No,
    }
}

/// Sends a test alert to a target
///
/// Past its outbox, and told what it answered.
#[utoipa::path(
    post,
    path = "/targets/{name}/test",
    params(("name" = String, Path, description = "The target's name")),
    responses((status = 200, body = TestResult))
)]
async fn test(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<TestResult>> {
    let report = web.admin.test_target(&name, &caller.0, reason.as_deref()).await?;
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(TestResult { target: name, taken: report.taken, answer: report.answer, took_ms }))
}

/// Speaks to a target again
///
/// Closes its circuit breaker.
#[utoipa::path(
    post,
    path = "/targets/{name}/reset",
    params(("name" = String, Path, description = "The target's name")),
    responses((status = 200, body = ResetResult))
)]
async fn reset(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<ResetResult>> {
    let before = web.admin.reset_target(&name, &caller.0, reason.as_deref()).await?;
    Ok(Json(ResetResult { target: name, breaker: "closed", breaker_before: before.status.breaker.name() }))
}

/// Moves an abandoned outbox
///
/// Its alerts go to another target.
#[utoipa::path(
    post,
    path = "/outboxes/{name}/move",
    params(("name" = String, Path, description = "The name of the target that is gone")),
    request_body = MoveOutbox,
    responses((status = 200, body = Moved), (status = 409, description = "The target is not gone"))
)]
async fn move_outbox(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    body: JsonBody,
) -> Answer<Json<Moved>> {
    let MoveOutbox { to } = body.read()?;
    let moved = web.admin.move_outbox(&name, &to, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(Moved { outbox: name, to, moved }))
}

/// Discards an abandoned outbox
///
/// Its alerts are gone.
#[utoipa::path(
    delete,
    path = "/outboxes/{name}",
    params(("name" = String, Path, description = "The name of the target that is gone")),
    responses((status = 200, body = Discarded), (status = 409, description = "The target is not gone"))
)]
async fn discard_outbox(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Discarded>> {
    let discarded = web.admin.discard_outbox(&name, &caller.0, reason.as_deref()).await?;
    Ok(Json(Discarded { outbox: name, discarded }))
}
