//! The forwarder against a real HTTP receiver and against a target that answers as told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::live::{LiveSender, live};
use crate::model::{
    Cause, DeliveryNote, DeliveryOutcome, Environment, Event, EventId, EventIds, Handling, Judged, Protocol, RuleId,
    Source, TargetName, Team, Timestamp,
};
use crate::queue::{Backend, MemoryBackend, Record};
use crate::store::{EventPage, EventQuery, NumberedPage, StoreError, StoreResult};
use crate::telemetry::TargetBoard;
use crate::telemetry::trace::Tracer;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An alert with an id of its own.
pub(super) fn alert(message: &str) -> Alert {
    static IDS: std::sync::OnceLock<EventIds> = std::sync::OnceLock::new();
    let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() };
    let mut event = Event::new(IDS.get_or_init(|| EventIds::new(5)).next(NOW), NOW, source);
    event.hostname = "sw1".into();
    event.message = message.into();
    let team = Team::new("NETO").expect("a team");
    let (environment, handling) = (Environment::Prod, Handling::PageOnly);
    Alert { event, cause: Cause::Rule(RuleId(7)), environment, handling, team }
}

/// Keeps the notes.
#[derive(Default)]
pub(super) struct Notes(Mutex<Vec<DeliveryNote>>);

#[async_trait]
impl AuditLog for Notes {
    async fn record(&self, _: Vec<Judged>) -> StoreResult<()> {
        Ok(())
    }

    async fn note_deliveries(&self, notes: Vec<DeliveryNote>) -> StoreResult<()> {
        self.0.lock().extend(notes);
        Ok(())
    }

    async fn numbered(&self, _: &EventQuery, _: u64) -> StoreResult<NumberedPage> {
        Ok(NumberedPage::default())
    }

    async fn search(&self, _: &EventQuery) -> StoreResult<EventPage> {
        Err(StoreError::Invalid("not searched in these tests".into()))
    }

    async fn get(&self, _: EventId) -> StoreResult<Option<Judged>> {
        Ok(None)
    }

    async fn deliveries(&self, _: EventId) -> StoreResult<Vec<DeliveryNote>> {
        Ok(self.0.lock().clone())
    }

    async fn approximate_rows(&self) -> StoreResult<u64> {
        Ok(0)
    }
}

fn moogsoft() -> TargetName {
    TargetName::new("moogsoft").expect("a target")
}

pub(super) fn mail() -> TargetName {
    TargetName::new("mail").expect("a target")
}

/// Answers by message: `refuse`, `panic`, `never`, `once` and `flaky ..` (fail once); anything else is taken.
pub(super) struct Told {
    pub(super) name: TargetName,
    pub(super) calls: Mutex<Vec<(String, tokio::time::Instant)>>,
    pub(super) ready: Mutex<Result<(), String>>,
    /// Whether nothing is taken.
    pub(super) down: Mutex<bool>,
    pub(super) most: usize,
    pub(super) keys: Mutex<Vec<Option<String>>>,
}

impl Told {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let ready = Mutex::new(Ok(()));
        Arc::new(Self {
            name: moogsoft(),
            calls: Mutex::default(),
            ready,
            down: Mutex::new(false),
            most,
            keys: Mutex::default(),
        })
    }

    pub(super) fn messages(&self) -> Vec<String> {
        self.calls.lock().iter().map(|(message, _)| message.clone()).collect()
    }
}

#[async_trait]
impl Target for Told {
    fn name(&self) -> &TargetName {
        &self.name
    }

    fn address(&self) -> String {
        "http://told".into()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.lock().clone()
    }

    async fn deliver(&self, alerts: &[Alert], key: Option<&Secret>) -> Result<Receipt, DeliveryError> {
        let message = alerts.iter().map(|alert| &*alert.event.message).collect::<Vec<_>>().join("+");
        self.keys.lock().push(key.map(|key| key.reveal().to_owned()));
        let before = self.calls.lock().iter().filter(|(called, _)| *called == message).count();
        self.calls.lock().push((message.clone(), tokio::time::Instant::now()));
        let retry = |after| {
            let answer = "503 Service Unavailable".to_owned();
            Err(DeliveryError::Retry { reason: FailureReason::ServerError, answer, after })
        };
        if *self.down.lock() {
            return retry(None);
        }
        match message.as_str() {
            "refuse" => {
                let answer = "422 Unprocessable: no such class".to_owned();
                Err(DeliveryError::Refused { reason: FailureReason::Rejected, answer })
            }
            "panic" => panic!("as asked for"),
            "never" => retry(None),
            flaky if before == 0 && flaky.starts_with("flaky") => retry(None),
            "once" if before == 0 => retry(Some(Duration::from_secs(600))),
            "slow down" if before == 0 => Err(DeliveryError::Retry {
                reason: FailureReason::RateLimited,
                answer: "429 Too Many Requests".into(),
                after: Some(Duration::from_secs(900)),
            }),
            several if several.contains("refuse") => Err(DeliveryError::refused("400 Bad Request")),
            "key" if key.map(Secret::reveal) != Some("good") => {
                Err(DeliveryError::Credentials { answer: "401 Unauthorized".into() })
            }
            _ => Ok(Receipt::new("200 OK")),
        }
    }

    fn most(&self) -> usize {
        self.most
    }

    async fn probe(&self, _: Option<&Secret>) -> Result<(), DeliveryError> {
        Ok(())
    }
}

pub(super) struct House {
    pub(super) backend: Arc<MemoryBackend>,
    pub(super) outbox: Queue<Alert>,
    pub(super) dead: Queue<DeadLetter>,
    pub(super) notes: Arc<Notes>,
    pub(super) board: TargetBoard,
    pub(super) wiring: LiveSender<Wiring>,
    pub(super) fallback: Queue<Alert>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl House {
    pub(super) fn start(settings: Settings, target: Arc<dyn Target>, secret: Option<SecretPair>) -> Self {
        let (sender, wiring) = live(Wiring { target, secret, settings });
        let backend = Arc::new(MemoryBackend::new("outbox"));
        let outbox = Queue::of_singles("outbox.moogsoft", Arc::clone(&backend) as _);
        let dead = Queue::of_singles("dlq.forwarder", Arc::new(MemoryBackend::new("dlq.forwarder")));
        let notes = Arc::new(Notes::default());
        let board = TargetBoard::default();
        let stop = CancellationToken::new();
        let fallback = Queue::of_singles("alert.mail", Arc::new(MemoryBackend::new("alert.mail")));
        let (handle, commands) = board.register(moogsoft(), "told", String::new());
        let parts = ForwarderParts {
            tracer: Tracer::off(),
            outbox: outbox.clone(),
            dead: dead.clone(),
            name: moogsoft(),
            outboxes: BTreeMap::from([(mail(), fallback.clone())]).into(),
            wiring,
            audit: Arc::clone(&notes) as _,
            board: handle,
            clock: Clock::fixed(NOW),
        };
        let task = start(parts, commands, stop.clone());
        Self { backend, outbox, dead, notes, board, wiring: sender, fallback, stop, task }
    }

    pub(super) fn told(settings: Settings) -> (Self, Arc<Told>) {
        let told = Told::new(1);
        (Self::start(settings, Arc::clone(&told) as _, None), told)
    }

    /// Puts the configuration into force again.
    pub(super) fn rewire(&self) {
        self.wiring.set((*self.wiring.get()).clone());
    }

    pub(super) async fn append(&self, messages: &[&str]) {
        let alerts: Vec<Alert> = messages.iter().map(|message| alert(message)).collect();
        self.outbox.append(&alerts).await.expect("room");
    }

    /// Waits until the outbox is empty, then stops.
    pub(super) async fn run_dry(mut self) -> Self {
        let drained = async {
            while self.outbox.depth().items > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(100_000), drained).await.expect("the outbox drains");
        self.stop.cancel();
        (&mut self.task).await.expect("the forwarder ends well");
        self
    }

    pub(super) async fn letters(&self) -> Vec<DeadLetter> {
        let records = self.dead.peek(0, 100).await.expect("an open queue");
        records.into_iter().flat_map(|record| record.items.expect("letters")).collect()
    }

    pub(super) fn outcomes(&self) -> Vec<(u32, DeliveryOutcome)> {
        self.notes.0.lock().iter().map(|note| (note.attempt, note.outcome)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_alert_is_a_dead_letter_at_once() {
    let (house, told) = House::told(Settings::default());
    house.append(&["refuse"]).await;
    let house = house.run_dry().await;
    assert_eq!(told.calls.lock().len(), 1);
    let letters = house.letters().await;
    assert_eq!((letters[0].origin.as_str(), letters[0].attempts), ("moogsoft", 1));
    assert_eq!(letters[0].reason, "422 Unprocessable: no such class");
    let alert: Alert = postcard::from_bytes(&letters[0].payload).expect("an alert");
    assert_eq!((alert.event.message.as_str(), Some(alert.event.id)), ("refuse", letters[0].event_id));
    assert_eq!(house.outcomes(), [(1, DeliveryOutcome::DeadLettered)]);
    assert_eq!(house.board.status()[0].dead, 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_too_often_is_a_dead_letter_with_the_last_answer() {
    let (house, told) = House::told(Settings { max_tries: 3, ..Settings::default() });
    house.append(&["never", "panic"]).await;
    let house = house.run_dry().await;
    assert_eq!(told.calls.lock().len(), 6);
    let mut reasons: Vec<String> = house.letters().await.into_iter().map(|letter| letter.reason).collect();
    reasons.sort();
    assert_eq!(reasons[0], "given up after 3 tries; the last answer: 503 Service Unavailable");
    assert!(reasons[1].contains("the target failed"), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_retry_holds_nobody_up() {
    let (house, told) = House::told(Settings { concurrency: 1, rate_limit: None, ..Settings::default() });
    house.append(&["once", "a", "b", "c"]).await;
    let began = tokio::time::Instant::now();
    let house = house.run_dry().await;
    let calls = told.calls.lock().clone();
    let order: Vec<&str> = calls.iter().map(|(message, _)| message.as_str()).collect();
    assert_eq!(order, ["once", "a", "b", "c", "once"]);
    assert!(calls[3].1 - began < Duration::from_secs(60), "the others did not wait");
    assert!(calls[4].1 - began >= Duration::from_secs(600), "the receiver's Retry-After was honoured");
    assert_eq!(house.letters().await, []);
    assert_eq!(house.outcomes().last(), Some(&(2, DeliveryOutcome::Delivered)));
}

#[tokio::test(start_paused = true)]
async fn alerts_wait_until_the_target_is_configured() {
    let (house, told) = House::told(Settings::default());
    *told.ready.lock() = Err("no URL configured".into());
    house.rewire();
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.append(&["a"]).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let status = house.board.status().remove(0);
    assert_eq!(status.last_error.map(|(_, why)| why).as_deref(), Some("no URL configured"));
    assert_eq!((house.outbox.depth().items, told.calls.lock().len()), (1, 0));
    *told.ready.lock() = Ok(());
    house.rewire();
    let house = house.run_dry().await;
    assert_eq!(house.outcomes(), [(1, DeliveryOutcome::Delivered)]);
}

#[tokio::test]
async fn bytes_that_are_no_alert_are_a_dead_letter() {
    let (house, told) = House::told(Settings::default());
    let record = Record { items: 1, payload: vec![9, 9] };
    house.backend.append(vec![record]).await.expect("room");
    house.append(&["a"]).await;
    let house = house.run_dry().await;
    assert_eq!(told.calls.lock().len(), 1);
    let letters = house.letters().await;
    assert_eq!((letters[0].payload.as_slice(), letters[0].event_id), ([9, 9].as_slice(), None));
}

/// A request as a receiver saw it: its head in lower case, and its body.
#[derive(Debug, Clone)]
struct Seen {
    head: String,
    body: serde_json::Value,
}

/// Answers every request on a listener of its own with `head` (status and further header lines) and `body`.
async fn receiver(head: &str, body: String) -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_one(stream, answer.clone(), Arc::clone(&kept)));
        }
    });
    (address, seen)
}

async fn answer_one(mut stream: TcpStream, answer: String, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut bytes = Vec::new();
    let mut wanted = usize::MAX;
    let mut head_end = 0;
    while bytes.len() < wanted {
        if stream.read_buf(&mut bytes).await.expect("a request") == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let (usize::MAX, Some(end)) = (wanted, text.find("\r\n\r\n")) {
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            head_end = end + 4;
            wanted = head_end + length.map_or(0, |length| length.parse().expect("a number"));
        }
    }
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_lowercase();
    let body = serde_json::from_slice(&bytes[head_end..]).unwrap_or_default();
    seen.lock().push(Seen { head, body });
    // A client that has read enough may close; that is what one of the tests is about.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn target(url: &str, timeout: Duration) -> Arc<dyn Target> {
    let mut options = RawOptions::new();
    options.insert("url".into(), url.into());
    let config = TargetConfig {
        name: moogsoft(),
        kind: TargetKind::find("moogsoft").expect("a kind"),
        options,
        secret: None,
        secrets: Secrets::default(),
        guard: Guard::default(),
        settings: Settings { timeout, ..Settings::default() },
    };
    config.wire(&Clock::fixed(NOW)).expect("a client").target
}

async fn sent(url: &str) -> Result<String, DeliveryError> {
    let key = Secret::new("k3y");
    let target = target(url, Duration::from_secs(5));
    target.deliver(&[alert("link down")], Some(&key)).await.map(|receipt| receipt.answer)
}

async fn check(head: &str, body: &str, expected: Result<&str, DeliveryError>) {
    let (address, seen) = receiver(head, body.to_owned()).await;
    let answered = sent(&format!("http://{address}/events/s3cret")).await;
    assert_eq!(answered, expected.map(str::to_owned));
    let seen = seen.lock().clone();
    assert_eq!(seen.len(), 1, "redirects are not followed");
    assert!(seen[0].head.starts_with("post /events/s3cret http/1.1\r\n"), "{}", seen[0].head);
    assert!(seen[0].head.contains("\r\nauthorization: bearer k3y\r\n"), "{}", seen[0].head);
    assert!(seen[0].head.contains("\r\ncontent-type: application/json\r\n"), "{}", seen[0].head);
    assert_eq!(seen[0].body["signature"], "sw1:rule:7");
}

#[tokio::test]
async fn answers_are_told_apart() {
    let retry = |reason, answer: &str, seconds: Option<u64>| {
        Err(DeliveryError::Retry { reason, answer: answer.into(), after: seconds.map(Duration::from_secs) })
    };
    let refused = |answer: &str| Err(DeliveryError::Refused { reason: FailureReason::Rejected, answer: answer.into() });
    check("200 OK", "", Ok("200 OK")).await;
    check("202 Accepted", "queued\n  well", Ok("202 Accepted: queued well")).await;
    let slow_down = retry(FailureReason::RateLimited, "429 Too Many Requests", Some(30));
    check("429 Too Many Requests\r\nretry-after: 30", "", slow_down).await;
    check("503 No", "", retry(FailureReason::ServerError, "503 Service Unavailable", None)).await;
    check("408 No", "", retry(FailureReason::ServerError, "408 Request Timeout", None)).await;
    check("400 No", "bad class", refused("400 Bad Request: bad class")).await;
    check("401 No", "", Err(DeliveryError::Credentials { answer: "401 Unauthorized".into() })).await;
    check("302 Found\r\nlocation: /elsewhere", "", refused("302 Found (redirects are not followed)")).await;
}

#[tokio::test]
async fn only_the_start_of_an_answer_is_read() {
    let (address, _) = receiver("400 No", "x".repeat(1 << 20)).await;
    let answered = sent(&format!("http://{address}/")).await;
    let Err(DeliveryError::Refused { answer, .. }) = answered else { panic!("refused, not {answered:?}") };
    assert!(answer.len() < 5_000, "{}", answer.len());
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_tried_again_and_its_url_is_not_told() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    drop(listener);
    let target = target(&format!("http://{address}/events/s3cret"), Duration::from_secs(5));
    let answered = target.deliver(&[alert("link down")], None).await;
    let Err(DeliveryError::Retry { reason, answer, .. }) = answered else { panic!("retry, not {answered:?}") };
    assert_eq!(reason, FailureReason::Connection);
    assert!(!answer.contains("s3cret"), "{answer}");
    assert!(target.probe(None).await.is_err());
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_tried_again() {
    // Bound and never accepted: the kernel takes the connection, nobody answers.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound port"));
    let answered = target(&url, Duration::from_millis(50)).deliver(&[alert("link down")], None).await;
    assert!(matches!(answered, Err(DeliveryError::Retry { reason: FailureReason::Timeout, .. })), "{answered:?}");
}

#[tokio::test]
async fn a_probe_takes_any_answer_but_a_server_error_as_life() {
    for (head, alive) in [("200 OK", true), ("405 No", true), ("404 No", true), ("500 No", false), ("503 No", false)] {
        let (address, _) = receiver(head, String::new()).await;
        assert_eq!(
            target(&format!("http://{address}/"), Duration::from_secs(5)).probe(None).await.is_ok(),
            alive,
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_changed_url_and_key_take_effect_at_once() {
    let (address, seen) = receiver("200 OK", String::new()).await;
    let house = House::start(Settings::default(), target("", Duration::from_secs(5)), None);
    house.append(&["a", "b"]).await;
    house.wiring.set(Wiring {
        target: target(&format!("http://{address}/events"), Duration::from_secs(5)),
        secret: Some(SecretPair::new("noc", "n3w")),
        settings: Settings::default(),
    });
    let house = house.run_dry().await;
    let seen = seen.lock().clone();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].head.contains("authorization: bearer n3w"), "{}", seen[0].head);
    assert_eq!(house.board.status()[0].delivered, 2);
    assert_eq!(house.board.status()[0].address, format!("http://{address}"));
}

#[tokio::test(start_paused = true)]
async fn every_alert_arrives_at_a_target_that_fails_at_first() {
    let (house, told) = House::told(Settings { rate_limit: None, ..Settings::default() });
    let messages: Vec<String> = (0..200).map(|number| format!("flaky {number}")).collect();
    house.append(&messages.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let house = house.run_dry().await;
    assert_eq!(told.calls.lock().len(), 400);
    let status = house.board.status().remove(0);
    assert_eq!((status.delivered, status.retried, status.dead), (200, 200, 0));
    assert_eq!(house.letters().await, []);
}
