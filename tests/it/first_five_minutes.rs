//! What a newcomer does first: the demo, then a server of their own with nothing set.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use regex::Regex;
use tempfile::TempDir;

use crate::support::{Browser, COMMUNITY, Form, INGEST_KEY, Ports, Request, Server, Tool, eventually, unescape};

/// The program with the given arguments, its output in a file; killed when dropped.
struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    fn start(arguments: &[&str], ports: Ports) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let output = File::create(folder.path().join("output")).expect("the output file can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
        command.args(arguments).arg("--data").arg(folder.path().join("data"));
        command.env("MUTTD_HTTP_LISTEN", ports.web.to_string());
        command.env("MUTTD_INGEST_LISTEN", ports.ingest.to_string());
        command.env("MUTTD_SYSLOG_UDP_LISTEN", ports.syslog.to_string());
        command.env("MUTTD_SYSLOG_TCP_LISTEN", ports.syslog.to_string());
        command.env("MUTTD_SNMP_LISTEN", ports.snmp.to_string());
        command.stdin(Stdio::null()).stderr(output.try_clone().expect("a handle can be doubled")).stdout(output);
        Self { child: command.spawn().expect("the program can be started"), folder }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- the program printed ---\n{}", self.output());
        }
    }
}

/// The first capture of `pattern` in what the program prints.
fn printed(program: &Program, what: &str, pattern: &str) -> String {
    let pattern = Regex::new(pattern).expect("valid pattern");
    eventually(&format!("the program prints {what}"), || {
        pattern.captures(&program.output()).map(|found| found[1].to_owned())
    })
}

fn log_in(address: SocketAddr, user: &str, password: &str) -> Browser {
    let mut browser = Browser::new(address);
    eventually("the UI answers", || Request::get(address, "/login").send().ok());
    let answer = browser.log_in(user, password).must_be(200);
    assert!(!answer.text().contains("type=\"password\""), "the printed login does not work");
    browser
}

#[test]
fn the_demo_prints_where_to_go_and_alerts_arrive() {
    let program = Program::start(&["demo"], Server::builder().ports());
    let address = printed(&program, "the address of the UI", r"UI\s+http://(127\.0\.0\.1:\d+)/");
    let address: SocketAddr = address.parse().expect("an address and a port");
    let user = printed(&program, "the user", r"log in as\s+(\S+)");
    let password = printed(&program, "the password", r"password\s+(\S+)");
    let mut browser = log_in(address, &user, &password);
    eventually("alerts are delivered", || {
        let text = Request::get(address, "/metrics").send().ok()?.text();
        let delivered = text.lines().any(|line| {
            line.starts_with("mutt_moog_requests_total") && line.contains("status=\"success\"") && !line.ends_with(" 0")
        });
        delivered.then_some(())
    });
    let rules = browser.open("/rules").must_be(200).text();
    assert!(rules.contains("Page_and_ticket"), "the demo has rules");
    let events = browser.open("/events?matched=true").must_be(200).text();
    assert!(events.contains("/events/"), "the demo has matched events");
}

#[test]
fn a_first_start_makes_keys_and_a_login_once() {
    let ports = Server::builder().ports();
    let program = Program::start(&["serve"], ports);
    let password = printed(&program, "the first password", r"(?i)password\s*:?\s*(\S{20,})");
    let mut browser = log_in(ports.web, "admin", &password);
    let empty = browser.open("/rules").must_be(200).text();
    let new = Form::on(&browser.open("/rules/new").must_be(200).text(), "match_string");
    assert!(new.fields.contains_key("team_assignment"));
    assert!(empty.contains("/rules/new"), "an empty list says what to do next");
    let secrets = program.folder.path().join("data/secrets.toml");
    let mode = fs::metadata(&secrets).expect("secrets.toml was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read secrets.toml");
    let stored = fs::read_to_string(&secrets).expect("secrets.toml can be read");
    assert!(!stored.contains(&password), "the password is stored in clear");
    assert_eq!(Request::post(ports.ingest, "/api/v2/ingest").expect().status, 401, "there is no open door by default");
}

#[test]
fn the_commands_that_the_status_page_shows_work_as_they_stand() {
    let server = Server::builder().env("MUTTD_ADMIN_PASSWORD", "a long enough password 42").start();
    let mut browser = log_in(server.ports.web, "admin", "a long enough password 42");
    let page = browser.open("/status").must_be(200).text();
    let shown = Regex::new(r#"<pre class="text command">([^<]*)</pre>"#).expect("valid pattern");
    let commands: Vec<String> = shown.captures_iter(&page).map(|found| unescape(&found[1])).collect();
    assert_eq!(commands.len(), 4, "syslog in two ways, SNMP, JSON: {commands:?}");
    for command in &commands {
        let mut shell = Tool::new("sh").args(["-c", &command.replace("COMMUNITY", COMMUNITY)]).into_command();
        let output = shell.env("MUTTD_INGEST_API_KEY", INGEST_KEY).output().expect("a shell");
        assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
    }
    eventually("each of them made an event", || {
        let sources: Vec<String> =
            server.events("").iter().map(|event| event["source"]["protocol"].to_string()).collect();
        let each = ["syslog_udp", "syslog_tcp", "snmp_trap", "http"];
        each.iter().all(|wanted| sources.iter().any(|source| source.contains(wanted))).then_some(())
    });
}

#[test]
fn the_command_line_explains_itself() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_muttd")).args(arguments).output().expect("the program starts");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (success, help) = run(&["--help"]);
    assert!(success);
    for command in ["serve", "demo", "send", "bench", "mock-moog"] {
        assert!(help.contains(command), "--help does not name `{command}`: {help}");
        assert!(run(&[command, "--help"]).0, "`{command} --help` fails");
    }
    let (success, version) = run(&["--version"]);
    assert!(success && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let (success, fault) = run(&["serve", "--data", "/proc/nowhere"]);
    assert!(!success && fault.contains("/proc/nowhere"), "a data directory that cannot be made is named: {fault}");
    assert!(!run(&["no-such-command"]).0);
}
