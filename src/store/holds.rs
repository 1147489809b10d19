//! Legal holds and requests to erase a host's data: kept with the configuration, each change with its line in the log.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Change, StoreResult};
use crate::model::{Judged, Timestamp, host_key};

/// Events that must not be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its number.
    pub id: i64,
    /// What people call it: a case number.
    pub name: String,
    /// Whose events, as hosts are compared; `None` for every host's.
    pub hostname: Option<String>,
    /// Received at or after.
    pub from: Option<Timestamp>,
    /// Received before.
    pub to: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    pub placed_at: Timestamp,
}

impl Hold {
    /// Whether it covers an event. The time is that of receipt, and that of the id where the clock was set in between:
    /// either is enough.
    pub fn covers(&self, judged: &Judged) -> bool {
        let event = &judged.event;
        let times = [event.received_at, Timestamp::from_millis(event.id.millis())];
        self.is_about(&host_key(&event.hostname)) && times.into_iter().any(|at| self.spans(at))
    }

    /// Whether it can cover events of this host.
    pub fn is_about(&self, key: &str) -> bool {
        self.hostname.as_deref().is_none_or(|hostname| hostname == key)
    }

    fn spans(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}

/// A hold that is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldDraft {
    /// What people call it.
    pub name: String,
    /// Whose events.
    pub hostname: Option<String>,
    /// Received at or after.
    pub from: Option<Timestamp>,
    /// Received before.
    pub to: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// What an erasure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Erased {
    /// Rows that left the audit.
    pub audit: u64,
    /// Events taken out of archives.
    pub archive: u64,
    /// Archive files that were rewritten or deleted.
    pub files: u64,
    /// Events taken out of the store of recent events.
    pub recent: u64,
    /// Counters of unhandled events that were forgotten.
    pub counters: u64,
}

/// A request to erase one host's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its number.
    pub id: i64,
    /// Whose data, as hosts are compared.
    pub hostname: String,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// When it was done; `None` while it waits or is under way.
    pub finished_at: Option<Timestamp>,
    /// What it came to.
    pub erased: Erased,
}

/// Holds and erasures.
#[async_trait]
pub trait HoldBook: Send + Sync {
    /// Every hold in force, oldest first.
    async fn holds(&self) -> StoreResult<Vec<Hold>>;

    /// Places a hold.
    async fn place(&self, draft: HoldDraft, change: &Change) -> StoreResult<Hold>;

    /// Lifts a hold.
    async fn lift(&self, id: i64, change: &Change) -> StoreResult<()>;

    /// Every erasure, newest first, a thousand at most.
    async fn erasures(&self) -> StoreResult<Vec<Erasure>>;

    /// Takes a request down; it is carried out by the next run. Refused while a hold covers the host.
    async fn request_erasure(&self, hostname: &str, reason: &str, change: &Change) -> StoreResult<Erasure>;

    /// Notes what an erasure came to, and that it is done.
    async fn finish_erasure(&self, id: i64, erased: Erased, change: &Change) -> StoreResult<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decision, Environment, Event, EventIds, Protocol, Source};

    #[test]
    fn a_hold_covers_its_host_and_its_span_and_nothing_else() {
        let at = Timestamp::from_millis;
        let check =
            |hostname: Option<&str>, from: Option<i64>, to: Option<i64>, host: &str, time: i64, covered: bool| {
                let hold = Hold {
                    id: 1,
                    name: "case".into(),
                    hostname: hostname.map(str::to_owned),
                    from: from.map(at),
                    to: to.map(at),
                    reason: "court".into(),
                    placed_by: "carol".into(),
                    placed_at: at(0),
                };
                let source = Source { protocol: Protocol::Http, peer: [192, 0, 2, 1].into() };
                let mut event = Event::new(EventIds::new(1).next(at(time)), at(time), source);
                event.hostname = host.into();
                let judged = Judged { event, decision: Decision { environment: Environment::Prod, matched: None } };
                assert_eq!(hold.covers(&judged), covered, "{hostname:?} {from:?} {to:?} {host} {time}");
            };
        check(None, None, None, "sw1", 5_000, true);
        check(Some("sw1"), None, None, "SW1.", 5_000, true);
        check(Some("sw1"), None, None, "sw11", 5_000, false);
        check(None, Some(5_000), None, "sw1", 5_000, true);
        check(None, Some(5_001), None, "sw1", 5_000, false);
        check(None, None, Some(5_000), "sw1", 5_000, false);
        check(Some("sw1"), Some(4_000), Some(5_001), "sw1", 5_000, true);
    }
}
