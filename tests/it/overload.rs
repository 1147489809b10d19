//! More comes in than can be processed: each input is slowed down or refused in its own way, everything given up is
//! counted and shown, nothing taken is lost, and the inputs do not shut each other out.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Browser, INGEST_KEY, Random, Receiver, Reply, Request, Server, eventually, holds_for};

/// Alerts wait in the outbox from the first on, and the alerter then leaves events in their queue.
const DEFERRING: [(&str, &str); 4] = [
    ("alerter_queue_warn_threshold", "1"),
    ("alerter_queue_shed_threshold", "1"),
    ("alerter_shed_mode", "\"defer\""),
    ("alerter_defer_sleep_ms", "10"),
];
const PASSWORD: &str = "overload-password-0123456789";

fn item(message: &str) -> Value {
    json!({"hostname": "h", "message": message, "timestamp": "2026-03-01T12:00:00Z"})
}

/// Reads `dropped` of the status: events not taken, by source and reason.
fn dropped(server: &Server, source: &str, reason: &str) -> u64 {
    let status = server.api_get("/api/v2/status");
    let lines = status["dropped"].as_array().expect("`dropped` is a list");
    let found = lines.iter().find(|line| line["source"] == source && line["reason"] == reason);
    found.map_or(0, |line| line["events"].as_u64().expect("a number"))
}

/// A server that judges nothing more: one alert waits for a receiver that refuses it.
fn stuck_server(receiver: &Receiver, queue_size: u32) -> Server {
    receiver.always(Reply::status(503));
    let mut builder = Server::builder()
        .delivering_to(receiver)
        .env("MUTTD_ADMIN_PASSWORD", PASSWORD)
        .dynamic("max_ingest_queue_size", &queue_size.to_string())
        .dynamic("moog_max_retries", "100")
        .dynamic("moog_retry_cap_seconds", "5");
    for (key, value) in DEFERRING {
        builder = builder.dynamic(key, value);
    }
    let server = builder.start();
    server.forward_rule("wake someone");
    server.ingest(&item("wake someone")).must_be(200);
    eventually("the alerter holds back", || {
        (server.metrics().sum("mutt_alerter_shed_events_total", &[("mode", "defer")]) > 0).then_some(())
    });
    assert_eq!(server.metrics().sum("mutt_alerter_backpressure_active", &[]), 1);
    server
}

#[test]
fn a_full_queue_is_told_to_http_stops_streams_and_drops_datagrams() {
    const LIMIT: u32 = 100;
    let receiver = Receiver::start();
    let server = stuck_server(&receiver, LIMIT);
    // A stream stops where nine tenths are reached.
    let mut stream = TcpStream::connect(server.ports.syslog).expect("the syslog port is open");
    let line = format!("<13>Mar  1 12:00:00 h app: streamed {}\n", "x".repeat(8_000));
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut written = 0;
    let blocked = loop {
        match stream.write(&line.as_bytes()[written % line.len()..]) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
        assert!(written < 256 << 20, "the stream is read although the queue is full");
    };
    assert!(matches!(blocked.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{blocked}");
    let depth = server.metrics().depth("ingest");
    assert!(depth <= u64::from(LIMIT) * 9 / 10, "a stream filled the queue to {depth}");

    // HTTP has the rest, and is then told how full it is.
    let refused = (0..LIMIT).map(|_| server.ingest(&item("posted"))).find(|answer| answer.status != 200);
    let refused = refused.expect("the queue has a limit").must_be(503);
    assert!(refused.header("retry-after").is_some());
    let told = refused.json();
    assert_eq!((&told["queue_depth"], &told["limit"]), (&json!(LIMIT), &json!(LIMIT)), "{told}");
    let posted = server.metrics().sum("mutt_events_received_total", &[("source", "http")]) - 2;
    assert!(posted >= u64::from(LIMIT) / 10 - 1, "HTTP had room for {posted} events only");

    // More than the queue may ever hold is another matter.
    let batch: Vec<Value> = (0..=LIMIT).map(|_| item("too many")).collect();
    let told = server.ingest(&Value::from(batch)).must_be(413).json();
    assert_eq!((&told["events"], &told["limit"]), (&json!(LIMIT + 1), &json!(LIMIT)), "{told}");

    // Datagrams are dropped and counted where people look.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for _ in 0..7 {
        socket.send_to(b"<13>Mar  1 12:00:00 h app: datagram", server.ports.syslog).expect("sent");
    }
    eventually("the datagrams are counted as dropped", || {
        (dropped(&server, "syslog_udp", "queue_full") == 7).then_some(())
    });
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    for page in ["/", "/status"] {
        assert!(browser.open(page).must_be(200).text().contains("queue_full"), "{page} does not tell what was dropped");
    }

    // Once the receiver is well again everything that was taken is judged, and the stream goes on where it stopped.
    receiver.always(Reply::status(200));
    stream.set_write_timeout(None).expect("no timeout");
    stream.write_all(&line.as_bytes()[written % line.len()..]).expect("the stream is read again");
    let lines = (written / line.len() + 1) as u64;
    drop(stream);
    eventually("every line of the stream is committed", || {
        (server.metrics().sum("mutt_events_received_total", &[("source", "syslog_tcp")]) == lines).then_some(())
    });
    server.check_counters();
    assert_eq!(server.metrics().sum("mutt_events_dropped_total", &[("source", "syslog_tcp")]), 0);
}

#[test]
fn the_rate_limit_is_told_to_http_slows_streams_and_drops_datagrams() {
    let receiver = Receiver::start();
    let server = Server::builder()
        .delivering_to(&receiver)
        .dynamic("ingest_max_rate", "50")
        .dynamic("ingest_rate_window", "3600")
        .start();
    let batch: Vec<Value> = (0..50).map(|number| item(&format!("within {number}"))).collect();
    server.ingest(&Value::from(batch)).must_be(200);
    let answer = server.ingest(&item("beyond")).must_be(429);
    let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
    // One of 50 an hour comes free every 72 s.
    assert!((1..=72).contains(&wait), "{wait}");
    assert!(answer.text().contains("ingest_max_rate"), "{}", answer.text());
    assert_eq!(server.metrics().sum("mutt_ingest_rate_limited_total", &[]), 1);

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.send_to(b"<13>Mar  1 12:00:00 h app: datagram", server.ports.syslog).expect("sent");
    eventually("the datagram is counted as dropped", || {
        (dropped(&server, "syslog_udp", "rate_limited") == 1).then_some(())
    });
    let mut stream = TcpStream::connect(server.ports.syslog).expect("the syslog port is open");
    stream.write_all(b"<13>Mar  1 12:00:00 h app: streamed line\n").expect("sent");
    holds_for("the line waits", Duration::from_millis(500), || {
        server.metrics().sum("mutt_events_received_total", &[("source", "syslog_tcp")]) == 0
    });
    fs::write(server.data().join("muttd.toml"), "[dynamic]\ningest_max_rate = 0\n").expect("the file is written");
    server.reload();
    server.event("streamed line");
    server.check_counters();
    assert_eq!(server.metrics().sum("mutt_events_dropped_total", &[("source", "syslog_tcp")]), 0);
}

#[test]
fn alerts_beyond_the_shed_threshold_become_dead_letters_if_told_so() {
    let receiver = Receiver::start();
    receiver.always(Reply::status(503));
    let server = Server::builder()
        .delivering_to(&receiver)
        .dynamic("alerter_queue_warn_threshold", "5")
        .dynamic("alerter_queue_shed_threshold", "10")
        .dynamic("alerter_shed_mode", "\"dlq\"")
        .dynamic("moog_max_retries", "100")
        .dynamic("moog_retry_cap_seconds", "5")
        .dynamic("circuit_breaker_timeout", "2")
        .start();
    server.forward_rule("wake someone");
    let shed = || server.metrics().sum("mutt_alerter_shed_events_total", &[("mode", "dlq")]);
    let mut sent = 0;
    // One at a time, so that each is a batch of its own and the outbox is looked at in between.
    while shed() < 5 {
        server.ingest(&item("wake someone")).must_be(200);
        sent += 1;
        assert!(sent < 1_000, "nothing is shed");
        eventually("it is judged", || (server.metrics().depth("ingest") == 0).then_some(()));
    }
    let metrics = server.metrics();
    let (waiting, dead) = (metrics.depth("alert"), metrics.depth("dlq.forwarder"));
    assert_eq!(waiting + dead, sent, "every alert waits or is a dead letter");
    assert!(waiting >= 10 && dead >= 5, "{waiting} wait, {dead} are dead letters");
    assert_eq!(metrics.sum("mutt_alerter_backpressure_active", &[]), 1);
    let told = |text: &str| server.log().matches(text).count();
    assert_eq!((told("alerts pile up"), told("too many alerts wait")), (1, 1), "a level is told when it begins, once");

    receiver.always(Reply::status(200));
    eventually("the outbox drains and the pressure is over", || {
        // The level is looked at with each batch.
        server.ingest(&item("nothing of note")).must_be(200);
        let metrics = server.metrics();
        (metrics.depth("alert") == 0 && metrics.sum("mutt_alerter_backpressure_active", &[]) == 0).then_some(())
    });
    server.check_counters();
}

#[test]
fn datagrams_that_the_kernel_drops_are_counted_and_the_remedy_is_shown() {
    const SENT: u64 = 2_000;
    let receiver = Receiver::start();
    let server = Server::builder()
        .delivering_to(&receiver)
        .env("MUTTD_ADMIN_PASSWORD", PASSWORD)
        .env("MUTTD_SYSLOG_RECEIVE_BUFFER_BYTES", "16384")
        .start();
    // A server that does not run cannot read; the kernel keeps what fits and drops the rest.
    server.signal(libc::SIGSTOP);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let message = format!("<13>Mar  1 12:00:00 h app: {}", "x".repeat(500));
    for _ in 0..SENT {
        socket.send_to(message.as_bytes(), server.ports.syslog).expect("sent");
    }
    server.signal(libc::SIGCONT);
    let metrics = eventually("every datagram is taken or counted as dropped", || {
        let metrics = server.metrics();
        let drops = metrics.sum("mutt_ingest_kernel_drops_total", &[("listener", "syslog_udp")]);
        (metrics.received() + drops == SENT).then_some(metrics)
    });
    let drops = metrics.sum("mutt_ingest_kernel_drops_total", &[("listener", "syslog_udp")]);
    assert!(drops > 0);
    let status = server.api_get("/api/v2/status");
    let listeners = status["listeners"].as_array().expect("`listeners` is a list");
    let line = listeners.iter().find(|line| line["name"] == "syslog_udp").expect("the listener is shown");
    assert_eq!((&line["kernel_drops"], &line["receive_buffer_bytes"]), (&json!(drops), &json!(16_384)), "{line}");
    let hint = line["hint"].as_str().expect("a hint");
    assert!(hint.contains("net.core.rmem_max") && hint.contains("CAP_NET_ADMIN"), "{hint}");
    let mut browser = Browser::new(server.ports.web);
    browser.log_in("admin", PASSWORD).must_be(200);
    for page in ["/", "/status"] {
        let text = browser.open(page).must_be(200).text();
        assert!(text.contains("net.core.rmem_max"), "{page} does not say what to do");
    }
    server.check_counters();
}

#[test]
fn a_flood_by_tcp_does_not_shut_out_http() {
    const POSTS: usize = 100;
    let receiver = Receiver::start();
    // The stream is judged slower than it comes, so it fills its share of the queue.
    let server = Server::builder().delivering_to(&receiver).dynamic("max_ingest_queue_size", "20000").start();
    let flood = Flood::start(server.ports.syslog, 4);
    eventually("the flood comes in", || (server.metrics().received() > 10_000).then_some(()));
    let mut slowest = Duration::ZERO;
    for number in 0..POSTS {
        let begun = Instant::now();
        server.ingest(&item(&format!("posted {number}"))).must_be(200);
        slowest = slowest.max(begun.elapsed());
    }
    let sent = flood.stop();
    // Not a measurement: a request that waits behind all that the flood brought would take far longer.
    assert!(slowest < Duration::from_secs(10), "one request took {slowest:?}");
    eventually("every line of the flood is committed", || {
        (server.metrics().sum("mutt_events_received_total", &[("source", "syslog_tcp")]) == sent).then_some(())
    });
    server.check_counters();
    assert_eq!(server.metrics().dropped(), 0);
}

#[test]
fn memory_stays_bounded_whatever_the_senders_do() {
    /// Kilobytes: the sum of the bounds of docs/CAPACITY.md, and the program itself.
    const MOST: u64 = 450_000;
    let receiver = Receiver::start();
    let server = Server::start(&receiver);
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |work: fn(SocketAddr, &AtomicBool), to: SocketAddr| {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || work(to, &stop))
    };
    let mut senders: Vec<JoinHandle<()>> = Vec::new();
    senders.extend((0..4).map(|_| spawn(send_large_frames, server.ports.syslog)));
    senders.push(spawn(send_large_datagrams, server.ports.syslog));
    senders.extend((0..3).map(|_| spawn(post_huge_batches, server.ports.ingest)));
    // Requests and frames that never end, held open for as long as the others send.
    let _slow: Vec<TcpStream> = (0..200).map(|_| begin_body(server.ports.ingest)).collect();
    let _halves: Vec<TcpStream> = (0..200).map(|_| begin_frame(server.ports.syslog)).collect();
    let end = Instant::now() + Duration::from_secs(8);
    let mut answered = 0;
    while Instant::now() < end {
        Request::get(server.ports.web, "/api/v2/rules").key(ADMIN_KEY).expect().must_be(200);
        answered += 1;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().expect("a sender ends"));
    let peak = server.memory_kilobytes("VmHWM");
    assert!(peak < MOST, "the server took {peak} kB");
    assert!(answered > 0 && server.metrics().received() > 0);
}

#[test]
fn a_port_that_is_let_go_of_is_bound_without_a_restart() {
    let receiver = Receiver::start();
    let builder = Server::builder().delivering_to(&receiver);
    let ports = builder.ports();
    let held = (UdpSocket::bind(ports.syslog), TcpListener::bind(ports.syslog), UdpSocket::bind(ports.snmp));
    let ingest = TcpListener::bind(ports.ingest);
    let mut server = builder.spawn();
    let answer = eventually("/ready answers", || Request::get(ports.web, "/ready").send().ok());
    assert_eq!(answer.status, 503, "{}", answer.text());
    let status = server.api_get("/api/v2/status");
    let listeners = status["listeners"].as_array().expect("`listeners` is a list").clone();
    let failed: Vec<&Value> = listeners.iter().filter(|line| line["up"] == false).collect();
    assert_eq!(failed.len(), 4, "{status}");
    assert!(failed.iter().all(|line| line["hint"].as_str().is_some_and(|hint| hint.contains("tried again"))));
    drop((held, ingest));
    server.wait_until_ready();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    eventually("datagrams are received", || {
        socket.send_to(b"<13>Mar  1 12:00:00 h app: late datagram", ports.syslog).expect("sent");
        server.events("q=late%20datagram&limit=1").into_iter().next()
    });
    server.ingest(&item("late post")).must_be(200);
    let status = server.api_get("/api/v2/status");
    let lines = status["listeners"].as_array().expect("`listeners` is a list");
    assert_eq!(lines.len(), listeners.len(), "a listener has one line, however often it was tried: {status}");
    assert_eq!(server.metrics().sum("mutt_listener_up", &[("listener", "snmp")]), 1);
    let (status, _) = server.terminate();
    assert!(status.success());
}

#[test]
fn a_backlog_is_worked_off_after_a_restart_and_its_space_is_given_back() {
    const EVENTS: u64 = 8_000;
    /// Bytes of one message; together they fill several generations of the queue.
    const BYTES: usize = 16 << 10;
    /// Kilobytes; the events alone take three times as much.
    const MOST: u64 = 150_000;
    let receiver = Receiver::start();
    let mut server = stuck_server(&receiver, 1_000_000);
    // Text that does not compress: pieces of a megabyte of noise.
    let mut random = Random::new(5);
    let noise: String = (0..1 << 16).map(|_| format!("{:016x}", random.next())).collect();
    let mut piece = || {
        let from = usize::try_from(random.below((noise.len() - BYTES) as u64)).expect("small");
        item(&noise[from..from + BYTES])
    };
    for _ in 0..EVENTS / 100 {
        server.ingest(&Value::from((0..100).map(|_| piece()).collect::<Vec<_>>())).must_be(200);
    }
    let queue = server.data().join("queues/events");
    let full = size(&queue);
    assert!(full > EVENTS * BYTES as u64 / 2, "the queue takes {full} bytes only");
    server.kill();
    server.start_again();
    let start = server.memory_kilobytes("VmHWM");
    assert!(start < MOST, "a start with {EVENTS} events waiting took {start} kB");
    assert!(server.metrics().depth("ingest") >= EVENTS, "the backlog is there");
    receiver.always(Reply::status(200));
    server.check_counters();
    assert!(server.metrics().processed() >= EVENTS);
    eventually("the space is given back", || (size(&queue) < full / 2).then_some(()));
    // Nothing turns in circles once the work is done. The kernel counts in hundredths of a second.
    eventually("the process comes to rest", || {
        let before = cpu_ticks(&server);
        std::thread::park_timeout(Duration::from_secs(1));
        (cpu_ticks(&server) - before <= 5).then_some(())
    });
}

/// Streams that send lines as fast as they are read.
struct Flood {
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    const CHUNK: u64 = 200;

    fn start(to: SocketAddr, streams: usize) -> Self {
        let (stop, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..streams).map(|_| {
            let (stop, lines) = (Arc::clone(&stop), Arc::clone(&lines));
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(to).expect("the syslog port is open");
                let line = format!("<13>Mar  1 12:00:00 h app: flood {}\n", "x".repeat(150));
                let chunk = line.repeat(usize::try_from(Self::CHUNK).expect("small"));
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(chunk.as_bytes()).expect("the stream is read, if slowly");
                    lines.fetch_add(Self::CHUNK, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, lines, threads }
    }

    /// Ends the streams; returns the lines they sent.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a stream ends"));
        self.lines.load(Ordering::Relaxed)
    }
}

/// Frames far beyond the longest message, octet counted, over one connection after the other.
fn send_large_frames(to: SocketAddr, stop: &AtomicBool) {
    let frame = format!("1048576 <13>Mar  1 12:00:00 h app: {}", "f".repeat((1 << 20) - 33));
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(to) else { continue };
        stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        while !stop.load(Ordering::Relaxed) && stream.write_all(frame.as_bytes()).is_ok() {}
    }
}

fn send_large_datagrams(to: SocketAddr, stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let message = format!("<13>Mar  1 12:00:00 h app: {}", "d".repeat(65_000));
    while !stop.load(Ordering::Relaxed) {
        // What does not fit is dropped on the way, as floods are.
        drop(socket.send_to(message.as_bytes(), to));
    }
}

fn post_huge_batches(to: SocketAddr, stop: &AtomicBool) {
    let one = r#"{"hostname":"h","message":"m","timestamp":"2026-03-01T12:00:00Z"}"#;
    let body = format!("[{}]", vec![one; 50_000].join(","));
    while !stop.load(Ordering::Relaxed) {
        let request = Request::post(to, "/api/v2/ingest").key(INGEST_KEY).body("application/json", body.as_str());
        // Refused or taken, it is answered.
        let status = request.send().map(|answer| answer.status);
        assert!(status.as_ref().is_ok_and(|status| [200, 413, 429, 503].contains(status)), "{status:?}");
    }
}

/// A request whose body stops coming.
fn begin_body(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("the ingest port is open");
    let head = format!(
        "POST /api/v2/ingest HTTP/1.1\r\nHost: x\r\nX-API-KEY: {INGEST_KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000000\r\n\r\n"
    );
    // The server may refuse it for want of room and close; then it holds nothing either.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&[b' '; 60_000])));
    stream
}

/// A frame that stops coming.
fn begin_frame(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("the syslog port is open");
    drop(stream.write_all(b"60000 <13>Mar  1 12:00:00 h app: ").and_then(|()| stream.write_all(&[b'h'; 50_000])));
    stream
}

/// User and system time of the server in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let mut text = String::new();
    let stat = fs::File::open(format!("/proc/{}/stat", server.pid()));
    stat.and_then(|mut stat| stat.read_to_string(&mut text)).expect("the process is there");
    let fields = text.rsplit_once(')').expect("the command stands in brackets").1.split_whitespace().skip(11);
    fields.take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Bytes of the files below `folder`.
fn size(folder: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
