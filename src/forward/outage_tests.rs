//! The forwarder while its target is down, refuses keys, asks for patience or cannot take several alerts at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::tests::{House, Told, alert, mail};
use super::*;
use crate::model::DeliveryOutcome;
use crate::telemetry::{BreakerState, TargetCommand};

/// No limit, so that only the breaker decides.
fn settings() -> Settings {
    Settings { rate_limit: None, ..Settings::default() }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("alert {number}")).collect()
}

async fn append(house: &House, messages: &[String]) {
    house.append(&messages.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_uses_up_no_try_and_ends_by_itself() {
    let (house, told) = House::told(settings());
    *told.down.lock() = true;
    append(&house, &numbered(500)).await;
    sleep(Duration::from_secs(3_600)).await;
    let status = house.board.status().remove(0);
    assert_eq!((status.breaker, status.trips), (BreakerState::Open, 1), "{status:?}");
    assert!(status.next_probe.is_some() && status.last_trip.is_some(), "{status:?}");
    assert_eq!(house.outbox.depth().items, 500, "every alert waits");
    let calls = told.calls.lock().len();
    assert!(calls < 100, "{calls} calls in an hour: a target that is down is left alone");

    *told.down.lock() = false;
    let up = Instant::now();
    let house = house.run_dry().await;
    // One trial within the time-out, then what failed is due again.
    assert!(up.elapsed() < Duration::from_secs(180), "{:?}", up.elapsed());
    assert_eq!(house.letters().await, [], "no alert was given up");
    let status = house.board.status().remove(0);
    assert_eq!((status.delivered, status.dead, status.breaker), (500, 0, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_alone_fails_is_given_up_all_the_same() {
    let (house, told) = House::told(Settings { concurrency: 1, ..settings() });
    house.append(&["never"]).await;
    for message in numbered(400) {
        house.append(&[&message]).await;
        sleep(Duration::from_secs(1)).await;
    }
    let house = house.run_dry().await;
    let letters = house.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "given up after 5 tries; the last answer: 503 Service Unavailable");
    assert_eq!(told.messages().iter().filter(|message| *message == "never").count(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_spoils_every_trial_does_not_hold_the_others_up() {
    let (house, told) = House::told(settings());
    house.append(&["never"]).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(house.board.status()[0].breaker, BreakerState::Open);
    append(&house, &numbered(20)).await;
    sleep(Duration::from_secs(180)).await;
    let taken = told.messages().iter().filter(|message| message.starts_with("alert")).count();
    assert_eq!((taken, house.outbox.depth().items), (20, 1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_asks_for_patience_is_not_asked_meanwhile() {
    let (house, told) = House::told(Settings { concurrency: 1, ..settings() });
    house.append(&["slow down", "a", "b"]).await;
    sleep(Duration::from_secs(800)).await;
    assert_eq!(told.messages(), ["slow down"], "Retry-After is the target's, not the alert's");
    assert!(house.board.status()[0].held_until.is_some());
    let house = house.run_dry().await;
    assert_eq!(told.calls.lock().len(), 4);
    let status = house.board.status().remove(0);
    assert_eq!((status.trips, status.held_until), (0, None));
    assert_eq!(house.letters().await, []);
}

fn pair(current: &str, next: Option<&str>) -> SecretPair {
    SecretPair::new("noc", current).with_next(next.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_is_followed_by_the_next_one_at_once() {
    let told = Told::new(1);
    let house = House::start(settings(), Arc::clone(&told) as _, Some(pair("old", Some("good"))));
    house.append(&["key"]).await;
    let house = house.run_dry().await;
    assert_eq!(*told.keys.lock(), [Some("old".to_owned()), Some("good".to_owned())]);
    assert_eq!(house.outcomes(), [(1, DeliveryOutcome::Delivered)]);
}

#[tokio::test(start_paused = true)]
async fn the_key_that_works_is_asked_first_from_then_on() {
    let told = Told::new(1);
    let settings = Settings { concurrency: 1, ..settings() };
    let house = House::start(settings, Arc::clone(&told) as _, Some(pair("old", Some("good"))));
    house.append(&["key", "key"]).await;
    house.run_dry().await;
    assert_eq!(told.keys.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_a_key_that_works_alerts_wait_until_there_is_one() {
    let told = Told::new(1);
    let house = House::start(settings(), Arc::clone(&told) as _, Some(pair("old", Some("older"))));
    house.append(&["key"]).await;
    sleep(Duration::from_secs(30)).await;
    let status = house.board.status().remove(0);
    assert_eq!(status.breaker, BreakerState::Open);
    assert_eq!(status.last_trip.map(|(_, why)| why).as_deref(), Some("credentials: 401 Unauthorized"));
    assert_eq!(told.calls.lock().len(), 2);
    house.wiring.set(Wiring { secret: Some(pair("good", None)), ..(*house.wiring.get()).clone() });
    let changed = Instant::now();
    let house = house.run_dry().await;
    assert!(changed.elapsed() < Duration::from_secs(70), "{:?}", changed.elapsed());
    assert_eq!(house.letters().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_reset_by_hand() {
    let (house, told) = House::told(Settings { breaker_timeout: Duration::from_secs(86_400), ..settings() });
    *told.down.lock() = true;
    append(&house, &numbered(10)).await;
    sleep(Duration::from_secs(60)).await;
    *told.down.lock() = false;
    let calls = told.calls.lock().len();
    house.board.command(&house.board.status()[0].name, TargetCommand::Reset).expect("it listens");
    sleep(Duration::from_secs(10)).await;
    assert!(told.calls.lock().len() > calls, "what was not tried yet goes at once");
    assert_eq!(house.board.status()[0].breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_test_is_answered_and_leaves_the_queue_alone() {
    let (house, told) = House::told(settings());
    let name = house.board.status()[0].name.clone();
    for (message, taken, answer) in [
        ("a", true, "200 OK"),
        ("refuse", false, "422 Unprocessable: no such class"),
        ("panic", false, "the target failed while it made the request"),
    ] {
        let (sender, report) = tokio::sync::oneshot::channel();
        house.board.command(&name, TargetCommand::Test(Box::new(alert(message)), sender)).expect("it listens");
        let report = report.await.expect("an answer");
        assert_eq!((report.taken, report.answer.as_str()), (taken, answer));
    }
    assert_eq!(told.messages(), ["a", "refuse", "panic"]);
    assert_eq!((house.outbox.depth().items, house.letters().await), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_fallback_gets_what_waits_and_what_comes_while_the_target_fails() {
    let settings = Settings {
        fallback: Some(mail()),
        fallback_after: Duration::from_secs(300),
        breaker_timeout: Duration::from_secs(60),
        ..settings()
    };
    let (house, told) = House::told(settings);
    *told.down.lock() = true;
    append(&house, &numbered(100)).await;
    sleep(Duration::from_secs(240)).await;
    assert_eq!(house.fallback.depth().items, 0, "it is too early");
    sleep(Duration::from_secs(240)).await;
    assert_eq!((house.outbox.depth().items, house.fallback.depth().items), (0, 100));
    let status = house.board.status().remove(0);
    assert_eq!((status.diverted, status.diverted_to), (100, Some(mail())));
    house.append(&["late"]).await;
    sleep(Duration::from_secs(70)).await;
    assert_eq!((house.outbox.depth().items, house.fallback.depth().items), (0, 101));

    *told.down.lock() = false;
    sleep(Duration::from_secs(70)).await;
    house.append(&["up", "again"]).await;
    let house = house.run_dry().await;
    let status = house.board.status().remove(0);
    assert_eq!((status.delivered, status.diverted, status.diverted_to), (2, 101, None));
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_in_one_message_where_the_kind_can() {
    let told = Told::new(50);
    let settings = Settings { coalesce: Duration::from_secs(30), ..settings() };
    let house = House::start(settings, Arc::clone(&told) as _, None);
    house.append(&["a", "b"]).await;
    sleep(Duration::from_secs(1)).await;
    house.append(&["c"]).await;
    sleep(Duration::from_secs(1)).await;
    house.append(&["d"]).await;
    let house = house.run_dry().await;
    assert_eq!(told.messages(), ["a+b", "c+d"]);
    let calls = told.calls.lock().clone();
    assert!(calls[1].1 - calls[0].1 >= Duration::from_secs(30));
    assert_eq!(house.board.status()[0].delivered, 4);
}

#[tokio::test(start_paused = true)]
async fn of_several_alerts_only_the_refused_one_is_a_dead_letter() {
    let told = Told::new(50);
    let house = House::start(settings(), Arc::clone(&told) as _, None);
    house.append(&["a", "refuse", "b"]).await;
    let house = house.run_dry().await;
    let letters = house.letters().await;
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "422 Unprocessable: no such class"));
    assert_eq!(house.board.status()[0].delivered, 2);
    assert_eq!(told.messages(), ["a+refuse+b", "a", "refuse", "b"]);
}
