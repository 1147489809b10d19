//! How full the outboxes are, each for itself, with hysteresis so that the answer does not flutter at a threshold. A
//! target that is deaf fills its own outbox: as long as another one has room, that one's alerts go on.

use std::collections::BTreeMap;

use super::Settings;
use crate::model::TargetName;

/// How much the outboxes press back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Below the warning threshold.
    Calm,
    /// Above it.
    Warned,
    /// Above the shed threshold.
    Shedding,
}

/// How full all outboxes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Observed {
    /// The worst level.
    pub(super) level: Level,
    /// Alerts in the fullest outbox.
    pub(super) waiting: u64,
    /// The outboxes above the shed threshold, and what waits in each.
    pub(super) crowded: BTreeMap<TargetName, u64>,
    /// Whether that is every outbox.
    pub(super) all: bool,
}

/// Remembers the level of each outbox.
#[derive(Debug, Default)]
pub(super) struct Pressures(BTreeMap<TargetName, Pressure>);

impl Pressures {
    /// The levels at these depths.
    pub(super) fn observe<'a>(
        &mut self,
        depths: impl Iterator<Item = (&'a TargetName, u64)>,
        settings: &Settings,
    ) -> Observed {
        let mut observed = Observed { level: Level::Calm, waiting: 0, crowded: BTreeMap::new(), all: true };
        let mut outboxes = 0;
        for (name, depth) in depths {
            outboxes += 1;
            if !self.0.contains_key(name) {
                self.0.insert(name.clone(), Pressure::new());
            }
            let Some(pressure) = self.0.get_mut(name) else { continue };
            let level = pressure.observe(depth, settings);
            observed.level = observed.level.max(level);
            observed.waiting = observed.waiting.max(depth);
            if level == Level::Shedding {
                observed.crowded.insert(name.clone(), depth);
            }
        }
        observed.all = outboxes > 0 && observed.crowded.len() == outboxes;
        observed
    }
}

/// Remembers the level of one outbox.
#[derive(Debug)]
struct Pressure {
    level: Level,
}

impl Pressure {
    fn new() -> Self {
        Self { level: Level::Calm }
    }

    /// The level at this depth. A level is left once the depth has fallen a tenth below its threshold.
    fn observe(&mut self, depth: u64, settings: &Settings) -> Level {
        let reached = |level: Level, threshold: u64| {
            let threshold = if self.level >= level { threshold - threshold / 10 } else { threshold };
            depth >= threshold
        };
        self.level = if reached(Level::Shedding, settings.queue_shed_threshold) {
            Level::Shedding
        } else if reached(Level::Warned, settings.queue_warn_threshold) {
            Level::Warned
        } else {
            Level::Calm
        };
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[(u64, Level)]) {
        let settings = Settings { queue_warn_threshold: 100, queue_shed_threshold: 1_000, ..Settings::default() };
        let mut pressure = Pressure::new();
        for (depth, expected) in steps {
            assert_eq!(pressure.observe(*depth, &settings), *expected, "at {depth} of {steps:?}");
        }
    }

    #[test]
    fn a_full_outbox_is_all_there_is_or_one_of_several() {
        let settings = Settings { queue_warn_threshold: 100, queue_shed_threshold: 1_000, ..Settings::default() };
        let [a, b] = ["a", "b"].map(|name| TargetName::new(name).expect("a name"));
        let mut pressures = Pressures::default();
        let mut check = |depths: [u64; 2], level: Level, crowded: usize, all: bool| {
            let observed = pressures.observe([&a, &b].into_iter().zip(depths), &settings);
            assert_eq!((observed.level, observed.crowded.len(), observed.all), (level, crowded, all), "{depths:?}");
            assert_eq!(observed.waiting, depths[0].max(depths[1]));
        };
        check([0, 0], Level::Calm, 0, false);
        check([600, 600], Level::Warned, 0, false);
        check([1_000, 5], Level::Shedding, 1, false);
        check([950, 1_000], Level::Shedding, 2, true);
        check([10, 950], Level::Shedding, 1, false);
        let none = Pressures::default().observe(std::iter::empty(), &settings);
        assert_eq!((none.level, none.all), (Level::Calm, false));
    }

    #[test]
    fn a_level_begins_at_its_threshold() {
        check(&[
            (0, Level::Calm),
            (99, Level::Calm),
            (100, Level::Warned),
            (999, Level::Warned),
            (1_000, Level::Shedding),
        ]);
    }

    #[test]
    fn a_level_ends_a_tenth_below_its_threshold() {
        check(&[(1_000, Level::Shedding), (900, Level::Shedding), (899, Level::Warned), (950, Level::Warned)]);
        check(&[(100, Level::Warned), (90, Level::Warned), (89, Level::Calm), (95, Level::Calm)]);
        check(&[(5_000, Level::Shedding), (0, Level::Calm)]);
    }
}
