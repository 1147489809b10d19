//! What is shipped for Prometheus and Grafana (`packaging/`) is true: `promtool` accepts it and its unit tests pass, every
//! metric it asks for exists, and a real Prometheus with these rules watches a real server.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use muttd::telemetry::metrics::{ALL, Kind};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    ADMIN_KEY, INGEST_KEY, Receiver, Request, Server, Tool, encode, eventually, eventually_within, free_address,
};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn shipped(name: &str) -> String {
    let path = packaging().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

const RECORDING: &str = "prometheus/recording.rules.yml";
const ALERTS: &str = "prometheus/alerts.rules.yml";

#[test]
fn promtool_accepts_the_rules_and_their_unit_tests_pass() {
    let folder = packaging().join("prometheus");
    let promtool = |arguments: &[&str]| {
        let mut command = Tool::new("promtool").args(arguments).into_command();
        let output = command.current_dir(&folder).output().expect("promtool can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    };
    promtool(&["check", "rules", "recording.rules.yml", "alerts.rules.yml"]);
    promtool(&["test", "rules", "alerts.test.yml", "retention.test.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn every_metric_that_rules_and_dashboard_ask_for_exists() {
    let metric = Regex::new(r"\bmutt_[a-z0-9_]+").expect("valid pattern");
    let record = Regex::new(r"record: (mutt:[a-z0-9_:]+)").expect("valid pattern");
    let recorded_name = Regex::new(r"\bmutt:[a-z0-9_:]+").expect("valid pattern");
    let recorded: BTreeSet<String> =
        record.captures_iter(&shipped(RECORDING)).map(|found| found[1].to_owned()).collect();
    let known = |name: &str| {
        ALL.iter().any(|metric| {
            metric.name == name
                || metric.kind == Kind::Histogram
                    && ["_bucket", "_sum", "_count"].iter().any(|part| name == format!("{}{part}", metric.name))
        })
    };
    for file in [RECORDING, ALERTS, "grafana/muttd.json"] {
        let text = shipped(file);
        let unknown: BTreeSet<&str> =
            metric.find_iter(&text).map(|found| found.as_str()).filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "{file} asks for metrics that do not exist: {unknown:?}");
        let missing: BTreeSet<&str> = recorded_name
            .find_iter(&text)
            .map(|found| found.as_str())
            .filter(|name| !recorded.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{file} asks for what no rule records: {missing:?}");
    }
}

#[test]
fn every_alert_names_a_section_of_the_runbook() {
    let runbook =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RUNBOOK.md")).expect("the runbook");
    let sections: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let link = Regex::new(r"runbook: docs/RUNBOOK.md#(\S+)").expect("valid pattern");
    let alerts = shipped(ALERTS);
    let linked: Vec<&str> =
        link.captures_iter(&alerts).map(|found| found.get(1).expect("a section").as_str()).collect();
    assert_eq!(linked.len(), alerts.matches("- alert:").count(), "an alert names no section");
    let missing: Vec<&&str> = linked.iter().filter(|section| !sections.contains(**section)).collect();
    assert!(missing.is_empty(), "docs/RUNBOOK.md has no such sections: {missing:?}");
}

#[test]
fn promtool_finds_nothing_wrong_with_what_metrics_says() {
    let receiver = Receiver::start();
    let server = busy(&receiver);
    let text = Request::get(server.ports.web, "/metrics").expect().must_be(200).text();
    let mut command = Tool::new("promtool").args(["check", "metrics"]).into_command();
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool can be run");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    // MUTT 2.x counts this one in days, and its dashboards look for that name.
    let kept_name = "mutt_oldest_event_age_days use base unit \"seconds\" instead of \"days\"";
    let said = String::from_utf8_lossy(&output.stderr);
    let faults: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty() && *line != kept_name).collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert!(output.status.success() || said.contains(kept_name), "promtool failed and did not say why");
}

#[test]
fn a_prometheus_with_the_shipped_rules_watches_a_server() {
    let receiver = Receiver::start();
    let server = busy(&receiver);
    let prometheus = Prometheus::start(server.ports.web);
    eventually("the server is scraped", || {
        (prometheus.query("up{job=\"muttd\"}") == Some("1".to_owned())).then_some(())
    });
    eventually("the rules have been evaluated", || {
        let answer = prometheus.get("/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array()?.clone();
        let rules: Vec<&Value> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        for rule in &rules {
            assert_ne!(rule["health"], "err", "{}: {}", rule["name"], rule["lastError"]);
        }
        (rules.len() > 50 && rules.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
    // Rates need two scrapes with traffic between them.
    eventually("what arrives is seen as a rate", || {
        server.ingest(&json!({"hostname": "rt1", "message": "kestrel again", "timestamp": "2026-01-01T00:00:00Z"}));
        let rate: f64 = prometheus.query("sum(mutt:events_received:rate5m)")?.parse().ok()?;
        (rate > 0.0).then_some(())
    });
    eventually("the service levels are met", || {
        (prometheus.query("max(mutt:slo_error_ratio:rate5m)")? == "0").then_some(())
    });
    assert_eq!(prometheus.query("count(ALERTS{alertstate=\"firing\"})"), None, "a healthy server raises no alarm");
}

#[test]
fn service_levels_are_those_that_prometheus_computes_and_a_change_of_state_is_an_alert() {
    let receiver = Receiver::start();
    let prometheus = free_address();
    let server = Server::builder()
        .delivering_to(&receiver)
        .dynamic("ingest_max_rate", "20")
        .dynamic("ingest_rate_window", "1")
        .env("PROMETHEUS_URL", format!("http://{prometheus}/"))
        .env("MUTTD_SLO_PROMETHEUS_MATCHERS", "job=\"muttd\"")
        .start();
    let away = eventually("that Prometheus is away is told", || {
        let report = server.api_get("/api/v2/slo");
        report["prometheus"]["error"].is_string().then_some(report)
    });
    assert_eq!((&away["prometheus"]["checked_at"], &away["status"]), (&Value::Null, &json!("ok")));
    let prometheus = Prometheus::start_at(prometheus, server.ports.web);
    let event = json!({"hostname": "rt1", "message": "kestrel", "timestamp": "2026-01-01T00:00:00Z"});
    let batch = Value::Array(vec![event; 40]);
    // More than half of what comes is refused, evenly, until the change of state has been told.
    let alert = eventually_within(Duration::from_secs(150), "the change of state arrives as an alert", || {
        let end = Instant::now() + Duration::from_millis(500);
        Request::post(server.ports.ingest, "/api/v2/ingest").key(INGEST_KEY).json(&batch).expect();
        std::thread::park_timeout(end.saturating_duration_since(Instant::now()));
        receiver.taken("service level ingest_availability is critical").into_iter().next()
    });
    assert!(alert.member("signature").ends_with(":unhandled:service level ingest_availability"), "{alert:?}");
    let report = server.api_get("/api/v2/slo");
    let of = |report: &Value, name: &str| -> Value {
        let levels = report["slos"].as_array().expect("`slos`").iter();
        levels.clone().find(|level| level["slo"] == name).cloned().expect("the level")
    };
    let level = of(&report, "ingest_availability");
    assert_eq!((&level["state"], &report["status"]), (&json!("critical"), &json!("critical")));
    let ours = level["windows"][0]["error_ratio"].as_f64().expect("a ratio");
    let query = "max(mutt:slo_error_ratio:rate5m{slo=\"ingest_availability\"})";
    let theirs: f64 = prometheus.query(query).and_then(|ratio| ratio.parse().ok()).expect("Prometheus has a ratio");
    // Prometheus scrapes each second, the appliance reads every ten: the ends differ by a few batches.
    assert!((ours - theirs).abs() < 0.05, "the appliance says {ours}, Prometheus {theirs}");
    assert!(ours > 0.2, "much was refused: {ours}");
    let asked = eventually_within(Duration::from_secs(90), "Prometheus is asked by the appliance", || {
        let asked = server.api_get("/api/v2/slo")["prometheus"].take();
        let levels = asked["slos"].as_array()?.clone();
        let level = levels.into_iter().find(|level| level["slo"] == "ingest_availability")?;
        level["windows"][0]["error_ratio"].as_f64().filter(|ratio| *ratio > 0.2 && asked["error"].is_null())
    });
    assert!((asked - ours).abs() < 0.1, "the appliance says {ours}, and reads {asked} from Prometheus");
    assert_eq!(of(&report, "processing_success")["state"], "ok");
    let status = server.api_get("/api/v2/slo/status");
    assert_eq!(status["critical"], json!(["ingest_availability"]));
    let old = server.api_get("/api/v1/slo");
    assert_eq!(old["components"]["ingestor"]["state"], "critical");
    assert_eq!(old["components"]["forwarder"]["target"], 0.995);
    let shown = Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(["slo", "--url", &format!("http://{}", server.ports.web)])
        .env("MUTTD_ADMIN_API_KEY", ADMIN_KEY)
        .output()
        .expect("the command runs");
    let table = String::from_utf8_lossy(&shown.stdout);
    assert!(table.contains("ingest_availability    critical"), "{table}");
    assert_eq!(shown.status.code(), Some(1), "a critical level fails the command");
}

/// A server that has received, refused, judged and delivered something, so that most metrics have a value.
fn busy(receiver: &Receiver) -> Server {
    let server = Server::start(receiver);
    server.forward_rule("kestrel");
    server.ingest(&json!({"hostname": "rt1", "message": "kestrel fan failed", "timestamp": "2026-01-01T00:00:00Z"}));
    eventually("the alert arrives", || receiver.taken("kestrel fan failed").into_iter().next());
    server.check_counters();
    server
}

/// A Prometheus of our own with the shipped rules, evaluated each second.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Prometheus {
    fn start(server: SocketAddr) -> Self {
        Self::start_at(free_address(), server)
    }

    fn start_at(address: SocketAddr, server: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let interval = Regex::new(r"interval: \w+").expect("valid pattern");
        for name in ["recording.rules.yml", "alerts.rules.yml"] {
            let text = shipped(&format!("prometheus/{name}"));
            let quick = interval.replace_all(&text, "interval: 1s").into_owned();
            fs::write(folder.path().join(name), quick).expect("a rule file can be written");
        }
        let config = interval
            .replace_all(&shipped("prometheus/prometheus.yml"), "interval: 1s")
            .replace("127.0.0.1:8090", &server.to_string());
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("the configuration can be written");
        let child = Tool::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .into_command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus can be started");
        Self { address, child, _folder: folder }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let answer = Request::get(self.address, path).send().ok().filter(|answer| answer.status == 200)?;
        Some(answer.json())
    }

    /// The first value of an instant query; `None` while there is none.
    fn query(&self, expression: &str) -> Option<String> {
        let answer = self.get(&format!("/api/v1/query?query={}", encode(expression)))?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
