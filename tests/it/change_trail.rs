//! The change log of a real server: who and where from, filters, and what is said by whom once somebody has altered a line
//! behind the appliance's back.

use std::process::{Command, Output};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Browser, Form, Receiver, Request, Server, eventually};

const PASSWORD: &str = "a long enough password 42";

fn muttd(server: &Server, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(arguments)
        .env("MUTTD_DATA", server.data())
        .env("MUTTD_URL", format!("http://{}", server.ports.web))
        .env("MUTTD_ADMIN_API_KEY", ADMIN_KEY)
        .env_remove("SUDO_USER")
        .env("USER", "carol")
        .output()
        .expect("the command runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn started() -> Server {
    Server::builder().delivering_to(&Receiver::start()).env("MUTTD_ADMIN_PASSWORD", PASSWORD).start()
}

fn add_host(server: &Server, name: &str) {
    let body = json!({"hostname": name, "reason": format!("ticket of {name}")});
    server.api_post("/api/v2/dev-hosts", &body).must_be(201);
}

fn ids(answer: &Value) -> Vec<i64> {
    let changes = answer["changes"].as_array().expect("changes");
    changes.iter().map(|change| change["id"].as_i64().expect("a number")).collect()
}

#[test]
fn each_line_says_who_and_where_from_and_is_found_by_it() {
    let server = started();
    add_host(&server, "lab1");
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    let page = browser.open("/dev-hosts").must_be(200).text();
    browser.submit(&Form::on(&page, "hostname").filled(&[("hostname", "lab2"), ("reason", "by hand")])).must_be(200);
    let reset = muttd(&server, &["targets", "reset", "moogsoft", "--reason", "from a shell"]);
    assert!(reset.status.success(), "{}", said(&reset));
    let lines = server.api_get("/api/v2/config-audit?sort=asc")["changes"].clone();
    let who = |reason: &str| {
        let lines = lines.as_array().expect("changes");
        let line = lines.iter().find(|line| line["reason"] == reason).unwrap_or_else(|| panic!("{reason}: {lines:?}"));
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (text("changed_by"), text("changed_via"), text("changed_from"))
    };
    let check = |reason: &str, by: &str, via: &str| {
        let (found_by, found_via, from) = who(reason);
        assert!(found_by.starts_with(by), "{reason}: {found_by}");
        assert_eq!((found_via.as_str(), from.as_str()), (via, "127.0.0.1"), "{reason}");
    };
    check("ticket of lab1", "api-key", "api");
    check("by hand", "admin", "page");
    check("from a shell", "api-key", "cli");
    assert!(who("from a shell").0.ends_with("(carol)"));

    let get = |query: &str| server.api_get(&format!("/api/v2/config-audit?{query}"));
    assert_eq!(get("table_name=development_hosts&record_id=lab2")["pagination"]["total"], 1);
    assert_eq!(get("user=admin&table_name=development_hosts")["changes"][0]["record_id"], "lab2");
    assert_eq!(get("operation=delete")["pagination"]["total"], 0);
    assert_eq!(get("from=2020-01-01&to=2020-01-02")["pagination"]["total"], 0);
    let all = ids(&get("sort=asc"));
    assert!(all.is_sorted() && ids(&get("sort=desc")) == all.iter().rev().copied().collect::<Vec<_>>());
    // By page and by cursor everything is met once.
    for sort in ["asc", "desc"] {
        let (mut walked, mut query) = (Vec::new(), format!("sort={sort}&limit=2"));
        loop {
            let answer = get(&query);
            walked.extend(ids(&answer));
            let Some(cursor) = answer["next_cursor"].as_str() else { break };
            query = format!("sort={sort}&limit=2&cursor={cursor}");
        }
        assert_eq!(walked, ids(&get(&format!("sort={sort}"))), "{sort}");
    }
    for (query, field) in [
        ("operation=rename", "operation"),
        ("sort=up", "sort"),
        ("from=yesterday", "from"),
        ("from=2026-01-02&to=2026-01-01", "to"),
        ("limit=0", "limit"),
        ("page=x", "page"),
        ("cursor=abc", "cursor"),
        ("cursor=5&page=2", "page"),
        ("tabel_name=users", "tabel_name"),
    ] {
        let path = format!("/api/v2/config-audit?{query}");
        let answer = Request::get(server.ports.web, path).key(ADMIN_KEY).expect().must_be(400).json();
        assert_eq!(answer["field"], field, "{query}: {answer}");
    }
    for path in ["/api/v1/config-audit", "/api/v1/audit/config?table_name=development_hosts"] {
        let answer = Request::get(server.ports.web, path).key(ADMIN_KEY).header("Accept-Version", "v1").expect();
        let answer = answer.must_be(200);
        assert_eq!((answer.header("deprecation"), answer.header("x-sunset")), (Some("true"), Some("2027-12-31")));
        assert!(answer.header("link").is_some_and(|link| link.contains("</api/v2/")));
        assert!(answer.json()["changes"][0].get("changed_via").is_none() && answer.json()["pagination"]["total"] != 0);
        Request::get(server.ports.web, path).expect().must_be(401);
    }
    let page = browser.open("/changes?table_name=development_hosts&user=admin").must_be(200).text();
    assert!(page.contains("lab2") && !page.contains("ticket of lab1") && page.contains("from 127.0.0.1"), "{page}");
    assert!(browser.open("/changes?record_id=lab2").text().contains("Is this log as it was written?"));
}

#[test]
fn a_line_altered_behind_its_back_is_named_by_everyone_and_accepted_by_a_person() {
    let mut server = started();
    add_host(&server, "lab1");
    let head = said(&muttd(&server, &["audit", "head", "--sign"]));
    let kept = server.data().join("head.json");
    std::fs::write(&kept, &head).expect("written");
    add_host(&server, "lab2");
    let against = ["audit", "verify", "--against", kept.to_str().expect("UTF-8")];
    let whole = muttd(&server, &against);
    assert!(whole.status.success() && said(&whole).contains("is whole"), "{}", said(&whole));
    let signer: Value = serde_json::from_str(&head).expect("JSON");
    let key = signer["public_key"].as_str().expect("a key");
    let with_key = [&against[..], &["--public-key", key]].concat();
    assert!(said(&muttd(&server, &with_key)).contains("signed with the given key"));
    assert!(!muttd(&server, &[&against[..], &["--public-key", &"00".repeat(32)]].concat()).status.success());
    eventually("the first look found nothing", || {
        (server.api_get("/api/v2/status")["change_log"]["ok"] == true).then_some(())
    });

    let raw = Connection::open(server.data().join("store/config.db")).expect("the file opens");
    raw.execute_batch(
        "DROP TRIGGER config_audit_log_no_update; UPDATE config_audit_log SET reason = 'all is well' WHERE record_id = 'lab1';",
    )
    .expect("altered");
    drop(raw);
    // The appliance goes on, and says so as soon as it looks.
    add_host(&server, "lab3");
    let found = server.api_post("/api/v2/config-audit/chain/verify", &json!({})).must_be(200).json();
    assert_eq!(found["ok"], false);
    let told = said(&muttd(&server, &["audit", "verify"]));
    assert!(told.contains("`reason`") && told.contains("(edited)"), "{told}");
    let (status, _) = server.terminate();
    assert!(status.success());
    let stopped = muttd(&server, &["audit", "verify", "--json"]);
    assert_eq!(stopped.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&stopped.stdout).expect("JSON");
    assert_eq!((&report["faults"][0]["kind"], &report["ok"]), (&json!("edited"), &json!(false)), "{report}");

    server.start_again();
    eventually("the start finds it", || (server.api_get("/api/v2/status")["change_log"]["ok"] == false).then_some(()));
    assert_eq!(server.metrics().sum("mutt_audit_chain_ok", &[]), 0);
    assert!(server.log().contains("The change log is not as it was written"));
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    assert!(browser.open("/rules").must_be(200).text().contains("The change log is not as it was written"));
    let accepted = muttd(&server, &["audit", "accept", "--reason", "INC-9: a rehearsal"]);
    assert!(accepted.status.success(), "{}", said(&accepted));
    assert_eq!(server.metrics().sum("mutt_audit_chain_ok", &[]), 1);
    assert!(!browser.open("/rules").text().contains("The change log is not as it was written"));
    assert!(muttd(&server, &["audit", "verify"]).status.success());
    let moved = muttd(&server, &against);
    assert!(
        !moved.status.success() && said(&moved).contains("(head)"),
        "an older head tells of it for ever: {}",
        said(&moved)
    );
}
