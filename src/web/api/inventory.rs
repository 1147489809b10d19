//! Development hosts and device teams over the API.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::conditional::{IfMatch, tagged, unchanged};
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, Segment};
use super::super::openapi::parameters::{number, text};
use super::{created, ruling_tag};
use crate::admin::{DevHost, DeviceTeam, HostQuery, team_tag};
use crate::model::host_key;

/// A development host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DevHostRow {
    /// The host.
    hostname: String,
}

/// Development hosts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DevHosts {
    /// How many there are, whatever was asked for.
    total: u64,
    /// By name.
    hosts: Vec<DevHostRow>,
    /// What `cursor` must be for those that follow; null at the end.
    next_cursor: Option<String>,
}

/// A host and its team.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TeamRow {
    /// The host.
    hostname: String,
    /// The team that looks after it.
    team_assignment: String,
}

/// Hosts with a team.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Teams {
    /// How many there are, whatever was asked for.
    total: u64,
    /// By host.
    teams: Vec<TeamRow>,
    /// What `cursor` must be for those that follow; null at the end.
    next_cursor: Option<String>,
}

/// A host that is to be a development host.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDevHost {
    #[schema(min_length = 1)]
    hostname: String,
}

/// A host and the team it is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTeam {
    #[schema(min_length = 1)]
    hostname: String,
    #[schema(min_length = 1)]
    team_assignment: String,
}

/// The team that a host is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedTeam {
    /// The host in the address, if it is given.
    #[serde(default)]
    hostname: Option<String>,
    #[schema(min_length = 1)]
    team_assignment: String,
}

/// Most hosts of one answer, when a limit is given.
const MAX_LIMIT: usize = 10_000;

/// Which hosts of a list.
struct HostsAsked;

impl IntoParams for HostsAsked {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            text("q", "A part of the host's name, in any case"),
            number("limit", 1, 10_000, "How many; all of them unless said"),
            text("cursor", "Where an earlier answer ended: its `next_cursor`"),
        ]
    }
}

fn asked(fields: &Fields) -> Answer<HostQuery> {
    fields.only(&["q", "limit", "cursor"])?;
    let limit = fields.get("limit").map(|_| fields.number("limit", 1, 1, MAX_LIMIT)).transpose()?;
    Ok(host_query(fields, limit.and_then(|limit| u32::try_from(limit).ok())))
}

/// Which hosts a query asks for; pages use the same.
pub(in crate::web) fn host_query(fields: &Fields, limit: Option<u32>) -> HostQuery {
    HostQuery {
        exactly: None,
        part: fields.get("q").map(|part| part.trim().to_owned()),
        after: fields.get("cursor").map(str::to_owned),
        limit,
    }
}

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(dev_hosts, add_dev_host))
        .routes(routes!(dev_host, remove_dev_host))
        .routes(routes!(teams, add_team))
        .routes(routes!(team, change_team, remove_team))
}

impl From<&DevHost> for DevHostRow {
    fn from(host: &DevHost) -> Self {
        Self { hostname: host.hostname.clone() }
    }
}

impl From<&DeviceTeam> for TeamRow {
    fn from(row: &DeviceTeam) -> Self {
        Self { hostname: row.hostname.clone(), team_assignment: row.team_assignment.as_str().to_owned() }
    }
}

/// Development hosts
#[utoipa::path(
    get,
    path = "/dev-hosts",
    params(
        HostsAsked,
        ("If-None-Match" = Option<String>, Header, description = "The tag of the list that the reader has"),
    ),
    responses(
        (status = 200, body = DevHosts, headers(("ETag" = String, description = "The list's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn dev_hosts(State(web): State<Web>, headers: HeaderMap, fields: Fields) -> Answer<Response> {
    let query = asked(&fields)?;
    let tag = ruling_tag(&web).await?;
    if let Some(same) = unchanged(&headers, &tag) {
        return Ok(same);
    }
    let page = web.admin.dev_hosts_page(&query).await?;
    let hosts = page.rows.iter().map(DevHostRow::from).collect();
    Ok(tagged(&tag, Json(DevHosts { total: page.total, hosts, next_cursor: page.next })))
}

/// Whether a host is a development host
#[utoipa::path(
    get,
    path = "/dev-hosts/{hostname}",
    params(
        ("hostname" = String, Path, description = "The host"),
        ("If-None-Match" = Option<String>, Header, description = "The tag of the list that the reader has"),
    ),
    responses(
        (status = 200, body = DevHostRow, headers(("ETag" = String, description = "The list's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn dev_host(State(web): State<Web>, headers: HeaderMap, Segment(hostname): Segment) -> Answer<Response> {
    // The row is a name and nothing else, so whatever changes it changes the list.
    let tag = ruling_tag(&web).await?;
    let host = web.admin.dev_host(&hostname).await?;
    Ok(unchanged(&headers, &tag).unwrap_or_else(|| tagged(&tag, Json(DevHostRow::from(&host)))))
}

/// Makes a host a development host
#[utoipa::path(
    post,
    path = "/dev-hosts",
    request_body = NewDevHost,
    responses((status = 201, body = DevHostRow), (status = 409, description = "It is one already"))
)]
async fn add_dev_host(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let wanted: NewDevHost = body.read()?;
    let host = web.admin.add_dev_host(&wanted.hostname, &caller.0, body.reason.as_deref()).await?;
    Ok(created("dev-hosts", &host.hostname, DevHostRow::from(&host)))
}

/// Makes a host a production host again
#[utoipa::path(
    delete,
    path = "/dev-hosts/{hostname}",
    params(("hostname" = String, Path, description = "The host")),
    responses((status = 204, description = "It is no development host any more"))
)]
async fn remove_dev_host(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.remove_dev_host(&hostname, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hosts with a team
#[utoipa::path(
    get,
    path = "/teams",
    params(
        HostsAsked,
        ("If-None-Match" = Option<String>, Header, description = "The tag of the list that the reader has"),
    ),
    responses(
        (status = 200, body = Teams, headers(("ETag" = String, description = "The list's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn teams(State(web): State<Web>, headers: HeaderMap, fields: Fields) -> Answer<Response> {
    let query = asked(&fields)?;
    let tag = ruling_tag(&web).await?;
    if let Some(same) = unchanged(&headers, &tag) {
        return Ok(same);
    }
    let page = web.admin.device_teams_page(&query).await?;
    let teams = page.rows.iter().map(TeamRow::from).collect();
    Ok(tagged(&tag, Json(Teams { total: page.total, teams, next_cursor: page.next })))
}

/// A host's team
#[utoipa::path(
    get,
    path = "/teams/{hostname}",
    params(
        ("hostname" = String, Path, description = "The host"),
        ("If-None-Match" = Option<String>, Header, description = "The tag of the row that the reader has"),
    ),
    responses(
        (status = 200, body = TeamRow, headers(("ETag" = String, description = "The row's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn team(State(web): State<Web>, headers: HeaderMap, Segment(hostname): Segment) -> Answer<Response> {
    let row = web.admin.device_team(&hostname).await?;
    Ok(unchanged(&headers, &team_tag(&row)).unwrap_or_else(|| team_answer(&row)))
}

fn team_answer(row: &DeviceTeam) -> Response {
    tagged(&team_tag(row), Json(TeamRow::from(row)))
}

/// Gives a host its team
#[utoipa::path(
    post,
    path = "/teams",
    request_body = NewTeam,
    responses((status = 201, body = TeamRow), (status = 409, description = "It has one already"))
)]
async fn add_team(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let NewTeam { hostname, team_assignment } = body.read()?;
    let row = web.admin.add_device_team(&hostname, &team_assignment, &caller.0, body.reason.as_deref()).await?;
    Ok(tagged(&team_tag(&row), created("teams", &row.hostname, TeamRow::from(&row))))
}

/// Gives a host another team
#[utoipa::path(
    put,
    path = "/teams/{hostname}",
    params(
        ("hostname" = String, Path, description = "The host"),
        ("If-Match" = Option<String>, Header, description = "The tag of the row that this was decided on"),
    ),
    request_body = ChangedTeam,
    responses(
        (status = 200, body = TeamRow, headers(("ETag" = String, description = "The row's new tag"))),
        (status = 412, description = "It was changed meanwhile; `ETag` says what it is now"),
    )
)]
async fn change_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    IfMatch(expected): IfMatch,
    body: JsonBody,
) -> Answer<Response> {
    let wanted: ChangedTeam = body.read()?;
    if wanted.hostname.is_some_and(|named| host_key(&named) != host_key(&hostname)) {
        return Err(Fault::field("hostname", "it is not the host in the address"));
    }
    let row = web
        .admin
        .update_device_team(&hostname, &wanted.team_assignment, expected, &caller.0, body.reason.as_deref())
        .await?;
    Ok(team_answer(&row))
}

/// Forgets a host's team
#[utoipa::path(
    delete,
    path = "/teams/{hostname}",
    params(
        ("hostname" = String, Path, description = "The host"),
        ("If-Match" = Option<String>, Header, description = "The tag of the row that this was decided on"),
    ),
    responses(
        (status = 204, description = "It has no team of its own any more"),
        (status = 412, description = "It was changed meanwhile; `ETag` says what it is now"),
    )
)]
async fn remove_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    IfMatch(expected): IfMatch,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.remove_device_team(&hostname, expected, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
