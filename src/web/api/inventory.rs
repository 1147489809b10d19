//! Development hosts and device teams over the API.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{JsonBody, Reason, Segment};
use super::created;
use crate::admin::{DevHost, DeviceTeam};
use crate::model::host_key;

/// `GET /dev-hosts`.
pub(super) async fn dev_hosts(State(web): State<Web>) -> Answer<Json<Value>> {
    let hosts = web.admin.dev_hosts().await?;
    let rows: Vec<Value> = hosts.iter().map(host_json).collect();
    Ok(Json(json!({"total": rows.len(), "dev_hosts": rows})))
}

/// `GET /dev-hosts/{hostname}`.
pub(super) async fn dev_host(State(web): State<Web>, Segment(hostname): Segment) -> Answer<Json<Value>> {
    Ok(Json(host_json(&web.admin.dev_host(&hostname).await?)))
}

/// `POST /dev-hosts`.
pub(super) async fn add_dev_host(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    body.only(&["hostname"])?;
    let host = web.admin.add_dev_host(body.text("hostname")?, &caller.0, body.reason.as_deref()).await?;
    Ok(created("dev-hosts", &host.hostname, host_json(&host)))
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
pub(super) async fn teams(State(web): State<Web>) -> Answer<Json<Value>> {
    let teams = web.admin.device_teams().await?;
    let rows: Vec<Value> = teams.iter().map(team_json).collect();
    Ok(Json(json!({"total": rows.len(), "teams": rows})))
}

/// `GET /teams/{hostname}`.
pub(super) async fn team(State(web): State<Web>, Segment(hostname): Segment) -> Answer<Json<Value>> {
    Ok(Json(team_json(&web.admin.device_team(&hostname).await?)))
}

/// `POST /teams`.
pub(super) async fn add_team(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    body.only(&["hostname", "team_assignment"])?;
    let (hostname, team) = (body.text("hostname")?, body.text("team_assignment")?);
    let row = web.admin.add_device_team(hostname, team, &caller.0, body.reason.as_deref()).await?;
    Ok(created("teams", &row.hostname, team_json(&row)))
}

/// `PUT /teams/{hostname}`.
pub(super) async fn change_team(
    State(web): State<Web>,
    caller: Caller,
    Segment(hostname): Segment,
    body: JsonBody,
) -> Answer<Json<Value>> {
    body.only(&["hostname", "team_assignment"])?;
    let named = body.members()?.get("hostname").and_then(Value::as_str);
    if named.is_some_and(|named| host_key(named) != host_key(&hostname)) {
        return Err(Fault::field("hostname", "it is not the host in the address"));
    }
    let team = body.text("team_assignment")?;
    let row = web.admin.update_device_team(&hostname, team, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(team_json(&row)))
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

fn host_json(host: &DevHost) -> Value {
    json!({"hostname": host.hostname})
}

fn team_json(row: &DeviceTeam) -> Value {
    json!({"hostname": row.hostname, "team_assignment": row.team_assignment.as_str()})
}
