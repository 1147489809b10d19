//! How fast a target may be spoken to; the limit may change at any time.
//!
//! Deliveries are spread evenly over the period: 50 a second is one every 20 ms. Only what falls within 10 ms may go
//! at once, because timers are no finer.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::Settings;

/// What may go at once is what falls within this time.
const GRAIN: Duration = Duration::from_millis(10);

/// Permits to deliver.
pub(super) struct Limiter {
    /// The limit that `bucket` was made for.
    rate: (Option<u32>, Duration),
    /// `None` for no limit.
    bucket: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
    /// Permits taken and not used: there was nothing to deliver.
    unused: usize,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self { rate: (None, Duration::ZERO), bucket: None, clock: DefaultClock::default(), unused: 0 }
    }

    /// Between one and `most` permits, or how long to wait for one.
    pub(super) fn take(&mut self, most: usize, settings: &Settings) -> Result<usize, Duration> {
        let rate = (settings.rate_limit, settings.rate_period);
        if self.rate != rate {
            self.rate = rate;
            self.bucket = bucket(rate.0, rate.1);
            self.unused = 0;
        }
        let Some(bucket) = &self.bucket else { return Ok(most) };
        let mut permits = std::mem::take(&mut self.unused).min(most);
        while permits < most {
            match bucket.check() {
                Ok(()) => permits += 1,
                Err(_) if permits > 0 => break,
                Err(not_yet) => return Err(not_yet.wait_time_from(self.clock.now())),
            }
        }
        Ok(permits)
    }

    /// Gives permits back that were not used.
    pub(super) fn give_back(&mut self, permits: usize) {
        if self.bucket.is_some() {
            self.unused = permits;
        }
    }
}

fn bucket(limit: Option<u32>, period: Duration) -> Option<DefaultDirectRateLimiter> {
    let limit = limit.and_then(NonZeroU32::new)?;
    let interval = period / limit.get();
    let grains = GRAIN.as_nanos() / interval.as_nanos().max(1);
    let burst = NonZeroU32::new(u32::try_from(grains).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
    // A period too short to be divided by the limit is no limit.
    Quota::with_period(interval).map(|quota| RateLimiter::direct(quota.allow_burst(burst)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(limit: Option<u32>, seconds: u64) -> Settings {
        Settings { rate_limit: limit, rate_period: Duration::from_secs(seconds), ..Settings::default() }
    }

    #[test]
    fn without_a_limit_everything_may_go() {
        let mut limiter = Limiter::new();
        for limit in [None, Some(0)] {
            assert_eq!(limiter.take(8, &settings(limit, 1)), Ok(8));
            assert_eq!(limiter.take(8, &settings(limit, 1)), Ok(8));
        }
    }

    #[test]
    fn a_limit_spreads_deliveries_over_its_period() {
        let mut limiter = Limiter::new();
        let settings = settings(Some(2), 3_600);
        assert_eq!(limiter.take(8, &settings), Ok(1));
        let wait = limiter.take(8, &settings).expect_err("none is left");
        assert!(wait > Duration::from_secs(1_700) && wait <= Duration::from_secs(1_800), "{wait:?}");
    }

    #[test]
    fn a_permit_that_was_not_used_is_not_lost() {
        let mut limiter = Limiter::new();
        let settings = settings(Some(1), 3_600);
        assert_eq!(limiter.take(8, &settings), Ok(1));
        limiter.give_back(1);
        assert_eq!(limiter.take(8, &settings), Ok(1));
        assert!(limiter.take(8, &settings).is_err());
    }

    #[test]
    fn a_changed_limit_is_in_force_at_once() {
        let mut limiter = Limiter::new();
        assert_eq!(limiter.take(8, &settings(Some(1), 3_600)), Ok(1));
        assert!(limiter.take(8, &settings(Some(1), 3_600)).is_err());
        assert_eq!(limiter.take(8, &settings(None, 3_600)), Ok(8));
        assert_eq!(limiter.take(4, &settings(Some(1_000_000), 1)), Ok(4));
    }
}
