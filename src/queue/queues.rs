//! All queues of one node, opened and closed together. Names them; does nothing else with them.
//! What a crash leaves is put right by each queue when it is opened.

use std::path::Path;
use std::sync::Arc;

use super::backend::{Depth, QueueError};
use super::fault::Fault;
use super::options::QueueOptions;
use super::outboxes::{OutboxMap, Outboxes};
use super::sled::{SledBackend, disk};
use super::typed::Queue;
use crate::model::{DeadLetter, Event, TargetName};

/// All queues of one node.
#[derive(Clone)]
pub struct Queues {
    /// Everything received and not yet judged; records are micro-batches.
    pub events: Queue<Event>,
    /// Alerts waiting for their receiver, one queue a target.
    pub outboxes: Outboxes,
    /// Events the alerter gave up on (`dlq.alerter`).
    pub dead_events: Queue<DeadLetter>,
    /// Alerts a forwarder gave up on (`dlq.forwarder`).
    pub dead_alerts: Queue<DeadLetter>,
    /// Letters that were put back too often or can never be (`dead`); only people take anything out.
    pub dead: Queue<DeadLetter>,
}

impl Queues {
    /// Opens, and where needed creates, every queue below `dir`. Blocks: milliseconds after a clean end, up to some
    /// seconds after a crash with millions waiting. An outbox whose target is no longer configured is opened
    /// too if anything is in it: it is among the others, and nobody leases from it.
    pub fn open(dir: &Path, targets: &[TargetName], options: &QueueOptions) -> Result<Self, QueueError> {
        let failed = |error: std::io::Error| QueueError::Storage {
            queue: dir.display().to_string(),
            why: format!("cannot prepare the directory: {error}"),
        };
        disk::create_dir(dir).map_err(failed)?;
        let ballast = disk::Ballast::new(dir, options.ballast_bytes);
        ballast.drop_if_needed().map_err(failed)?;
        let work = |folder: &str, name: &str| {
            SledBackend::open_work(&dir.join(folder), name, options).map(|backend| (name.to_owned(), Arc::new(backend)))
        };
        let events = SledBackend::open_log(&dir.join("events"), "ingest", options)?;
        let mut outboxes = OutboxMap::new();
        for target in targets {
            let (name, backend) = work(&format!("outbox-{target}"), &outbox_name(target, targets))?;
            outboxes.insert(target.clone(), Queue::of_singles(&name, backend));
        }
        for target in abandoned(dir, targets).map_err(failed)? {
            let (name, backend) = work(&format!("outbox-{target}"), &format!("alert.{target}"))?;
            let outbox = Queue::of_singles(&name, backend);
            let alerts = outbox.depth().items;
            if alerts > 0 {
                tracing::warn!(queue = name, alerts, "alerts wait for a target that is not configured");
                outboxes.insert(target, outbox);
            }
        }
        // Letters are picked, not consumed in order: nothing is kept in memory for a consumer that never comes.
        let picked = QueueOptions { handoff_bytes: 0, ..options.clone() };
        let letters = |folder: &str, name: &str| {
            SledBackend::open_work(&dir.join(folder), name, &picked)
                .map(|backend| Queue::of_singles(name, Arc::new(backend)))
        };
        let dead_events = letters("dlq-alerter", "dlq.alerter")?;
        let dead_alerts = letters("dlq-forwarder", "dlq.forwarder")?;
        let dead = letters("dead", "dead")?;
        if let Err(error) = ballast.take_if_possible(options.reserve_free_bytes) {
            tracing::warn!("No ballast in {}: {error}; a full disk may keep the queues from opening", dir.display());
        }
        let outboxes = Outboxes::on_shelf(outboxes, dir.to_owned(), options.clone());
        Ok(Self { events: Queue::of_batches("ingest", Arc::new(events)), outboxes, dead_events, dead_alerts, dead })
    }

    /// Closes every queue, also when one of them fails; answers the first failure.
    pub async fn close(&self) -> Result<(), QueueError> {
        let mut result = self.events.close().await;
        for outbox in self.outboxes.all().values() {
            result = result.and(outbox.close().await);
        }
        for letters in self.letters() {
            result = result.and(letters.close().await);
        }
        result
    }

    /// Name and depth of every queue, in the order events pass them.
    pub fn named(&self) -> Vec<(String, Depth)> {
        let mut named = vec![(self.events.name().to_owned(), self.events.depth())];
        named.extend(self.outboxes.all().values().map(|outbox| (outbox.name().to_owned(), outbox.depth())));
        named.extend(self.letters().map(|queue| (queue.name().to_owned(), queue.depth())));
        named
    }

    /// The queues of dead letters.
    fn letters(&self) -> [&Queue<DeadLetter>; 3] {
        [&self.dead_events, &self.dead_alerts, &self.dead]
    }

    /// What went wrong with the storage of any queue since the start.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.events.faults();
        faults.extend(self.outboxes.all().values().flat_map(Queue::faults));
        faults.extend(self.letters().into_iter().flat_map(Queue::faults));
        faults.sort_by_key(|fault| fault.at);
        faults
    }
}

/// Targets that have an outbox on disk and are not among `targets`.
fn abandoned(dir: &Path, targets: &[TargetName]) -> std::io::Result<Vec<TargetName>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let target = name.to_str().and_then(|name| name.strip_prefix("outbox-"));
        let target = target.and_then(|name| TargetName::new(name).ok());
        found.extend(target.filter(|target| !targets.contains(target)));
    }
    found.sort_unstable();
    Ok(found)
}

/// `alert` where there is one target, Moogsoft, as dashboards of MUTT 2.x have it; otherwise the target is part of it.
fn outbox_name(target: &TargetName, targets: &[TargetName]) -> String {
    match targets {
        [only] if only.to_string() == "moogsoft" => "alert".to_owned(),
        _ => format!("alert.{target}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Alert, Cause, Environment, EventIds, Handling, Protocol, RuleId, Source, Team, Timestamp};

    fn targets(names: &[&str]) -> Vec<TargetName> {
        names.iter().map(|name| TargetName::new(name).unwrap()).collect()
    }

    fn letter(reason: &str) -> DeadLetter {
        DeadLetter::of_bytes("alerter", vec![1, 2, 3], reason.to_owned(), 3, Timestamp::from_millis(1_000))
    }

    #[tokio::test]
    async fn queues_are_named_as_in_metrics_and_keep_what_they_hold() {
        let check = async |names: &[&str], expected: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("queues");
            for round in 0..2 {
                let queues = Queues::open(&data, &targets(names), &QueueOptions::default()).unwrap();
                assert_eq!(queues.named().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
                queues.dead_events.append(&[letter("first"), letter("second")]).await.unwrap();
                assert_eq!(queues.dead_events.depth().records, 2 + round);
                let leased = queues.dead_events.lease(1, Duration::ZERO).await.unwrap();
                assert_eq!(leased[0].items.as_ref().unwrap()[0].payload, [1, 2, 3]);
                queues.dead_events.ack(&[leased[0].seq]).await.unwrap();
                assert_eq!(queues.faults(), []);
                queues.close().await.unwrap();
            }
        };
        check(&["moogsoft"], &["ingest", "alert", "dlq.alerter", "dlq.forwarder", "dead"]).await;
        let several = ["ingest", "alert.chat", "alert.moogsoft", "dlq.alerter", "dlq.forwarder", "dead"];
        check(&["moogsoft", "chat"], &several).await;
    }

    fn alert() -> Alert {
        let now = Timestamp::from_millis(1_000);
        let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() };
        Alert {
            event: Event::new(EventIds::new(1).next(now), now, source),
            cause: Cause::Rule(RuleId(1)),
            environment: Environment::Prod,
            handling: Handling::PageOnly,
            team: Team::new("NETO").unwrap(),
        }
    }

    #[tokio::test]
    async fn what_waits_for_a_target_that_is_gone_is_kept_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let open = |names: &[&str]| Queues::open(dir.path(), &targets(names), &QueueOptions::default()).unwrap();
        let chat = TargetName::new("chat").unwrap();
        let queues = open(&["moogsoft", "chat", "mail"]);
        queues.outboxes.get(&chat).unwrap().append(&[alert()]).await.unwrap();
        queues.close().await.unwrap();
        drop(queues);
        let queues = open(&["moogsoft"]);
        let all = queues.outboxes.all();
        let names: Vec<&str> = all.keys().map(TargetName::as_str).collect();
        assert_eq!(names, ["chat", "moogsoft"], "an empty outbox is not worth showing");
        assert_eq!(queues.named()[1].0, "alert.chat");
        assert_eq!(queues.outboxes.get(&chat).unwrap().depth().items, 1);
    }

    #[tokio::test]
    async fn an_outbox_that_is_opened_later_is_seen_by_all_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let queues = Queues::open(dir.path(), &targets(&["moogsoft"]), &QueueOptions::default()).unwrap();
        let (others, chat) = (queues.outboxes.clone(), TargetName::new("chat").unwrap());
        assert!(others.get(&chat).is_none());
        for _ in 0..2 {
            queues.outboxes.open(&chat).unwrap();
            others.get(&chat).unwrap().append(&[alert()]).await.unwrap();
        }
        assert_eq!(queues.named()[1], ("alert.chat".to_owned(), others.get(&chat).unwrap().depth()));
        queues.close().await.unwrap();
        drop((queues, others));
        let queues = Queues::open(dir.path(), &targets(&["moogsoft", "chat"]), &QueueOptions::default()).unwrap();
        assert_eq!(queues.outboxes.get(&chat).unwrap().depth().items, 2);
    }

    #[test]
    fn the_ballast_is_there_while_there_is_room_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let options = QueueOptions { ballast_bytes: 1 << 20, ..QueueOptions::default() };
        drop(Queues::open(dir.path(), &[], &options).unwrap());
        assert_eq!(dir.path().join("ballast").metadata().unwrap().len(), 1 << 20);
        let full = QueueOptions { ballast_bytes: u64::MAX / 4, ..options };
        drop(Queues::open(dir.path(), &[], &full).unwrap());
        assert!(!dir.path().join("ballast").exists(), "less is free than the ballast is large: it is given up");
    }
}
