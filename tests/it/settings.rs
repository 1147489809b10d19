//! Settings changed at run time, as an operator meets them: while events flow, each change is seen by the part of the
//! program that goes by it; what cannot be used changes nothing; a restart keeps what was set; a listener that moves drops
//! nobody else's connection.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Answer, Receiver, Request, Server, eventually, free_address};

/// Sets a key over the API.
fn put(server: &Server, key: &str, value: &Value) -> Answer {
    let body = json!({"value": value, "reason": "CHG-42"});
    Request::put(server.ports.web, format!("/api/v2/config/{key}")).key(ADMIN_KEY).json(&body).expect()
}

fn get(server: &Server, key: &str) -> Value {
    server.api_get(&format!("/api/v2/config/{key}"))
}

fn reset(server: &Server, key: &str) -> Answer {
    Request::delete(server.ports.web, format!("/api/v2/config/{key}")).key(ADMIN_KEY).expect()
}

fn send(server: &Server, host: &str, message: &str) -> Answer {
    server.ingest(&json!({"hostname": host, "message": message, "timestamp": "2026-03-01T12:00:00Z"}))
}

/// Rows in the audit.
fn audit_rows(server: &Server) -> u64 {
    let ready = Request::get(server.ports.web, "/ready").expect().must_be(200).json();
    let checks = ready["checks"].as_array().expect("checks");
    let told = checks.iter().find(|check| check["name"] == "store.audit").expect("the audit is checked");
    let detail = told["detail"].as_str().expect("a text");
    detail.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number in {detail}"))
}

/// Runs `muttd config`.
fn config(server: &Server, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muttd"))
        .arg("config")
        .args(args)
        .env("MUTTD_URL", format!("http://{}", server.ports.web))
        .env("MUTTD_ADMIN_API_KEY", ADMIN_KEY)
        .output()
        .expect("the program can be run")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Another legal value of a setting, as the API tells of it.
pub fn another(setting: &Value) -> Value {
    match setting["type"].as_str() {
        Some("integer") => {
            let (value, max) =
                (setting["value"].as_i64().expect("a number"), setting["max"].as_i64().expect("a bound"));
            json!(if value < max { value + 1 } else { value - 1 })
        }
        Some("choice") => {
            let words = setting["choices"].as_array().expect("words");
            words.iter().find(|word| **word != setting["value"]).expect("two words").clone()
        }
        Some("percent") => json!("98.5"),
        Some("boolean") => json!(setting["value"] == false),
        _ => json!("ANOTHER"),
    }
}

#[test]
fn every_dynamic_key_is_changed_and_brought_back_while_events_flow_and_none_is_lost() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    server.forward_rule("lantern");
    let keys: Vec<Value> = server.api_get("/api/v2/config")["settings"].as_array().expect("settings").clone();
    let dynamic: Vec<&Value> = keys.iter().filter(|setting| setting["writable"] == true).collect();
    assert!(dynamic.len() >= 31, "{} keys", dynamic.len());
    for (number, setting) in dynamic.iter().enumerate() {
        let key = setting["key"].as_str().expect("a key");
        let value = another(setting);
        let set = put(&server, key, &value).must_be(200).json();
        assert_eq!((&set["value"], &set["origin"]), (&value, &json!("store")), "{key}");
        send(&server, "sw1", &format!("lantern {number} with {key} changed")).must_be(200);
        assert_eq!(get(&server, key)["value"], value);
        let back = reset(&server, key).must_be(200).json();
        assert_eq!((&back["value"], &back["origin"]), (&setting["value"], &setting["origin"]), "{key}");
        send(&server, "sw1", &format!("lantern {number} with {key} back")).must_be(200);
    }
    eventually("every alert arrives", || (receiver.taken("lantern").len() >= 2 * dynamic.len()).then_some(()));
    server.check_counters();
    assert_eq!(server.metrics().dropped(), 0);
    let history = server.api_get("/api/v2/config/history?limit=1000");
    assert_eq!(history["total"], 2 * dynamic.len(), "each change has its line");
}

#[test]
fn each_part_of_the_program_goes_by_a_changed_setting_at_once() {
    let receiver = Receiver::start();
    let server = Server::builder().delivering_to(&receiver).env("MUTTD_LOG", "info").start();
    // The rate limit of all inputs.
    put(&server, "ingest_rate_window", &json!(86_400)).must_be(200);
    put(&server, "ingest_max_rate", &json!(1)).must_be(200);
    send(&server, "sw1", "first of the window").must_be(200);
    send(&server, "sw1", "second of the window").must_be(429);
    reset(&server, "ingest_max_rate").must_be(200);
    send(&server, "sw1", "third without a limit").must_be(200);
    // The room of the queue: a batch that is larger than all of it.
    let batch: Value = (0..3).map(|n| json!({"hostname": "h", "message": n.to_string(), "timestamp": 1})).collect();
    put(&server, "max_ingest_queue_size", &json!(2)).must_be(200);
    let refused = server.ingest(&batch);
    assert!([413, 503].contains(&refused.status), "a batch of 3 was answered {} with room for 2", refused.status);
    reset(&server, "max_ingest_queue_size").must_be(200);
    server.ingest(&batch).must_be(200);
    // When unhandled events become an alert.
    put(&server, "unhandled_default_team", &json!("NIGHT")).must_be(200);
    put(&server, "unhandled_threshold", &json!(2)).must_be(200);
    for _ in 0..2 {
        send(&server, "lone-host", "a kind without any rule").must_be(200);
    }
    eventually("the meta-alert arrives for the new team", || {
        receiver.posts().into_iter().find(|post| post.member("class") == "NIGHT")
    });
    // What becomes an audit row.
    let before = audit_rows(&server);
    send(&server, "audit-host", "before the scope was widened").must_be(200);
    server.check_counters();
    assert_eq!(audit_rows(&server), before, "no rule, no row");
    put(&server, "audit", &json!("all")).must_be(200);
    send(&server, "audit-host", "after the scope was widened").must_be(200);
    eventually("an event without a rule is audited", || (audit_rows(&server) == before + 1).then_some(()));
    // The pace of deliveries.
    put(&server, "moog_rate_period", &json!(3_600)).must_be(200);
    put(&server, "moog_rate_limit", &json!(1)).must_be(200);
    server.forward_rule("beacon");
    for number in 0..3 {
        send(&server, "sw1", &format!("beacon {number}")).must_be(200);
    }
    eventually("one alert goes", || (!receiver.taken("beacon").is_empty()).then_some(()));
    server.check_counters();
    assert_eq!(receiver.taken("beacon").len(), 1, "the others wait for the next hour");
    put(&server, "moog_rate_limit", &json!(0)).must_be(200);
    eventually("the others go at once", || (receiver.taken("beacon").len() == 3).then_some(()));
}

#[test]
fn the_log_level_and_aliases_of_the_environment_are_obeyed() {
    let receiver = Receiver::start();
    let server = Server::builder()
        .delivering_to(&receiver)
        .env("UNHANDLED_THRESHOLD", "77")
        .env("MOOG_RATE_LIMIT", "9")
        .env("MUTTD_DYNAMIC_MOOG_RATE_LIMIT", "11")
        .start();
    let threshold = get(&server, "unhandled_threshold");
    assert_eq!((&threshold["value"], &threshold["variable"]), (&json!(77), &json!("UNHANDLED_THRESHOLD")));
    assert_eq!(get(&server, "moog_rate_limit")["value"], 11, "the key's own variable wins");
    let reload = |level: &str, reloads: u64| {
        fs::write(server.data().join("muttd.toml"), format!("[log]\nlevel = \"{level}\"\n")).expect("written");
        server.reload();
        eventually("the file is in force", || {
            (server.metrics().sum("mutt_config_reloads_total", &[("status", "success")]) == reloads).then_some(())
        });
    };
    let told = "A setting was changed";
    reload("error", 1);
    put(&server, "unhandled_threshold", &json!(78)).must_be(200);
    assert!(!server.log().contains(told), "{}", server.log());
    reload("info", 3);
    put(&server, "unhandled_threshold", &json!(79)).must_be(200);
    eventually("the level is `info` again", || server.log().contains(told).then_some(()));
    assert_eq!(get(&server, "log.level")["origin"], "file");
}

#[test]
fn a_restart_keeps_what_was_set_and_a_value_that_no_longer_fits_is_ignored_and_told() {
    let receiver = Receiver::start();
    let mut server = Server::builder().delivering_to(&receiver).dynamic("unhandled_threshold", "50").start();
    put(&server, "unhandled_threshold", &json!(60)).must_be(200);
    put(&server, "alerter_queue_warn_threshold", &json!(500_000)).must_be(200);
    server.kill();
    let file =
        "[dynamic]\nunhandled_threshold = 50\nalerter_queue_warn_threshold = 10\nalerter_queue_shed_threshold = 100\n";
    fs::write(server.data().join("muttd.toml"), file).expect("written");
    server.start_again();
    let threshold = get(&server, "unhandled_threshold");
    assert_eq!((&threshold["value"], &threshold["beneath"]["value"]), (&json!(60), &json!("50")));
    assert_eq!(get(&server, "alerter_queue_warn_threshold")["value"], 10, "the kept value contradicts the file");
    let ignored = server.api_get("/api/v2/config")["ignored"].clone();
    assert_eq!(ignored[0]["key"], "alerter_queue_warn_threshold", "{ignored}");
    assert!(server.log().contains("is ignored"), "it is told in the log");
    // The same from the data directory while nobody serves it.
    server.terminate();
    let offline = Command::new(env!("CARGO_BIN_EXE_muttd"))
        .args(["config", "list", "--json", "--url", "http://127.0.0.1:9", "--data"])
        .arg(server.data())
        .output()
        .expect("the program can be run");
    let listed: Value = serde_json::from_str(&printed(&offline)).expect("JSON");
    let settings = listed["settings"].as_array().expect("settings");
    let threshold = settings.iter().find(|setting| setting["key"] == "unhandled_threshold").expect("listed");
    assert_eq!((&threshold["value"], &threshold["origin"]), (&json!(60), &json!("store")));
    assert_eq!(listed["ignored"][0]["key"], "alerter_queue_warn_threshold");
}

#[test]
fn the_command_sets_shows_and_brings_back() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    assert!(printed(&config(&server, &["diff"])).contains("http.listen"), "addresses of the test differ");
    let set = printed(&config(&server, &["set", "moog_rate_limit", "7", "--reason", "CHG-7"]));
    assert!(set.contains("moog_rate_limit: 50 -> 7 (store)"), "{set}");
    let shown = printed(&config(&server, &["get", "moog_rate_limit"]));
    assert!(shown.contains("7 alerts") && shown.contains("after reset 50 (default)"), "{shown}");
    let listed = printed(&config(&server, &["list", "--section", "dynamic"]));
    assert!(listed.contains("unhandled_threshold") && !listed.contains("http.listen"), "{listed}");
    let history = printed(&config(&server, &["history", "moog_rate_limit", "--json"]));
    let history: Value = serde_json::from_str(&history).expect("JSON");
    let change = history["changes"][0]["id"].to_string();
    assert_eq!(history["changes"][0]["reason"], "CHG-7");
    let reverted = printed(&config(&server, &["revert", "moog_rate_limit", &change]));
    assert!(reverted.contains("moog_rate_limit: 7 -> 50 (default)"), "{reverted}");
    printed(&config(&server, &["set", "moog_rate_limit", "8"]));
    assert!(printed(&config(&server, &["reset", "moog_rate_limit"])).contains("8 -> 50"));
    for (args, expected) in [
        (["set", "moog_rate_limit", "-1"].as_slice(), "from 0 to 1000000"),
        (&["set", "moog_rate_limits", "1"], "did you mean `moog_rate_limit`"),
        (&["set", "moog_rate_limit", "1", "--expected", "49"], "is `50` meanwhile"),
        (&["get", "moog_rate_limits"], "did you mean `moog_rate_limit`"),
    ] {
        let refused = config(&server, args);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains(expected), "{args:?}: {told}");
    }
}

#[test]
fn a_listener_that_moves_drops_nobodys_connection_and_an_address_that_is_taken_moves_nothing() {
    let receiver = Receiver::start();
    let builder = Server::builder().delivering_to(&receiver);
    let ports = builder.ports();
    // Given by the file here, so that it can be changed.
    let places =
        |udp: SocketAddr, tcp: SocketAddr| format!("[syslog]\nudp_listen = \"{udp}\"\ntcp_listen = \"{tcp}\"\n");
    let folder = tempfile::TempDir::new().expect("a temporary directory");
    let file = folder.path().join("muttd.toml");
    fs::write(&file, places(ports.syslog, ports.syslog)).expect("written");
    let server = builder
        .without_env("MUTTD_SYSLOG_UDP_LISTEN")
        .without_env("MUTTD_SYSLOG_TCP_LISTEN")
        .data(folder.path())
        .start();
    let mut stream = TcpStream::connect(ports.syslog).expect("syslog over TCP listens");
    stream.write_all(b"<13>1 2026-03-01T12:00:00Z tcp-host app - - - before any move\n").expect("sent");
    server.event("before any move");
    let reloads = |status: &str| server.metrics().sum("mutt_config_reloads_total", &[("status", status)]);
    // The datagrams move; the connection stays.
    let elsewhere = free_address();
    fs::write(&file, places(elsewhere, ports.syslog)).expect("written");
    server.reload();
    eventually("the file is in force", || (reloads("success") == 1).then_some(()));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    eventually("datagrams are taken at the other address", || {
        socket.send_to(b"<13>1 2026-03-01T12:00:00Z udp-host app - - - from elsewhere", elsewhere).expect("sent");
        server.events("q=from%20elsewhere&limit=1").into_iter().next()
    });
    stream.write_all(b"<13>1 2026-03-01T12:00:00Z tcp-host app - - - after the others moved\n").expect("sent");
    server.event("after the others moved");
    // The listener of the connection itself moves; the connection stays, new ones go to the other address.
    let further = free_address();
    fs::write(&file, places(elsewhere, further)).expect("written");
    server.reload();
    eventually("the file is in force", || (reloads("success") == 2).then_some(()));
    stream.write_all(b"<13>1 2026-03-01T12:00:00Z tcp-host app - - - after its own move\n").expect("sent");
    server.event("after its own move");
    let mut fresh = eventually("connections are taken there", || TcpStream::connect(further).ok());
    fresh.write_all(b"<13>1 2026-03-01T12:00:00Z tcp-host app - - - by the new door\n").expect("sent");
    server.event("by the new door");
    eventually("the old door is shut", || TcpStream::connect(ports.syslog).is_err().then_some(()));
    // An address that somebody else has moves nothing, and says who.
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("bound");
    fs::write(&file, places(free_address(), taken)).expect("written");
    server.reload();
    eventually("the reload is refused", || (reloads("failure") == 1).then_some(()));
    assert!(server.log().contains("the port is held by"), "{}", server.log());
    fresh.write_all(b"<13>1 2026-03-01T12:00:00Z tcp-host app - - - nothing moved\n").expect("sent");
    server.event("nothing moved");
    assert_eq!(get(&server, "syslog.tcp_listen")["value"], further.to_string());
}
