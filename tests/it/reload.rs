//! What an operator does to a running appliance from the shell: have the configuration read again, make a set-up link.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::{Browser, Form, Server, eventually};

#[test]
fn sighup_puts_a_changed_file_into_force_and_keeps_the_old_one_if_the_new_is_wrong() {
    let server = Server::builder().start();
    let nameless = json!({"message": "lantern without a host", "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&nameless).must_be(400);
    let file = server.data().join("muttd.toml");
    fs::write(&file, "[ingest]\nrequired_fields = [\"message\"]\n").expect("the file is written");
    server.reload();
    eventually("the changed file is in force", || (server.ingest(&nameless).status == 200).then_some(()));
    fs::write(&file, "[ingest]\nrequired_fields = [\"message\"]\nmax_body_bites = 5\n").expect("the file is written");
    server.reload();
    eventually("the wrong key is named in the log", || server.log().contains("max_body_bites").then_some(()));
    server.ingest(&nameless).must_be(200);
    server.event("lantern without a host");
}

#[test]
fn a_set_up_link_gives_a_new_password_once() {
    let server = Server::builder().start();
    let made = Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(["setup-link", "--data"])
        .arg(server.data())
        .output()
        .expect("the program can be run");
    let text = String::from_utf8(made.stdout).expect("text");
    let (_, token) = text.trim().split_once("/setup?token=").expect("the link is printed");
    let path = format!("/setup?token={token}");
    let password = "quite another password";
    let mut browser = Browser::new(server.ports.web);
    let page = browser.open(&path).must_be(200).text();
    let form = Form::on(&page, "new_password").filled(&[("new_password", password), ("repeated", password)]);
    browser.submit(&form).must_be(200);
    Browser::new(server.ports.web).log_in("admin", password).must_be(200);
    assert_ne!(Browser::new(server.ports.web).open(&path).status, 200, "the link works a second time");
}
