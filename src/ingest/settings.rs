//! What the inputs may be told.

use std::fmt;
use std::time::Duration;

use chrono::FixedOffset;

use crate::secret::{Secret, SecretPair};

/// Limits and options of every input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Events the event queue may hold (`max_ingest_queue_size`).
    pub max_queue_items: u64,
    /// Bytes the event queue may hold.
    pub max_queue_bytes: u64,
    /// Events taken per `rate_window` over all inputs (`ingest_max_rate`); `None` for no limit.
    pub max_rate: Option<u32>,
    /// The window of `max_rate` (`ingest_rate_window`).
    pub rate_window: Duration,
    /// JSON members an HTTP event must have.
    pub required_fields: Vec<String>,
    /// Largest HTTP body, before and after decompression, in bytes.
    pub max_body_bytes: usize,
    /// Longest syslog message kept, in bytes; what is beyond is cut and flagged.
    pub max_message_bytes: usize,
    /// Zone of device times that name none; `None` for the system's zone.
    pub device_zone: Option<FixedOffset>,
    /// Syslog TCP connections at once.
    pub max_connections: usize,
    /// A TCP connection that sends nothing for so long is closed.
    pub idle_timeout: Duration,
    /// Receive buffer asked of the kernel for each UDP socket, in bytes.
    pub receive_buffer_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_queue_items: 5_000_000,
            max_queue_bytes: 4 << 30,
            max_rate: None,
            rate_window: Duration::from_secs(60),
            required_fields: ["hostname", "message", "timestamp"].map(String::from).to_vec(),
            max_body_bytes: 4 << 20,
            max_message_bytes: 64 << 10,
            device_zone: None,
            max_connections: 1_024,
            idle_timeout: Duration::from_secs(3_600),
            receive_buffer_bytes: 8 << 20,
        }
    }
}

/// What proves that a sender may send. Values are compared in constant time and printed nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    /// API keys that may ingest: the ingest key and the admin key.
    pub api_keys: Vec<SecretPair>,
    /// SNMP v1/v2c communities; empty accepts none.
    pub communities: Vec<Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} API keys, {} communities)", self.api_keys.len(), self.communities.len())
    }
}

/// Why an event was not taken: the `reason` label of `mutt_events_dropped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The event queue is at its limit.
    QueueFull,
    /// The ingest rate limit.
    RateLimited,
    /// The disk is full or failing.
    Storage,
    /// The process is stopping.
    Stopping,
    /// Not JSON, not SNMP: not understood at all, and nothing to keep.
    Malformed,
    /// JSON without a required member, or with one of the wrong type.
    InvalidFields,
    /// Larger than the limit.
    TooLarge,
    /// Wrong or missing API key.
    Unauthorized,
    /// Wrong SNMP community or user.
    BadCommunity,
    /// An SNMP message that is no notification.
    NotANotification,
    /// An SNMP version that is not understood.
    UnsupportedVersion,
}

impl DropReason {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::RateLimited => "rate_limited",
            Self::Storage => "storage",
            Self::Stopping => "stopping",
            Self::Malformed => "malformed",
            Self::InvalidFields => "invalid_fields",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
            Self::BadCommunity => "bad_community",
            Self::NotANotification => "not_a_notification",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }
}
