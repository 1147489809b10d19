//! One appliance through everything that can change at run time, under a steady load: every setting, every key, the
//! certificate. Nothing is lost, nothing that held a valid key is refused, and it is the same process at the end.
//!
//! `MUTTD_LOAD_RATE` sets the syslog events per second (default 2,000, which a build without optimisation takes beside
//! the other tests).

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::secrets::{Flow, NEW_MOOG, OLD_ADMIN, OLD_INGEST, OLD_MOOG, house_with, made, post, rule};
use crate::settings::another;
use crate::support::{Authority, Faulty, Mode, Request, Server, eventually, signal};

/// Seconds after which the senders end by themselves, if nobody ended them.
const SECONDS: &str = "300";

fn rate() -> u64 {
    std::env::var("MUTTD_LOAD_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(2_000)
}

fn sender(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.args(["send", "--json", "--seconds", SECONDS]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the sender starts")
}

/// Ends a sender that sends still; how many events it has sent.
fn interrupted(mut sender: Child) -> u64 {
    assert!(sender.try_wait().expect("a child").is_none(), "the load was not there all the time");
    signal(&sender, libc::SIGINT);
    let output = sender.wait_with_output().expect("the sender ends");
    assert!(output.status.success(), "a connection broke: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("its report");
    report["sent"].as_u64().expect("a number")
}

#[test]
fn everything_that_can_change_changes_under_load_and_nothing_is_lost_or_refused() {
    let authority = Authority::new();
    authority.issue("server", (2020, 2120));
    let faulty = Faulty::start(Mode::WantsAny(vec![OLD_MOOG.to_owned()]));
    let folder = TempDir::new().expect("a directory");
    let builder = Server::builder();
    let (tls, file) = (builder.ports().snmp.to_string(), |name: &str| authority.path(name).display().to_string());
    let builder = builder
        .env("MUTTD_SYSLOG_TLS_LISTEN", &tls)
        .env("MUTTD_TLS_CERT", file("server.pem"))
        .env("MUTTD_TLS_KEY", file("server.key"));
    let mut server = house_with(builder, &folder, &faulty);
    rule(&server, OLD_ADMIN);
    let process = server.pid();

    let each = (rate() / 2).to_string();
    let plain = server.ports.syslog.to_string();
    let senders = [
        sender(&["syslog-tcp", "--to", &plain, "--rate", &each, "--connections", "2"]),
        sender(&["syslog-tls", "--to", &tls, "--ca", &file("ca.pem"), "--rate", &each]),
    ];
    eventually("the load arrives", || (server.metrics().received() > rate()).then_some(()));
    let flow = Flow::start(&server);
    flow.go_on();

    change_every_setting(&server);
    authority.issue("server", (2020, 2120));
    let admin = exchange_every_key(&server, &flow, &faulty);
    eventually("the new certificate is in use", || {
        (server.metrics().sum("mutt_tls_reloads_total", &[("listener", "syslog_tls"), ("result", "ok")]) > 0)
            .then_some(())
    });
    let sent: u64 = senders.into_iter().map(interrupted).sum();
    let alerts = usize::try_from(flow.end()).expect("not so many");
    eventually("every event is committed", || {
        (server.metrics().committed() == sent + u64::try_from(alerts).unwrap_or(0)).then_some(())
    });
    let forwarded = [("status", "forwarded")];
    eventually("every event is judged", || {
        let judged = server.metrics().sum("mutt_alerter_events_processed_total", &forwarded);
        (judged == u64::try_from(alerts).unwrap_or(0)).then_some(())
    });
    // Besides those, meta-alerts about the load, which no rule matches.
    eventually("every alert arrived", || {
        (faulty.taken() >= alerts && server.metrics().sum("mutt_queue_depth", &[]) == 0).then_some(())
    });
    server.check_counters();
    assert_eq!(server.metrics().dropped(), 0);
    assert!(server.is_alive() && server.pid() == process, "it was not restarted");
    let verified = Request::get(server.ports.web, "/api/v2/status").key(&admin).expect().must_be(200).json();
    assert_eq!(verified["warnings"], json!([]), "{verified}");
}

/// Sets every dynamic key to another legal value, and back.
fn change_every_setting(server: &Server) {
    let ask = |request: Request| request.key(OLD_ADMIN).expect().must_be(200).json();
    let settings = ask(Request::get(server.ports.web, "/api/v2/config"));
    for setting in
        settings["settings"].as_array().expect("settings").iter().filter(|setting| setting["writable"] == true)
    {
        let key = setting["key"].as_str().expect("a key");
        let path = format!("/api/v2/config/{key}");
        // One event a minute would be legal, and refuse the load.
        let value: Value = if key == "ingest_max_rate" { json!(1_000_000_000) } else { another(setting) };
        let set = ask(Request::put(server.ports.web, path.clone()).json(&json!({"value": value, "reason": "drill"})));
        assert_eq!(set["value"], value, "{key}");
        assert_eq!(ask(Request::get(server.ports.web, path.clone()))["value"], value, "{key}");
        assert_eq!(ask(Request::delete(server.ports.web, path))["value"], setting["value"], "{key}");
    }
}

/// Exchanges ingest, admin and receiver's key; the new admin key.
fn exchange_every_key(server: &Server, flow: &Flow, faulty: &Faulty) -> String {
    let ingest = made(&post(server, OLD_ADMIN, "ingest_api_key/rotate", &json!({})).must_be(200).json());
    flow.go_on();
    flow.use_key(0, &ingest);
    flow.go_on();
    post(server, OLD_ADMIN, "ingest_api_key/promote", &json!({})).must_be(200);
    let admin = made(&post(server, OLD_ADMIN, "admin_api_key/rotate", &json!({})).must_be(200).json());
    flow.use_key(1, &admin);
    flow.go_on();
    post(server, &admin, "admin_api_key/promote", &json!({})).must_be(200);
    for key in [OLD_ADMIN, OLD_INGEST] {
        assert_eq!(Request::get(server.ports.web, "/api/v2/version").key(key).expect().status, 401);
    }
    post(server, &admin, "noc/rotate", &json!({"value": NEW_MOOG})).must_be(200);
    for wanted in [&[OLD_MOOG, NEW_MOOG][..], &[NEW_MOOG]] {
        faulty.want_any(wanted);
        flow.go_on();
    }
    eventually("the receiver takes the next key", || {
        (server.metrics().sum("mutt_secret_used_total", &[("secret", "noc"), ("slot", "next")]) > 0).then_some(())
    });
    post(server, &admin, "noc/promote", &json!({})).must_be(200);
    flow.go_on();
    admin
}
