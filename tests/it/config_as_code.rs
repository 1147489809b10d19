//! The configuration as one file, through the real commands: written, changed, shown, put back, and refused as a whole.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, Receiver, Request, Server, eventually};

fn muttd(server: &Server, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.ports.web);
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.args(arguments).args(["--url", &url]).env("MUTTD_ADMIN_API_KEY", ADMIN_KEY);
    command.output().expect("the command runs")
}

/// Runs a command that must succeed; what it printed.
fn succeed(server: &Server, arguments: &[&str]) -> String {
    let output = muttd(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn import(server: &Server, file: &Path, options: &[&str]) -> String {
    let file = file.display().to_string();
    succeed(server, &[&["import", file.as_str()], options].concat())
}

#[test]
fn a_site_is_written_to_a_file_changed_there_and_taken_to_another_appliance() {
    let receiver = Receiver::start();
    let (server, other) = (Server::start(&receiver), Server::start(&receiver));
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("site.toml");
    server.rule(&json!({"match_string": "it's \"down\"\\d", "match_type": "regex", "syslog_severity": 3}));
    server.api_post("/api/v2/dev-hosts", &json!({"hostname": "lab1"})).must_be(201);
    server.api_post("/api/v2/teams", &json!({"hostname": "sw1", "team_assignment": "ACCESS"})).must_be(201);
    let setting = Request::put(server.ports.web, "/api/v2/config/unhandled_threshold").key(ADMIN_KEY);
    setting.json(&json!({"value": 7})).expect().must_be(200);
    let definition = "# the chat\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/x\"";
    server.api_post("/api/v2/targets", &json!({"definition": definition})).must_be(201);

    succeed(&server, &["export", &file.display().to_string()]);
    let text = fs::read_to_string(&file).expect("written");
    assert_eq!(succeed(&server, &["export"]), text, "the same configuration is the same text");
    assert!(
        import(&server, &file, &["--prune"]).starts_with("0 created, 0 updated, 0 deleted"),
        "an export is what is there"
    );

    let shown = import(&other, &file, &["--dry-run"]);
    assert!(shown.contains("CREATE alert_rules\n") && shown.contains("5 would be created"), "{shown}");
    assert_eq!(other.api_get("/api/v2/rules")["rules"], json!([]), "it was only shown");
    import(&other, &file, &["--reason", "CHG-7"]);
    assert_eq!(succeed(&other, &["export"]), text, "the other appliance has the same configuration");
    let lines = other.api_get("/api/v2/config-audit?limit=10");
    let lines: Vec<&Value> =
        lines["changes"].as_array().expect("`changes`").iter().filter(|line| line["reason"] == "CHG-7").collect();
    assert_eq!(lines.len(), 5, "each change has its line");
    assert!(lines.iter().all(|line| line["correlation_id"] == lines[0]["correlation_id"]));
    assert_eq!(other.api_get("/api/v2/config/unhandled_threshold")["value"], 7);
    assert!(other.api_get("/api/v2/targets").to_string().contains("hook"), "the target is spoken to");

    fs::write(&file, text.replace("unhandled_threshold = 7", "unhandled_threshold = 8")).expect("written");
    let shown = import(&other, &file, &["--prune"]);
    assert!(shown.contains("- value = 7\n  + value = 8\n0 created, 1 updated, 0 deleted"), "{shown}");
    fs::write(&file, "format = 1\nrules = []\ndev_hosts = []").expect("written");
    assert!(import(&other, &file, &["--prune"]).contains("0 created, 0 updated, 2 deleted"));
    assert_eq!(
        other.api_get("/api/v2/teams")["teams"].as_array().map(Vec::len),
        Some(1),
        "a part that is not there stays"
    );
}

#[test]
fn ten_thousand_rules_come_at_once_and_one_fault_refuses_them_all() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("rules.json");
    let rule = |number: usize| json!({"match_string": format!("interface {number} went down on this line card"), "prod_handling": "Page_only", "team_assignment": "NETO"});
    let mut rules: Vec<Value> = (0..10_000).map(rule).collect();
    rules[9_876]["match_type"] = json!("fuzzy");
    let write = |rules: &[Value]| fs::write(&file, json!({"format": 1, "rules": rules}).to_string()).expect("written");
    write(&rules);
    let refused = muttd(&server, &["import", &file.display().to_string()]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("rules[9876]"), "{why}");
    assert_eq!(server.api_get("/api/v2/rules?limit=1")["rules"], json!([]), "nothing was changed");
    rules[9_876] = rule(9_876);
    write(&rules);
    assert!(import(&server, &file, &[]).contains("10000 created, 0 updated, 0 deleted"));
    eventually("all rules are in force", || (server.metrics().sum("mutt_rules_active", &[]) == 10_000).then_some(()));
    assert!(
        import(&server, &file, &["--prune"]).contains("0 created, 0 updated, 0 deleted"),
        "the second time nothing changes"
    );
    let verified =
        Request::post(server.ports.web, "/api/v2/config-audit/chain/verify").key(ADMIN_KEY).json(&json!({})).expect();
    assert_eq!(verified.must_be(200).json()["ok"], true);
}
