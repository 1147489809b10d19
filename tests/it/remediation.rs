//! Remediation of a real server with a real receiver: letters come back by themselves, poison is set aside and told once,
//! and a kill at any moment loses neither.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{ADMIN_KEY, Receiver, Reply, Request, Server, eventually};

/// A server whose remediation runs each second and gives a message one further chance.
fn server(receiver: &Receiver) -> Server {
    Server::builder()
        .delivering_to(receiver)
        .env("MUTTD_DYNAMIC_REMEDIATION_INTERVAL", "1")
        .env("MUTTD_DYNAMIC_HEALTH_PROBE_TTL", "1")
        .env("MUTTD_DYNAMIC_MAX_POISON_RETRIES", "1")
        .start()
}

fn send(server: &Server, host: &str, message: &str) {
    let event = json!({"hostname": host, "message": message, "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&event).must_be(200);
}

#[test]
fn a_refused_alert_comes_back_once_the_receiver_takes_it() {
    let receiver = Receiver::start();
    let server = server(&receiver);
    server.forward_rule("fan failed");
    receiver.answer_next([Reply::status(422)]);
    send(&server, "core1", "fan failed");
    eventually("the alert arrives after it was refused once", || receiver.taken("fan failed").into_iter().next());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("mutt_auto_remediation_total", &[("action", "replayed")]), 1);
    assert_eq!(metrics.sum("mutt_moog_health_status", &[]), 1);
    let status = server.api_get("/api/v2/remediation");
    assert_eq!((&status["enabled"], &status["targets"][0]["healthy"]), (&json!(true), &json!(true)));
    server.check_counters();
}

#[test]
fn a_message_that_is_always_refused_is_set_aside_and_told_once() {
    let receiver = Receiver::start();
    let server = server(&receiver);
    server.forward_rule("fan failed");
    // The message itself twice, then its report is taken.
    receiver.answer_next([Reply::status(422), Reply::status(422)]);
    send(&server, "core1", "fan failed");
    let report = eventually("the operator is told", || receiver.taken("set aside in the queue").into_iter().next());
    assert!(report.member("description").contains("1 of moogsoft (refused)"), "{}", report.member("description"));
    let dead = server.api_get("/api/v2/dead-letters?queue=dead");
    let letter = &dead["queues"][0]["items"][0];
    assert_eq!((&letter["replays"], &letter["event"]["hostname"]), (&json!(1), &json!("core1")));
    assert!(letter["answer"].as_str().is_some_and(|answer| answer.starts_with("422")), "{letter}");
    // The report itself can be looked up like any other alert.
    assert_eq!(server.events("q=set%20aside%20in%20the%20queue&matched=true").len(), 1);
    assert_eq!(receiver.taken("set aside in the queue").len(), 1);
    assert_eq!(server.metrics().sum("mutt_auto_remediation_total", &[("action", "poison")]), 1);
}

#[test]
fn letters_and_their_counts_survive_a_kill_and_one_run_can_be_asked_for() {
    let receiver = Receiver::start();
    let mut server = Server::builder()
        .delivering_to(&receiver)
        .env("MUTTD_DYNAMIC_REMEDIATION_ENABLED", "false")
        .env("MUTTD_DYNAMIC_HEALTH_PROBE_TTL", "1")
        .start();
    server.forward_rule("fan failed");
    receiver.always(Reply::status(422));
    for number in 0..3 {
        send(&server, "core1", &format!("fan failed {number}"));
    }
    // How often each of the three events was put back, by the letters of it. A kill may undo the last acks, so that an
    // alert dies a second time: more letters, never fewer, and of the same three events.
    let letters = |server: &Server| {
        let page = server.api_get("/api/v2/dead-letters?queue=dlq.forwarder");
        let mut replays = BTreeMap::<String, u64>::new();
        for letter in page["queues"][0]["items"].as_array().expect("items") {
            let most = replays.entry(letter["event"]["message"].to_string()).or_default();
            *most = letter["replays"].as_u64().expect("a number").max(*most);
        }
        replays
    };
    let all_have = |server: &Server, replays: u64| {
        let found = letters(server);
        assert!(found.len() <= 3, "{found:?}");
        (found.len() == 3 && found.values().all(|count| *count == replays)).then_some(())
    };
    let run = |server: &Server| {
        Request::post(server.ports.web, "/api/v2/remediation/run").key(ADMIN_KEY).json(&json!({})).expect()
    };
    eventually("all three are dead letters", || all_have(&server, 0));
    server.kill();
    server.start_again();
    assert!(all_have(&server, 0).is_some(), "{:?}", letters(&server));
    eventually("the target was asked and the run put them back", || {
        (run(&server).must_be(200).json()["replayed"].as_u64() >= Some(3)).then_some(())
    });
    eventually("they died again", || all_have(&server, 1));
    server.kill();
    server.start_again();
    assert!(all_have(&server, 1).is_some(), "{:?}", letters(&server));
    receiver.always(Reply::status(200));
    eventually("they go out in the end", || {
        run(&server).must_be(200);
        (0..3).all(|number| !receiver.taken(&format!("fan failed {number}")).is_empty()).then_some(())
    });
}
