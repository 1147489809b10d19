//! The program itself as a child process, started the way every tool starts it: `muttd serve --data DIR` and its
//! environment variables.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Answer, Metrics, PATIENCE, Receiver, Request, eventually};

/// The key that may ingest.
pub const INGEST_KEY: &str = "test-ingest-key-0123456789abcdefghij";
/// The key that may do everything.
pub const ADMIN_KEY: &str = "test-admin-key-0123456789abcdefghijk";
/// The SNMP community the tests send.
pub const COMMUNITY: &str = "test-community";
/// What the receiver is sent as bearer token.
const MOOG_KEY: &str = "test-moogsoft-key-0123456789";

/// The ports of one server, all on the loopback address.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// UI and API.
    pub web: SocketAddr,
    /// HTTP ingest.
    pub ingest: SocketAddr,
    /// Syslog over UDP and over TCP.
    pub syslog: SocketAddr,
    /// SNMP traps.
    pub snmp: SocketAddr,
}

/// How a server is to be started.
pub struct ServerBuilder {
    environment: Vec<(String, String)>,
    dynamic: String,
    data: Option<PathBuf>,
    ports: Ports,
}

/// A running server with a data directory of its own.
pub struct Server {
    /// Where it listens; the same over restarts.
    pub ports: Ports,
    environment: Vec<(String, String)>,
    /// Keeps the temporary directory alive; `None` when the test gave its own.
    _folder: Option<TempDir>,
    data: PathBuf,
    log: PathBuf,
    child: Child,
}

impl ServerBuilder {
    /// A server that delivers to `receiver`.
    pub fn delivering_to(self, receiver: &Receiver) -> Self {
        self.env("MUTTD_MOOG_WEBHOOK_URL", receiver.url()).env("MUTTD_MOOG_API_KEY", MOOG_KEY)
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves a variable out that it would have been given, so that the file decides.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Gives a dynamic key its first value, written as in TOML.
    pub fn dynamic(mut self, key: &str, value: &str) -> Self {
        self.dynamic.push_str(&format!("{key} = {value}\n"));
        self
    }

    /// Uses this data directory in place of a temporary one.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// The ports it will have.
    pub const fn ports(&self) -> Ports {
        self.ports
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Server {
        let mut server = self.spawn();
        server.wait_until_ready();
        server
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Server {
        let folder = TempDir::new().expect("a temporary directory");
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        std::fs::create_dir_all(&data).expect("the data directory can be made");
        if !self.dynamic.is_empty() {
            std::fs::write(data.join("muttd.toml"), format!("[dynamic]\n{}", self.dynamic))
                .expect("muttd.toml is written");
        }
        let log = folder.path().join("server.log");
        let child = launch(&data, &log, &self.environment);
        Server { ports: self.ports, environment: self.environment, _folder: Some(folder), data, log, child }
    }
}

impl Server {
    /// A server with free ports and known keys, to be changed before it starts.
    pub fn builder() -> ServerBuilder {
        let ports = Ports { web: free_address(), ingest: free_address(), syslog: free_address(), snmp: free_address() };
        let pairs = [
            ("MUTTD_HTTP_LISTEN", ports.web.to_string()),
            ("MUTTD_INGEST_LISTEN", ports.ingest.to_string()),
            ("MUTTD_SYSLOG_UDP_LISTEN", ports.syslog.to_string()),
            ("MUTTD_SYSLOG_TCP_LISTEN", ports.syslog.to_string()),
            ("MUTTD_SNMP_LISTEN", ports.snmp.to_string()),
            ("MUTTD_INGEST_API_KEY", INGEST_KEY.to_owned()),
            ("MUTTD_ADMIN_API_KEY", ADMIN_KEY.to_owned()),
            ("MUTTD_SNMP_COMMUNITIES", format!("public,{COMMUNITY}")),
        ];
        let environment = pairs.map(|(name, value)| (name.to_owned(), value)).to_vec();
        ServerBuilder { environment, dynamic: String::new(), data: None, ports }
    }

    /// Starts one that delivers to `receiver`.
    pub fn start(receiver: &Receiver) -> Self {
        Self::builder().delivering_to(receiver).start()
    }

    /// Where it keeps everything.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for 200 from `/ready` on both ports.
    pub fn wait_until_ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.is_ready() {
            assert!(self.is_alive(), "the server ended before it was ready");
            assert!(Instant::now() < end, "the server is not ready; /ready says {:?}", self.ready_text());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn is_ready(&self) -> bool {
        let ports = [self.ports.web, self.ports.ingest];
        ports.into_iter().all(|port| Request::get(port, "/ready").send().is_ok_and(|answer| answer.status == 200))
    }

    fn ready_text(&self) -> Option<String> {
        Request::get(self.ports.web, "/ready").send().ok().map(|answer| answer.text())
    }

    /// Kills it as a power cut of the process would: nothing of its own runs any more.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server's end can be seen");
    }

    /// Starts it again on the same data and ports, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.child = launch(&self.data, &self.log, &self.environment);
        self.wait_until_ready();
    }

    /// Sends SIGTERM and waits for the end; returns how it ended and how long it took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        self.signal(libc::SIGTERM);
        let status = eventually("the server ends after SIGTERM", || self.child.try_wait().ok().flatten());
        (status, begin.elapsed())
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        super::signal(&self.child, signal);
    }

    /// A request to the API with the admin key.
    pub fn api_get(&self, path: &str) -> Value {
        Request::get(self.ports.web, path).key(ADMIN_KEY).expect().must_be(200).json()
    }

    /// Posts to the API with the admin key.
    pub fn api_post(&self, path: &str, body: &Value) -> Answer {
        Request::post(self.ports.web, path).key(ADMIN_KEY).json(body).expect()
    }

    /// Posts JSON to the ingest port with the ingest key.
    pub fn ingest(&self, body: &Value) -> Answer {
        Request::post(self.ports.ingest, "/api/v2/ingest").key(INGEST_KEY).json(body).expect()
    }

    /// Events that `query` finds, newest first.
    pub fn events(&self, query: &str) -> Vec<Value> {
        let page = self.api_get(&format!("/api/v2/events?{query}"));
        page["items"].as_array().expect("the answer has `items`").clone()
    }

    /// Waits for one event whose text contains `text`.
    pub fn event(&self, text: &str) -> Value {
        eventually(&format!("an event with `{text}` can be found"), || {
            self.events(&format!("q={}&limit=10", encode(text))).into_iter().next()
        })
    }

    /// Adds a rule that forwards every message containing `text`; returns its number.
    pub fn forward_rule(&self, text: &str) -> i64 {
        self.rule(&json!({"match_string": text, "match_type": "contains", "prod_handling": "Page_and_ticket"}))
    }

    /// Adds a rule and waits until it is in force, and with it every host and team saved before; what `draft` does not
    /// say is filled in. Returns its number.
    pub fn rule(&self, draft: &Value) -> i64 {
        let mut rule = json!({
            "match_type": "contains", "priority": 100, "prod_handling": "Page_and_ticket",
            "dev_handling": "Ignore", "team_assignment": "NETO", "is_active": true,
        });
        for (name, value) in draft.as_object().expect("a rule is an object") {
            rule[name] = value.clone();
        }
        let answer = self.api_post("/api/v2/rules", &rule).must_be(201).json();
        let rules = self.api_get("/api/v2/rules");
        let active =
            rules["rules"].as_array().expect("`rules`").iter().filter(|rule| rule["is_active"] == true).count();
        eventually("the rule is in force", || {
            (self.metrics().sum("mutt_rules_active", &[]) == active as u64).then_some(())
        });
        answer["id"].as_i64().unwrap_or_else(|| panic!("the answer has no `id`: {answer}"))
    }

    /// Reads `/metrics`.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(Request::get(self.ports.web, "/metrics").expect().must_be(200).text())
    }

    /// Waits until nothing is waiting to be judged and checks that the counters add up: what was received was
    /// committed or dropped, what was committed was judged.
    pub fn check_counters(&self) {
        eventually("every event is judged and the counters add up", || {
            let metrics = self.metrics();
            let taken = metrics.received() == metrics.committed() + metrics.dropped();
            let judged = metrics.committed() == metrics.processed() + metrics.depth("ingest");
            (taken && judged && metrics.depth("ingest") == 0).then_some(())
        });
    }

    /// A line of `/proc/PID/status` in kilobytes.
    pub fn memory_kilobytes(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let found = status.lines().find(|text| text.starts_with(line)).expect("the kernel tells memory");
        found.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of kilobytes")
    }
}

impl Drop for Server {
    /// Ends the server. When coverage is measured it is asked politely first, because only then it writes its counts.
    fn drop(&mut self) {
        if self.is_alive() && std::env::var_os("LLVM_PROFILE_FILE").is_some() && !std::thread::panicking() {
            self.signal(libc::SIGTERM);
            let end = Instant::now() + Duration::from_secs(12);
            while self.is_alive() && Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
        if self.is_alive() && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(6_000).map_or(0, |(index, _)| index);
            eprintln!("--- the server on {} printed last ---\n{}", self.ports.web, &log[start..]);
        }
    }
}

fn launch(data: &Path, log: &Path, environment: &[(String, String)]) -> Child {
    let open =
        || -> File { OpenOptions::new().create(true).append(true).open(log).expect("the server's log can be written") };
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    // Nothing of the tester's own settings may reach the server.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MUTTD_")) {
        command.env_remove(name);
    }
    command.arg("serve").arg("--data").arg(data).envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(open()).stderr(open());
    command.spawn().expect("the server's binary can be started")
}

/// A port that neither TCP nor UDP uses, below the range the kernel gives to clients, so that nobody takes it between
/// our look and the server's bind, and never given twice to one test process.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const SPAN: u16 = 20_000;
    let offset = u16::try_from(std::process::id() % 20).unwrap_or(0) * 1_000;
    for _ in 0..SPAN {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + SPAN)
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
