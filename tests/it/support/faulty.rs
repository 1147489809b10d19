//! A receiver that misbehaves as it is told, until it is told to be well: the faults of a network and of a server, on a
//! real socket.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// What it does with each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Takes it.
    Well,
    /// Takes it after a while.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Breaks the connection with a reset in the place of an answer.
    Reset,
    /// Answers with bytes that are no HTTP.
    Garbage,
    /// Answers with this status and these further header lines.
    Answer(u16, &'static str),
    /// Takes it if it comes with this bearer token, and answers 401 if not.
    Wants(&'static str),
    /// The same with any of these tokens.
    WantsAny(Vec<String>),
    /// Accepts no connection: nobody listens.
    Down,
}

struct State {
    mode: Mutex<Mode>,
    /// Ids of the events of all alerts taken: a batch's events share their correlation id.
    taken: Mutex<BTreeSet<String>>,
    requests: Mutex<u64>,
    stop: AtomicBool,
}

/// The receiver; it ends when it is dropped.
pub struct Faulty {
    address: SocketAddr,
    state: Arc<State>,
}

impl Faulty {
    /// Listens on a free port; one that is down gives its port back until it is well.
    pub fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port for the receiver");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            mode: Mutex::new(mode.clone()),
            taken: Mutex::default(),
            requests: Mutex::new(0),
            stop: AtomicBool::new(false),
        });
        let faulty = Self { address, state };
        if mode == Mode::Down {
            drop(listener);
        } else {
            faulty.listen(listener);
        }
        faulty
    }

    fn listen(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
    }

    /// The address of the webhook.
    pub fn url(&self) -> String {
        format!("http://{}/events/webhook_s3cret", self.address)
    }

    /// The same over TLS, on a listener of its own whose certificate nobody trusts.
    pub fn untrusted_url(&self, folder: &Path) -> String {
        let config = Arc::new(untrusted(folder));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if state.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(mut stream), Ok(mut session)) = (stream, rustls::ServerConnection::new(Arc::clone(&config)))
                else {
                    continue;
                };
                // Nobody gets further than the handshake.
                let _ = session.complete_io(&mut stream);
            }
        });
        format!("https://{address}/events/webhook_s3cret")
    }

    /// Wants another token from now on.
    pub fn want(&self, token: &'static str) {
        *self.state.mode.lock().expect("no panic") = Mode::Wants(token);
    }

    /// Wants one of these tokens from now on.
    pub fn want_any(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        *self.state.mode.lock().expect("no panic") = Mode::WantsAny(tokens);
    }

    /// Is well from now on.
    pub fn become_well(&self) {
        let was_down = std::mem::replace(&mut *self.state.mode.lock().expect("no panic"), Mode::Well) == Mode::Down;
        if was_down {
            self.listen(TcpListener::bind(self.address).expect("the port it had is free"));
        }
    }

    /// How many different alerts it took.
    pub fn taken(&self) -> usize {
        self.state.taken.lock().expect("no panic").len()
    }

    /// Requests that arrived, taken or not.
    pub fn requests(&self) -> u64 {
        *self.state.requests.lock().expect("no panic")
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, so that it sees the flag.
        drop(TcpStream::connect(self.address));
    }
}

fn untrusted(folder: &Path) -> rustls::ServerConfig {
    let (certificate, key) = (folder.join("untrusted.crt"), folder.join("untrusted.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=untrusted.test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    config.expect("a certificate that fits its key")
}

/// Serves one connection, request after request, as the mode of the moment says.
fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Some((method, token, body)) = read_request(&mut reader) {
        let mode = state.mode.lock().expect("no panic").clone();
        if method == "POST" {
            *state.requests.lock().expect("no panic") += 1;
        }
        match mode {
            Mode::Well => take(stream, state, &body),
            Mode::Slow(pause) => {
                std::thread::park_timeout(pause);
                take(stream, state, &body);
            }
            Mode::Hang => {
                // Until the peer gives up.
                let _ = reader.read(&mut [0]);
                return;
            }
            Mode::Reset => {
                let socket = socket2::SockRef::from(stream);
                let _ = socket.set_linger(Some(Duration::ZERO));
                return;
            }
            Mode::Garbage => {
                let mut writer = stream;
                let _ = writer.write_all(b"\x16\x03\x01\x00 nothing that anybody understands\r\n\r\n");
                return;
            }
            Mode::Answer(status, headers) => answer(stream, status, headers),
            Mode::Wants(wanted) if token == wanted => take(stream, state, &body),
            Mode::WantsAny(wanted) if wanted.contains(&token) => take(stream, state, &body),
            Mode::Wants(_) | Mode::WantsAny(_) => answer(stream, 401, ""),
            Mode::Down => return,
        }
    }
}

fn take(stream: &TcpStream, state: &State, body: &[u8]) {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(id) = json["custom_info"]["id"].as_str() {
        state.taken.lock().expect("no panic").insert(id.to_owned());
    }
    answer(stream, 200, "");
}

fn answer(mut stream: &TcpStream, status: u16, headers: &str) {
    // A peer that has gone is what some of the tests are about.
    let _ = write!(stream, "HTTP/1.1 {status} Answer\r\n{headers}Content-Length: 0\r\n\r\n");
}

/// Method, bearer token and body.
fn read_request(reader: &mut impl BufRead) -> Option<(String, String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let method = line.split_whitespace().next()?.to_owned();
    let mut length = 0;
    let mut token = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("authorization") {
            token = value.trim().trim_start_matches("Bearer ").to_owned();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, token, body))
}
