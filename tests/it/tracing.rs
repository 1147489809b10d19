//! One event's way as a trace: from the sender's `traceparent` through every stage to the header that the receiver gets,
//! read from what a collector is sent with the official message types of OTLP.

use std::net::UdpSocket;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;
use serde_json::json;

use crate::support::{INGEST_KEY, Receiver, Reply, Request, Server, ServerBuilder, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

fn traced(receiver: &Receiver, collector: &Receiver, per_million: u32) -> ServerBuilder {
    Server::builder()
        .delivering_to(receiver)
        .env("MUTTD_TELEMETRY_OTLP_ENDPOINT", collector.origin())
        .env("MUTTD_TELEMETRY_OTLP_HEADERS", "x-tenant=ops,authorization=Bearer c0llector")
        .env("MUTTD_DYNAMIC_TRACE_PER_MILLION", per_million.to_string())
}

/// Everything that the collector took, strictly read: what is read and written again must be what was sent.
fn exported(collector: &Receiver) -> Vec<ResourceSpans> {
    let posts = collector.posts().into_iter().filter(|post| post.status == 200);
    posts
        .flat_map(|post| {
            assert_eq!(
                (post.path.as_str(), post.header("content-type")),
                ("/v1/traces", Some("application/x-protobuf"))
            );
            assert_eq!(
                (post.header("x-tenant"), post.header("authorization")),
                (Some("ops"), Some("Bearer c0llector"))
            );
            let request = ExportTraceServiceRequest::decode(post.body.as_slice()).expect("an export");
            assert_eq!(request.encode_to_vec(), post.body, "nothing but what the definition knows, in its order");
            request.resource_spans
        })
        .collect()
}

fn spans(collector: &Receiver) -> Vec<Span> {
    let scopes = exported(collector).into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("`{name}` is {other:?}"),
    }
}

/// Waits until the trace has a span of each of these names, and gives them in that order.
fn trace<const N: usize>(collector: &Receiver, trace_id: &str, names: [&str; N]) -> [Span; N] {
    eventually("the whole trace arrives", || {
        let of_trace: Vec<Span> = spans(collector).into_iter().filter(|span| hex(&span.trace_id) == trace_id).collect();
        let found = names.map(|name| of_trace.iter().find(|span| span.name == name).cloned());
        found.iter().all(Option::is_some).then(|| found.map(Option::unwrap_or_default))
    })
}

#[test]
fn one_way_is_one_trace_from_the_sender_to_the_receiver() {
    let (receiver, collector) = (Receiver::start(), Receiver::start());
    let server = traced(&receiver, &collector, 0).start();
    let rule = server.forward_rule("beacon");
    receiver.answer_next([Reply::status(503)]);
    let event = json!({"hostname": "sw1", "message": "beacon lost", "timestamp": 1});
    let sent = Request::post(server.ports.ingest, "/api/v2/ingest").key(INGEST_KEY).json(&event);
    let sent = sent.header("traceparent", format!("00-{TRACE}-{SENDER}-01")).header("tracestate", "vendor=7");
    let id = sent.expect().must_be(200).json()["correlation_id"].as_str().expect("an id").to_owned();

    let delivered = eventually("the alert is taken", || receiver.taken("beacon lost").into_iter().next());
    let names = ["POST ingest", "receive", "queue", "judge", "audit"];
    let [request, receive, queue, judge, audit] = trace(&collector, TRACE, names);
    assert_eq!((hex(&request.parent_span_id), request.kind), (SENDER.to_owned(), 2));
    assert_eq!(text(&request.attributes, "http.response.status_code"), "200");
    assert_eq!(receive.parent_span_id, request.span_id);
    assert_eq!(text(&receive.attributes, "muttd.event.id"), id);
    assert_eq!(text(&receive.attributes, "network.peer.address"), "127.0.0.1");
    for stage in [&queue, &judge, &audit] {
        assert_eq!(stage.parent_span_id, receive.span_id, "{}", stage.name);
        assert!(stage.start_time_unix_nano <= stage.end_time_unix_nano);
    }
    assert_eq!(queue.end_time_unix_nano, judge.start_time_unix_nano);
    assert_eq!(text(&judge.attributes, "muttd.rule.id"), rule.to_string());

    let attempts: Vec<Span> = eventually("both attempts are told", || {
        let all = spans(&collector).into_iter().filter(|span| span.name == "deliver").collect::<Vec<_>>();
        (all.len() == 2).then_some(all)
    });
    for (attempt, (status, failed)) in attempts.iter().zip([("503", true), ("200", false)]) {
        assert_eq!((attempt.parent_span_id.clone(), attempt.kind), (receive.span_id.clone(), 3));
        assert_eq!(text(&attempt.attributes, "http.response.status_code"), status);
        assert_eq!(text(&attempt.attributes, "muttd.target"), "moogsoft");
        assert_eq!(attempt.status.as_ref().is_some_and(|status| status.code == 2), failed);
        assert_eq!((attempt.trace_state.as_str(), hex(&attempt.trace_id).as_str()), ("vendor=7", TRACE));
    }
    let header = format!("00-{TRACE}-{}-01", hex(&attempts[1].span_id));
    assert_eq!(
        (delivered.header("traceparent"), delivered.header("tracestate")),
        (Some(header.as_str()), Some("vendor=7"))
    );
    assert_eq!(server.event("beacon lost")["trace_id"], TRACE);
    let resource = exported(&collector).remove(0).resource.expect("a resource");
    assert_eq!(text(&resource.attributes, "service.name"), "muttd");
    assert_eq!(text(&resource.attributes, "service.version"), env!("CARGO_PKG_VERSION"));
    assert!(!text(&resource.attributes, "host.name").is_empty());
    assert!(!server.log().contains("c0llector"), "a header of the collector was logged");
}

#[test]
fn what_its_sender_does_not_record_is_not_exported_and_every_event_has_a_trace() {
    let (receiver, collector) = (Receiver::start(), Receiver::start());
    let server = traced(&receiver, &collector, 0).start();
    server.forward_rule("beacon");
    let event = |text: &str| json!({"hostname": "sw1", "message": format!("beacon {text}"), "timestamp": 1});
    let own =
        server.ingest(&event("own")).must_be(200).json()["correlation_id"].as_str().expect("an id").replace('-', "");
    let mut named = event("named");
    named["traceparent"] = format!("00-{TRACE}-{SENDER}-00").into();
    server.ingest(&named).must_be(200);
    let header = |text: &str| {
        let post = eventually("the alert arrives", || receiver.taken(text).into_iter().next());
        post.header("traceparent").expect("every delivery has one").to_owned()
    };
    let (of_own, of_named) = (header("beacon own"), header("beacon named"));
    assert!(of_own.starts_with(&format!("00-{own}-")) && of_own.ends_with("-00"), "{of_own}");
    assert!(of_named.starts_with(&format!("00-{TRACE}-")) && of_named.ends_with("-00"), "{of_named}");
    assert!(!of_named.contains(SENDER), "the span is ours");

    // Now everything: a datagram begins a trace of its own.
    Request::put(server.ports.web, "/api/v2/config/trace_per_million")
        .key(crate::support::ADMIN_KEY)
        .json(&json!({"value": 1_000_000}))
        .expect()
        .must_be(200);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"<13>sw2 app: beacon by datagram", server.ports.syslog).expect("sent");
    let event = server.event("beacon by datagram");
    let trace_id = event["trace_id"].as_str().expect("a trace id");
    let [receive, deliver] = trace(&collector, trace_id, ["receive", "deliver"]);
    assert!(receive.parent_span_id.is_empty(), "it is the first");
    assert_eq!(
        (text(&receive.attributes, "muttd.source"), deliver.parent_span_id),
        ("syslog_udp".to_owned(), receive.span_id)
    );
    assert!(header("by datagram").ends_with(&format!("-{}-01", hex(&deliver.span_id))));
    let known = spans(&collector);
    assert!(known.iter().all(|span| ![own.as_str(), TRACE].contains(&hex(&span.trace_id).as_str())), "{known:?}");
}

#[test]
fn a_collector_that_refuses_costs_spans_and_nothing_else() {
    let (receiver, collector) = (Receiver::start(), Receiver::start());
    collector.always(Reply::status(400));
    let server = traced(&receiver, &collector, 1_000_000).start();
    server.forward_rule("beacon");
    let send = |text: &str| {
        server.ingest(&json!({"hostname": "sw1", "message": text, "timestamp": 1})).must_be(200);
        eventually("the alert arrives", || receiver.taken(text).into_iter().next());
    };
    send("beacon one");
    eventually("the spans are given up", || {
        (server.metrics().sum("mutt_trace_spans_total", &[("outcome", "failed")]) >= 5).then_some(())
    });
    assert!(server.log().contains("does not take spans"), "{}", server.log());
    collector.always(Reply::status(200));
    send("beacon two");
    eventually("spans are taken again", || {
        (server.metrics().sum("mutt_trace_spans_total", &[("outcome", "exported")]) >= 5).then_some(())
    });
    server.check_counters();
}
