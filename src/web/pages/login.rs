//! Logging in and out, the one-time set-up link and changing one's password.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

use super::super::Web;
use super::super::assets::Assets;
use super::super::auth::{SignedIn, cookie, session_cookie};
use super::super::envelope::Correlation;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, OpenForm, Posted};
use super::super::origin::{is_own_page, is_secure, peer};
use super::super::text::url_encode;
use super::{Frame, Trouble, done, done_text, shown, shown_again};

/// What a request says about where it comes from.
pub(super) struct Sender {
    headers: HeaderMap,
    extensions: Extensions,
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Sender {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _state: &S) -> Result<Self, Fault> {
        Ok(Self { headers: parts.headers.clone(), extensions: parts.extensions.clone() })
    }
}

impl Sender {
    pub(super) fn is_secure(&self) -> bool {
        is_secure(&self.extensions, &self.headers)
    }

    pub(super) fn address(&self) -> std::net::IpAddr {
        peer(&self.extensions, &self.headers)
    }

    /// A cookie's value.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        cookie(&self.headers, name)
    }
}

#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct LoginPage {
    assets: Arc<Assets>,
    /// Whether a provider can be gone to.
    provider: bool,
    /// The same with where to go afterwards.
    provider_query: String,
    user: String,
    next: String,
    done: Option<&'static str>,
    trouble: Trouble,
}

/// `GET /login`.
pub(super) async fn form(State(web): State<Web>, fields: Fields) -> Answer<Response> {
    let next = safe_target(fields.get("next")).to_owned();
    let done = fields.get("done").and_then(done_text);
    shown(&LoginPage {
        next: next.clone(),
        done,
        provider_query: url_encode(&next),
        ..login_page(&web, Trouble::default())
    })
}

/// The page without anything typed.
pub(super) fn login_page(web: &Web, trouble: Trouble) -> LoginPage {
    LoginPage {
        assets: Arc::clone(&web.assets),
        provider: web.admin.has_login_provider(),
        provider_query: "%2F".to_owned(),
        user: String::new(),
        next: "/".to_owned(),
        done: None,
        trouble,
    }
}

/// `POST /login`.
pub(super) async fn log_in(State(web): State<Web>, sender: Sender, OpenForm(fields): OpenForm) -> Answer<Response> {
    if !is_own_page(&sender.headers) {
        return Err(Fault::forged());
    }
    let next = safe_target(fields.get("next")).to_owned();
    let user = fields.text("user");
    let login = web.admin.login(&user, &fields.exact("password"), sender.address()).await;
    match login {
        Ok(session) => {
            let cookie = session_cookie(&session.token, session.life, sender.is_secure());
            with_cookie(Redirect::to(&next).into_response(), cookie)
        }
        Err(error) => {
            let retry_after = Fault::from(error.clone()).retry_after;
            let trouble = Trouble::from(error);
            let status = trouble.status;
            let page = LoginPage { user, provider_query: url_encode(&next), next, ..login_page(&web, trouble) };
            let mut response = shown_again(&page, status)?;
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Ok(response)
        }
    }
}

/// `POST /logout`.
pub(super) async fn logout(State(web): State<Web>, sender: Sender, posted: Posted) -> Answer<Response> {
    web.admin.logout(&posted.by.token).await?;
    let cookie = session_cookie("", Duration::ZERO, sender.is_secure());
    with_cookie(done("/login", "logged-out"), cookie)
}

pub(super) fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Answer<Response> {
    let cookie = cookie.ok_or_else(|| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "the session cannot be kept"))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Where to go after the login: a path of our own, never another site.
pub(super) fn safe_target(next: Option<&str>) -> &str {
    let own = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.starts_with("/login")
            && !path.contains('\\')
            && path.bytes().all(|byte| byte.is_ascii_graphic())
    };
    next.filter(own).unwrap_or("/")
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    assets: Arc<Assets>,
    token: String,
    trouble: Trouble,
}

/// `GET /setup?token=...`: the link that the appliance's console shows.
pub(super) async fn setup_form(State(web): State<Web>, fields: Fields) -> Answer<Response> {
    let token = fields.text("token");
    if !web.admin.setup_token_is_valid(&token).await? {
        return Err(crate::admin::AdminError::BadSetupToken.into());
    }
    shown(&SetupPage { assets: web.assets, token, trouble: Trouble::default() })
}

/// `POST /setup`.
pub(super) async fn set_up(
    State(web): State<Web>,
    correlation: Correlation,
    sender: Sender,
    OpenForm(fields): OpenForm,
) -> Answer<Response> {
    if !is_own_page(&sender.headers) {
        return Err(Fault::forged());
    }
    let token = fields.text("token");
    let outcome = match checked_new_password(&fields) {
        Ok(password) => web.admin.redeem_setup_token(&token, password, &correlation.0).await.map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    match outcome {
        Ok(()) => Ok(done("/login", "password-changed")),
        Err(trouble) => {
            let status = trouble.status;
            shown_again(&SetupPage { assets: web.assets, token, trouble }, status)
        }
    }
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    trouble: Trouble,
}

/// `GET /account`.
pub(super) async fn account_form(State(web): State<Web>, by: SignedIn) -> Answer<Response> {
    shown(&AccountPage { frame: Frame::new(&web, &by, "account"), trouble: Trouble::default() })
}

/// `POST /account`: a new password; every session of the user ends.
pub(super) async fn change_password(State(web): State<Web>, sender: Sender, posted: Posted) -> Answer<Response> {
    let outcome = match checked_new_password(&posted.fields) {
        Ok(new) => {
            let old = posted.fields.exact("old_password");
            web.admin.change_password(&posted.by.actor, &old, new, sender.address()).await.map_err(Trouble::from)
        }
        Err(trouble) => Err(trouble),
    };
    match outcome {
        Ok(()) => Ok(done("/login", "password-changed")),
        Err(trouble) => {
            let status = trouble.status;
            shown_again(&AccountPage { frame: Frame::new(&web, &posted.by, "account"), trouble }, status)
        }
    }
}

fn checked_new_password(fields: &Fields) -> Result<String, Trouble> {
    let new = fields.exact("new_password");
    if new == fields.exact("repeated") {
        return Ok(new);
    }
    let why = "the two passwords differ; type the same one twice".to_owned();
    Err(Trouble { field: "repeated".to_owned(), why, status: StatusCode::BAD_REQUEST })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(next: &str, expected: &str) {
        assert_eq!(safe_target(Some(next)), expected, "{next}");
    }

    #[test]
    fn a_login_never_leads_to_another_site() {
        check("/events?q=a%20b", "/events?q=a%20b");
        check("//evil.example", "/");
        check("/\\evil.example", "/");
        check("https://evil.example", "/");
        check("/a\r\nSet-Cookie: x", "/");
        check("/login?next=/login", "/");
    }
}
