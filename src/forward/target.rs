//! The seam to receivers: a target turns alerts into one request and an answer into one verdict, nothing more.

use std::time::Duration;

use async_trait::async_trait;

use super::Secret;
use crate::model::{Alert, TargetName};

/// Why a delivery did not succeed: the `reason` label of `mutt_moog_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// 429, or what means the same to this kind of receiver.
    RateLimited,
    /// 5xx and 408.
    ServerError,
    /// No whole answer in time.
    Timeout,
    /// The receiver could not be reached, or the connection broke.
    Connection,
    /// It stands at an address that must not be spoken to.
    Forbidden,
    /// 401 and 403: no key we have is taken.
    Credentials,
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
            Self::Forbidden => "forbidden_address",
            Self::Credentials => "credentials",
            Self::Rejected => "rejected",
            Self::Internal => "internal",
        }
    }
}

/// What a receiver said to alerts that it took; for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The status and the start of the answer's body; it holds no key and no URL.
    pub answer: String,
}

impl Receipt {
    /// Wraps an answer.
    pub fn new(answer: impl Into<String>) -> Self {
        Self { answer: answer.into() }
    }
}

/// What to do with alerts that were not taken. `answer` is for people: the status and the start of the answer's body,
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
    /// Never try this alert again. Of several alerts sent at once nothing is said about a single one: the forwarder
    /// then sends each on its own.
    #[error("{answer}")]
    Refused {
        /// Why.
        reason: FailureReason,
        /// What was answered.
        answer: String,
    },
    /// The key was refused: the forwarder tries the other one, then stops speaking to the target.
    #[error("{answer}")]
    Credentials {
        /// What was answered.
        answer: String,
    },
}

impl DeliveryError {
    /// Try again; the receiver named no time.
    pub fn retry(reason: FailureReason, answer: impl Into<String>) -> Self {
        Self::Retry { reason, answer: answer.into(), after: None }
    }

    /// The receiver will never take it.
    pub fn refused(answer: impl Into<String>) -> Self {
        Self::Refused { reason: FailureReason::Rejected, answer: answer.into() }
    }

    /// Why, as a label.
    pub const fn reason(&self) -> FailureReason {
        match self {
            Self::Retry { reason, .. } | Self::Refused { reason, .. } => *reason,
            Self::Credentials { .. } => FailureReason::Credentials,
        }
    }
}

/// A receiver of alerts. An implementation keeps no queue, does not retry and does not wait for rate limits; each call
/// is one request that ends within its time-out. It is made anew when its options change, so it may keep them parsed.
#[async_trait]
pub trait Target: Send + Sync {
    /// Its name, as its outbox's.
    fn name(&self) -> &TargetName;

    /// Where it is, fit to be shown: without user, password, path and query.
    fn address(&self) -> String;

    /// How many alerts it can put into one message. With 1, each goes alone; with more, those that wait are gathered
    /// for as long as the target's `coalesce_seconds` say.
    fn most(&self) -> usize {
        1
    }

    /// Whether it can be spoken to; if not, what is missing, for people. Alerts wait meanwhile.
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// Hands over alerts, at least one and at most [`Target::most`], with the key to prove who we are. Alerts that
    /// were taken already may come again.
    async fn deliver(&self, alerts: &[Alert], key: Option<&Secret>) -> Result<Receipt, DeliveryError>;

    /// Asks whether the receiver is there, without handing over anything. One that answers "not like this" is there.
    async fn probe(&self, key: Option<&Secret>) -> Result<(), DeliveryError>;
}
