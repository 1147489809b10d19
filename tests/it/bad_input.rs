//! Storms of nonsense on every port: the process lives, answers sensibly, stays within its memory, and its counters add
//! up afterwards. Seeded; `MUTTD_STORM_SEED` repeats a run.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::support::{ADMIN_KEY, INGEST_KEY, Random, Receiver, Request, Server, eventually, speak};

/// Bound on the process's memory in kilobytes: the promise of 512 MiB.
const MOST_MEMORY_KILOBYTES: u64 = 512 << 10;
/// A sound v2c trap (coldStart, community `public`) to be mutated.
const TRAP: &[u8] = &[
    0x30, 0x43, 0x02, 0x01, 0x01, 0x04, 0x06, b'p', b'u', b'b', b'l', b'i', b'c', 0xa7, 0x36, 0x02, 0x04, 0x12, 0x34,
    0x56, 0x78, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00, 0x30, 0x28, 0x30, 0x0d, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x02, 0x01,
    0x01, 0x03, 0x00, 0x43, 0x01, 0x64, 0x30, 0x17, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x06, 0x03, 0x01, 0x01, 0x04, 0x01,
    0x00, 0x06, 0x09, 0x2b, 0x06, 0x01, 0x06, 0x03, 0x01, 0x01, 0x05, 0x01,
];
/// A sound syslog line to be mutated.
const LINE: &[u8] = br#"<165>1 2026-03-01T12:00:00.003Z core-1 app 42 ID47 [zone@32473 rack="7"] link 3 down"#;

fn seed() -> u64 {
    let seed = std::env::var("MUTTD_STORM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("MUTTD_STORM_SEED={seed}");
    seed
}

/// Random bytes, or `sound` with some bytes changed, cut or doubled.
fn nonsense(random: &mut Random, sound: &[u8], most: usize) -> Vec<u8> {
    if random.below(3) == 0 {
        return random.bytes(most);
    }
    let mut bytes = sound.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(3) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes.truncate(at.max(1)),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes.truncate(most);
    bytes
}

fn check(mut server: Server) {
    assert!(server.is_alive(), "the process ended");
    server.wait_until_ready();
    server.check_counters();
    let peak = server.memory_kilobytes("VmHWM:");
    assert!(peak < MOST_MEMORY_KILOBYTES, "the process took {peak} kB");
    let log = server.log();
    assert!(!log.contains("panicked"), "something panicked:\n{log}");
    let (status, _) = server.terminate();
    assert!(status.success());
}

#[test]
fn datagrams_of_nonsense_harm_nobody() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let mut random = Random::new(seed());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for (to, sound) in [(server.ports.syslog, LINE), (server.ports.snmp, TRAP)] {
        for number in 0..3_000 {
            let most = if number % 100 == 0 { 60_000 } else { 1_400 };
            let bytes = nonsense(&mut random, sound, most);
            socket.send_to(&bytes, to).expect("the loopback takes it");
        }
        socket.send_to(&[], to).expect("an empty datagram is sent");
        socket.send_to(sound, to).expect("a sound datagram is sent");
    }
    server.event("link 3 down");
    eventually("the sound trap arrives", || {
        server.events("source=snmp_trap&limit=1000").into_iter().find(is_cold_start)
    });
    check(server);
}

fn is_cold_start(event: &serde_json::Value) -> bool {
    event["trap_oid"] == "1.3.6.1.6.3.1.1.5.1"
}

#[test]
fn streams_of_nonsense_harm_nobody() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let mut random = Random::new(seed());
    for _ in 0..150 {
        let Ok(mut stream) = TcpStream::connect(server.ports.syslog) else { continue };
        for _ in 0..random.below(5) {
            let mut bytes = nonsense(&mut random, LINE, 20_000);
            if random.below(2) == 0 {
                bytes.splice(0..0, format!("{} ", random.below(100_000)).into_bytes());
            }
            bytes.push(b'\n');
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
    }
    let mut endless = TcpStream::connect(server.ports.syslog).expect("the syslog port is open");
    let block = vec![b'a'; 1 << 20];
    for _ in 0..64 {
        if endless.write_all(&block).is_err() {
            break;
        }
    }
    drop(endless);
    let mut stream = TcpStream::connect(server.ports.syslog).expect("the syslog port is open");
    stream.write_all(LINE).expect("a sound line is sent");
    drop(stream);
    server.event("link 3 down");
    check(server);
}

#[test]
fn requests_of_nonsense_are_answered_without_faults_of_ours() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let mut random = Random::new(seed());
    let request = format!(
        "POST /api/v2/ingest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-KEY: {INGEST_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 74\r\n\r\n\
         {{\"hostname\":\"h\",\"message\":\"m\",\"timestamp\":\"2026-03-01T12:00:00Z\",\"n\":1}}"
    );
    for port in [server.ports.ingest, server.ports.web] {
        for _ in 0..300 {
            let bytes = nonsense(&mut random, request.as_bytes(), 8_000);
            speak_briefly(port, &bytes);
        }
    }
    for (name, status) in odd_requests(&server) {
        assert!((400..500).contains(&status), "{name} was answered {status}");
    }
    check(server);
}

/// Sends and closes the sending side, so that a server waiting for the rest learns that there is none.
fn speak_briefly(port: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(port) else { return };
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    let read = std::io::Read::read_to_end(&mut stream, &mut answer);
    if sent.is_ok() && read.is_ok() && !answer.is_empty() {
        let text = String::from_utf8_lossy(&answer);
        let fault = text.starts_with("HTTP/1.1 5") && !text.starts_with("HTTP/1.1 503");
        assert!(!fault, "a bad request was our fault: {}", &text[..text.len().min(300)]);
    }
}

/// Requests that are well-formed HTTP and wrong in some other way, with the status each got.
fn odd_requests(server: &Server) -> Vec<(&'static str, u16)> {
    let (ingest, web) = (server.ports.ingest, server.ports.web);
    let post = |body: Vec<u8>, kind: &str| {
        Request::post(ingest, "/api/v2/ingest").key(INGEST_KEY).body(kind, body).expect().status
    };
    let bomb = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; 200 << 20]).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    let gzip = |body: Vec<u8>| {
        let request = Request::post(ingest, "/api/v2/ingest").key(INGEST_KEY).header("Content-Encoding", "gzip");
        request.body("application/json", body).expect().status
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let get = |path: &str| Request::get(web, path).key(ADMIN_KEY).expect().status;
    let raw = |bytes: String| {
        let answer = speak(web, bytes.as_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&answer).into_owned();
        // Closing without an answer is a fair refusal of what is hardly HTTP.
        text.split(' ').nth(1).map_or(400, |status| status.parse().expect("a status"))
    };
    vec![
        ("an empty body", post(Vec::new(), "application/json")),
        ("no JSON", post(b"{hostname:".to_vec(), "application/json")),
        ("a JSON number", post(b"42".to_vec(), "application/json")),
        ("an empty array", post(b"[]".to_vec(), "application/json")),
        ("missing members", post(b"{\"hostname\":\"h\"}".to_vec(), "application/json")),
        ("deep nesting", post(deep, "application/json")),
        ("not UTF-8", post(b"{\"hostname\":\"\xff\xfe\"}".to_vec(), "application/json")),
        ("a foreign type", post(b"a=b".to_vec(), "application/x-www-form-urlencoded")),
        ("a large body", post(vec![b' '; 20 << 20], "application/json")),
        ("broken gzip", gzip(b"not gzip".to_vec())),
        ("a gzip bomb", gzip(bomb)),
        ("no such page", get("/api/v2/nothing")),
        ("no such rule", get("/api/v2/rules/99999999999999999999")),
        ("a bad cursor", get("/api/v2/events?cursor=%00%ff")),
        ("a bad limit", get("/api/v2/events?limit=-1")),
        ("a bad time", get("/api/v2/events?from=yesterday-ish")),
        ("a bad severity", get("/api/v2/events?severity=99")),
        ("a path out of the house", get("/../../../../etc/passwd")),
        ("a bad rule", server.api_post("/api/v2/rules", &json!({"match_string": "(", "match_type": "regex"})).status),
        ("a wrong method", raw("BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned())),
        ("huge headers", raw(format!("GET / HTTP/1.1\r\nHost: x\r\nX-Filler: {}\r\n\r\n", "a".repeat(1 << 20)))),
        ("a thousand headers", raw(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(5_000)))),
    ]
}

#[test]
fn idle_connections_do_not_keep_others_out() {
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let half = b"POST /api/v2/ingest HTTP/1.1\r\nHost: x\r\nContent-Le";
    let mut idle = Vec::new();
    for port in [server.ports.ingest, server.ports.web, server.ports.syslog] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(port).expect("the port takes connections");
            stream.write_all(half).expect("half a request is sent");
            idle.push(stream);
        }
    }
    let item = json!({"hostname": "h", "message": "between the idle", "timestamp": "2026-03-01T12:00:00Z"});
    server.ingest(&item).must_be(200);
    server.event("between the idle");
    drop(idle);
    check(server);
}
