//! The index at the end of an archive file: where each frame lies and whether it is worth opening.
//!
//! It is the content of a zstd skippable frame (RFC 8878 section 3.1.2), so `zstdcat` passes over it: compressed JSON,
//! its length (u32, little endian) and [`MAGIC`]. Nothing but searches needs it: who has lost it still has every event.
//! Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::{Day, EventId, Judged, RuleId, host_key};

/// The last bytes of a file.
pub(super) const MAGIC: [u8; 8] = *b"MUTTIDX1";
/// Bytes after the compressed JSON: its length and the magic.
pub(super) const TAIL: usize = 12;
/// Magic number of a skippable frame, one of sixteen; then comes the length of its content (u32).
pub(super) const SKIPPABLE: [u8; 4] = 0x184D_2A5D_u32.to_le_bytes();
/// Largest index accepted when reading, so that damage cannot ask for all memory.
pub(super) const MAX_INDEX: usize = 64 << 20;
/// Bits of a digest for one host or rule: with four of them set, one in eighty others looks as if it were there.
const BITS_EACH: usize = 10;
/// Bits set for each.
const PROBES: u64 = 4;

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The day of its events.
    pub day: Day,
    /// What the members of a line mean.
    pub schema: u32,
    /// Events in it.
    pub rows: u64,
    /// Lines that are only notes.
    pub notes: u64,
    /// SHA-256 of the lines.
    pub content_sha256: String,
    /// The frames in the order they lie.
    pub frames: Vec<Frame>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Where it begins.
    pub at: u64,
    /// Its bytes in the file.
    pub bytes: u64,
    /// Its bytes unpacked.
    pub plain: u64,
    /// Lines in it.
    pub lines: u64,
    /// The least event id in it.
    pub first: String,
    /// The greatest.
    pub last: String,
    /// Which hosts and rules may be in it: a Bloom filter, in hexadecimal.
    pub digest: String,
}

impl Frame {
    /// The least and the greatest event id; what cannot be read holds everything.
    pub fn ids(&self) -> (EventId, EventId) {
        let least = EventId::from_bytes([0; 16]);
        let greatest = EventId::from_bytes([0xff; 16]);
        (self.first.parse().unwrap_or(least), self.last.parse().unwrap_or(greatest))
    }

    /// Whether events of this host may be in it.
    pub fn may_hold_host(&self, key: &str) -> bool {
        self.may_hold(host_hash(key))
    }

    /// Whether events that this rule matched may be in it.
    pub fn may_hold_rule(&self, rule: RuleId) -> bool {
        self.may_hold(rule_hash(rule))
    }

    fn may_hold(&self, hash: u64) -> bool {
        let bytes = self.digest.len() / 2;
        let bit = |position: usize| {
            let text = self.digest.get(position / 8 * 2..position / 8 * 2 + 2);
            // A digest that cannot be read holds everything.
            text.and_then(|text| u8::from_str_radix(text, 16).ok()).is_none_or(|byte| byte & 1 << (position % 8) != 0)
        };
        bytes == 0 || positions(hash, bytes * 8).all(bit)
    }
}

/// Gathers the hosts and rules of a frame.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeSet<u64>);

impl Keys {
    pub(super) fn add(&mut self, judged: &Judged) {
        self.0.insert(host_hash(&host_key(&judged.event.hostname)));
        if let Some(rule) = judged.decision.rule() {
            self.0.insert(rule_hash(rule));
        }
    }

    /// The digest, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        let bytes = (self.0.len() * BITS_EACH).div_ceil(8).max(8);
        let mut filter = vec![0_u8; bytes];
        for hash in &self.0 {
            for position in positions(*hash, bytes * 8) {
                filter[position / 8] |= 1 << (position % 8);
            }
        }
        hex(&filter)
    }
}

fn positions(hash: u64, bits: usize) -> impl Iterator<Item = usize> {
    // Two halves of one hash make as many as are needed (Kirsch and Mitzenmacher, 2006).
    let (first, second) = (hash & 0xffff_ffff, hash >> 32 | 1);
    (0..PROBES).map(move |n| {
        let position = first.wrapping_add(n.wrapping_mul(second)) % bits.max(1) as u64;
        usize::try_from(position).unwrap_or(0)
    })
}

/// The first eight bytes of SHA-256: the same in every version of the program, unlike the hash of a map.
fn hash_of(kind: u8, bytes: &[u8]) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update([kind]);
    hasher.update(bytes);
    let hash = hasher.finalize();
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn host_hash(key: &str) -> u64 {
    hash_of(b'h', key.as_bytes())
}

fn rule_hash(rule: RuleId) -> u64 {
    hash_of(b'r', &rule.0.to_le_bytes())
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_holds_its_own_and_few_others() {
        let mut keys = Keys::default();
        for host in 0..2_000 {
            keys.0.insert(host_hash(&format!("host-{host}.example")));
        }
        keys.0.insert(rule_hash(RuleId(7)));
        let frame = Frame {
            at: 0,
            bytes: 0,
            plain: 0,
            lines: 0,
            first: String::new(),
            last: String::new(),
            digest: keys.digest(),
        };
        assert!((0..2_000).all(|host| frame.may_hold_host(&format!("host-{host}.example"))));
        assert!(frame.may_hold_rule(RuleId(7)));
        let others = (0..10_000).filter(|host| frame.may_hold_host(&format!("other-{host}"))).count();
        assert!(others < 300, "{others} of 10,000 strangers seem to be there");
        for unreadable in ["", "zz", "abc"] {
            let frame = Frame { digest: unreadable.into(), ..frame.clone() };
            assert!(frame.may_hold_host("any") || unreadable == "abc", "{unreadable}");
        }
    }
}
