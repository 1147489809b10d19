//! Retention to operators in states that only years or harm bring: more archives than a page lists, a damaged one, a manifest
//! in doubt. On the pages, over the API, by the command line and in the metrics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use regex::Regex;
use serde_json::json;

use crate::retention::{muttd, past_days};
use crate::support::{ADMIN_KEY, Browser, Form, Server, eventually};

const PASSWORD: &str = "a long enough password 42";
const ARCHIVES: &str = "/admin/retention/archives";

fn server(dir: &Path) -> Server {
    Server::builder().data(dir).env("MUTTD_ADMIN_PASSWORD", PASSWORD).start()
}

fn logged_in(server: &Server) -> Browser {
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    browser
}

/// The archives a page lists.
fn listed(page: &str) -> BTreeSet<String> {
    let name = Regex::new(r"events-\d{4}-\d\d-\d\d(?:\.\d+)?\.ndjson\.zst</td>").unwrap();
    name.find_iter(page).map(|found| found.as_str().trim_end_matches("</td>").to_owned()).collect()
}

/// Where the link to the next page leads.
fn next_page(page: &str) -> Option<String> {
    let link = Regex::new(r#"rel="next" href="([^"]*)""#).unwrap();
    link.captures(page).map(|found| found[1].replace("&amp;", "&").replace("&#38;", "&"))
}

/// What `muttd` prints, and whether it ended well.
fn told(server: &Server, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.args(args).args(["--url", &format!("http://{}", server.ports.web)]);
    command.env_clear().env("MUTTD_ADMIN_API_KEY", ADMIN_KEY);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Pages of the list follow each other, also when the archive that a cursor names is not there any more. Answers with every name.
fn check_the_list(server: &Server) -> Vec<String> {
    let mut browser = logged_in(server);
    let first = browser.open(ARCHIVES).must_be(200).text();
    let next = next_page(&first).unwrap();
    let second = browser.open(&next).must_be(200).text();
    let (newer, older) = (listed(&first), listed(&second));
    assert_eq!((newer.len(), older.len()), (50, 9), "{first}");
    assert!(newer.first() > older.last() && first.contains("59 archives") && second.contains(">Newest<"));
    assert_eq!(next_page(&second), None);
    let last = newer.first().unwrap();
    assert!(next.ends_with(&format!("cursor={last}")), "{next}");
    let moved = last.replace(".ndjson", ".7.ndjson");
    assert_eq!(listed(&browser.open(&format!("{ARCHIVES}?cursor={moved}")).text()).len(), 10);
    browser.open(&format!("{ARCHIVES}?cursor=50")).must_be(400);
    let (mut cursor, mut all) = (String::new(), Vec::new());
    loop {
        let page = server.api_get(&format!("/api/v2/archives?limit=25{cursor}"));
        all.extend(page["archives"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let mut names: Vec<String> = newer.union(&older).cloned().collect();
    names.reverse();
    assert_eq!(all, names);
    names
}

/// A bit flips in an archive, and back.
fn check_a_damaged_one(server: &Server, dir: &Path, damaged: &str) {
    let path = dir.join("archive").join(&damaged[7..11]).join(damaged);
    let whole = std::fs::read(&path).unwrap();
    let mut altered = whole.clone();
    altered[30] ^= 4;
    std::fs::write(&path, &altered).unwrap();
    assert_eq!(server.metrics().sum("mutt_archives_damaged", &[]), 0);
    let mut browser = logged_in(server);
    let first = browser.open(ARCHIVES).must_be(200).text();
    let form = Form::on(&first, "name").filled(&[("name", damaged)]);
    let found = browser.submit(&form).must_be(200).text();
    assert!(found.contains("1 archive is not what was archived") && found.contains("badge bad"), "{found}");
    let page = browser.open("/admin/retention").must_be(200).text();
    assert!(page.contains(&format!("1 archive is not what was archived: {damaged}")), "{page}");
    assert_eq!(server.metrics().sum("mutt_archives_damaged", &[]), 1);
    assert_eq!(server.metrics().sum("mutt_archives_verified_total", &[("result", "damaged")]), 1);
    assert_eq!(server.api_get("/api/v2/retention")["archive"]["damaged"], json!([damaged]));
    let (ok, text) = told(server, &["retention", "status"]);
    assert!(ok && text.contains(&format!("DAMAGED {damaged}")), "{text}");
    let (ok, text) = told(server, &["archive", "verify"]);
    assert!(!ok && text.contains("59 archives were read") && text.contains(damaged), "{text}");
    std::fs::write(&path, &whole).unwrap();
    let (ok, text) = told(server, &["archive", "verify"]);
    assert!(ok && text.contains("59 archives were read"), "{text}");
    assert_eq!(server.metrics().sum("mutt_archives_damaged", &[]), 0);
}

/// A line of the manifest is altered while the appliance is stopped; then an admin accepts the archive as it is.
fn check_a_doubt(server: &mut Server, dir: &Path) {
    server.terminate();
    let manifest = dir.join("archive/manifest.ndjson");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"removed\":3", "\"removed\":2", 1)).unwrap();
    server.start_again();
    eventually("the doubt is counted", || {
        (server.metrics().sum("mutt_archive_manifest_in_doubt", &[]) == 1).then_some(())
    });
    let mut browser = logged_in(server);
    for path in ["/admin/retention", ARCHIVES] {
        let page = browser.open(path).must_be(200).text();
        assert!(page.contains("in doubt") && page.contains("line 2: it was altered"), "{path}: {page}");
    }
    let page = browser.open("/admin/retention/search").must_be(200).text();
    assert!(page.contains("in doubt: only archives"), "{page}");
    let checked = browser.open(&format!("{ARCHIVES}?check=1")).must_be(200).text();
    assert!(checked.contains("The manifest: line 2") && checked.contains("the manifest does not know it"), "{checked}");
    let (ok, text) = told(server, &["retention", "run"]);
    assert!(!ok && text.contains("in doubt"), "{text}");
    let status = server.api_get("/api/v2/retention");
    assert!(status["last_report"]["faults"][0].as_str().unwrap().contains("could not begin"), "{status}");
    eventually("the alert is in the audit", || {
        let page = browser.open("/events?q=could%20not%20begin").must_be(200).text();
        page.contains("retention run failed").then_some(())
    });
    let page = browser.open(&format!("{ARCHIVES}/accept")).must_be(200).text();
    let form = Form::on(&page, "reason").filled(&[("reason", "INC-1: a test")]);
    browser.submit(&form).must_be(200);
    let page = browser.open(ARCHIVES).must_be(200).text();
    assert!(!page.contains("in doubt") && page.contains("59 archives"), "{page}");
    assert_eq!(server.metrics().sum("mutt_archive_manifest_in_doubt", &[]), 0);
    let (ok, text) = told(server, &["retention", "run"]);
    assert!(ok, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_archives_a_damaged_one_and_a_manifest_in_doubt_are_shown_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    past_days(&dir, 60, 3).await;
    assert!(muttd(&dir).output().unwrap().status.success());
    let mut server = server(&dir);
    let names = check_the_list(&server);
    check_a_damaged_one(&server, &dir, &names[3]);
    check_a_doubt(&mut server, &dir);
}
