//! Events per second and per minute over the last day, for the overview page and `metrics` in the API.
//! Kept in memory: a restart starts anew; Prometheus has the history.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::model::Timestamp;

/// Minutes kept: one day.
const MINUTES: usize = 24 * 60;

#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    /// Minutes since the epoch; 0 for a bucket not used yet.
    number: i64,
    received: u64,
    forwarded: u64,
}

/// Counts by minute; clones share them.
#[derive(Debug, Clone)]
pub struct Rates {
    clock: Clock,
    /// Counting began here: a rate over a longer span would be too low.
    started: Timestamp,
    minutes: Arc<Mutex<Vec<Minute>>>,
}

/// Rates in events per second, and the chart of the last 24 hours.
#[derive(Debug, Clone, PartialEq)]
pub struct RateSummary {
    /// Over the last full minute and the part of the current one.
    pub last_minute: f64,
    /// Over 15 minutes.
    pub last_15_minutes: f64,
    /// Over an hour.
    pub last_hour: f64,
    /// Received over an hour.
    pub received_last_hour: u64,
    /// Forwarded over an hour.
    pub forwarded_last_hour: u64,
    /// Hours since the epoch and events received in each of the last 24, oldest first.
    pub hours: Vec<(i64, u64)>,
}

impl Rates {
    /// Starts at zero.
    pub fn new(clock: Clock) -> Self {
        let started = clock.now();
        Self { clock, started, minutes: Arc::new(Mutex::new(vec![Minute::default(); MINUTES])) }
    }

    /// Counts events committed to the queue.
    pub fn count_received(&self, events: u64) {
        self.count(|minute| minute.received += events);
    }

    /// Counts alerts made.
    pub fn count_forwarded(&self, events: u64) {
        self.count(|minute| minute.forwarded += events);
    }

    fn count(&self, add: impl FnOnce(&mut Minute)) {
        let number = self.clock.now().as_seconds().div_euclid(60);
        let mut minutes = self.minutes.lock();
        let slot = &mut minutes[usize::try_from(number).unwrap_or(0) % MINUTES];
        if slot.number != number {
            *slot = Minute { number, ..Minute::default() };
        }
        add(slot);
    }

    /// The rates now.
    pub fn summary(&self) -> RateSummary {
        let moment = self.clock.now();
        let seconds = moment.as_seconds();
        let now = seconds.div_euclid(60);
        let counted = moment.since(self.started).as_secs_f64().max(1.0);
        let minutes = self.minutes.lock().clone();
        let received = |span: i64| sum(&minutes, now - span, now, |minute| minute.received);
        let forwarded = sum(&minutes, now - 60, now, |minute| minute.forwarded);
        let into_this_minute = seconds.rem_euclid(60) as f64;
        let rate = |span: i64| received(span) as f64 / (span as f64 * 60.0 + into_this_minute).min(counted);
        let this_hour = now.div_euclid(60);
        let hours = (this_hour - 23..=this_hour)
            .map(|hour| (hour, sum(&minutes, hour * 60, hour * 60 + 59, |minute| minute.received)));
        RateSummary {
            last_minute: rate(1),
            last_15_minutes: rate(15),
            last_hour: rate(60),
            received_last_hour: received(60),
            forwarded_last_hour: forwarded,
            hours: hours.collect(),
        }
    }
}

fn sum(minutes: &[Minute], from: i64, to: i64, value: impl Fn(&Minute) -> u64) -> u64 {
    minutes.iter().filter(|minute| minute.number >= from && minute.number <= to).map(value).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_over_the_time_that_was_counted() {
        let clock = Clock::fixed(Timestamp::from_millis(1_800_000_030_000));
        let rates = Rates::new(clock.clone());
        for _ in 0..20 {
            rates.count_received(10);
            clock.advance(Duration::from_secs(1));
        }
        let summary = rates.summary();
        assert_eq!((summary.last_minute, summary.last_hour), (10.0, 10.0));
        assert_eq!(summary.received_last_hour, 200);
        clock.advance(Duration::from_secs(2 * 3_600));
        assert_eq!(rates.summary().received_last_hour, 0);
        assert_eq!(rates.summary().hours.iter().map(|(_, events)| events).sum::<u64>(), 200);
    }
}
