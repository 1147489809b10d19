//! What people really point at the appliance: `logger`, `rsyslogd`, net-snmp and `curl`. Each message must become the
//! right event and, once a rule wants it, an alert at the receiver.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, COMMUNITY, INGEST_KEY, Receiver, Server, Tool, eventually, hostname};

/// Every event of these tests carries this word; one rule forwards them all.
const WORD: &str = "kestrel";

fn server() -> (Receiver, Server) {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    server.forward_rule(WORD);
    (receiver, server)
}

/// Waits for the event with `text`, compares the members named in `expected`, then waits for its alert.
fn check(server: &Server, receiver: &Receiver, text: &str, expected: &Value) {
    let event = server.event(text);
    for (member, value) in expected.as_object().expect("expectations are an object") {
        assert_eq!(&event[member], value, "`{member}` of {event}");
    }
    let alert = eventually(&format!("an alert with `{text}` arrives"), || receiver.taken(text).into_iter().next());
    assert_eq!(alert.member("external_id"), event["correlation_id"].as_str().expect("a correlation id"));
    assert_eq!(alert.member("source_id"), event["hostname"].as_str().expect("a host name"));
    assert_eq!(alert.member("manager"), "MUTT");
}

#[test]
fn logger_arrives_over_udp_and_tcp_in_both_formats() {
    let (receiver, server) = server();
    let short = hostname().split('.').next().expect("a first label").to_owned();
    let cases: [(&str, &[&str], &str); 5] = [
        ("udp-3164", &["-d", "--rfc3164"], "syslog_udp"),
        ("udp-5424", &["-d", "--rfc5424"], "syslog_udp"),
        ("tcp-3164", &["-T", "--rfc3164"], "syslog_tcp"),
        ("tcp-5424", &["-T", "--rfc5424"], "syslog_tcp"),
        ("tcp-counted", &["-T", "--rfc5424", "--octet-count"], "syslog_tcp"),
    ];
    for (name, options, protocol) in cases {
        let text = format!("{WORD} {name} fan 3 failed");
        let port = server.ports.syslog.port().to_string();
        Tool::new("logger")
            .args(["-n", "127.0.0.1", "-P", &port, "-p", "local3.err", "-t", "fanwatch", "--id=4242"])
            .args(options)
            .arg(&text)
            .succeed();
        let expected =
            json!({"message": text, "severity": 3, "facility": 19, "app_name": "fanwatch", "proc_id": "4242"});
        check(&server, &receiver, &text, &expected);
        let event = server.event(&text);
        assert_eq!(event["source"], json!({"protocol": protocol, "peer": "127.0.0.1"}));
        let host = event["hostname"].as_str().expect("a host name");
        assert!(host == hostname() || host == short, "host {host} of {name}");
        assert_eq!(server.events(&format!("q={name}&limit=10")).len(), 1, "{name} makes one event");
    }
}

#[test]
fn logger_structured_data_arrives_as_structured_data() {
    let (receiver, server) = server();
    let text = format!("{WORD} with structured data");
    Tool::new("logger")
        .args([
            "-n",
            "127.0.0.1",
            "-P",
            &server.ports.syslog.port().to_string(),
            "-T",
            "--rfc5424",
            "-p",
            "daemon.crit",
        ])
        .args(["--msgid", "TEMP", "--sd-id", "zone@32473", "--sd-param", r#"rack="7 b""#, "-t", "probe"])
        .arg(&text)
        .succeed();
    check(&server, &receiver, &text, &json!({"severity": 2, "facility": 3, "msg_id": "TEMP", "app_name": "probe"}));
    assert_eq!(server.event(&text)["structured_data"]["zone@32473"], json!({"rack": "7 b"}));
}

#[test]
fn rsyslog_forwards_over_udp_tcp_and_counted_tcp() {
    let (receiver, server) = server();
    let relay = Rsyslog::start(server.ports.syslog.port());
    let text = format!("{WORD} relayed line");
    Tool::new("logger")
        .args(["-T", "--rfc3164", "-n", "127.0.0.1", "-P", &relay.port.to_string(), "-p", "local5.warning"])
        .args(["-t", "relayed", "--id=77"])
        .arg(&text)
        .succeed();
    for (way, protocol) in [("via-udp", "syslog_udp"), ("via-tcp", "syslog_tcp"), ("via-counted", "syslog_tcp")] {
        let found = format!("{way} {text}");
        let expected = json!({"severity": 4, "facility": 21, "app_name": "relayed", "proc_id": "77"});
        check(&server, &receiver, &found, &expected);
        assert_eq!(server.event(&found)["source"]["protocol"], protocol, "{way}");
    }
}

#[test]
fn snmptrap_version_1_follows_rfc_3584() {
    let (receiver, server) = server();
    let own = "1.3.6.1.4.1.8072.9999";
    trap(&server, &["-v", "1"], &[own, "192.0.2.7", "6", "17", "4200", &format!("{own}.1"), "s", "kestrel v1 own"]);
    check(
        &server,
        &receiver,
        "kestrel v1 own",
        &json!({"hostname": "192.0.2.7", "trap_oid": "1.3.6.1.4.1.8072.9999.0.17"}),
    );
    trap(&server, &["-v", "1"], &["", "192.0.2.8", "2", "0", "", "1.3.6.1.2.1.2.2.1.2.4", "s", "kestrel v1 linkdown"]);
    let linkdown = json!({"hostname": "192.0.2.8", "trap_oid": "1.3.6.1.6.3.1.1.5.3"});
    check(&server, &receiver, "kestrel v1 linkdown", &linkdown);
    let event = server.event("kestrel v1 linkdown");
    assert_eq!(event["source"]["protocol"], "snmp_trap");
    assert_eq!(event["varbinds"][0]["oid"], "1.3.6.1.2.1.2.2.1.2.4");
    assert_eq!(event["varbinds"][0]["type"], "OCTET STRING");
}

#[test]
fn snmptrap_version_2c_keeps_order_type_and_value_of_varbinds() {
    let (receiver, server) = server();
    let own = "1.3.6.1.4.1.8072.9999.2";
    let varbinds = [
        (format!("{own}.1"), "i", "-5", "INTEGER", "-5"),
        (format!("{own}.2"), "s", "kestrel v2c every type", "OCTET STRING", "kestrel v2c every type"),
        (format!("{own}.3"), "o", "1.3.6.1.4.1.9.1", "OBJECT IDENTIFIER", "1.3.6.1.4.1.9.1"),
        (format!("{own}.4"), "a", "198.51.100.4", "IpAddress", "198.51.100.4"),
        (format!("{own}.5"), "c", "4294967295", "Counter32", "4294967295"),
        (format!("{own}.6"), "u", "4000000000", "Gauge32", "4000000000"),
        (format!("{own}.7"), "t", "8640000", "TimeTicks", "8640000"),
        (format!("{own}.8"), "C", "18446744073709551615", "Counter64", "18446744073709551615"),
        (format!("{own}.1"), "i", "6", "INTEGER", "6"),
    ];
    let mut arguments = vec!["", "1.3.6.1.4.1.8072.9999.0.1"];
    arguments.extend(varbinds.iter().flat_map(|(oid, kind, value, ..)| [oid.as_str(), kind, value]));
    trap(&server, &["-v", "2c"], &arguments);
    let expected = json!({"hostname": "127.0.0.1", "trap_oid": "1.3.6.1.4.1.8072.9999.0.1"});
    check(&server, &receiver, "kestrel v2c every type", &expected);
    let event = server.event("kestrel v2c every type");
    let found: Vec<[&str; 3]> = event["varbinds"]
        .as_array()
        .expect("varbinds are a list")
        .iter()
        .map(|varbind| ["oid", "type", "value"].map(|member| varbind[member].as_str().expect("text")))
        .collect();
    let wanted: Vec<[&str; 3]> =
        varbinds.iter().map(|(oid, _, _, kind, value)| [oid.as_str(), *kind, *value]).collect();
    assert_eq!(found, wanted);
}

#[test]
fn octets_that_are_not_text_are_shown_as_hex() {
    let (_receiver, server) = server();
    let arguments = [
        "",
        "1.3.6.1.4.1.8072.9999.0.2",
        "1.3.6.1.4.1.8072.9999.1",
        "x",
        "00 1B FF 80",
        "1.3.6.1.4.1.8072.9999.2",
        "s",
        "kestrel hex",
    ];
    trap(&server, &["-v", "2c"], &arguments);
    assert_eq!(server.event("kestrel hex")["varbinds"][0]["value"], "hex:001bff80");
}

#[test]
fn an_oid_rule_compares_whole_arcs() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let rule = server.rule(&json!({"trap_oid": ".1.3.6.1.4.1.9.*", "match_type": "oid_prefix"}));
    trap(&server, &["-v", "2c"], &["", "1.3.6.1.4.1.99.0.1", "1.3.6.1.4.1.99.1", "s", "not this arc"]);
    trap(&server, &["-v", "2c"], &["", "1.3.6.1.4.1.9.0.1", "1.3.6.1.4.1.9.1", "s", "this arc"]);
    eventually("the trap below 1.3.6.1.4.1.9 is matched", || {
        server.events(&format!("rule_id={rule}&q=this%20arc&limit=10")).into_iter().next()
    });
    server.event("not this arc");
    server.check_counters();
    let matched = server.events(&format!("rule_id={rule}&limit=10"));
    assert_eq!(matched.len(), 1, "only one of the two lies below the prefix: {matched:?}");
}

#[test]
fn snmpinform_is_acknowledged_and_makes_one_event() {
    let (receiver, server) = server();
    // snmpinform ends with success only if the response came.
    Tool::new("snmpinform")
        .args(["-v", "2c", "-c", COMMUNITY, "-r", "2", "-t", "5", &server.ports.snmp.to_string()])
        .args(["", "1.3.6.1.6.3.1.1.5.4", "1.3.6.1.4.1.8072.9999.1", "s", "kestrel inform"])
        .succeed();
    check(&server, &receiver, "kestrel inform", &json!({"trap_oid": "1.3.6.1.6.3.1.1.5.4"}));
    assert_eq!(server.events("q=kestrel%20inform&limit=10").len(), 1);
}

#[test]
fn a_wrong_community_is_neither_taken_nor_answered() {
    let (_receiver, server) = server();
    let refused = Tool::new("snmpinform")
        .args(["-v", "2c", "-c", "guessed", "-r", "0", "-t", "1", &server.ports.snmp.to_string()])
        .args(["", "1.3.6.1.6.3.1.1.5.4", "1.3.6.1.4.1.8072.9999.1", "s", "kestrel guessed"])
        .output();
    assert!(!refused.status.success(), "an inform with a wrong community was acknowledged");
    eventually("the refused inform is counted", || {
        let labels = [("source", "snmp_trap"), ("reason", "bad_community")];
        (server.metrics().sum("mutt_events_dropped_total", &labels) == 1).then_some(())
    });
    assert!(server.events("q=guessed&limit=10").is_empty());
    assert!(!server.log().contains("guessed"), "a community string was logged");
}

#[test]
fn curl_sends_one_event_an_array_lines_and_gzip() {
    let (receiver, server) = server();
    let folder = TempDir::new().expect("a temporary directory");
    let item = |name: &str| {
        json!({"hostname": "edge-gw-4", "message": format!("{WORD} {name}"), "timestamp": "2026-03-01T12:00:00Z",
               "severity": "warning", "app_name": "poller", "site": {"floor": 2}})
        .to_string()
    };
    let array = format!("[{},{}]", item("array-1"), item("array-2"));
    let lines = format!("{}\n{}\n", item("lines-1"), item("lines-2"));
    let gzipped = format!("{}\n{}\n", item("gzip-1"), item("gzip-2"));
    const JSON: &str = "Content-Type: application/json";
    const LINES: &str = "Content-Type: application/x-ndjson";
    let cases: [(&str, Vec<u8>, Vec<&str>); 4] = [
        ("single", item("single").into_bytes(), vec![JSON]),
        ("array", array.into_bytes(), vec![JSON]),
        ("lines", lines.into_bytes(), vec![LINES]),
        ("gzip", gzip(gzipped.as_bytes()), vec![LINES, "Content-Encoding: gzip"]),
    ];
    for (name, body, headers) in cases {
        let file = folder.path().join(name);
        fs::write(&file, body).expect("the body is written");
        let answer = curl(&server, INGEST_KEY, &file, &headers);
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{name}: {error}: {answer}"));
        assert_eq!(answer["status"], "queued", "{name}: {answer}");
        assert!(answer["queue_depth"].is_u64() && answer["correlation_id"].is_string(), "{name}: {answer}");
        let sent = if name == "single" {
            vec!["single".to_owned()]
        } else {
            [1, 2].map(|part| format!("{name}-{part}")).to_vec()
        };
        for part in sent {
            let expected = json!({"hostname": "edge-gw-4", "severity": 4, "app_name": "poller",
                "fields": {"site": {"floor": 2}}, "source": {"protocol": "http", "peer": "127.0.0.1"}});
            check(&server, &receiver, &format!("{WORD} {part}"), &expected);
        }
    }
    let by_admin = folder.path().join("single");
    assert!(curl(&server, ADMIN_KEY, &by_admin, &[JSON]).contains("queued"));
}

fn curl(server: &Server, key: &str, file: &std::path::Path, headers: &[&str]) -> String {
    let tool = Tool::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "30", "-X", "POST"])
        .args(["-H", &format!("X-API-KEY: {key}"), "--data-binary", &format!("@{}", file.display())]);
    headers
        .iter()
        .fold(tool, |tool, header| tool.args(["-H", header]))
        .arg(format!("http://{}/api/v2/ingest", server.ports.ingest))
        .succeed()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn trap(server: &Server, version: &[&str], arguments: &[&str]) {
    let port = server.ports.snmp.to_string();
    Tool::new("snmptrap").args(version).args(["-c", COMMUNITY, &port]).args(arguments).succeed();
}

/// A real rsyslogd that relays what it gets over TCP to the server in three ways.
struct Rsyslog {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Rsyslog {
    fn start(to: u16) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let port = Server::builder().ports().syslog.port();
        let (config, pid) = (folder.path().join("rsyslog.conf"), folder.path().join("rsyslog.pid"));
        let template = |name: &str| {
            format!(
                "template(name=\"{name}\" type=\"string\" string=\"<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% \
                 %APP-NAME% %PROCID% %MSGID% %STRUCTURED-DATA% {name}%msg%\\n\")\n"
            )
        };
        let action = |name: &str, more: &str| {
            format!("action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{to}\" template=\"{name}\" {more})\n")
        };
        let text = [
            format!("global(workDirectory=\"{}\")\n", folder.path().display()),
            "module(load=\"imtcp\")\n".to_owned(),
            format!("input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n"),
            template("via-udp"),
            template("via-tcp"),
            template("via-counted"),
            action("via-udp", "protocol=\"udp\""),
            action("via-tcp", "protocol=\"tcp\" TCP_Framing=\"traditional\""),
            action("via-counted", "protocol=\"tcp\" TCP_Framing=\"octet-counted\""),
        ];
        fs::write(&config, text.concat()).expect("rsyslog's configuration is written");
        let mut command = Tool::new("rsyslogd").args(["-n", "-f"]).arg(&config).arg("-i").arg(&pid).into_command();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let relay = Self { port, child: child.expect("rsyslogd can be started"), _folder: folder };
        eventually("rsyslogd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        relay
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
