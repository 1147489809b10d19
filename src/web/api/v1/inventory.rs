//! Development hosts and device teams in version 1.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::super::Web;
use super::super::super::auth::Caller;
use super::super::super::fault::{Answer, Fault};
use super::super::super::input::{JsonBody, Reason, Segment};
use super::super::inventory::{DevHostRow, TeamRow};
use super::{Done, told};
use crate::admin::AdminError;

/// The development hosts, as version 1 lists them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldDevHosts)]
pub(super) struct Hosts {
    hosts: Vec<DevHostRow>,
}

/// A development host to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read member by member")]
pub(super) struct OldDevHost {
    hostname: String,
}

/// A host's team to be added, or only the team of one that is there.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read member by member")]
pub(super) struct OldTeam {
    /// Needed for a new one.
    hostname: Option<String>,
    team_assignment: String,
}

/// The hosts with a team, as version 1 lists them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldTeams)]
pub(super) struct Teams {
    teams: Vec<TeamRow>,
}

/// Development hosts
#[utoipa::path(get, path = "/dev-hosts", responses((status = 200, body = Hosts)))]
pub(super) async fn dev_hosts(State(web): State<Web>) -> Answer<Json<Hosts>> {
    Ok(Json(Hosts { hosts: web.admin.dev_hosts().await?.iter().map(DevHostRow::from).collect() }))
}

/// Adds a development host
#[utoipa::path(
    post,
    path = "/dev-hosts",
    request_body = OldDevHost,
    responses((status = 201, body = Done), (status = 409, description = "It is one already"))
)]
pub(super) async fn add_dev_host(
    State(web): State<Web>,
    caller: Caller,
    body: JsonBody,
) -> Answer<(StatusCode, Json<Done>)> {
    let hostname = required(&body, &["hostname"], "hostname is required")?;
    let added = web.admin.add_dev_host(&hostname[0], &caller.0, body.reason.as_deref()).await;
    added.map_err(no_host)?;
    Ok((StatusCode::CREATED, Json(Done { message: "Dev host added successfully" })))
}

/// Removes a development host
#[utoipa::path(
    delete,
    path = "/dev-hosts/{hostname}",
    params(("hostname" = String, Path, description = "The host")),
    responses((status = 200, body = Done))
)]
pub(super) async fn remove_dev_host(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Done>> {
    web.admin.remove_dev_host(&hostname, &caller.0, reason.as_deref()).await.map_err(no_host)?;
    Ok(Json(Done { message: "Dev host deleted successfully" }))
}

/// Teams of hosts
#[utoipa::path(get, path = "/teams", responses((status = 200, body = Teams)))]
pub(super) async fn teams(State(web): State<Web>) -> Answer<Json<Teams>> {
    Ok(Json(Teams { teams: web.admin.device_teams().await?.iter().map(TeamRow::from).collect() }))
}

/// Gives a host a team
#[utoipa::path(
    post,
    path = "/teams",
    request_body = OldTeam,
    responses((status = 201, body = Done), (status = 409, description = "It has one already"))
)]
pub(super) async fn add_team(
    State(web): State<Web>,
    caller: Caller,
    body: JsonBody,
) -> Answer<(StatusCode, Json<Done>)> {
    let names = ["hostname", "team_assignment"];
    let given = required(&body, &names, "hostname and team_assignment are required")?;
    let added = web.admin.add_device_team(&given[0], &given[1], &caller.0, body.reason.as_deref()).await;
    added.map_err(no_team)?;
    Ok((StatusCode::CREATED, Json(Done { message: "Team mapping added successfully" })))
}

/// Gives a host another team
#[utoipa::path(
    put,
    path = "/teams/{hostname}",
    params(("hostname" = String, Path, description = "The host")),
    request_body = OldTeam,
    responses((status = 200, body = Done))
)]
pub(super) async fn change_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    body: JsonBody,
) -> Answer<Json<Done>> {
    let given = required(&body, &["team_assignment"], "team_assignment is required")?;
    let saved = web.admin.update_device_team(&hostname, &given[0], None, &caller.0, body.reason.as_deref()).await;
    saved.map_err(no_team)?;
    Ok(Json(Done { message: "Team mapping updated successfully" }))
}

/// Forgets a host's team
#[utoipa::path(
    delete,
    path = "/teams/{hostname}",
    params(("hostname" = String, Path, description = "The host")),
    responses((status = 200, body = Done))
)]
pub(super) async fn remove_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Done>> {
    web.admin.remove_device_team(&hostname, None, &caller.0, reason.as_deref()).await.map_err(no_team)?;
    Ok(Json(Done { message: "Team mapping deleted successfully" }))
}

/// The texts of these members, in their order; `missing` is told if one of them is not there or blank.
fn required(body: &JsonBody, names: &[&str], missing: &str) -> Answer<Vec<String>> {
    let members = body.members()?;
    let text = |name: &&str| members.get(*name).and_then(|value| value.as_str()).filter(|text| !text.trim().is_empty());
    let found: Option<Vec<String>> = names.iter().map(|name| text(name).map(str::to_owned)).collect();
    found.ok_or_else(|| Fault::bad_request(missing))
}

fn no_host(error: AdminError) -> Fault {
    told(error, "Hostname not found", "Hostname already exists")
}

fn no_team(error: AdminError) -> Fault {
    told(error, "Hostname not found", "Hostname already has a team assignment")
}
