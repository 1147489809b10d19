//! Serves an axum router over HTTP/1.1 with every resource bounded: connections, header bytes, header count, the time
//! for headers, for bodies and for peers that stop reading.
//!
//! What it never does: hold up the connections already open because of a slow, idle or hostile one; answer a request
//! twice; let a panic in a handler end more than its own request. It keeps no state: a crash loses only the requests
//! under way, none of which was answered.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use axum::response::Response;
use futures_util::FutureExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::api_version;
use super::problem;
use super::refusals::Explained;
use super::tls::{Door, OverTls, Secured};
use crate::model::{TRACEPARENT, TRACESTATE, TraceContext};

/// The header that carries a request's correlation id, both ways.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Longest correlation id taken from a request, in bytes; longer ones are replaced by a new one.
const CORRELATION_ID_MAX: usize = 128;

/// Longest `Host` taken, in bytes: a name of 253 and a port.
const LONGEST_HOST: usize = 260;

/// Pause after an accept that failed for want of descriptors or memory: long enough for others to end, short enough
/// that nobody notices.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one listener grants its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Bytes of request line and headers together; beyond is 431. A request may have 100 headers.
    pub max_header_bytes: usize,
    /// Time from the accept, or from the end of the previous request, to a complete header. It is both the limit for
    /// slow headers and the idle time a kept-alive connection has.
    pub header_timeout: Duration,
    /// Time a request's body may take once its sender makes us wait for it.
    pub body_timeout: Duration,
    /// A peer that takes none of our bytes for so long is cut off (TCP_USER_TIMEOUT).
    pub stall_timeout: Duration,
    /// Time for requests under way when the listener is told to stop; then they are cut off.
    pub drain: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            max_header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// Serves `router` until `stop` is cancelled, then lets requests under way end within [`HttpLimits::drain`]. Connections
/// come in through `door`, which may want TLS of them.
///
/// Handlers find the peer as `ConnectInfo<SocketAddr>`, and [`OverTls`] with requests that came inside TLS. A panic in one
/// becomes a 500 with a correlation id.
pub async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    limits: HttpLimits,
    door: Door,
    stop: CancellationToken,
) {
    serve_until(listener, router, limits, door, stop.clone(), stop).await;
}

/// The same, but letting go of the socket when `release` is cancelled: connections that are open go on until they end or
/// `stop` is cancelled, which must cancel `release` too.
pub async fn serve_until(
    listener: std::net::TcpListener,
    router: Router,
    limits: HttpLimits,
    door: Door,
    release: CancellationToken,
    stop: CancellationToken,
) {
    let listener = match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("An HTTP listener cannot be used: {error}");
            return;
        }
    };
    let slots = Arc::new(Semaphore::new(limits.max_connections.max(1)));
    let kill = CancellationToken::new();
    let connections = TaskTracker::new();
    let mut acceptor = Acceptor { listener, failing: false };
    while let Some((stream, peer, slot)) = acceptor.next(&slots, &release).await {
        let (router, door, stop, kill) = (router.clone(), door.clone(), stop.clone(), kill.clone());
        connections.spawn(async move {
            tokio::select! {
                () = admit(stream, peer, router, limits, &door, stop) => {}
                () = kill.cancelled() => {}
            }
            drop(slot);
        });
    }
    drop(acceptor);
    connections.close();
    tokio::select! {
        () = stop.cancelled() => {}
        () = connections.wait() => return,
    }
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        kill.cancel();
        connections.wait().await;
    }
}

/// Takes connections one by one and survives what can go wrong with that.
struct Acceptor {
    listener: TcpListener,
    /// Whether the last accept failed, so that a series of failures is logged once.
    failing: bool,
}

impl Acceptor {
    /// The next connection and its slot; `None` when it is time to stop. Slot first: without one we do not accept.
    async fn next(
        &mut self,
        slots: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let taken = async {
            let slot = Arc::clone(slots).acquire_owned().await.ok()?;
            let (stream, peer) = self.accept().await;
            Some((stream, peer, slot))
        };
        tokio::select! {
            () = stop.cancelled() => None,
            connection = taken => connection,
        }
    }

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(connection) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("HTTP connections are accepted again");
                    }
                    return connection;
                }
                // The peer gave up between its SYN and our accept; that says nothing about us.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!("HTTP connections cannot be accepted, trying on: {error}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Brings a connection through the door and serves it.
async fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
    door: &Door,
    stop: CancellationToken,
) {
    tune(&stream, limits.stall_timeout);
    let passed = tokio::select! {
        passed = door.pass(stream, peer) => passed,
        // Nothing was asked yet, so nothing is owed.
        () = stop.cancelled() => None,
    };
    if let Some(stream) = passed {
        connection(stream, peer, router, limits, stop).await;
    }
}

/// Speaks HTTP on one connection until it ends, or until its current request ends after `stop`.
async fn connection(stream: Secured, peer: SocketAddr, router: Router, limits: HttpLimits, stop: CancellationToken) {
    let over_tls = stream.is_tls().then_some(OverTls);
    let service =
        tower::service_fn(move |request: Request<Incoming>| answer(router.clone(), request, peer, over_tls, limits));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes)
        // The read buffer also carries bodies: 64 KiB keeps large ones quick and a thousand connections small.
        .max_buf_size(limits.max_header_bytes.max(64 << 10));
    let serving = protocol.serve_connection(
        TokioIo::new(Explained::new(stream, limits.max_header_bytes)),
        TowerToHyperService::new(service),
    );
    tokio::pin!(serving);
    // Errors here are the peer's: garbage (answered with 400), time-outs, resets. There is nothing to do about them.
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "HTTP connection ended: {error}");
    }
}

/// Answers are small and written at once, so Nagle's algorithm would only delay them. A failure of either option leaves
/// the kernel's default, which serves as well, only slower.
fn tune(stream: &TcpStream, stall_timeout: Duration) {
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(stream).set_tcp_user_timeout(Some(stall_timeout)));
    if let Err(error) = tuned {
        tracing::debug!("TCP options of an HTTP connection not set: {error}");
    }
}

/// One request through the router; a panic becomes a 500 that tells nothing but an id to look for in the log.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    over_tls: Option<OverTls>,
    limits: HttpLimits,
) -> Result<Response, Infallible> {
    let sent_id = request.headers().get(&CORRELATION_ID).cloned();
    if let Some(why) = ambiguity(&request) {
        let id = sent_id.as_ref().and_then(sane).map_or_else(new_correlation_id, str::to_owned);
        let mut refusal = error_response(StatusCode::BAD_REQUEST, why, &id);
        api_version::mark(refusal.headers_mut(), request.uri().path());
        // Where the next request begins may be meant in another way by whoever passed this one on.
        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(refusal);
    }
    let mut request = request.map(|body| Body::new(TimedBody::new(body, limits.body_timeout)));
    request.extensions_mut().insert(ConnectInfo(peer));
    if let Some(over_tls) = over_tls {
        request.extensions_mut().insert(over_tls);
    }
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            let id = sent_id.as_ref().and_then(sane).map_or_else(new_correlation_id, str::to_owned);
            tracing::error!(request.id = %id, "A request handler panicked; its request {id} was answered with 500");
            Ok(error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the log for this id", &id))
        }
    }
}

/// Why it is not clear whom a request is for: a proxy before us may have taken another host (RFC 9112 section 3.2). How long a
/// request is hyper decides: it believes `Transfer-Encoding` alone where both are there (section 6.3).
fn ambiguity<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some("the request has more than one header Host"),
        (None, _) if request.version() == Version::HTTP_11 => Some("the request has no header Host"),
        (Some(host), None) if !is_authority(host.as_bytes()) => Some("the header Host names no host"),
        _ => None,
    }
}

/// Whether it has only what a host and a port may have (RFC 3986 section 3.2). An empty one is allowed: the request may be
/// for an address without one.
fn is_authority(host: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    host.len() <= LONGEST_HOST && host.iter().all(allowed)
}

/// The correlation id a request carries, if it is 1 to 128 visible ASCII characters and nothing else.
pub fn sent_correlation_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(&CORRELATION_ID).and_then(sane)
}

/// The trace that a request belongs to, if it says so as the standard has it. More than one `traceparent` is none.
pub fn sent_trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (given.next(), given.next()) else { return None };
    let states: Vec<&str> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    TraceContext::parse(parent.to_str().ok()?, Some(&states.join(",")))
}

fn sane(value: &HeaderValue) -> Option<&str> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    is_sane_correlation_id(text).then_some(text)
}

/// Whether a correlation id may be kept and sent on as it is: 1 to 128 visible ASCII characters.
pub fn is_sane_correlation_id(text: &str) -> bool {
    (1..=CORRELATION_ID_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A new random correlation id (a UUID, version 4).
pub fn new_correlation_id() -> String {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // The id is only for finding things again; without randomness it is still well formed.
        tracing::debug!("no random bytes for a correlation id: {error}");
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// An error as a problem document, with its id in `X-Correlation-ID` as well.
pub fn error_response(status: StatusCode, error: &str, correlation_id: &str) -> Response {
    let mut response = problem::response(status, problem::members(status, error, None, None, correlation_id));
    problem::guard(response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    response
}

/// A JSON answer.
pub fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether a body ended because it did not arrive in time.
pub fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// A request body that must be complete within a time, counted from the first moment we have to wait for it.
struct TimedBody {
    inner: Incoming,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    fn new(inner: Incoming, limit: Duration) -> Self {
        Self { inner, limit, deadline: None }
    }
}

impl HttpBody for TimedBody {
    type Data = bytes::Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        deadline.as_mut().poll(context).map(|()| {
            Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the request body did not arrive in time").into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    fn server(limits: HttpLimits) -> Server {
        let router = Router::new()
            .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
            .route(
                "/panic",
                get(|| async {
                    if true {
                        panic!("on purpose")
                    }
                }),
            )
            .route("/hang", get(std::future::pending::<()>))
            .route("/body", post(|body: String| async move { body.len().to_string() }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, limits, Door::open("test"), stop.clone()));
        Server { address, stop, task }
    }

    /// Sends `request` and returns everything that comes back until the connection closes.
    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request).await.expect("it takes bytes");
        let mut answer = Vec::new();
        // A reset after the answer is fine; what was received stays.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn check(limits: HttpLimits, request: &[u8], expected: &str) {
        let server = server(limits);
        let answer = exchange(server.address, request).await;
        assert!(answer.contains(expected), "{answer}");
    }

    #[tokio::test]
    async fn a_handler_sees_its_peer() {
        check(HttpLimits::default(), b"GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "127.0.0.1").await;
    }

    #[tokio::test]
    async fn garbage_is_answered_with_400() {
        check(HttpLimits::default(), b"\x16\x03\x01 nonsense\r\n\r\n", "HTTP/1.1 400").await;
    }

    #[tokio::test]
    async fn too_many_or_too_long_headers_are_answered_with_431() {
        let many = format!("GET /peer HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(101));
        check(HttpLimits::default(), many.as_bytes(), "HTTP/1.1 431").await;
        let long = format!("GET /peer HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(33 << 10));
        check(HttpLimits::default(), long.as_bytes(), "HTTP/1.1 431").await;
        check(HttpLimits::default(), long.as_bytes(), "larger than 32768 bytes").await;
    }

    #[tokio::test]
    async fn what_can_be_read_in_two_ways_is_refused_with_a_reason() {
        let server = server(HttpLimits::default());
        let check = async |head: &str, status: &str, why: &str| {
            let answer = exchange(server.address, format!("{head}\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(why), "{head}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: {answer}");
        };
        let close = "connection: close";
        check(&format!("GET /peer HTTP/1.1\r\n{close}"), "400", "no header Host").await;
        check("GET /peer HTTP/1.1\r\nhost: a\r\nhost: a", "400", "more than one").await;
        check("GET /peer HTTP/1.1\r\nhost: a b<c>", "400", "names no host").await;
        check(&format!("GET /peer HTTP/1.1\r\nhost: [::1]:80\r\n{close}"), "200", "127.0.0.1").await;
        check("GET /peer HTTP/9", "400", "\"type\":\"/api/docs#problem-bad-request\"").await;
    }

    #[tokio::test]
    async fn a_panic_is_a_500_with_the_senders_correlation_id() {
        let request = b"GET /panic HTTP/1.1\r\nhost: a\r\nx-correlation-id: abc-1\r\nconnection: close\r\n\r\n";
        let server = server(HttpLimits::default());
        let answer = exchange(server.address, request).await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(answer.contains("\"correlation_id\":\"abc-1\""), "{answer}");
        assert!(!answer.contains("on purpose"), "{answer}");
    }

    #[tokio::test]
    async fn slow_headers_and_slow_bodies_are_cut_off() {
        let quick = Duration::from_millis(50);
        let headers = HttpLimits { header_timeout: quick, ..HttpLimits::default() };
        let server_a = server(headers);
        assert!(!exchange(server_a.address, b"GET /peer HTTP/1.1\r\nhost:").await.contains("200"));
        let bodies = HttpLimits { body_timeout: quick, ..HttpLimits::default() };
        let server_b = server(bodies);
        let request = b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345";
        assert!(exchange(server_b.address, request).await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_its_turn() {
        let limits =
            HttpLimits { max_connections: 1, header_timeout: Duration::from_millis(100), ..HttpLimits::default() };
        let server = server(limits);
        let idle = TcpStream::connect(server.address).await.expect("it listens");
        let request = b"GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        // The idle connection holds the only slot until its header time is over.
        assert!(exchange(server.address, request).await.contains("200 OK"));
        drop(idle);
    }

    #[tokio::test]
    async fn stopping_cuts_off_a_request_that_never_ends() {
        let server = server(HttpLimits { drain: Duration::from_millis(50), ..HttpLimits::default() });
        let request = b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut stream = TcpStream::connect(server.address).await.expect("it listens");
        stream.write_all(request).await.expect("it takes bytes");
        server.stop.cancel();
        server.task.await.expect("serve ends");
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
    }

    #[test]
    fn only_visible_ascii_is_a_correlation_id() {
        for (text, expected) in
            [("a-1", true), ("", false), ("a b", false), ("\u{e4}", false), (&"x".repeat(129), false)]
        {
            assert_eq!(is_sane_correlation_id(text), expected, "{text}");
        }
        assert_ne!(new_correlation_id(), new_correlation_id());
    }
}
