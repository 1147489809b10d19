//! The version of the HTTP API: what every answer names, what a request may ask for, and when the old paths end. Both
//! ports use it, so that they cannot disagree. Pure: it keeps no state and a crash loses nothing.
//!
//! A request may say by the headers `Accept-Version` and `X-API-Version` or by the parameter `api_version` which version
//! it was written for. Its path decides what it gets: the wish is only checked, so that a script never gets a shape that
//! it was not written for. Paths outside of the API (pages, probes) have no version and disregard it.

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The version of the API, on every answer.
pub const API_VERSION: &str = "v2.5";

/// The header that carries [`API_VERSION`]; in a request, a wish.
pub const X_API_VERSION: HeaderName = HeaderName::from_static("x-api-version");

/// Every version that is served, newest first; on every answer.
pub const SUPPORTED_VERSIONS: &str = "v2.5, v2, v1";

/// The header that carries [`SUPPORTED_VERSIONS`].
pub const X_API_SUPPORTED_VERSIONS: HeaderName = HeaderName::from_static("x-api-supported-versions");

/// The header by which a request says which version it was written for.
const ACCEPT_VERSION: HeaderName = HeaderName::from_static("accept-version");

/// The parameter of the query that says the same.
pub const VERSION_PARAMETER: &str = "api_version";

/// Wishes looked at in one request: three places have one each, more are a mistake that is told by the first.
const MAX_WISHES: usize = 8;

/// The highest minor version of version 2.
const HIGHEST_MINOR: u32 = 5;

/// Until when the paths of version 1 are promised to work, as an HTTP date (RFC 8594).
const V1_SUNSET: &str = "Fri, 31 Dec 2027 23:59:59 GMT";

/// The same as the plain date that `X-Sunset` has.
const V1_SUNSET_DATE: &str = "2027-12-31";

/// Why a request cannot be answered in the version it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// There is no such version.
    #[error("unsupported API version; supported are v2.5 (also as v2) and v1")]
    Unknown,
    /// Version 1 was asked for at a path of version 2.
    #[error("this path is version 2 of the API; supported are v2.5 (also as v2) here, and v1 below /api/v1")]
    OnlyBelowV1,
    /// Two places of the request ask for different versions.
    #[error("the request asks for two different API versions; supported are v2.5 (also as v2) and v1")]
    Conflict,
}

/// Checks what a request wishes for. Wishes for minor versions of one major version do not differ: they have one shape.
pub fn negotiate(uri: &Uri, headers: &HeaderMap) -> Result<(), Unserved> {
    let Some(served) = served_below(uri.path()) else { return Ok(()) };
    let sent = headers.get_all(&ACCEPT_VERSION).iter().chain(headers.get_all(&X_API_VERSION));
    let in_headers = sent.map(|value| value.to_str().ok());
    let in_query = in_query(uri);
    let mut wished = None;
    for text in in_headers.chain(in_query.iter().map(|text| Some(text.as_str()))).take(MAX_WISHES) {
        let major = text.and_then(major).ok_or(Unserved::Unknown)?;
        if wished.is_some_and(|wished| wished != major) {
            return Err(Unserved::Conflict);
        }
        wished = Some(major);
    }
    match wished {
        Some(wished) if !served.contains(&wished) => Err(Unserved::OnlyBelowV1),
        _ => Ok(()),
    }
}

/// The major versions that the paths of the API serve; `None` for paths without a version. What MUTT 2.x clients of
/// version 2 sent went to paths of version 1, so these serve both.
fn served_below(path: &str) -> Option<&'static [u32]> {
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_below("/api/v2") {
        Some(&[2])
    } else if is_below("/api") || is_below("/ingest") {
        Some(&[1, 2])
    } else {
        None
    }
}

/// The values of [`VERSION_PARAMETER`] in a query, decoded; a name without a value has an empty one.
fn in_query(uri: &Uri) -> Vec<String> {
    if uri.query().is_none() {
        return Vec::new();
    }
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
    pairs.into_iter().filter(|(name, _)| name == VERSION_PARAMETER).map(|(_, value)| value).collect()
}

/// The major number of `v2`, `2`, `v2.5`; `None` if no such version ever was.
fn major(text: &str) -> Option<u32> {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    match (number(major)?, number(minor)?) {
        (1, 0) => Some(1),
        (2, 0..=HIGHEST_MINOR) => Some(2),
        _ => None,
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Names the versions on an answer to `path`, and marks it if the path is one of version 1: it ends some day, and another
/// follows it (RFC 8288). `true` rather than the date of RFC 9745 is what MUTT 2.x sent and its clients look for; so are
/// the two headers that begin with `X-`.
pub fn mark(headers: &mut HeaderMap, path: &str) {
    headers.insert(X_API_VERSION, HeaderValue::from_static(API_VERSION));
    headers.insert(X_API_SUPPORTED_VERSIONS, HeaderValue::from_static(SUPPORTED_VERSIONS));
    let Some(rest) = path.strip_prefix("/api/v1").filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return;
    };
    for (name, value) in
        [("deprecation", "true"), ("x-api-deprecated", "true"), ("sunset", V1_SUNSET), ("x-sunset", V1_SUNSET_DATE)]
    {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(successor) = HeaderValue::from_str(&format!("</api/v2{rest}>; rel=\"successor-version\"")) {
        headers.append("link", successor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, sent: &[(HeaderName, &[u8])], expected: Result<(), Unserved>) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(name, HeaderValue::from_bytes(value).expect("a header value"));
        }
        assert_eq!(negotiate(&address.parse().expect("an address"), &headers), expected, "{address} {sent:?}");
    }

    #[test]
    fn versions_that_are_served_are_told_from_those_that_are_not() {
        for sent in ["v2", "2", "V2", " v2.5 ", "2.0"] {
            check("/api/v2/rules", &[(ACCEPT_VERSION, sent.as_bytes())], Ok(()));
            check("/api/v1/rules", &[(X_API_VERSION, sent.as_bytes())], Ok(()));
        }
        for sent in ["v3", "v2.6", "v99", "abc", "", "v", "2.", "+2", "v2.5.1", "99999999999"] {
            check("/api/v2/rules", &[(ACCEPT_VERSION, sent.as_bytes())], Err(Unserved::Unknown));
            check("/ingest", &[(X_API_VERSION, sent.as_bytes())], Err(Unserved::Unknown));
        }
        check("/api/v2/rules", &[], Ok(()));
        check("/api/v2/rules", &[(ACCEPT_VERSION, b"caf\xc3\xa9")], Err(Unserved::Unknown));
        check("/api/v2/rules", &[(ACCEPT_VERSION, b"v1")], Err(Unserved::OnlyBelowV1));
        check("/api/v1/rules", &[(ACCEPT_VERSION, b"v1")], Ok(()));
        check("/ingest", &[(ACCEPT_VERSION, b"1.0")], Ok(()));
    }

    #[test]
    fn the_query_counts_too_and_two_different_wishes_are_refused() {
        check("/api/v2/rules?page=1&api_version=2.5", &[], Ok(()));
        for nonsense in ["api_version=9", "api_version=", "api_version", "api%5Fversion=9"] {
            check(&format!("/api/v2/rules?{nonsense}"), &[], Err(Unserved::Unknown));
        }
        check("/api/v2/rules?api_version=v%32%2E5", &[], Ok(()));
        check("/api/v1/rules?api_version=1", &[(ACCEPT_VERSION, b"v2")], Err(Unserved::Conflict));
        check("/api/v1/rules", &[(ACCEPT_VERSION, b"v1"), (X_API_VERSION, b"v2")], Err(Unserved::Conflict));
        check("/api/v1/rules?api_version=v2.0", &[(ACCEPT_VERSION, b"v2.5"), (X_API_VERSION, b"2")], Ok(()));
    }

    #[test]
    fn paths_without_a_version_disregard_it() {
        for path in ["/health", "/metrics?api_version=9", "/rules", "/apiary", "/ingestion"] {
            check(path, &[(ACCEPT_VERSION, b"v99")], Ok(()));
        }
        check("/api/openapi.json", &[(ACCEPT_VERSION, b"v99")], Err(Unserved::Unknown));
    }

    #[test]
    fn answers_name_the_versions_and_those_of_version_1_what_follows_them() {
        let mut headers = HeaderMap::new();
        mark(&mut headers, "/api/v2/rules");
        assert_eq!((headers.len(), headers["x-api-version"].as_bytes()), (2, &b"v2.5"[..]));
        mark(&mut headers, "/api/v1/rules/7");
        assert_eq!(headers["link"], "</api/v2/rules/7>; rel=\"successor-version\"");
        assert_eq!((headers["deprecation"].as_bytes(), headers.len()), (&b"true"[..], 7));
    }

    #[test]
    fn both_forms_of_the_sunset_name_the_same_day() {
        let time = chrono::DateTime::parse_from_rfc2822(V1_SUNSET).expect("an HTTP date");
        assert_eq!(time.format("%Y-%m-%d").to_string(), V1_SUNSET_DATE);
    }
}
