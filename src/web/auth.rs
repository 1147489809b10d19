//! Who may come in, and to what: API keys for programs, session cookies for browsers, and the right that each address
//! needs ([`rights`]).
//!
//! The two middlewares stand before every route of their router, its fallback included, so no handler can forget them.
//! Cookies are `HttpOnly` and `SameSite=Lax`: links in tickets keep working, and a request that changes something must
//! carry the session's token besides and come from one of our own pages.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::Web;
use super::envelope::Correlation;
use super::fault::Fault;
use super::origin::{is_own_page, is_secure, peer};
use super::rights::{self, changes_something};
use crate::access::{Refusal, Right, Verdict};
use crate::admin::{Actor, Admin, SessionInfo, Via, key_itself};

/// The cookie's name without TLS.
const PLAIN_COOKIE: &str = "muttd_session";

/// The cookie's name over TLS: the prefix makes browsers insist on `Secure`, `Path=/` and no `Domain`.
const SECURE_COOKIE: &str = "__Host-muttd_session";

/// The header by which commands of `muttd` say who runs them.
const CLI_USER: &str = "x-muttd-user";

/// A browser that is logged in.
#[derive(Clone)]
pub(super) struct SignedIn {
    /// Who, and the token of its forms.
    pub session: SessionInfo,
    /// The cookie's token, to log out with.
    pub token: String,
    /// The user with this request's correlation id.
    pub actor: Actor,
}

/// A caller of the API.
#[derive(Clone)]
pub(super) struct Caller(pub Actor);

/// Whom limits and repeats of the API are counted by: a user, or a key, whichever of its values is sent and whoever says to
/// use it.
#[derive(Clone)]
pub(super) struct Principal(pub String);

/// Lets a request to the API through that has a key or a session.
pub(super) async fn api_guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match api_caller(&web, &parts).await {
        Ok((caller, principal)) => {
            parts.extensions.insert(caller);
            parts.extensions.insert(principal);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(fault) => fault.into_response(),
    }
}

async fn api_caller(web: &Web, parts: &Parts) -> Result<(Caller, Principal), Fault> {
    let needed = needed_right(parts);
    if let Some(key) = parts.headers.get("x-api-key") {
        let peer = peer(&parts.extensions, &parts.headers);
        let (owner, correlation) = (key_owner(&web.admin, key, needed, peer)?, correlation(&parts.extensions));
        let principal = Principal(key_itself(&owner).to_owned());
        let caller = Caller(match cli_user(&parts.headers) {
            Some(user) => Actor::new(format!("{owner} ({user})"), correlation).coming(Via::Cli, peer),
            None => Actor::new(owner, correlation).coming(Via::Api, peer),
        });
        return Ok((caller, principal));
    }
    let signed_in = signed_in(web, parts).await?;
    let signed_in = signed_in.ok_or_else(|| no_key(&parts.uri))?;
    if signed_in.session.must_change_password {
        let mut fault = Fault::new(StatusCode::FORBIDDEN, "the password is a temporary one");
        fault.detail = Some("change it on the page /account first".to_owned());
        return Err(fault);
    }
    signed_in.must_have(needed)?;
    if changes_something(&parts.method) {
        let token = parts.headers.get("x-csrf-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !signed_in.session.csrf_matches(token) || !is_own_page(&parts.headers) {
            return Err(Fault::forged());
        }
    }
    // No key is called so, whatever a user is called.
    let principal = Principal(format!("user:{}", signed_in.actor.name));
    Ok((Caller(signed_in.actor.coming(Via::Api, peer(&parts.extensions, &parts.headers))), principal))
}

/// What a request without key and session is told. A key in the address would end in the logs of every proxy on its way,
/// so only version 1, which always took it there, looks at the query.
fn no_key(uri: &Uri) -> Fault {
    let mut fault = Fault::new(StatusCode::UNAUTHORIZED, "give an API key in the header X-API-KEY");
    if uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("api_key="))) {
        fault.detail = Some("only /api/v1 takes it as the parameter api_key".to_owned());
    }
    fault
}

/// Who says to run the command that sends this. It is told beside the key's name, not in its place: only the key is
/// checked.
fn cli_user(headers: &HeaderMap) -> Option<String> {
    let user = headers.get(CLI_USER)?.to_str().ok()?;
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '\\' | '$');
    (!user.is_empty() && user.len() <= 64 && user.chars().all(harmless)).then(|| user.to_owned())
}

/// Whose key it is, if it may do what needs `right`.
pub(super) fn key_owner(admin: &Admin, key: &HeaderValue, right: Right, peer: IpAddr) -> Result<String, Fault> {
    let verdict = key.to_str().map_or(Verdict::Unknown, |key| admin.check_key(key, right, peer));
    match verdict {
        Verdict::Granted(owner) => Ok(owner),
        Verdict::Unknown => Err(Fault::new(StatusCode::UNAUTHORIZED, "the key in X-API-KEY is not valid")),
        Verdict::Refused(refusal @ Refusal::Expired) => Err(Fault::new(StatusCode::UNAUTHORIZED, refusal.to_string())),
        Verdict::Refused(refusal) => Err(Fault::new(StatusCode::FORBIDDEN, refusal.to_string())),
    }
}

fn needed_right(parts: &Parts) -> Right {
    rights::needed(parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str), &parts.method)
}

impl SignedIn {
    fn must_have(&self, right: Right) -> Result<(), Fault> {
        if self.session.role.has(right) {
            return Ok(());
        }
        let mut fault = Fault::new(StatusCode::FORBIDDEN, "your role does not allow this");
        fault.detail = Some(format!("it needs the role {}; yours is {}", right.least_role(), self.session.role));
        Err(fault)
    }
}

/// Where a user with a temporary password may go.
const BEFORE_CHANGE: [&str; 2] = ["/account", "/logout"];

/// Lets a browser through that is logged in; others are sent to the login page and come back after it.
pub(super) async fn page_guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let found = match signed_in(&web, &parts).await {
        Ok(found) => found,
        Err(fault) => return fault.into_response(),
    };
    let Some(found) = found else {
        let wanted = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let target = if changes_something(&parts.method) || wanted == "/" {
            "/login".to_owned()
        } else {
            format!("/login?next={}", super::text::url_encode(wanted))
        };
        return Redirect::to(&target).into_response();
    };
    if changes_something(&parts.method) && !is_own_page(&parts.headers) {
        return Fault::forged().into_response();
    }
    if found.session.must_change_password && !BEFORE_CHANGE.contains(&parts.uri.path()) {
        return Redirect::to("/account").into_response();
    }
    if let Err(fault) = found.must_have(needed_right(&parts)) {
        return fault.into_response();
    }
    parts.extensions.insert(found);
    next.run(Request::from_parts(parts, body)).await
}

async fn signed_in(web: &Web, parts: &Parts) -> Result<Option<SignedIn>, Fault> {
    let name = cookie_name(is_secure(&parts.extensions, &parts.headers));
    let Some(token) = cookie(&parts.headers, name) else { return Ok(None) };
    let session = web.admin.session(token).await?;
    let correlation = correlation(&parts.extensions);
    Ok(session.map(|session| SignedIn {
        actor: Actor::new(session.user.clone(), correlation).coming(Via::Page, peer(&parts.extensions, &parts.headers)),
        token: token.to_owned(),
        session,
    }))
}

fn correlation(extensions: &Extensions) -> String {
    extensions.get::<Correlation>().map(|correlation| correlation.0.clone()).unwrap_or_default()
}

const fn cookie_name(secure: bool) -> &'static str {
    if secure { SECURE_COOKIE } else { PLAIN_COOKIE }
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The `Set-Cookie` value that starts a session; a life of zero ends it.
pub(super) fn session_cookie(token: &str, life: Duration, secure: bool) -> Option<HeaderValue> {
    let name = cookie_name(secure);
    let flag = if secure { "; Secure" } else { "" };
    let life = life.as_secs();
    HeaderValue::from_str(&format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{flag}")).ok()
}

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        // Only a route outside of `page_guard` could get here without one.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Fault::new(StatusCode::UNAUTHORIZED, "log in first"))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Fault::new(StatusCode::UNAUTHORIZED, "give an API key"))
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Fault::new(StatusCode::UNAUTHORIZED, "give an API key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &'static str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static(header));
        assert_eq!(cookie(&headers, PLAIN_COOKIE), expected, "{header}");
    }

    #[test]
    fn the_session_cookie_is_found_among_others() {
        check("muttd_session=abc", Some("abc"));
        check("theme=dark; muttd_session=abc; x", Some("abc"));
        check("xmuttd_session=abc", None);
        check("muttd_session", None);
    }

    #[test]
    fn a_cookie_over_tls_carries_the_host_prefix() {
        let secure = session_cookie("t", Duration::from_secs(9), true).expect("a value");
        assert_eq!(secure, "__Host-muttd_session=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=9; Secure");
        let plain = session_cookie("t", Duration::ZERO, false).expect("a value");
        assert_eq!(plain, "muttd_session=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }
}
