//! The seam to receivers: a target turns an alert into one request and an answer into one verdict, nothing more.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Alert, TargetName};

/// Why a delivery did not succeed: the `reason` label of `mutt_moog_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// 429.
    RateLimited,
    /// 5xx and 408.
    ServerError,
    /// No whole answer in time.
    Timeout,
    /// The receiver could not be reached, or the connection broke.
    Connection,
    /// Any other answer that is no success.
    Rejected,
    /// The target cannot even ask: its settings are wrong, or it failed itself.
    Internal,
}

impl FailureReason {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Rejected => "rejected",
            Self::Internal => "internal",
        }
    }
}

/// What to do with an alert that was not taken. `answer` is for people: the status and the start of the answer's body,
/// or the connection's error; it holds no key and no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Try again, no sooner than `after` if the receiver named a time.
    #[error("{answer}")]
    Retry {
        /// Why.
        reason: FailureReason,
        /// What was answered.
        answer: String,
        /// The receiver's Retry-After.
        after: Option<Duration>,
    },
    /// Never try this alert again.
    #[error("{answer}")]
    Refused {
        /// Why.
        reason: FailureReason,
        /// What was answered.
        answer: String,
    },
}

impl DeliveryError {
    /// Why, as a label.
    pub const fn reason(&self) -> FailureReason {
        match self {
            Self::Retry { reason, .. } | Self::Refused { reason, .. } => *reason,
        }
    }
}

/// A receiver of alerts. An implementation keeps no queue, does not retry and does not wait for rate limits; each call
/// is one request that ends within the settings' time-out.
#[async_trait]
pub trait Target: Send + Sync {
    /// Its name, as its outbox's.
    fn name(&self) -> &TargetName;

    /// Where it is, fit to be shown: without user, password, path and query.
    fn address(&self) -> String;

    /// Whether it is configured; if not, what is missing, for people. Alerts wait meanwhile.
    fn ready(&self) -> Result<(), String>;

    /// Hands over one alert; the success says what was answered. An alert that was taken already may come again.
    async fn deliver(&self, alert: &Alert) -> Result<String, DeliveryError>;

    /// Asks whether the receiver is there, without handing over anything.
    async fn probe(&self) -> Result<(), DeliveryError>;
}
