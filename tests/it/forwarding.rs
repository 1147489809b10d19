//! From the alert to the receiver: what is sent, what is tried again, what is given up, and that keys are asked for.

use muttd::cli::mock_moog::{MockMoog, MockOptions};
use serde_json::json;

use crate::support::{ADMIN_KEY, INGEST_KEY, Receiver, Reply, Request, Server, eventually};

fn event(message: &str) -> serde_json::Value {
    json!({"hostname": "core-sw-1", "message": message, "timestamp": "2026-03-01T12:00:00Z", "severity": 2})
}

#[test]
fn an_alert_has_the_form_the_receiver_expects() {
    let receiver = Receiver::start();
    let server = Server::builder().delivering_to(&receiver).env("MUTTD_MOOG_AGENT_LOCATION", "site 7").start();
    server.rule(&json!({"match_string": "power supply", "team_assignment": "FACILITY"}));
    let answer = Request::post(server.ports.ingest, "/api/v2/ingest")
        .key(INGEST_KEY)
        .header("X-Correlation-ID", "ticket-4711")
        .json(&event("Power Supply 2 failed"))
        .expect()
        .must_be(200);
    assert_eq!(answer.header("x-correlation-id"), Some("ticket-4711"));
    let post = eventually("the alert arrives", || receiver.taken("Power Supply 2 failed").into_iter().next());
    assert_eq!(post.header("authorization"), Some("Bearer test-moogsoft-key-0123456789"));
    assert!(post.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    for (member, value) in [
        ("source_id", "core-sw-1"),
        ("external_id", "ticket-4711"),
        ("manager", "MUTT"),
        ("class", "FACILITY"),
        ("severity", "5"),
        ("agent_location", "site 7"),
    ] {
        assert_eq!(post.member(member), value, "`{member}` of {}", post.json);
    }
    for member in ["signature", "source", "agent", "type", "agent_time"] {
        assert!(!post.member(member).is_empty(), "`{member}` is missing in {}", post.json);
    }
    assert_eq!(post.json["custom_info"]["message"], "Power Supply 2 failed");
    assert_eq!(post.path, "/events/webhook_mutt");
}

/// What the end-to-end test of MUTT 2.x asks: an event goes in by HTTP, and the receiver counts it within 30 seconds.
#[test]
fn an_event_is_counted_by_the_receiver_that_comes_with_the_program() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mock = MockMoog::start(listener, MockOptions::default()).unwrap();
    let address = mock.local_addr();
    let url = format!("http://{address}/events");
    let server = Server::builder().env("MUTTD_MOOG_WEBHOOK_URL", url).start();
    server.rule(&json!({"match_string": "power supply"}));
    Request::post(server.ports.ingest, "/ingest")
        .key(INGEST_KEY)
        .json(&event("Power Supply 1 failed"))
        .expect()
        .must_be(200);
    let counted = || {
        let events = Request::get(address, "/events").expect().must_be(200).json();
        (events["count"] == 1).then(|| events["events"][0]["description"].clone())
    };
    assert_eq!(eventually("the receiver counts the event", counted), "Power Supply 1 failed");
}

#[test]
fn environment_and_handling_decide_what_is_forwarded() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let paging =
        json!({"match_string": "disk", "prod_handling": "page_ONLY", "dev_handling": "Ignore", "priority": 10});
    server.api_post("/api/v2/dev-hosts", &json!({"hostname": "lab-1"})).must_be(201);
    server.rule(&paging);
    server.rule(&json!({"match_string": "disk", "prod_handling": "Ignore", "priority": 20}));
    let from = |host: &str| json!({"hostname": host, "message": format!("disk full on {host}"), "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&json!([from("LAB-1"), from("prod-1")])).must_be(200);
    eventually("the production host's alert arrives", || receiver.taken("disk full on prod-1").into_iter().next());
    eventually("the development host's event is matched", || {
        server.events("q=LAB-1&matched=true&limit=10").into_iter().next()
    });
    server.check_counters();
    assert!(receiver.taken("LAB-1").is_empty(), "a development host's event was forwarded");
    let metrics = server.metrics();
    let status = |name| metrics.sum("mutt_alerter_events_processed_total", &[("status", name)]);
    assert_eq!((status("forwarded"), status("ignored"), status("unhandled")), (1, 1, 0));
}

#[test]
fn a_failing_receiver_is_tried_again_until_it_takes_the_alert() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    server.forward_rule("retry me");
    receiver.answer_next([Reply::status(500), Reply::status(429).after(1)]);
    server.ingest(&event("retry me once more")).must_be(200);
    eventually("the alert is taken in the end", || receiver.taken("retry me").into_iter().next());
    let posts = receiver.posts();
    assert_eq!(posts.iter().map(|post| post.status).collect::<Vec<_>>(), [500, 429, 200]);
    let ids: Vec<String> = posts.iter().map(|post| post.member("external_id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "each try carries the same id: {ids:?}");
    eventually("the outbox is empty again", || (server.metrics().depth("alert") == 0).then_some(()));
    let metrics = server.metrics();
    assert_eq!(metrics.sum("mutt_moog_requests_total", &[("status", "success")]), 1);
    assert_eq!(metrics.sum("mutt_moog_requests_total", &[("status", "retry")]), 2);
    assert_eq!(metrics.depth("dlq.forwarder"), 0);
}

#[test]
fn a_waiting_retry_holds_nobody_up() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    server.forward_rule("line");
    receiver.answer_next([Reply::status(503).after(30)]);
    server.ingest(&event("line one")).must_be(200);
    eventually("the first alert was refused", || (receiver.posts().len() == 1).then_some(()));
    server.ingest(&event("line two")).must_be(200);
    eventually("the second alert arrives meanwhile", || receiver.taken("line two").into_iter().next());
    assert!(receiver.taken("line one").is_empty(), "Retry-After was not honoured");
    assert_eq!(server.metrics().depth("alert"), 1, "the first alert waits");
}

#[test]
fn a_refused_alert_becomes_a_dead_letter_with_the_answer() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    server.forward_rule("refuse me");
    receiver.always(Reply::status(400));
    server.ingest(&event("refuse me please")).must_be(200);
    eventually("the alert is a dead letter", || (server.metrics().depth("dlq.forwarder") == 1).then_some(()));
    assert_eq!(receiver.posts().len(), 1, "a refusal is final");
    let letters = server.api_get("/api/v2/dead-letters").to_string();
    assert!(letters.contains("400") && letters.contains("refuse me please"), "{letters}");
    assert_eq!(server.metrics().depth("alert"), 0);
}

#[test]
fn alerts_wait_for_a_receiver_that_is_not_there() {
    let receiver = Receiver::start();
    let mut server = Server::builder().delivering_to(&receiver).env("MUTTD_MOOG_WEBHOOK_URL", "").start();
    server.forward_rule("wait for it");
    server.ingest(&event("wait for it")).must_be(200);
    eventually("the alert waits in the outbox", || (server.metrics().depth("alert") == 1).then_some(()));
    let (status, _) = server.terminate();
    assert!(status.success());
    server.start_again();
    assert_eq!(server.metrics().depth("alert"), 1, "the alert outlives a restart");
}

#[test]
fn wrong_keys_are_refused_everywhere() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let ingest = |key: Option<&str>| {
        let request = Request::post(server.ports.ingest, "/api/v2/ingest").json(&event("nobody let me in"));
        let request = match key {
            Some(key) => request.key(key),
            None => request,
        };
        request.expect().status
    };
    assert_eq!([ingest(None), ingest(Some("")), ingest(Some("wrong")), ingest(Some(&INGEST_KEY[1..]))], [401; 4]);
    for path in ["/api/v2/rules", "/api/v2/events", "/api/v2/teams", "/api/v2/dead-letters", "/api/v2/config-audit"] {
        for key in ["", "wrong", INGEST_KEY] {
            let status = Request::get(server.ports.web, path).key(key).expect().status;
            assert!([401, 403].contains(&status), "{path} answered {status} to the key `{key}`");
        }
        assert_eq!(Request::get(server.ports.web, path).key(ADMIN_KEY).expect().status, 200, "{path}");
    }
    let rule = json!({"match_string": "x", "match_type": "contains"});
    let status = Request::post(server.ports.web, "/api/v2/rules").key(INGEST_KEY).json(&rule).expect().status;
    assert!([401, 403].contains(&status), "the ingest key made a rule ({status})");
    server.check_counters();
    let labels = [("source", "http"), ("reason", "unauthorized")];
    assert!(server.metrics().sum("mutt_events_dropped_total", &labels) >= 4);
    assert!(server.events("q=nobody&limit=10").is_empty());
    let log = server.log();
    assert!(!log.contains(INGEST_KEY) && !log.contains(ADMIN_KEY), "a key was logged");
}

#[test]
fn a_rule_counts_at_once_and_its_changes_are_logged() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    server.ingest(&event("watch the tide")).must_be(200);
    server.event("watch the tide");
    let rule = server.forward_rule("tide");
    // Sends until one is matched; the rule is in force when the first of them is.
    eventually("the new rule matches", || {
        server.ingest(&event("the tide turns")).must_be(200);
        (!server.events(&format!("rule_id={rule}&limit=1")).is_empty()).then_some(())
    });
    let path = format!("/api/v2/rules/{rule}");
    let status = Request::delete(server.ports.web, path.as_str()).key(ADMIN_KEY).expect().status;
    assert!([200, 204].contains(&status), "the rule could not be deleted: {status}");
    assert_eq!(Request::get(server.ports.web, path.as_str()).key(ADMIN_KEY).expect().status, 404);
    let changes = server.api_get("/api/v2/config-audit?table_name=alert_rules");
    let operations = changes["changes"].as_array().expect("`changes`").iter().map(|change| change["operation"].clone());
    assert_eq!(operations.collect::<Vec<_>>(), [json!("DELETE"), json!("CREATE")]);
}
