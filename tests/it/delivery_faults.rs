//! Three targets, one of which is faulty in every way a receiver and the network before it can be: the others are not
//! held up, nothing is lost, the fault is told by its name, and when it is over what waited arrives by itself.
//!
//! Each test sends 200 alerts to each of its targets; with `MUTTD_FAULT_ALERTS=10000` as many as you like. The seed is
//! fixed (`MUTTD_FAULT_SEED` changes it), so that a failed run can be repeated.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Faulty, Mode, PATIENCE, Random, Server, eventually, holds_for};

/// Alerts in one post to the ingest API.
const BATCH: usize = 100;

fn alerts() -> usize {
    number("MUTTD_FAULT_ALERTS", 200)
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A server with two targets that are well and one that may be told anything.
struct House {
    steady: [Faulty; 2],
    faulty: Faulty,
    folder: TempDir,
    server: Server,
}

impl House {
    fn start(mode: Mode, url: impl FnOnce(&Faulty, &TempDir) -> String) -> Self {
        let steady = [Faulty::start(Mode::Well), Faulty::start(Mode::Well)];
        let faulty = Faulty::start(mode);
        let folder = TempDir::new().expect("a temporary directory");
        std::fs::create_dir(folder.path().join("data")).expect("a directory");
        let url = url(&faulty, &folder);
        configure(&folder, &steady, &url);
        let server = Server::builder().data(&folder.path().join("data")).env("MUTTD_SECRET_FAULTY", "the-key").start();
        server.forward_rule("fault drill");
        Self { steady, faulty, folder, server }
    }

    /// Sends the alerts: message lengths and hosts as the seed says.
    fn send(&self) -> usize {
        let mut random = Random::new(number("MUTTD_FAULT_SEED", 4_711) as u64);
        let all = alerts();
        let mut sent = 0;
        while sent < all {
            let events: Vec<Value> = (sent..all.min(sent + BATCH))
                .map(|number| {
                    let padding = "x".repeat(random.below(400) as usize);
                    let host = format!("sw-{}", random.below(20));
                    let message = format!("fault drill {number} {padding}");
                    json!({"hostname": host, "message": message, "timestamp": "2026-03-01T12:00:00Z"})
                })
                .collect();
            sent += events.len();
            self.server.ingest(&json!(events)).must_be(200);
        }
        sent
    }

    /// The others have everything while the fault lasts.
    fn others_have(&self, all: usize) {
        for receiver in &self.steady {
            within("a target that is well has every alert", all, || receiver.taken() == all);
        }
        let status = |name: &str| self.target(name)["breaker"]["state"].clone();
        assert_eq!((status("steady-0"), status("steady-1")), (json!("closed"), json!("closed")));
    }

    fn target(&self, name: &str) -> Value {
        self.server.api_get(&format!("/api/v2/targets/{name}"))
    }

    /// Waits until the faulty target's last error contains `told`.
    fn is_told(&self, told: &str) {
        eventually(&format!("the fault is told as `{told}`"), || {
            let target = self.target("faulty");
            let text = target["last_error"]["error"].as_str().unwrap_or_default().to_owned();
            assert!(!text.contains("s3cret"), "the path of a webhook is a secret: {text}");
            text.contains(told).then_some(())
        });
    }

    fn dead(&self) -> usize {
        self.server.metrics().depth("dlq.forwarder") as usize
    }

    /// Everything arrives in the end, and nothing is a dead letter.
    fn all_arrive(&self, all: usize) {
        within("every alert arrives after the fault", all, || self.faulty.taken() == all);
        eventually("its outbox is empty", || (self.server.metrics().depth("alert.faulty") == 0).then_some(()));
        assert_eq!(self.dead(), 0, "nobody refused anything");
        let target = self.target("faulty");
        assert_eq!(target["breaker"]["state"], "closed", "{target}");
        let metrics = self.server.metrics();
        assert_eq!(metrics.sum("mutt_forward_circuit_breaker_state", &[("target", "faulty")]), 0);
    }

    /// Writes another configuration and has it read.
    fn reconfigure(&self, url: &str) {
        configure(&self.folder, &self.steady, url);
        self.server.reload();
    }
}

/// Times that a test can wait for; the server's own are the same, only longer.
fn configure(folder: &TempDir, steady: &[Faulty; 2], url: &str) {
    let target = |name: &str, url: &str| {
        format!(
            "[[targets]]\nname = \"{name}\"\nkind = \"moogsoft\"\nurl = \"{url}\"\nsecret = \"faulty\"\nrate_limit = 0\n\
             timeout_seconds = 1\nretry_base_ms = 50\nretry_cap_seconds = 1\nbreaker_timeout_seconds = 1\n\n"
        )
    };
    let text = format!(
        "{}{}{}",
        target("steady-0", &steady[0].url()),
        target("faulty", url),
        target("steady-1", &steady[1].url())
    );
    std::fs::write(folder.path().join("data/muttd.toml"), text).expect("muttd.toml is written");
}

/// Waits as [`eventually`] does, and longer the more alerts there are.
fn within(what: &str, alerts: usize, look: impl Fn() -> bool) {
    let patience = PATIENCE + Duration::from_millis(50) * u32::try_from(alerts).unwrap_or(u32::MAX);
    let end = Instant::now() + patience;
    while !look() {
        assert!(Instant::now() < end, "within {} s this did not happen: {what}", patience.as_secs());
        std::thread::park_timeout(Duration::from_millis(25));
    }
}

/// A fault that lasts while everything is sent, opens the breaker, is told, and ends.
fn check(mode: Mode, told: &str) {
    let house = House::start(mode, |faulty, _| faulty.url());
    let all = house.send();
    house.others_have(all);
    house.is_told(told);
    assert_eq!((house.faulty.taken(), house.dead()), (0, 0), "everything waits");
    assert_eq!(house.server.metrics().depth("alert.faulty") as usize, all);
    house.faulty.become_well();
    house.all_arrive(all);
    assert!(house.target("faulty")["breaker"]["trips"].as_u64() >= Some(1));
}

/// A fault of the address: it ends with another configuration.
fn check_address(told: &str, url: impl FnOnce(&Faulty, &TempDir) -> String) {
    let house = House::start(Mode::Well, url);
    let all = house.send();
    house.others_have(all);
    house.is_told(told);
    assert_eq!((house.faulty.requests(), house.dead()), (0, 0), "everything waits");
    house.reconfigure(&house.faulty.url());
    house.all_arrive(all);
}

#[test]
fn a_target_that_is_down() {
    check(Mode::Down, "onnection refused");
}

#[test]
fn a_target_that_hangs() {
    check(Mode::Hang, "timed out");
}

#[test]
fn a_target_that_resets_connections() {
    check(Mode::Reset, "onnection");
}

#[test]
fn a_target_that_answers_garbage() {
    check(Mode::Garbage, "invalid HTTP");
}

#[test]
fn a_target_that_fails_with_503() {
    check(Mode::Answer(503, ""), "503 Service Unavailable");
}

#[test]
fn a_target_that_refuses_every_key() {
    check(Mode::Answer(401, ""), "401 Unauthorized");
}

#[test]
fn a_target_that_is_slow_holds_nobody_up() {
    let house = House::start(Mode::Slow(Duration::from_millis(150)), |faulty, _| faulty.url());
    let all = house.send();
    house.others_have(all);
    house.faulty.become_well();
    house.all_arrive(all);
    assert_eq!(house.target("faulty")["breaker"]["trips"], 0, "slow is not broken");
}

#[test]
fn a_target_that_redirects() {
    let mode = Mode::Answer(302, "Location: http://127.0.0.1:9/elsewhere\r\n");
    let house = House::start(mode, |faulty, _| faulty.url());
    let all = house.send();
    house.others_have(all);
    within("every alert is a dead letter", all, || house.dead() == all);
    assert_eq!(house.faulty.taken(), 0);
    let letters = house.server.api_get("/api/v2/dead-letters?limit=5").to_string();
    assert!(letters.contains("302 Found") && letters.contains("redirects are not followed"), "{letters}");
}

#[test]
fn a_target_that_asks_for_an_hour_of_patience() {
    let house = House::start(Mode::Answer(429, "Retry-After: 3600\r\n"), |faulty, _| faulty.url());
    let all = house.send();
    house.others_have(all);
    house.is_told("429 Too Many Requests");
    let asked = house.faulty.requests();
    assert!(asked <= 16, "{asked} requests: the wish is the target's, not one alert's");
    house.faulty.become_well();
    holds_for("its wish is respected", Duration::from_millis(1_500), || house.faulty.requests() == asked);
    let target = house.target("faulty");
    assert!(target["held_until"].is_string(), "{target}");
    // An operator knows better.
    house.server.api_post("/api/v2/targets/faulty/reset", &json!({})).must_be(200);
    house.all_arrive(all);
}

#[test]
fn a_target_with_a_certificate_that_nobody_trusts() {
    check_address("certificate", |faulty, folder| faulty.untrusted_url(folder.path()));
}

#[test]
fn a_target_whose_name_does_not_exist() {
    check_address("dns error", |_, _| "http://no-such-host.invalid:8080/s3cret".to_owned());
}

#[test]
fn a_target_at_a_forbidden_address() {
    check_address("169.254.169.254 is not spoken to", |_, _| "http://169.254.169.254/latest/s3cret".to_owned());
}

#[test]
fn what_waits_for_a_target_that_was_removed_is_moved_to_another() {
    let house = House::start(Mode::Down, |faulty, _| faulty.url());
    let all = house.send();
    house.others_have(all);
    let House { steady, folder, mut server, .. } = house;
    let before = steady[0].requests();
    let text = std::fs::read_to_string(folder.path().join("data/muttd.toml")).expect("readable");
    let kept: Vec<&str> = text.split("[[targets]]").filter(|target| !target.contains("\"faulty\"\nkind")).collect();
    std::fs::write(folder.path().join("data/muttd.toml"), kept.join("[[targets]]")).expect("writable");
    server.terminate();
    server.start_again();
    let targets = server.api_get("/api/v2/targets");
    assert_eq!(
        (&targets["abandoned"][0]["name"], &targets["abandoned"][0]["waiting"]),
        (&json!("faulty"), &json!(all))
    );
    let moved = server.api_post("/api/v2/outboxes/faulty/move", &json!({"to": "steady-0", "reason": "it is gone"}));
    assert_eq!(moved.must_be(200).json()["moved"], json!(all));
    within("they arrive there", all, || steady[0].requests() >= before + all as u64);
    assert_eq!(server.api_get("/api/v2/targets")["abandoned"], json!([]));
    let changes = server.api_get("/api/v2/config-audit?table_name=outboxes").to_string();
    assert!(changes.contains("it is gone"), "{changes}");
}

/// `secrets.toml` as an operator writes it.
fn keep_secrets(data: &Path, lines: &str) {
    let path = data.join("secrets.toml");
    std::fs::write(&path, format!("[secrets]\n{lines}")).expect("secrets.toml is written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
}

#[test]
fn a_key_is_changed_without_a_gap_and_a_wrong_one_holds_alerts_until_it_is_right() {
    let faulty = Faulty::start(Mode::Wants("new-key"));
    let folder = TempDir::new().expect("a temporary directory");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    keep_secrets(&data, "noc = \"old-key\"\nnoc_next = \"new-key\"\n");
    let config = format!(
        "[[targets]]\nname = \"noc\"\nkind = \"moogsoft\"\nurl = \"{}\"\nsecret = \"noc\"\n\
         breaker_timeout_seconds = 3600\n",
        faulty.url()
    );
    std::fs::write(data.join("muttd.toml"), config).expect("muttd.toml is written");
    let server = Server::builder().data(&data).start();
    server.forward_rule("fault drill");
    let send = |text: &str| {
        let event =
            json!({"hostname": "sw1", "message": format!("fault drill {text}"), "timestamp": "2026-03-01T12:00:00Z"});
        server.ingest(&event).must_be(200);
    };
    send("with the next key");
    eventually("the next key is tried at once", || (faulty.taken() == 1).then_some(()));
    eventually("that is counted", || {
        let next = [("target", "noc"), ("secret", "next")];
        (server.metrics().sum("mutt_forward_secret_used_total", &next) == 1).then_some(())
    });

    faulty.want("third-key");
    send("with no key that works");
    let target = eventually("the target is left alone", || {
        let target = server.api_get("/api/v2/targets/noc");
        (target["breaker"]["state"] == "open").then_some(target)
    });
    assert_eq!(target["breaker"]["last_trip"]["error"], "credentials: 401 Unauthorized");
    keep_secrets(&data, "noc = \"third-key\"\n");
    server.reload();
    eventually("the new key is tried at once, not in an hour", || (faulty.taken() == 2).then_some(()));
    assert_eq!(server.metrics().depth("dlq.forwarder"), 0);
    let log = server.log();
    for key in ["old-key", "new-key", "third-key", "s3cret"] {
        assert!(!log.contains(key), "`{key}` is in the log");
    }
}
