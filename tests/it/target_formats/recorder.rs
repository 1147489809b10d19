//! Receivers of every protocol that targets speak: each records what arrives and answers that it took it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One HTTP request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// `POST /path?query`.
    pub line: String,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    /// The body's bytes as text.
    pub body: String,
}

impl Recorded {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a receiver has seen so far.
pub type Seen<T> = Arc<Mutex<Vec<T>>>;

/// A listener on a free port; `serve` gets each connection and the list.
fn listen<T: Send + 'static>(serve: impl Fn(TcpStream, &Seen<T>) + Send + Sync + 'static) -> (u16, Seen<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let seen = Seen::default();
    let (shared, serve) = (Arc::clone(&seen), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (shared, serve) = (Arc::clone(&shared), Arc::clone(&serve));
            std::thread::spawn(move || serve(stream, &shared));
        }
    });
    (port, seen)
}

/// An HTTP server that answers every request with 200 and `answer`.
pub fn http(answer: &'static str) -> (u16, Seen<Recorded>) {
    listen(move |stream, seen: &Seen<Recorded>| {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream) {
            // Health probes are no deliveries.
            if !request.line.starts_with("HEAD ") && !request.line.starts_with("GET ") {
                seen.lock().expect("no thread panicked").push(request);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            if stream.get_mut().write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn read_request(stream: &mut impl BufRead) -> Option<Recorded> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Recorded { line, headers, body: String::from_utf8(body).expect("bodies are text") })
}

/// A mail server without encryption; it records whole mails.
pub fn smtp() -> (u16, Seen<String>) {
    listen(|mut stream, seen: &Seen<String>| {
        greet(&mut stream);
        converse(stream, seen);
    })
}

/// A mail server that is encrypted from the first byte.
pub fn smtp_over_tls() -> (u16, Seen<String>) {
    listen(|stream, seen: &Seen<String>| {
        let mut stream = encrypted(stream);
        greet(&mut stream);
        converse(stream, seen);
    })
}

/// A mail server that wants STARTTLS.
pub fn smtp_with_starttls() -> (u16, Seen<String>) {
    listen(|mut stream, seen: &Seen<String>| {
        greet(&mut stream);
        let mut lines = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            if line.starts_with("STARTTLS") {
                say(&mut stream, "220 go on");
                return converse(encrypted(stream), seen);
            }
            say(&mut stream, "250-recorder\r\n250 STARTTLS");
            line.clear();
        }
    })
}

fn greet(stream: &mut impl Write) {
    say(stream, "220 recorder");
}

fn say(stream: &mut impl Write, line: &str) {
    // A client that is gone has said all that it will say.
    let _ = stream.write_all(format!("{line}\r\n").as_bytes()).and_then(|()| stream.flush());
}

/// Takes mails until the client is gone.
fn converse(stream: impl Read + Write, seen: &Seen<String>) {
    let mut stream = BufReader::new(stream);
    let mut mail: Option<String> = None;
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
        let answer = match (&mut mail, line.trim_end()) {
            (Some(text), ".") => {
                seen.lock().expect("no thread panicked").push(std::mem::take(text));
                mail = None;
                "250 queued"
            }
            (Some(text), _) => {
                text.push_str(&line);
                ""
            }
            (None, "DATA") => {
                mail = Some(String::new());
                "354 go on"
            }
            (None, command) if command.starts_with("EHLO") => "250-recorder\r\n250 AUTH PLAIN",
            (None, command) if command.starts_with("AUTH") => "235 welcome",
            (None, _) => "250 ok",
        };
        if !answer.is_empty() {
            say(stream.get_mut(), answer);
        }
        line.clear();
    }
}

/// A syslog server over TCP; it records messages by their counted length.
pub fn syslog() -> (u16, Seen<String>) {
    listen(|stream, seen: &Seen<String>| frames(stream, seen))
}

/// A syslog server over TLS.
pub fn syslog_over_tls() -> (u16, Seen<String>) {
    listen(|stream, seen: &Seen<String>| frames(encrypted(stream), seen))
}

fn frames(stream: impl Read, seen: &Seen<String>) {
    let mut stream = BufReader::new(stream);
    let mut length = Vec::new();
    while stream.read_until(b' ', &mut length).is_ok_and(|read| read > 1) {
        let bytes = String::from_utf8_lossy(&length).trim().parse().expect("a frame begins with its length");
        let mut message = vec![0; bytes];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        seen.lock().expect("no thread panicked").push(String::from_utf8(message).expect("UTF-8"));
        length.clear();
    }
}

/// The server's end of TLS, as `localhost`, signed by the authority of the tests.
fn encrypted(stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    let certificate = CertificateDer::from_pem_file(tls_file("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate and its key");
    StreamOwned::new(ServerConnection::new(Arc::new(config)).expect("a connection"), stream)
}

/// A file of the tests' own authority; its keys protect nothing.
pub fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}
