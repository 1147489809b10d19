//! What every request and every answer goes through: correlation id, version, security headers, error bodies, counting.
//! Keeps no state.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use tracing::Instrument as _;

use super::Web;
use super::fault::{self, Fault, Reader};
use super::spans::RequestSpan;
use crate::net::api_version;
use crate::net::http::{CORRELATION_ID, new_correlation_id, sent_correlation_id};
use crate::net::problem;
use crate::net::tls::OverTls;
use crate::telemetry::metrics::HTTP_REQUESTS;

/// No inline code, nothing from elsewhere, no frames around us.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Browsers that came over TLS once come no other way for a year (RFC 6797). They disregard it where they do not trust the
/// certificate, so a self-signed one locks nobody out.
const STRICT_TRANSPORT: &str = "max-age=31536000";

const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// The id of a request, in its answer, in the log and with each change it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Correlation(pub String);

impl Correlation {
    /// The sender's id if it may be kept, else a new one.
    fn of(headers: &HeaderMap) -> Self {
        Self(sent_correlation_id(headers).map_or_else(new_correlation_id, str::to_owned))
    }
}

/// The middleware around everything.
pub(super) async fn wrap(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let correlation = Correlation::of(request.headers());
    let reader = reader_of(request.uri().path());
    request.extensions_mut().insert(correlation.clone());
    let over_tls = request.extensions().get::<OverTls>().is_some();
    let traced = RequestSpan::begin(&web.admin, request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match api_version::negotiate(request.uri(), request.headers()) {
        Ok(()) => {
            let (id, trace_id) = (&correlation.0, tracing::field::Empty);
            let span = tracing::info_span!("request", correlation_id = %id, trace_id);
            if let Some(trace_id) = traced.trace_id() {
                span.record("trace_id", tracing::field::display(trace_id));
            }
            next.run(request).instrument(span).await
        }
        Err(unserved) => Fault::bad_request(unserved.to_string()).into_response(),
    };
    let mut response = fault::render(response, reader, &correlation.0, &web.assets);
    traced.end(&web.admin, &method, &path, response.status());
    let status = response.status();
    counter!(HTTP_REQUESTS, "status" => status.as_u16().to_string()).increment(1);
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if over_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT_TRANSPORT));
    }
    if status == StatusCode::UNAUTHORIZED && !headers.contains_key(header::WWW_AUTHENTICATE) {
        problem::challenge(headers);
    }
    api_version::mark(headers, &path);
    if let Ok(value) = HeaderValue::from_str(&correlation.0) {
        headers.insert(CORRELATION_ID, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn reader_of(path: &str) -> Reader {
    let for_programs = ["/api", "/ingest", "/health", "/ready", "/metrics"];
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if for_programs.into_iter().any(is_below) { Reader::Program } else { Reader::Person }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sent: &'static [u8], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(CORRELATION_ID, HeaderValue::from_bytes(sent).expect("a header value"));
        let taken = Correlation::of(&headers).0;
        match expected {
            Some(expected) => assert_eq!(taken, expected),
            None => assert_eq!(taken.len(), 36, "{taken}"),
        }
    }

    #[test]
    fn a_short_printable_correlation_id_is_kept() {
        check(b"req-7", Some("req-7"));
        check(b"", None);
        check(b"caf\xc3\xa9", None);
        check(&[b'x'; 129], None);
    }

    #[test]
    fn programs_get_json_and_people_get_pages() {
        for (path, reader) in [
            ("/api/v2/rules", Reader::Program),
            ("/api", Reader::Program),
            ("/ingest", Reader::Program),
            ("/metrics", Reader::Program),
            ("/apis", Reader::Person),
            ("/rules", Reader::Person),
        ] {
            assert_eq!(reader_of(path), reader, "{path}");
        }
    }
}
