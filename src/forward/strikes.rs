//! How often each alert itself failed. Pure.
//!
//! The queue counts how often a record was handed out, which says nothing about whose fault a failure was: during an
//! outage every alert would use up its tries. So tries are counted here, and those of a row of failures that opened the
//! breaker are taken back: they were the target's. What is counted is forgotten when the process ends; an alert then
//! has its tries anew, which costs some requests and loses nothing.

use std::collections::HashMap;

use crate::queue::Seq;

/// Alerts whose tries are counted at once; 32 bytes each. Beyond, failures of further alerts are not counted until
/// others are settled: they stay in the outbox.
const MOST: usize = 100_000;

#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    /// Those that stay counted.
    settled: u32,
    /// Those of the row of failures `row`.
    recent: u32,
    row: u64,
}

/// The tries of the alerts of one target.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    tries: HashMap<Seq, Tries>,
    /// The row of failures that is under way; each success begins another.
    row: u64,
}

impl Strikes {
    /// A try of this alert failed; answers how many did.
    pub(super) fn count(&mut self, seq: Seq) -> u32 {
        if self.tries.len() >= MOST && !self.tries.contains_key(&seq) {
            return 1;
        }
        let tries = self.tries.entry(seq).or_default();
        if tries.row != self.row {
            tries.settled += tries.recent;
            tries.recent = 0;
            tries.row = self.row;
        }
        tries.recent += 1;
        tries.settled + tries.recent
    }

    /// A delivery succeeded: failures before it do not belong to those after it.
    pub(super) const fn end_row(&mut self) {
        self.row += 1;
    }

    /// The row of failures under way was the target's fault.
    pub(super) fn forgive_row(&mut self) {
        let row = self.row;
        self.tries.retain(|_, tries| {
            if tries.row == row {
                tries.recent = 0;
            }
            tries.settled + tries.recent > 0
        });
        self.row += 1;
    }

    /// The alert is settled.
    pub(super) fn forget(&mut self, seq: Seq) {
        self.tries.remove(&seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_of_an_outage_are_taken_back_and_others_stay() {
        let mut strikes = Strikes::default();
        assert_eq!([strikes.count(1), strikes.count(1), strikes.count(2)], [1, 2, 1]);
        strikes.end_row();
        assert_eq!([strikes.count(1), strikes.count(1), strikes.count(3)], [3, 4, 1]);
        strikes.forgive_row();
        assert_eq!([strikes.count(1), strikes.count(2), strikes.count(3)], [3, 2, 1]);
        strikes.forget(1);
        assert_eq!(strikes.count(1), 1);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut strikes = Strikes::default();
        for seq in 0..MOST as u64 + 10 {
            strikes.count(seq);
        }
        assert_eq!(strikes.tries.len(), MOST);
        assert_eq!([strikes.count(MOST as u64 + 1), strikes.count(0)], [1, 2]);
    }
}
