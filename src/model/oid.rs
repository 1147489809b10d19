//! Object identifiers, compared arc by arc: 1.3.6 is not a prefix of 1.3.61.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An object identifier as its arcs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Oid(Vec<u32>);

/// Text that is not an OID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an object identifier: give numbers separated by dots, such as 1.3.6.1.4.1.9 (at most 128 of them)"
)]
pub struct InvalidOid(pub String);

impl Oid {
    /// Sub-identifiers an OID may have (RFC 2578 section 3.5).
    pub const MAX_ARCS: usize = 128;

    /// From arcs.
    pub fn new(arcs: Vec<u32>) -> Self {
        Self(arcs)
    }

    /// The arcs.
    pub fn arcs(&self) -> &[u32] {
        &self.0
    }

    /// True if `self` is `other` or one of its ancestors.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// This OID with further arcs appended.
    pub fn child(&self, arcs: &[u32]) -> Self {
        let mut all = self.0.clone();
        all.extend_from_slice(arcs);
        Self(all)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arc) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            write!(f, "{arc}")?;
        }
        Ok(())
    }
}

impl FromStr for Oid {
    type Err = InvalidOid;

    /// Tolerates a leading dot and a trailing `.*` or `.`, as operators write prefixes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidOid(text.chars().take(80).collect());
        let trimmed = text.trim();
        let trimmed = trimmed.strip_suffix('*').unwrap_or(trimmed);
        let trimmed = trimmed.strip_suffix('.').unwrap_or(trimmed);
        let trimmed = trimmed.strip_prefix('.').unwrap_or(trimmed);
        let arcs: Result<Vec<u32>, _> = trimmed.split('.').map(|arc| arc.parse::<u32>()).collect();
        match arcs {
            // u32::from_str accepts a leading plus sign, an OID does not.
            Ok(arcs) if arcs.len() <= Self::MAX_ARCS && !trimmed.contains('+') => Ok(Self(arcs)),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: &str, oid: &str, expected: bool) {
        let prefix: Oid = prefix.parse().expect("a valid prefix");
        let oid: Oid = oid.parse().expect("a valid oid");
        assert_eq!(prefix.is_prefix_of(&oid), expected, "{prefix} of {oid}");
    }

    #[test]
    fn a_prefix_ends_at_an_arc() {
        check("1.3.6.1.4.1.9", "1.3.6.1.4.1.9.9.41", true);
        check("1.3.6.1.4.1.9", "1.3.6.1.4.1.99", false);
        check(".1.3.6.1.4.1.9.*", "1.3.6.1.4.1.9", true);
        check("1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9", false);
    }

    #[test]
    fn text_that_is_no_oid_is_refused() {
        for text in ["", ".", "1..3", "1.a", "1.-3", "1.+3", "4294967296", "1.3*6"] {
            assert!(text.parse::<Oid>().is_err(), "{text}");
        }
    }
}
