//! Buckets of minutes and hours, and sums over windows. Pure; bounded by time: some 2,300 buckets.
//!
//! A clock that jumps back leaves buckets in the future; they are folded into the current one, so that nothing counts
//! for ever or is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::counting::{Counts, Level, PerLevel};
use crate::model::Timestamp;
use crate::store::{LevelRow, Width};

/// Buckets kept: a little more than the longest window of each width.
const MINUTES: i64 = 25 * 60;
const HOURS: i64 = 31 * 24;

/// What was counted, by bucket.
#[derive(Debug, Default)]
pub(super) struct Tally {
    buckets: BTreeMap<(Width, i64), PerLevel<Counts>>,
    changed: BTreeSet<(Width, i64)>,
}

impl Tally {
    /// What was kept; levels that are not known any more are left out.
    pub(super) fn of(rows: Vec<LevelRow>) -> Self {
        let mut tally = Self::default();
        for row in rows {
            if let Some(level) = Level::ALL.into_iter().find(|level| level.name() == row.level) {
                let bucket = tally.buckets.entry((row.width, row.number)).or_default();
                bucket[level.index()] = Counts { bad: row.bad, total: row.total };
            }
        }
        tally
    }

    /// Counts what was gained until `now`.
    pub(super) fn add(&mut self, now: Timestamp, gained: &PerLevel<Counts>) {
        for width in [Width::Minute, Width::Hour] {
            let current = number(now, width);
            let mut more = *gained;
            let ahead: Vec<i64> = self.numbers(width, current + 1, i64::MAX);
            for number in ahead {
                if let Some(counts) = self.buckets.remove(&(width, number)) {
                    merge(&mut more, &counts);
                }
            }
            if more.iter().any(|counts| counts.total > 0 || counts.bad > 0) {
                merge(self.buckets.entry((width, current)).or_default(), &more);
                self.changed.insert((width, current));
            }
            let old = self.numbers(width, i64::MIN, current - kept(width) - 1);
            for number in old {
                self.buckets.remove(&(width, number));
            }
        }
    }

    /// What was counted in the last `count` buckets of a width, the current one included.
    pub(super) fn sum(&self, level: Level, now: Timestamp, width: Width, count: i64) -> Counts {
        let current = number(now, width);
        let mut sum = Counts::default();
        for (_, counts) in self.buckets.range((width, current - count + 1)..=(width, current)) {
            sum.add(counts[level.index()]);
        }
        sum
    }

    /// The rows of buckets that changed since the last call.
    pub(super) fn changed(&mut self) -> Vec<LevelRow> {
        let changed = std::mem::take(&mut self.changed);
        let buckets = changed.into_iter().filter_map(|key| Some((key, self.buckets.get(&key)?)));
        buckets
            .flat_map(|((width, number), counts)| {
                Level::ALL.into_iter().filter_map(move |level| {
                    let Counts { bad, total } = counts[level.index()];
                    let row = LevelRow { width, number, level: level.name().to_owned(), bad, total };
                    (bad > 0 || total > 0).then_some(row)
                })
            })
            .collect()
    }

    /// These rows are still to be written.
    pub(super) fn not_written(&mut self, rows: &[LevelRow]) {
        self.changed.extend(rows.iter().map(|row| (row.width, row.number)));
    }

    /// The first bucket of each width that is still of use.
    pub(super) fn keep_from(&self, now: Timestamp) -> [(Width, i64); 2] {
        [Width::Minute, Width::Hour].map(|width| (width, number(now, width) - kept(width)))
    }

    fn numbers(&self, width: Width, first: i64, last: i64) -> Vec<i64> {
        if first > last {
            return Vec::new();
        }
        self.buckets.range((width, first)..=(width, last)).map(|((_, number), _)| *number).collect()
    }
}

const fn kept(width: Width) -> i64 {
    match width {
        Width::Minute => MINUTES,
        Width::Hour => HOURS,
    }
}

const fn number(at: Timestamp, width: Width) -> i64 {
    at.as_seconds().div_euclid(width.seconds())
}

fn merge(into: &mut PerLevel<Counts>, more: &PerLevel<Counts>) {
    for (counts, more) in into.iter_mut().zip(more) {
        counts.add(*more);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const LEVEL: Level = Level::ForwardSuccess;

    fn gained(bad: u64, total: u64) -> PerLevel<Counts> {
        let mut gained = PerLevel::default();
        gained[LEVEL.index()] = Counts { bad, total };
        gained
    }

    fn check(tally: &Tally, now: Timestamp, width: Width, count: i64, expected: (u64, u64)) {
        let sum = tally.sum(LEVEL, now, width, count);
        assert_eq!((sum.bad, sum.total), expected, "{count} of {width:?}");
    }

    #[test]
    fn windows_sum_the_last_buckets() {
        let mut tally = Tally::default();
        for minute in 0..120 {
            tally.add(START.plus(MINUTE * minute), &gained(1, 10));
        }
        let now = START.plus(MINUTE * 119);
        check(&tally, now, Width::Minute, 5, (5, 50));
        check(&tally, now, Width::Minute, 60, (60, 600));
        check(&tally, now, Width::Hour, 720, (120, 1_200));
        check(&tally, now.plus(MINUTE * 3), Width::Minute, 5, (2, 20));
    }

    #[test]
    fn what_is_kept_is_what_was_counted() {
        let mut tally = Tally::default();
        tally.add(START, &gained(1, 10));
        tally.add(START.plus(MINUTE), &gained(0, 4));
        let rows = tally.changed();
        assert!(tally.changed().is_empty(), "nothing changed since");
        tally.not_written(&rows);
        assert_eq!(tally.changed(), rows, "what could not be written is written later");
        let again = Tally::of(rows);
        check(&again, START.plus(MINUTE), Width::Minute, 60, (1, 14));
        check(&again, START.plus(MINUTE), Width::Hour, 24, (1, 14));
    }

    #[test]
    fn a_clock_that_jumps_back_loses_nothing_and_leaves_nothing_in_the_future() {
        let mut tally = Tally::default();
        tally.add(START.plus(MINUTE * 600), &gained(3, 30));
        tally.add(START, &gained(1, 10));
        check(&tally, START, Width::Minute, 5, (4, 40));
        check(&tally, START.plus(MINUTE * 600), Width::Minute, 5, (0, 0));
    }

    #[test]
    fn old_buckets_are_dropped() {
        let mut tally = Tally::default();
        tally.add(START, &gained(1, 10));
        let later = START.plus(MINUTE * 60 * 24 * 40);
        tally.add(later, &gained(0, 1));
        assert_eq!(tally.buckets.len(), 2, "a minute and an hour");
        check(&tally, later, Width::Hour, 720, (0, 1));
    }
}
