//! Labelled lines of every dialect (`tests/data/syslog/lines.jsonl`), damaged input, and random input.

use std::net::{IpAddr, Ipv4Addr};

use chrono::FixedOffset;
use proptest::prelude::*;
use serde::Deserialize;

use super::parse::{ParseOptions, parse};
use crate::model::{Event, EventIds, Flag, Protocol, Source, Timestamp};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// A line and what it holds; what is left out must be absent from the event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    name: String,
    line: String,
    pri: Option<u8>,
    time: Option<String>,
    host: Option<String>,
    app: Option<String>,
    pid: Option<String>,
    id: Option<String>,
    message: String,
    #[serde(default)]
    sd: Vec<(String, Vec<(String, String)>)>,
    #[serde(default)]
    flags: Vec<String>,
}

fn labelled() -> Vec<Labelled> {
    let lines = include_str!("../../../tests/data/syslog/lines.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).expect("RFC 3339")
}

fn options() -> ParseOptions {
    ParseOptions::new(FixedOffset::east_opt(0), time("2026-03-01T12:00:00Z"), 64 << 10)
}

fn blank_event(options: &ParseOptions) -> Event {
    let source = Source { protocol: Protocol::SyslogUdp, peer: PEER };
    Event::new(EventIds::new(1).next(options.now), options.now, source)
}

fn read_with(bytes: &[u8], options: &ParseOptions) -> Option<Event> {
    parse(bytes, blank_event(options), options)
}

fn read(text: &str) -> Event {
    read_with(text.as_bytes(), &options()).expect("an event")
}

#[test]
fn every_labelled_line_is_read_as_labelled() {
    let cases = labelled();
    assert!(cases.len() > 150, "the table is complete");
    let mut wrong = Vec::new();
    for case in cases {
        let event = read(&case.line);
        let pri = case.pri.unwrap_or(13);
        let mut flags: Vec<&str> = event.flags.iter().map(|flag| flag.name()).collect();
        let host_is_peer = event.hostname == PEER.to_string() && event.has(Flag::HostFromPeer);
        flags.retain(|flag| *flag != Flag::HostFromPeer.name());
        let sd: Vec<_> = event.structured_data.iter().map(|e| (e.id.clone(), e.params.clone())).collect();
        let right = event.facility == Some(pri >> 3)
            && event.severity.map(|severity| severity.number()) == Some(pri & 7)
            && event.timestamp == case.time.as_deref().map(time)
            && case.host.as_ref().map_or(host_is_peer, |host| event.hostname == *host && !host_is_peer)
            && event.app_name.as_deref() == case.app.as_deref()
            && event.proc_id.as_deref() == case.pid.as_deref()
            && event.msg_id.as_deref() == case.id.as_deref()
            && event.message == case.message
            && sd == case.sd
            && flags == case.flags
            && event.raw == case.line.trim_end_matches(['\r', '\n', '\0']);
        if !right {
            let time = event.timestamp.map(|time| time.to_string());
            wrong.push(format!("{}\n   {:?}\n   at {time:?}: {event:?}", case.name, case.line));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_but_blanks_is_no_event() {
    for bytes in ["", "\n", "\r\n", "\0", " ", " \t \r\n", "\0\0\n\0", " \0 "] {
        assert_eq!(read_with(bytes.as_bytes(), &options()), None, "{bytes:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_and_the_rest_stays() {
    let check = |bytes: &[u8], message: &str| {
        let event = read_with(bytes, &options()).expect("an event");
        assert_eq!((event.message.as_str(), event.has(Flag::InvalidUtf8)), (message, true));
        assert_eq!(event.facility, Some(4));
    };
    check(b"<34>Feb  5 17:32:18 host app: caf\xe9 open", "caf\u{fffd} open");
    check(b"<34>1 - host app - - - \xff\xfe end", "\u{fffd}\u{fffd} end");
    check(b"<34>\x80", "\u{fffd}");
}

#[test]
fn a_message_over_the_limit_is_cut_between_characters_and_flagged() {
    let check = |text: &str, limit: usize, raw: &str, cut: bool| {
        let event = read_with(text.as_bytes(), &ParseOptions { max_message_bytes: limit, ..options() }).expect("event");
        assert_eq!((event.raw.as_str(), event.has(Flag::Truncated)), (raw, cut), "{text} {limit}");
        assert!(!event.has(Flag::InvalidUtf8), "{text} {limit}");
    };
    check("<13>abcdef", 10, "<13>abcdef", false);
    check("<13>abcdef\n", 10, "<13>abcdef", false);
    check("<13>abcdef", 9, "<13>abcde", true);
    check("<13>ab☃", 9, "<13>ab☃", false);
    check("<13>ab☃", 8, "<13>ab", true);
    check("<13>ab☃", 7, "<13>ab", true);
    check("<13>ab😀", 9, "<13>ab", true);
}

#[test]
fn a_byte_order_mark_before_the_pri_is_passed_over() {
    let event = read("\u{feff}<34>Feb  5 17:32:18 host su: x");
    assert_eq!((event.facility, event.app_name.as_deref()), (Some(4), Some("su")));
}

#[test]
fn a_time_without_zone_is_read_in_the_configured_one() {
    let zone = FixedOffset::east_opt(-5 * 3_600);
    let check = |line: &str, expected: &str| {
        let event = read_with(line.as_bytes(), &ParseOptions { zone, ..options() }).expect("an event");
        assert_eq!(event.timestamp, Some(time(expected)), "{line}");
    };
    check("<13>Feb  5 17:32:18 host app: x", "2026-02-05T22:32:18Z");
    check("<13>2026-02-05T17:32:18 host app: x", "2026-02-05T22:32:18Z");
    check("<13>Feb  5 17:32:18 UTC host app: x", "2026-02-05T17:32:18Z");
    check("<187>Feb  5 17:32:18 QQQ: %LINK-3-UPDOWN: x", "2026-02-05T22:32:18Z");
}

#[test]
fn without_a_configured_zone_the_systems_own_decides() {
    let event =
        read_with(b"<13>Feb  5 17:32:18 host app: x", &ParseOptions { zone: None, ..options() }).expect("event");
    let naive = time("2026-02-05T17:32:18Z").to_utc().naive_utc();
    let local = chrono::TimeZone::from_local_datetime(&chrono::Local, &naive).earliest().expect("a real moment");
    assert_eq!(event.timestamp, Some(Timestamp::from_micros(local.timestamp_micros())));
}

#[test]
fn the_year_is_the_one_nearest_to_now() {
    let check = |now: &str, line: &str, expected: &str| {
        let event = read_with(line.as_bytes(), &ParseOptions { now: time(now), ..options() }).expect("an event");
        assert_eq!(event.timestamp, Some(time(expected)), "{now} {line}");
    };
    check("2026-01-01T00:00:05Z", "<13>Dec 31 23:59:59 h a: x", "2025-12-31T23:59:59Z");
    check("2025-12-31T23:59:59Z", "<13>Jan  1 00:00:05 h a: x", "2026-01-01T00:00:05Z");
    check("2028-01-05T00:00:00Z", "<13>Feb 29 00:00:00 h a: x", "2028-02-29T00:00:00Z");
    check("2027-12-05T00:00:00Z", "<13>Feb 29 00:00:00 h a: x", "2028-02-29T00:00:00Z");
    check("1970-01-01T00:00:00Z", "<13>Dec 31 00:00:00 h a: x", "1969-12-31T00:00:00Z");
}

#[test]
fn long_names_and_headers_stay_text() {
    let long = "n".repeat(300);
    let event = read(&format!("<34>1 2026-01-02T03:04:05Z {long} app - - - x"));
    assert!(event.has(Flag::Unparsed) && event.message.contains(&long));
    let event = read(&format!("<34>Feb  5 17:32:18 {long} app: x"));
    assert!(event.has(Flag::HostFromPeer) && event.message.contains(&long));
    let event = read(&format!("<34>{long}: x"));
    assert_eq!((event.app_name.as_deref(), event.message.len()), (None, 303));
}

/// A labelled line with some bytes replaced, removed or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<Vec<u8>> = labelled().into_iter().map(|case| case.line.into_bytes()).collect();
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6);
    (prop::sample::select(lines), changes).prop_map(|(mut line, changes)| {
        for (index, byte, kind) in changes {
            if line.is_empty() {
                break;
            }
            let at = index.index(line.len());
            match kind {
                0 => line[at] = byte,
                1 => drop(line.remove(at)),
                _ => line.insert(at, line[at]),
            }
        }
        line
    })
}

/// What holds for every input, however strange.
fn keeps_everything(bytes: &[u8]) {
    let options = options();
    let Some(event) = read_with(bytes, &options) else {
        assert!(bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0));
        return;
    };
    assert!(event.facility.is_some_and(|facility| facility < 24) && event.severity.is_some());
    assert!(!event.hostname.is_empty());
    assert!(event.raw.ends_with(&*event.message), "the message is the end of what arrived");
    if event.has(Flag::NoPri) || event.has(Flag::Unparsed) {
        let text = event.raw.trim_start_matches('\u{feff}');
        assert!(text.ends_with(&*event.message) && text.len() - event.message.len() <= "<191>\u{feff}".len());
    }
}

proptest! {
    #[test]
    fn any_moment_is_read_back_in_every_form(seconds in -2_000_000_000_i64..=7_000_000_000) {
        let moment = Timestamp::from_micros(seconds * 1_000_000);
        let utc = moment.to_utc();
        for form in ["<13>%Y-%m-%dT%H:%M:%SZ h a: x", "<13>%b %e %Y %H:%M:%S h a: x", "<13>%Y %b %d %H:%M:%S UTC h a: x",
            "<13>1 %Y-%m-%dT%H:%M:%S.000+00:00 h a - - - x"] {
            let line = utc.format(form).to_string();
            prop_assert_eq!(read(&line).timestamp, Some(moment), "{}", line);
        }
        // Without a year, seen from the same moment and from five months around it.
        for days in [0, 150, -150] {
            let now = Timestamp::from_micros(moment.as_micros() + days * 86_400_000_000);
            let line = utc.format("<13>%b %e %H:%M:%S h a: x").to_string();
            let event = read_with(line.as_bytes(), &ParseOptions { now, ..options() }).expect("an event");
            prop_assert_eq!(event.timestamp, Some(moment), "{} seen from {}", line, now);
        }
    }

    #[test]
    fn a_line_without_host_shows_the_peers_address(peer in any::<std::net::IpAddr>()) {
        let source = Source { protocol: Protocol::SyslogUdp, peer };
        let event = Event::new(EventIds::new(1).next(options().now), options().now, source);
        let event = parse(b"<13>text", event, &options()).expect("an event");
        prop_assert_eq!(event.hostname, peer.to_string());
    }

    #[test]
    fn any_bytes_become_an_event(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        keeps_everything(&bytes);
    }

    #[test]
    fn damaged_lines_become_an_event(bytes in mutated()) {
        keeps_everything(&bytes);
    }

    #[test]
    fn lines_of_the_grammars_own_characters_become_an_event(text in "(<[0-9]{0,4}>)?[0-9A-Za-z:.*%#\\-\\[\\]\"=\\\\ T+Z]{0,80}") {
        keeps_everything(text.as_bytes());
    }
}
