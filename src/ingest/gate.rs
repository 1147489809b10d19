//! Lets events in or says why not: rate limit and queue limits. Pure checks; nothing here waits.

use std::num::NonZeroU32;
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::{DropReason, Settings};
use crate::live::Live;
use crate::queue::Depth;
use crate::telemetry::metrics::INGEST_RATE_LIMITED;

/// Why events were not taken, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More events than `ingest_max_rate` allows.
    #[error(
        "the ingest rate limit of {limit} events per {window_seconds} s is reached; try again in {} s or raise ingest_max_rate",
        .retry_after.as_secs_f64().ceil()
    )]
    RateLimited {
        /// Events per window.
        limit: u32,
        /// The window.
        window_seconds: u64,
        /// When there is room again.
        retry_after: Duration,
    },
    /// The event queue is at its limit.
    #[error("the event queue is full ({depth} of {limit} {unit} waiting); try again later or raise the limit")]
    QueueFull {
        /// What waits.
        depth: u64,
        /// What may wait.
        limit: u64,
        /// `events` or `bytes`.
        unit: &'static str,
    },
    /// The disk is full or failing.
    #[error("events cannot be stored: {0}")]
    Storage(String),
    /// The event is larger than a queue record may be.
    #[error("{0}")]
    TooLarge(String),
    /// The process is stopping.
    #[error("the server is stopping; try again in a few seconds")]
    Stopping,
}

impl Refusal {
    /// The reason it is counted under.
    pub const fn reason(&self) -> DropReason {
        match self {
            Self::RateLimited { .. } => DropReason::RateLimited,
            Self::QueueFull { .. } => DropReason::QueueFull,
            Self::Storage(_) => DropReason::Storage,
            Self::TooLarge(_) => DropReason::TooLarge,
            Self::Stopping => DropReason::Stopping,
        }
    }

    /// Whether a batch of so many events could never be taken as a whole, but in parts.
    pub const fn needs_parts(&self, events: usize) -> bool {
        match self {
            Self::TooLarge(_) => events > 1,
            // In bytes, what waits decides alone: no batch is too large for that.
            Self::QueueFull { limit, .. } => events > 1 && events as u64 > *limit,
            _ => false,
        }
    }

    /// How long a sender should wait before it tries again.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => Duration::from_secs(1),
        }
    }
}

/// A limiter with the setting it was made for.
struct Limiter {
    max_rate: u32,
    window: Duration,
    limiter: DefaultDirectRateLimiter,
}

/// The checks every event passes before it may be appended.
pub struct Gate {
    settings: Live<Settings>,
    limiter: ArcSwap<Option<Limiter>>,
}

impl Gate {
    /// A gate that follows `settings`.
    pub fn new(settings: Live<Settings>) -> Self {
        Self { settings, limiter: ArcSwap::from_pointee(None) }
    }

    /// Whether `events` more may come in while the queue holds `depth`.
    pub fn admit(&self, events: usize, depth: Depth) -> Result<(), Refusal> {
        let settings = self.settings.get();
        if depth.items.saturating_add(events as u64) > settings.max_queue_items {
            return Err(Refusal::QueueFull { depth: depth.items, limit: settings.max_queue_items, unit: "events" });
        }
        if depth.bytes >= settings.max_queue_bytes {
            return Err(Refusal::QueueFull { depth: depth.bytes, limit: settings.max_queue_bytes, unit: "bytes" });
        }
        match settings.max_rate {
            None => Ok(()),
            Some(max_rate) => self.check_rate(max_rate, settings.rate_window, events),
        }
    }

    fn check_rate(&self, max_rate: u32, window: Duration, events: usize) -> Result<(), Refusal> {
        let current = self.limiter.load();
        let fresh;
        let limiter = match current.as_ref() {
            Some(limiter) if limiter.max_rate == max_rate && limiter.window == window => limiter,
            _ => {
                let burst = NonZeroU32::new(max_rate).unwrap_or(NonZeroU32::MIN);
                let period = (window / burst.get()).max(Duration::from_nanos(1));
                let quota = Quota::with_period(period).unwrap_or(Quota::per_second(burst)).allow_burst(burst);
                self.limiter.store(std::sync::Arc::new(Some(Limiter {
                    max_rate,
                    window,
                    limiter: RateLimiter::direct(quota),
                })));
                fresh = self.limiter.load();
                match fresh.as_ref() {
                    Some(limiter) => limiter,
                    None => return Ok(()),
                }
            }
        };
        // A batch larger than the whole allowance can never pass; it takes all of it instead.
        let wanted = u32::try_from(events).unwrap_or(u32::MAX).clamp(1, max_rate.max(1));
        let wanted = NonZeroU32::new(wanted).unwrap_or(NonZeroU32::MIN);
        let Ok(Err(not_until)) = limiter.limiter.check_n(wanted) else { return Ok(()) };
        metrics::counter!(INGEST_RATE_LIMITED).increment(events as u64);
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        Err(Refusal::RateLimited { limit: max_rate, window_seconds: window.as_secs(), retry_after: wait })
    }
}
