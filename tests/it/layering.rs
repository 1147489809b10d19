//! The house order as a test: who may import whom, where each crate lives, how long a file may be, that each file says
//! what it is for. It reads the sources; test modules are left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Imported by everyone; among themselves free, but nothing above them.
const GROUND: &[&str] = &["model", "clock", "live", "net", "telemetry", "tls", "secret", "access"];

/// What each module may import besides itself and the ground.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("vault", &[]),
    ("oidc", &[]),
    ("queue", &[]),
    ("store", &[]),
    ("ingest", &["queue"]),
    ("alerter", &["queue", "store", "rules"]),
    ("forward", &["queue", "store"]),
    ("remedy", &["queue"]),
    ("upkeep", &["queue", "store", "rules"]),
    ("config", &["ingest", "alerter", "forward", "remedy", "upkeep", "queue", "store", "vault", "oidc"]),
    ("admin", &["queue", "store", "rules", "remedy", "upkeep", "config", "vault", "oidc"]),
    ("web", &["admin", "config"]),
    ("cli", &["admin", "config", "app", "vault"]),
];

/// What single files may import on top. The benchmark measures stages on their own and reads the audit of a server that has
/// ended; going through `admin` it would measure something else.
const EXCEPTIONS: &[(&str, &[&str])] = &[("cli/bench/", &["queue", "store", "rules", "ingest"])];

/// Crates with a home: the path prefixes under `src/` that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("sled", &["queue/"]),
    ("rusqlite", &["store/sqlite/"]),
    ("governor", &["ingest/gate.rs", "forward/limit.rs"]),
    ("reqwest", &["forward/", "cli/", "vault/", "net/outbound.rs", "telemetry/otlp/", "oidc/provider.rs"]),
    ("lettre", &["forward/targets/smtp", "forward/targets/mail.rs"]),
    ("minijinja", &["forward/targets/template.rs"]),
    ("tokio_rustls", &["forward/targets/wire.rs", "net/tls/"]),
    ("rcgen", &["net/tls/"]),
    ("ring", &["oidc/token.rs", "forward/targets/webhook.rs", "store/sqlite/trail/", "admin/trail"]),
    ("rustls", &["tls.rs", "net/", "forward/", "app"]),
    (
        "axum",
        &["web/", "ingest/http", "net/http", "net/problem", "net/refusals", "net/api_version", "cli/mock_moog", "app"],
    ),
    ("askama", &["web/"]),
    ("utoipa", &["web/", "admin/", "ingest/http"]),
    ("utoipa_axum", &["web/"]),
    ("argon2", &["admin/"]),
    ("zstd", &["store/", "upkeep/"]),
    ("lz4_flex", &["queue/", "store/"]),
    ("clap", &["cli/", "main.rs"]),
    ("toml", &["config/"]),
    ("toml_edit", &["config/secrets/edit.rs"]),
    ("zeroize", &["secret", "config/secrets/", "vault/", "cli/secrets.rs"]),
];

/// Longest file in lines, its tests excluded.
const LONGEST: usize = 600;

/// One source file without its test module.
struct Source {
    /// Its path below `src/`, with `/`.
    path: String,
    code: String,
    lines: usize,
    opens_with: String,
}

#[test]
fn modules_import_only_what_is_below_them() {
    let faults: Vec<String> = sources().iter().flat_map(import_faults).collect();
    assert!(faults.is_empty(), "imports against the house order:\n{}", faults.join("\n"));
}

#[test]
fn crates_stay_in_their_homes() {
    let faults: Vec<String> = sources().iter().flat_map(home_faults).collect();
    assert!(faults.is_empty(), "crates outside their homes:\n{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.opens_with.starts_with("//! ") {
            faults.push(format!("src/{} does not open with `//! ` and a sentence", source.path));
        }
        if source.lines > LONGEST {
            faults.push(format!(
                "src/{} has {} lines without its tests; {LONGEST} is the most",
                source.path, source.lines
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn forbidden_imports_would_be_found() {
    let check = |path: &str, code: &str, faults: usize| {
        let source = sample(path, code);
        let found = [import_faults(&source), home_faults(&source)].concat();
        assert_eq!(found.len(), faults, "{path}: {code}: {found:?}");
    };
    check("rules/judge.rs", "use crate::store::Stores;", 1);
    check("rules/judge.rs", "use crate::clock::Clock;", 1);
    check("rules/judge.rs", "use crate::model::Event;", 0);
    check("rules/mod.rs", "fn f() { tokio::spawn(x) }", 1);
    check("ingest/http.rs", "use crate::{model::{Event, Rule}, alerter::Worker};", 1);
    check("ingest/http.rs", "let x = crate::forward::start();", 1);
    check("ingest/snmp/mod.rs", "use super::super::store::Stores;", 1);
    check("ingest/mod.rs", "use super::store::Stores;", 1);
    check("ingest/snmp/mod.rs", "use super::settings::Settings;", 0);
    check("queue/sled/mod.rs", "use crate::store::Stores;", 1);
    check("web/api.rs", "use crate::queue::Queue; // why", 1);
    check("web/api.rs", "// crate::queue is spoken of only", 0);
    check("web/api.rs", "let c = rusqlite::Connection::open(p);", 1);
    check("model/event.rs", "use crate::queue::Queue;", 1);
    check("config/mod.rs", "use crate::web::Options;", 1);
    check("app.rs", "use crate::{web, alerter, forward};", 0);
    check("upkeep/slo.rs", "use crate::config::Config;", 1);
    check("queue/sled/mod.rs", "let db = sled::open(path);", 0);
    check("cli/bench/stages.rs", "use crate::queue::Queue;", 0);
    check("cli/send/run.rs", "use crate::queue::Queue;", 1);
    check("alerter/worker.rs", "use reqwest::Client;", 1);
}

/// Imports of `source` that the table does not allow.
fn import_faults(source: &Source) -> Vec<String> {
    let module = top_module(&source.path);
    if ["lib", "app", "main"].contains(&module) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for import in imports(source) {
        if import != module && !is_allowed(module, &import) && !is_excepted(&source.path, &import) {
            faults.push(format!("src/{} imports crate::{import}", source.path));
        }
    }
    if module == "rules" && names(&source.code, "tokio::") {
        faults.push(format!("src/{} uses tokio; rules are pure", source.path));
    }
    faults
}

fn is_allowed(module: &str, import: &str) -> bool {
    match module {
        "model" => false,
        "rules" => import == "model",
        _ if GROUND.contains(&import) => true,
        _ => MAY_IMPORT.iter().any(|(name, allowed)| *name == module && allowed.contains(&import)),
    }
}

fn is_excepted(path: &str, import: &str) -> bool {
    EXCEPTIONS.iter().any(|(prefix, allowed)| path.starts_with(prefix) && allowed.contains(&import))
}

fn home_faults(source: &Source) -> Vec<String> {
    let away = HOMES.iter().filter(|(name, homes)| {
        let used = names(&source.code, &format!("{name}::")) || names(&source.code, &format!("use {name};"));
        used && !homes.iter().any(|home| source.path.starts_with(home))
    });
    away.map(|(name, homes)| format!("src/{} uses {name}, whose home is {homes:?}", source.path)).collect()
}

/// Whether `wanted` begins a path somewhere in `code`: `sled::` does in `use sled::Db`, not in `crate::queue::sled::Log`.
fn names(code: &str, wanted: &str) -> bool {
    ends_of(code, wanted).next().is_some()
}

/// Where each occurrence of `wanted` ends that is neither part of a longer name nor of a longer path.
fn ends_of<'a>(code: &'a str, wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(wanted)
        .filter(|(start, _)| !code[..*start].ends_with(is_inside_path))
        .map(|(start, _)| start + wanted.len())
}

fn is_inside_path(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == ':' || character == '.'
}

/// Top-level modules that `source` names through `crate::` or through enough `super::`.
fn imports(source: &Source) -> BTreeSet<String> {
    let depth = source.path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
    let starts = ["crate::".to_owned(), "super::".repeat(depth)];
    let ends = starts.iter().flat_map(|start| ends_of(&source.code, start));
    ends.flat_map(|end| heads(&source.code[end..])).collect()
}

/// The first names of a path or of a brace list of paths: `a::b` gives a; `{a::{b, c}, d}` gives a and d.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut heads, mut current) = (1, Vec::new(), String::new());
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(name(&std::mem::take(&mut current))),
            other if depth == 1 => current.push(other),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.push(name(&current));
    heads.retain(|head| !head.is_empty());
    heads
}

fn top_module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn sample(path: &str, code: &str) -> Source {
    read(path.to_owned(), &format!("//! Sample.\n{code}\n"))
}

fn read(path: String, text: &str) -> Source {
    let own = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let code = own.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let opens_with = text.lines().next().unwrap_or("").to_owned();
    Source { path, code, lines: own.lines().count(), opens_with }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let texts = files.iter().map(|file| {
        let path = file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        (path, fs::read_to_string(file).expect("a source file can be read"))
    });
    let texts: Vec<(String, String)> = texts.collect();
    let tests: BTreeSet<String> = texts.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    texts.iter().filter(|(path, _)| !tests.contains(path)).map(|(path, text)| read(path.clone(), text)).collect()
}

/// Files that `text` declares as modules for tests only.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let folder = path.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/');
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().next()?.trim().strip_suffix(';')?;
        line.rsplit_once("mod ").map(|(_, name)| format!("{folder}/{name}.rs"))
    });
    declared.collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
