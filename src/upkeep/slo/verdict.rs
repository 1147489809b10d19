//! A level's figures over the windows, and its state by burn rates. Pure.
//!
//! The burn rate is the share of bad events over the share that the objective allows. A state needs a long window, so that
//! a blip does not count, and a short one, so that it ends soon after the trouble does (Google, "The Site Reliability
//! Workbook", chapter 5: multiwindow, multi-burn-rate alerts).

use super::counting::{Counts, Level};
use super::settings::Settings;
use super::tally::Tally;
use crate::model::Timestamp;
use crate::store::Width;

/// Bad events below which no state is raised, whatever their share: two failed deliveries in a quiet hour are no trend.
const LEAST_BAD: u64 = 10;

/// A window that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// As people write it.
    pub name: &'static str,
    width: Width,
    buckets: i64,
}

const fn window(name: &'static str, width: Width, buckets: i64) -> Window {
    Window { name, width, buckets }
}

/// The windows, shortest first.
pub const WINDOWS: [Window; 5] = [
    window("5m", Width::Minute, 5),
    window("1h", Width::Minute, 60),
    window("6h", Width::Minute, 360),
    window("24h", Width::Minute, 1_440),
    window("30d", Width::Hour, 720),
];

/// Burn rate, long window and short window (by their place in [`WINDOWS`]) that make a state.
const CRITICAL: [(f64, usize, usize); 2] = [(14.4, 1, 0), (6.0, 2, 1)];
const WARNING: [(f64, usize, usize); 1] = [(3.0, 3, 1)];

/// How a level is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Within its objective, or not far beside it.
    Ok,
    /// Its budget is used up too soon.
    Warning,
    /// Its budget is used up within days.
    Critical,
}

impl State {
    /// The name used in API, pages and log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The state of that name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        [Self::Ok, Self::Warning, Self::Critical].into_iter().find(|state| state.name() == name)
    }

    /// As the metric has it.
    pub(super) const fn number(self) -> f64 {
        match self {
            Self::Ok => 0.0,
            Self::Warning => 1.0,
            Self::Critical => 2.0,
        }
    }
}

/// A level over one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowReport {
    /// The window.
    pub window: Window,
    /// What was counted.
    pub counts: Counts,
    /// Share of bad events.
    pub error_ratio: f64,
    /// That share over the share the objective allows.
    pub burn_rate: f64,
}

/// A level.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelReport {
    /// Which.
    pub level: Level,
    /// Share of good events asked for.
    pub objective: f64,
    /// In seconds, for levels of time.
    pub threshold: Option<f64>,
    /// In the order of [`WINDOWS`].
    pub windows: [WindowReport; 5],
    /// What is left of the error budget of 30 days: 1 all, 0 nothing, negative overdrawn.
    pub budget_left: f64,
    /// How it is.
    pub state: State,
    /// Since when the state that was told last holds.
    pub since: Timestamp,
}

/// Looks at one level.
pub(super) fn judge(level: Level, tally: &Tally, settings: &Settings, now: Timestamp, since: Timestamp) -> LevelReport {
    let objective = settings.objective(level);
    let allowed = (1.0 - objective).max(f64::EPSILON);
    let windows = WINDOWS.map(|window| {
        let counts = tally.sum(level, now, window.width, window.buckets);
        let error_ratio = counts.error_ratio();
        WindowReport { window, counts, error_ratio, burn_rate: error_ratio / allowed }
    });
    let burns = |(factor, long, short): &(f64, usize, usize)| {
        let (long, short) = (&windows[*long], &windows[*short]);
        long.burn_rate > *factor && short.burn_rate > *factor && long.counts.bad >= LEAST_BAD
    };
    let state = if CRITICAL.iter().any(burns) {
        State::Critical
    } else if WARNING.iter().any(burns) {
        State::Warning
    } else {
        State::Ok
    };
    let threshold = match level {
        Level::IngestLatency => Some(settings.ingest_latency),
        Level::ForwardLatency => Some(settings.forward_latency),
        _ => None,
    };
    LevelReport { level, objective, threshold, budget_left: 1.0 - windows[4].burn_rate, windows, state, since }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Team;

    const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);
    const LEVEL: Level = Level::ForwardSuccess;

    /// A day of minutes with 100 deliveries each, of which `bad(minutes ago)` fail.
    fn day(bad: impl Fn(u32) -> u64) -> LevelReport {
        let mut tally = Tally::default();
        let now = START.plus(Duration::from_secs(24 * 3_600));
        for ago in (0..1_440).rev() {
            let mut gained = [Counts::default(); 6];
            gained[LEVEL.index()] = Counts { bad: bad(ago), total: 100 };
            tally.add(now.minus(Duration::from_secs(u64::from(ago) * 60)), &gained);
        }
        let settings = Settings::for_team(Team::new("NETO").expect("a team"));
        judge(LEVEL, &tally, &settings, now, now)
    }

    fn check(bad: impl Fn(u32) -> u64, expected: State) {
        let report = day(bad);
        assert_eq!(report.state, expected, "{report:?}");
    }

    #[test]
    fn a_state_needs_a_long_and_a_short_window() {
        check(|_| 0, State::Ok);
        // 0.5 % is what the objective allows: a burn rate of 1.
        check(|ago| u64::from(ago % 2 == 0), State::Ok);
        // 10 % for an hour: 20 times the budget, now and over the hour.
        check(|ago| if ago < 60 { 10 } else { 0 }, State::Critical);
        // The same an hour long, but over since ten minutes.
        check(|ago| if (10..70).contains(&ago) { 10 } else { 0 }, State::Ok);
        // 2 % all day: 4 times the budget.
        check(|_| 2, State::Warning);
        // 4 % for six hours: 8 times.
        check(|ago| if ago < 360 { 4 } else { 0 }, State::Critical);
    }

    #[test]
    fn figures_are_those_computed_by_hand() {
        // 60 minutes of 10 bad among 100; 1,440 minutes in all: 600 of 144,000.
        let report = day(|ago| if ago < 60 { 10 } else { 0 });
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        near(report.windows[0].error_ratio, 0.1);
        near(report.windows[1].burn_rate, 0.1 / 0.005);
        near(report.windows[2].error_ratio, 600.0 / 36_000.0);
        near(report.windows[3].error_ratio, 600.0 / 144_000.0);
        near(report.budget_left, 1.0 - (600.0 / 144_000.0) / 0.005);
    }

    #[test]
    fn a_handful_of_failures_is_no_trend() {
        let mut tally = Tally::default();
        let mut gained = [Counts::default(); 6];
        gained[LEVEL.index()] = Counts { bad: LEAST_BAD - 1, total: LEAST_BAD };
        tally.add(START, &gained);
        let settings = Settings::for_team(Team::new("NETO").expect("a team"));
        assert_eq!(judge(LEVEL, &tally, &settings, START, START).state, State::Ok);
        gained[LEVEL.index()] = Counts { bad: 1, total: 1 };
        tally.add(START, &gained);
        assert_eq!(judge(LEVEL, &tally, &settings, START, START).state, State::Critical);
    }
}
