//! Who may post: the API key of a request, compared so that the time taken tells nothing about the keys.

use axum::http::{HeaderMap, HeaderName, header};

use crate::ingest::Secrets;
use crate::model::Timestamp;
use crate::secret::SecretPair;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whether a request carries one of the keys, as `X-API-KEY` or as `Authorization: Bearer`. The use is counted.
pub(super) fn authorised(headers: &HeaderMap, secrets: &Secrets, now: Timestamp) -> bool {
    let plain = headers.get_all(API_KEY).iter().map(|value| value.as_bytes());
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| bearer_token(value.as_bytes()));
    // Each header twice or more is odd but harmless; the number is bounded by the server's limit on headers.
    plain.chain(bearer).any(|offered| matches_any(offered, &secrets.api_keys, now))
}

/// The token of a Bearer credential (RFC 6750 section 2.1; RFC 9110 makes the scheme's case irrelevant).
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Every key is compared, whichever it is.
fn matches_any(offered: &[u8], keys: &[SecretPair], now: Timestamp) -> bool {
    let found: Vec<_> = keys.iter().filter_map(|key| Some((key, key.find(offered)?))).collect();
    if let Some((key, slot)) = found.first() {
        key.used(*slot, now);
    }
    !found.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, value: &str, expected: bool) {
        let secrets = Secrets {
            api_keys: vec![
                SecretPair::new("admin_api_key", ""),
                SecretPair::new("ingest_api_key", "current").with_next("next"),
            ],
            communities: vec![],
        };
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), value.parse().expect("a header value"));
        assert_eq!(authorised(&headers, &secrets, Timestamp::from_millis(1)), expected, "{name}: {value}");
    }

    #[test]
    fn current_and_next_key_are_accepted_in_both_headers() {
        check("x-api-key", "current", true);
        check("x-api-key", "next", true);
        check("authorization", "Bearer next", true);
        check("authorization", "bearer current", true);
    }

    #[test]
    fn anything_else_is_refused() {
        check("x-api-key", "", false);
        check("x-api-key", "curren", false);
        check("x-api-key", "currentx", false);
        check("authorization", "current", false);
        check("authorization", "Basic current", false);
        check("authorization", "Bearer ", false);
        check("host", "current", false);
    }
}
