//! Events, alerts and queues for this module's tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::model::{
    Alert, Cause, Environment, Event, EventIds, Handling, Protocol, RuleId, Source, TargetName, Team, Timestamp,
};
use crate::queue::{MemoryBackend, Queue, Queues};

/// 2026-03-01T12:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// An event of this host.
pub(super) fn event(hostname: &str) -> Event {
    let source = Source { protocol: Protocol::SyslogUdp, peer: Ipv4Addr::LOCALHOST.into() };
    let mut event = Event::new(EventIds::new(7).next(NOW), NOW, source);
    event.hostname = hostname.into();
    event.message = "Fan 3 failed".into();
    event
}

/// An alert about this host.
pub(super) fn alert(hostname: &str) -> Alert {
    Alert {
        event: event(hostname),
        cause: Cause::Rule(RuleId(1)),
        environment: Environment::Prod,
        handling: Handling::PageOnly,
        team: team(),
    }
}

/// The team of everything here.
pub(super) fn team() -> Team {
    Team::new("NETO").expect("a valid name")
}

/// A target's name.
pub(super) fn target(name: &str) -> TargetName {
    TargetName::new(name).expect("a valid name")
}

/// Queues in memory with an outbox for each of these targets.
pub(super) fn queues(targets: &[&str]) -> Queues {
    let memory = |name: &str| Arc::new(MemoryBackend::new(name));
    let outbox = |name: &&str| (target(name), Queue::of_singles(name, memory(name)));
    Queues {
        events: Queue::of_batches("ingest", memory("ingest")),
        outboxes: targets.iter().map(outbox).collect::<BTreeMap<_, _>>().into(),
        dead_events: Queue::of_singles("dlq.alerter", memory("dlq.alerter")),
        dead_alerts: Queue::of_singles("dlq.forwarder", memory("dlq.forwarder")),
        dead: Queue::of_singles("dead", memory("dead")),
    }
}
