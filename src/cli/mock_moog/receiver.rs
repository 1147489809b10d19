//! A receiver that behaves like Moogsoft's webhook, or misbehaves as told: for trials, demonstrations and tests.
//!
//! It takes `POST` on any path, remembers what it took, and answers `GET /stats`, `GET /health` and, as the receiver that
//! comes with MUTT 2.x does, `GET /events` with their number. It keeps nothing
//! on disk and bounds what it remembers. It is no part of an appliance in service.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Alerts remembered whole, newest last.
const KEPT_ALERTS: usize = 1_000;
/// Alerts shown by `GET /stats`.
const SHOWN_ALERTS: usize = 20;
/// Event ids remembered to tell duplicates, about 100 bytes each; beyond, duplicates are no longer told.
const KEPT_IDS: usize = 1_000_000;
/// Teams and severities counted apart; further ones are counted as `other`.
const KEPT_NAMES: usize = 1_000;
/// A JSON alert is an event twice over; events are bounded well below this.
const MAX_BODY: usize = 8 << 20;

/// How the receiver behaves; the default takes everything at once.
#[derive(Debug, Clone, Default)]
pub struct MockOptions {
    /// Share of requests answered with a failure, from 0 to 1.
    pub failure_rate: f64,
    /// Which requests fail is a function of this and of their number.
    pub seed: u64,
    /// How long each answer takes.
    pub delay: Duration,
    /// The status of a failure; 503 if not given. With `failure_rate` 0 it is the status of every answer.
    pub status: Option<u16>,
    /// The Retry-After header of failures, as it is to be sent.
    pub retry_after: Option<String>,
    /// The bearer token that requests must carry, if any; others get 401.
    pub token: Option<String>,
}

/// What the receiver has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MockStats {
    /// Requests.
    pub received: u64,
    /// Requests answered with 2xx.
    pub accepted: u64,
    /// All others.
    pub failed: u64,
    /// Different alerts among the accepted ones, by the event's id (else `external_id`).
    pub unique: u64,
    /// Accepted ones that had been accepted before.
    pub duplicates: u64,
    /// Accepted ones by team (`class`).
    pub by_team: BTreeMap<String, u64>,
    /// Accepted ones by severity.
    pub by_severity: BTreeMap<String, u64>,
    /// Accepted ones by the protocol their event came by.
    pub by_source: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Memory {
    stats: MockStats,
    ids: HashSet<String>,
    alerts: VecDeque<Value>,
}

struct Receiver {
    options: Mutex<MockOptions>,
    memory: Mutex<Memory>,
}

/// A running receiver; it stops when it is dropped.
pub struct MockMoog {
    address: SocketAddr,
    receiver: Arc<Receiver>,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl MockMoog {
    /// Starts to serve on a bound listener (port 0 gives a free port).
    pub fn start(listener: std::net::TcpListener, options: MockOptions) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let receiver = Arc::new(Receiver { options: Mutex::new(options), memory: Mutex::new(Memory::default()) });
        let router = Router::new()
            .route("/stats", get(stats))
            .route("/events", get(events).fallback(receive))
            .route("/health", get(|| async { Json(json!({"status": "healthy"})) }))
            .fallback(receive)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&receiver));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Ok(Self { address, receiver, stop, task })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL to configure as `moog_webhook_url`.
    pub fn url(&self) -> String {
        format!("http://{}/events/webhook_mutt", self.address)
    }

    /// What it has seen so far.
    pub fn stats(&self) -> MockStats {
        self.receiver.memory.lock().stats.clone()
    }

    /// The last thousand alerts it accepted, oldest first.
    pub fn alerts(&self) -> Vec<Value> {
        self.receiver.memory.lock().alerts.iter().cloned().collect()
    }

    /// Behaves differently from the next request on.
    pub fn set_options(&self, options: MockOptions) {
        *self.receiver.options.lock() = options;
    }

    /// Stops to listen and answers what is under way.
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop.cancel();
        (&mut self.task).await.map_err(io::Error::other)?
    }

    /// Serves until the listener fails: for the command line.
    pub async fn wait(mut self) -> io::Result<()> {
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

impl Drop for MockMoog {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn stats(State(receiver): State<Arc<Receiver>>) -> Json<Value> {
    let memory = receiver.memory.lock();
    let last: Vec<&Value> = memory.alerts.iter().rev().take(SHOWN_ALERTS).collect();
    let mut body = json!(memory.stats);
    body["last_events"] = json!(last);
    Json(body)
}

async fn events(State(receiver): State<Arc<Receiver>>) -> Json<Value> {
    let memory = receiver.memory.lock();
    let last: Vec<&Value> = memory.alerts.iter().rev().take(SHOWN_ALERTS).collect();
    Json(json!({"count": memory.stats.accepted, "events": last}))
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    if method == Method::HEAD || method == Method::GET {
        return StatusCode::OK.into_response();
    }
    let options = receiver.options.lock().clone();
    if !options.delay.is_zero() {
        tokio::time::sleep(options.delay).await;
    }
    let alert = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    let mut memory = receiver.memory.lock();
    memory.stats.received += 1;
    let status = answer(&options, &headers, alert.as_ref(), memory.stats.received);
    let text = status.canonical_reason().unwrap_or("as told").to_owned();
    if let (true, Some(alert)) = (status.is_success(), alert) {
        memory.accept(alert);
        return (status, text).into_response();
    }
    memory.stats.failed += 1;
    match options.retry_after.filter(|_| !status.is_success()) {
        Some(after) => (status, [(RETRY_AFTER, after)], text).into_response(),
        None => (status, text).into_response(),
    }
}

/// The status for request `number`.
fn answer(options: &MockOptions, headers: &HeaderMap, alert: Option<&Value>, number: u64) -> StatusCode {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let expected = options.token.as_ref().map(|token| format!("Bearer {token}"));
    if expected.is_some() && given != expected.as_deref() {
        return StatusCode::UNAUTHORIZED;
    }
    if alert.is_none() {
        return StatusCode::BAD_REQUEST;
    }
    let told = options.status.and_then(|status| StatusCode::from_u16(status).ok());
    if options.failure_rate <= 0.0 {
        return told.unwrap_or(StatusCode::OK);
    }
    if dice(options.seed, number) < options.failure_rate {
        return told.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    }
    StatusCode::OK
}

/// A number from 0 to 1 that only depends on seed and number of the request (splitmix64).
fn dice(seed: u64, number: u64) -> f64 {
    let mut x = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as f64 / u64::MAX as f64
}

impl Memory {
    fn accept(&mut self, alert: Value) {
        self.stats.accepted += 1;
        let id = alert["custom_info"]["id"].as_str().or_else(|| alert["external_id"].as_str()).map(str::to_owned);
        if id.as_ref().is_some_and(|id| self.ids.contains(id)) {
            self.stats.duplicates += 1;
        } else {
            self.stats.unique += 1;
            if let Some(id) = id.filter(|_| self.ids.len() < KEPT_IDS) {
                self.ids.insert(id);
            }
        }
        count(&mut self.stats.by_team, alert["class"].as_str().unwrap_or("none").to_owned());
        count(&mut self.stats.by_severity, alert["severity"].to_string());
        let source = alert["custom_info"]["source"]["protocol"].as_str().unwrap_or("none");
        count(&mut self.stats.by_source, source.to_owned());
        if self.alerts.len() == KEPT_ALERTS {
            self.alerts.pop_front();
        }
        self.alerts.push_back(alert);
    }
}

fn count(names: &mut BTreeMap<String, u64>, name: String) {
    let name = if names.len() < KEPT_NAMES || names.contains_key(&name) { name } else { "other".to_owned() };
    *names.entry(name).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header value"));
        headers
    }

    #[test]
    fn a_token_is_asked_for_if_one_is_set() {
        let options = MockOptions { token: Some("t0ken".into()), ..MockOptions::default() };
        let check = |headers: &HeaderMap, expected: u16| {
            assert_eq!(answer(&options, headers, Some(&json!({})), 1).as_u16(), expected);
        };
        check(&headers("t0ken"), 200);
        check(&headers("other"), 401);
        check(&HeaderMap::new(), 401);
    }

    #[test]
    fn the_failure_rate_is_kept_and_repeatable() {
        let options = MockOptions { failure_rate: 0.25, seed: 3, ..MockOptions::default() };
        let failures = || {
            let fails = |number: &u64| answer(&options, &HeaderMap::new(), Some(&json!({})), *number).as_u16() == 503;
            (1..=10_000).filter(fails).collect::<Vec<_>>()
        };
        assert!((2_300..2_700).contains(&failures().len()), "{}", failures().len());
        assert_eq!(failures(), failures());
    }

    #[test]
    fn an_alert_that_comes_twice_is_a_duplicate() {
        let mut memory = Memory::default();
        for id in ["a", "b", "a"] {
            memory.accept(json!({"class": "NETO", "severity": 4, "external_id": "same", "custom_info": {"id": id}}));
        }
        assert_eq!((memory.stats.accepted, memory.stats.unique, memory.stats.duplicates), (3, 2, 1));
        assert_eq!(memory.stats.by_team["NETO"], 3);
    }

    /// The status and the body of a request made by hand.
    async fn ask(address: SocketAddr, request: String) -> (String, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn it_takes_posts_on_any_path_and_tells_what_it_took() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mock = MockMoog::start(listener, MockOptions::default()).expect("a receiver");
        let address = mock.local_addr();
        let post = |body: &str| {
            let length = body.len();
            format!("POST /any HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        };
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let taken = ask(address, post(r#"{"class": "NETO", "severity": 4, "external_id": "a"}"#)).await;
        assert_eq!(taken.0, "HTTP/1.1 200 OK");
        assert_eq!(ask(address, post("no json")).await.0, "HTTP/1.1 400 Bad Request");
        mock.set_options(MockOptions { status: Some(422), ..MockOptions::default() });
        assert_eq!(ask(address, post("{}")).await.0, "HTTP/1.1 422 Unprocessable Entity");
        assert_eq!(ask(address, get("/health")).await.1, r#"{"status":"healthy"}"#);
        let stats: Value = serde_json::from_str(&ask(address, get("/stats")).await.1).expect("JSON");
        assert_eq!((&stats["received"], &stats["accepted"], &stats["failed"]), (&json!(3), &json!(1), &json!(2)));
        assert_eq!(stats["last_events"][0]["external_id"], "a");
        let events: Value = serde_json::from_str(&ask(address, get("/events")).await.1).expect("JSON");
        assert_eq!((&events["count"], &events["events"][0]["class"]), (&json!(1), &json!("NETO")));
        assert_eq!(mock.alerts().len(), 1);
        mock.stop().await.expect("it stops well");
    }
}
