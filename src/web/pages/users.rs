//! Users and their open sessions: list, make, change, remove. A temporary password is shown on the page that answers the
//! form, and nowhere again.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::super::text::{ago, moment, url_encode, visible};
use super::{ConfirmPage, Frame, Trouble, done, shown, shown_again};
use crate::access::Role;
use crate::admin::{AdminError, OpenSession, TemporaryPassword, UserInfo};
use crate::model::Timestamp;

struct UserView {
    name: String,
    query: String,
    role: &'static str,
    enabled: bool,
    temporary: bool,
    created: String,
    last_login: String,
}

struct SessionView {
    id: String,
    user: String,
    began: String,
    last_seen: String,
    peer: String,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    frame: Frame,
    users: Vec<UserView>,
    sessions: Vec<SessionView>,
    roles: [&'static str; 3],
    /// A user and a password to be shown once.
    password: Option<(String, String)>,
    name: String,
    role: String,
    reason: String,
    trouble: Trouble,
}

/// `GET /users`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "users").after(&fields)).await?)
}

async fn page(web: &Web, frame: Frame) -> Answer<UsersPage> {
    let now = web.admin.clock().now();
    Ok(UsersPage {
        frame,
        users: web.admin.users().await?.iter().map(|user| user_view(user, now)).collect(),
        sessions: web.admin.open_sessions().await?.iter().map(|session| session_view(session, now)).collect(),
        roles: Role::ALL.map(Role::name),
        password: None,
        name: String::new(),
        role: Role::Viewer.name().to_owned(),
        reason: String::new(),
        trouble: Trouble::default(),
    })
}

fn user_view(user: &UserInfo, now: Timestamp) -> UserView {
    UserView {
        name: visible(&user.name),
        query: url_encode(&user.name),
        role: user.role.name(),
        enabled: user.enabled,
        temporary: user.must_change_password,
        created: moment(user.created_at),
        last_login: user.last_login.map_or_else(|| "never".to_owned(), |at| ago(at, now)),
    }
}

fn session_view(session: &OpenSession, now: Timestamp) -> SessionView {
    SessionView {
        id: session.id.clone(),
        user: visible(&session.user),
        began: moment(session.created_at),
        last_seen: ago(session.last_seen, now),
        peer: visible(&session.peer),
    }
}

/// `POST /users`.
pub(super) async fn create(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (name, role) = (posted.fields.text("name"), posted.fields.text("role"));
    let made = match parse_role(&role) {
        Ok(role) => web.admin.create_user(&name, role, &posted.by.actor, posted.fields.get("reason")).await,
        Err(error) => Err(error),
    };
    let mut page = page(&web, Frame::new(&web, &posted.by, "users")).await?;
    match made {
        Ok(made) => {
            page.password = Some(shown_once(&made));
            shown(&page)
        }
        Err(error) => {
            (page.name, page.role, page.reason) = (name, role, posted.fields.text("reason"));
            again(page, error)
        }
    }
}

/// `POST /users/act`: another role, on or off, a new password, or the end of a session.
pub(super) async fn act(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (name, reason, actor) = (posted.fields.text("name"), posted.fields.get("reason"), &posted.by.actor);
    let outcome = match posted.fields.text("act").as_str() {
        "role" => match parse_role(&posted.fields.text("role")) {
            Ok(role) => web.admin.change_user(&name, Some(role), None, actor, reason).await.map(|_| None),
            Err(error) => Err(error),
        },
        "disable" => web.admin.change_user(&name, None, Some(false), actor, reason).await.map(|_| None),
        "enable" => web.admin.change_user(&name, None, Some(true), actor, reason).await.map(|_| None),
        "password" => web.admin.reset_password(&name, actor, reason).await.map(Some),
        "end-session" => web.admin.end_open_session(&posted.fields.text("session"), actor, reason).await.map(|()| None),
        _ => return Err(Fault::field("act", "it is not role, disable, enable, password or end-session")),
    };
    match outcome {
        Ok(None) => Ok(done("/users", "user-changed")),
        Ok(Some(made)) => {
            let mut page = page(&web, Frame::new(&web, &posted.by, "users")).await?;
            page.password = Some(shown_once(&made));
            shown(&page)
        }
        Err(error) => again(page(&web, Frame::new(&web, &posted.by, "users")).await?, error),
    }
}

fn again(mut page: UsersPage, error: AdminError) -> Answer<Response> {
    page.trouble = error.into();
    let status = page.trouble.status;
    shown_again(&page, status)
}

fn shown_once(made: &TemporaryPassword) -> (String, String) {
    (made.user.name.clone(), made.password.reveal().to_owned())
}

fn parse_role(text: &str) -> Result<Role, AdminError> {
    Role::parse(text).ok_or_else(|| AdminError::invalid("role", "it is not viewer, operator or admin"))
}

/// `GET /users/remove?name=`.
pub(super) async fn confirm(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let user = web.admin.user(&fields.text("name")).await?;
    shown(&confirm_page(Frame::new(&web, &by, "users"), user.name))
}

/// `POST /users/remove`.
pub(super) async fn remove(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let name = posted.fields.text("name");
    let Err(error) = web.admin.delete_user(&name, &posted.by.actor, posted.fields.get("reason")).await else {
        return Ok(done("/users", "user-removed"));
    };
    confirm_page(Frame::new(&web, &posted.by, "users"), name).again(error, &posted.fields)
}

fn confirm_page(frame: Frame, name: String) -> ConfirmPage {
    ConfirmPage {
        frame,
        title: "Remove a user".into(),
        consequence: "The user is logged out at once and cannot log in again. What the user changed stays in the change log.",
        facts: vec![("User", visible(&name))],
        action: "/users/remove".into(),
        hidden: vec![("name", name)],
        button: "Remove user",
        back: "/users".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    }
}
