//! What the ingest API answers: SPEC.md's bodies, status codes and headers, in one place.
//!
//! Texts name limits, positions and configured member names; they never repeat what was sent and never tell internals.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::access::Refusal as AccessRefusal;
use crate::ingest::{DropReason, Refusal};
use crate::net::api_version::Unserved;
use crate::net::http::{CORRELATION_ID, is_late, json_response};
use crate::net::problem;

/// Reasons listed in one answer, at most: 10,000 take well under a megabyte.
pub(super) const ERRORS_LISTED: usize = 10_000;

/// Why one item of a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemError {
    /// Position in the batch, from 0.
    pub(super) index: usize,
    /// What it is counted under.
    pub(super) reason: DropReason,
    /// What is wrong and what to do.
    pub(super) text: String,
    /// Required members that are missing.
    pub(super) missing: Vec<String>,
}

/// Whether a request was one event or several, which decides how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Batch,
}

/// Why a request was not taken.
#[derive(Debug)]
pub(super) enum Rejection {
    Unauthorized,
    /// A known key that may not be used so.
    Forbidden(AccessRefusal),
    /// The request asks for a version of the API that it cannot get.
    UnsupportedVersion(Unserved),
    UnsupportedType,
    UnsupportedEncoding,
    TooLarge {
        limit: usize,
    },
    TooMany {
        limit: usize,
    },
    TooSlow,
    /// The body broke off or could not be read, or is not what it should be; the text says which.
    Malformed(String),
    /// No item of the request could be taken; at most [`ERRORS_LISTED`] of the reasons.
    NoneTaken {
        shape: Shape,
        rejected: usize,
        errors: Vec<ItemError>,
    },
    /// The memory for requests is used up.
    Busy,
    /// The intake refused.
    Refused {
        refusal: Refusal,
        events: u64,
    },
}

/// What was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) shape: Shape,
    pub(super) queue_depth: u64,
    pub(super) accepted: usize,
    pub(super) rejected: usize,
    pub(super) errors: Vec<ItemError>,
}

impl Rejection {
    /// A body that stopped coming: out of time, or the connection broke.
    pub(super) fn unreadable(error: &axum::Error) -> Self {
        if is_late(error) {
            return Self::TooSlow;
        }
        Self::Malformed("the body could not be read to its end".to_owned())
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized | Self::Forbidden(AccessRefusal::Expired) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::UnsupportedType | Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } | Self::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedVersion(_) | Self::Malformed(_) | Self::NoneTaken { .. } => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { refusal, .. } => match refusal {
                Refusal::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
                Refusal::TooLarge(_) | Refusal::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                Refusal::QueueFull { .. } | Refusal::Storage(_) | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }

    /// What is counted as dropped, besides the items counted on their own. A request whose events cannot be told apart
    /// counts as one.
    pub(super) fn dropped(&self) -> Option<(DropReason, u64)> {
        match self {
            Self::Unauthorized | Self::Forbidden(_) => Some((DropReason::Unauthorized, 1)),
            Self::UnsupportedVersion(_)
            | Self::UnsupportedType
            | Self::UnsupportedEncoding
            | Self::TooSlow
            | Self::Malformed(_) => Some((DropReason::Malformed, 1)),
            Self::TooLarge { .. } | Self::TooMany { .. } => Some((DropReason::TooLarge, 1)),
            Self::NoneTaken { .. } => None,
            Self::Busy => Some((DropReason::QueueFull, 1)),
            Self::Refused { refusal, events } => Some((refusal.reason(), *events)),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unauthorized => "missing or wrong API key; send it as X-API-KEY".into(),
            Self::Forbidden(refusal) => refusal.to_string(),
            Self::UnsupportedVersion(unserved) => unserved.to_string(),
            Self::UnsupportedType => "unsupported content type; send application/json or application/x-ndjson".into(),
            Self::UnsupportedEncoding => "unsupported content encoding; send gzip or none".into(),
            Self::TooLarge { limit } => {
                format!("the body is larger than {limit} bytes, before or after decompression; send less at once")
            }
            Self::TooMany { limit } => format!("more than {limit} events in one request; send fewer at once"),
            Self::TooSlow => "the body did not arrive in time".into(),
            Self::Malformed(text) => text.clone(),
            Self::NoneTaken { shape: Shape::Single, errors, .. } => {
                errors.first().map_or_else(|| "the event was not taken".into(), |error| error.text.clone())
            }
            Self::NoneTaken { rejected: 0, .. } => "the batch holds no event".into(),
            Self::NoneTaken { .. } => "no event of the batch was taken; see errors".into(),
            Self::Busy => "too many requests at once; try again".into(),
            Self::Refused { refusal: Refusal::Storage(_), .. } => {
                "events cannot be stored at the moment; try again".into()
            }
            Self::Refused { refusal: Refusal::TooLarge(_), .. } => "an event is too large to be stored".into(),
            Self::Refused { refusal, .. } => refusal.to_string(),
        }
    }

    /// The header or member at fault, where it is one.
    fn field(&self) -> Option<&str> {
        match self {
            Self::UnsupportedVersion(_) => Some("Accept-Version"),
            Self::NoneTaken { shape: Shape::Single, errors, .. } => {
                errors.first().and_then(|error| error.missing.first()).map(String::as_str)
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy => Some(Duration::from_secs(1)),
            Self::Refused { refusal: Refusal::TooLarge(_) | Refusal::TooMany { .. }, .. } => None,
            Self::Refused { refusal, .. } => Some(refusal.retry_after()),
            _ => None,
        }
    }

    /// The answer. `depth` and `limit` are the event queue's, shown with every 503.
    pub(super) fn response(&self, correlation_id: &str, depth: u64, limit: u64) -> Response {
        let status = self.status();
        let mut body = problem::members(status, &self.text(), None, self.field(), correlation_id);
        let mut add = |name: &str, value: Value| body.insert(name.to_owned(), value);
        match self {
            Self::NoneTaken { shape: Shape::Single, errors, .. } => {
                if let Some(error) = errors.first().filter(|error| !error.missing.is_empty()) {
                    add("missing", json!(error.missing));
                }
            }
            Self::NoneTaken { shape: Shape::Batch, rejected, errors } => {
                add("accepted", json!(0));
                add("rejected", json!(rejected));
                add("errors", errors_json(errors));
            }
            Self::Refused { refusal: Refusal::TooMany { events, limit }, .. } => {
                add("events", json!(events));
                add("limit", json!(limit));
            }
            Self::Refused { refusal: Refusal::QueueFull { depth, limit, .. }, .. } => {
                add("queue_depth", json!(depth));
                add("limit", json!(limit));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                add("queue_depth", json!(depth));
                add("limit", json!(limit));
            }
            _ => {}
        }
        let mut response = with_correlation(problem::response(status, body), correlation_id);
        if let Some(wait) = self.retry_after() {
            // Rounded up: a sender that comes a moment early would only be refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mutt\""));
        }
        response
    }
}

impl Taken {
    /// The answer.
    pub(super) fn response(&self, correlation_id: &str) -> Response {
        let mut body = json!({"status": "queued", "correlation_id": correlation_id, "queue_depth": self.queue_depth});
        if self.shape == Shape::Batch {
            body["accepted"] = json!(self.accepted);
            body["rejected"] = json!(self.rejected);
            body["errors"] = errors_json(&self.errors);
        }
        with_correlation(json_response(StatusCode::OK, &body), correlation_id)
    }
}

fn errors_json(errors: &[ItemError]) -> Value {
    errors.iter().map(|error| json!({"index": error.index, "error": error.text})).collect()
}

fn with_correlation(mut response: Response, correlation_id: &str) -> Response {
    if let Ok(id) = HeaderValue::from_str(correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    problem::guard(response.headers_mut());
    response
}
