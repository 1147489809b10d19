//! What a run has sent and what came back: live counters while it runs, a report at its end.
//!
//! Memory is bounded whatever a run's length: latencies are kept as a histogram, of errors only the first few texts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// Texts of errors that are kept; a run that fails usually fails the same way each time.
const KEPT_ERRORS: usize = 5;
/// Buckets of a doubling of latency: 16 make them 6 % wide at most.
const BUCKETS_PER_DOUBLING: usize = 16;

/// Counters that all connections of a run add to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages handed to the network.
    pub sent: AtomicU64,
    /// Their bytes, framing included.
    pub bytes: AtomicU64,
    /// Messages that an answer accepted (HTTP 2xx, inform responses).
    pub accepted: AtomicU64,
    /// Messages that an answer refused.
    pub refused: AtomicU64,
    /// Messages that wanted an answer and got none, or whose connection failed.
    pub unanswered: AtomicU64,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    statuses: BTreeMap<u16, u64>,
    latencies: Latencies,
    errors: Vec<String>,
    /// Messages of each connection, by its number.
    connections: BTreeMap<u64, u64>,
}

impl Tally {
    /// Counts messages that went out.
    pub fn add_sent(&self, messages: u64, bytes: u64) {
        self.sent.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one answer: its HTTP status, if it has one, and what it said about its messages.
    pub fn add_answer(&self, status: Option<u16>, took: Duration, accepted: u64, refused: u64) {
        self.accepted.fetch_add(accepted, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
        let mut details = self.details.lock();
        if let Some(status) = status {
            *details.statuses.entry(status).or_default() += 1;
        }
        details.latencies.add(took);
    }

    /// Counts messages without an answer.
    pub fn add_unanswered(&self, messages: u64) {
        self.unanswered.fetch_add(messages, Ordering::Relaxed);
    }

    /// Counts messages that the peer's system turned away.
    pub fn add_refused(&self, messages: u64) {
        self.refused.fetch_add(messages, Ordering::Relaxed);
    }

    /// Notes how many messages a connection has sent in all. One that broke off amid a message notes nothing.
    pub fn note_connection(&self, index: u64, messages: u64) {
        self.details.lock().connections.insert(index, messages);
    }

    /// Keeps what went wrong, unless it is known already.
    pub fn add_error(&self, text: String) {
        let errors = &mut self.details.lock().errors;
        if errors.len() < KEPT_ERRORS && !errors.contains(&text) {
            errors.push(text);
        }
    }

    /// The report of a run that `planned` so many messages, if their number was fixed, and took `took`.
    pub fn report(&self, what: String, planned: Option<u64>, took: Duration) -> Report {
        let details = self.details.lock();
        let sent = self.sent.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let seconds = took.as_secs_f64().max(1e-6);
        Report {
            what,
            planned,
            sent,
            bytes,
            seconds,
            messages_per_second: sent as f64 / seconds,
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            statuses: details.statuses.clone(),
            latency: details.latencies.summary(),
            errors: details.errors.clone(),
            connections: details.connections.clone(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Protocol and address.
    pub what: String,
    /// Messages to send, unless the run was bounded by time.
    pub planned: Option<u64>,
    /// Messages sent.
    pub sent: u64,
    /// Bytes sent, framing included.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Messages sent a second.
    pub messages_per_second: f64,
    /// Messages that an answer accepted.
    pub accepted: u64,
    /// Messages that an answer or the peer's system refused.
    pub refused: u64,
    /// Messages without the answer they wanted.
    pub unanswered: u64,
    /// HTTP answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Time from request to answer.
    pub latency: Option<LatencySummary>,
    /// The first few different errors.
    pub errors: Vec<String>,
    /// Messages of each connection; one that broke off is missing. Connection `c` of `n` sends the messages `c`, `c + n`,
    /// `c + 2 n` and so on, so this tells exactly which messages went out.
    #[serde(skip)]
    pub connections: BTreeMap<u64, u64>,
}

impl Report {
    /// Whether everything was sent and nothing was refused or left unanswered.
    pub fn is_clean(&self) -> bool {
        let complete = self.planned.is_none_or(|planned| self.sent >= planned);
        complete && self.refused == 0 && self.unanswered == 0 && self.errors.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        writeln!(f, "{}", self.what)?;
        let of = match self.planned {
            Some(planned) if planned != self.sent => format!(" of {}", grouped(planned)),
            _ => String::new(),
        };
        writeln!(f, "  sent        {}{of} messages, {megabytes:.1} MB in {:.2} s", grouped(self.sent), self.seconds)?;
        let rate = self.messages_per_second;
        writeln!(f, "  rate        {} messages/s, {:.1} MB/s", grouped(rate as u64), megabytes / self.seconds)?;
        if self.accepted + self.refused + self.unanswered > 0 {
            let (accepted, refused) = (grouped(self.accepted), grouped(self.refused));
            writeln!(
                f,
                "  answers     {accepted} accepted, {refused} refused, {} unanswered",
                grouped(self.unanswered)
            )?;
        }
        if !self.statuses.is_empty() {
            let mut list = String::new();
            for (status, count) in &self.statuses {
                write!(list, "{}{status}: {}", if list.is_empty() { "" } else { ", " }, grouped(*count))?;
            }
            writeln!(f, "  statuses    {list}")?;
        }
        if let Some(latency) = &self.latency {
            writeln!(
                f,
                "  latency     min {:.2} ms, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                latency.min_ms, latency.p50_ms, latency.p99_ms, latency.max_ms
            )?;
        }
        for error in &self.errors {
            writeln!(f, "  error       {error}")?;
        }
        Ok(())
    }
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// The shortest.
    pub min_ms: f64,
    /// Half of all were at most this.
    pub p50_ms: f64,
    /// 99 of 100 were at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// A histogram of microseconds: 64 doublings of 16 buckets each, 8 KiB for any number of values.
#[derive(Debug)]
struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    min: u64,
    max: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; 64 * BUCKETS_PER_DOUBLING], count: 0, min: u64::MAX, max: 0 }
    }
}

impl Latencies {
    fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
        self.min = self.min.min(micros);
        self.max = self.max.max(micros);
    }

    fn summary(&self) -> Option<LatencySummary> {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        (self.count > 0).then(|| LatencySummary {
            min_ms: millis(self.min),
            p50_ms: millis(self.quantile(50)),
            p99_ms: millis(self.quantile(99)),
            max_ms: millis(self.max),
        })
    }

    /// The upper edge of the bucket in which the value at `percent` lies.
    fn quantile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge(at).clamp(self.min, self.max);
            }
        }
        self.max
    }
}

/// Values below 16 have a bucket each; above, the four bits after the highest choose one of 16.
fn bucket(micros: u64) -> usize {
    let small = BUCKETS_PER_DOUBLING as u64;
    if micros < small {
        return usize::try_from(micros).unwrap_or(0);
    }
    let shift = micros.ilog2() - 4;
    let within = usize::try_from((micros >> shift) - small).unwrap_or(0);
    (shift as usize + 1) * BUCKETS_PER_DOUBLING + within
}

fn upper_edge(bucket: usize) -> u64 {
    let (doubling, within) = (bucket / BUCKETS_PER_DOUBLING, (bucket % BUCKETS_PER_DOUBLING) as u64);
    // The last edge is 2^64, of which the shift leaves 0.
    if doubling == 0 { within } else { ((BUCKETS_PER_DOUBLING as u64 + within + 1) << (doubling - 1)).wrapping_sub(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_seven_percent() {
        let mut latencies = Latencies::default();
        for micros in 1..=100_000 {
            latencies.add(Duration::from_micros(micros));
        }
        let summary = latencies.summary().expect("values");
        assert_eq!((summary.min_ms, summary.max_ms), (0.001, 100.0));
        assert!((50.0..53.5).contains(&summary.p50_ms), "{summary:?}");
        assert!((99.0..=100.0).contains(&summary.p99_ms), "{summary:?}");
    }

    #[test]
    fn each_value_lies_in_its_bucket_up_to_the_largest() {
        for micros in [0, 1, 15, 16, 17, 31, 32, 1_000, 123_456_789, u64::MAX / 2, u64::MAX] {
            let bucket = bucket(micros);
            assert!(bucket < 64 * BUCKETS_PER_DOUBLING, "{micros}");
            assert!(bucket == 0 || upper_edge(bucket - 1) < micros, "{micros}");
            assert!(upper_edge(bucket) >= micros, "{micros}");
        }
        assert_eq!(Latencies::default().summary(), None);
    }

    #[test]
    fn a_report_is_clean_only_if_all_was_sent_and_accepted() {
        let check = |sent, refused, unanswered, planned, clean| {
            let tally = Tally::default();
            tally.add_sent(sent, 100);
            tally.add_refused(refused);
            tally.add_unanswered(unanswered);
            let report = tally.report("x".into(), planned, Duration::from_secs(1));
            assert_eq!(report.is_clean(), clean, "{report}");
        };
        check(10, 0, 0, Some(10), true);
        check(10, 0, 0, None, true);
        check(9, 0, 0, Some(10), false);
        check(10, 1, 0, Some(10), false);
        check(10, 0, 1, Some(10), false);
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_same_error_is_kept_once_and_many_are_bounded() {
        let tally = Tally::default();
        for number in 0..100 {
            tally.add_error("the same".into());
            tally.add_error(format!("error {number}"));
        }
        assert_eq!(tally.report(String::new(), None, Duration::from_secs(1)).errors.len(), KEPT_ERRORS);
    }
}
