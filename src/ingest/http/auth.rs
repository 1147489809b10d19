//! Who may post: the API key of a request, compared so that the time taken tells nothing about the keys.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};

use crate::access::{KeyRing, Refusal, Scope, Verdict};
use crate::ingest::Secrets;
use crate::model::Timestamp;
use crate::secret::SecretPair;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// No key, or none of ours.
    Stranger,
    /// One of ours that may not be used so.
    Refused(Refusal),
}

/// Where a request's keys are looked up.
pub(super) struct Keys<'a> {
    /// The configured ones.
    pub(super) secrets: &'a Secrets,
    /// The named ones.
    pub(super) ring: &'a KeyRing,
}

impl Keys<'_> {
    /// Whether a request from `peer` carries a key that may send events, as `X-API-KEY` or as `Authorization: Bearer`. The
    /// use is counted.
    pub(super) fn admit(&self, headers: &HeaderMap, peer: IpAddr, now: Timestamp) -> Result<(), Denied> {
        let plain = headers.get_all(API_KEY).iter().map(|value| value.as_bytes());
        let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| bearer_token(value.as_bytes()));
        let mut denied = Denied::Stranger;
        // Each header twice or more is odd but harmless; the number is bounded by the server's limit on headers.
        for offered in plain.chain(bearer) {
            if matches_any(offered, &self.secrets.api_keys, now) {
                return Ok(());
            }
            match self.ring.check(offered, Scope::Ingest, peer, now) {
                Verdict::Granted(_) => return Ok(()),
                Verdict::Refused(refusal) => denied = Denied::Refused(refusal),
                Verdict::Unknown => {}
            }
        }
        Err(denied)
    }
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
    use crate::access::{RingKey, Scopes, hash_of};

    fn ring() -> KeyRing {
        let key = |name: &str, value: &[u8], scopes| RingKey {
            name: name.into(),
            scopes: Scopes::parse(scopes).expect("scopes"),
            networks: Vec::new(),
            expires_at: None,
            current: hash_of(value),
            next: None,
        };
        let keys = vec![key("rsyslog", b"mutt_rsyslog", "ingest"), key("viewer", b"mutt_viewer", "read")];
        KeyRing::new(keys, &KeyRing::default())
    }

    fn admitted(name: &'static str, value: &str) -> Result<(), Denied> {
        let secrets = Secrets {
            api_keys: vec![
                SecretPair::new("admin_api_key", ""),
                SecretPair::new("ingest_api_key", "current").with_next("next"),
            ],
            communities: vec![],
        };
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), value.parse().expect("a header value"));
        let keys = Keys { secrets: &secrets, ring: &ring() };
        keys.admit(&headers, IpAddr::from([192, 0, 2, 7]), Timestamp::from_millis(1))
    }

    fn check(name: &'static str, value: &str, expected: bool) {
        let expected = if expected { Ok(()) } else { Err(Denied::Stranger) };
        assert_eq!(admitted(name, value), expected, "{name}: {value}");
    }

    #[test]
    fn current_and_next_key_are_accepted_in_both_headers() {
        check("x-api-key", "current", true);
        check("x-api-key", "next", true);
        check("authorization", "Bearer next", true);
        check("authorization", "bearer current", true);
    }

    #[test]
    fn named_keys_with_the_scope_are_accepted_and_others_told_what_they_lack() {
        check("x-api-key", "mutt_rsyslog", true);
        check("authorization", "Bearer mutt_rsyslog", true);
        let lacking = Err(Denied::Refused(Refusal::Scope(Scope::Ingest)));
        assert_eq!(admitted("x-api-key", "mutt_viewer"), lacking);
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
