//! Delivery targets that come, change and go while a real server runs: kept in the store by API, command and page, and in
//! the configuration file by SIGHUP. What waits for one that goes is kept.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Browser, Form, Receiver, Request, Server, eventually};

const PASSWORD: &str = "a long enough password 42";

fn started(receiver: &Receiver) -> Server {
    let server = Server::builder().delivering_to(receiver).env("MUTTD_ADMIN_PASSWORD", PASSWORD).start();
    server.forward_rule("fan failed");
    server
}

fn definition(name: &str, url: &str) -> String {
    format!(
        "# the chat of the night shift\nname = \"{name}\"\nkind = \"moogsoft\"\nurl = \"{url}\"\n\n[route]\nhosts = [\"{name}-*\"]\n"
    )
}

fn fan_fails(server: &Server, host: &str, message: &str) {
    let event =
        json!({"hostname": host, "message": format!("fan failed {message}"), "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&event).must_be(200);
}

fn arrives(receiver: &Receiver, text: &str) {
    eventually(&format!("`{text}` arrives"), || receiver.taken(text).into_iter().next());
}

fn names(server: &Server) -> Vec<String> {
    let targets = server.api_get("/api/v2/targets")["targets"].clone();
    targets.as_array().expect("targets").iter().map(|t| t["name"].as_str().expect("a name").to_owned()).collect()
}

fn put(server: &Server, name: &str, body: &Value) -> u16 {
    Request::put(server.ports.web, format!("/api/v2/targets/{name}")).key(ADMIN_KEY).json(body).expect().status
}

#[test]
fn a_target_of_the_store_is_spoken_to_at_once_changed_switched_off_and_removed() {
    let (moogsoft, chat, other) = (Receiver::start(), Receiver::start(), Receiver::start());
    let mut server = started(&moogsoft);
    let body = json!({"definition": definition("chat", &chat.url()), "reason": "CHG-1"});
    let made = server.api_post("/api/v2/targets", &body).must_be(201);
    assert_eq!(made.header("location"), Some("/api/v2/targets/chat"));
    fan_fails(&server, "chat-1", "one");
    arrives(&chat, "fan failed one");
    server.api_post("/api/v2/targets", &body).must_be(409);

    assert_eq!(put(&server, "chat", &json!({"definition": definition("chat", &other.url())})), 200);
    fan_fails(&server, "chat-1", "two");
    arrives(&other, "fan failed two");
    server.terminate();
    server.start_again();
    fan_fails(&server, "chat-1", "three");
    arrives(&other, "fan failed three");

    assert_eq!(put(&server, "chat", &json!({"definition": definition("chat", &other.url()), "enabled": false})), 200);
    assert_eq!(names(&server), ["moogsoft"]);
    fan_fails(&server, "chat-1", "four");
    arrives(&moogsoft, "fan failed four");
    let shown = server.api_get("/api/v2/targets/chat");
    assert_eq!((&shown["enabled"], &shown["origin"]), (&json!(false), &json!("store")));
    assert!(shown["definition"].as_str().is_some_and(|text| text.starts_with("# the chat of the night shift")));
    Request::delete(server.ports.web, "/api/v2/targets/chat").key(ADMIN_KEY).expect().must_be(204);
    Request::get(server.ports.web, "/api/v2/targets/chat").key(ADMIN_KEY).expect().must_be(404);
    let lines = server.api_get("/api/v2/config-audit?table_name=delivery_targets&sort=asc")["changes"].clone();
    let told: Vec<&str> =
        lines.as_array().expect("lines").iter().filter_map(|line| line["operation"].as_str()).collect();
    assert_eq!(told, ["CREATE", "UPDATE", "UPDATE", "DELETE"]);
    assert_eq!((&lines[0]["reason"], &lines[0]["record_id"]), (&json!("CHG-1"), &json!("chat")));
}

#[test]
fn what_waits_for_a_target_that_goes_is_kept_and_delivered_when_it_comes_back() {
    let (moogsoft, chat) = (Receiver::start(), Receiver::start());
    let server = started(&moogsoft);
    let nobody = definition("chat", "http://127.0.0.1:9/nobody");
    server.api_post("/api/v2/targets", &json!({"definition": nobody})).must_be(201);
    fan_fails(&server, "chat-1", "waits");
    eventually("it waits", || (server.metrics().depth("alert.chat") == 1).then_some(()));
    Request::delete(server.ports.web, "/api/v2/targets/chat").key(ADMIN_KEY).expect().must_be(204);
    let abandoned = server.api_get("/api/v2/targets")["abandoned"].clone();
    assert_eq!((&abandoned[0]["name"], &abandoned[0]["waiting"]), (&json!("chat"), &json!(1)));
    server.api_post("/api/v2/targets", &json!({"definition": definition("chat", &chat.url())})).must_be(201);
    arrives(&chat, "fan failed waits");
}

#[test]
fn a_definition_that_cannot_be_used_changes_nothing_and_says_why() {
    let moogsoft = Receiver::start();
    let server = started(&moogsoft);
    let good = definition("chat", "http://127.0.0.1:9/x");
    for (text, part) in [
        ("name = ".to_owned(), "not valid TOML"),
        (good.replace("moogsoft", "pigeon"), "`kind` is `pigeon`"),
        (good.replace("url =", "urll ="), "unknown field `urll`"),
        (good.replace("\n\n[route]", "\nsecret = \"nowhere\"\n\n[route]"), "`nowhere`"),
        (good.replace("\n\n[route]", "\nfallback = \"spare\"\n\n[route]"), "`spare`"),
        (good.replace("\"chat\"", "\"Chat\""), "lower-case"),
        (format!("[[targets]]\n{good}[[targets]]\nname = \"b\""), "one target"),
    ] {
        let answer = server.api_post("/api/v2/targets", &json!({"definition": text})).must_be(400).text();
        assert!(answer.contains(part), "{text}: {answer}");
    }
    let of_file = good.replace("name = \"chat\"", "name = \"moogsoft\"");
    let taken = server.api_post("/api/v2/targets", &json!({"definition": of_file})).must_be(409).text();
    assert!(taken.contains("configuration file"), "{taken}");
    assert_eq!(names(&server), ["moogsoft"]);
    assert_eq!(server.api_get("/api/v2/config-audit?table_name=delivery_targets")["pagination"]["total"], 0);
    server.api_post("/api/v2/targets", &json!({"definition": good})).must_be(201);
    // What others fall back to stays, and a file's target is not the store's to change.
    let spare = definition("spare", "http://127.0.0.1:9/y").replace("\n\n[route]", "\nfallback = \"chat\"\n\n[route]");
    server.api_post("/api/v2/targets", &json!({"definition": spare})).must_be(201);
    let kept = Request::delete(server.ports.web, "/api/v2/targets/chat").key(ADMIN_KEY).expect().must_be(409);
    assert!(kept.text().contains("`fallback` names `chat`"), "{}", kept.text());
    Request::delete(server.ports.web, "/api/v2/targets/moogsoft").key(ADMIN_KEY).expect().must_be(409);
    assert_eq!(put(&server, "spare", &json!({"definition": definition("chat", "http://127.0.0.1:9/x")})), 400);
}

#[test]
fn targets_of_the_file_come_and_go_with_a_signal() {
    let (moogsoft, chat) = (Receiver::start(), Receiver::start());
    let server = started(&moogsoft);
    let file = server.data().join("muttd.toml");
    let table = definition("chat", &chat.url()).replace("[route]", "[targets.route]");
    std::fs::write(&file, format!("[[targets]]\n{table}")).expect("written");
    server.reload();
    eventually("it is there", || (names(&server) == ["moogsoft", "chat"]).then_some(()));
    fan_fails(&server, "chat-1", "by file");
    arrives(&chat, "fan failed by file");
    std::fs::write(&file, "").expect("written");
    server.reload();
    eventually("it is gone", || (names(&server) == ["moogsoft"]).then_some(()));
    fan_fails(&server, "chat-1", "after it");
    arrives(&moogsoft, "fan failed after it");
}

#[test]
fn commands_and_pages_do_the_same() {
    let (moogsoft, chat) = (Receiver::start(), Receiver::start());
    let server = started(&moogsoft);
    let file = server.data().join("chat.toml");
    std::fs::write(&file, definition("chat", &chat.url())).expect("written");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
        command.arg("targets").args(arguments).env("MUTTD_URL", format!("http://{}", server.ports.web));
        let output = command.env("MUTTD_ADMIN_API_KEY", ADMIN_KEY).output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let path = file.to_str().expect("UTF-8");
    run(&["add", path, "--disabled", "--reason", "CHG-2"]);
    assert_eq!(names(&server), ["moogsoft"]);
    run(&["edit", "chat", path]);
    assert_eq!(names(&server), ["moogsoft", "chat"]);
    assert!(run(&["show", "chat"]).contains("the chat of the night shift"));
    run(&["remove", "chat"]);
    assert_eq!(names(&server), ["moogsoft"]);

    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    let page = browser.open("/targets/edit").must_be(200).text();
    let wrong =
        browser.submit(&Form::on(&page, "definition").filled(&[("definition", "name = \"chat\"\nkind = \"pigeon\"")]));
    let again = wrong.must_be(400).text();
    assert!(again.contains("pigeon") && again.contains("must be one of"), "{again}");
    let text = definition("chat", &chat.url());
    let listed = browser.submit(&Form::on(&again, "definition").filled(&[("definition", &text), ("enabled", "true")]));
    assert!(listed.must_be(200).text().contains("in the store"));
    assert_eq!(names(&server), ["moogsoft", "chat"]);
    let asked = browser.open("/targets/remove?name=chat").must_be(200).text();
    browser.submit(&Form::on(&asked, "name")).must_be(200);
    assert_eq!(names(&server), ["moogsoft"]);
}
