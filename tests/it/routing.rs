//! Which target gets which alert: routes, what no route takes, a fallback while a target fails, and how an operator sees
//! and tests targets on the page and on the command line.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, Browser, Form, Receiver, Reply, Server, eventually};

const PASSWORD: &str = "a long enough password 42";

/// A `[[targets]]` with times that a test can wait for.
fn target(name: &str, receiver: &Receiver, more: &str) -> String {
    format!(
        "[[targets]]\nname = \"{name}\"\nkind = \"moogsoft\"\nurl = \"{}\"\ntimeout_seconds = 2\nretry_base_ms = 50\n\
         breaker_timeout_seconds = 1\n{more}\n",
        receiver.url()
    )
}

fn server(folder: &TempDir, config: &str) -> Server {
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    std::fs::write(data.join("muttd.toml"), config).expect("muttd.toml is written");
    Server::builder().data(&data).env("MUTTD_ADMIN_PASSWORD", PASSWORD).start()
}

fn event(host: &str, message: &str, severity: u8) -> serde_json::Value {
    json!({"hostname": host, "message": message, "timestamp": "2026-03-01T12:00:00Z", "severity": severity})
}

fn command(server: &Server, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(["targets", "--url", &format!("http://{}", server.ports.web)])
        .env("MUTTD_ADMIN_API_KEY", ADMIN_KEY)
        .args(arguments)
        .output()
        .expect("the binary can be started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn each_target_gets_what_its_route_says_and_the_default_gets_the_rest() {
    let [page, mail, rest] = [Receiver::start(), Receiver::start(), Receiver::start()];
    let folder = TempDir::new().expect("a temporary directory");
    let config = [
        target("page", &page, "[targets.route]\nhosts = [\"core-*\"]\nseverities = [\"critical\", 3]"),
        target("mail", &mail, "[targets.route]\nteams = [\"FACILITY\"]"),
        target("moogsoft", &rest, "[targets.route]\nunhandled = true"),
    ];
    let server = server(&folder, &config.concat());
    server.rule(&json!({"match_string": "power", "team_assignment": "FACILITY"}));
    server.rule(&json!({"match_string": "link", "team_assignment": "NETO"}));
    server.ingest(&json!([
        event("core-1", "power lost here", 2),
        event("edge-1", "power lost there", 2),
        event("CORE-2.", "link down here", 3),
        event("core-3", "link is slow", 5),
    ]));
    let got = |receiver: &Receiver, wanted: &[&str]| {
        eventually("the alerts of the route arrive", || (receiver.posts().len() == wanted.len()).then_some(()));
        let mut messages: Vec<String> = receiver.posts().iter().map(|post| post.member("description")).collect();
        messages.sort();
        assert_eq!(messages, wanted);
    };
    got(&page, &["link down here", "power lost here"]);
    got(&mail, &["power lost here", "power lost there"]);
    got(&rest, &["link is slow"]);
}

#[test]
fn a_fallback_takes_over_and_gives_back() {
    let [first, second] = [Receiver::start(), Receiver::start()];
    let folder = TempDir::new().expect("a temporary directory");
    let config = [
        target("first", &first, "fallback = \"second\"\nfallback_after_seconds = 1"),
        target("second", &second, "[targets.route]\nonly_fallback = true"),
    ];
    let server = server(&folder, &config.concat());
    server.forward_rule("drill");
    first.always(Reply::status(503));
    let events: Vec<_> = (0..30).map(|number| event("sw1", &format!("drill {number}"), 3)).collect();
    server.ingest(&json!(events)).must_be(200);
    eventually("the fallback has every alert", || (second.posts().len() == 30).then_some(()));
    let shown = server.api_get("/api/v2/targets/first");
    assert_eq!((&shown["diverted_to"], &shown["diverted"]), (&json!("second"), &json!(30)));
    assert_eq!(server.metrics().sum("mutt_forward_diverting", &[("target", "first")]), 1);

    first.always(Reply::status(200));
    eventually("the target gets its alerts itself again", || {
        server.ingest(&event("sw1", "drill again", 3)).must_be(200);
        first.taken("drill again").into_iter().next()
    });
    eventually("that is told", || (server.api_get("/api/v2/targets/first")["diverted_to"].is_null()).then_some(()));
    assert_eq!(server.metrics().depth("dlq.forwarder"), 0);
}

#[test]
fn an_operator_sees_a_target_fail_and_has_it_tried_again() {
    let receiver = Receiver::start();
    let folder = TempDir::new().expect("a temporary directory");
    let config =
        target("noc", &receiver, "").replace("breaker_timeout_seconds = 1\n", "breaker_timeout_seconds = 3600\n");
    let server = server(&folder, &config);
    server.forward_rule("drill");
    receiver.always(Reply::status(500));
    let events: Vec<_> = (0..10).map(|number| event("sw1", &format!("drill {number}"), 3)).collect();
    server.ingest(&json!(events)).must_be(200);
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    let page = eventually("the page shows it", || {
        let page = browser.open("/targets").must_be(200).text();
        page.contains("left alone since").then_some(page)
    });
    assert!(page.contains("500 Internal Server Error"), "{page}");
    let tested = browser.submit(&Form::on(&page, "name")).text();
    assert!(tested.contains("Test of <strong>noc</strong>: not taken"), "{tested}");

    receiver.always(Reply::status(200));
    let listed = said(&command(&server, &[]));
    assert!(listed.contains("noc") && listed.contains("left alone") && listed.contains("last error"), "{listed}");
    let test = command(&server, &["test", "noc", "--reason", "is it back?"]);
    assert!(test.status.success() && said(&test).starts_with("taken after"), "{}", said(&test));
    let reset = command(&server, &["reset", "noc", "--reason", "it is back"]);
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    eventually("what was not tried yet goes at once", || receiver.taken("drill").into_iter().next());
    assert_eq!(server.api_get("/api/v2/targets/noc")["breaker"]["state"], "closed");
    let changes = server.api_get("/api/v2/config-audit?table_name=targets").to_string();
    assert!(changes.contains("is it back?") && changes.contains("it is back"), "{changes}");

    let unknown = command(&server, &["reset", "nowhere"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("does not exist"), "{unknown:?}");
}

#[test]
fn the_command_line_finds_the_key_in_the_data_directory() {
    let folder = TempDir::new().expect("a temporary directory");
    let receiver = Receiver::start();
    let server = server(&folder, &target("noc", &receiver, ""));
    let listed = |data: &Path| {
        Command::new(env!("CARGO_BIN_EXE_muttd"))
            .args(["targets", "--json", "--url", &format!("http://{}", server.ports.web), "--data"])
            .arg(data)
            .env_remove("MUTTD_ADMIN_API_KEY")
            .output()
            .expect("the binary can be started")
    };
    let refused = listed(folder.path());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("secrets.toml"), "{refused:?}");
    // The key in use was given by the environment, so the kept one is a wrong one: it is used and refused.
    let wrong = listed(server.data());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("key"), "{wrong:?}");
}
