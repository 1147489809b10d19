//! Connections and datagrams from the socket to the queue, against a recording queue.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Streams, start_tcp, start_udp};
use crate::access::KeyRing;
use crate::clock::Clock;
use crate::ingest::{Gate, Intake, ListenerContext, Secrets, Settings};
use crate::live::Live;
use crate::model::{Event, EventIds, Flag, Protocol};
use crate::net::bind_udp;
use crate::queue::{Backend, Depth, Lease, Queue, QueueError, Record, Seq, decode_items};
use crate::telemetry::trace::Tracer;
use crate::telemetry::{ListenerBoard, ListenerState, Rates};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A queue that only keeps what is appended, after refusing as often as it is told to.
#[derive(Default)]
struct Recorder {
    records: Mutex<Vec<Vec<u8>>>,
    refusals: AtomicUsize,
    closed: bool,
}

#[async_trait]
impl Backend for Recorder {
    async fn append(&self, records: Vec<Record>) -> Result<(), QueueError> {
        let queue = || "events".to_owned();
        if self.closed {
            return Err(QueueError::Closed { queue: queue() });
        }
        let count_down = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count_down).is_ok() {
            return Err(QueueError::Full { queue: queue(), why: "told to".into() });
        }
        self.records.lock().extend(records.into_iter().map(|record| record.payload));
        Ok(())
    }

    async fn lease(&self, _: usize, _: Duration) -> Result<Vec<Lease>, QueueError> {
        Ok(Vec::new())
    }

    async fn ack(&self, _: &[Seq]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn release(&self, _: &[Seq], _: Duration) -> Result<(), QueueError> {
        Ok(())
    }

    async fn peek(&self, _: Seq, _: usize) -> Result<Vec<Lease>, QueueError> {
        Ok(Vec::new())
    }

    async fn claim(&self, _: &[Seq]) -> Result<Vec<Lease>, QueueError> {
        Ok(Vec::new())
    }

    fn depth(&self) -> Depth {
        Depth::default()
    }

    async fn close(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

struct Bench {
    context: ListenerContext,
    recorder: Arc<Recorder>,
    intake_task: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default(), Recorder::default())
    }

    fn with(settings: Settings, recorder: Recorder) -> Self {
        let recorder = Arc::new(recorder);
        let backend: Arc<dyn Backend> = recorder.clone();
        let settings = Live::constant(settings);
        let clock = Clock::system();
        let queue = Queue::of_batches("events", backend);
        let (intake, intake_task) =
            Intake::start(queue, Gate::new(settings.clone()), Rates::new(clock.clone()), Tracer::off());
        let stop = CancellationToken::new();
        let context = ListenerContext {
            tracer: Tracer::off(),
            intake,
            ids: Arc::new(EventIds::new(1)),
            clock,
            settings,
            secrets: Live::constant(Secrets::default()),
            keys: Live::constant(KeyRing::default()),
            board: ListenerBoard::default(),
            release: stop.child_token(),
            stop,
        };
        Self { context, recorder, intake_task }
    }

    /// What was committed, once everything is.
    async fn committed(self) -> Vec<Event> {
        drop(self.context);
        self.intake_task.await.expect("the intake ends");
        let records = std::mem::take(&mut *self.recorder.records.lock());
        records.into_iter().flat_map(|payload| decode_items::<Event>(payload).expect("readable")).collect()
    }

    /// Serves one connection over which `stream` arrives in pieces of `piece` bytes.
    async fn serve(self, stream: &[u8], piece: usize) -> Vec<Event> {
        let streams = Streams::new(self.context.clone(), Protocol::SyslogTcp);
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let send = async {
            for piece in stream.chunks(piece) {
                client.write_all(piece).await.expect("the server reads");
            }
            drop(client);
        };
        tokio::join!(send, streams.serve(server, IpAddr::V4(Ipv4Addr::LOCALHOST)));
        drop(streams);
        self.committed().await
    }
}

fn messages(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.message.as_str()).collect()
}

/// Waits until the other side has done something that only time can bring about.
async fn until(done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it happens in time");
}

#[tokio::test]
async fn a_stream_of_mixed_frames_becomes_events_in_order() {
    let stream = b"<13>a: one\n10 <13>b: two\n<13>c: three\0<13>d: four\r\n\r\n \n11 <13>e: fivelast";
    for piece in [1, 7, 1_000] {
        let events = Bench::new().serve(stream, piece).await;
        assert_eq!(messages(&events), ["one", "two", "three", "four", "five", "last"]);
        assert!(events.iter().all(|event| event.source.protocol == Protocol::SyslogTcp));
        assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
    }
}

#[tokio::test]
async fn a_long_stream_arrives_whole() {
    let count = 5_000;
    let stream: String = (0..count).map(|number| format!("<13>app[{number}]: message {number}\n")).collect();
    let events = Bench::new().serve(stream.as_bytes(), 100_000).await;
    let expected: Vec<String> = (0..count).map(|number| format!("message {number}")).collect();
    assert_eq!(messages(&events), expected);
}

#[tokio::test]
async fn a_message_over_the_limit_is_cut_and_the_next_one_is_whole() {
    let settings = Settings { max_message_bytes: 1_000, ..Settings::default() };
    let stream = format!("<13>{}\n<13>next: one\n3000 <13>{}12 <13>n: three", "x".repeat(5_000), "y\n".repeat(1_498));
    let events = Bench::with(settings, Recorder::default()).serve(stream.as_bytes(), 333).await;
    let shapes: Vec<_> = events.iter().map(|event| (event.raw.len(), event.has(Flag::Truncated))).collect();
    assert_eq!(shapes, [(1_000, true), (13, false), (999, true), (12, false)]);
}

#[tokio::test]
async fn refused_events_are_kept_and_committed_in_order() {
    let recorder = Recorder { refusals: AtomicUsize::new(2), ..Recorder::default() };
    let stream = b"<13>a: one\n<13>b: two\n<13>c: three\n";
    let events = Bench::with(Settings::default(), recorder).serve(stream, 11).await;
    assert_eq!(messages(&events), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_may_be_is_taken_in_parts() {
    let settings = Settings { max_queue_items: 2, ..Settings::default() };
    let stream = b"<13>a: one\n<13>b: two\n<13>c: three\n<13>d: four\n<13>e: five\n";
    let serving = Bench::with(settings, Recorder::default()).serve(stream, 1_000);
    let events = tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it does not wait for ever");
    assert_eq!(messages(&events), ["one", "two", "three", "four", "five"]);
}

#[tokio::test]
async fn a_closed_queue_ends_the_waiting() {
    let recorder = Recorder { closed: true, ..Recorder::default() };
    let events = Bench::with(Settings::default(), recorder).serve(b"<13>a: one\n<13>b: two\n", 100).await;
    assert_eq!(messages(&events), [""; 0]);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let settings = Settings { idle_timeout: Duration::from_millis(20), ..Settings::default() };
    let bench = Bench::with(settings, Recorder::default());
    let streams = Streams::new(bench.context.clone(), Protocol::SyslogTcp);
    let (mut client, server) = tokio::io::duplex(1 << 10);
    client.write_all(b"<13>a: unfinished").await.expect("room");
    streams.serve(server, IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
    drop(streams);
    assert_eq!(messages(&bench.committed().await), ["unfinished"]);
}

#[tokio::test]
async fn tcp_connections_are_served_and_what_was_sent_before_the_stop_is_kept() {
    let bench = Bench::new();
    let task = start_tcp(&bench.context, LOOPBACK).expect("port 0 is free");
    let address = bench.context.board.address("syslog_tcp").expect("listening");
    let mut client = TcpStream::connect(address).await.expect("accepted");
    client.write_all(b"<13>a: one\n<13>b: two\n<13>c: un").await.expect("sent");
    let recorder = Arc::clone(&bench.recorder);
    until(|| !recorder.records.lock().is_empty()).await;
    client.write_all(b"finished").await.expect("sent");
    bench.context.stop.cancel();
    task.await.expect("the listener ends");
    assert_eq!(messages(&bench.committed().await), ["one", "two", "unfinished"]);
}

#[tokio::test]
async fn a_connection_above_the_limit_is_closed_at_once() {
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let bench = Bench::with(settings, Recorder::default());
    let task = start_tcp(&bench.context, LOOPBACK).expect("port 0 is free");
    let address = bench.context.board.address("syslog_tcp").expect("listening");
    let mut first = TcpStream::connect(address).await.expect("accepted");
    first.write_all(b"<13>a: first\n").await.expect("sent");
    let mut second = TcpStream::connect(address).await.expect("accepted by the kernel");
    // The end of the stream, or a reset: either way it is over.
    let ended = second.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    bench.context.stop.cancel();
    task.await.expect("the listener ends");
    assert_eq!(messages(&bench.committed().await), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_datagram_is_an_event_or_counted_as_dropped_by_the_kernel() {
    let bench = Bench::new();
    let task = start_udp(&bench.context, LOOPBACK).expect("port 0 is free");
    let address = bench.context.board.address("syslog_udp").expect("listening");
    let (client, _) = bind_udp(LOOPBACK, 1 << 16).expect("port 0 is free");
    let sent = 5_000;
    for number in 0..sent {
        client.send_to(format!("<13>app: {number}\nsecond line").as_bytes(), address).expect("sent");
    }
    // Blank datagrams are no events, and damage nothing.
    for bytes in [b"\n".as_slice(), b"", b"\xff\xfe\x00\x01<"] {
        client.send_to(bytes, address).expect("sent");
    }
    bench.context.stop.cancel();
    task.await.expect("the listener ends");
    let status = bench.context.board.status();
    let line = status.iter().find(|line| line.name == "syslog_udp").expect("registered");
    assert_eq!(line.received + line.kernel_drops, sent + 3);
    assert!(line.receive_buffer > 0);
    let (received, lost) = (line.received, line.kernel_drops);
    let events = bench.committed().await;
    assert_eq!(u64::try_from(events.len()).expect("small"), received - 2);
    assert!(lost > 0 || events.iter().any(|event| event.has(Flag::NoPri) && event.has(Flag::InvalidUtf8)));
    assert!(events.iter().any(|event| event.message == "0\nsecond line"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_shown_on_the_board() {
    let bench = Bench::new();
    let (held, _) = bind_udp(LOOPBACK, 1 << 16).expect("port 0 is free");
    let address = held.local_addr().expect("bound");
    start_udp(&bench.context, address).map(drop).expect_err("taken");
    let status = bench.context.board.status();
    let Some(ListenerState::Failed(text)) = status.first().map(|line| line.state.clone()) else {
        panic!("{status:?}");
    };
    assert!(text.contains(&address.to_string()) && text.contains("another port"), "{text}");
}
