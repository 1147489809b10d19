//! Users and open sessions over the API, for admins.

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
use super::super::input::{JsonBody, Reason, Segment};
use super::created;
use crate::access::Role;
use crate::admin::{OpenSession, TemporaryPassword, UserInfo};

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(reset_password))
        .routes(routes!(sessions))
        .routes(routes!(end_session))
}

/// What a user may do.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Role)]
enum RoleName {
    /// Looks.
    Viewer,
    /// Does the daily work besides.
    Operator,
    /// Decides who may do what, and how the appliance works.
    Admin,
}

/// A user.
#[derive(Serialize, ToSchema)]
struct User {
    name: String,
    role: RoleName,
    /// Whether the user may log in.
    enabled: bool,
    /// Whether the password is a temporary one.
    must_change_password: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_login: Option<String>,
    /// The password to log in with once; it is in no later answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary_password: Option<String>,
}

/// All users.
#[derive(Serialize, ToSchema)]
struct UserList {
    total: usize,
    users: Vec<User>,
}

/// A user to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// The login name; capitals become small letters.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._@-]+$", example = "anna")]
    name: String,
    role: RoleName,
}

/// What is to be changed of a user; at least one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
struct UserChange {
    role: Option<RoleName>,
    /// Whether the user may log in.
    enabled: Option<bool>,
}

/// A session that is open.
#[derive(Serialize, ToSchema)]
struct Session {
    /// What tells it from others; it opens nothing.
    id: String,
    user: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was used last, to the minute.
    #[schema(format = DateTime)]
    last_seen: String,
    #[schema(format = DateTime)]
    expires_at: String,
    /// Where it was begun.
    peer: String,
}

/// All open sessions.
#[derive(Serialize, ToSchema)]
struct SessionList {
    total: usize,
    sessions: Vec<Session>,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Admin => Self::Admin,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            name: user.name.clone(),
            role: user.role.into(),
            enabled: user.enabled,
            must_change_password: user.must_change_password,
            created_at: user.created_at.to_string(),
            last_login: user.last_login.map(|at| at.to_string()),
            temporary_password: None,
        }
    }
}

impl From<&TemporaryPassword> for User {
    fn from(made: &TemporaryPassword) -> Self {
        Self { temporary_password: Some(made.password.reveal().to_owned()), ..Self::from(&made.user) }
    }
}

impl From<&OpenSession> for Session {
    fn from(session: &OpenSession) -> Self {
        Self {
            id: session.id.clone(),
            user: session.user.clone(),
            created_at: session.created_at.to_string(),
            last_seen: session.last_seen.to_string(),
            expires_at: session.expires_at.to_string(),
            peer: session.peer.clone(),
        }
    }
}

/// All users
#[utoipa::path(get, path = "/users", responses((status = 200, body = UserList)))]
async fn list(State(web): State<Web>) -> Answer<Json<UserList>> {
    let users: Vec<User> = web.admin.users().await?.iter().map(User::from).collect();
    Ok(Json(UserList { total: users.len(), users }))
}

/// One user
#[utoipa::path(
    get,
    path = "/users/{name}",
    params(("name" = String, Path, description = "The login name")),
    responses((status = 200, body = User))
)]
async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<User>> {
    Ok(Json(User::from(&web.admin.user(&name).await?)))
}

/// Makes a user
///
/// The answer has a temporary password, shown this once; it must be changed at the first login.
#[utoipa::path(
    post,
    path = "/users",
    request_body = NewUser,
    responses(
        (status = 201, body = User, headers(("Location" = String, description = "The address of the new user"))),
        (status = 409, description = "There is a user of that name"),
    )
)]
async fn create(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let wanted: NewUser = body.read()?;
    let made = web.admin.create_user(&wanted.name, wanted.role.into(), &caller.0, body.reason.as_deref()).await?;
    Ok(created("users", &made.user.name, User::from(&made)))
}

/// Changes a user
///
/// Another role, or whether the user may log in. Open sessions go by it at once.
#[utoipa::path(
    patch,
    path = "/users/{name}",
    params(("name" = String, Path, description = "The login name")),
    request_body = UserChange,
    responses(
        (status = 200, body = User),
        (status = 409, description = "It is the last admin who can log in"),
    )
)]
async fn change(State(web): State<Web>, caller: Caller, Segment(name): Segment, body: JsonBody) -> Answer<Json<User>> {
    let UserChange { role, enabled } = body.read()?;
    if role.is_none() && enabled.is_none() {
        return Err(Fault::bad_request("nothing is to be changed; give `role` or `enabled`"));
    }
    let role = role.map(Role::from);
    let user = web.admin.change_user(&name, role, enabled, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(User::from(&user)))
}

/// Gives a user a new temporary password
///
/// It is shown this once; the sessions of the user end.
#[utoipa::path(
    post,
    path = "/users/{name}/password",
    params(("name" = String, Path, description = "The login name")),
    responses((status = 200, body = User))
)]
async fn reset_password(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Json<User>> {
    Ok(Json(User::from(&web.admin.reset_password(&name, &caller.0, reason.as_deref()).await?)))
}

/// Removes a user
#[utoipa::path(
    delete,
    path = "/users/{name}",
    params(("name" = String, Path, description = "The login name")),
    responses(
        (status = 204, description = "It is removed"),
        (status = 409, description = "It is the last admin who can log in"),
    )
)]
async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.delete_user(&name, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All open sessions
#[utoipa::path(get, path = "/sessions", responses((status = 200, body = SessionList)))]
async fn sessions(State(web): State<Web>) -> Answer<Json<SessionList>> {
    let sessions: Vec<Session> = web.admin.open_sessions().await?.iter().map(Session::from).collect();
    Ok(Json(SessionList { total: sessions.len(), sessions }))
}

/// Ends a session
#[utoipa::path(
    delete,
    path = "/sessions/{id}",
    params(("id" = String, Path, description = "Its `id` in the list")),
    responses((status = 204, description = "It is ended"))
)]
async fn end_session(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.end_open_session(&id, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
