//! Requests that a client may send again with the same key, and what they were answered: kept over restarts, so that
//! nothing is done twice because the appliance or the network went away before the answer arrived.
//!
//! Neither key nor request is kept, only hashes of them. Which answers may be kept is the caller's to decide: what shows a
//! secret may not. Bounded in time, number and bytes; where there is no room left, the caller who takes most of it loses the
//! oldest.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;

/// How long a request is known.
pub const REPEATS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Who sent which request with which key, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatId {
    /// Of the caller and the key.
    pub key: [u8; 32],
    /// Of everything that makes it this request.
    pub request: [u8; 32],
    /// Of the caller alone: where there is no more room, whoever takes most of it gives way.
    pub caller: [u8; 32],
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is known of a request that is about to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing: it is noted as begun.
    New,
    /// The key was used for another request.
    Other,
    /// It was begun, and how it ended was never noted.
    Begun {
        /// The id that its changes carry in the change log.
        correlation_id: String,
    },
    /// It was done; `None` if its answer was not kept.
    Done(Option<KeptAnswer>),
}

/// Keeps what was begun and what was answered. Not in the change log: what the requests change is.
#[async_trait]
pub trait Repeats: Send + Sync {
    /// Notes that a request is begun, unless something is known of its key. Durable when this returns.
    async fn begin_repeat(&self, id: RepeatId, correlation_id: &str) -> StoreResult<Repeat>;

    /// Notes that it was done. Durable when this returns.
    async fn end_repeat(&self, id: RepeatId, answer: Option<KeptAnswer>) -> StoreResult<()>;

    /// Forgets a request that changed nothing, so that its key is free.
    async fn forget_repeat(&self, id: RepeatId) -> StoreResult<()>;
}
