//! Waiting for something to become true, and repeatable randomness.

use std::time::{Duration, Instant};

/// How long a test waits for something that normally takes milliseconds: generous, because tests share the cores with
/// whatever else the machine does.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Asks `look` again and again until it has an answer; fails, naming `what`, when [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look)
}

/// The same for what takes its time by design.
pub fn eventually_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "within {} s this did not happen: {what}", patience.as_secs());
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Fails if `look` is false at any time during `span`: for "and nothing more comes".
pub fn holds_for(what: &str, span: Duration, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(look(), "this did not stay true: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// A small seeded generator (splitmix64), so that a failed run can be repeated.
pub struct Random(u64);

impl Random {
    /// A generator that gives the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Up to `most` bytes of any value, at least one.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = 1 + self.below(most as u64) as usize;
        (0..length).map(|_| self.next() as u8).collect()
    }
}
