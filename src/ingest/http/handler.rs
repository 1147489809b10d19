//! The ingest routes and the one handler behind them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::post;
use parking_lot::Mutex;

use super::answer::{ERRORS_LISTED, ItemError, Rejection, Shape, Taken};
use super::auth::{Denied, Keys};
use super::body::{self, Room};
use super::items::{Item, split};
use super::members::{Maker, NoEvent};
use super::spans::TracedRequest;
use crate::ingest::{DropReason, Intake, ListenerContext};
use crate::model::{Event, Protocol, Source, TraceContext};
use crate::net::Strangers;
use crate::net::api_version;
use crate::net::http::{CORRELATION_ID, error_response, new_correlation_id, sent_correlation_id};
use crate::telemetry::ListenerHandle;
use crate::telemetry::metrics::{INGEST_LATENCY, INGEST_REQUESTS};

/// Bodies up to this many bytes are parsed where they are (some 100 microseconds); larger ones would hold up the other
/// tasks of the thread and go to a thread of their own.
const PARSE_HERE_BYTES: usize = 64 << 10;

/// What the handler works with.
struct Ingest {
    context: ListenerContext,
    line: ListenerHandle,
    room: Room,
    strangers: Mutex<Strangers>,
}

/// The ingest API as a router, to be merged with whatever else the port serves. `line` is the listener's line on the
/// board: each request is counted there.
pub fn router(context: ListenerContext, line: ListenerHandle) -> Router {
    let ingest = Arc::new(Ingest { context, line, room: Room::new(), strangers: Mutex::default() });
    Router::new()
        .route("/ingest", post(take))
        .route("/api/v2/ingest", post(take))
        .route("/api/v1/ingest", post(take))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn(stamp))
        .with_state(ingest)
}

async fn take(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let started = Instant::now();
    ingest.line.count_received(1);
    let sent_id = sent_correlation_id(request.headers()).map(str::to_owned);
    let (tracer, clock) = (&ingest.context.tracer, &ingest.context.clock);
    let traced = TracedRequest::begin(tracer, request.headers(), clock.now());
    let trace = traced.as_ref().map(TracedRequest::context);
    let (id, outcome) = ingest.process(request, sent_id, trace).await;
    let response = match outcome {
        Ok(taken) => taken.response(&id),
        Err(rejection) => {
            if let Some((reason, events)) = rejection.dropped() {
                Intake::count_dropped(Protocol::Http, reason, events);
            }
            let limit = ingest.context.settings.get().max_queue_items;
            rejection.response(&id, ingest.context.intake.queue_depth(), limit)
        }
    };
    if let Some(traced) = traced {
        traced.end(tracer, response.status(), clock.now());
    }
    metrics::counter!(INGEST_REQUESTS, "status" => response.status().as_str().to_owned()).increment(1);
    metrics::histogram!(INGEST_LATENCY).record(started.elapsed().as_secs_f64());
    response
}

impl Ingest {
    /// A request's correlation id and what became of it.
    async fn process(
        &self,
        request: Request,
        sent_id: Option<String>,
        trace: Option<TraceContext>,
    ) -> (String, Result<Taken, Rejection>) {
        let peer = peer_of(&request);
        let (parts, body) = request.into_parts();
        if let Err(rejection) = self.admit(&parts, peer) {
            body::discard(&parts.headers, body).await;
            return (sent_id.unwrap_or_else(new_correlation_id), Err(rejection));
        }
        let limit = self.context.settings.get().max_body_bytes;
        let text = match self.room.read(&parts.headers, body, limit).await {
            Ok(text) => text,
            Err(rejection) => return (sent_id.unwrap_or_else(new_correlation_id), Err(rejection)),
        };
        let parsed = self.parse(text, peer, sent_id.clone(), trace).await;
        match parsed {
            Err(rejection) => (sent_id.unwrap_or_else(new_correlation_id), Err(rejection)),
            Ok(parsed) => {
                let (id, parsed) = parsed.identified(sent_id);
                (id, self.submit(parsed).await)
            }
        }
    }

    fn admit(&self, parts: &Parts, peer: IpAddr) -> Result<(), Rejection> {
        let headers = &parts.headers;
        let (secrets, ring) = (self.context.secrets.get(), self.context.keys.get());
        let keys = Keys { secrets: &secrets, ring: &ring };
        if let Err(denied) = keys.admit(headers, peer, self.context.clock.now()) {
            if self.strangers.lock().mention(peer, Instant::now()) {
                let why = match &denied {
                    Denied::Stranger => "it has no valid API key".to_owned(),
                    Denied::Refused(refusal) => refusal.to_string(),
                };
                tracing::warn!(%peer, "A request from {peer} was refused: {why}");
            }
            return Err(match denied {
                Denied::Stranger => Rejection::Unauthorized,
                Denied::Refused(refusal) => Rejection::Forbidden(refusal),
            });
        }
        api_version::negotiate(&parts.uri, headers).map_err(Rejection::UnsupportedVersion)?;
        body::check_content_type(headers)
    }

    /// Makes events of a body, here or on a thread where it holds nobody up.
    async fn parse(
        &self,
        text: body::Text,
        peer: IpAddr,
        sent_id: Option<String>,
        trace: Option<TraceContext>,
    ) -> Result<Parsed, Rejection> {
        let context = self.context.clone();
        if text.text.len() <= PARSE_HERE_BYTES {
            return parse(&context, text, peer, sent_id.as_deref(), trace.as_ref());
        }
        let parsing =
            tokio::task::spawn_blocking(move || parse(&context, text, peer, sent_id.as_deref(), trace.as_ref()));
        match parsing.await {
            Ok(parsed) => parsed,
            // The panic itself is in the log; the body cannot be used, and sending it again would not help.
            Err(_) => Err(Rejection::Malformed("the body could not be processed".to_owned())),
        }
    }

    /// Hands the events over and waits until they are durable.
    async fn submit(&self, parsed: Parsed) -> Result<Taken, Rejection> {
        let Parsed { shape, events, rejected, errors, _working } = parsed;
        for (reason, count) in rejected.counts {
            Intake::count_dropped(Protocol::Http, reason, count);
        }
        if events.is_empty() {
            return Err(Rejection::NoneTaken { shape, rejected: rejected.total, errors });
        }
        let accepted = events.len();
        match self.context.intake.submit(events).await {
            Ok(receipt) => {
                Ok(Taken { shape, queue_depth: receipt.queue_depth, accepted, rejected: rejected.total, errors })
            }
            Err(refused) => Err(Rejection::Refused { refusal: refused.refusal, events: accepted as u64 }),
        }
    }
}

/// The items of one request that were not taken.
#[derive(Default)]
struct Rejected {
    total: usize,
    counts: Vec<(DropReason, u64)>,
}

/// What a body holds.
struct Parsed {
    shape: Shape,
    events: Vec<Event>,
    rejected: Rejected,
    errors: Vec<ItemError>,
    /// The room for the events, held until they are handed over.
    _working: tokio::sync::OwnedSemaphorePermit,
}

impl Parsed {
    /// Settles the request's correlation id. A single event without one is found by its own id; the events of a batch
    /// without one share a new id, so that the batch can be found.
    fn identified(mut self, sent_id: Option<String>) -> (String, Self) {
        if let Some(id) = sent_id {
            return (id, self);
        }
        if let (Shape::Single, Some(event)) = (self.shape, self.events.first()) {
            return (event.correlation(), self);
        }
        let id = new_correlation_id();
        for event in self.events.iter_mut().filter(|event| event.correlation_id.is_none()) {
            event.correlation_id = Some(id.as_str().into());
        }
        (id, self)
    }
}

fn parse(
    context: &ListenerContext,
    text: body::Text,
    peer: IpAddr,
    id: Option<&str>,
    trace: Option<&TraceContext>,
) -> Result<Parsed, Rejection> {
    let settings = context.settings.get();
    let maker = Maker {
        settings: &settings,
        ids: &context.ids,
        now: context.clock.now(),
        source: Source { protocol: Protocol::Http, peer },
        correlation_id: id,
        trace,
    };
    let (mut events, mut rejected, mut errors, mut index) = (Vec::new(), Rejected::default(), Vec::new(), 0);
    let shape = split(&text.text, &mut |item| {
        let made = match item {
            Item::Parsed(text, members) => maker.event(text, *members),
            Item::Text(text) => maker.read(text),
            Item::Bad(why) => Err(NoEvent::malformed(why)),
        };
        match made {
            Ok(event) => events.push(event),
            Err(no_event) => {
                rejected.add(no_event.reason);
                if errors.len() < ERRORS_LISTED {
                    let NoEvent { reason, text, missing } = no_event;
                    errors.push(ItemError { index, reason, text, missing });
                }
            }
        }
        index += 1;
    })?;
    Ok(Parsed { shape, events, rejected, errors, _working: text.working })
}

impl Rejected {
    fn add(&mut self, reason: DropReason) {
        self.total += 1;
        match self.counts.iter_mut().find(|(counted, _)| *counted == reason) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((reason, 1)),
        }
    }
}

/// The peer as the socket saw it; a router that is called without a socket, as tests do, has none.
fn peer_of(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip().to_canonical())
}

/// Every answer names the versions of the API and the request's correlation id.
async fn stamp(request: Request, next: Next) -> Response {
    let sent_id = request.headers().get(&CORRELATION_ID).cloned();
    let is_sane = sent_correlation_id(request.headers()).is_some();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    api_version::mark(response.headers_mut(), &path);
    if !response.headers().contains_key(&CORRELATION_ID) {
        let id = sent_id.filter(|_| is_sane).or_else(|| HeaderValue::from_str(&new_correlation_id()).ok());
        response.headers_mut().extend(id.map(|id| (CORRELATION_ID, id)));
    }
    response
}

async fn method_not_allowed(headers: HeaderMap) -> Response {
    plain_error(&headers, StatusCode::METHOD_NOT_ALLOWED, "method not allowed; events are sent with POST")
}

async fn not_found(headers: HeaderMap) -> Response {
    plain_error(&headers, StatusCode::NOT_FOUND, "no such path; events are posted to /api/v2/ingest")
}

fn plain_error(headers: &HeaderMap, status: StatusCode, text: &str) -> Response {
    let id = sent_correlation_id(headers).map_or_else(new_correlation_id, str::to_owned);
    error_response(status, text, &id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ingest::testing::{Memory, context};
    use crate::ingest::{Secrets, Settings};
    use crate::model::Timestamp;
    use crate::secret::SecretPair;
    use crate::telemetry::{ListenerBoard, ListenerState};
    use axum::body::{Body, to_bytes};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    const GOOD: &str = r#"{"hostname":"h","message":"m","timestamp":"2026-03-01T12:00:00Z"}"#;

    struct Answer {
        status: u16,
        headers: HeaderMap,
        body: Value,
    }

    fn ingest(settings: Settings, memory: &Memory) -> Router {
        let secrets = Secrets { api_keys: vec![SecretPair::new("ingest_api_key", "key")], communities: vec![] };
        let clock = Clock::fixed(Timestamp::from_millis(1_800_000_000_000));
        let line = ListenerBoard::default().register("ingest_http", ListenerState::Failed("no socket".into()));
        router(context(memory, settings, secrets, clock), line)
    }

    async fn send(router: Router, request: Request) -> Answer {
        let response = router.oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.expect("a body");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    fn request(path: &str, body: &str) -> Request {
        Request::post(path).header("x-api-key", "key").body(Body::from(body.to_owned())).expect("a request")
    }

    async fn post_body(settings: Settings, memory: &Memory, body: &str) -> Answer {
        send(ingest(settings, memory), request("/api/v2/ingest", body)).await
    }

    #[tokio::test]
    async fn one_event_is_answered_with_its_correlation_id_and_the_depth() {
        let memory = Memory::default();
        let answer = post_body(Settings::default(), &memory, GOOD).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let events = memory.events();
        assert_eq!(events.len(), 1);
        let id = events[0].id.to_string();
        assert_eq!(answer.body, json!({"status": "queued", "correlation_id": id, "queue_depth": 1}));
        assert_eq!(answer.headers["x-correlation-id"], id.as_str());
        assert_eq!(answer.headers["x-api-version"], "v2.5");
        assert_eq!(events[0].raw, GOOD);
    }

    #[tokio::test]
    async fn a_sane_correlation_id_travels_and_another_is_replaced() {
        for (sent, kept) in [("abc-1", true), ("a b", false)] {
            let memory = Memory::default();
            let mut request = request("/ingest", GOOD);
            request.headers_mut().insert("x-correlation-id", HeaderValue::from_static(sent));
            let answer = send(ingest(Settings::default(), &memory), request).await;
            let found = memory.events()[0].correlation();
            assert_eq!(answer.body["correlation_id"], found.as_str());
            assert_eq!(found == sent, kept, "{sent}");
        }
    }

    #[tokio::test]
    async fn a_batch_takes_the_good_items_and_names_the_others() {
        let memory = Memory::default();
        let answer = post_body(Settings::default(), &memory, &format!(r#"[{GOOD},{{"hostname":"x"}},7,{GOOD}]"#)).await;
        assert_eq!((answer.status, &answer.body["accepted"], &answer.body["rejected"]), (200, &json!(2), &json!(2)));
        assert_eq!(
            answer.body["errors"],
            json!([
                {"index": 1, "error": "missing required fields: message, timestamp"},
                {"index": 2, "error": "not a JSON object"},
            ])
        );
        let events = memory.events();
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| answer.body["correlation_id"] == event.correlation().as_str()));
    }

    #[tokio::test]
    async fn a_large_body_is_taken_whole() {
        let memory = Memory::default();
        let answer = post_body(Settings::default(), &memory, &format!("{GOOD}\n").repeat(3_000)).await;
        assert_eq!((answer.status, &answer.body["accepted"]), (200, &json!(3_000)));
        assert_eq!(memory.events().len(), 3_000);
    }

    async fn check_refused(request: Request, status: u16, error: &str) {
        let memory = Memory::default();
        let settings = Settings { max_body_bytes: 1_000, ..Settings::default() };
        let answer = send(ingest(settings, &memory), request).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body["error"].as_str().is_some_and(|text| text.contains(error)), "{}", answer.body);
        assert!(answer.headers.contains_key("x-correlation-id") && answer.headers["x-api-version"] == "v2.5");
        assert!(memory.events().is_empty());
    }

    #[tokio::test]
    async fn bad_requests_are_refused_with_a_reason() {
        check_refused(request("/ingest", "nonsense"), 400, "not valid JSON").await;
        check_refused(request("/ingest", "[]"), 400, "no event").await;
        check_refused(request("/ingest", "[1]"), 400, "no event of the batch").await;
        check_refused(request("/ingest", "{}"), 400, "missing required fields: hostname, message, timestamp").await;
        check_refused(request("/ingest", &GOOD.repeat(30)), 413, "1000 bytes").await;
        check_refused(request("/elsewhere", GOOD), 404, "no such path").await;
        let get = Request::get("/api/v2/ingest").body(Body::empty()).expect("a request");
        check_refused(get, 405, "POST").await;
        let no_key = Request::post("/ingest").body(Body::from(GOOD)).expect("a request");
        check_refused(no_key, 401, "API key").await;
        let xml = Request::post("/ingest").header("x-api-key", "key").header("content-type", "text/xml");
        check_refused(xml.body(Body::from(GOOD)).expect("a request"), 415, "content type").await;
        let brotli = Request::post("/ingest").header("x-api-key", "key").header("content-encoding", "br");
        check_refused(brotli.body(Body::from(GOOD)).expect("a request"), 415, "encoding").await;
    }

    #[tokio::test]
    async fn missing_members_are_listed_for_one_event() {
        let answer = post_body(Settings::default(), &Memory::default(), r#"{"message":"m"}"#).await;
        assert_eq!(answer.body["missing"], json!(["hostname", "timestamp"]));
    }

    #[tokio::test]
    async fn overload_is_answered_with_429_and_503_and_when_to_return() {
        let small = Settings { max_queue_items: 2, ..Settings::default() };
        let memory = Memory::default();
        let answer = post_body(small.clone(), &memory, &format!("[{GOOD},{GOOD},{GOOD}]")).await;
        assert_eq!(answer.status, 413, "more than the queue may ever hold: {}", answer.body);
        assert_eq!((&answer.body["events"], &answer.body["limit"]), (&json!(3), &json!(2)));
        assert!(!answer.headers.contains_key("retry-after"), "coming back does not help");
        assert_eq!(post_body(small.clone(), &memory, GOOD).await.status, 200);
        let answer = post_body(small, &memory, &format!("[{GOOD},{GOOD}]")).await;
        assert_eq!((answer.status, &answer.body["queue_depth"], &answer.body["limit"]), (503, &json!(1), &json!(2)));
        assert_eq!(answer.headers["retry-after"], "1");

        let limited = ingest(Settings { max_rate: Some(1), ..Settings::default() }, &memory);
        assert_eq!(send(limited.clone(), request("/ingest", GOOD)).await.status, 200);
        let answer = send(limited, request("/ingest", GOOD)).await;
        assert_eq!(answer.status, 429);
        let wait: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");

        memory.fail();
        let answer = post_body(Settings::default(), &memory, GOOD).await;
        assert_eq!(answer.status, 503);
        assert!(!answer.body["error"].as_str().expect("text").contains("disk"), "no internals: {}", answer.body);
        assert_eq!(answer.body["limit"], 5_000_000);
    }

    #[tokio::test]
    async fn the_old_path_is_deprecated_and_works() {
        let answer = send(ingest(Settings::default(), &Memory::default()), request("/api/v1/ingest", GOOD)).await;
        assert_eq!((answer.status, answer.headers["deprecation"].as_bytes()), (200, &b"true"[..]));
        assert!(
            ["sunset", "x-sunset", "x-api-deprecated", "link"].iter().all(|name| answer.headers.contains_key(*name))
        );
    }

    #[tokio::test]
    async fn a_version_that_is_not_served_is_refused() {
        let check = async |version: &str, status: u16| {
            let request = Request::post("/ingest").header("x-api-key", "key").header("accept-version", version);
            let request = request.body(Body::from(GOOD)).expect("a request");
            let memory = Memory::default();
            assert_eq!(send(ingest(Settings::default(), &memory), request).await.status, status, "{version}");
            assert_eq!(memory.events().len(), usize::from(status == 200), "{version}");
        };
        check("v1", 200).await;
        check("v2.5", 200).await;
        check("v99", 400).await;
    }

    #[tokio::test]
    async fn gzip_is_accepted() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(GOOD.as_bytes()).expect("memory");
        let request = Request::post("/ingest").header("x-api-key", "key").header("content-encoding", "gzip");
        let request = request.body(Body::from(encoder.finish().expect("memory"))).expect("a request");
        let memory = Memory::default();
        assert_eq!(send(ingest(Settings::default(), &memory), request).await.status, 200);
        assert_eq!(memory.events().len(), 1);
    }
}
