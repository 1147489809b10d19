//! Which peers with a wrong API key, community or TLS handshake are mentioned in the log: each once a minute, and not too
//! many of them.
//!
//! Every one of their tries is counted elsewhere; this only keeps a flood of them out of the log. In memory
//! only, bounded; a restart mentions everyone anew.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often one peer is mentioned.
const EVERY: Duration = Duration::from_secs(60);
/// Peers remembered, at most; while all places are taken, further peers are counted but not mentioned.
const MAX_PEERS: usize = 1_024;

/// Remembers when peers that were refused were mentioned last.
#[derive(Debug, Default)]
pub struct Strangers {
    mentioned: HashMap<IpAddr, Instant>,
}

impl Strangers {
    /// Whether `peer` is to be mentioned now; then it is not again for a minute.
    pub fn mention(&mut self, peer: IpAddr, now: Instant) -> bool {
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
