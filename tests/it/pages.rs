//! The web UI as a person meets it: a real browser renders the login page; logging in, making a rule, finding an event
//! and reading why it matched work without any script; nothing works without a session or a form's own token.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Browser, Form, Receiver, Request, Server, Tool, eventually};

const PASSWORD: &str = "a long enough password 42";

fn server() -> (Receiver, Server) {
    let receiver = Receiver::start();
    let server = Server::builder().delivering_to(&receiver).env("MUTTD_ADMIN_PASSWORD", PASSWORD).start();
    (receiver, server)
}

fn logged_in(server: &Server) -> Browser {
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    browser
}

/// Chromium without anything that would go to the network.
fn chromium(folder: &TempDir) -> Tool {
    Tool::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--no-first-run"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
}

#[test]
fn a_browser_renders_the_login_page() {
    let (_receiver, server) = server();
    let folder = TempDir::new().expect("a temporary directory");
    let url = format!("http://{}/login", server.ports.web);
    let dom = chromium(&folder).arg("--dump-dom").arg(&url).succeed();
    assert!(dom.contains("type=\"password\""), "no password field on the page: {dom}");
    let picture = folder.path().join("login.png");
    chromium(&folder)
        .arg("--window-size=360,740")
        .arg(format!("--screenshot={}", picture.display()))
        .arg(&url)
        .succeed();
    let bytes = fs::read(&picture).expect("the screenshot was made");
    // A page of this size with one line and one field compresses to about 5 kB; a styled form takes more.
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 6_000, "the page is blank ({} bytes)", bytes.len());
}

#[test]
fn a_rule_made_on_a_page_matches_and_the_event_tells_why() {
    let (receiver, server) = server();
    let mut browser = logged_in(&server);
    browser.open("/").must_be(200);
    let page = browser.open("/rules/new").must_be(200).text();
    let form = Form::on(&page, "match_string").filled(&[
        ("match_string", "chassis <temperature>"),
        ("match_type", "contains"),
        ("priority", "5"),
        ("prod_handling", "Page_and_ticket"),
        ("dev_handling", "Ignore"),
        ("team_assignment", "FACILITY"),
        ("reason", "change 1234"),
    ]);
    let listed = browser.submit(&form).must_be(200).text();
    assert!(
        listed.contains("chassis &lt;temperature&gt;") || listed.contains("chassis &#60;temperature&#62;"),
        "{listed}"
    );
    eventually("the rule is in force", || (server.metrics().sum("mutt_rules_active", &[]) == 1).then_some(()));
    let item =
        json!({"hostname": "core-9", "message": "Chassis <temperature> is 71 C", "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&item).must_be(200);
    eventually("the alert arrives", || receiver.taken("71 C").into_iter().next());
    let found = eventually("the event is on the page", || {
        let page = browser.open("/events?q=71%20C").must_be(200).text();
        page.contains("core-9").then_some(page)
    });
    assert!(!found.contains("<temperature>"), "text from the network is not escaped");
    let id = server.event("71 C")["id"].as_str().expect("an id").to_owned();
    let detail = browser.open(&format!("/events/{id}")).must_be(200).text();
    for part in ["FACILITY", "Page_and_ticket", "core-9", "71 C"] {
        assert!(detail.contains(part), "`{part}` is not on the event's page");
    }
    let changes = browser.open("/changes").must_be(200).text();
    assert!(changes.contains("change 1234") && changes.contains("admin"), "the change and its reason are listed");
}

#[test]
fn a_bad_rule_keeps_what_was_typed_and_says_what_is_wrong() {
    let (_receiver, server) = server();
    let mut browser = logged_in(&server);
    let page = browser.open("/rules/new").must_be(200).text();
    let form = Form::on(&page, "match_string").filled(&[
        ("match_string", "link (up|down"),
        ("match_type", "regex"),
        ("team_assignment", "NETO"),
        ("prod_handling", "Page_only"),
        ("dev_handling", "Ignore"),
        ("priority", "5"),
    ]);
    let answer = browser.submit(&form);
    assert!([200, 400, 422].contains(&answer.status), "status {}", answer.status);
    let again = Form::on(&answer.text(), "match_string");
    assert!(again.fields["match_string"].contains("link (up|down"), "the typed text is gone: {:?}", again.fields);
    assert!(server.api_get("/api/v2/rules")["rules"].as_array().is_some_and(Vec::is_empty), "the bad rule was saved");
}

#[test]
fn pages_ask_for_a_login_and_forms_for_their_token() {
    let (_receiver, server) = server();
    for path in ["/", "/events", "/rules", "/rules/new", "/changes", "/dead-letters", "/admin/retention"] {
        let answer = Request::get(server.ports.web, path).expect();
        assert!((300..400).contains(&answer.status), "{path} answered {} without a login", answer.status);
        assert!(
            answer.header("location").is_some_and(|place| place.starts_with("/login")),
            "{path} leads to the login"
        );
    }
    let mut browser = logged_in(&server);
    let page = browser.open("/rules/new").must_be(200).text();
    let mut form = Form::on(&page, "match_string").filled(&[("match_string", "forged"), ("team_assignment", "X")]);
    let token = form.fields.iter().find(|(name, _)| name.contains("csrf")).map(|(name, _)| name.clone());
    form.fields.insert(token.expect("the form carries a token"), "forged".to_owned());
    let status = browser.submit_once(&form).status;
    assert!([400, 403].contains(&status), "a forged form was answered {status}");
    assert!(server.api_get("/api/v2/rules")["rules"].as_array().is_some_and(Vec::is_empty), "a forged rule was saved");
}

#[test]
fn wrong_passwords_are_refused_and_cookies_are_guarded() {
    let (_receiver, server) = server();
    let mut browser = Browser::new(server.ports.web);
    let answer = browser.log_in("admin", "not the password");
    assert!(answer.text().contains("type=\"password\""), "a wrong password leads back to the form");
    assert_ne!(Request::get(server.ports.web, "/events").expect().status, 200);
    let page = browser.open("/login").text();
    let form = Form::on(&page, "password").filled(&[("user", "admin"), ("password", PASSWORD)]);
    let answer = browser.submit_once(&form);
    let cookie = answer.header("set-cookie").expect("a login sets a cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite"), "{cookie}");
    let answer = browser.open("/rules").must_be(200);
    let policy = answer.header("content-security-policy").expect("pages have a content policy");
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let text = answer.text();
    assert!(!text.contains(" style=\"") && !text.contains(" onclick="), "inline code or style on the page");
    assert!(!server.log().contains(PASSWORD), "a password was logged");
}
