//! Informs seen lately, so that a repetition is answered again but makes no second event.
//!
//! A repetition is the same datagram from the same address and port within [`REMEMBERED`]. The request-id alone would not
//! do: an agent that starts anew counts from the beginning again, and an inform taken for a repetition would be answered
//! and lost. In memory only: after a restart a repetition becomes a second event (at least once).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an inform is remembered: senders give up after a few tries some seconds apart.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Informs remembered, at most (about a megabyte); beyond that the oldest are forgotten first.
const MAX_INFORMS: usize = 8_192;

/// What an inform is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct InformKey {
    peer: SocketAddr,
    /// Of the whole datagram, keyed at random so that nobody can make two collide.
    digest: u64,
}

/// What to do with an inform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Take it.
    New,
    /// It is being stored; the answer will follow.
    Waiting,
    /// It is stored; answer again.
    Stored,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    since: Instant,
    is_stored: bool,
}

/// The informs of the last seconds.
#[derive(Default)]
pub(super) struct RecentInforms {
    entries: HashMap<InformKey, Entry>,
    order: VecDeque<(Instant, InformKey)>,
    hasher: RandomState,
}

impl RecentInforms {
    /// Notes an inform and says what to do with it.
    pub(super) fn note(&mut self, peer: SocketAddr, datagram: &[u8], now: Instant) -> (InformKey, Seen) {
        self.forget_old(now);
        let key = InformKey { peer, digest: self.hasher.hash_one(datagram) };
        match self.entries.get(&key) {
            Some(entry) if entry.is_stored => return (key, Seen::Stored),
            Some(_) => return (key, Seen::Waiting),
            None => {}
        }
        self.entries.insert(key, Entry { since: now, is_stored: false });
        self.order.push_back((now, key));
        (key, Seen::New)
    }

    /// The event of an inform is on stable storage.
    pub(super) fn stored(&mut self, key: InformKey) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.is_stored = true;
        }
    }

    /// An inform was refused: its repetition is a new try.
    pub(super) fn forget(&mut self, key: InformKey) {
        self.entries.remove(&key);
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front().copied() {
            if now.duration_since(since) < REMEMBERED && self.order.len() < MAX_INFORMS {
                return;
            }
            self.order.pop_front();
            // An inform that was refused and came again has a younger entry, with a place of its own in the order.
            if self.entries.get(&key).is_some_and(|entry| entry.since == since) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_repetition_is_known_until_it_is_forgotten() {
        let mut recent = RecentInforms::default();
        let start = Instant::now();
        let (key, seen) = recent.note(peer(1), b"a", start);
        assert_eq!(seen, Seen::New);
        assert_eq!(recent.note(peer(1), b"a", start).1, Seen::Waiting);
        recent.stored(key);
        assert_eq!(recent.note(peer(1), b"a", start + REMEMBERED / 2).1, Seen::Stored);
        assert_eq!(recent.note(peer(2), b"a", start).1, Seen::New, "another peer");
        assert_eq!(recent.note(peer(1), b"b", start).1, Seen::New, "another message");
        assert_eq!(recent.note(peer(1), b"a", start + REMEMBERED).1, Seen::New, "too long ago");
    }

    #[test]
    fn a_refused_inform_may_come_again() {
        let mut recent = RecentInforms::default();
        let start = Instant::now();
        let (key, _) = recent.note(peer(1), b"a", start);
        recent.forget(key);
        let later = start + Duration::from_secs(1);
        assert_eq!(recent.note(peer(1), b"a", later).1, Seen::New);
        // The first entry's place in the order expires before the second's and must not take it along.
        assert_eq!(recent.note(peer(1), b"a", start + REMEMBERED).1, Seen::Waiting);
    }

    #[test]
    fn the_number_of_informs_remembered_is_bounded() {
        let mut recent = RecentInforms::default();
        let now = Instant::now();
        for number in 0..20_000_u32 {
            recent.note(peer(1), &number.to_be_bytes(), now);
        }
        assert!(recent.entries.len() <= MAX_INFORMS && recent.order.len() <= MAX_INFORMS);
    }
}
