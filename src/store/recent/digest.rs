//! What the events of a frame, or of a whole segment, can be: enough to pass over those that cannot hold a hit.
//!
//! Severities, protocols and whether rules matched are sets of a few bits. Hosts, peers, rules and correlation ids go into
//! a Bloom filter (B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970): it never denies what
//! is there, and admits one in forty of what is not. It lies on disk, so neither its hash nor its layout may change
//! without a new version of the frame.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::model::{EventId, Judged, Protocol, Severity};
use crate::store::EventQuery;

/// Filter bits a key is given, and how many of them it sets: 2.4 % of absent keys are admitted.
const BITS_PER_KEY: usize = 8;
const PROBES: u64 = 4;
/// Keys of a segment above which it has no filter: 64 KiB, and the frames have theirs.
const MOST_SEGMENT_KEYS: usize = 1 << 16;
/// Largest filter accepted when reading, so that damage cannot ask for all memory. A frame of large batches may have more
/// keys than a segment may.
pub(super) const MAX_FILTER: u32 = 16 << 20;
/// Keys that were met lately, to pass over most repetitions: hosts, peers and rules of one frame.
const LATELY: usize = 4_096;

/// Sets of a few bits; none set means that it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Traits {
    /// By number, the highest bit for none.
    pub(super) severities: u16,
    /// In the order of [`Protocol::ALL`].
    pub(super) protocols: u8,
    /// 1: some matched a rule, 2: some did not.
    pub(super) matched: u8,
}

impl Traits {
    fn of(judged: &Judged) -> Self {
        Self {
            severities: severity_bit(judged.event.severity),
            protocols: protocol_bit(judged.event.source.protocol),
            matched: matched_bit(judged.decision.matched.is_some()),
        }
    }

    fn join(&mut self, other: Self) {
        self.severities |= other.severities;
        self.protocols |= other.protocols;
        self.matched |= other.matched;
    }
}

fn severity_bit(severity: Option<Severity>) -> u16 {
    severity.map_or(1 << 15, |severity| 1 << severity.number())
}

fn protocol_bit(protocol: Protocol) -> u8 {
    Protocol::ALL.iter().position(|other| *other == protocol).map_or(u8::MAX, |place| 1 << place)
}

fn matched_bit(matched: bool) -> u8 {
    if matched { 1 } else { 2 }
}

/// A value that events are looked for by, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host = 1,
    Peer = 2,
    Rule = 3,
    Correlation = 4,
}

/// FNV-1a over kind and value, then mixed (the finalizer of splitmix64) so that all bits depend on all bytes.
fn key(kind: Kind, value: impl Iterator<Item = u8>) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = std::iter::once(kind as u8).chain(value).fold(0xcbf2_9ce4_8422_2325, fold);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// As [`crate::model::host_key`] compares, without a text of its own for each event.
fn host(name: &str) -> u64 {
    key(Kind::Host, name.trim().trim_end_matches('.').bytes().map(|byte| byte.to_ascii_lowercase()))
}

fn peer(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => key(Kind::Peer, address.octets().into_iter()),
        IpAddr::V6(address) => key(Kind::Peer, address.octets().into_iter()),
    }
}

fn rule(number: i64) -> u64 {
    key(Kind::Rule, number.to_le_bytes().into_iter())
}

fn correlation(id: &str) -> u64 {
    key(Kind::Correlation, id.bytes())
}

/// Gathers what the events of a frame are.
#[derive(Debug)]
pub(super) struct Gatherer {
    traits: Traits,
    keys: Vec<u64>,
    lately: Box<[u64]>,
}

impl Gatherer {
    pub(super) fn new() -> Self {
        Self { traits: Traits::default(), keys: Vec::new(), lately: vec![0; LATELY].into() }
    }

    pub(super) fn add(&mut self, judged: &Judged) {
        self.traits.join(Traits::of(judged));
        self.push(host(&judged.event.hostname));
        self.push(peer(judged.event.source.peer));
        if let Some(matched) = &judged.decision.matched {
            self.push(rule(matched.rule.0));
        }
        if let Some(id) = &judged.event.correlation_id {
            self.push(correlation(id));
        }
    }

    fn push(&mut self, key: u64) {
        let place = &mut self.lately[key as usize % LATELY];
        if *place != key {
            *place = key;
            self.keys.push(key);
        }
    }

    /// What was gathered, each key once; begins anew.
    pub(super) fn take(&mut self) -> (Traits, Vec<u64>) {
        self.lately.fill(0);
        let mut keys = std::mem::take(&mut self.keys);
        keys.sort_unstable();
        keys.dedup();
        (std::mem::take(&mut self.traits), keys)
    }
}

/// The keys of a segment that is being written; gives up when there are too many.
#[derive(Debug)]
pub(super) struct SegmentKeys(Option<HashSet<u64>>);

impl SegmentKeys {
    /// Of a new segment.
    pub(super) fn none_yet() -> Self {
        Self(Some(HashSet::new()))
    }

    /// Of a segment whose earlier frames were written by a process that is gone.
    pub(super) fn unknown() -> Self {
        Self(None)
    }

    pub(super) fn add(&mut self, keys: &[u64]) {
        if let Some(known) = &mut self.0 {
            known.extend(keys);
            if known.len() > MOST_SEGMENT_KEYS {
                self.0 = None;
            }
        }
    }

    /// The filter of what was added; one that admits everything if that is not known.
    pub(super) fn filter(&self) -> Filter {
        self.0.as_ref().map_or_else(Filter::default, |keys| Filter::of(keys.len(), keys.iter().copied()))
    }
}

/// A Bloom filter; an empty one admits everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter(Box<[u8]>);

impl Filter {
    /// Of so many keys.
    pub(super) fn of(count: usize, keys: impl Iterator<Item = u64>) -> Self {
        let mut bytes = vec![0; (count * BITS_PER_KEY).div_ceil(8).clamp(8, MAX_FILTER as usize)];
        for key in keys {
            for bit in probes(key, bytes.len()) {
                bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        Self(bytes.into())
    }

    /// As it was written.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn admits(&self, key: u64) -> bool {
        self.0.is_empty() || probes(key, self.0.len()).all(|bit| self.0[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

/// The bits of a key in a filter of so many bytes (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006).
fn probes(key: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let (first, step) = (key & u64::from(u32::MAX), (key >> 32) | 1);
    (0..PROBES).map(move |probe| ((first + probe * step) % (bytes as u64 * 8)) as usize)
}

/// What a query asks for, in these terms.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    traits: Traits,
    keys: Vec<u64>,
}

impl Wanted {
    /// Of a prepared query.
    pub(super) fn of(query: &EventQuery) -> Self {
        let traits = Traits {
            severities: query.severity.map_or(0, |severity| severity_bit(Some(severity))),
            protocols: query.protocol.map_or(0, protocol_bit),
            matched: query.matched.map_or(0, matched_bit),
        };
        // An id of the form of an event's may be that of an event which was sent without one.
        let sent = query.correlation_id.as_deref().filter(|id| id.parse::<EventId>().is_err());
        let keys = query.hostname.as_deref().map(host).into_iter();
        let keys = keys.chain(query.peer.map(peer)).chain(query.rule.map(|id| rule(id.0)));
        Self { traits, keys: keys.chain(sent.map(correlation)).collect() }
    }

    /// Whether events with these traits may be hits.
    pub(super) fn admits(&self, have: Traits) -> bool {
        let meets = |wanted: u16, have: u16| wanted == 0 || have == 0 || wanted & have != 0;
        meets(self.traits.severities, have.severities)
            && meets(self.traits.protocols.into(), have.protocols.into())
            && meets(self.traits.matched.into(), have.matched.into())
    }

    /// Whether a filter has anything to say to it.
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether events with this filter may be hits.
    pub(super) fn passes(&self, filter: &Filter) -> bool {
        self.keys.iter().all(|key| filter.admits(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_admits_all_that_is_there_and_little_else() {
        for count in [1_usize, 10, 2_000, 60_000] {
            let name = |number: usize| host(&format!("router-{number}.example.net"));
            let filter = Filter::of(count, (0..count).map(name));
            assert!((0..count).all(|number| filter.admits(name(number))), "{count}");
            let wrong = (count..count + 10_000).filter(|number| filter.admits(name(*number))).count();
            assert!(wrong < 500, "{wrong} of 10,000 absent hosts are admitted by a filter of {count}");
        }
        assert!(Filter::default().admits(1));
    }

    #[test]
    fn hosts_are_one_as_they_are_compared() {
        for (one, other) in [("R1.Example.", "r1.example"), (" r1 ", "R1"), ("\u{c4}rger", "\u{c4}RGER")] {
            assert_eq!(crate::model::host_key(one), crate::model::host_key(other));
            assert_eq!(host(one), host(other), "{one}");
        }
        assert_ne!(host("r1"), host("r2"));
        assert_ne!(host("3"), correlation("3"));
    }

    #[test]
    fn a_segment_with_too_many_keys_has_a_filter_that_admits_everything() {
        let mut keys = SegmentKeys::none_yet();
        keys.add(&[1, 2, 3]);
        assert!(keys.filter().admits(2) && !keys.filter().as_bytes().is_empty());
        keys.add(&(0..=MOST_SEGMENT_KEYS as u64).collect::<Vec<_>>());
        assert_eq!(keys.filter(), Filter::default());
        assert_eq!(SegmentKeys::unknown().filter(), Filter::default());
    }

    #[test]
    fn the_hash_on_disk_is_always_the_same() {
        assert_eq!(host("router-1"), 0x92f1_82b0_0ac5_8164);
        assert_eq!(rule(7), 0x89ba_81e5_d983_173d);
    }
}
