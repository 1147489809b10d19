//! Development hosts and device teams over the API.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment};
use super::created;
use crate::admin::{DevHost, DeviceTeam};
use crate::model::host_key;

/// A development host.
#[derive(Debug, Serialize)]
pub(super) struct DevHostRow {
    /// The host.
    hostname: String,
}

/// Every development host.
#[derive(Debug, Serialize)]
pub(super) struct DevHosts {
    /// How many.
    total: usize,
    /// Each of them.
    hosts: Vec<DevHostRow>,
}

/// A host and its team.
#[derive(Debug, Serialize)]
pub(super) struct TeamRow {
    /// The host.
    hostname: String,
    /// The team that looks after it.
    team_assignment: String,
}

/// Every host with a team.
#[derive(Debug, Serialize)]
pub(super) struct Teams {
    /// How many.
    total: usize,
    /// Each of them.
    teams: Vec<TeamRow>,
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

/// `GET /dev-hosts`.
pub(super) async fn dev_hosts(State(web): State<Web>) -> Answer<Json<DevHosts>> {
    let hosts: Vec<DevHostRow> = web.admin.dev_hosts().await?.iter().map(DevHostRow::from).collect();
    Ok(Json(DevHosts { total: hosts.len(), hosts }))
}

/// `GET /dev-hosts/{hostname}`.
pub(super) async fn dev_host(State(web): State<Web>, Segment(hostname): Segment) -> Answer<Json<DevHostRow>> {
    Ok(Json(DevHostRow::from(&web.admin.dev_host(&hostname).await?)))
}

/// `POST /dev-hosts`.
pub(super) async fn add_dev_host(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    body.only(&["hostname"])?;
    let host = web.admin.add_dev_host(body.text("hostname")?, &caller.0, body.reason.as_deref()).await?;
    Ok(created("dev-hosts", &host.hostname, DevHostRow::from(&host)))
}

/// `DELETE /dev-hosts/{hostname}`.
pub(super) async fn remove_dev_host(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.remove_dev_host(&hostname, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /teams`.
pub(super) async fn teams(State(web): State<Web>) -> Answer<Json<Teams>> {
    let teams: Vec<TeamRow> = web.admin.device_teams().await?.iter().map(TeamRow::from).collect();
    Ok(Json(Teams { total: teams.len(), teams }))
}

/// `GET /teams/{hostname}`.
pub(super) async fn team(State(web): State<Web>, Segment(hostname): Segment) -> Answer<Json<TeamRow>> {
    Ok(Json(TeamRow::from(&web.admin.device_team(&hostname).await?)))
}

/// `POST /teams`.
pub(super) async fn add_team(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    body.only(&["hostname", "team_assignment"])?;
    let (hostname, team) = (body.text("hostname")?, body.text("team_assignment")?);
    let row = web.admin.add_device_team(hostname, team, &caller.0, body.reason.as_deref()).await?;
    Ok(created("teams", &row.hostname, TeamRow::from(&row)))
}

/// `PUT /teams/{hostname}`.
pub(super) async fn change_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    body: JsonBody,
) -> Answer<Json<TeamRow>> {
    body.only(&["hostname", "team_assignment"])?;
    let named = body.members()?.get("hostname").and_then(Value::as_str);
    if named.is_some_and(|named| host_key(named) != host_key(&hostname)) {
        return Err(Fault::field("hostname", "it is not the host in the address"));
    }
    let team = body.text("team_assignment")?;
    let row = web.admin.update_device_team(&hostname, team, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(TeamRow::from(&row)))
}

/// `DELETE /teams/{hostname}`.
pub(super) async fn remove_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.remove_device_team(&hostname, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
