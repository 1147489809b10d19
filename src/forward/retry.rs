//! When a failed delivery is due again. Pure.

use std::time::Duration;

use super::Settings;

/// A receiver may ask for patience, but not make us forget an alert.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// No try follows the one before at once, whatever the dice say.
const SHORTEST: Duration = Duration::from_millis(100);

/// The pause after try `attempt` (from 1): exponential with full jitter, so that alerts which failed together do not
/// come again together. `dice` is a random number from 0 to 1. The receiver's own wish comes first; up to one base more
/// spreads those that wait for the same moment.
pub(super) fn pause(attempt: u32, after: Option<Duration>, settings: &Settings, dice: f64) -> Duration {
    let dice = dice.clamp(0.0, 1.0);
    if let Some(after) = after {
        return after.min(LONGEST_RETRY_AFTER) + settings.retry_base.mul_f64(dice);
    }
    let doublings = attempt.saturating_sub(1).min(31);
    let longest = settings.retry_base.saturating_mul(1 << doublings).min(settings.retry_cap);
    longest.mul_f64(dice).max(SHORTEST)
}

/// A random number from 0 to 1.
pub(super) fn dice() -> f64 {
    // Without a source of randomness every pause is half the longest one, which is no harm.
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attempt: u32, after: Option<u64>, dice: f64, expected_ms: u64) {
        let pause = pause(attempt, after.map(Duration::from_secs), &Settings::default(), dice);
        assert_eq!(pause, Duration::from_millis(expected_ms), "try {attempt}, after {after:?}, dice {dice}");
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        for (attempt, expected_ms) in [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (u32::MAX, 60_000)]
        {
            check(attempt, None, 1.0, expected_ms);
        }
        check(3, None, 0.5, 2_000);
        check(3, None, 0.0, 100);
    }

    #[test]
    fn the_receivers_wish_comes_first_within_an_hour() {
        check(1, Some(120), 0.0, 120_000);
        check(5, Some(120), 0.5, 120_500);
        check(1, Some(86_400), 0.0, 3_600_000);
        check(1, Some(0), 0.0, 0);
    }
}
