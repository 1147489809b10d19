//! The reference pages say what the program does: `docs/METRICS.md` and `docs/CONFIG.md` are made from the program's own
//! tables, and every route of the API is named in its page. `MUTTD_WRITE_DOCS=1` writes the generated pages anew.

use std::fs;
use std::path::{Path, PathBuf};

use muttd::telemetry::metrics::{ALL, Kind};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"))
}

#[test]
fn the_generated_pages_are_those_of_the_program() {
    for (name, expected) in [
        ("docs/METRICS.md", muttd::telemetry::metrics::reference()),
        ("docs/CONFIG.md", muttd::config::keys::reference()),
    ] {
        if std::env::var_os("MUTTD_WRITE_DOCS").is_some() {
            fs::write(root().join(name), &expected).expect("the page can be written");
        }
        let command = "MUTTD_WRITE_DOCS=1 cargo test --test it docs_in_sync";
        assert!(page(name) == expected, "{name} is out of date; run {command}");
    }
}

#[test]
fn metric_names_are_well_formed() {
    for metric in ALL {
        let counter = metric.name.ends_with("_total");
        assert_eq!(counter, metric.kind == Kind::Counter, "{}: counters, and only they, end in _total", metric.name);
        assert!(metric.name.starts_with("mutt_"), "{}: names begin with mutt_", metric.name);
        assert!(metric.help.ends_with('.'), "{}: the help is a sentence", metric.name);
    }
    let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len(), "a metric is declared twice");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let links = regex::Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").expect("valid pattern");
    let mut broken = Vec::new();
    for file in pages() {
        let text = fs::read_to_string(&file).expect("a page can be read");
        let folder = file.parent().expect("a file has a folder");
        for link in links.captures_iter(&text).filter(|link| !folder.join(&link[1]).exists()) {
            broken.push(format!("{}: {}", file.display(), &link[1]));
        }
    }
    assert!(broken.is_empty(), "links to nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_decision_is_in_the_index() {
    let index = page("docs/adr/README.md");
    let entries = fs::read_dir(root().join("docs/adr")).expect("the folder of decisions can be read");
    let names = entries.map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned());
    let missing: Vec<String> =
        names.filter(|name| name.starts_with("ADR-") && !index.contains(&format!("({name})"))).collect();
    assert!(missing.is_empty(), "not in docs/adr/README.md: {missing:?}");
}

#[test]
fn every_route_of_the_api_is_in_its_page() {
    let route = regex::Regex::new(r#"\.route\(\s*"(/[^"]*)""#).expect("valid pattern");
    let documented = page("docs/API.md");
    let mut missing = std::collections::BTreeSet::new();
    for text in sources(&root().join("src/web/api")) {
        let routes = route.captures_iter(&text).map(|found| format!("/api/v2{}", &found[1]));
        missing.extend(routes.filter(|path| !documented.contains(path.as_str())));
    }
    assert!(missing.is_empty(), "not in docs/API.md: {missing:?}");
}

/// The text of every source file below `folder`.
fn sources(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut texts = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry can be read").path()) {
        if path.is_dir() {
            texts.extend(sources(&path));
        } else {
            texts.push(fs::read_to_string(&path).expect("a source file can be read"));
        }
    }
    texts
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder of pages can be read");
        let files = entries.map(|entry| entry.expect("an entry can be read").path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}
