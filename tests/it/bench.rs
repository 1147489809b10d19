//! The benchmark measures what it says: nothing it sends is lost or doubled, and it leaves nothing behind. Its figures are
//! not looked at; an unoptimised build on a busy machine says nothing about speed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// Runs `muttd bench` with these arguments; the answer is its report as JSON and as text.
fn bench(arguments: &[&str]) -> (Value, String) {
    let folder = TempDir::new().expect("a temporary directory");
    let report = folder.path().join("report.json");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("the folder is made");
    let path = |path: &Path| path.to_str().expect("a temporary path is text").to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_muttd"))
        .arg("bench")
        .args(["--dir", &path(&data), "--json", &path(&report), "--warm-up", "1"])
        .args(arguments)
        .output()
        .expect("the program can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
    assert_eq!(fs::read_dir(&data).expect("the folder is there").count(), 0, "data stayed behind");
    let json = fs::read_to_string(&report).expect("the report is written");
    let text = String::from_utf8(output.stdout).expect("text");
    (serde_json::from_str(&json).expect("JSON"), text)
}

#[test]
fn what_the_benchmark_sends_is_found_once_in_the_audit() {
    let inputs = "syslog-tcp,http,http-batch";
    let (report, text) = bench(&["--inputs", inputs, "--rules", "10", "--seconds", "1", "--match-percent", "0,20"]);
    let measurements = report["measurements"].as_array().expect("a list");
    assert_eq!(measurements.len(), 6, "three inputs with two shares of matches: {text}");
    for measurement in measurements {
        let number = |name: &str| measurement[name].as_u64().unwrap_or_else(|| panic!("`{name}` in {measurement}"));
        assert_eq!((number("lost"), number("doubled"), number("refused")), (0, 0, 0), "{measurement}");
        assert_eq!(number("processed"), number("sent"), "{measurement}");
        let audit = &measurement["audit"];
        assert_eq!((&audit["missing"], &audit["unexpected"]), (&Value::from(0), &Value::from(0)), "{measurement}");
        assert_eq!(audit["rows"], audit["expected"], "{measurement}");
        let share = measurement["matched_percent"].as_f64().expect("a share");
        assert_eq!(share > 0.0, audit["expected"].as_u64() > Some(0), "{measurement}");
    }
    assert!(text.contains("http-batch"), "{text}");
}

#[test]
fn a_flood_is_accounted_for_and_a_backlog_is_worked_off() {
    let (report, text) =
        bench(&["--flood", "--flood-rate", "20000", "--backlog", "5000", "--rules", "10", "--seconds", "2"]);
    let flood = &report["flood"];
    assert_eq!((&flood["unaccounted"], &flood["page_failures"]), (&Value::from(0), &Value::from(0)), "{text}");
    assert!(flood["pages"].as_u64() > Some(0) && flood["taken"].as_u64() > Some(0), "{text}");
    assert_eq!((&report["backlog"]["events"], &report["backlog"]["lost"]), (&Value::from(5_000), &Value::from(0)));
    assert!(report["measurements"].as_array().is_some_and(Vec::is_empty), "only what was named is measured: {text}");
}

#[test]
fn what_is_archived_is_whole_and_small() {
    let (report, text) = bench(&["--archive", "3000", "--rules", "10"]);
    let archive = &report["archive"];
    let number = |name: &str| archive[name].as_f64().unwrap_or_else(|| panic!("`{name}` in {archive}"));
    assert_eq!((&archive["stopped"]["rows"], &archive["loaded"]["rows"]), (&Value::from(3_000), &Value::from(600)));
    assert!(number("files") >= 30.0 && number("load_dropped") == 0.0, "{text}");
    assert!(number("archive_bytes_per_row") > 0.0 && number("load_judged_per_second") > 0.0, "{text}");
    assert!(text.contains("while events come in"), "{text}");
}
