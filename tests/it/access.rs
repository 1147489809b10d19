//! Users with roles and named API keys, as operators and senders meet them: commands, pages and requests against the real
//! program.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Answer, Browser, Form, Request, Server};

/// Runs one of our commands against `server`; what it printed, and whether it succeeded.
fn muttd(server: &Server, arguments: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(arguments)
        .args(["--url", &format!("http://{}", server.ports.web)])
        .env("MUTTD_ADMIN_API_KEY", ADMIN_KEY)
        .output()
        .expect("the program can be run");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

fn succeed(server: &Server, arguments: &[&str]) -> String {
    let (text, succeeded) = muttd(server, arguments);
    assert!(succeeded, "{arguments:?}: {text}");
    text
}

/// What stands behind `shown only now:`.
fn shown(text: &str) -> String {
    let (_, value) = text.split_once("shown only now: ").unwrap_or_else(|| panic!("nothing is shown: {text}"));
    value.trim().to_owned()
}

#[test]
fn a_user_made_by_command_chooses_a_password_and_works_as_an_operator() {
    let mut server = Server::builder().start();
    let made = succeed(&server, &["users", "add", "anna", "--role", "operator", "--reason", "new shift"]);
    let temporary = shown(&made);
    let mut anna = Browser::new(server.ports.web);
    let page = anna.log_in("anna", &temporary).must_be(200).text();
    let password = "a password of her own";
    let change = Form::on(&page, "new_password").filled(&[
        ("old_password", &temporary),
        ("new_password", password),
        ("repeated", password),
    ]);
    anna.submit(&change).must_be(200);
    anna.log_in("anna", password).must_be(200);
    let page = anna.open("/teams").must_be(200).text();
    let form = Form::on(&page, "team_assignment").filled(&[("hostname", "gw-4"), ("team_assignment", "CORE")]);
    anna.submit(&form).must_be(200);
    assert!(!page.contains("href=\"/users\""), "operators are not shown what they may not open");
    for path in ["/users", "/keys", "/admin/secrets"] {
        let refused = anna.open(path);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text().contains("it needs the role admin; yours is operator"), "{}", refused.text());
    }
    let log = server.api_get("/api/v2/config-audit?table_name=device_teams");
    assert_eq!(log["changes"][0]["changed_by"], "anna");
    succeed(&server, &["users", "role", "anna", "viewer"]);
    assert!(anna.open("/teams").text().contains("name=\"password\""), "another role ends the session");
    anna.log_in("anna", password).must_be(200);
    let own = Form::on(&anna.open("/account").must_be(200).text(), "new_password");
    let mut form = own.filled(&[("hostname", "x"), ("team_assignment", "Y")]);
    form.action = "/teams".to_owned();
    assert_eq!(anna.submit(&form).status, 403);
    let (text, succeeded) = muttd(&server, &["users", "remove", "admin"]);
    assert!(!succeeded && text.contains("last admin"), "{text}");
    let (status, _) = server.terminate();
    assert!(status.success());
    server.start_again();
    assert!(succeed(&server, &["users"]).contains("anna"));
    anna.open("/teams").must_be(200);
    let trail = server.api_get("/api/v2/config-audit?table_name=users").to_string();
    assert!(trail.contains("new shift") && !trail.contains("argon2") && !trail.contains(&temporary), "{trail}");
}

fn ingest(server: &Server, key: &str) -> Answer {
    let event = json!({"hostname": "h", "message": "by key", "timestamp": "2026-03-01T12:00:00Z"});
    Request::post(server.ports.ingest, "/api/v2/ingest").key(key).json(&event).expect()
}

fn rules(server: &Server, key: &str) -> Answer {
    Request::get(server.ports.web, "/api/v2/rules").key(key).expect()
}

#[test]
fn a_named_key_sends_events_is_exchanged_and_revoked() {
    let mut server = Server::builder().start();
    let first = shown(&succeed(&server, &["keys", "add", "rsyslog", "--scopes", "ingest"]));
    ingest(&server, &first).must_be(200);
    let refused = rules(&server, &first);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("lacks the scope `read`"), "{}", refused.text());
    let reader = shown(&succeed(&server, &["keys", "add", "grafana", "--scopes", "read"]));
    rules(&server, &reader).must_be(200);
    let refused = ingest(&server, &reader);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("lacks the scope `ingest`"), "{}", refused.text());
    let elsewhere =
        shown(&succeed(&server, &["keys", "add", "lab", "--scopes", "ingest,read", "--networks", "192.0.2.0/24"]));
    assert_eq!((ingest(&server, &elsewhere).status, rules(&server, &elsewhere).status), (403, 403));
    let next = shown(&succeed(&server, &["keys", "rotate", "rsyslog"]));
    ingest(&server, &first).must_be(200);
    ingest(&server, &next).must_be(200);
    succeed(&server, &["keys", "promote", "rsyslog"]);
    assert_eq!(ingest(&server, &first).status, 401);
    ingest(&server, &next).must_be(200);
    let (status, _) = server.terminate();
    assert!(status.success());
    server.start_again();
    ingest(&server, &next).must_be(200);
    let keys = server.api_get("/api/v2/keys");
    let used = |name: &str| {
        let keys = keys["keys"].as_array().expect("`keys`");
        keys.iter().find(|key| key["name"] == name).expect("the key")["last_peer"].clone()
    };
    assert_eq!((used("grafana"), used("lab")), (json!("127.0.0.1"), Value::Null), "uses survive, refusals are none");
    succeed(&server, &["keys", "revoke", "rsyslog", "--reason", "device gone"]);
    assert_eq!(ingest(&server, &next).status, 401);
    let metrics = server.metrics();
    assert!(metrics.sum("mutt_api_key_uses_total", &[("key", "rsyslog")]) >= 1);
    for secret in [&first, &next, &reader] {
        for text in [keys.to_string(), server.api_get("/api/v2/config-audit").to_string(), server.log()] {
            assert!(!text.contains(secret.as_str()), "a key is shown: {text}");
        }
    }
    server.check_counters();
}

#[test]
fn keys_are_made_and_exchanged_on_their_page() {
    let server = Server::builder().env("MUTTD_ADMIN_PASSWORD", "a long enough password").start();
    let mut admin = Browser::new(server.ports.web);
    admin.log_in("admin", "a long enough password").must_be(200);
    let page = admin.open("/keys").must_be(200).text();
    let form = Form::on(&page, "networks").filled(&[("name", "page-key"), ("scope-ingest", "on")]);
    let value = |page: &str| {
        let (_, rest) = page.split_once("<pre class=\"text\">mutt_").expect("the value is shown");
        format!("mutt_{}", rest.split('<').next().unwrap_or_default())
    };
    let made = admin.submit(&form).must_be(200).text();
    ingest(&server, &value(&made)).must_be(200);
    assert!(!admin.open("/keys").text().contains("mutt_"), "it is shown once only");
    let bad = admin.submit(&Form::on(&page, "networks").filled(&[("name", "other"), ("networks", "everywhere")]));
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("is no network"), "{}", bad.text());
}
