//! A backup of an appliance that is at work, taken and restored by the real commands: what comes back is what was there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, Request, Server};

fn muttd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.args(arguments).env("MUTTD_ADMIN_API_KEY", ADMIN_KEY).output().expect("the command runs")
}

fn succeed(arguments: &[&str]) -> String {
    let output = muttd(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(arguments: &[&str], part: &str) {
    let output = muttd(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(part), "{arguments:?} should say {part:?}: {told}");
}

/// What must come back.
fn state(server: &Server) -> Vec<Value> {
    let of = |path: &str, member: &str| server.api_get(path)[member].clone();
    let names = |path: &str, member: &str| -> Value {
        of(path, member).as_array().expect("rows").iter().map(|row| row["name"].clone()).collect()
    };
    vec![
        of("/api/v2/rules", "rules"),
        of("/api/v2/dev-hosts", "hosts"),
        of("/api/v2/teams", "teams"),
        of("/api/v2/config/unhandled_threshold", "value"),
        names("/api/v2/users", "users"),
        names("/api/v2/keys", "keys"),
        names("/api/v2/targets", "definitions"),
    ]
}

#[test]
fn a_backup_under_load_comes_back_whole_in_an_empty_directory() {
    let server = Server::builder().start();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("backup.tar.gz").display().to_string();
    let url = format!("http://{}", server.ports.web);
    server.rule(&json!({"match_string": "link down"}));
    server.api_post("/api/v2/dev-hosts", &json!({"hostname": "lab1"})).must_be(201);
    server.api_post("/api/v2/teams", &json!({"hostname": "sw1", "team_assignment": "CORE"})).must_be(201);
    server.api_post("/api/v2/users", &json!({"name": "anna", "role": "operator"})).must_be(201);
    server.api_post("/api/v2/keys", &json!({"name": "script", "scopes": ["read"]})).must_be(201);
    let definition = "name = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/x\"";
    server.api_post("/api/v2/targets", &json!({"definition": definition})).must_be(201);
    let setting = Request::put(server.ports.web, "/api/v2/config/unhandled_threshold").key(ADMIN_KEY);
    setting.json(&json!({"value": 7})).expect().must_be(200);
    let event = json!({"hostname": "gw-4", "message": "link down", "timestamp": "2026-03-01T12:00:00Z"});

    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                server.ingest(&event).must_be(200);
                server.api_post("/api/v2/rules/1/enable", &json!({})).must_be(200);
            }
        });
        let made = succeed(&["backup", "create", &file, "--audit", "--reason", "CHG-1", "--url", &url]);
        done.store(true, Ordering::Relaxed);
        assert!(made.contains("without secrets, with the event audit") && made.contains("whole"), "{made}");
    });
    let before = state(&server);
    refused(&["restore", &file, "--data", &server.data().display().to_string()], "stop it first");

    let data = folder.path().join("restored");
    succeed(&["restore", &file, "--data", &data.display().to_string()]);
    refused(&["restore", &file, "--data", &data.display().to_string()], "--force");
    let other = Server::builder().data(&data).start();
    assert_eq!(state(&other), before);
    let chain = other.api_post("/api/v2/config-audit/chain/verify", &json!({})).must_be(200).json();
    assert_eq!(chain["ok"], true, "{chain}");
    let lines = other.api_get("/api/v2/config-audit?table_name=backups")["changes"].clone();
    assert_eq!(lines[0]["reason"], "CHG-1", "who took it is in the log that it holds");
    assert!(!fs::exists(data.join("replaced")).expect("readable") && !holds_secret(&data), "no secret came along");
}

/// Whether the restored configuration has the old appliance's own key file; the new one makes its own.
fn holds_secret(data: &Path) -> bool {
    fs::read_to_string(data.join("secrets.toml")).is_ok_and(|text| text.contains(ADMIN_KEY))
}

#[test]
fn a_damaged_backup_is_found_and_touches_nothing() {
    let server = Server::builder().start();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("backup.tar.gz");
    let name = file.display().to_string();
    let url = format!("http://{}", server.ports.web);
    succeed(&["backup", "create", &name, "--url", &url]);
    assert!(succeed(&["backup", "verify", &name]).contains("whole"));
    refused(&["backup", "create", &name, "--url", &url], "cannot write");
    let mut bytes = fs::read(&file).expect("written");
    let middle = bytes.len() / 2;
    // A single byte of the compressed stream may be the code of something that does not occur, and mean nothing.
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(&file, bytes).expect("written");
    refused(&["backup", "verify", &name], "no whole backup");
    let data = folder.path().join("restored");
    refused(&["restore", &name, "--data", &data.display().to_string()], "no whole backup");
    assert!(!data.join("store").exists());
    let operator =
        server.api_post("/api/v2/keys", &json!({"name": "operator", "scopes": ["write"]})).must_be(201).json();
    let key = operator["value"].as_str().expect("a value").to_owned();
    Request::post(server.ports.web, "/api/v2/backup").key(&key).expect().must_be(403);
}
