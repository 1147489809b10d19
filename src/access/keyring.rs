//! The ring of API keys: who a key belongs to and whether it may be used for this, from here, now.
//!
//! A caller's key is looked up by its SHA-256 and never compared itself. Keys are random numbers of 256 bits, so a fast
//! hash protects them at rest as a slow one would: there is nothing to guess. The lookup is lock-free; the ring is
//! replaced as a whole when keys change, and what is known of their use is carried over. Uses are written to the store
//! by whoever owns the ring, some time later; a crash forgets the last minute of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Network, Scope, Scopes};
use crate::model::Timestamp;
use crate::secret::Slot;
use crate::telemetry::metrics::{API_KEY_REFUSED, API_KEY_USED};

/// SHA-256 of a key.
pub type Hash = [u8; 32];

/// What is kept of a key in its place.
pub fn hash_of(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

/// A key as the ring needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingKey {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Where it may be used from; empty for everywhere.
    pub networks: Vec<Network>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// The hash of CURRENT.
    pub current: Hash,
    /// The hash of NEXT, while it is exchanged.
    pub next: Option<Hash>,
}

/// When and from where a key was used.
#[derive(Debug, Default)]
struct Use {
    /// Microseconds since the epoch; 0 for never since the start.
    at: AtomicI64,
    /// What of it is in the store.
    written: AtomicI64,
    from: ArcSwapOption<IpAddr>,
}

struct Entry {
    key: RingKey,
    used: Arc<Use>,
}

/// All keys, found by the hashes of their values.
#[derive(Default)]
pub struct KeyRing {
    entries: Vec<Entry>,
    places: HashMap<Hash, (usize, Slot)>,
}

/// Why a known key may not be used for this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended: 401.
    #[error("the API key has expired")]
    Expired,
    /// It is used from elsewhere: 403.
    #[error("the API key may not be used from this address")]
    Network,
    /// It is for something else: 403.
    #[error("the API key lacks the scope `{}`", .0.name())]
    Scope(Scope),
}

impl Refusal {
    /// The label's value.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Network => "network",
            Self::Scope(_) => "scope",
        }
    }
}

/// What the ring says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is none of ours.
    Unknown,
    /// It is, and may not be used so.
    Refused(Refusal),
    /// The key of this name; it may.
    Granted(String),
}

impl KeyRing {
    /// A ring of these keys that goes on from `earlier`.
    pub fn new(keys: Vec<RingKey>, earlier: &Self) -> Self {
        let known = |name: &str| earlier.entries.iter().find(|entry| entry.key.name == name);
        let entries: Vec<Entry> = keys
            .into_iter()
            .map(|key| Entry { used: known(&key.name).map(|entry| Arc::clone(&entry.used)).unwrap_or_default(), key })
            .collect();
        let mut places = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            places.insert(entry.key.current, (index, Slot::Current));
            places.extend(entry.key.next.map(|next| (next, (index, Slot::Next))));
        }
        Self { entries, places }
    }

    /// Whether `offered`, sent by `peer`, may be used for what needs `scope`. Uses and refusals are counted.
    pub fn check(&self, offered: &[u8], scope: Scope, peer: IpAddr, now: Timestamp) -> Verdict {
        let hash = hash_of(offered);
        let Some((entry, slot)) =
            self.places.get(&hash).and_then(|(index, slot)| Some((self.entries.get(*index)?, slot)))
        else {
            return Verdict::Unknown;
        };
        let kept = match slot {
            Slot::Current => Some(entry.key.current),
            Slot::Next => entry.key.next,
        };
        // The map compares as it likes; what decides is this, in a time that tells nothing.
        if !bool::from(kept.unwrap_or_default().ct_eq(&hash)) {
            return Verdict::Unknown;
        }
        if let Some(refusal) = entry.key.refusal(scope, peer, now) {
            metrics::counter!(API_KEY_REFUSED, "reason" => refusal.reason()).increment(1);
            return Verdict::Refused(refusal);
        }
        metrics::counter!(API_KEY_USED, "key" => entry.key.name.clone(), "slot" => slot.name()).increment(1);
        entry.used.note(peer, now);
        Verdict::Granted(entry.key.name.clone())
    }

    /// When and from where the key of this name was used since the start.
    pub fn used(&self, name: &str) -> Option<(Timestamp, IpAddr)> {
        self.entries.iter().find(|entry| entry.key.name == name)?.used.last()
    }

    /// Uses that are not in the store yet; they count as written from now on.
    pub fn take_uses(&self) -> Vec<(String, Timestamp, IpAddr)> {
        let news = self.entries.iter().filter_map(|entry| {
            let (at, from) = entry.used.last()?;
            let written = entry.used.written.swap(at.as_micros(), Ordering::Relaxed);
            (written != at.as_micros()).then(|| (entry.key.name.clone(), at, from))
        });
        news.collect()
    }
}

impl RingKey {
    fn refusal(&self, scope: Scope, peer: IpAddr, now: Timestamp) -> Option<Refusal> {
        if self.expires_at.is_some_and(|end| now >= end) {
            return Some(Refusal::Expired);
        }
        if !self.networks.is_empty() && !self.networks.iter().any(|network| network.contains(peer)) {
            return Some(Refusal::Network);
        }
        (!self.scopes.allow(scope)).then_some(Refusal::Scope(scope))
    }
}

impl Use {
    fn note(&self, peer: IpAddr, now: Timestamp) {
        self.at.store(now.as_micros().max(1), Ordering::Relaxed);
        if self.from.load().as_deref() != Some(&peer) {
            self.from.store(Some(Arc::new(peer)));
        }
    }

    fn last(&self) -> Option<(Timestamp, IpAddr)> {
        let at = self.at.load(Ordering::Relaxed);
        let from = self.from.load_full()?;
        (at != 0).then(|| (Timestamp::from_micros(at), *from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    fn key(name: &str, current: &str, scopes: &str) -> RingKey {
        RingKey {
            name: name.to_owned(),
            scopes: Scopes::parse(scopes).expect("scopes"),
            networks: Vec::new(),
            expires_at: None,
            current: hash_of(current.as_bytes()),
            next: None,
        }
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_key_is_granted_what_it_is_for() {
        let exchanged = RingKey { next: Some(hash_of(b"next")), ..key("rsyslog", "current", "ingest") };
        let narrow =
            RingKey { networks: vec!["192.0.2.0/24".parse().expect("a network")], ..key("lab", "lab", "write") };
        let ended = RingKey { expires_at: Some(NOON), ..key("old", "old", "admin") };
        let ring = KeyRing::new(vec![exchanged, narrow, ended], &KeyRing::default());
        let check = |offered: &str, scope: Scope, from: &str, expected: Verdict| {
            assert_eq!(ring.check(offered.as_bytes(), scope, peer(from), NOON), expected, "{offered}");
        };
        let granted = |name: &str| Verdict::Granted(name.to_owned());
        check("current", Scope::Ingest, "198.51.100.1", granted("rsyslog"));
        check("next", Scope::Ingest, "198.51.100.1", granted("rsyslog"));
        check("current", Scope::Read, "198.51.100.1", Verdict::Refused(Refusal::Scope(Scope::Read)));
        check("lab", Scope::Read, "192.0.2.9", granted("lab"));
        check("lab", Scope::Read, "198.51.100.1", Verdict::Refused(Refusal::Network));
        check("old", Scope::Read, "192.0.2.9", Verdict::Refused(Refusal::Expired));
        check("guess", Scope::Ingest, "192.0.2.9", Verdict::Unknown);
        check("", Scope::Ingest, "192.0.2.9", Verdict::Unknown);
    }

    #[test]
    fn uses_are_told_once_and_carried_over() {
        let ring = KeyRing::new(vec![key("a", "one", "ingest"), key("b", "two", "ingest")], &KeyRing::default());
        assert_eq!((ring.used("a"), ring.take_uses().len()), (None, 0));
        ring.check(b"one", Scope::Ingest, peer("192.0.2.9"), NOON);
        let ring = KeyRing::new(vec![key("a", "three", "ingest")], &ring);
        assert_eq!(ring.used("a"), Some((NOON, peer("192.0.2.9"))));
        assert_eq!(ring.take_uses(), [("a".to_owned(), NOON, peer("192.0.2.9"))]);
        assert!(ring.take_uses().is_empty());
    }
}
