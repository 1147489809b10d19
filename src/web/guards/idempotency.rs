//! `Idempotency-Key` on every POST of the API that does something: a client that got no answer sends the same request with
//! the same key again, and it is done once, even if the appliance was killed and started in between.
//!
//! What is promised: for 24 hours, to one caller, the answer of a POST that succeeded is given again (marked
//! `Idempotency-Replayed: true`) instead of doing it again. The same key with another request is 422; while the first is
//! still under way, 409. A request that failed changed nothing and frees its key. One that was broken off by the end of the
//! process, so that nobody knows whether it was done, is 409 and told so. A request that was begun is carried out to its end
//! even if its client goes away, so that its answer is there when the client comes back.
//!
//! What is not: answers that show a secret this once, and large ones, are not kept; a repeat is then told with 409 that it was
//! done, and how to get a new secret. What is only a question (a POST that needs no more than to look) is asked again.

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{MatchedPath, OriginalUri, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::super::Web;
use super::super::auth::{Caller, Principal};
use super::super::fault::Fault;
use super::super::input::CHANGE_REASON;
use super::super::rights;
use crate::access::Right;
use crate::admin::{KeptAnswer, Once, RepeatId, Turn};
use crate::net::http::is_late;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Largest answer kept, in bytes; creating things is answered with some hundred.
const MAX_ANSWER: usize = 64 << 10;

/// Longest key, in characters.
const MAX_KEY: usize = 255;

/// Largest body that is read to be compared, in bytes: the largest that any route takes.
const MAX_BODY: usize = 16 << 20;

/// Parts of paths whose answers show a secret this once, and how to get a new one if the answer was lost.
const SHOW_SECRETS: [(&str, &str); 3] = [
    ("/keys", "the key's value was shown once, in the answer that was lost: rotate the key to get a new one"),
    ("/users", "the password was shown once, in the answer that was lost: reset it to get a new one"),
    ("/secrets", "answers about secrets are given once; look at /api/v2/secrets"),
];

/// Answers a repeat, or has the request carried out once.
pub(super) async fn once(
    State(web): State<Web>,
    caller: Caller,
    principal: Principal,
    request: Request,
    next: Next,
) -> Response {
    if !request.headers().contains_key(&KEY) || !does_something(&request) {
        return next.run(request).await;
    }
    let (id, request) = match read(&principal, request).await {
        Ok(read) => read,
        Err(fault) => return fault.into_response(),
    };
    // A task of its own ends even when the client does not wait for it.
    let task = tokio::spawn(async move {
        match web.admin.begin_once(id, &caller.0.correlation_id).await {
            Ok(Once::Begun(turn)) => carry_out(turn, request, next).await,
            Ok(known) => repeated(known, request.uri().path()),
            Err(error) => Fault::from(error).into_response(),
        }
    });
    task.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn does_something(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let needed = rights::needed(path, request.method());
    request.method() == Method::POST && matches!(needed, Right::Operate | Right::Administer)
}

/// The request, whole, and what it is known by.
async fn read(principal: &Principal, request: Request) -> Result<(RepeatId, Request), Fault> {
    let key = request.headers().get(&KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().trim().to_owned();
    if !(1..=MAX_KEY).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::field("Idempotency-Key", format!("it is not 1 to {MAX_KEY} visible ASCII characters")));
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await;
    let body = body.map_err(|error| {
        if is_late(&error) {
            return Fault::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        }
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off")
    })?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0).to_string();
    // Headers that have a say in what is done.
    let [kind, reason, condition] = [header::CONTENT_TYPE, CHANGE_REASON, header::IF_MATCH]
        .map(|name| parts.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes));
    let id = RepeatId {
        key: hash(&[principal.0.as_bytes(), key.as_bytes()]),
        caller: hash(&[principal.0.as_bytes()]),
        // A body may hold a secret. Its hash is kept, the key is not: mixed with it, the hash cannot be guessed at.
        request: hash(&[key.as_bytes(), uri.as_bytes(), kind, reason, condition, &body]),
    };
    Ok((id, Request::from_parts(parts, Body::from(body))))
}

/// Of the parts one by one: their lengths go in, so that they cannot be shifted into each other.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Carries it out and keeps the answer if it is one of success; the answer itself goes on. If the handler panics nobody
/// knows how far it came: dropped, the turn leaves the request broken off.
async fn carry_out(turn: Turn, request: Request, next: Next) -> Response {
    let is_secret = lost_secret(request.uri().path()).is_some();
    let response = next.run(request).await;
    if !response.status().is_success() {
        turn.undone().await;
        return response;
    }
    let fits = response.body().size_hint().exact().is_some_and(|length| length <= MAX_ANSWER as u64);
    if is_secret || !fits {
        turn.done(None).await;
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MAX_ANSWER).await else {
        turn.done(None).await;
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let text = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
    let headers = parts.headers.iter().filter_map(text).collect();
    turn.done(Some(KeptAnswer { status: parts.status.as_u16(), headers, body: body.to_vec() })).await;
    Response::from_parts(parts, Body::from(body))
}

fn lost_secret(path: &str) -> Option<&'static str> {
    SHOW_SECRETS.iter().find(|(part, _)| path.contains(part)).map(|(_, advice)| *advice)
}

/// The answer to a request of which something is known.
fn repeated(known: Once, path: &str) -> Response {
    let conflict = |error: &str, detail: String| {
        let mut fault = Fault::new(StatusCode::CONFLICT, error);
        fault.detail = Some(detail);
        fault.into_response()
    };
    match known {
        Once::Done(Some(answer)) => again(answer),
        Once::Done(None) => {
            let advice = lost_secret(path).unwrap_or("large and old answers are not kept; look at what is there");
            conflict("this was done already, and its answer is not kept", advice.to_owned())
        }
        Once::BrokenOff(correlation_id) => conflict(
            "this was begun, and the appliance stopped before its end: it may have been done or not",
            format!(
                "look at what is there and at /api/v2/config-audit?correlation_id={correlation_id}; if it was not done, send \
                 it with a new Idempotency-Key"
            ),
        ),
        Once::Begun(_) | Once::UnderWay => {
            let mut fault = Fault::new(StatusCode::CONFLICT, "the same request is under way");
            fault.retry_after = Some(1);
            fault.into_response()
        }
        Once::Other => {
            let mut fault =
                Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was used for another request");
            fault.detail = Some("take a new key for each thing to be done".to_owned());
            fault.into_response()
        }
    }
}

fn again(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_parts_and_not_by_their_sum() {
        assert_eq!(hash(&[b"a", b"b"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"ab", b""]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"a"]), hash(&[b"a", b""]));
    }

    #[test]
    fn whoever_lost_an_answer_with_a_secret_is_told_how_to_get_another() {
        assert!(lost_secret("/keys").is_some_and(|advice| advice.contains("rotate")));
        assert!(lost_secret("/users/anna/password").is_some_and(|advice| advice.contains("reset")));
        assert_eq!(lost_secret("/rules"), None);
    }
}
