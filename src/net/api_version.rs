//! The version of the HTTP API: what every answer names, what a request may ask for, and when the old paths end. Both
//! ports use it, so that they cannot disagree. Pure: it keeps no state and a crash loses nothing.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The version of the API, on every answer.
pub const API_VERSION: &str = "v2.5";

/// The header that carries [`API_VERSION`].
pub const X_API_VERSION: HeaderName = HeaderName::from_static("x-api-version");

/// The header by which a request says which version it was written for.
const ACCEPT_VERSION: HeaderName = HeaderName::from_static("accept-version");

/// The highest minor version of version 2.
const HIGHEST_MINOR: u32 = 5;

/// Until when the paths of version 1 are promised to work, as an HTTP date (RFC 8594).
const V1_SUNSET: &str = "Fri, 31 Dec 2027 23:59:59 GMT";

/// The same as the plain date that `X-Sunset` has.
const V1_SUNSET_DATE: &str = "2027-12-31";

/// Whether a request asks for no version in particular, or for one whose major number is among `served`.
pub fn is_served(headers: &HeaderMap, served: &[u32]) -> bool {
    headers.get_all(&ACCEPT_VERSION).iter().all(|value| {
        let wanted = value.to_str().ok().and_then(major);
        wanted.is_some_and(|major| served.contains(&major))
    })
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

/// Marks the answer of a path of version 1 and names the path that follows it (RFC 8288). `true` rather than the date
/// of RFC 9745 is what MUTT 2.x sent and its clients look for; so are the two headers that begin with `X-`.
pub fn mark_deprecated(headers: &mut HeaderMap, successor: HeaderValue) {
    for (name, value) in
        [("deprecation", "true"), ("x-api-deprecated", "true"), ("sunset", V1_SUNSET), ("x-sunset", V1_SUNSET_DATE)]
    {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.append("link", successor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_served_are_told_from_those_that_are_not() {
        let check = |sent: &[u8], served: &[u32], expected| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_VERSION, HeaderValue::from_bytes(sent).expect("a header value"));
            assert_eq!(is_served(&headers, served), expected, "{}", String::from_utf8_lossy(sent));
        };
        for sent in ["v2", "2", "V2", " v2.5 ", "2.0"] {
            check(sent.as_bytes(), &[2], true);
        }
        for sent in ["v1", "v3", "v2.6", "v99", "abc", "", "v", "2.", "+2", "v2.5.1", "99999999999"] {
            check(sent.as_bytes(), &[2], false);
        }
        check(b"v1", &[1, 2], true);
        check(b"caf\xc3\xa9", &[1, 2], false);
        assert!(is_served(&HeaderMap::new(), &[2]));
    }

    #[test]
    fn both_forms_of_the_sunset_name_the_same_day() {
        let time = chrono::DateTime::parse_from_rfc2822(V1_SUNSET).expect("an HTTP date");
        assert_eq!(time.format("%Y-%m-%d").to_string(), V1_SUNSET_DATE);
    }
}
