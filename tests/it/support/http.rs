//! A plain HTTP/1.1 client over one socket a request: it can send exactly what a test wants, right or wrong.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A request in the making.
pub struct Request {
    address: SocketAddr,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Request {
    fn new(method: &'static str, address: SocketAddr, path: impl Into<String>) -> Self {
        Self { address, method, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// GET `path`.
    pub fn get(address: SocketAddr, path: impl Into<String>) -> Self {
        Self::new("GET", address, path)
    }

    /// POST to `path`.
    pub fn post(address: SocketAddr, path: impl Into<String>) -> Self {
        Self::new("POST", address, path)
    }

    /// PUT to `path`.
    pub fn put(address: SocketAddr, path: impl Into<String>) -> Self {
        Self::new("PUT", address, path)
    }

    /// PATCH `path`.
    pub fn patch(address: SocketAddr, path: impl Into<String>) -> Self {
        Self::new("PATCH", address, path)
    }

    /// DELETE `path`.
    pub fn delete(address: SocketAddr, path: impl Into<String>) -> Self {
        Self::new("DELETE", address, path)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds `X-API-KEY`.
    pub fn key(self, key: &str) -> Self {
        self.header("X-API-KEY", key)
    }

    /// Sends this body with this content type.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// Sends `value` as JSON.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// Sends the request and reads the answer to its end; an error when the server is not there or dies meanwhile.
    pub fn send(self) -> io::Result<Answer> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.method, self.path, self.address);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        Answer::read(&converse(self.address, &bytes, Answer::is_complete)?)
    }

    /// Sends the request; the test fails if there is no answer.
    pub fn expect(self) -> Answer {
        let what = format!("{} http://{}{}", self.method, self.address, self.path);
        self.send().unwrap_or_else(|error| panic!("no answer to {what}: {error}"))
    }
}

/// Sends `bytes` as they are and returns everything that comes back until the peer closes. A reset after an answer
/// counts as its end: servers that refuse a body close without reading it.
pub fn speak(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    converse(address, bytes, |_| false)
}

/// Sends `bytes` and reads until `is_complete` says so or the peer closes.
fn converse(address: SocketAddr, bytes: &[u8], is_complete: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 16 << 10];
    while !is_complete(&answer) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if answer.is_empty() => return Err(written.err().unwrap_or(error)),
            Err(_) => break,
        }
    }
    Ok(answer)
}

impl Answer {
    fn read(bytes: &[u8]) -> io::Result<Self> {
        let broken = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{why}: {:?}", preview(bytes)));
        let end = find(bytes, b"\r\n\r\n").ok_or_else(|| broken("no end of the header"))?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Self { status: status.ok_or_else(|| broken("no status"))?, headers, body: Vec::new() };
        let rest = &bytes[end + 4..];
        answer.body = if answer.header("transfer-encoding") == Some("chunked") {
            join_chunks(rest).ok_or_else(|| broken("broken chunks"))?
        } else {
            let wanted = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
            match wanted {
                Some(wanted) if rest.len() < wanted => return Err(broken("the answer is cut short")),
                Some(wanted) => rest[..wanted].to_vec(),
                None => rest.to_vec(),
            }
        };
        Ok(answer)
    }

    /// Whether nothing more can follow: not all servers close after an answer.
    fn is_complete(bytes: &[u8]) -> bool {
        let Ok(answer) = Self::read(bytes) else { return false };
        let empty = answer.status == 204 || answer.status == 304;
        empty || answer.header("content-length").is_some() || answer.header("transfer-encoding").is_some()
    }

    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; the test fails if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// Fails unless the status is `status`.
    pub fn must_be(self, status: u16) -> Self {
        assert_eq!(self.status, status, "wrong status; body: {}", self.text());
        self
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(rest, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 2 + length + 2..)?;
    }
}

fn preview(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}
