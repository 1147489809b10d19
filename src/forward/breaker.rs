//! The circuit breaker of one target: whether it may be spoken to. Pure; the time is handed in.
//!
//! Closed: everything may go. After so many failures in a row, or one that says enough by itself (no key is taken, the
//! address is forbidden), it opens: nothing goes for the time-out. Then it is half open: one alert goes, and its fate
//! closes it or opens it again. A process that starts anew starts closed.

use std::time::Duration;

use tokio::time::Instant;

/// What may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Everything.
    All,
    /// One delivery, with nothing else under way.
    One,
    /// Nothing until then.
    NotBefore(Instant),
}

/// What a failure did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It was one more.
    Counted,
    /// It opened the breaker.
    Opened,
    /// The one alert that was tried failed too: it is open again.
    Reopened,
    /// It belongs to a delivery that began before the breaker opened.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// The state of one target.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// When the failures began that no success has ended.
    failing_since: Option<Instant>,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self { state: State::Closed { failures: 0 }, failing_since: None }
    }

    /// What may go; an open breaker whose time is over becomes half open.
    pub(super) fn admission(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::All,
            State::Open { until } if now < until => Admission::NotBefore(until),
            State::Open { .. } | State::HalfOpen => {
                self.state = State::HalfOpen;
                Admission::One
            }
        }
    }

    /// The target answered as one that is well. True if it was not closed before.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failing_since = None;
        let was_closed = matches!(self.state, State::Closed { .. });
        self.state = State::Closed { failures: 0 };
        !was_closed
    }

    /// A delivery failed through the target's fault. `certain` opens it at once.
    pub(super) fn failed(&mut self, now: Instant, certain: bool, threshold: u32, timeout: Duration) -> Effect {
        self.failing_since.get_or_insert(now);
        match self.state {
            State::Open { .. } => Effect::Late,
            State::HalfOpen => {
                self.state = State::Open { until: now + timeout };
                Effect::Reopened
            }
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                if certain || failures >= threshold {
                    self.state = State::Open { until: now + timeout };
                    return Effect::Opened;
                }
                self.state = State::Closed { failures };
                Effect::Counted
            }
        }
    }

    /// Something changed that may have been the cause: an open breaker lets one alert try at once.
    pub(super) fn reconsider(&mut self) {
        if matches!(self.state, State::Open { .. }) {
            self.state = State::HalfOpen;
        }
    }

    /// Someone knows better: closed.
    pub(super) fn reset(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// Whether it is open or half open.
    pub(super) const fn is_tripped(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Whether nothing may go yet.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until } if now < until)
    }

    /// How long deliveries have been failing without a success.
    pub(super) fn failing_for(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn fail(breaker: &mut Breaker, now: Instant) -> Effect {
        breaker.failed(now, false, 3, TIMEOUT)
    }

    #[test]
    fn it_opens_at_the_threshold_and_lets_one_try_after_the_time() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        assert_eq!([fail(&mut breaker, start), fail(&mut breaker, start)], [Effect::Counted; 2]);
        assert_eq!(breaker.admission(start), Admission::All);
        assert_eq!(fail(&mut breaker, start), Effect::Opened);
        assert_eq!(breaker.admission(start), Admission::NotBefore(start + TIMEOUT));
        assert_eq!(fail(&mut breaker, start), Effect::Late);
        assert_eq!(breaker.admission(start + TIMEOUT), Admission::One);
        assert_eq!(fail(&mut breaker, start + TIMEOUT), Effect::Reopened);
        assert_eq!(breaker.admission(start + TIMEOUT), Admission::NotBefore(start + TIMEOUT * 2));
        assert_eq!(breaker.admission(start + TIMEOUT * 2), Admission::One);
        assert!(breaker.succeeded());
        assert_eq!(breaker.admission(start + TIMEOUT * 2), Admission::All);
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..10 {
            fail(&mut breaker, start);
            fail(&mut breaker, start);
            assert!(!breaker.succeeded());
        }
        assert!(!breaker.is_tripped());
    }

    #[test]
    fn a_certain_failure_opens_at_once_and_a_change_lets_one_try() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        assert_eq!(breaker.failed(start, true, 100, TIMEOUT), Effect::Opened);
        breaker.reconsider();
        assert_eq!(breaker.admission(start), Admission::One);
        assert_eq!(breaker.failed(start, true, 100, TIMEOUT), Effect::Reopened);
        breaker.reset();
        assert_eq!(breaker.admission(start), Admission::All);
    }

    #[test]
    fn how_long_it_fails_is_counted_from_the_first_failure() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        assert_eq!(breaker.failing_for(start + TIMEOUT), Duration::ZERO);
        fail(&mut breaker, start);
        breaker.reset();
        fail(&mut breaker, start + TIMEOUT);
        assert_eq!(breaker.failing_for(start + TIMEOUT * 2), TIMEOUT * 2);
        breaker.succeeded();
        assert_eq!(breaker.failing_for(start + TIMEOUT * 2), Duration::ZERO);
    }
}
