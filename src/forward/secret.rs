//! Keys towards receivers: types that can be handed on and compared, but not printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A key, token or secret address.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key; an empty one means that there is none.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Whether there is one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key itself, for the request that needs it and nothing else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(..)" })
    }
}

/// A key that can be exchanged without a gap: when CURRENT is refused, NEXT is tried at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretPair {
    /// CURRENT.
    pub current: Secret,
    /// NEXT, while a key is being exchanged.
    pub next: Option<Secret>,
}

impl SecretPair {
    /// The keys there are, CURRENT first.
    pub fn keys(&self) -> impl Iterator<Item = &Secret> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().filter(|key| !key.is_empty())
    }
}

/// The secrets that a target's options name (see [`super::KindOptions::secrets`]), by name.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let pair = SecretPair { current: Secret::new("k3y"), next: Some(Secret::new("n3xt")) };
        let secrets = Secrets::new(BTreeMap::from([("a".to_owned(), pair.clone())]));
        let printed = format!("{pair:?} {secrets:?}");
        assert!(!printed.contains("k3y") && !printed.contains("n3xt"), "{printed}");
        assert_eq!(pair.keys().count(), 2);
        assert_eq!(SecretPair::default().keys().count(), 0, "an empty key is none");
    }
}
