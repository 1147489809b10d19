//! Many events of one kind that no rule matches make exactly one meta-alert, whatever happens in between.

use std::time::Duration;

use serde_json::json;

use crate::support::{Receiver, Server, eventually, holds_for};

/// How long nothing more may come: far longer than an alert's way to the receiver.
const QUIET: Duration = Duration::from_secs(2);

fn send(server: &Server, from: u32, count: u32) {
    let items: Vec<_> = (from..from + count)
        .map(|number| {
            json!({"hostname": "leaf-12", "message": format!("link flap on port {number} of slot 3"),
                   "timestamp": "2026-03-01T12:00:00Z"})
        })
        .collect();
    server.ingest(&json!(items)).must_be(200);
}

fn judged(server: &Server) {
    eventually("everything is judged", || {
        let metrics = server.metrics();
        (metrics.depth("ingest") == 0 && metrics.processed() > 0).then_some(())
    });
}

#[test]
fn one_meta_alert_goes_out_across_kills_and_restarts() {
    let receiver = Receiver::start();
    let mut server = Server::builder()
        .delivering_to(&receiver)
        .dynamic("unhandled_threshold", "10")
        .dynamic("unhandled_expiry_seconds", "86400")
        .start();
    server.api_post("/api/v2/teams", &json!({"hostname": "leaf-12", "team_assignment": "FABRIC"})).must_be(201);
    send(&server, 0, 6);
    judged(&server);
    assert!(receiver.posts().is_empty(), "below the threshold nothing goes out");
    server.kill();
    server.start_again();
    send(&server, 100, 6);
    let post = eventually("the meta-alert arrives", || receiver.posts().into_iter().next());
    assert_eq!(post.member("class"), "FABRIC");
    assert_eq!(post.member("source_id"), "leaf-12");
    assert!(post.member("description").contains("link flap"), "it carries a sample: {}", post.json);
    assert!(post.json["custom_info"]["unhandled"]["count"].as_u64().is_some_and(|count| (10..=12).contains(&count)));
    server.kill();
    server.start_again();
    send(&server, 200, 30);
    judged(&server);
    let signature = post.member("signature");
    holds_for("there is one meta-alert", QUIET, || {
        receiver.posts().iter().all(|other| other.member("external_id") == post.member("external_id"))
    });
    assert!(receiver.posts().iter().all(|other| other.member("signature") == signature));
}

#[test]
fn the_default_team_gets_what_belongs_to_nobody() {
    let receiver = Receiver::start();
    let server = Server::builder().delivering_to(&receiver).dynamic("unhandled_threshold", "5").start();
    send(&server, 0, 5);
    let post = eventually("the meta-alert arrives", || receiver.posts().into_iter().next());
    assert_eq!(post.member("class"), "NETO");
    eventually("it is counted", || (server.metrics().sum("mutt_unhandled_meta_alerts_total", &[]) == 1).then_some(()));
}
