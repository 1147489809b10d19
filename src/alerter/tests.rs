//! The stage as a whole, over queues in memory and stores that remember what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::fixtures::{NOW, event, rule};
use super::*;
use crate::model::{Alert, DeliveryNote, EventId, RuleId, TargetName, Team};
use crate::queue::{MemoryBackend, OutboxMap, Record};
use crate::rules::{RuleSet, Scratch};
use crate::store::{
    EventPage, EventQuery, NumberedPage, Overrun, Sighting, StoreError, StoreResult, UnhandledEvents, UnhandledPolicy,
};
use crate::telemetry::trace::Tracer;

/// Keeps rows by event id, fails the first `failures` calls, and refuses rows with the message `unstorable`.
#[derive(Default)]
struct Audit {
    rows: Mutex<BTreeMap<EventId, Judged>>,
    failures: AtomicU32,
}

#[async_trait]
impl AuditLog for Audit {
    async fn record(&self, rows: Vec<Judged>) -> StoreResult<()> {
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::Unavailable { store: "audit".into(), why: "the disk is full".into() });
        }
        if rows.iter().any(|row| row.event.message.contains("unstorable")) {
            return Err(StoreError::Invalid("no".into()));
        }
        assert!(!rows.iter().any(|row| row.event.message.contains("audit panics")), "as asked for");
        let mut kept = self.rows.lock();
        for row in rows {
            kept.entry(row.event.id).or_insert(row);
        }
        Ok(())
    }

    async fn note_deliveries(&self, _: Vec<DeliveryNote>) -> StoreResult<()> {
        Ok(())
    }

    async fn numbered(&self, _: &EventQuery, _: u64) -> StoreResult<NumberedPage> {
        Ok(NumberedPage::default())
    }

    async fn search(&self, _: &EventQuery) -> StoreResult<EventPage> {
        Err(StoreError::Invalid("not searched in these tests".into()))
    }

    async fn get(&self, id: EventId) -> StoreResult<Option<Judged>> {
        Ok(self.rows.lock().get(&id).cloned())
    }

    async fn deliveries(&self, _: EventId) -> StoreResult<Vec<DeliveryNote>> {
        Ok(Vec::new())
    }

    async fn approximate_rows(&self) -> StoreResult<u64> {
        Ok(self.rows.lock().len() as u64)
    }
}

/// Counts by host and signature, for ever.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<(String, String), u64>>);

#[async_trait]
impl Unhandled for Counters {
    async fn count(&self, events: Arc<UnhandledEvents>, policy: UnhandledPolicy) -> StoreResult<Vec<Overrun>> {
        let mut counters = self.0.lock();
        let mut overruns = Vec::new();
        for sighting in events.batches.iter().flat_map(|batch| &batch.sightings) {
            let kind = &events.kinds[sighting.kind];
            let count = counters.entry((kind.hostname.to_string(), kind.signature.to_string())).or_default();
            let before = *count;
            *count += sighting.count;
            if before < policy.threshold && *count >= policy.threshold {
                let Sighting { last, at, sample, .. } = sighting.clone();
                overruns.push(Overrun { kind: kind.clone(), last, at, sample, count: *count, window_start: at });
            }
        }
        Ok(overruns)
    }

    async fn top(&self, _: usize) -> StoreResult<Vec<Overrun>> {
        Ok(Vec::new())
    }
}

struct House {
    parts: AlerterParts,
    backend: Arc<MemoryBackend>,
    audit: Arc<Audit>,
    recent: Arc<Mutex<Vec<Judged>>>,
    outbox: Queue<Alert>,
    stop: CancellationToken,
}

impl House {
    fn new(settings: Settings) -> Self {
        let backend = Arc::new(MemoryBackend::new("events"));
        let single = |name: &str| Arc::new(MemoryBackend::new(name));
        let outbox = Queue::of_singles("outbox.moogsoft", single("outbox"));
        let name = TargetName::new("moogsoft").expect("a target");
        let audit = Arc::new(Audit::default());
        let recent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&recent);
        let rules = [rule(1, "down", "Page_only"), rule(2, "up", "Ignore")];
        let teams = [("sw9".to_owned(), Team::new("ACCESS").expect("a team"))].into();
        let ruling = Ruling { rules: RuleSet::compile(&rules).0, dev_hosts: ["lab1".to_owned()].into(), teams };
        let clock = Clock::fixed(NOW);
        let parts = AlerterParts {
            tracer: Tracer::off(),
            events: Queue::of_batches("events", Arc::clone(&backend) as _),
            outboxes: OutboxMap::from([(name, outbox.clone())]).into(),
            dead_events: Queue::of_singles("dlq.alerter", single("dlq.alerter")),
            dead_alerts: Queue::of_singles("dlq.forwarder", single("dlq.forwarder")),
            audit: Arc::clone(&audit) as _,
            recent: Arc::new(move |batch| kept.lock().extend(batch.iter().cloned())),
            unhandled: Arc::new(Counters::default()),
            ruling: Live::constant(ruling),
            traffic: Arc::default(),
            settings: Live::constant(settings),
            rates: Rates::new(clock.clone()),
            clock,
        };
        Self { parts, backend, audit, recent, outbox, stop: CancellationToken::new() }
    }

    /// Runs the stage until every event is acked, then stops it.
    async fn run_dry(&self) {
        let task = start(self.parts.clone(), self.stop.clone());
        let drained = async {
            while self.parts.events.depth().items > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), drained).await.expect("the event queue drains");
        self.stop.cancel();
        task.await.expect("the stage ends well");
    }

    async fn append(&self, events: &[Event]) {
        self.parts.events.append(events).await.expect("room for events");
    }

    fn audited(&self) -> Vec<String> {
        self.audit.rows.lock().values().map(|row| row.event.message.to_string()).collect()
    }
}

/// The messages in a queue, without leasing them.
async fn alerts(outbox: &Queue<Alert>) -> Vec<Alert> {
    let records = outbox.peek(0, 1_000).await.expect("an open queue");
    records.into_iter().flat_map(|record| record.items.expect("alerts")).collect()
}

async fn letters(queue: &Queue<DeadLetter>) -> Vec<DeadLetter> {
    let records = queue.peek(0, 1_000).await.expect("an open queue");
    records.into_iter().flat_map(|record| record.items.expect("letters")).collect()
}

#[tokio::test]
async fn matched_events_are_audited_and_forwarded_as_their_rule_says() {
    let house = House::new(Settings::default());
    house
        .append(&[
            event("sw1", "link down"),
            event("sw1", "link up"),
            event("sw1", "hello"),
            event("LAB1", "link down"),
        ])
        .await;
    house.run_dry().await;
    assert_eq!(house.audited(), ["link down", "link up", "link down"]);
    assert_eq!(house.recent.lock().len(), 4);
    let alerts = alerts(&house.outbox).await;
    let [alert] = alerts.as_slice() else { panic!("one alert, not {alerts:?}") };
    assert_eq!((alert.event.hostname.as_str(), alert.team.as_str()), ("sw1", "CORE"));
    assert_eq!(house.parts.rates.summary().forwarded_last_hour, 1);
}

#[tokio::test]
async fn the_audit_takes_what_the_setting_asks_for() {
    let check = async |audit, expected| {
        let house = House::new(Settings { audit, ..Settings::default() });
        house.append(&(0..64).map(|_| event("sw1", "hello")).collect::<Vec<_>>()).await;
        house.run_dry().await;
        assert_eq!(house.audited().len(), expected, "{audit:?}");
    };
    check(AuditScope::Matched, 0).await;
    check(AuditScope::All, 64).await;
    check(AuditScope::Sample(16), 4).await;
}

#[tokio::test]
async fn unhandled_events_make_exactly_one_meta_alert() {
    let house = House::new(Settings { unhandled_threshold: 5, ..Settings::default() });
    for fan in 0..12 {
        house.append(&[event("sw9", &format!("fan {fan} failed")), event("sw2", "other")]).await;
    }
    house.run_dry().await;
    let alerts = alerts(&house.outbox).await;
    let teams: Vec<_> = alerts.iter().map(|alert| (alert.event.hostname.as_str(), alert.team.as_str())).collect();
    assert_eq!(teams, [("sw9", "ACCESS"), ("sw2", "NETO")]);
    assert_eq!(house.audited().len(), 2, "both meta-alerts are audited");
    assert!(house.audit.rows.lock().values().all(|row| row.decision.rule() == Some(RuleId(0))));
    assert_eq!(house.recent.lock().len(), 26);
}

#[tokio::test(start_paused = true)]
async fn storage_that_fails_is_tried_again_until_it_works() {
    let house = House::new(Settings::default());
    house.audit.failures.store(20, Ordering::SeqCst);
    house.append(&[event("sw1", "link down")]).await;
    let task = start(house.parts.clone(), house.stop.clone());
    while house.parts.events.depth().items > 0 {
        assert!(house.outbox.depth().items == 0 || house.audit.rows.lock().len() == 1, "no alert before its row");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    house.stop.cancel();
    task.await.expect("the stage ends well");
    assert_eq!((house.audited().len(), house.outbox.depth().items), (1, 1));
    assert_eq!(letters(&house.parts.dead_events).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_storage_fails_leaves_the_batch_in_the_queue() {
    let house = House::new(Settings::default());
    house.audit.failures.store(u32::MAX, Ordering::SeqCst);
    house.append(&[event("sw1", "link down")]).await;
    let task = start(house.parts.clone(), house.stop.clone());
    tokio::time::sleep(Duration::from_secs(60)).await;
    house.stop.cancel();
    task.await.expect("the stage ends well");
    assert_eq!((house.parts.events.depth().items, house.outbox.depth().items), (1, 0));
}

#[tokio::test]
async fn a_row_that_the_audit_refuses_is_buried_and_its_alert_goes_out() {
    let house = House::new(Settings::default());
    house.append(&[event("sw1", "down, unstorable"), event("sw1", "down")]).await;
    house.run_dry().await;
    assert_eq!(house.audited(), ["down"]);
    assert_eq!(house.outbox.depth().items, 2);
    let letters = letters(&house.parts.dead_events).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("audit"), "{}", letters[0].reason);
}

#[tokio::test(start_paused = true)]
async fn an_event_during_which_recording_panics_is_found_and_buried_alone() {
    let house = House::new(Settings::default());
    let events: Vec<Event> =
        ["down 1", "down, audit panics", "down 2"].into_iter().map(|text| event("sw1", text)).collect();
    house.append(&events).await;
    house.run_dry().await;
    assert_eq!(house.audited(), ["down 1", "down 2"]);
    let letters = letters(&house.parts.dead_events).await;
    let [letter] = letters.as_slice() else { panic!("one dead letter, not {letters:?}") };
    assert_eq!(letter.event_id, Some(events[1].id));
    assert_eq!(house.outbox.depth().items, 2);
}

#[tokio::test]
async fn bytes_that_are_no_events_are_buried() {
    let house = House::new(Settings::default());
    let record = Record { items: 1, payload: vec![7, 7, 7] };
    crate::queue::Backend::append(house.backend.as_ref(), vec![record]).await.expect("room");
    house.append(&[event("sw1", "link down")]).await;
    house.run_dry().await;
    assert_eq!(letters(&house.parts.dead_events).await[0].payload, [7, 7, 7]);
    assert_eq!(house.outbox.depth().items, 1);
}

#[tokio::test]
async fn beyond_the_shed_threshold_alerts_become_dead_letters_if_the_mode_is_dlq() {
    let settings =
        Settings { queue_warn_threshold: 1, queue_shed_threshold: 1, shed_mode: ShedMode::Dlq, ..Settings::default() };
    let house = House::new(settings);
    let first = event("sw1", "link down");
    let judged = Judged { decision: house.parts.ruling.get().decide(&first, &mut Scratch::default()), event: first };
    house.outbox.append(&[route::alert(&judged).expect("an alert")]).await.expect("room");
    house.append(&[event("sw1", "power down")]).await;
    house.run_dry().await;
    assert_eq!(house.outbox.depth().items, 1);
    let letters = letters(&house.parts.dead_alerts).await;
    assert_eq!(letters[0].origin, "moogsoft");
    let alert: Alert = postcard::from_bytes(&letters[0].payload).expect("an alert");
    assert_eq!(alert.event.message, "power down");
    assert_eq!(house.audited(), ["power down"]);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_shed_threshold_events_wait_if_the_mode_is_defer() {
    let house = House::new(Settings { queue_warn_threshold: 1, queue_shed_threshold: 2, ..Settings::default() });
    house.append(&[event("a", "down"), event("b", "down")]).await;
    let task = start(house.parts.clone(), house.stop.clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    house.append(&[event("c", "down")]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((house.parts.events.depth().items, house.outbox.depth().items), (1, 2));
    let leased = house.outbox.lease(2, Duration::ZERO).await.expect("alerts");
    house.outbox.ack(&leased.iter().map(|record| record.seq).collect::<Vec<_>>()).await.expect("an open queue");
    tokio::time::sleep(Duration::from_secs(5)).await;
    house.stop.cancel();
    task.await.expect("the stage ends well");
    assert_eq!((house.parts.events.depth().items, house.outbox.depth().items), (0, 1));
}
