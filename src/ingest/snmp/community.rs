//! Communities: which are accepted, and who is mentioned in the log for using another.
//!
//! Never logs a community, right or wrong: a wrong one is often another device's right one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::{Choice, ConstantTimeEq};

/// How often one peer is mentioned.
const EVERY: Duration = Duration::from_secs(60);
/// Peers remembered, at most; while all places are taken, further peers are counted but not mentioned.
const MAX_PEERS: usize = 1_024;

/// Whether a community is one of the accepted ones. All are compared, and each in a time that depends on its length
/// only; an empty one never counts.
pub(super) fn is_accepted(offered: &[u8], accepted: &[String]) -> bool {
    let mut found = Choice::from(0);
    for community in accepted.iter().filter(|community| !community.is_empty()) {
        found |= community.as_bytes().ct_eq(offered);
    }
    found.into()
}

/// Remembers when peers with a wrong community were mentioned last.
#[derive(Default)]
pub(super) struct Strangers {
    mentioned: HashMap<IpAddr, Instant>,
}

impl Strangers {
    /// Whether `peer` is to be mentioned now; then it is not again for a minute.
    pub(super) fn mention(&mut self, peer: IpAddr, now: Instant) -> bool {
        if self.mentioned.get(&peer).is_some_and(|last| now.duration_since(*last) < EVERY) {
            return false;
        }
        if self.mentioned.len() >= MAX_PEERS {
            self.mentioned.retain(|_, last| now.duration_since(*last) < EVERY);
        }
        if self.mentioned.len() >= MAX_PEERS {
            return false;
        }
        self.mentioned.insert(peer, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_communities_are_accepted() {
        let accepted = ["public".to_owned(), String::new(), "next".to_owned()];
        for (offered, expected) in [("public", true), ("next", true), ("", false), ("publi", false), ("Public", false)]
        {
            assert_eq!(is_accepted(offered.as_bytes(), &accepted), expected, "{offered}");
        }
        assert!(!is_accepted(b"public", &[]));
    }

    #[test]
    fn a_stranger_is_mentioned_once_a_minute_and_their_number_is_bounded() {
        let mut strangers = Strangers::default();
        let start = Instant::now();
        let peer = |number: u32| IpAddr::from(number.to_be_bytes());
        assert!(strangers.mention(peer(1), start));
        assert!(!strangers.mention(peer(1), start + EVERY / 2));
        assert!(strangers.mention(peer(1), start + EVERY));
        let now = start + EVERY;
        assert_eq!((2..5_000).filter(|number| strangers.mention(peer(*number), now)).count(), MAX_PEERS - 1);
        assert!(strangers.mention(peer(5_000), now + EVERY), "old entries make room");
    }
}
