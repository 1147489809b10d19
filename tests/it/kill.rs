//! The promise that matters most: what was acknowledged survives `kill -9` at any moment, is judged, and is in the audit
//! exactly once. Rounds of load over HTTP, TCP and SNMP informs, each ended by a kill at a random moment.
//!
//! `MUTTD_KILL_ROUNDS` sets the number of rounds (50), `MUTTD_KILL_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use muttd::clock::Clock;
use muttd::live::Live;
use muttd::store::{EventQuery, RecentSettings, Stores};
use regex::Regex;
use serde_json::{Value, json};

use crate::support::{COMMUNITY, INGEST_KEY, Ports, Random, Receiver, Request, Server, Tool, eventually};

/// Events in one HTTP request: some requests carry one, some many.
const BATCHES: [u64; 4] = [1, 5, 20, 100];
/// HTTP senders at once.
const SENDERS: usize = 2;
/// Events one sender sends in one round, at most: keeps the final look at every row short.
const EVENTS_A_ROUND: u64 = 600;

/// Numbers that were sent, and those of them that were acknowledged.
#[derive(Default)]
struct Ledger {
    next: AtomicU64,
    acknowledged: Mutex<Vec<u64>>,
}

impl Ledger {
    fn take(&self, count: u64) -> std::ops::Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    fn acknowledge(&self, numbers: std::ops::Range<u64>) {
        self.acknowledged.lock().expect("no sender panicked").extend(numbers);
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_over_kills() {
    let rounds = from_environment("MUTTD_KILL_ROUNDS").unwrap_or(50);
    let seed = from_environment("MUTTD_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{rounds} rounds, MUTTD_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let receiver = Receiver::start();
    let mut server = Server::start(&receiver);
    server.rule(&json!({"match_string": "seq=", "prod_handling": "Ignore", "priority": 50}));
    let paged = server.rule(&json!({"match_string": r"seq=\d*77\b", "match_type": "regex", "priority": 10}));
    let ledger = Ledger::default();
    for _ in 0..rounds {
        one_round(&mut server, &ledger, &mut random);
        server.start_again();
    }
    eventually("everything is judged and delivered", || {
        let metrics = server.metrics();
        (metrics.depth("ingest") == 0 && metrics.depth("alert") == 0).then_some(())
    });
    let (status, _) = server.terminate();
    assert!(status.success(), "SIGTERM ended with {status}");
    let acknowledged = ledger.acknowledged.lock().expect("no sender panicked").clone();
    assert!(acknowledged.len() as u64 > rounds, "the load was too small to show anything: {}", acknowledged.len());
    let audited = audited_numbers(&server.data().join("store"));
    compare(&acknowledged, &audited, seed);
    alerts_arrived(&receiver, &audited, paged);
    println!(
        "{} sent, {} acknowledged, {} audited",
        ledger.next.load(Ordering::Relaxed),
        acknowledged.len(),
        audited.len()
    );
}

/// Load from every side; the kill comes while it runs or, now and then, just after it: then it meets a server that is
/// working off what it took.
fn one_round(server: &mut Server, ledger: &Ledger, random: &mut Random) {
    let (ports, stop) = (server.ports, AtomicBool::new(false));
    let life = Duration::from_millis(20 + random.below(700));
    let under_load = random.below(4) > 0;
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            let mut random = Random::new(random.next());
            let stop = &stop;
            scope.spawn(move || post_until(ports, ledger, stop, &mut random));
        }
        scope.spawn(|| lines_until(ports, ledger, &stop));
        scope.spawn(|| informs_until(ports, ledger, &stop));
        std::thread::park_timeout(life);
        if under_load {
            server.kill();
        }
        stop.store(true, Ordering::Relaxed);
    });
    if !under_load {
        server.kill();
    }
}

fn post_until(ports: Ports, ledger: &Ledger, stop: &AtomicBool, random: &mut Random) {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) && sent < EVENTS_A_ROUND {
        let numbers = ledger.take(BATCHES[random.below(BATCHES.len() as u64) as usize]);
        sent += numbers.end - numbers.start;
        let items: Vec<Value> = numbers
            .clone()
            .map(|number| {
                json!({"hostname": format!("host-{}", number % 40), "message": format!("http seq={number}"),
                "timestamp": "2026-03-01T12:00:00Z"})
            })
            .collect();
        let request = Request::post(ports.ingest, "/api/v2/ingest").key(INGEST_KEY).json(&Value::Array(items));
        match request.send() {
            Ok(answer) if answer.status == 200 => {
                let body = answer.json();
                let all = numbers.end - numbers.start;
                assert_eq!(
                    body["accepted"].as_u64().unwrap_or(all),
                    all,
                    "a sound batch was taken only in part: {body}"
                );
                ledger.acknowledge(numbers);
            }
            Ok(answer) => assert_eq!(answer.status, 503, "only a stopping server refuses: {}", answer.text()),
            Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

/// TCP acknowledges nothing, so its lines only have to be there not more than once.
fn lines_until(ports: Ports, ledger: &Ledger, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(ports.syslog) else {
            std::thread::park_timeout(Duration::from_millis(5));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let numbers = ledger.take(10);
            let lines: String =
                numbers.map(|number| format!("<13>Mar  1 12:00:00 tcp-host app: tcp seq={number}\n")).collect();
            if stream.write_all(lines.as_bytes()).is_err() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

fn informs_until(ports: Ports, ledger: &Ledger, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let numbers = ledger.take(1);
        let text = format!("inform seq={}", numbers.start);
        let output = Tool::new("snmpinform")
            .args(["-v", "2c", "-c", COMMUNITY, "-r", "0", "-t", "1", &ports.snmp.to_string()])
            .args(["", "1.3.6.1.6.3.1.1.5.1", "1.3.6.1.4.1.8072.9999.1", "s", &text])
            .output();
        if output.status.success() {
            ledger.acknowledge(numbers);
        }
    }
}

/// How often each number is in the audit, by reading every row of it. The server must not run.
fn audited_numbers(data: &Path) -> BTreeMap<u64, u64> {
    let number = Regex::new(r"seq=(\d+)").expect("valid pattern");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settings = RecentSettings { max_bytes: 1 << 30, max_days: 7 };
    let stores = Stores::open(data, Clock::system(), Live::constant(settings)).expect("the stores can be opened");
    let mut audited = BTreeMap::new();
    let mut query = EventQuery { matched: Some(true), limit: EventQuery::MAX_LIMIT, ..EventQuery::default() };
    loop {
        let page = runtime.block_on(stores.audit.search(&query)).expect("the audit can be read");
        for judged in &page.items {
            let found = number.captures(&judged.event.message).expect("only numbered events were sent");
            *audited.entry(found[1].parse().expect("digits")).or_insert(0) += 1;
        }
        let Some(next) = page.next else { break };
        query.before = Some(next);
    }
    runtime.block_on(stores.close()).expect("the stores can be closed");
    audited
}

fn compare(acknowledged: &[u64], audited: &BTreeMap<u64, u64>, seed: u64) {
    let lost: Vec<&u64> = acknowledged.iter().filter(|number| !audited.contains_key(number)).collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: {} acknowledged events are lost, first {:?}",
        lost.len(),
        &lost[..lost.len().min(10)]
    );
    let doubled: Vec<_> = audited.iter().filter(|(_, times)| **times > 1).take(10).collect();
    assert!(doubled.is_empty(), "seed {seed}: events are audited more than once: {doubled:?}");
}

/// Every audited event that rule `paged` matches reached the receiver; a repeat carries the same id.
fn alerts_arrived(receiver: &Receiver, audited: &BTreeMap<u64, u64>, paged: i64) {
    let expected: BTreeSet<u64> = audited.keys().copied().filter(|number| number % 100 == 77).collect();
    assert!(!expected.is_empty(), "no event was to be paged (rule {paged})");
    let mut ids: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for post in receiver.taken("seq=") {
        let text = post.json["custom_info"]["message"].as_str().expect("the event's message").to_owned();
        let number = text.rsplit("seq=").next().and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let number = number.and_then(|digits| digits.parse().ok()).expect("a number");
        ids.entry(number).or_default().insert(post.member("external_id"));
    }
    assert_eq!(ids.keys().copied().collect::<BTreeSet<_>>(), expected, "alerts and paged events differ");
    let torn: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(torn.is_empty(), "one event went out under several ids: {torn:?}");
}
