//! A polite stop loses nothing; a taken port stops nobody but its own listener.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};

use serde_json::{Value, json};

use crate::support::{COMMUNITY, Receiver, Request, Server, Tool, eventually};

/// Lines sent just before the stop.
const LINES: usize = 2_000;
/// What a stop may take, in seconds: the promise is 10.
const STOP_WITHIN: u64 = 10;

#[test]
fn sigterm_drains_what_was_sent_and_ends_with_success() {
    let receiver = Receiver::start();
    let mut server = Server::start(&receiver);
    server.rule(&json!({"match_string": "drained", "prod_handling": "Ignore"}));
    let lines: String =
        (0..LINES).map(|number| format!("<13>Mar  1 12:00:00 h app: drained line={number:06}\n")).collect();
    let mut stream = TcpStream::connect(server.ports.syslog).expect("the syslog port is open");
    stream.write_all(lines.as_bytes()).expect("the lines are sent");
    drop(stream);
    eventually("the first lines came in", || (server.metrics().received() > 0).then_some(()));
    let (status, took) = server.terminate();
    assert!(status.success(), "ended with {status}");
    assert!(took.as_secs() <= STOP_WITHIN, "the stop took {took:?}");
    server.start_again();
    eventually("every line is in the audit", || {
        let page = |page| server.api_get(&format!("/api/v2/audit-logs?page={page}&limit=1000"));
        let rows = |page: Value| page["logs"].as_array().expect("`logs` is a list").len();
        ((1..=LINES / 1_000 + 1).map(|number| rows(page(number))).sum::<usize>() == LINES).then_some(())
    });
}

#[test]
fn a_second_stop_signal_does_not_break_the_first() {
    let receiver = Receiver::start();
    let mut server = Server::start(&receiver);
    let (status, _) = server.terminate();
    assert!(status.success());
    server.start_again();
    let (status, _) = server.terminate();
    assert!(status.success(), "a restart on the same data can be stopped again");
}

#[test]
fn a_taken_port_is_named_and_the_other_inputs_go_on() {
    let receiver = Receiver::start();
    let builder = Server::builder().delivering_to(&receiver);
    let port = builder.ports().syslog;
    let _udp = UdpSocket::bind(port).expect("the port is free");
    let _tcp = TcpListener::bind(port).expect("the port is free");
    let mut server = builder.spawn();
    let answer = eventually("/ready answers", || Request::get(server.ports.web, "/ready").send().ok());
    assert_eq!(answer.status, 503, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains(&port.port().to_string()), "/ready does not name the port: {text}");
    let own = std::process::id().to_string();
    assert!(text.contains(&own), "/ready does not say which process (this one, {own}) holds the port: {text}");
    eventually("the log names the port", || server.log().contains(&port.port().to_string()).then_some(()));
    let item = json!({"hostname": "h", "message": "http goes on", "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&item).must_be(200);
    server.event("http goes on");
    Tool::new("snmpinform")
        .args(["-v", "2c", "-c", COMMUNITY, "-r", "1", "-t", "5", &server.ports.snmp.to_string()])
        .args(["", "1.3.6.1.6.3.1.1.5.1", "1.3.6.1.4.1.8072.9999.1", "s", "traps go on"])
        .succeed();
    server.event("traps go on");
    assert_eq!(server.metrics().sum("mutt_listener_up", &[("listener", "syslog_udp")]), 0);
    assert_eq!(server.metrics().sum("mutt_listener_up", &[("listener", "snmp")]), 1);
    let (status, _) = server.terminate();
    assert!(status.success());
}

#[test]
fn two_processes_on_one_data_directory_are_refused() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let mut second = Server::builder().data(server.data()).spawn();
    let text = eventually("the second process ends", || (!second.is_alive()).then(|| second.log()));
    let folder = server.data().display().to_string();
    assert!(text.contains(&folder), "the refusal does not name the directory {folder}: {text}");
    server
        .ingest(&json!({"hostname": "h", "message": "the first goes on", "timestamp": "2026-03-01T12:00:00Z"}))
        .must_be(200);
    server.event("the first goes on");
}
