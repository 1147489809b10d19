//! Lets events in or says why not: rate limit and queue limits. Pure checks; nothing here waits.
//!
//! The inputs share the event queue fairly: those whose senders can be made to wait without loss stop first, then those
//! that cannot ask again, and what is left serves HTTP, which has to be answered (ADR-009). So a flood by one input never
//! shuts out another.

use std::num::NonZeroU32;
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::{DropReason, Settings};
use crate::live::Live;
use crate::model::Protocol;
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
    /// More events at once than the event queue may ever hold: sending them again would not help, sending fewer does.
    #[error(
        "{events} events at once are more than the event queue may hold ({limit}); send fewer at once or raise \
         max_ingest_queue_size"
    )]
    TooMany {
        /// Events at once.
        events: u64,
        /// What may wait, for this input.
        limit: u64,
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
            Self::TooLarge(_) | Self::TooMany { .. } => DropReason::TooLarge,
            Self::Stopping => DropReason::Stopping,
        }
    }

    /// Whether a batch of so many events could never be taken as a whole, but in parts.
    pub const fn needs_parts(&self, events: usize) -> bool {
        match self {
            Self::TooLarge(_) | Self::TooMany { .. } => events > 1,
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

/// How far `protocol` may fill a queue of at most `limit`: streams to nine tenths, because their senders wait without
/// loss; datagrams to nineteen twentieths, because theirs cannot ask again; HTTP to the brim, because its senders are
/// told to come back and others must not fill the room before them.
const fn share(protocol: Protocol, limit: u64) -> u64 {
    match protocol {
        Protocol::SyslogTcp | Protocol::SyslogTls => limit - limit / 10,
        Protocol::SyslogUdp | Protocol::SnmpTrap => limit - limit / 20,
        Protocol::Http | Protocol::Internal => limit,
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

    /// Whether `events` more may come in by `protocol` while the queue holds `depth` and `under_way` were let in that are
    /// not in it yet. Those count against streams and datagrams, which would else fill the room of others with what they
    /// bring at once; HTTP has the last of the room, whatever the others are about to bring.
    pub fn admit(&self, protocol: Protocol, events: usize, depth: Depth, under_way: u64) -> Result<(), Refusal> {
        let settings = self.settings.get();
        let limit = share(protocol, settings.max_queue_items);
        if events as u64 > limit {
            return Err(Refusal::TooMany { events: events as u64, limit });
        }
        let ahead = if limit < settings.max_queue_items { under_way } else { 0 };
        if depth.items.saturating_add(ahead).saturating_add(events as u64) > limit {
            return Err(Refusal::QueueFull { depth: depth.items, limit, unit: "events" });
        }
        let limit = share(protocol, settings.max_queue_bytes);
        if depth.bytes >= limit {
            return Err(Refusal::QueueFull { depth: depth.bytes, limit, unit: "bytes" });
        }
        match settings.max_rate {
            None => Ok(()),
            Some(max_rate) => self.check_rate(max_rate, settings.rate_window, events),
        }
    }

    /// Checks the rate limit. It is one for all inputs, in the order they ask.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(items: u64, rate: Option<u32>) -> Gate {
        let rate_window = Duration::from_secs(10);
        Gate::new(Live::constant(Settings {
            max_queue_items: items,
            max_queue_bytes: 1_000,
            max_rate: rate,
            rate_window,
            ..Settings::default()
        }))
    }

    fn depth(items: u64, bytes: u64) -> Depth {
        Depth { items, bytes, ..Depth::default() }
    }

    #[test]
    fn streams_stop_first_then_datagrams_and_http_has_what_is_left() {
        let gate = gate(100, None);
        let check = |protocol, waiting, admitted: bool| {
            let answer = gate.admit(protocol, 1, depth(waiting, 0), 0);
            assert_eq!(answer.is_ok(), admitted, "{protocol} at {waiting}: {answer:?}");
        };
        for (protocol, limit) in [
            (Protocol::SyslogTcp, 90),
            (Protocol::SyslogTls, 90),
            (Protocol::SyslogUdp, 95),
            (Protocol::SnmpTrap, 95),
            (Protocol::Http, 100),
        ] {
            check(protocol, limit - 1, true);
            check(protocol, limit, false);
        }
    }

    #[test]
    fn what_streams_bring_at_once_counts_before_it_is_in_the_queue() {
        let gate = gate(100, None);
        let check = |protocol, under_way, admitted: bool| {
            let answer = gate.admit(protocol, 10, depth(50, 0), under_way);
            assert_eq!(answer.is_ok(), admitted, "{protocol} with {under_way} under way: {answer:?}");
        };
        check(Protocol::SyslogTcp, 30, true);
        check(Protocol::SyslogTcp, 31, false);
        check(Protocol::SyslogUdp, 35, true);
        check(Protocol::SyslogUdp, 36, false);
        check(Protocol::Http, 60, true);
    }

    #[test]
    fn bytes_are_shared_the_same_way() {
        let gate = gate(100, None);
        assert!(gate.admit(Protocol::Http, 1, depth(1, 999), 0).is_ok());
        let refused = gate.admit(Protocol::SyslogTcp, 1, depth(1, 900), 0);
        assert_eq!(refused, Err(Refusal::QueueFull { depth: 900, limit: 900, unit: "bytes" }));
    }

    #[test]
    fn more_than_the_whole_queue_is_to_be_sent_in_parts() {
        let gate = gate(10, None);
        let refusal = gate.admit(Protocol::Http, 11, depth(0, 0), 0).expect_err("too many");
        assert_eq!(refusal, Refusal::TooMany { events: 11, limit: 10 });
        assert!(refusal.needs_parts(11) && !refusal.needs_parts(1));
        let full = gate.admit(Protocol::Http, 10, depth(1, 0), 0).expect_err("full for now");
        assert!(!full.needs_parts(10), "waiting helps: {full}");
    }

    #[test]
    fn the_rate_limit_says_when_there_is_room_again() {
        let gate = gate(100, Some(10));
        assert!(gate.admit(Protocol::Http, 10, depth(0, 0), 0).is_ok());
        let refusal = gate.admit(Protocol::SyslogUdp, 5, depth(0, 0), 0).expect_err("over the limit");
        assert!(matches!(refusal, Refusal::RateLimited { limit: 10, window_seconds: 10, .. }), "{refusal}");
        assert!(refusal.retry_after() > Duration::from_secs(3) && refusal.retry_after() <= Duration::from_secs(5));
    }
}
