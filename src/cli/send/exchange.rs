//! One POST after the other over one kept-alive connection, with as little work a request as there can be: the head is made
//! once, head and body go out in one write, and of the answer only what is needed is read.
//!
//! [`super::http::Client`] spends some 25 us of CPU time a request, which a load generator takes from the server it
//! measures; this spends 17, half of it in the kernel. It is for posting only. Nothing is sent twice: a connection that broke amid
//! an exchange is told as an error, since the peer may have taken the request.

use std::time::Duration;

use futures_util::FutureExt as _;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::HttpError;
use crate::net::tls::{ClientStream, Connector};

/// Longest answer that is read: reasons for 10,000 refused events stay below.
const MAX_ANSWER: usize = 4 << 20;
/// Longest head of an answer.
const MAX_HEAD: usize = 64 << 10;

/// A connection that is opened with the first request.
#[derive(Debug)]
pub struct Exchange {
    address: String,
    timeout: Duration,
    /// How to come into TLS, if the peer wants it.
    tls: Option<Connector>,
    /// The request's head up to the value of Content-Length.
    head: Vec<u8>,
    stream: Option<Stream>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What came back; borrowed, because the next exchange overwrites it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// The body as it was transferred.
    pub body: &'a [u8],
}

/// Where an answer's parts lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    body: usize,
    length: Length,
    closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    /// Until the chunk without content.
    Chunked,
    /// Until the peer closes.
    Open,
}

impl Exchange {
    /// Posts go to `path` at `address` with these headers, on top of Host and Content-Length.
    pub fn new(address: &str, path: &str, headers: &[(&str, &str)], timeout: Duration) -> Self {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("content-length: ");
        Self {
            address: address.to_owned(),
            timeout,
            tls: None,
            head: head.into_bytes(),
            stream: None,
            request: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// The same inside TLS.
    #[must_use]
    pub fn over(self, tls: Option<Connector>) -> Self {
        Self { tls, ..self }
    }

    /// Posts `body` and reads the answer.
    pub async fn post(&mut self, body: &[u8]) -> Result<Reply<'_>, HttpError> {
        self.request.clear();
        self.request.extend_from_slice(&self.head);
        self.request.extend_from_slice(body.len().to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        self.request.extend_from_slice(body);
        // Taken out and put back only after a whole exchange: nothing can follow half of one.
        let stream = self.stream.take();
        let (address, timeout) = (self.address.clone(), self.timeout);
        let exchanging = async {
            // Peers may close an idle connection at any time.
            let stream = match stream.and_then(still_open) {
                Some(stream) => stream,
                None => Stream::open(&address, self.tls.as_ref()).await?,
            };
            match stream {
                Stream::Plain(stream) => {
                    let (stream, head) = exchange(stream, &self.request, &mut self.answer).await?;
                    Ok((stream.map(Stream::Plain), head))
                }
                Stream::Tls(stream) => {
                    let (stream, head) = exchange(stream, &self.request, &mut self.answer).await?;
                    Ok((stream.map(Stream::Tls), head))
                }
            }
        };
        let exchanged = tokio::time::timeout(timeout, exchanging).await;
        let (stream, head) = match exchanged {
            Ok(Ok(done)) => done,
            Ok(Err(Fault::Io(source))) => return Err(HttpError::Connection { address, source: source.into() }),
            Ok(Err(Fault::TooLong)) => return Err(HttpError::TooLong { address }),
            Err(_) => return Err(HttpError::Timeout { address, seconds: timeout.as_secs_f64() }),
        };
        self.stream = stream;
        Ok(Reply { status: head.status, body: &self.answer[head.body..] })
    }
}

/// Why an exchange failed.
enum Fault {
    Io(std::io::Error),
    TooLong,
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection, inside TLS or not.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    /// Boxed, because its state is large.
    Tls(Box<ClientStream>),
}

impl Stream {
    async fn open(address: &str, tls: Option<&Connector>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Self::Plain(stream)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Ok(Self::Tls(Box::new(tls.secure(host, stream).await?)))
    }
}

/// A connection on which nothing arrived since the last answer; the end would have.
fn still_open(stream: Stream) -> Option<Stream> {
    match stream {
        Stream::Plain(stream) => is_open(&stream).then_some(Stream::Plain(stream)),
        Stream::Tls(mut stream) => stream.read(&mut [0]).now_or_never().is_none().then_some(Stream::Tls(stream)),
    }
}

/// Writes the request and reads the answer to its end; gives the connection back if it can be used again.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &[u8],
    answer: &mut Vec<u8>,
) -> Result<(Option<S>, Head), Fault> {
    stream.write_all(request).await?;
    stream.flush().await?;
    answer.clear();
    let head = loop {
        let ended = stream.read_buf(answer).await? == 0;
        if let Some(head) = read_head(answer) {
            // An interim answer (100 Continue) precedes the real one.
            if !(100..200).contains(&head.status) {
                break head;
            }
            answer.drain(..head.body);
        }
        if ended {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        if answer.len() > MAX_HEAD {
            return Err(Fault::TooLong);
        }
    };
    while !is_complete(&head, answer) {
        if answer.len() > MAX_ANSWER {
            return Err(Fault::TooLong);
        }
        if stream.read_buf(answer).await? == 0 {
            if head.length == Length::Open {
                break;
            }
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    let reusable = !head.closes && head.length != Length::Open;
    Ok((reusable.then_some(stream), head))
}

fn is_open(stream: &TcpStream) -> bool {
    let blocked = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.try_read(&mut [0]).is_err_and(|error| blocked(&error))
}

fn is_complete(head: &Head, answer: &[u8]) -> bool {
    match head.length {
        Length::Known(length) => answer.len() >= head.body + length,
        Length::Chunked => answer.ends_with(b"0\r\n\r\n"),
        Length::Open => false,
    }
}

/// The head of an answer, once it is there as a whole.
fn read_head(answer: &[u8]) -> Option<Head> {
    let end = memmem::find(answer, b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut head = Head { status, body: end + 4, length: Length::Open, closes: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length = Length::Known(value.parse().ok()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    if matches!(status, 100..=199 | 204 | 304) {
        head.length = Length::Known(0);
    }
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Answers each connection's requests with the texts of its list in turn, then closes it.
    async fn server(connections: Vec<Vec<&'static str>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            for answers in connections {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                for answer in answers {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"content-length: 4\r\n\r\nbody") {
                        assert_ne!(stream.read_buf(&mut seen).await.expect("a request"), 0);
                    }
                    // In two parts, as networks may deliver it.
                    let (first, second) = answer.split_at(answer.len() / 2);
                    stream.write_all(first.as_bytes()).await.expect("answered");
                    tokio::task::yield_now().await;
                    stream.write_all(second.as_bytes()).await.expect("answered");
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn answers_of_every_length_are_read_and_the_connection_used_again() {
        let address = server(vec![
            vec![
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Full\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfull\r\n0\r\n\r\n",
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            ],
            vec!["HTTP/1.1 400 No\r\n\r\nuntil the end"],
        ])
        .await;
        let mut exchange = Exchange::new(&address, "/x", &[("x-api-key", "k")], TIMEOUT);
        for (status, body) in
            [(200, "ok"), (503, "4\r\nfull\r\n0\r\n\r\n"), (204, ""), (200, ""), (400, "until the end")]
        {
            let reply = exchange.post(b"body").await.expect("an answer");
            assert_eq!((reply.status, reply.body), (status, body.as_bytes()));
        }
    }

    #[tokio::test]
    async fn a_peer_that_breaks_off_or_says_nothing_is_an_error() {
        let address = server(vec![vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]]).await;
        let mut exchange = Exchange::new(&address, "/", &[], TIMEOUT);
        assert!(matches!(exchange.post(b"body").await, Err(HttpError::Connection { .. })));
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = silent.local_addr().expect("an address").to_string();
        let mut exchange = Exchange::new(&address, "/", &[], Duration::from_millis(20));
        assert!(matches!(exchange.post(b"body").await, Err(HttpError::Timeout { .. })));
    }
}
