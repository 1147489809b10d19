//! How full the outboxes are, with hysteresis so that the answer does not flutter at a threshold.

use super::Settings;

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

/// Remembers the level.
#[derive(Debug)]
pub(super) struct Pressure {
    level: Level,
}

impl Pressure {
    pub(super) fn new() -> Self {
        Self { level: Level::Calm }
    }

    /// The level at this depth. A level is left once the depth has fallen a tenth below its threshold.
    pub(super) fn observe(&mut self, depth: u64, settings: &Settings) -> Level {
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
