//! Secrets are exchanged under load without a gap, by API, file, page, command and clock, and are found nowhere but in
//! `secrets.toml`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, Answer, Browser, Faulty, Form, Mode, Request, Server, ServerBuilder, eventually};

pub const OLD_INGEST: &str = "old-ingest-key-4f1c9a7be2";
pub const OLD_ADMIN: &str = "old-admin-key-83d05b61fa";
pub const OLD_MOOG: &str = "old-receiver-key-c27e94d01b";
pub const NEW_MOOG: &str = "new-receiver-key-5a6f38e9d4";
const COMMUNITY: &str = "community-9e4d7c2b10f8";
const PASSWORD: &str = "first-password-7b3e5d9c1a";

/// Writes `secrets.toml` beside its place and renames it, as careful tools do.
fn keep(data: &Path, text: &str) {
    let (path, fresh) = (data.join("secrets.toml"), data.join("secrets.tmp"));
    std::fs::write(&fresh, text).expect("written");
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    std::fs::rename(fresh, path).expect("renamed");
}

/// A server whose keys are in `secrets.toml` alone, and which delivers to `faulty` with the secret `noc`.
fn house(folder: &TempDir, faulty: &Faulty) -> Server {
    house_with(Server::builder(), folder, faulty)
}

/// The same with what the builder has already.
pub fn house_with(builder: ServerBuilder, folder: &TempDir, faulty: &Faulty) -> Server {
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    keep(
        &data,
        &format!(
            "# ours\ningest_api_key = \"{OLD_INGEST}\"\nadmin_api_key = \"{OLD_ADMIN}\"\n[secrets]\nnoc = \"{OLD_MOOG}\"\n"
        ),
    );
    let target = format!(
        "[[targets]]\nname = \"noc\"\nkind = \"moogsoft\"\nurl = \"{}\"\nsecret = \"noc\"\nrate_limit = 0\n",
        faulty.url()
    );
    std::fs::write(data.join("muttd.toml"), target).expect("written");
    let own = ["MUTTD_INGEST_API_KEY", "MUTTD_ADMIN_API_KEY"];
    let builder = own.into_iter().fold(builder, |builder, name| builder.env(name, ""));
    let builder = builder.env("MUTTD_SNMP_COMMUNITIES", COMMUNITY).env("MUTTD_ADMIN_PASSWORD", PASSWORD);
    builder.data(&data).start()
}

pub fn rule(server: &Server, key: &str) {
    let rule = json!({
        "match_string": "key drill", "match_type": "contains", "prod_handling": "Page_and_ticket", "priority": 1,
        "dev_handling": "Ignore", "team_assignment": "NETO", "is_active": true,
    });
    Request::post(server.ports.web, "/api/v2/rules").key(key).json(&rule).expect().must_be(201);
    eventually("the rule is in force", || (server.metrics().sum("mutt_rules_active", &[]) == 1).then_some(()));
}

pub fn post(server: &Server, key: &str, path: &str, body: &Value) -> Answer {
    Request::post(server.ports.web, format!("/api/v2/secrets/{path}")).key(key).json(body).expect()
}

fn secret(server: &Server, key: &str, name: &str) -> Value {
    Request::get(server.ports.web, format!("/api/v2/secrets/{name}")).key(key).expect().must_be(200).json()
}

fn ingest(server: &Server, key: &str, text: &str) -> u16 {
    let event = json!({"hostname": "sw1", "message": format!("key drill {text}"), "timestamp": "2026-03-01T12:00:00Z"});
    Request::post(server.ports.ingest, "/api/v2/ingest").key(key).json(&event).expect().status
}

pub fn made(answer: &Value) -> String {
    answer["made"]["value"].as_str().unwrap_or_else(|| panic!("no value was made: {answer}")).to_owned()
}

/// Clients that never stop: one sends events, one asks the API, each with the key that it holds at the moment.
pub struct Flow {
    keys: Arc<[Mutex<String>; 2]>,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Flow {
    pub fn start(server: &Server) -> Self {
        let keys = Arc::new([Mutex::new(OLD_INGEST.to_owned()), Mutex::new(OLD_ADMIN.to_owned())]);
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (ports, mut clients) = (server.ports, Vec::new());
        for client in 0..2 {
            let (keys, sent, stop) = (Arc::clone(&keys), Arc::clone(&sent), Arc::clone(&stop));
            clients.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Held until the answer is there: the key counted for as long as the request went.
                    let key = keys[client].lock().expect("no panic");
                    let number = sent.load(Ordering::Relaxed);
                    let event = json!({"hostname": "sw1", "message": format!("key drill {number}"), "timestamp": "2026-03-01T12:00:00Z"});
                    let answer = match client {
                        0 => Request::post(ports.ingest, "/api/v2/ingest").key(&key).json(&event).expect(),
                        _ => Request::get(ports.web, "/api/v2/version").key(&key).expect(),
                    };
                    assert_eq!(answer.status, 200, "client {client} held a valid key: {}", answer.text());
                    sent.fetch_add(u64::from(client == 0), Ordering::Relaxed);
                }
            }));
        }
        Self { keys, sent, stop, clients }
    }

    pub fn use_key(&self, client: usize, key: &str) {
        key.clone_into(&mut self.keys[client].lock().expect("no panic"));
    }

    /// Waits until so many further events were sent.
    pub fn go_on(&self) {
        let until = self.sent.load(Ordering::Relaxed) + 20;
        eventually("events go on", || (self.sent.load(Ordering::Relaxed) >= until).then_some(()));
    }

    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("no request was refused"));
        self.sent.load(Ordering::Relaxed)
    }
}

#[test]
fn keys_are_exchanged_under_a_steady_flow_without_a_refusal_or_a_loss_and_are_found_nowhere() {
    let faulty = Faulty::start(Mode::WantsAny(vec![OLD_MOOG.to_owned()]));
    let folder = TempDir::new().expect("a directory");
    let mut server = house(&folder, &faulty);
    rule(&server, OLD_ADMIN);
    let flow = Flow::start(&server);
    flow.go_on();

    let new_ingest = made(&post(&server, OLD_ADMIN, "ingest_api_key/rotate", &json!({})).must_be(200).json());
    assert!(secret(&server, OLD_ADMIN, "ingest_api_key")["next"]["last_used"].is_null());
    flow.go_on();
    flow.use_key(0, &new_ingest);
    flow.go_on();
    let told = secret(&server, OLD_ADMIN, "ingest_api_key");
    assert!(told["next"]["last_used"].as_str() >= told["current"]["last_used"].as_str(), "{told}");
    post(&server, OLD_ADMIN, "ingest_api_key/promote", &json!({})).must_be(200);
    assert_eq!((ingest(&server, OLD_INGEST, "old"), ingest(&server, &new_ingest, "new")), (401, 200));

    let new_admin =
        made(&post(&server, OLD_ADMIN, "admin_api_key/rotate", &json!({"reason": "INC-7"})).must_be(200).json());
    flow.use_key(1, &new_admin);
    flow.go_on();
    post(&server, &new_admin, "admin_api_key/promote", &json!({})).must_be(200);
    post(&server, OLD_ADMIN, "admin_api_key/cancel", &json!({})).must_be(401);

    post(&server, &new_admin, "noc/rotate", &json!({"value": NEW_MOOG})).must_be(200);
    flow.go_on();
    faulty.want_any(&[OLD_MOOG, NEW_MOOG]);
    flow.go_on();
    faulty.want_any(&[NEW_MOOG]);
    flow.go_on();
    let next = [("secret", "noc"), ("slot", "next")];
    eventually("the receiver takes the next key", || {
        (server.metrics().sum("mutt_secret_used_total", &next) > 0).then_some(())
    });
    post(&server, &new_admin, "noc/promote", &json!({})).must_be(200);
    flow.go_on();
    let sent = usize::try_from(flow.end()).expect("not so many") + 1;
    eventually("every event arrived", || (faulty.taken() == sent).then_some(()));
    assert_eq!(server.metrics().depth("dlq.forwarder"), 0);

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("the kernel tells limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let secrets =
        [OLD_INGEST, OLD_ADMIN, OLD_MOOG, NEW_MOOG, COMMUNITY, PASSWORD, new_ingest.as_str(), new_admin.as_str()];
    found_nowhere(&mut server, &new_admin, &secrets);
}

/// Searches whatever the appliance tells or keeps.
fn found_nowhere(server: &mut Server, key: &str, secrets: &[&str]) {
    let mut places = vec![("the metrics".to_owned(), Request::get(server.ports.web, "/metrics").expect().text())];
    for path in [
        "v2/secrets",
        "v2/secrets/noc",
        "v2/targets",
        "v2/status",
        "v2/config-audit?limit=1000",
        "v2/config",
        "v2/config/history",
        "v2/events?limit=50",
        "v2/audit-logs?limit=50",
        "v2/rules",
        "v2/dead-letters",
        "v2/version",
        "v2/remediation",
    ] {
        let answer = Request::get(server.ports.web, format!("/api/{path}")).key(key).expect().must_be(200);
        places.push((path.to_owned(), answer.text()));
    }
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    for path in [
        "/",
        "/events",
        "/rules",
        "/rules/test",
        "/dev-hosts",
        "/teams",
        "/targets",
        "/dead-letters",
        "/changes",
        "/status",
        "/account",
        "/admin/secrets",
        "/admin/secrets/act?act=rotate&name=noc",
        "/admin/config",
        "/admin/config/history",
    ] {
        places.push((path.to_owned(), browser.open(path).must_be(200).text()));
    }
    server.terminate();
    places.push(("the log".to_owned(), server.log()));
    for file in files(server.data()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).expect("readable")).into_owned();
        if file.file_name().is_none_or(|name| name != "secrets.toml") {
            places.push((file.display().to_string(), text));
        }
    }
    for secret in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [(*secret).to_owned(), base64(secret.as_bytes()), hex] {
            let found: Vec<&str> =
                places.iter().filter(|(_, text)| text.contains(&form)).map(|(place, _)| place.as_str()).collect();
            assert!(found.is_empty(), "`{form}` is in {found:?}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a directory").flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

/// Without the last group, which depends on what follows.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let number = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(number >> shift & 63) as usize]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn a_file_that_changes_is_noticed_and_one_that_cannot_be_used_changes_nothing() {
    let faulty = Faulty::start(Mode::Well);
    let folder = TempDir::new().expect("a directory");
    let server = house(&folder, &faulty);
    assert_eq!(ingest(&server, OLD_INGEST, "first"), 200);
    let file = |ingest: &str| {
        format!("ingest_api_key = \"{ingest}\"\nadmin_api_key = \"{OLD_ADMIN}\"\n[secrets]\nnoc = \"x\"\n")
    };
    keep(server.data(), &file("another-ingest-key-0123456789"));
    eventually("the new key counts", || (ingest(&server, "another-ingest-key-0123456789", "x") == 200).then_some(()));
    assert_eq!(ingest(&server, OLD_INGEST, "second"), 401);
    let fault = |expected: &str| {
        eventually(expected, || {
            let told = Request::get(server.ports.web, "/api/v2/secrets").key(OLD_ADMIN).expect().must_be(200).json();
            told["fault"]["error"].as_str().is_some_and(|why| why.contains(expected)).then_some(())
        });
        assert_eq!(server.metrics().sum("mutt_secrets_in_force", &[]), 0);
        assert_eq!(ingest(&server, "another-ingest-key-0123456789", "still"), 200);
    };
    keep(server.data(), "ingest_api_key = \"half-writ");
    fault("line 1 is not valid TOML");
    std::fs::remove_file(server.data().join("secrets.toml")).expect("removed");
    fault("No such file");
    assert!(!server.data().join("secrets.toml").exists(), "no keys are made while the appliance runs");
    keep(server.data(), &file(OLD_INGEST));
    eventually("it is read again", || (server.metrics().sum("mutt_secrets_in_force", &[]) == 1).then_some(()));
    assert_eq!(ingest(&server, OLD_INGEST, "third"), 200);
    std::fs::set_permissions(server.data().join("secrets.toml"), std::fs::Permissions::from_mode(0o640))
        .expect("chmod");
    eventually("others could read it", || (server.metrics().sum("mutt_secrets_in_force", &[]) == 0).then_some(()));
    let log = server.log();
    assert_eq!(log.matches("line 1 is not valid TOML").count(), 1, "{log}");
    let changes = Request::get(server.ports.web, "/api/v2/config-audit?table_name=secrets").key(OLD_ADMIN).expect();
    assert!(changes.must_be(200).text().contains("secrets.toml"), "a change by hand is in the change log");
}

#[test]
fn next_becomes_current_by_itself_at_its_moment() {
    let faulty = Faulty::start(Mode::Well);
    let folder = TempDir::new().expect("a directory");
    let server = house(&folder, &faulty);
    let past = json!({"promote_at": "2020-01-01T00:00:00Z"});
    post(&server, OLD_ADMIN, "ingest_api_key/rotate", &past).must_be(400);
    // Far enough that the answer is there before the moment.
    let soon = chrono::Utc::now() + Duration::from_secs(5);
    let answer = post(&server, OLD_ADMIN, "ingest_api_key/rotate", &json!({"promote_at": soon.to_rfc3339()}));
    let answer = answer.must_be(200).json();
    let new = made(&answer);
    assert!(answer["promote_at"].is_string());
    eventually("the old key does not count any more", || (ingest(&server, OLD_INGEST, "old") == 401).then_some(()));
    assert_eq!(ingest(&server, &new, "new"), 200);
    let path = server.data().join("secrets.toml");
    eventually("the file says so too", || {
        let text = std::fs::read_to_string(&path).expect("readable");
        (text.contains(&format!("ingest_api_key = \"{new}\"")) && !text.contains("_next")).then_some(text)
    })
    .contains("# ours")
    .then_some(())
    .expect("comments stay");
    assert!(secret(&server, OLD_ADMIN, "ingest_api_key")["promote_at"].is_null());
}

/// Runs `muttd secrets` with this on its standard input; whether it succeeded, and what it printed.
fn secrets(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.arg("secrets").args(arguments).env_remove("MUTTD_ADMIN_API_KEY");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
fn the_command_exchanges_secrets_of_a_running_appliance_and_of_a_stopped_one() {
    let faulty = Faulty::start(Mode::Well);
    let folder = TempDir::new().expect("a directory");
    let mut server = house(&folder, &faulty);
    let (url, data) = (format!("http://{}", server.ports.web), server.data().display().to_string());
    let run = |arguments: &[&str], input: &str| {
        let arguments = [arguments, &["--url", &url, "--data", &data]].concat();
        secrets(&arguments, input)
    };
    let (done, text) = run(&["rotate", "ingest_api_key", "--reason", "INC-8"], "");
    let new = text.lines().last().unwrap_or_default().trim().to_owned();
    assert!(done && new.len() == 64, "{text}");
    assert_eq!(ingest(&server, &new, "x"), 200);
    let (_, list) = run(&["list"], "");
    assert!(
        list.contains("is sent to noc") && list.contains("next     from secrets.toml") && !list.contains(&new),
        "{list}"
    );
    assert!(run(&["promote", "ingest_api_key"], "").0);
    assert_eq!(ingest(&server, OLD_INGEST, "x"), 401);
    let (done, text) = run(&["promote", "ingest_api_key"], "");
    assert!(!done && text.contains("no next value"), "{text}");
    assert!(run(&["set", "noc", "--next", "--from-stdin"], "a-next-one\n").0);
    assert!(run(&["cancel", "noc"], "").0);
    assert!(run(&["set", "chat", "--from-stdin"], "a-chat-value\n").0);
    let changes = Request::get(server.ports.web, "/api/v2/config-audit?table_name=secrets").key(OLD_ADMIN).expect();
    let changes = changes.must_be(200).text();
    assert!(changes.contains("INC-8") && changes.contains("cancel") && !changes.contains("a-next-one"), "{changes}");
    server.terminate();

    let offline = |arguments: &[&str], input: &str| secrets(&[arguments, &["--offline", &data]].concat(), input);
    let (done, text) = offline(&["rotate", "admin_api_key"], "");
    assert!(done && text.contains("shown only now"), "{text}");
    assert!(offline(&["promote", "admin_api_key"], "").0);
    let (done, text) = offline(&["list"], "");
    assert!(done && text.contains("chat") && !text.contains("a-chat-value"), "{text}");
    let kept = std::fs::read_to_string(server.data().join("secrets.toml")).expect("readable");
    assert!(kept.starts_with("# ours\n") && !kept.contains(OLD_ADMIN), "{kept}");
}

#[test]
fn what_comes_from_the_environment_is_not_changed_here() {
    let server = Server::builder().start();
    let answer = post(&server, ADMIN_KEY, "ingest_api_key/rotate", &json!({})).must_be(409).json();
    assert!(answer["error"].as_str().is_some_and(|why| why.contains("MUTTD_INGEST_API_KEY")), "{answer}");
    post(&server, ADMIN_KEY, "nothing/promote", &json!({})).must_be(404);
    let request = Request::get(server.ports.web, "/api/v2/secrets").expect();
    assert_eq!(request.status, 401, "nobody without a key is told anything");
}

#[test]
fn a_person_exchanges_a_key_on_the_page() {
    let faulty = Faulty::start(Mode::Well);
    let folder = TempDir::new().expect("a directory");
    let server = house(&folder, &faulty);
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    let mut act = |act: &str, name: &str, values: &[(&str, &str)]| {
        let page = browser.open(&format!("/admin/secrets/act?act={act}&name={name}")).must_be(200).text();
        let answer = browser.submit(&Form::on(&page, "act").filled(values));
        (answer.status, answer.text())
    };
    let (status, page) = act("rotate", "ingest_api_key", &[("reason", "INC-9")]);
    let start = page.find("<code class=\"mono\">").expect("the new key") + "<code class=\"mono\">".len();
    let new = page[start..start + 64].to_owned();
    assert_eq!((status, ingest(&server, &new, "x")), (200, 200));
    let (_, page) = act("promote", "ingest_api_key", &[]);
    assert!(page.contains("The secret was changed") && !page.contains(&new), "{page}");
    assert_eq!(ingest(&server, OLD_INGEST, "x"), 401);
    let (status, page) = act("rotate", "noc", &[]);
    assert!(status == 400 && page.contains("give the value that the receiver made"), "{page}");
    let (status, page) = act("rotate", "noc", &[("value", "typed-by-a-person")]);
    assert!(status == 200 && !page.contains("typed-by-a-person"), "{page}");
    assert_eq!(act("cancel", "noc", &[]).0, 200);
}

#[cfg(not(feature = "vault"))]
#[test]
fn a_build_without_vault_refuses_to_start_with_it() {
    let folder = TempDir::new().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(["serve", "--data"])
        .arg(folder.path())
        .envs([
            ("MUTTD_VAULT_ADDRESS", "https://127.0.0.1:1"),
            ("MUTTD_VAULT_ROLE_ID", "r"),
            ("MUTTD_VAULT_SECRET_ID", "s"),
        ])
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--features vault"), "{text}");
}
