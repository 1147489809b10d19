//! Pages of other origins that may read the API (the Fetch standard's CORS protocol). None may until `http.cors_origins`
//! names it. Cookies are never accepted from elsewhere, so such a page needs a key of its own. Keeps no state.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::Web;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

const HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, X-API-KEY, X-Correlation-ID, X-Change-Reason, Accept-Version, X-API-Version, Idempotency-Key, \
     If-Match, If-None-Match, Last-Event-ID",
);

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ETag, Link, Location, Retry-After, X-Correlation-ID, X-API-Version, X-API-Supported-Versions, Deprecation, Sunset, \
     RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed",
);

/// Browsers may remember what is allowed for so many seconds: ten minutes, so that a change acts soon.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Answers the question before a request, and marks answers that a page elsewhere may read.
pub(super) async fn allow(State(web): State<Web>, request: Request, next: Next) -> Response {
    let settings = web.admin.api_settings();
    if settings.cors_origins.is_empty() {
        return next.run(request).await;
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| {
        origin.to_str().is_ok_and(|origin| settings.cors_origins.iter().any(|one| one.eq_ignore_ascii_case(origin)))
    });
    let asks_first =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &allowed {
        Some(_) if asks_first => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            response
        }
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    headers.append(VARY, HeaderValue::from_static("Origin"));
    response
}
