//! Logging in by the provider: away to it, and back with a code. The cookie between the two holds nothing but which login
//! this browser began, so that nobody can have somebody else end a login that is not theirs.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::super::Web;
use super::super::auth::session_cookie;
use super::super::envelope::Correlation;
use super::super::fault::{Answer, Fault};
use super::super::input::Fields;
use super::login::{Sender, login_page, safe_target, with_cookie};
use super::{Trouble, shown_again};
use crate::admin::ProviderCallback;

/// The cookie that tells which login a browser began.
const COOKIE: &str = "muttd_oidc";

/// How long it lasts, in seconds: as long as a login may take.
const LIFE: u32 = 600;

/// `GET /login/oidc`: away to the provider.
pub(super) async fn begin(State(web): State<Web>, sender: Sender, fields: Fields) -> Answer<Response> {
    let next = safe_target(fields.get("next"));
    match web.admin.begin_provider_login(next).await {
        Ok(begun) => {
            let cookie = cookie(&begun.state, LIFE, sender.is_secure());
            with_cookie(Redirect::to(&begun.url).into_response(), cookie)
        }
        Err(error) => failed(&web, error.into()),
    }
}

/// `GET /login/oidc/callback`: back from it.
pub(super) async fn finish(
    State(web): State<Web>,
    sender: Sender,
    correlation: Correlation,
    fields: Fields,
) -> Answer<Response> {
    let given = |name| fields.get(name).map(str::to_owned);
    let callback = ProviderCallback {
        code: given("code"),
        state: given("state"),
        error: given("error"),
        kept: sender.cookie(COOKIE).map(str::to_owned),
    };
    let finished = web.admin.finish_provider_login(callback, sender.address(), &correlation.0).await;
    let mut response = match finished {
        Ok((session, next)) => {
            let cookie = session_cookie(&session.token, session.life, sender.is_secure());
            with_cookie(Redirect::to(safe_target(Some(&next))).into_response(), cookie)?
        }
        Err(error) => failed(&web, error.into())?,
    };
    // It is of no use any more, whatever became of the login.
    response.headers_mut().extend(cookie("", 0, sender.is_secure()).map(|gone| (header::SET_COOKIE, gone)));
    Ok(response)
}

fn failed(web: &Web, fault: Fault) -> Answer<Response> {
    let trouble = Trouble::from_fault(fault);
    let status = trouble.status;
    shown_again(&login_page(web, trouble), status)
}

fn cookie(value: &str, life: u32, secure: bool) -> Option<HeaderValue> {
    let flag = if secure { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{COOKIE}={value}; Path=/login; HttpOnly; SameSite=Lax; Max-Age={life}{flag}")).ok()
}
