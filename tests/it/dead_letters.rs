//! What an operator does to dead letters of a real server: by page, API and command line, each act in the change log.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Browser, Form, Receiver, Reply, Request, Server, eventually};

const PASSWORD: &str = "a long enough password 42";

/// A server with three refused alerts of two hosts, and no remediation by itself.
fn server_with_letters(receiver: &Receiver) -> Server {
    let server = Server::builder()
        .delivering_to(receiver)
        .env("MUTTD_ADMIN_PASSWORD", PASSWORD)
        .env("MUTTD_DYNAMIC_REMEDIATION_ENABLED", "false")
        .start();
    server.forward_rule("fan failed");
    receiver.answer_next((0..3).map(|_| Reply::status(422)));
    for host in ["core1", "core2", "core1"] {
        let event = json!({"hostname": host, "message": "fan failed <3>", "timestamp": "2026-03-01T12:00:00Z"});
        server.ingest(&event).must_be(200);
    }
    eventually("all three are dead letters", || (server.metrics().depth("dlq.forwarder") == 3).then_some(()));
    server
}

fn letters(server: &Server, query: &str) -> Vec<Value> {
    let page = server.api_get(&format!("/api/v2/dead-letters?queue=dlq.forwarder{query}"));
    page["queues"][0]["items"].as_array().expect("items").clone()
}

fn changes(server: &Server) -> Vec<Value> {
    let page = server.api_get("/api/v2/config-audit?table_name=dead_letters");
    page["changes"].as_array().expect("changes").clone()
}

#[test]
fn letters_are_filtered_grouped_changed_and_replayed_over_the_api() {
    let receiver = Receiver::start();
    let server = server_with_letters(&receiver);
    let groups = server.api_get("/api/v2/dead-letters/groups?queue=dlq.forwarder");
    let group = &groups["queues"][0]["groups"][0];
    assert_eq!(
        (&group["count"], &group["class"], &group["origin"]),
        (&json!(3), &json!("refused"), &json!("moogsoft"))
    );
    let found = letters(&server, "&hostname=core2");
    let [letter] = found.as_slice() else { panic!("one letter of core2: {found:?}") };
    let place = format!("/api/v2/dead-letters/dlq.forwarder/{}", letter["seq"]);
    let patch = Request::patch(server.ports.web, place.as_str()).key(ADMIN_KEY);
    patch.json(&json!({"message": "fan replaced", "reason": "INC-7"})).expect().must_be(200);
    let changed = letters(&server, "&q=replaced");
    assert_eq!((changed.len(), &changed[0]["edited"]["by"].is_string()), (1, &true));
    let body = json!({"queue": "dlq.forwarder", "hostname": "core2", "reason": "INC-7"});
    let answer = server.api_post("/api/v2/dead-letters/replay", &body).must_be(200).json();
    assert_eq!((&answer["selected"], &answer["replayed"], &answer["more"]), (&json!(1), &json!(1), &json!(false)));
    eventually("it arrives as changed", || receiver.taken("fan replaced").into_iter().next());
    assert_eq!(letters(&server, "").len(), 2);
    let lines = changes(&server);
    assert!(lines.len() == 2 && lines.iter().all(|line| line["reason"] == "INC-7"), "{lines:?}");
    assert_eq!(lines[1]["new_values"]["message"], "fan replaced");
    // What makes no sense is refused by name.
    for (path, body, field) in [
        ("/api/v2/dead-letters/replay", json!({"queue": "nowhere"}), "queue"),
        ("/api/v2/dead-letters/replay", json!({"queue": "dead", "class": "bad luck"}), "class"),
        ("/api/v2/dead-letters/replay", json!({"queue": "dead", "seqs": [1], "q": "x"}), "q"),
        ("/api/v2/dead-letters/discard", json!({"queue": "dlq.forwarder"}), "reason"),
    ] {
        let answer = server.api_post(path, &body).must_be(400).json();
        assert_eq!(answer["field"], field, "{body}: {answer}");
    }
    assert_eq!(letters(&server, "").len(), 2, "nothing was discarded");
}

#[test]
fn letters_are_handled_on_the_pages() {
    let receiver = Receiver::start();
    let server = server_with_letters(&receiver);
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    let page = browser.open("/dead-letters?queue=dlq.forwarder&hostname=core2").must_be(200).text().to_owned();
    assert!(page.contains("By reason") && page.contains("fan failed &#60;3&#62;"), "{page}");
    let seq = letters(&server, "&hostname=core2")[0]["seq"].clone();
    let one = format!("/dead-letters/dlq.forwarder/{seq}");
    let page = browser.open(&one).must_be(200).text().to_owned();
    assert!(page.contains("422") && page.contains("The receiver&#39;s answer"), "{page}");
    let form = Form::on(&page, "target").filled(&[("reason", "try again")]);
    browser.submit(&form).must_be(200);
    eventually("it arrives", || receiver.taken("fan failed").into_iter().next());
    let page = browser.open("/dead-letters?queue=dlq.forwarder").must_be(200).text().to_owned();
    let all = Form::on(&page, "target").filled(&[("act", "discard"), ("reason", "a test of ours")]);
    let after = browser.submit(&all).must_be(200).text().to_owned();
    assert!(after.contains("Letters discarded: 2.") && after.contains("Nothing here"), "{after}");
    assert_eq!(changes(&server)[0]["changed_by"], "admin");
}

#[test]
fn letters_are_handled_on_the_command_line() {
    let receiver = Receiver::start();
    let server = server_with_letters(&receiver);
    let dlq = |args: &[&str]| {
        let url = format!("http://{}", server.ports.web);
        let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
        command.env("MUTTD_ADMIN_API_KEY", ADMIN_KEY).arg("dlq").arg("--url").arg(&url).args(args);
        let output = command.output().expect("the command can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dlq {args:?} failed ({}): {errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let listed = dlq(&["list", "--queue", "dlq.forwarder"]);
    assert!(listed.contains("dlq.forwarder: 3 letters") && listed.contains("core2"), "{listed}");
    assert!(dlq(&["groups"]).contains("moogsoft  refused"));
    let seq = letters(&server, "&hostname=core2")[0]["seq"].to_string();
    assert!(dlq(&["show", "dlq.forwarder", &seq]).contains("class: refused"));
    dlq(&["edit", "dlq.forwarder", &seq, "--message", "fan replaced", "--reason", "INC-7"]);
    let told = dlq(&["replay", "dlq.forwarder", "--all", "--hostname", "core2"]);
    assert!(told.starts_with("1 of 1 letters replayed"), "{told}");
    eventually("it arrives", || receiver.taken("fan replaced").into_iter().next());
    let told = dlq(&["discard", "dlq.forwarder", "--all", "--reason", "a test of ours"]);
    assert!(told.starts_with("2 of 2 letters discarded"), "{told}");
    assert!(dlq(&["remediate"]).contains("0 put back"));
    assert_eq!(changes(&server).len(), 4);
}
