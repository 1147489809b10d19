//! Keys, tokens and passwords: types that can be handed on, compared and used, but neither printed nor serialised.
//!
//! A value is kept once, however often it is cloned, and overwritten with zeros when the last clone is gone. With it goes
//! when it was last used, so that a key that is exchanged takes its history along from NEXT to CURRENT. Nothing is
//! written anywhere; a crash forgets when keys were used.

pub mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::model::Timestamp;
use crate::telemetry::metrics::SECRET_USED;

/// A key, token or secret address. The empty one means that there is none, and nothing matches it.
#[derive(Clone, Default)]
pub struct Secret(Option<Arc<Kept>>);

/// A value, its digest, which is what is compared, and microseconds since the epoch at its last use; 0 before the first.
struct Kept {
    value: Zeroizing<String>,
    digest: Zeroizing<[u8; 32]>,
    used: AtomicI64,
}

impl Secret {
    /// Wraps a value; an empty one means that there is none.
    pub fn new(value: impl Into<String>) -> Self {
        let value = Zeroizing::new(value.into());
        if value.is_empty() {
            return Self(None);
        }
        let digest = Zeroizing::new(Sha256::digest(value.as_bytes()).into());
        Self(Some(Arc::new(Kept { value, digest, used: AtomicI64::new(0) })))
    }

    /// A random key of 256 bits as 64 hexadecimal digits.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes.iter() {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        Ok(Self::new(text))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The value itself, for the request, the comparison or the file that needs it and nothing else.
    pub fn reveal(&self) -> &str {
        self.0.as_ref().map_or("", |kept| kept.value.as_str())
    }

    /// Whether `offered` is this value. Digests have one length, so neither the value's length nor its first characters
    /// show in the time taken.
    pub fn matches(&self, offered: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.digest.ct_eq(Sha256::digest(offered).as_slice()).into())
    }

    /// When it was last used since the process knows it.
    pub fn last_used(&self) -> Option<Timestamp> {
        let used = self.0.as_ref()?.used.load(Ordering::Relaxed);
        (used != 0).then(|| Timestamp::from_micros(used))
    }

    /// Notes a use; says whether it was the first.
    fn mark_used(&self, now: Timestamp) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.used.swap(now.as_micros().max(1), Ordering::Relaxed) == 0)
    }

    /// Goes on as `other` if it has the same value, so that the uses of both are one.
    fn go_on_as(&mut self, other: &Self) {
        if self == other {
            self.clone_from(other);
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => one.digest.ct_eq(other.digest.as_slice()).into(),
            (one, other) => one.is_none() == other.is_none(),
        }
    }
}

impl Eq for Secret {}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(..)" })
    }
}

/// One of the two places of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// What is used.
    Current,
    /// What will be, while it is exchanged.
    Next,
}

impl Slot {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
        }
    }
}

/// A secret that can be exchanged without a gap. From callers both values are taken; towards receivers NEXT is tried when
/// CURRENT is refused.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretPair {
    /// What it is called in logs, metrics and pages.
    pub name: Arc<str>,
    /// CURRENT.
    pub current: Secret,
    /// NEXT, while it is exchanged.
    pub next: Option<Secret>,
}

impl SecretPair {
    /// A secret without NEXT.
    pub fn new(name: &str, current: impl Into<Secret>) -> Self {
        Self { name: name.into(), current: current.into(), next: None }
    }

    /// The same with a NEXT; an empty one is none.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<Secret>) -> Self {
        self.next = Some(next.into()).filter(|next| !next.is_empty());
        self
    }

    /// The values there are with their places, CURRENT first.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, &Secret)> {
        let next = self.next.as_ref().map(|next| (Slot::Next, next));
        [Some((Slot::Current, &self.current)), next].into_iter().flatten().filter(|(_, value)| !value.is_empty())
    }

    /// The values there are, CURRENT first.
    pub fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.slots().map(|(_, value)| value)
    }

    /// Which of them `offered` is. Both are compared, whichever it is.
    pub fn find(&self, offered: &[u8]) -> Option<Slot> {
        let mut found = None;
        for (slot, value) in self.slots() {
            if value.matches(offered) {
                found = found.or(Some(slot));
            }
        }
        found
    }

    /// Counts a use of one of them, and says so in the log when it is the first of that value.
    pub fn used(&self, slot: Slot, now: Timestamp) {
        metrics::counter!(SECRET_USED, "secret" => Arc::clone(&self.name), "slot" => slot.name()).increment(1);
        let value = match slot {
            Slot::Current => Some(&self.current),
            Slot::Next => self.next.as_ref(),
        };
        if value.is_some_and(|value| value.mark_used(now)) {
            let (name, slot) = (&*self.name, slot.name());
            tracing::info!(secret = name, slot, "The {slot} value of the secret `{name}` is used for the first time");
        }
    }

    /// Takes over when the values were used from `earlier`, the same secret before it was read again. A value that was
    /// NEXT and is CURRENT now keeps its history.
    pub fn go_on_from(&mut self, earlier: &Self) {
        for known in earlier.keys() {
            self.current.go_on_as(known);
            if let Some(next) = &mut self.next {
                next.go_on_as(known);
            }
        }
    }
}

impl Default for SecretPair {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl fmt::Debug for SecretPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretPair({:?}, {} values)", self.name, self.keys().count())
    }
}

/// The secrets that a target's options name, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets(Arc<BTreeMap<String, SecretPair>>);

impl Secrets {
    /// Wraps them.
    pub fn new(secrets: BTreeMap<String, SecretPair>) -> Self {
        Self(Arc::new(secrets))
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<&SecretPair> {
        self.0.get(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SecretPair> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    #[test]
    fn secrets_are_not_printed() {
        let pair = SecretPair::new("a", "k3y").with_next("n3xt");
        let secrets = Secrets::new(BTreeMap::from([("a".to_owned(), pair.clone())]));
        let printed = format!("{pair:?} {pair:#?} {secrets:?} {:?}", pair.current);
        assert!(!printed.contains("k3y") && !printed.contains("n3xt"), "{printed}");
    }

    #[test]
    fn an_offered_value_is_found_in_its_place_and_the_empty_one_nowhere() {
        let pair = SecretPair::new("a", "current").with_next("next");
        let check = |offered: &str, expected: Option<Slot>| {
            assert_eq!(pair.find(offered.as_bytes()), expected, "{offered}");
        };
        check("current", Some(Slot::Current));
        check("next", Some(Slot::Next));
        check("curren", None);
        check("currentx", None);
        check("", None);
        let empty = SecretPair::new("a", "").with_next("");
        assert_eq!((empty.keys().count(), empty.find(b"")), (0, None));
        assert!(!Secret::default().matches(b""));
        let only_next = SecretPair::new("a", "").with_next("next");
        assert_eq!(only_next.find(b"next"), Some(Slot::Next), "it stays NEXT when there is no CURRENT");
    }

    #[test]
    fn a_value_takes_its_last_use_along_when_it_becomes_current() {
        let before = SecretPair::new("a", "old").with_next("new");
        before.used(Slot::Next, NOON);
        assert_eq!((before.current.last_used(), before.keys().count()), (None, 2));
        let mut after = SecretPair::new("a", "new");
        assert_eq!(after.current.last_used(), None);
        after.go_on_from(&before);
        assert_eq!(after.current.last_used(), Some(NOON));
        let mut other = SecretPair::new("a", "another");
        other.go_on_from(&before);
        assert_eq!(other.current.last_used(), None, "another value has its own history");
    }

    #[test]
    fn random_keys_are_long_and_differ() {
        let (first, second) = (Secret::random().expect("random"), Secret::random().expect("random"));
        assert_eq!(first.reveal().len(), 64);
        assert!(first.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(first != second && first == first.clone());
    }
}
