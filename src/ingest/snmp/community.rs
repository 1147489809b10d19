//! Communities: which are accepted. Pure; a community is never logged, right or wrong, because a wrong one is often
//! another device's right one.

use subtle::{Choice, ConstantTimeEq};

use crate::secret::Secret;

/// Whether a community is one of the accepted ones. All are compared, and each in a time that depends on its length
/// only; an empty one never counts.
pub(super) fn is_accepted(offered: &[u8], accepted: &[Secret]) -> bool {
    let mut found = Choice::from(0);
    for community in accepted.iter().filter(|community| !community.is_empty()) {
        found |= community.reveal().as_bytes().ct_eq(offered);
    }
    found.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_communities_are_accepted() {
        let accepted = ["public", "", "next"].map(Secret::new);
        for (offered, expected) in [("public", true), ("next", true), ("", false), ("publi", false), ("Public", false)]
        {
            assert_eq!(is_accepted(offered.as_bytes(), &accepted), expected, "{offered}");
        }
        assert!(!is_accepted(b"public", &[]));
    }
}
