//! The counters of unhandled events in memory: pure, no I/O, no clock. A change can be taken back until it is committed.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{EventId, Timestamp};
use crate::store::{Kind, Overrun, Sighting, UnhandledPolicy};

/// Separates host and signature in a key; neither can contain it meaningfully.
const SEPARATOR: char = '\0';

/// What a batch changes in a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Events in the window.
    pub(super) count: u64,
    /// When the window opened.
    pub(super) window_start: Timestamp,
    /// Whether the window's one overrun was told.
    pub(super) fired: bool,
    /// The last event.
    pub(super) last: EventId,
    /// When it was received.
    pub(super) at: Timestamp,
}

/// One host and signature.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    key: Arc<str>,
    pub(super) tally: Tally,
    pub(super) sample: String,
    /// Position in the order of sightings.
    tick: u64,
    /// Whether it differs from what the last checkpoint wrote.
    pub(super) dirty: bool,
}

impl Counter {
    /// Host (in lower case) and signature.
    pub(super) fn names(&self) -> (&str, &str) {
        self.key.split_once(SEPARATOR).unwrap_or((&self.key, ""))
    }

    fn as_overrun(&self) -> Overrun {
        let (hostname, signature) = self.names();
        let Tally { count, window_start, last, at, .. } = self.tally;
        let kind = Kind { hostname: hostname.into(), signature: signature.into() };
        Overrun { kind, last, at, sample: self.sample.as_str().into(), count, window_start }
    }
}

/// Counters touched since [`Touched::default`], with what they were before; `None` for new ones.
pub(super) type Touched = HashMap<u64, Option<Tally>>;

/// All counters, found by host and signature or by number.
#[derive(Debug, Default)]
pub(super) struct Counters {
    by_key: HashMap<Arc<str>, u64>,
    by_number: HashMap<u64, Counter>,
    next_number: u64,
    next_tick: u64,
    /// Numbers given up since the last checkpoint.
    forgotten: Vec<u64>,
    key: String,
}

impl Counters {
    /// Counts one sighting; the answer is set if the counter reached the threshold through it. The number of the kind's
    /// counter is looked up once and then kept in `number` by whoever counts many sightings of it.
    pub(super) fn see(
        &mut self,
        (kind, number): (&Kind, &mut Option<u64>),
        sighting: &Sighting,
        policy: UnhandledPolicy,
        touched: &mut Touched,
    ) -> Option<Overrun> {
        let known = number.or_else(|| self.number_of(&kind.hostname, &kind.signature));
        *number = known.or(Some(self.next_number));
        let Some(number) = known else { return self.begin(kind, sighting, policy, touched) };
        if let Entry::Vacant(first) = touched.entry(number) {
            first.insert(Some(self.by_number.get(&number)?.tally));
            self.move_to_front(number);
        }
        let counter = self.by_number.get_mut(&number)?;
        let tally = &mut counter.tally;
        // A window that lies more than its own length ahead was opened by a clock gone wrong; waiting for it would
        // silence the counter for as long as the clock was off.
        let passed = sighting.at.since(tally.window_start) >= policy.window;
        let ahead = tally.window_start.since(sighting.at) > policy.window;
        if passed || ahead {
            *tally = Tally { count: 0, window_start: sighting.at, fired: false, ..*tally };
        }
        tally.last = sighting.last;
        tally.at = sighting.at;
        // Copied: a piece would keep the whole of its message in memory.
        counter.sample.clear();
        counter.sample.push_str(&sighting.sample);
        counter.dirty = true;
        add(tally, kind, sighting, policy)
    }

    fn begin(
        &mut self,
        kind: &Kind,
        sighting: &Sighting,
        policy: UnhandledPolicy,
        touched: &mut Touched,
    ) -> Option<Overrun> {
        let mut tally =
            Tally { count: 0, window_start: sighting.at, fired: false, last: sighting.last, at: sighting.at };
        let overrun = add(&mut tally, kind, sighting, policy);
        let number = self.next_number;
        self.put(number, (&kind.hostname, &kind.signature), tally, sighting.sample.to_string());
        touched.insert(number, None);
        overrun
    }

    /// Puts a counter under a number, in place of any that has its number or its names.
    pub(super) fn put(&mut self, number: u64, names: (&str, &str), tally: Tally, sample: String) {
        if let Some(other) = self.number_of(names.0, names.1)
            && other != number
        {
            self.remove(other);
            self.forgotten.push(other);
        }
        self.remove(number);
        let key: Arc<str> = {
            self.write_key(names.0, names.1);
            Arc::from(self.key.as_str())
        };
        self.by_key.insert(Arc::clone(&key), number);
        let tick = self.tick();
        self.by_number.insert(number, Counter { key, tally, sample, tick, dirty: true });
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    /// Sets a counter's tally, as the journal tells it.
    pub(super) fn set(&mut self, number: u64, tally: Tally) {
        if let Some(counter) = self.by_number.get_mut(&number) {
            // The journal does not repeat which event was the last; the one of the checkpoint stays.
            counter.tally = Tally { last: counter.tally.last, ..tally };
            counter.dirty = true;
            self.move_to_front(number);
        }
    }

    /// Takes back what was done since `touched` was empty.
    pub(super) fn undo(&mut self, touched: &Touched) {
        for (number, before) in touched {
            match before {
                None => self.remove(*number),
                Some(tally) => {
                    if let Some(counter) = self.by_number.get_mut(number) {
                        counter.tally = *tally;
                    }
                }
            }
        }
    }

    /// Forgets the counters seen longest ago once there are more than `most`; some more than necessary, because finding
    /// them goes through all.
    pub(super) fn shrink(&mut self, most: usize) {
        let most = most.max(1);
        if self.by_number.len() <= most {
            return;
        }
        let surplus = self.by_number.len() - most + most / 16;
        let mut by_age: Vec<(u64, u64)> =
            self.by_number.iter().map(|(number, counter)| (counter.tick, *number)).collect();
        by_age.select_nth_unstable(surplus - 1);
        for (_, number) in by_age.drain(..surplus) {
            self.remove(number);
            self.forgotten.push(number);
        }
    }

    /// Forgets every counter of a host. Answers how many there were.
    pub(super) fn forget_host(&mut self, is_it: impl Fn(&str) -> bool) -> u64 {
        let of_host = |(number, counter): (&u64, &Counter)| is_it(counter.names().0).then_some(*number);
        let numbers: Vec<u64> = self.by_number.iter().filter_map(of_host).collect();
        for number in &numbers {
            self.remove(*number);
            self.forgotten.push(*number);
        }
        numbers.len() as u64
    }

    /// Orders the counters by when they were seen last; for after loading.
    pub(super) fn order_by_time(&mut self) {
        let mut order: Vec<(Timestamp, u64)> =
            self.by_number.iter().map(|(number, counter)| (counter.tally.at, *number)).collect();
        order.sort_unstable();
        for (_, number) in order {
            self.move_to_front(number);
        }
    }

    /// The largest, largest first.
    pub(super) fn top(&self, limit: usize) -> Vec<Overrun> {
        let mut counters: Vec<&Counter> = self.by_number.values().collect();
        let order = |counter: &&Counter| (std::cmp::Reverse(counter.tally.count), std::cmp::Reverse(counter.tick));
        if limit < counters.len() && limit > 0 {
            counters.select_nth_unstable_by_key(limit - 1, order);
        }
        counters.truncate(limit);
        counters.sort_unstable_by_key(order);
        counters.into_iter().map(Counter::as_overrun).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// One, by its number.
    pub(super) fn get(&self, number: u64) -> Option<&Counter> {
        self.by_number.get(&number)
    }

    /// Those that differ from the last checkpoint.
    pub(super) fn dirty(&self) -> impl Iterator<Item = (u64, &Counter)> {
        self.by_number.iter().filter(|(_, counter)| counter.dirty).map(|(number, counter)| (*number, counter))
    }

    /// Numbers given up since the last checkpoint.
    pub(super) fn forgotten(&self) -> &[u64] {
        &self.forgotten
    }

    /// A checkpoint has written all of them.
    pub(super) fn mark_clean(&mut self) {
        self.forgotten.clear();
        self.by_number.values_mut().for_each(|counter| counter.dirty = false);
    }

    /// The file the checkpoints are in is gone.
    pub(super) fn mark_dirty(&mut self) {
        self.by_number.values_mut().for_each(|counter| counter.dirty = true);
    }

    fn remove(&mut self, number: u64) {
        if let Some(counter) = self.by_number.remove(&number) {
            self.by_key.remove(&counter.key);
        }
    }

    fn number_of(&mut self, hostname: &str, signature: &str) -> Option<u64> {
        self.write_key(hostname, signature);
        self.by_key.get(self.key.as_str()).copied()
    }

    /// Host names are compared without regard to case (RFC 4343).
    fn write_key(&mut self, hostname: &str, signature: &str) {
        self.key.clear();
        self.key.push_str(hostname);
        self.key.make_ascii_lowercase();
        self.key.push(SEPARATOR);
        self.key.push_str(signature);
    }

    fn move_to_front(&mut self, number: u64) {
        let tick = self.tick();
        if let Some(counter) = self.by_number.get_mut(&number) {
            counter.tick = tick;
        }
    }

    fn tick(&mut self) -> u64 {
        self.next_tick += 1;
        self.next_tick
    }
}

fn add(tally: &mut Tally, kind: &Kind, sighting: &Sighting, policy: UnhandledPolicy) -> Option<Overrun> {
    tally.count = tally.count.saturating_add(sighting.count);
    if tally.fired || tally.count < policy.threshold {
        return None;
    }
    tally.fired = true;
    // Copied: a piece would keep the whole batch of its event in memory.
    let kind = Kind { hostname: kind.hostname.compact(), signature: kind.signature.compact() };
    let Tally { count, window_start, .. } = *tally;
    Some(Overrun { kind, last: sighting.last, at: sighting.at, sample: sighting.sample.compact(), count, window_start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const POLICY: UnhandledPolicy =
        UnhandledPolicy { threshold: 10, window: Duration::from_secs(100), max_counters: 1_000 };

    fn sighting(count: u64, second: i64) -> Sighting {
        let at = Timestamp::from_millis(1_790_000_000_000 + second * 1_000);
        let last = crate::model::EventIds::new(1).next(at);
        Sighting { kind: 0, count, last, at, sample: "link 3 down".into() }
    }

    fn see(counters: &mut Counters, host: &str, sighting: &Sighting, touched: &mut Touched) -> Option<Overrun> {
        let kind = Kind { hostname: host.into(), signature: "link # down".into() };
        counters.see((&kind, &mut None), sighting, POLICY, touched)
    }

    /// Sightings as (count, second), and at which of them an overrun is told, with its count.
    fn check(sightings: &[(u64, i64)], expected: &[(usize, u64)]) {
        let mut counters = Counters::default();
        let mut told = Vec::new();
        for (index, (count, second)) in sightings.iter().enumerate() {
            if let Some(overrun) = see(&mut counters, "r1", &sighting(*count, *second), &mut Touched::default()) {
                told.push((index, overrun.count));
            }
        }
        assert_eq!(told, expected, "{sightings:?}");
    }

    #[test]
    fn one_overrun_is_told_for_each_window() {
        check(&[(9, 0)], &[]);
        check(&[(9, 0), (1, 1)], &[(1, 10)]);
        check(&[(25, 0), (25, 1), (25, 99)], &[(0, 25)]);
        check(&[(9, 0), (9, 100), (1, 199)], &[(2, 10)]);
        check(&[(10, 0), (10, 50), (10, 100)], &[(0, 10), (2, 10)]);
    }

    #[test]
    fn a_clock_that_jumps_neither_repeats_nor_silences() {
        // Back within the window: still the same window.
        check(&[(10, 50), (10, 0)], &[(0, 10)]);
        // Far ahead and back again: the window from the future is given up.
        check(&[(1, 1_000_000), (10, 0)], &[(1, 10)]);
    }

    #[test]
    fn hosts_are_compared_without_case_and_counted_apart() {
        let mut counters = Counters::default();
        let mut touched = Touched::default();
        for host in ["R1", "r1", "r2"] {
            see(&mut counters, host, &sighting(1, 0), &mut touched);
        }
        let counts: Vec<(String, u64)> =
            counters.top(10).into_iter().map(|overrun| (overrun.kind.hostname.to_string(), overrun.count)).collect();
        assert_eq!(counts, [("r1".to_owned(), 2), ("r2".to_owned(), 1)]);
    }

    #[test]
    fn the_counter_seen_longest_ago_is_forgotten_first() {
        let mut counters = Counters::default();
        for host in ["a", "b", "c", "a"] {
            see(&mut counters, host, &sighting(1, 0), &mut Touched::default());
        }
        counters.shrink(2);
        let mut left: Vec<String> =
            counters.top(9).into_iter().map(|overrun| overrun.kind.hostname.to_string()).collect();
        left.sort();
        assert_eq!(left, ["a", "c"]);
        assert_eq!(counters.forgotten().len(), 1);
    }

    #[test]
    fn what_is_taken_back_was_never_counted() {
        let mut counters = Counters::default();
        see(&mut counters, "a", &sighting(5, 0), &mut Touched::default());
        let mut touched = Touched::default();
        assert!(see(&mut counters, "a", &sighting(5, 1), &mut touched).is_some());
        see(&mut counters, "b", &sighting(5, 1), &mut touched);
        counters.undo(&touched);
        assert_eq!(counters.len(), 1);
        assert_eq!(counters.top(1)[0].count, 5);
        assert!(see(&mut counters, "a", &sighting(5, 1), &mut Touched::default()).is_some());
    }
}
