//! Identifiers and names, each a type of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// Bits of an [`EventId`] after the milliseconds that count events within a millisecond.
const COUNTER_BITS: u32 = 22;
/// 2020-01-01T00:00:00Z, where ordinals have their zero.
const EPOCH_2020_MILLIS: i64 = 1_577_836_800_000;

/// The identity of one event: a UUIDv7 (RFC 9562 section 5.7), made when the event is received and kept to the end.
///
/// The 22 bits after the 48-bit millisecond time (12 of `rand_a`, the first 10 of `rand_b`) are a counter, so ids of
/// one process are strictly ascending and [`EventId::ordinal`] is unique for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// Receive time in milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(0)
    }

    /// The receive time.
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(self.millis())
    }

    /// Milliseconds and counter as one number, ascending with the ids: a key for stores.
    /// 63 bits hold it until the year 2039 with the epoch at 1970, so the epoch is moved to 2020-01-01 (until 2089);
    /// before it ordinals are negative, so that a machine with a dead clock battery keeps its events in order too.
    pub fn ordinal(self) -> i64 {
        let bits = self.0.as_u128();
        // rand_a is bits 64..76, the top ten bits of rand_b are bits 52..62 (two variant bits lie between them).
        let rand_a = (bits >> 64) & 0xfff;
        let rand_b = (bits >> 52) & 0x3ff;
        let counter = i64::try_from((rand_a << 10) | rand_b).unwrap_or(0);
        Self::ordinal_at(self.millis()) | counter
    }

    /// The smallest ordinal of a millisecond (since 1970).
    pub fn ordinal_at(millis: i64) -> i64 {
        const RANGE: i64 = 1 << (63 - COUNTER_BITS);
        millis.saturating_sub(EPOCH_2020_MILLIS).clamp(-RANGE, RANGE - 1) << COUNTER_BITS
    }

    /// The smallest id with this ordinal.
    pub fn floor(ordinal: i64) -> Self {
        let millis = u64::try_from((ordinal >> COUNTER_BITS).saturating_add(EPOCH_2020_MILLIS)).unwrap_or(0);
        let counter = u64::try_from(ordinal & ((1 << COUNTER_BITS) - 1)).unwrap_or(0);
        Self(compose((millis << COUNTER_BITS) | counter, 0))
    }

    /// The id of a meta-alert caused by this event: same time and count, other filler, the same every time.
    pub fn derived(self) -> Self {
        const FILLER: u128 = (1 << 52) - 1;
        Self(Uuid::from_u128(self.0.as_u128() ^ FILLER))
    }

    /// The 16 bytes, big endian.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// From 16 bytes, as a store kept them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}

impl FromStr for EventId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidName {
            kind: "event id",
            text: text.chars().take(64).collect(),
            why: "it is not a UUID",
        })
    }
}

/// How far ahead of the clock ids may be before they follow it back: one day in milliseconds. A clock that is set right by
/// minutes keeps them ascending; one that stood in another year would otherwise keep giving that year to every event until
/// the next start.
const MOST_AHEAD_MILLIS: u64 = 86_400_000;

/// Makes event ids: strictly ascending within one process, unless the wall clock is set back by more than a day.
#[derive(Debug)]
pub struct EventIds {
    /// Milliseconds and counter of the id made last.
    last: AtomicU64,
    /// How often ids followed the clock back: ids of a time that comes again differ by it.
    era: AtomicU64,
    /// Distinguishes processes; mixed into the bits that are not time or counter.
    seed: u64,
}

impl EventIds {
    /// `seed` should be random; two processes with one seed could only collide within one millisecond and count.
    pub fn new(seed: u64) -> Self {
        Self { last: AtomicU64::new(0), era: AtomicU64::new(0), seed }
    }

    /// The next id for an event received at `now`.
    pub fn next(&self, now: Timestamp) -> EventId {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        loop {
            // In this order: who sees an id of an era sees the era too.
            let last = self.last.load(Ordering::Acquire);
            let follows = (last >> COUNTER_BITS).saturating_sub(millis) > MOST_AHEAD_MILLIS;
            let era =
                if follows { self.era.fetch_add(1, Ordering::AcqRel) + 1 } else { self.era.load(Ordering::Acquire) };
            let seed = self.seed.wrapping_add(era.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            // A fresh millisecond starts its counter at a seeded point of the lower half, so that ids made after a restart
            // within one millisecond differ and 2 million more fit before the count runs into the next millisecond.
            let fresh = (millis << COUNTER_BITS) | (mix(seed ^ millis) & ((1 << (COUNTER_BITS - 1)) - 1));
            let next = if follows { fresh } else { fresh.max(last + 1) };
            if self.last.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return EventId(compose(next, mix(seed.wrapping_add(next))));
            }
        }
    }
}

/// Lays out a UUIDv7 from 48 bits of time, 22 bits of counter and 52 bits of filler.
fn compose(time_and_counter: u64, filler: u64) -> Uuid {
    let millis = u128::from(time_and_counter >> COUNTER_BITS);
    let counter = u128::from(time_and_counter & ((1 << COUNTER_BITS) - 1));
    let bits = (millis << 80)
        | (0x7 << 76)
        | ((counter >> 10) << 64)
        | (0b10 << 62)
        | ((counter & 0x3ff) << 52)
        | u128::from(filler >> 12);
    Uuid::from_u128(bits)
}

/// The finaliser of splitmix64: spreads a number over all bits.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Number of a rule, given by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub i64);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{text}` cannot be used: {why}")]
pub struct InvalidName {
    /// What kind of name it was meant to be.
    pub kind: &'static str,
    /// The name, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A team that alerts are assigned to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Team(String);

/// The name of a delivery target, as in its outbox's folder: lower-case letters, digits, `-` and `_`, 1 to 40 of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetName(String);

impl Team {
    /// A team name of 1 to 100 characters without control characters; blanks around it are cut.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
        let invalid = |why| InvalidName { kind: "team", text: text.chars().take(100).collect(), why };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.chars().count() > 100 {
            return Err(invalid("it is longer than 100 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid("it contains control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TargetName {
    /// Checks the characters and the length.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 40 || !text.chars().all(allowed) {
            return Err(InvalidName {
                kind: "target",
                text: text.chars().take(40).collect(),
                why: "use 1 to 40 lower-case letters, digits, `-` or `_`",
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How host names are compared (RFC 4343: without regard to case): lists of hosts are kept and looked up by this.
pub fn host_key(host: &str) -> String {
    host.trim().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_ascend_and_stay_unique_when_the_clock_jumps_back() {
        let ids = EventIds::new(7);
        let late = Timestamp::from_millis(1_800_000_000_000);
        let mut seen = HashSet::new();
        let mut previous = 0;
        for step in 0..10_000 {
            let now = if step % 2 == 0 { late } else { late.minus(std::time::Duration::from_secs(3600)) };
            let id = ids.next(now);
            assert!(id.ordinal() > previous, "step {step}");
            previous = id.ordinal();
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn ids_follow_a_clock_that_stood_in_another_year_and_stay_unique() {
        let ids = EventIds::new(7);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let in_2040 = Timestamp::from_millis(2_217_542_400_000);
        let mut seen = HashSet::new();
        for clock in [now, in_2040, now, in_2040, now] {
            let mut previous = 0;
            for _ in 0..1_000 {
                let id = ids.next(clock);
                assert_eq!(id.millis(), clock.as_millis());
                assert!(id.ordinal() > previous);
                previous = id.ordinal();
                assert!(seen.insert(id), "{id} was given twice");
            }
        }
    }

    #[test]
    fn an_id_is_a_version_7_uuid_that_carries_its_time() {
        let id = EventIds::new(1).next(Timestamp::from_millis(1_800_000_000_123));
        assert_eq!(id.millis(), 1_800_000_000_123);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.to_string().parse::<EventId>().expect("its own text"), id);
    }
}
