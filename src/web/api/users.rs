//! Users and open sessions over the API, for admins.

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
use crate::access::Role;
use crate::admin::{OpenSession, TemporaryPassword, UserInfo};

/// `GET /users`.
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Value>> {
    let users: Vec<Value> = web.admin.users().await?.iter().map(user_json).collect();
    Ok(Json(json!({"total": users.len(), "users": users})))
}

/// `GET /users/{name}`.
pub(super) async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<Value>> {
    Ok(Json(user_json(&web.admin.user(&name).await?)))
}

/// `POST /users`: answers with a temporary password, shown this once.
pub(super) async fn create(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    body.only(&["name", "role"])?;
    let role = role(body.text("role")?)?;
    let made = web.admin.create_user(body.text("name")?, role, &caller.0, body.reason.as_deref()).await?;
    Ok(created("users", &made.user.name, with_password(&made)))
}

/// `PATCH /users/{name}`: another role, or whether the user may log in.
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    body: JsonBody,
) -> Answer<Json<Value>> {
    body.only(&["role", "enabled"])?;
    let members = body.members()?;
    let wanted = members.get("role").map(|_| role(body.text("role")?)).transpose()?;
    let enabled = match members.get("enabled") {
        None => None,
        Some(Value::Bool(enabled)) => Some(*enabled),
        Some(_) => return Err(Fault::field("enabled", "it is not true or false")),
    };
    if wanted.is_none() && enabled.is_none() {
        return Err(Fault::bad_request("nothing is to be changed; give `role` or `enabled`"));
    }
    let user = web.admin.change_user(&name, wanted, enabled, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(user_json(&user)))
}

/// `POST /users/{name}/password`: a temporary password, shown this once.
pub(super) async fn reset_password(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Value>> {
    Ok(Json(with_password(&web.admin.reset_password(&name, &caller.0, reason.as_deref()).await?)))
}

/// `DELETE /users/{name}`.
pub(super) async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.delete_user(&name, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /sessions`.
pub(super) async fn sessions(State(web): State<Web>) -> Answer<Json<Value>> {
    let sessions: Vec<Value> = web.admin.open_sessions().await?.iter().map(session_json).collect();
    Ok(Json(json!({"total": sessions.len(), "sessions": sessions})))
}

/// `DELETE /sessions/{id}`.
pub(super) async fn end_session(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.end_open_session(&id, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn role(text: &str) -> Result<Role, Fault> {
    Role::parse(text).ok_or_else(|| Fault::field("role", "it is not viewer, operator or admin"))
}

fn user_json(user: &UserInfo) -> Value {
    json!({
        "name": user.name,
        "role": user.role.name(),
        "enabled": user.enabled,
        "must_change_password": user.must_change_password,
        "created_at": user.created_at.to_string(),
        "last_login": user.last_login.map(|at| at.to_string()),
    })
}

fn with_password(made: &TemporaryPassword) -> Value {
    let mut user = user_json(&made.user);
    user["temporary_password"] = made.password.reveal().into();
    user
}

fn session_json(session: &OpenSession) -> Value {
    json!({
        "id": session.id,
        "user": session.user,
        "created_at": session.created_at.to_string(),
        "last_seen": session.last_seen.to_string(),
        "expires_at": session.expires_at.to_string(),
        "peer": session.peer,
    })
}
