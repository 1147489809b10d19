//! A client that got no answer sends its POST again with the same `Idempotency-Key`: it is done once, although the appliance
//! was killed in between, and what nobody can know after a kill is told.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Answer, Request, Server, eventually};

fn post(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    asking(server, path, key, body).expect()
}

fn asking(server: &Server, path: &str, key: &str, body: &Value) -> Request {
    Request::post(server.ports.web, path).key(ADMIN_KEY).header("Idempotency-Key", key).json(body)
}

fn rule() -> Value {
    json!({"match_string": "link down", "prod_handling": "Page_only", "team_assignment": "NETO"})
}

/// The title and the rest of a refusal.
fn refusal(answer: Answer) -> (String, String) {
    let problem = answer.must_be(409).json();
    let text = |member: &str| problem[member].as_str().expect("text").to_owned();
    (text("error"), text("detail"))
}

#[test]
fn a_post_that_was_answered_is_answered_the_same_after_a_kill() {
    let mut server = Server::builder().start();
    let first = post(&server, "/api/v2/rules", "chg-1", &rule()).must_be(201);
    let key = json!({"name": "script", "scopes": ["read"]});
    let shown = post(&server, "/api/v2/keys", "chg-2", &key).must_be(201).json();
    post(&server, "/api/v2/rules", "chg-3", &json!({"match_string": "x"})).must_be(400);
    server.kill();
    server.start_again();
    let again = post(&server, "/api/v2/rules", "chg-1", &rule()).must_be(201);
    assert_eq!((again.header("idempotency-replayed"), again.json()), (Some("true"), first.json()));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(server.api_get("/api/v2/rules")["total"], 1, "it was done once");
    post(&server, "/api/v2/dev-hosts", "chg-1", &json!({"hostname": "lab1"})).must_be(422);
    let (error, detail) = refusal(post(&server, "/api/v2/keys", "chg-2", &key));
    assert!(error.contains("done already") && detail.contains("rotate the key"), "{error}: {detail}");
    post(&server, "/api/v2/rules", "chg-3", &rule()).must_be(201);
    let value = shown["value"].as_str().expect("the key's value");
    for file in ["config.db", "config.db-wal"] {
        let bytes = std::fs::read(server.data().join("store").join(file)).unwrap_or_default();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(value) && !holds("chg-1"), "{file} holds what was shown once, or a key");
    }
}

#[test]
fn a_post_that_was_broken_off_by_a_kill_is_not_done_again_by_itself() {
    // It takes connections and never answers, so that a test alert is under way for long.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let mut server = Server::builder().env("MUTTD_MOOG_WEBHOOK_URL", url).env("MUTTD_MOOG_API_KEY", "k").start();
    let path = "/api/v2/targets/moogsoft/test";
    let line = std::thread::scope(|scope| {
        let request = asking(&server, path, "test-1", &json!({}));
        let sender = scope.spawn(move || request.send());
        let line = eventually("the test is noted in the change log", || {
            let log = server.api_get("/api/v2/config-audit?table_name=targets");
            log["changes"].as_array().expect("`changes`").first().cloned()
        });
        let (error, _) = refusal(post(&server, path, "test-1", &json!({})));
        assert!(error.contains("under way"), "{error}");
        server.kill();
        assert!(sender.join().expect("no panic").is_err(), "it had no answer");
        line
    });
    server.start_again();
    let (error, detail) = refusal(post(&server, path, "test-1", &json!({})));
    assert!(error.contains("stopped before its end"), "{error}");
    let correlation = line["correlation_id"].as_str().expect("an id");
    assert!(detail.contains(&format!("/api/v2/config-audit?correlation_id={correlation}")), "{detail}");
    let found = server.api_get(&format!("/api/v2/config-audit?correlation_id={correlation}"));
    assert_eq!(found["changes"][0]["id"], line["id"], "the way it names leads to what was done");
    let (again, _) = refusal(post(&server, path, "test-1", &json!({})));
    assert_eq!(again, error, "it stays so");
}
