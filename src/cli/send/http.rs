//! A lean HTTP/1.1 client over one kept-alive plain connection: for posting events and for asking a server's API.
//!
//! It is hyper's connection without a pool, because a load generator shares the machine with what it measures. It
//! speaks no TLS, follows no redirect and bounds what it reads. A connection that the peer closed is opened anew.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest answer that is read: the metrics page with 10,000 rules stays far below.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be used.
    #[error("`{0}` is no address that can be posted to: use host:port or http://host:port/path")]
    Address(String),
    /// Nobody listens, or the connection broke.
    #[error("cannot talk to {address}")]
    Connection {
        /// Whom we spoke to.
        address: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{address} did not answer within {seconds} s")]
    Timeout {
        /// Whom we asked.
        address: String,
        /// How long we waited.
        seconds: f64,
    },
    /// The answer is too long.
    #[error("{address} answered with more than {MAX_ANSWER} bytes")]
    TooLong {
        /// Who answered.
        address: String,
    },
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// The path, query included.
    pub path: String,
}

impl Endpoint {
    /// Reads `host:port`, `http://host[:port]` or `http://host[:port]/path`; `path` stands in for a missing path.
    pub fn parse(text: &str, path: &str) -> Result<Self, HttpError> {
        Self::with_port(text.strip_prefix("http://").unwrap_or(text), path, 80)
    }

    /// Reads `host[:port]` or `host[:port]/path`; `port` and `path` stand in for what is missing.
    pub fn with_port(rest: &str, path: &str, port: u16) -> Result<Self, HttpError> {
        let invalid = || HttpError::Address(rest.to_owned());
        if rest.contains("://") || rest.contains('@') {
            return Err(invalid());
        }
        let (authority, path) = match rest.find('/') {
            Some(at) if rest.len() > at + 1 => (&rest[..at], &rest[at..]),
            Some(at) => (&rest[..at], path),
            None => (rest, path),
        };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let has_host = !authority.is_empty() && !authority.starts_with(':');
        let uri_is_fine =
            path.parse::<hyper::Uri>().is_ok() && authority.parse::<hyper::http::uri::Authority>().is_ok();
        match (has_host && uri_is_fine, has_port) {
            (true, true) => Ok(Self { address: authority.to_owned(), path: path.to_owned() }),
            (true, false) => Ok(Self { address: format!("{authority}:{port}"), path: path.to_owned() }),
            (false, _) => Err(invalid()),
        }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// One connection to one server.
#[derive(Debug)]
pub struct Client {
    address: String,
    timeout: Duration,
    connection: Option<SendRequest<Whole>>,
}

impl Client {
    /// A client that connects with its first request and waits at most `timeout` for an answer.
    pub fn new(address: &str, timeout: Duration) -> Self {
        Self { address: address.to_owned(), timeout, connection: None }
    }

    /// Sends one request and reads its answer. `headers` come on top of Host and Content-Length.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let timeout = self.timeout;
        let answer = tokio::time::timeout(timeout, self.exchange(method, path, headers, body)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(HttpError::Timeout { address: self.address.clone(), seconds: timeout.as_secs_f64() })
        });
        if answer.is_err() {
            // Half an exchange may be on the way; nothing can follow it on this connection.
            self.connection = None;
        }
        answer
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let mut connection = match self.connection.take() {
            Some(mut connection) => match connection.ready().await {
                Ok(()) => connection,
                // The peer closed it while idle, as servers may at any time.
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Whole(Some(body))).map_err(|error| self.broken(error))?;
        let response = connection.send_request(request).await.map_err(|error| self.broken(error))?;
        let (head, body) = response.into_parts();
        let body = self.read(body).await?;
        self.connection = Some(connection);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Whole>, HttpError> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| self.broken(error))?;
        stream.set_nodelay(true).map_err(|error| self.broken(error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // It ends with the sender or the peer; what went wrong is told to the request that was under way.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    async fn read(&self, mut body: Incoming) -> Result<Bytes, HttpError> {
        let mut all = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|error| self.broken(error))?;
            if let Ok(data) = frame.into_data() {
                all.extend_from_slice(&data);
            }
            if all.len() > MAX_ANSWER {
                return Err(HttpError::TooLong { address: self.address.clone() });
            }
        }
        Ok(all.freeze())
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HttpError {
        HttpError::Connection { address: self.address.clone(), source: source.into() }
    }
}

/// A body that is there as a whole.
#[derive(Debug)]
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn addresses_are_read_with_and_without_scheme_port_and_path() {
        for (text, address, path) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", "/ingest"),
            ("http://host", "host:80", "/ingest"),
            ("http://host:81/", "host:81", "/ingest"),
            ("http://[::1]:8080/a/b?c=d", "[::1]:8080", "/a/b?c=d"),
        ] {
            let endpoint = Endpoint::parse(text, "/ingest").expect(text);
            assert_eq!((endpoint.address.as_str(), endpoint.path.as_str()), (address, path), "{text}");
        }
        for text in ["", "https://host", "http://", ":80", "user:word@host:1", "a b:80", "host:1/a b"] {
            assert!(Endpoint::parse(text, "/").is_err(), "{text}");
        }
    }

    /// Answers each connection's first request with `answers` in turn and closes it.
    async fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut seen = Vec::new();
                while !seen.ends_with(b"body") {
                    let mut chunk = [0; 1_024];
                    let length = stream.read(&mut chunk).await.expect("a request");
                    seen.extend_from_slice(&chunk[..length]);
                }
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        address
    }

    #[tokio::test]
    async fn a_connection_that_the_peer_closed_is_opened_anew() {
        let first = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let second = "HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfull\r\n0\r\n\r\n";
        let address = server(vec![first, second]).await;
        let mut client = Client::new(&address, Duration::from_secs(10));
        for (status, body) in [(200, "ok"), (503, "full")] {
            let answer =
                client.request(Method::POST, "/x", &[("x-api-key", "k")], "body".into()).await.expect("an answer");
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (status, body.as_bytes()));
            // The server closes after each answer; the client has to have seen that to know.
            if let Some(connection) = &mut client.connection {
                std::future::poll_fn(|context| match connection.poll_ready(context) {
                    Poll::Ready(Err(_)) => Poll::Ready(()),
                    _ => {
                        context.waker().wake_by_ref();
                        Poll::Pending
                    }
                })
                .await;
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address").to_string();
        let mut client = Client::new(&address, Duration::from_millis(20));
        let answer = client.request(Method::GET, "/", &[], Bytes::new()).await;
        assert!(matches!(answer, Err(HttpError::Timeout { .. })), "{answer:?}");
        drop(listener);
        let answer = client.request(Method::GET, "/", &[], Bytes::new()).await;
        assert!(matches!(answer, Err(HttpError::Connection { .. })), "{answer:?}");
    }
}
