//! When each message of a run is due: counted from the start, so that a late message does not make all later ones late.
//!
//! A run that fell behind catches up; it never drops a message to keep its rate.

use std::time::{Duration, Instant};

/// The time table of one run, shared by all its connections.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    /// Messages a second over all connections; `None` is as fast as it goes.
    rate: Option<f64>,
    /// Messages in all.
    count: u64,
    end: Option<Instant>,
}

impl Schedule {
    /// A run of at most `count` messages that starts now and is over after `duration`, if one is given.
    pub fn new(rate: Option<f64>, count: u64, duration: Option<Duration>) -> Self {
        let start = Instant::now();
        Self { start, rate, count, end: duration.map(|duration| start + duration) }
    }

    /// When the run started.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// `number`, or the last message's number if that is smaller.
    pub fn within(&self, number: u64) -> u64 {
        number.min(self.count.saturating_sub(1))
    }

    /// Messages with a number below this may have been sent by `now`.
    pub fn due(&self, now: Instant) -> u64 {
        let Some(rate) = self.rate else { return self.count };
        let elapsed = now.saturating_duration_since(self.start).as_secs_f64();
        // Message 0 is due at once. A float holds the product exactly enough up to 2^53 messages.
        ((elapsed * rate) as u64).saturating_add(1).min(self.count)
    }

    /// How long from `now` until message `number` is due.
    pub fn wait(&self, number: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let at = Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX);
        at.saturating_sub(now.saturating_duration_since(self.start))
    }

    /// Whether message `number` is beyond the run's end.
    pub fn is_over(&self, number: u64, now: Instant) -> bool {
        number >= self.count || self.end.is_some_and(|end| now >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_the_whole_run_however_late_a_look_is() {
        let schedule = Schedule::new(Some(1_000.0), 10_000, None);
        let at = |millis| schedule.start + Duration::from_millis(millis);
        assert_eq!(schedule.due(at(0)), 1);
        assert_eq!(schedule.due(at(250)), 251);
        assert_eq!(schedule.due(at(5_000)), 5_001);
        assert_eq!(schedule.due(at(60_000)), 10_000);
        assert_eq!(schedule.wait(500, at(200)), Duration::from_millis(300));
        assert_eq!(schedule.wait(500, at(900)), Duration::ZERO);
    }

    #[test]
    fn a_run_ends_with_its_count_or_its_time() {
        let schedule = Schedule::new(None, 10, Some(Duration::from_secs(2)));
        let now = schedule.start;
        assert_eq!(schedule.due(now), 10);
        assert!(!schedule.is_over(9, now));
        assert!(schedule.is_over(10, now));
        assert!(schedule.is_over(0, now + Duration::from_secs(2)));
    }
}
