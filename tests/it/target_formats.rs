//! What each kind of target sends: the program is started with the configurations that `docs/TARGETS.md` shows, and what
//! arrives at real listeners must be what the page says.

mod recorder;

use std::collections::BTreeMap;

use muttd::forward::{KINDS, TargetKind};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use toml::Table;

use crate::support::{INGEST_KEY, Request, Server, eventually};
use recorder::{Recorded, Seen, tls_file};

/// One kind's section of the page.
struct Section {
    kind: &'static str,
    /// Its blocks by language, the first of each.
    blocks: BTreeMap<String, String>,
}

impl Section {
    fn block(&self, language: &str) -> &str {
        let block = self.blocks.get(language);
        block.unwrap_or_else(|| panic!("docs/TARGETS.md shows no ```{language} for `{}`", self.kind))
    }

    fn secret(&self) -> String {
        format!("secret-of-{}-0123456789", self.kind)
    }
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TARGETS.md");
    std::fs::read_to_string(path).expect("docs/TARGETS.md can be read")
}

fn blocks(text: &str) -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::new();
    for block in text.split("\n```").collect::<Vec<_>>().chunks(2).filter_map(|pair| pair.get(1)) {
        let (language, body) = block.split_once('\n').expect("a block has lines");
        blocks.entry(language.to_owned()).or_insert_with(|| body.to_owned());
    }
    blocks
}

fn sections(page: &str) -> Vec<Section> {
    let section = |kind: &'static str| {
        let start = page.split(&format!("\n## {kind}\n")).nth(1);
        let start = start.unwrap_or_else(|| panic!("docs/TARGETS.md has no section for `{kind}`"));
        Section { kind, blocks: blocks(start.split("\n## ").next().expect("a section")) }
    };
    KINDS.iter().map(|kind| section(kind.name)).collect()
}

/// Where what a section describes arrives.
enum Inbox {
    Http(Seen<Recorded>),
    Text(Seen<String>),
}

/// The section's configuration with a recorder in the place of the receiver, and the value of its secret.
fn wired(section: &Section) -> (Table, String, Inbox) {
    let mut table: Table = section.block("toml").parse().expect("the section's configuration is TOML");
    table.insert("name".into(), section.kind.into());
    // One alert, at once.
    table.remove("coalesce_seconds");
    let local = |table: &mut Table, port: u16| {
        table.insert("server".into(), "127.0.0.1".into());
        table.insert("port".into(), i64::from(port).into());
    };
    match section.kind {
        "smtp" => {
            let (port, seen) = recorder::smtp();
            local(&mut table, port);
            table.insert("tls".into(), "none".into());
            (table, section.secret(), Inbox::Text(seen))
        }
        "syslog" => {
            let (port, seen) = recorder::syslog();
            local(&mut table, port);
            table.insert("transport".into(), "tcp".into());
            (table, section.secret(), Inbox::Text(seen))
        }
        kind => {
            let answer = match kind {
                "slack" | "mattermost" => "ok",
                _ => "{\"answer\": \"taken\", \"code\": 0}",
            };
            let (port, seen) = recorder::http(answer);
            let secret = match table.get("url").and_then(toml::Value::as_str) {
                Some(url) => {
                    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
                    table.insert("url".into(), format!("http://127.0.0.1:{port}/{path}").into());
                    section.secret()
                }
                None => format!("http://127.0.0.1:{port}/{}", section.secret()),
            };
            (table, secret, Inbox::Http(seen))
        }
    }
}

/// A server with these targets, which forwards everything, and the secrets they name.
fn start(folder: &TempDir, targets: Vec<Table>, environment: &[(String, String)]) -> Server {
    let file = Table::from_iter([("targets".to_owned(), toml::Value::from(targets))]);
    std::fs::write(folder.path().join("muttd.toml"), file.to_string()).expect("muttd.toml is written");
    let builder = Server::builder().data(folder.path());
    let server = environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value.as_str())).start();
    server.rule(&json!({"match_string": "Link", "team_assignment": "NETO"}));
    server
}

fn post(server: &Server, event: &Value) {
    Request::post(server.ports.ingest, "/api/v2/ingest")
        .key(INGEST_KEY)
        .header("X-Correlation-ID", "ticket-4711")
        .json(event)
        .expect()
        .must_be(200);
}

/// What stands for values that differ from run to run.
struct Actual {
    id: String,
    received: String,
    raw: String,
    /// The alert as JSON.
    alert: Value,
}

impl Actual {
    fn text(&self, text: &str, secret: &str) -> String {
        let text = text.replace("<event id>", &self.id).replace("<secret>", secret);
        text.replace("<received>", &self.received).replace("<raw>", &self.raw)
    }

    /// The documented value with everything filled in.
    fn filled(&self, value: &Value, secret: &str) -> Value {
        match value {
            Value::String(text) if text == "<the alert>" => self.alert.clone(),
            Value::String(text) => json!(self.text(text, secret)),
            Value::Array(items) => items.iter().map(|item| self.filled(item, secret)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.filled(value, secret))).collect()
            }
            other => other.clone(),
        }
    }

    /// What arrived, with the marks of the page where only the form can be known.
    fn marked(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.marked(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    let text = value.as_str().unwrap_or_default();
                    if name == "endsAt" && text > self.received.as_str() {
                        *value = json!("<later>");
                    } else if name == "additional_info"
                        && serde_json::from_str::<Value>(text).ok() == Some(self.alert.clone())
                    {
                        *value = json!("<the alert as text>");
                    } else {
                        self.marked(value);
                    }
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_kind_sends_what_its_page_says() {
    let page = page();
    let sections = sections(&page);
    let folder = TempDir::new().expect("a temporary directory");
    let (mut targets, mut environment, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
    for section in &sections {
        let (table, secret, inbox) = wired(section);
        for key in ["secret", "signature_secret"] {
            if let Some(name) = table.get(key).and_then(toml::Value::as_str) {
                environment.push((format!("MUTTD_SECRET_{}", name.to_uppercase()), secret.clone()));
            }
        }
        targets.push(table);
        inboxes.push((secret, inbox));
    }
    let server = start(&folder, targets, &environment);
    let event: Value = serde_json::from_str(&blocks(&page)["event"]).expect("the page's event is JSON");
    post(&server, &event);
    let stored = server.event("flaps");
    let text = |name: &str| stored[name].as_str().unwrap_or_else(|| panic!("{name} of {stored}")).to_owned();
    let mut actual = Actual { id: text("id"), received: text("received_at"), raw: text("raw"), alert: Value::Null };
    actual.alert = alert(&sections, &actual);
    for (section, (secret, inbox)) in sections.iter().zip(&inboxes) {
        match inbox {
            Inbox::Http(seen) => check_http(section, &first(section.kind, seen), secret, &actual),
            Inbox::Text(seen) => check_text(section, &first(section.kind, seen), &actual),
        }
    }
    let log = server.log();
    for (secret, _) in &inboxes {
        assert!(!log.contains(secret.as_str()), "a secret was logged: {log}");
    }
}

#[test]
fn the_recipes_of_the_page_are_accepted() {
    let page = page();
    let recipes = page.split("A few recipes:\n\n```toml\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let recipes: Vec<&str> = recipes.expect("recipes").split("\n\n").collect();
    assert_eq!(recipes.len(), 3);
    let webhook = TargetKind::find("webhook").expect("a kind");
    for recipe in recipes {
        let table: Table = recipe.parse().expect("a recipe is TOML");
        let Ok(Value::Object(options)) = serde_json::to_value(table) else { panic!("{recipe} is no table") };
        let prepared = webhook.prepare(options).unwrap_or_else(|why| panic!("{recipe}: {why}"));
        assert!(prepared.needs_secret, "{recipe}");
    }
}

/// The alert as JSON is what `webhook` sends, without what it adds for templates.
fn alert(sections: &[Section], actual: &Actual) -> Value {
    let webhook = sections.iter().find(|section| section.kind == "webhook").expect("webhook");
    let mut alert = actual.filled(&serde_json::from_str(webhook.block("json")).expect("JSON"), "");
    let members = alert.as_object_mut().expect("an object");
    for added in ["unhandled", "headline", "grade", "severity_name", "type", "time"] {
        members.remove(added);
    }
    alert
}

fn first<T: Clone>(kind: &str, seen: &Seen<T>) -> T {
    eventually(&format!("`{kind}` sends"), || seen.lock().expect("no thread panicked").first().cloned())
}

fn check_http(section: &Section, request: &Recorded, secret: &str, actual: &Actual) {
    let kind = section.kind;
    let mut lines = section.block("http").lines();
    let line = lines.next().unwrap_or_default().replace("<the secret address>", &format!("/{}", section.secret()));
    assert_eq!(request.line, line, "{kind}");
    for header in lines {
        let (name, value) = header.split_once(": ").expect("a header");
        let found = request.header(name).unwrap_or_else(|| panic!("{kind} sends no {name}: {request:?}"));
        let expected = match value.strip_prefix("Basic <").and_then(|rest| rest.strip_suffix(":secret>")) {
            Some(user) => format!("Basic {}", base64(format!("{user}:{secret}").as_bytes())),
            None => actual.text(value, secret).replace("<signature>", &signature(secret, &request.body)),
        };
        assert_eq!(found, expected, "{kind}: {name}");
    }
    let expected: Value = serde_json::from_str(section.block("json")).expect("the section's body is JSON");
    let mut body: Value = serde_json::from_str(&request.body).expect("a body of JSON");
    actual.marked(&mut body);
    let expected = actual.filled(&expected, secret);
    assert_eq!(body, expected, "{kind} sent\n{body:#}\nand not\n{expected:#}");
}

fn check_text(section: &Section, text: &str, actual: &Actual) {
    let text = text.replace("\r\n", "\n");
    let language = if section.kind == "smtp" { "mail" } else { section.kind };
    let date = text.lines().find(|line| line.starts_with("Date: ")).unwrap_or_default();
    let expected = actual.text(section.block(language), "").replace("Date: <date>", date);
    assert_eq!(text.trim_end(), expected.trim_end(), "{}", section.kind);
}

fn signature(secret: &str, body: &str) -> String {
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// Three targets that are encrypted, each in its way, to servers of the tests' authority.
fn encrypted_targets() -> (Vec<Table>, [Seen<String>; 3]) {
    let (syslog, frames) = recorder::syslog_over_tls();
    let (implicit, mails) = recorder::smtp_over_tls();
    let (starttls, upgraded) = recorder::smtp_with_starttls();
    let text = format!(
        "[[targets]]\nname = \"relay\"\nkind = \"syslog\"\nserver = \"localhost\"\nport = {syslog}\ntransport = \"tls\"\n\
         [[targets]]\nname = \"implicit\"\nkind = \"smtp\"\nserver = \"localhost\"\nport = {implicit}\ntls = \"implicit\"\n\
         from = \"a@example.org\"\nto = [\"b@example.org\"]\n\
         [[targets]]\nname = \"upgraded\"\nkind = \"smtp\"\nserver = \"localhost\"\nport = {starttls}\ntls = \"starttls\"\n\
         from = \"a@example.org\"\nto = [\"b@example.org\"]\n"
    );
    let file: Table = text.parse().expect("TOML");
    let tables = file["targets"].as_array().expect("targets").iter().filter_map(toml::Value::as_table).cloned();
    (tables.collect(), [frames, mails, upgraded])
}

#[test]
fn encrypted_receivers_get_alerts_if_their_authority_is_known() {
    let folder = TempDir::new().expect("a temporary directory");
    let (targets, inboxes) = encrypted_targets();
    let authority = tls_file("ca.pem").to_string_lossy().into_owned();
    let server = start(&folder, targets, &[("SSL_CERT_FILE".to_owned(), authority)]);
    post(&server, &json!({"hostname": "sw1", "message": "Link is down", "timestamp": "2026-03-01T12:00:00Z"}));
    for (name, seen) in ["relay", "implicit", "upgraded"].iter().zip(&inboxes) {
        assert!(first(name, seen).contains("Link is down"), "{name}");
    }
}

#[test]
fn an_unknown_authority_gets_nothing_and_the_reason_is_shown() {
    let folder = TempDir::new().expect("a temporary directory");
    let (targets, inboxes) = encrypted_targets();
    let server = start(&folder, targets, &[]);
    post(&server, &json!({"hostname": "sw1", "message": "Link is down", "timestamp": "2026-03-01T12:00:00Z"}));
    eventually("each target tells that it does not trust the certificate", || {
        let shown = server.api_get("/api/v2/targets");
        let told = shown["targets"].as_array()?.iter().filter(|target| {
            let text = target.to_string();
            text.contains("certificate") || text.contains("UnknownIssuer")
        });
        (told.count() == 3).then_some(())
    });
    for seen in &inboxes {
        assert!(seen.lock().expect("no thread panicked").is_empty(), "an alert went to a stranger");
    }
}
