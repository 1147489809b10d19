//! A real HTTP listener in the place of Moogsoft: it records every post and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One post as it arrived.
#[derive(Debug, Clone)]
pub struct Post {
    /// The path.
    pub path: String,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub json: Value,
    /// The body as it came.
    pub body: Vec<u8>,
    /// What it was answered with.
    pub status: u16,
}

/// An answer the receiver is to give.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    retry_after: Option<u32>,
    body: String,
}

impl Reply {
    /// An answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, retry_after: None, body: format!("{{\"answer\":{status}}}") }
    }

    /// The same with a `Retry-After` in seconds.
    pub const fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

#[derive(Default)]
struct State {
    posts: Vec<Post>,
    next: VecDeque<Reply>,
    always: Option<Reply>,
}

/// The listener; it ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    /// Listens on a free port of the loopback address and answers 200.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port for the receiver");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, stopped) = (Arc::clone(&shared), Arc::clone(&stopped));
                std::thread::spawn(move || serve(&stream, &shared, &stopped));
            }
        });
        Self { address, state, stop }
    }

    /// Where alerts are to be posted.
    pub fn url(&self) -> String {
        format!("{}/events/webhook_mutt", self.origin())
    }

    /// Its scheme, address and port.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next posts with these, one each, and 200 (or what [`Receiver::always`] said) afterwards.
    pub fn answer_next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.lock().next.extend(replies);
    }

    /// Answers every post with this from now on.
    pub fn always(&self, reply: Reply) {
        self.lock().always = Some(reply);
    }

    /// Every post so far, refused ones included.
    pub fn posts(&self) -> Vec<Post> {
        self.lock().posts.clone()
    }

    /// Posts that were taken (2xx) and whose description contains `text`.
    pub fn taken(&self, text: &str) -> Vec<Post> {
        let posts = self.posts().into_iter();
        posts.filter(|post| post.status < 300 && post.member("description").contains(text)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the receiver panicked")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, so that it sees the flag.
        drop(TcpStream::connect(self.address));
    }
}

impl Post {
    /// A member of the body as text; empty when it is not there.
    pub fn member(&self, name: &str) -> String {
        match &self.json[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Serves one connection, request after request, until the peer closes it.
fn serve(stream: &TcpStream, state: &Mutex<State>, stopped: &AtomicBool) {
    let mut reader = BufReader::new(stream);
    while let Some((method, mut post, body)) = read_request(&mut reader) {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let reply = if method == "POST" { record(state, &mut post, &body) } else { Reply::status(200) };
        let retry = reply.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let length = if method == "HEAD" { 0 } else { reply.body.len() };
        let head = format!("HTTP/1.1 {} Answer\r\n{retry}Content-Length: {length}\r\n\r\n", reply.status);
        let mut writer = stream;
        if writer.write_all(format!("{head}{}", &reply.body[..length]).as_bytes()).is_err() {
            return;
        }
    }
}

fn record(state: &Mutex<State>, post: &mut Post, body: &[u8]) -> Reply {
    post.json = serde_json::from_slice(body).unwrap_or(Value::Null);
    post.body = body.to_vec();
    let Ok(mut state) = state.lock() else { return Reply::status(500) };
    let reply = state.next.pop_front().or_else(|| state.always.clone()).unwrap_or_else(|| Reply::status(200));
    post.status = reply.status;
    state.posts.push(post.clone());
    reply
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, Post, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((method, Post { path, headers, json: Value::Null, body: Vec::new(), status: 0 }, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::Request;

    #[test]
    fn the_receiver_records_posts_and_answers_as_told() {
        let receiver = Receiver::start();
        receiver.answer_next([Reply::status(503).after(7)]);
        let post = |text: &str| {
            let body = serde_json::json!({"description": text});
            Request::post(receiver.address, "/events").header("Authorization", "Bearer x").json(&body).expect()
        };
        let refused = post("first");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("7")));
        assert_eq!(post("second").status, 200);
        receiver.always(Reply::status(400));
        assert_eq!(post("third").status, 400);
        let statuses: Vec<u16> = receiver.posts().iter().map(|post| post.status).collect();
        assert_eq!(statuses, [503, 200, 400]);
        let taken = receiver.taken("second");
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].header("authorization"), Some("Bearer x"));
        assert!(receiver.taken("first").is_empty());
    }
}
