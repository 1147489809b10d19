//! How one target is spoken to: pace, patience and what happens when it fails. Where it is and how it speaks are the
//! options of its kind.

use std::time::Duration;

use crate::model::TargetName;

/// Pace and patience for one target; each field names its key in `[[targets]]`, and in `[dynamic]` for Moogsoft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `rate_limit`, `moog_rate_limit`: deliveries per `rate_period`; `None` for no limit.
    pub rate_limit: Option<u32>,
    /// `rate_period_seconds`, `moog_rate_period`.
    pub rate_period: Duration,
    /// `retry_base_ms`, `moog_retry_base_ms`: the longest pause before the second try; it doubles with each further one.
    pub retry_base: Duration,
    /// `retry_cap_seconds`, `moog_retry_cap_seconds`: the longest pause of all, unless the receiver asks for more.
    pub retry_cap: Duration,
    /// `max_tries`, `moog_max_retries`: tries, the first one included, before an alert is a dead letter.
    pub max_tries: u32,
    /// `timeout_seconds`, `moog_timeout_seconds`: from connecting to the end of the answer.
    pub timeout: Duration,
    /// `concurrency`, `moog_concurrency`: deliveries at once.
    pub concurrency: usize,
    /// `breaker_threshold`, `circuit_breaker_threshold`: failures in a row after which nothing is sent.
    pub breaker_threshold: u32,
    /// `breaker_timeout_seconds`, `circuit_breaker_timeout`: how long nothing is sent before one alert is tried.
    pub breaker_timeout: Duration,
    /// `coalesce_seconds`: how long alerts are gathered into one message, for kinds that take several.
    pub coalesce: Duration,
    /// `fallback`: the target whose outbox takes over while this one fails.
    pub fallback: Option<TargetName>,
    /// `fallback_after_seconds`: how long it must have failed before that.
    pub fallback_after: Duration,
}

impl Default for Settings {
    /// The contract's figures; 50 a second is what upstream grants a Moogsoft instance.
    fn default() -> Self {
        Self {
            rate_limit: Some(50),
            rate_period: Duration::from_secs(1),
            retry_base: Duration::from_secs(1),
            retry_cap: Duration::from_secs(60),
            max_tries: 5,
            timeout: Duration::from_secs(10),
            concurrency: 8,
            breaker_threshold: 5,
            breaker_timeout: Duration::from_secs(60),
            coalesce: Duration::ZERO,
            fallback: None,
            fallback_after: Duration::from_secs(300),
        }
    }
}
