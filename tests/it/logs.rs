//! The appliance's own log: in memory for pages, API and command line, with a level that changes while it runs, and in the
//! form that standard error is given.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Browser, INGEST_KEY, Receiver, Request, Server, eventually};

const PASSWORD: &str = "a long enough password 43";

fn muttd(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    let url = format!("http://{}", server.ports.web);
    command.args(args).args(["--url", &url]).env("MUTTD_ADMIN_API_KEY", ADMIN_KEY).stdout(Stdio::piped());
    command
}

fn set_level(server: &Server, level: &str) {
    let body = json!({"value": level});
    Request::put(server.ports.web, "/api/v2/config/log_level").key(ADMIN_KEY).json(&body).expect().must_be(200);
}

/// Lines that the API finds, newest first.
fn lines(server: &Server, query: &str) -> Vec<Value> {
    let answer = server.api_get(&format!("/api/v2/logs?{query}"));
    answer["logs"].as_array().expect("`logs`").clone()
}

#[test]
fn the_log_is_read_and_its_level_changed_while_the_appliance_runs() {
    let receiver = Receiver::start();
    let server = Server::builder()
        .delivering_to(&receiver)
        .env("MUTTD_LOG", "info")
        .env("MUTTD_ADMIN_PASSWORD", PASSWORD)
        .start();
    let listening = lines(&server, "q=Listening&level=info&limit=10");
    assert!(listening.len() >= 4, "{listening:?}");
    assert!(listening.iter().all(|line| line["level"] == "info" && line["fields"].to_string().contains("127.0.0.1")));

    set_level(&server, "error");
    server.forward_rule("beacon");
    let before = server.api_get("/api/v2/logs?limit=1")["newest"].as_u64().expect("a number");
    set_level(&server, "error,muttd::forward=debug");
    let sent = json!({"hostname": "sw1", "message": "beacon lost", "timestamp": 1});
    let id = server.ingest(&sent).must_be(200).json()["correlation_id"].as_str().expect("an id").to_owned();
    let delivered = eventually("the delivery is logged", || lines(&server, &format!("q={id}")).into_iter().next());
    assert_eq!((&delivered["component"], &delivered["level"]), (&json!("forward"), &json!("debug")));
    assert_eq!(delivered["fields"]["event.id"], id.as_str());
    assert_eq!(delivered["fields"]["trace_id"], id.replace('-', ""));
    assert!(delivered["id"].as_u64() > Some(before));
    assert!(lines(&server, "component=ingest&level=debug").iter().all(|line| line["id"].as_u64() <= Some(before)));
    let refused = Request::get(server.ports.web, "/api/v2/logs?level=loud").key(ADMIN_KEY).expect().must_be(400);
    assert!(refused.text().contains("level"), "{}", refused.text());

    let told = muttd(&server, &["logs", "forward", "--text", &id, "--json"]).output().expect("it runs");
    let first = String::from_utf8_lossy(&told.stdout).lines().next().map(str::to_owned).expect("a line");
    assert_eq!(serde_json::from_str::<Value>(&first).expect("JSON")["fields"]["event.id"], id.as_str());
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD);
    let page = browser.open(&format!("/logs?q={id}&level=debug")).must_be(200).text();
    assert!(page.contains(&format!("/events/{id}")) && page.contains("data-tail"), "{page}");
}

#[test]
fn new_lines_are_followed_and_the_stream_ends_with_the_appliance() {
    let receiver = Receiver::start();
    let mut server = Server::builder().delivering_to(&receiver).env("MUTTD_LOG", "info").start();
    let mut following =
        muttd(&server, &["logs", "--follow", "--tail", "0", "--level", "warn"]).spawn().expect("it runs");
    let mut told = BufReader::new(following.stdout.take().expect("its output")).lines();
    eventually("the stream is open", || (server.metrics().sum("mutt_web_streams", &[]) == 1).then_some(()));
    let wrong = Request::post(server.ports.ingest, "/api/v2/ingest").key("wrong").json(&json!({}));
    wrong.expect().must_be(401);
    let line = told.next().expect("a line").expect("text");
    assert!(line.contains("WARN  ingest: A request from") && line.contains("peer=127.0.0.1"), "{line}");
    let (status, took) = server.terminate();
    assert!(status.success() && took.as_secs() < 5, "{status} after {took:?}");
    following.kill().expect("it still tries");
    following.wait().expect("it ends");
}

#[test]
fn json_lines_are_whole_and_hold_no_secret() {
    let receiver = Receiver::start();
    let server =
        Server::builder().delivering_to(&receiver).env("MUTTD_LOG", "debug").env("MUTTD_LOG_FORMAT", "json").start();
    server.forward_rule("beacon");
    server.ingest(&json!({"hostname": "sw1", "message": "beacon lost", "timestamp": 1})).must_be(200);
    eventually("the alert arrives", || receiver.posts().into_iter().next());
    let log = server.log();
    let parsed: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(parsed.len() > 5, "{log}");
    for line in &parsed {
        assert!(["timestamp", "level", "message", "target"].iter().all(|name| line[name].is_string()), "{line}");
    }
    let kept = server.api_get("/api/v2/logs?limit=1000").to_string();
    for secret in [ADMIN_KEY, INGEST_KEY] {
        assert!(!kept.contains(secret), "a secret is in the log's memory");
        let own = parsed.iter().any(|line| line.to_string().contains(secret));
        assert!(!own, "a secret is in the log");
    }
}
