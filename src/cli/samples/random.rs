//! A small seeded generator of pseudo-random numbers (splitmix64), for messages that have to be the same again.
//!
//! It is fast and repeatable, and of no use for keys or tokens.

/// The generator; a copy continues on its own.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose numbers follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`, or 0 if there is none. The modulo favours small numbers by less than one in 2^32 here.
    pub const fn below(&mut self, limit: u32) -> u32 {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as u32 }
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let limit = u32::try_from(items.len()).unwrap_or(u32::MAX);
        &items[self.below(limit) as usize]
    }

    /// True in `percent` of 100 calls.
    pub fn chance(&mut self, percent: f64) -> bool {
        f64::from(self.below(1_000_000)) < percent * 10_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_come_true_about_as_often_as_asked() {
        let mut random = Random::new(11);
        for percent in [0.0, 10.0, 50.0, 100.0] {
            let hits = (0..100_000).filter(|_| random.chance(percent)).count();
            let expected = percent * 1_000.0;
            assert!((hits as f64 - expected).abs() <= 1_000.0, "{hits} hits at {percent} percent");
        }
    }

    #[test]
    fn numbers_stay_below_their_limit() {
        let mut random = Random::new(5);
        assert_eq!(random.below(0), 0);
        assert!((0..1_000).all(|_| random.below(3) < 3));
    }
}
