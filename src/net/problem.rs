//! Problem documents (RFC 9457): the body of every answer of either HTTP port that is not a success, and the table of what
//! their `type` means, from which the API's description page is made.
//!
//! Two members are older than the RFC's: `error`, one sentence, and `correlation_id` are what clients of MUTT 2.x read.
//! Texts never repeat what was sent. Pure; a crash loses nothing.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

/// The content type of a problem document (RFC 9457 section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Where the kinds are described; each has an anchor there. Relative, so that it holds under any name of the appliance.
pub const DESCRIBED_AT: &str = "/api/docs#problem-";

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The end of its `type`.
    pub slug: &'static str,
    /// The status it comes with.
    pub status: StatusCode,
    /// Its `title`.
    pub title: &'static str,
    /// What it means and what to do.
    pub meaning: &'static str,
}

const fn problem(status: StatusCode, slug: &'static str, title: &'static str, meaning: &'static str) -> Problem {
    Problem { slug, status, title, meaning }
}

/// A fault of one member, parameter or header, which `field` names.
static VALIDATION: Problem = problem(
    StatusCode::BAD_REQUEST,
    "validation",
    "A value is not valid",
    "One member, parameter or header is at fault: `field` names it, `detail` says what would be right. Nothing was changed.",
);

/// Every other kind; one a status.
static OTHERS: [Problem; 17] = [
    problem(
        StatusCode::BAD_REQUEST,
        "bad-request",
        "The request is not understood",
        "The request as a whole is at fault: no JSON, no such version of the API, or a combination that makes no sense.",
    ),
    problem(
        StatusCode::UNAUTHORIZED,
        "unauthenticated",
        "Not known who asks",
        "There is no key and no session, or they are not valid any more. Send an API key in the header X-API-KEY.",
    ),
    problem(
        StatusCode::FORBIDDEN,
        "forbidden",
        "Not allowed",
        "Known who asks, but the role or the key's scope does not allow this, the key may not be used from this network, or \
         a session's request does not carry its token. The right that an operation needs stands beside it here.",
    ),
    problem(
        StatusCode::NOT_FOUND,
        "not-found",
        "Not found",
        "Nothing is at this address, or what it names does not exist (any more).",
    ),
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        "The address exists, but does not know this method; the header Allow lists those it knows.",
    ),
    problem(
        StatusCode::NOT_ACCEPTABLE,
        "not-acceptable",
        "Not acceptable",
        "The answer is not to be had in a form that the request accepts.",
    ),
    problem(
        StatusCode::REQUEST_TIMEOUT,
        "timeout",
        "The request came too slowly",
        "The body did not arrive in time, or the answer took longer than is granted. It may be tried again.",
    ),
    problem(
        StatusCode::CONFLICT,
        "conflict",
        "In conflict with what is there",
        "It exists already, has been changed by somebody else meanwhile, or its state does not allow this. Read it again.",
    ),
    problem(
        StatusCode::PRECONDITION_FAILED,
        "precondition-failed",
        "Changed meanwhile",
        "The tag in If-Match is not that of what is there now: somebody else changed it. Read it again, then decide.",
    ),
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "Too large",
        "The body, or what it unpacks to, is larger than is taken; `error` names the limit. Send less at once.",
    ),
    problem(
        StatusCode::URI_TOO_LONG,
        "address-too-long",
        "Too long an address",
        "The request's address is longer than is taken.",
    ),
    problem(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body's type is not taken",
        "The header Content-Type or Content-Encoding names what is not taken here.",
    ),
    problem(
        StatusCode::UNPROCESSABLE_ENTITY,
        "unprocessable",
        "Cannot be carried out",
        "The request is understood, but cannot be carried out as it stands.",
    ),
    problem(
        StatusCode::TOO_MANY_REQUESTS,
        "rate-limited",
        "Too many requests",
        "More than is granted in this time; the header Retry-After says when to come again.",
    ),
    problem(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers-too-large",
        "Too many or too long headers",
        "The request's headers together are larger than is taken.",
    ),
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "A fault of the appliance",
        "Something went wrong inside. The log has the cause under the `correlation_id`; please report it.",
    ),
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "Not possible now",
        "A queue is full, storage fails, or the appliance is stopping. Come again after the time in Retry-After.",
    ),
];

/// Every kind there is.
pub fn all() -> impl Iterator<Item = &'static Problem> {
    std::iter::once(&VALIDATION).chain(&OTHERS)
}

impl Problem {
    /// The kind of a status; `None` for a status that says all there is to say.
    pub fn of(status: StatusCode, field: Option<&str>) -> Option<&'static Self> {
        if status == VALIDATION.status && field.is_some() {
            return Some(&VALIDATION);
        }
        OTHERS.iter().find(|problem| problem.status == status)
    }
}

/// The members of a problem document. `error` is what happened in one sentence; `detail` what would be right, or the cause.
pub fn members(
    status: StatusCode,
    error: &str,
    detail: Option<&str>,
    field: Option<&str>,
    correlation_id: &str,
) -> Map<String, Value> {
    let mut body = Map::new();
    // A status without a kind of its own is `about:blank`, whose title is the status's phrase (RFC 9457 section 4.2.1).
    let (kind, title) = match Problem::of(status, field) {
        Some(problem) => (format!("{DESCRIBED_AT}{}", problem.slug), problem.title),
        None => ("about:blank".to_owned(), status.canonical_reason().unwrap_or("Error")),
    };
    body.insert("type".into(), kind.into());
    body.insert("title".into(), title.into());
    body.insert("status".into(), status.as_u16().into());
    body.insert("detail".into(), detail.unwrap_or(error).into());
    body.insert("error".into(), error.into());
    if let Some(field) = field {
        body.insert("field".into(), field.into());
    }
    body.insert("correlation_id".into(), correlation_id.into());
    body
}

/// An answer with a problem document.
pub fn response(status: StatusCode, members: Map<String, Value>) -> Response {
    let mut response = Response::new(Body::from(Value::Object(members).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if status == StatusCode::UNAUTHORIZED {
        challenge(response.headers_mut());
    }
    response
}

/// Says how a caller proves who it is, as every 401 must (RFC 9110 section 15.5.2). Browsers know no such scheme and
/// therefore ask nobody for a password.
pub fn challenge(headers: &mut HeaderMap) {
    headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey realm=\"mutt\", header=\"X-API-KEY\""));
}

/// Has a browser that is led to an answer for programs take it for nothing but data, and keep no copy.
pub fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_and_each_has_its_anchor() {
        let slugs: Vec<&str> = all().map(|problem| problem.slug).collect();
        let anchor = |slug: &str| slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(slugs.iter().all(|slug| anchor(slug)), "{slugs:?}");
        let different: std::collections::BTreeSet<_> = slugs.iter().collect();
        assert_eq!(different.len(), slugs.len());
    }

    #[test]
    fn a_problem_has_the_rfcs_members_and_those_of_older_clients() {
        let check = |status: StatusCode, field: Option<&str>, kind: &str, title: &str| {
            let body = members(status, "it is wrong", None, field, "c-1");
            assert_eq!((body["type"].as_str(), body["title"].as_str()), (Some(kind), Some(title)));
            assert_eq!(body["status"], status.as_u16());
            assert_eq!(body.get("field").and_then(Value::as_str), field);
            for (name, value) in [("error", "it is wrong"), ("detail", "it is wrong"), ("correlation_id", "c-1")] {
                assert_eq!(body[name], value, "{name}");
            }
        };
        check(StatusCode::BAD_REQUEST, None, "/api/docs#problem-bad-request", "The request is not understood");
        check(StatusCode::BAD_REQUEST, Some("limit"), "/api/docs#problem-validation", "A value is not valid");
        check(StatusCode::NOT_FOUND, None, "/api/docs#problem-not-found", "Not found");
        check(StatusCode::IM_A_TEAPOT, None, "about:blank", "I'm a teapot");
        assert_eq!(members(StatusCode::CONFLICT, "a", Some("b"), None, "c")["detail"], "b");
    }

    #[test]
    fn who_is_not_known_is_told_how_to_prove_who_it_is() {
        let check = |status: StatusCode, told: bool| {
            let answer = response(status, Map::new());
            assert_eq!(answer.headers().contains_key(header::WWW_AUTHENTICATE), told, "{status}");
        };
        check(StatusCode::UNAUTHORIZED, true);
        check(StatusCode::FORBIDDEN, false);
    }
}
