//! The remediation over queues in memory, with time standing still.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::fixtures::{NOW, alert, event, queues, target, team};
use super::*;
use crate::live::{LiveSender, live};
use crate::model::{Alert, DeathClass};

/// A remediation over queues in memory, its targets healthy or not, and what it reported.
struct House {
    queues: Queues,
    remedy: Remedy,
    health: LiveSender<Health>,
    settings: LiveSender<Settings>,
    reports: Arc<Mutex<Vec<Alert>>>,
    stop: CancellationToken,
}

impl House {
    fn new() -> Self {
        Self::with(&["moogsoft"])
    }

    /// The first target's health can be set; the others are healthy.
    fn with(targets: &[&str]) -> Self {
        let queues = queues(targets);
        let well = |name: &str| Health::probed(target(name), NOW, Ok(()));
        let (health, first) = live(well(targets[0]));
        let mut all: BTreeMap<_, _> = targets.iter().map(|name| (target(name), Live::constant(well(name)))).collect();
        all.insert(target(targets[0]), first);
        let (settings, read) = live(Settings::for_team(team()));
        let reports: Arc<Mutex<Vec<Alert>>> = Arc::default();
        let told = Arc::clone(&reports);
        let stop = CancellationToken::new();
        let parts = RemedyParts {
            queues: queues.clone(),
            health: Live::constant(all),
            settings: read,
            report: Arc::new(move |alert| {
                told.lock().push(alert);
                async { Ok(()) }.boxed()
            }),
            node: "mutt1".to_owned(),
            ids: EventIds::new(1),
            clock: Clock::fixed(NOW),
        };
        let (remedy, _task) = Remedy::start(parts, stop.clone());
        Self { queues, remedy, health, settings, reports, stop }
    }

    fn sick(&self, is_sick: bool) {
        let outcome = if is_sick { Err("503".to_owned()) } else { Ok(()) };
        self.health.set(Health::probed(target("moogsoft"), NOW, outcome));
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = (*self.settings.get()).clone();
        change(&mut settings);
        self.settings.set(settings);
    }

    async fn run(&self) -> RunReport {
        self.remedy.run_now().await.expect("it runs")
    }

    /// Takes everything out of the outbox and gives it up again, as a forwarder does whose receiver refuses it.
    async fn refuse_all(&self, name: &str) -> usize {
        let outbox = self.queues.outboxes.get(&target(name)).expect("an outbox");
        let leased = outbox.lease(1_000, Duration::ZERO).await.expect("open");
        for record in &leased {
            let alert = &record.items.as_ref().expect("alerts")[0];
            let letter = DeadLetter::of_alert(alert, name, DeathClass::Refused, "422 no such class".into(), NOW);
            self.queues.dead_alerts.append(&[letter.after(1)]).await.expect("room");
            outbox.ack(&[record.seq]).await.expect("open");
        }
        leased.len()
    }

    fn depths(&self) -> (u64, u64, u64) {
        let queues = &self.queues;
        (queues.dead_events.depth().items, queues.dead_alerts.depth().items, queues.dead.depth().items)
    }

    fn outbox(&self, name: &str) -> u64 {
        self.queues.outboxes.get(&target(name)).expect("an outbox").depth().items
    }
}

fn letters(count: usize, origin: &str) -> Vec<DeadLetter> {
    let letter =
        |_| DeadLetter::of_alert(&alert("core1"), origin, DeathClass::Timeout, "no answer within 10 s".into(), NOW);
    (0..count).map(letter).collect()
}

#[tokio::test(start_paused = true)]
async fn events_go_back_to_the_alerter_and_alerts_to_their_targets_outbox() {
    let house = House::with(&["moogsoft", "chat"]);
    let dead = DeadLetter::of_event(&event("core1"), "alerter", DeathClass::Judging, "it broke".into(), NOW);
    house.queues.dead_events.append(&[dead]).await.expect("room");
    house.queues.dead_alerts.append(&letters(2, "chat")).await.expect("room");
    house.queues.dead_alerts.append(&letters(1, "moogsoft")).await.expect("room");
    let report = house.run().await;
    assert_eq!((report.replayed, report.poison, report.error), (4, 0, None));
    assert_eq!((house.outbox("chat"), house.outbox("moogsoft")), (2, 1));
    assert_eq!(house.depths(), (0, 0, 0));
    let back = house.queues.events.lease(1, Duration::ZERO).await.expect("open");
    assert_eq!(back[0].items.as_ref().expect("events")[0].replays(), Some((1, NOW)));
}

#[tokio::test(start_paused = true)]
async fn letters_of_a_target_that_is_not_well_stay_and_hold_nobody_else_up() {
    let house = House::with(&["moogsoft", "chat"]);
    house.sick(true);
    house.queues.dead_alerts.append(&letters(500, "moogsoft")).await.expect("room");
    house.queues.dead_alerts.append(&letters(3, "chat")).await.expect("room");
    let report = house.run().await;
    assert_eq!((report.replayed, house.outbox("chat"), house.outbox("moogsoft")), (3, 3, 0));
    assert_eq!(report.unhealthy, BTreeMap::from([(target("moogsoft"), "503".to_owned())]));
    assert_eq!(house.depths(), (0, 500, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_puts_back_no_more_than_its_batch_and_the_next_one_goes_on() {
    let house = House::new();
    house.set(|settings| settings.batch_size = 200);
    house.queues.dead_alerts.append(&letters(450, "moogsoft")).await.expect("room");
    let replayed = [house.run().await.replayed, house.run().await.replayed, house.run().await.replayed];
    assert_eq!(replayed, [200, 200, 50]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_dies_again_and_again_is_set_aside_and_reported_once() {
    let house = House::new();
    house.queues.dead_alerts.append(&letters(2, "moogsoft")).await.expect("room");
    for round in 1..=3 {
        assert_eq!(house.run().await.replayed, 2, "round {round}");
        assert_eq!(house.refuse_all("moogsoft").await, 2);
    }
    let report = house.run().await;
    assert_eq!((report.replayed, report.poison), (0, 2));
    assert_eq!(house.depths(), (0, 0, 2));
    let again = house.run().await;
    assert_eq!((again.replayed, again.poison), (0, 0));
    let reports = house.reports.lock().clone();
    assert_eq!(reports.len(), 1);
    let expected = "2 messages were set aside in the queue `dead` and will not be tried again: 2 of moogsoft (refused); \
                    the first: put back 3 times and died again; 422 no such class";
    assert_eq!(&*reports[0].event.message, expected);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_dies_itself_is_set_aside_without_a_further_report() {
    let house = House::new();
    house.set(|settings| settings.max_poison_retries = 0);
    house.queues.dead_alerts.append(&letters(1, "moogsoft")).await.expect("room");
    house.run().await;
    let report = house.reports.lock()[0].clone();
    house.queues.outboxes.get(&target("moogsoft")).expect("an outbox").append(&[report]).await.expect("room");
    house.refuse_all("moogsoft").await;
    assert_eq!(house.run().await.poison, 1);
    assert_eq!((house.reports.lock().len(), house.depths()), (1, (0, 0, 2)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_goes_to_dead_at_once_with_its_bytes() {
    let house = House::new();
    house.sick(true);
    let garbage = DeadLetter::of_bytes("alerter", vec![0xff, 0xfe], "format 255 is unknown".into(), 1, NOW);
    house.queues.dead_events.append(&[garbage]).await.expect("room");
    assert_eq!(house.run().await.poison, 1);
    assert_eq!(house.depths(), (0, 0, 1));
    let kept = house.queues.dead.peek(0, 1).await.expect("open").remove(0);
    let item = DeadItem::of(kept, DeadQueue::Dead);
    assert_eq!(item.record, DeadRecord::Bytes(vec![0xff, 0xfe]));
    assert!(item.letter.expect("readable").reason.contains("format 255 is unknown"));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_is_over_within_one_interval() {
    let house = House::new();
    house.sick(true);
    house.queues.dead_alerts.append(&letters(300, "moogsoft")).await.expect("room");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!((house.outbox("moogsoft"), house.depths()), (0, (0, 300, 0)));
    let runs_so_far = house.remedy.status().last.expect("it ran meanwhile");
    assert_eq!(runs_so_far.replayed, 0);
    house.sick(false);
    tokio::time::sleep(Settings::for_team(team()).interval + Duration::from_secs(1)).await;
    assert_eq!((house.outbox("moogsoft"), house.depths()), (300, (0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_runs_on_request_only() {
    let house = House::new();
    house.set(|settings| settings.enabled = false);
    house.queues.dead_alerts.append(&letters(1, "moogsoft")).await.expect("room");
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert_eq!(house.remedy.status().last, None);
    assert_eq!(house.run().await.replayed, 1);
    house.stop.cancel();
    tokio::task::yield_now().await;
    assert_eq!(house.remedy.run_now().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_a_target_that_is_gone_waits_for_a_person_to_name_another() {
    let house = House::with(&["moogsoft", "chat"]);
    house.queues.dead_alerts.append(&letters(1, "pager")).await.expect("room");
    let report = house.run().await;
    assert_eq!((report.no_target, report.replayed), (1, 0));
    let seq = house.queues.dead_alerts.peek(0, 1).await.expect("open")[0].seq;
    let kept = house.remedy.put_back(DeadQueue::Forwarder, vec![seq], None).await.expect("open");
    assert_eq!((kept.replayed, kept.kept.len()), (0, 1));
    let sent = house.remedy.put_back(DeadQueue::Forwarder, vec![seq], Some(target("chat"))).await.expect("open");
    assert_eq!((sent.replayed, house.outbox("chat")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_letter_goes_once_however_many_ask_for_it() {
    let house = House::new();
    house.queues.dead_alerts.append(&letters(100, "moogsoft")).await.expect("room");
    let seqs: Vec<Seq> =
        house.queues.dead_alerts.peek(0, 100).await.expect("open").iter().map(|record| record.seq).collect();
    let put_back = || house.remedy.put_back(DeadQueue::Forwarder, seqs.clone(), None);
    let (first, second, third) = tokio::join!(put_back(), put_back(), house.run());
    let all = first.expect("open").replayed + second.expect("open").replayed + third.replayed;
    assert_eq!((all, house.outbox("moogsoft")), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn a_probers_answer_counts_until_the_next_and_a_silent_target_is_not_healthy() {
    let (health, seen) = live(Health::unknown(target("moogsoft")));
    let answers = Arc::new(Mutex::new(vec!["503", "panic", "silence", "well"]));
    let clock = Clock::fixed(NOW);
    let asked = Arc::clone(&answers);
    let parts = ProbeParts {
        target: target("moogsoft"),
        ask: Arc::new(move || {
            let answer = if asked.lock().len() > 1 { asked.lock().remove(0) } else { "well" };
            async move {
                match answer {
                    "503" => Err("503".to_owned()),
                    "panic" => panic!("as asked for"),
                    "silence" => std::future::pending().await,
                    _ => Ok(()),
                }
            }
            .boxed()
        }),
        health,
        settings: Live::constant(Settings::for_team(team())),
        clock,
    };
    let stop = CancellationToken::new();
    let task = start_probe(parts, stop.clone());
    let mut told = Vec::new();
    let mut change = seen.clone();
    for _ in 0..4 {
        change.changed().await;
        let health = seen.get();
        told.push((health.healthy, health.checked_at, health.why.clone()));
    }
    let at = Some(NOW);
    assert_eq!(
        told,
        [
            (false, at, "503".to_owned()),
            (false, at, "the target failed while it was asked".to_owned()),
            (false, at, "it did not answer within 30 s".to_owned()),
            (true, at, String::new()),
        ]
    );
    stop.cancel();
    task.await.expect("it ends well");
}
