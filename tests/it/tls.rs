//! TLS as operators meet it: curl, openssl, rsyslog and our own commands against the real program; certificates exchanged
//! under load; what cannot be used is refused and told.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, Authority, INGEST_KEY, Server, ServerBuilder, Tool, eventually};

/// The years in which today lies for as long as anybody runs this.
const VALID: (i32, i32) = (2020, 2120);

/// A server that takes syslog over TLS with the authority's certificate `server`. Its port is the one that SNMP has over
/// UDP.
fn with_syslog_tls(authority: &Authority) -> (ServerBuilder, SocketAddr) {
    authority.issue("server", VALID);
    let builder = Server::builder();
    let port = builder.ports().snmp;
    let file = |name: &str| authority.path(name).display().to_string();
    let builder = builder
        .env("MUTTD_SYSLOG_TLS_LISTEN", port.to_string())
        .env("MUTTD_TLS_CERT", file("server.pem"))
        .env("MUTTD_TLS_KEY", file("server.key"));
    (builder, port)
}

fn muttd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.args(arguments).env("MUTTD_ADMIN_API_KEY", ADMIN_KEY).env("MUTTD_INGEST_API_KEY", INGEST_KEY);
    command
}

/// Runs one of our commands, which must succeed; what it printed.
fn succeed(mut command: Command) -> String {
    let output = command.output().expect("the program can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

fn curl(ca: &Path) -> Tool {
    Tool::new("curl").args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(ca)
}

#[test]
fn every_port_speaks_tls_with_a_certificate_made_at_the_first_start() {
    let builder = Server::builder().env("MUTTD_HTTP_TLS", "on").env("MUTTD_INGEST_TLS", "on");
    let port = builder.ports().snmp;
    let mut server = builder.env("MUTTD_SYSLOG_TLS_LISTEN", port.to_string()).spawn();
    let ca = server.data().join("tls/self-signed.crt");
    let web = format!("https://{}", server.ports.web);
    let ready = format!("{web}/ready");
    eventually("it is ready", || curl_succeeds(&ca, &ready).then_some(()));
    let head = curl(&ca).args(["--head", &format!("{web}/login")]).succeed().to_lowercase();
    assert!(head.contains("strict-transport-security: max-age=31536000"), "{head}");
    let item = r#"{"hostname":"h","message":"walrus by curl","timestamp":"2026-03-01T12:00:00Z"}"#;
    let ingest = format!("https://{}/api/v2/ingest", server.ports.ingest);
    let answer = curl(&ca)
        .args(["-H", "Content-Type: application/json", "-H", &format!("X-API-KEY: {INGEST_KEY}"), "-d", item, &ingest])
        .succeed();
    assert!(answer.contains("queued"), "{answer}");
    let data = server.data().display().to_string();
    let to = format!("https://{}", server.ports.ingest);
    let send =
        ["send", "http", "--to", &to, "--data", &data, "--count", "50", "--batch", "5", "--marker", "walrus-http"];
    succeed(muttd(&send));
    let to = port.to_string();
    succeed(muttd(&["send", "syslog-tls", "--to", &to, "--data", &data, "--count", "50", "--marker", "walrus-tls"]));
    for (text, protocol) in [("walrus by curl", "http"), ("walrus-http", "http"), ("walrus-tls", "syslog_tls")] {
        let found = eventually(&format!("an event with `{text}`"), || {
            let query = format!("{web}/api/v2/events?q={}&limit=1", text.replace(' ', "%20"));
            let page = curl(&ca).args(["-H", &format!("X-API-KEY: {ADMIN_KEY}"), &query]).succeed();
            let page: Value = serde_json::from_str(&page).expect("JSON");
            page["items"].as_array().and_then(|items| items.first().cloned())
        });
        assert_eq!(found["source"]["protocol"], protocol, "{found}");
    }
    let users = succeed(muttd(&["users", "--url", &web, "--data", &data]));
    assert!(users.contains("admin"), "{users}");
    let stranger = muttd(&["users", "--url", &web]).output().expect("it runs");
    assert!(!stranger.status.success(), "a certificate that nobody vouches for was believed");
    let careless = muttd(&["users", "--url", &web, "--insecure"]).output().expect("it runs");
    assert!(careless.status.success() && String::from_utf8_lossy(&careless.stderr).contains("--insecure"));
    let (status, _) = server.terminate();
    assert!(status.success());
}

fn curl_succeeds(ca: &Path, address: &str) -> bool {
    ca.exists() && curl(ca).args(["--fail", "--output", "/dev/null", address]).output().status.success()
}

#[test]
fn plain_http_that_others_reach_is_refused_at_the_start_with_three_ways_out() {
    for (variable, section) in [("MUTTD_HTTP_LISTEN", "HTTP"), ("MUTTD_INGEST_LISTEN", "INGEST")] {
        let builder = Server::builder();
        let port = builder.ports().web.port();
        let mut server = builder.env(variable, format!("0.0.0.0:{port}")).spawn();
        let log = eventually("it ends", || (!server.is_alive()).then(|| server.log()));
        for part in [&format!("MUTTD_{section}_TLS=on"), "127.0.0.1", &format!("MUTTD_{section}_ALLOW_PLAIN=true")] {
            assert!(log.contains(part), "{log}");
        }
    }
}

#[test]
fn openssl_and_rsyslog_deliver_over_tls() {
    let authority = Authority::new();
    let (builder, port) = with_syslog_tls(&authority);
    let server = builder.start();
    for version in ["-tls1_2", "-tls1_3"] {
        let text = format!("<11>1 2026-03-01T12:00:00Z gw app - - - osprey {version}");
        let mut child = Tool::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", version, "-CAfile"])
            .arg(authority.file())
            .args(["-connect", &port.to_string()])
            .into_command()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be started");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(format!("{} {text}", text.len()).as_bytes()).expect("written");
        let event = server.event(&format!("osprey {version}"));
        assert_eq!(event["source"]["protocol"], "syslog_tls");
        drop(stdin);
        drop(child.kill());
        drop(child.wait());
    }
    let relay = Rsyslog::start(port.port(), &authority.file());
    let mut stream = TcpStream::connect(("127.0.0.1", relay.port)).expect("rsyslog listens");
    stream.write_all(b"<11>Mar  1 12:00:00 gw app: osprey by rsyslog\n").expect("written");
    let event = server.event("osprey by rsyslog");
    assert_eq!(event["source"]["protocol"], "syslog_tls");
}

/// A real rsyslogd that relays what it gets over TLS and checks the server's certificate.
struct Rsyslog {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Rsyslog {
    fn start(to: u16, ca: &Path) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let port = Server::builder().ports().syslog.port();
        let (config, pid) = (folder.path().join("rsyslog.conf"), folder.path().join("rsyslog.pid"));
        let text = format!(
            "global(workDirectory=\"{}\" defaultNetstreamDriverCAFile=\"{}\")\nmodule(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{to}\" protocol=\"tcp\" TCP_Framing=\"octet-counted\" \
             StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" \
             StreamDriverPermittedPeers=\"localhost\")\n",
            folder.path().display(),
            ca.display()
        );
        fs::write(&config, text).expect("rsyslog's configuration is written");
        let mut command = Tool::new("rsyslogd").args(["-n", "-f"]).arg(&config).arg("-i").arg(&pid).into_command();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let relay = Self { port, child: child.expect("rsyslogd can be started"), _folder: folder };
        eventually("rsyslogd listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        relay
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// What the appliance tells of the certificate of syslog over TLS.
fn certificate(server: &Server) -> Value {
    let status = server.api_get("/api/v2/status");
    let lines = status["certificates"].as_array().expect("`certificates`").clone();
    lines.into_iter().find(|line| line["listener"] == "syslog_tls").expect("its line")
}

#[test]
fn certificates_are_exchanged_under_load_and_no_connection_is_lost() {
    const MESSAGES: u64 = 12_000;
    let authority = Authority::new();
    let (builder, port) = with_syslog_tls(&authority);
    let server = builder.start();
    let (to, ca) = (port.to_string(), authority.file().display().to_string());
    let count = MESSAGES.to_string();
    let sender = muttd(&[
        "send",
        "syslog-tls",
        "--to",
        &to,
        "--ca",
        &ca,
        "--count",
        &count,
        "--rate",
        "2000",
        "--connections",
        "4",
        "--marker",
        "heron",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .expect("the sender starts");
    eventually("messages arrive", || (server.metrics().received() > 1_000).then_some(()));
    let first = certificate(&server);
    authority.issue("server", VALID);
    let second = eventually("the new certificate is in use", || {
        Some(certificate(&server)).filter(|now| now["sha256"] != first["sha256"])
    });
    assert_eq!(second["problem"], Value::Null);
    fs::write(authority.path("server.pem"), "garbage").expect("written");
    let third =
        eventually("the damaged one is told", || Some(certificate(&server)).filter(|now| now["problem"].is_string()));
    assert_eq!(third["sha256"], second["sha256"], "the old one stays");
    assert!(server.api_get("/api/v2/status")["warnings"].to_string().contains("old certificate"));
    assert!(server.log().contains("the old one stays"), "{}", server.log());
    succeed(muttd(&["send", "syslog-tls", "--to", &to, "--ca", &ca, "--count", "10", "--marker", "late-heron"]));
    authority.issue("server", (2019, 2020));
    eventually("the expired one is told", || {
        certificate(&server)["problem"].as_str().filter(|why| why.contains("valid from")).map(|_| ())
    });
    let output = sender.wait_with_output().expect("the sender ends");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "a connection broke: {report}");
    eventually("every message is committed", || (server.metrics().committed() == MESSAGES + 10).then_some(()));
    let metrics = server.metrics();
    let listener = ("listener", "syslog_tls");
    assert_eq!(metrics.sum("mutt_tls_handshakes_total", &[listener, ("result", "ok")]), 5);
    assert!(metrics.sum("mutt_tls_reloads_total", &[listener, ("result", "failed")]) >= 2);
    server.check_counters();
}

#[test]
fn senders_show_their_certificates_where_that_is_required() {
    let authority = Authority::new();
    authority.issue("sender", VALID);
    let (builder, port) = with_syslog_tls(&authority);
    let ca = authority.file().display().to_string();
    let server = builder.env("MUTTD_SYSLOG_CLIENT_CERTIFICATES", "required").env("MUTTD_TLS_CLIENT_CA", ca).start();
    let connect = |with: bool| {
        let mut tool = Tool::new("openssl").args(["s_client", "-quiet", "-connect", &port.to_string(), "-CAfile"]);
        tool = tool.arg(authority.file());
        if with {
            tool = tool.arg("-cert").arg(authority.path("sender.pem")).arg("-key").arg(authority.path("sender.key"));
        }
        let mut child = tool
            .into_command()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be started");
        let mut stdin = child.stdin.take().expect("piped");
        // Whoever is refused may be gone already.
        drop(stdin.write_all(format!("<11>1 - gw app - - - ibis with={with}\n").as_bytes()));
        (child, stdin)
    };
    let (mut stranger, _kept) = connect(false);
    eventually("the stranger is refused", || {
        let refused = [("listener", "syslog_tls"), ("result", "failed")];
        (server.metrics().sum("mutt_tls_handshakes_total", &refused) > 0).then_some(())
    });
    let (mut known, _held) = connect(true);
    server.event("ibis with=true");
    assert!(server.events("q=with%3Dfalse&limit=1").is_empty());
    for child in [&mut stranger, &mut known] {
        drop(child.kill());
        drop(child.wait());
    }
}

#[test]
fn handshakes_that_hang_keep_nobody_out() {
    let authority = Authority::new();
    let (builder, port) = with_syslog_tls(&authority);
    let server = builder.start();
    let idle: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(port).ok()).collect();
    assert!(idle.len() > 300, "the connections were opened");
    let (to, ca) = (port.to_string(), authority.file().display().to_string());
    let prompt = ["send", "syslog-tls", "--to", &to, "--ca", &ca, "--count", "20", "--marker", "bittern"];
    succeed(muttd(&prompt));
    server.event("bittern");
    let gave_way = [("listener", "syslog_tls"), ("result", "gave_way")];
    assert!(server.metrics().sum("mutt_tls_handshakes_total", &gave_way) > 0);
    let item = json!({"hostname": "h", "message": "others go on", "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&item).must_be(200);
    drop(idle);
}
