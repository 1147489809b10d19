//! Which certificate each listener serves, until when, and what was wrong with the one that should follow it: what pages,
//! `/ready` and the metrics show of TLS. Holds no key and is kept in memory only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::metrics::TLS_EXPIRY;
use crate::model::Timestamp;

/// From when on a certificate that ends is spoken of: time enough to order one.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its file.
    pub file: String,
    /// SHA-256 of it, as browsers show it.
    pub fingerprint: String,
    /// From when it is valid.
    pub from: Timestamp,
    /// Until when it is valid.
    pub to: Timestamp,
    /// Since when it is served.
    pub since: Timestamp,
}

/// TLS of one listener as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The listener.
    pub listener: &'static str,
    /// Whether clients show certificates: `off`, `optional`, `required`.
    pub clients: &'static str,
    /// What is served; `None` when there is nothing usable, and no connection gets through.
    pub facts: Option<CertificateFacts>,
    /// Why the files cannot be used as they are now.
    pub problem: Option<String>,
}

impl CertificateStatus {
    /// What an operator should do about it, if something should be done.
    pub fn hint(&self, now: Timestamp) -> Option<String> {
        let listener = self.listener;
        match (&self.facts, &self.problem) {
            (None, Some(why)) => Some(format!("{listener} lets nobody in: {why}")),
            (Some(_), Some(why)) => Some(format!("{listener} goes on with its old certificate: {why}")),
            (Some(facts), None) if facts.to <= now => {
                Some(format!("the certificate of {listener} (`{}`) expired on {}; renew it", facts.file, facts.to))
            }
            (Some(facts), None) if facts.to.since(now) < WARN_BEFORE => {
                let days = facts.to.since(now).as_secs() / 86_400;
                Some(format!("the certificate of {listener} (`{}`) expires in {days} days; renew it", facts.file))
            }
            _ => None,
        }
    }

    /// Whether connections get through.
    pub const fn serves(&self) -> bool {
        self.facts.is_some()
    }
}

/// The certificates of all listeners; clones share it.
#[derive(Debug, Clone, Default)]
pub struct CertificateBoard {
    lines: Arc<Mutex<BTreeMap<&'static str, CertificateStatus>>>,
}

impl CertificateBoard {
    /// Puts a listener's line in the place of its last.
    pub fn put(&self, status: CertificateStatus) {
        self.lines.lock().insert(status.listener, status);
    }

    /// The listener speaks no TLS any more.
    pub fn remove(&self, listener: &'static str) {
        self.lines.lock().remove(listener);
    }

    /// Every line, by listener.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.lines.lock().values().cloned().collect()
    }

    /// Brings the gauges up to date.
    pub fn publish(&self, now: Timestamp) {
        for status in self.status() {
            let Some(facts) = status.facts else { continue };
            let left = facts.to.as_seconds() - now.as_seconds();
            metrics::gauge!(TLS_EXPIRY, "listener" => status.listener).set(left as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_says_what_to_do_and_only_then() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let check = |days: i64, problem: Option<&str>, expected: &[&str]| {
            let to = Timestamp::from_micros(now.as_micros() + days * 86_400_000_000);
            let facts = CertificateFacts {
                file: "/etc/muttd/web.pem".into(),
                fingerprint: "AB".into(),
                from: Timestamp::from_micros(0),
                to,
                since: now,
            };
            let status = CertificateStatus {
                listener: "web_http",
                clients: "off",
                facts: Some(facts),
                problem: problem.map(str::to_owned),
            };
            let hint = status.hint(now).unwrap_or_default();
            assert_eq!(hint.is_empty(), expected.is_empty(), "{hint}");
            assert!(expected.iter().all(|part| hint.contains(part)), "{hint}");
        };
        check(31, None, &[]);
        check(29, None, &["web_http", "expires in 29 days", "renew"]);
        check(-1, None, &["expired", "/etc/muttd/web.pem"]);
        check(400, Some("the key does not fit"), &["goes on with its old", "the key does not fit"]);
    }
}
