//! Carries out a plan: starts its connections, shows progress, collects the report.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::SendArgs;
use super::feed::{Feed, FeedError, Marker, Origin, Shape};
use super::post::{self, PostOptions};
use super::schedule::Schedule;
use super::socket::{self, Framing, Part};
use super::tally::{Report, Tally, grouped};
use crate::net::tls::Connector;

/// Exit status of wrong arguments, as clap's own.
const WRONG_ARGUMENTS: u8 = 2;

/// Where messages go, and how.
#[derive(Debug, Clone)]
pub enum Transport {
    /// One datagram a message: syslog or traps.
    Udp(SocketAddr),
    /// A framed stream.
    Tcp(SocketAddr, Framing),
    /// The same inside TLS, with the name that the certificate must have.
    Tls(SocketAddr, String, Connector),
    /// HTTP requests.
    Http(PostOptions),
    /// SNMP informs, with the time to wait for each answer.
    Inform(SocketAddr, Duration),
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where and how.
    pub transport: Transport,
    /// The form of a message; it has to fit the transport.
    pub shape: Shape,
    /// Where messages come from.
    pub origin: Origin,
    /// What is put into each.
    pub marker: Option<Marker>,
    /// Connections at the same time.
    pub connections: u32,
    /// Messages to send; `None` until time is up.
    pub count: Option<u64>,
    /// When time is up.
    pub duration: Option<Duration>,
    /// Messages a second over all connections; `None` is as fast as it goes.
    pub rate: Option<f64>,
}

/// `muttd send`.
pub async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let plan = match args.plan().await {
        Ok(plan) => plan,
        Err(error) => return Ok(wrong(&error)),
    };
    let stop = CancellationToken::new();
    let tally = Arc::new(Tally::default());
    let interrupt = tokio::spawn({
        let stop = stop.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.cancel();
            }
        }
    });
    let progress = std::io::stderr().is_terminal().then(|| tokio::spawn(show_progress(Arc::clone(&tally), plan.count)));
    let outcome = execute(plan, Arc::clone(&tally), stop).await;
    interrupt.abort();
    if let Some(progress) = progress {
        progress.abort();
        eprint!("\r\x1b[K");
    }
    let report = match outcome {
        Err(error) if error.is::<FeedError>() => return Ok(wrong(&error)),
        outcome => outcome?,
    };
    let text = if args.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the report")?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wrong(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(WRONG_ARGUMENTS)
}

async fn show_progress(tally: Arc<Tally>, count: Option<u64>) {
    let mut before = 0;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let sent = tally.sent.load(Ordering::Relaxed);
        let of = count.map_or(String::new(), |count| format!(" of {}", grouped(count)));
        eprint!("\r\x1b[K{}{of} sent, {} messages/s", grouped(sent), grouped(sent.saturating_sub(before)));
        before = sent;
    }
}

/// Carries out `plan`, counting in `tally`. An error is returned only if nothing could be started; what goes wrong on
/// the way is in the report.
pub async fn execute(plan: Plan, tally: Arc<Tally>, stop: CancellationToken) -> anyhow::Result<Report> {
    let (origin, shape, marker) = (plan.origin, plan.shape, plan.marker);
    // Shaping some ten thousand lines takes a while; no other task should wait for it.
    let feed = tokio::task::spawn_blocking(move || Feed::new(&origin, &shape, marker.as_ref()))
        .await
        .context("the messages could not be made")??;
    let schedule = Schedule::new(plan.rate, plan.count.unwrap_or(u64::MAX), plan.duration);
    let mut connections = JoinSet::new();
    for index in 0..u64::from(plan.connections) {
        let part = Part {
            index,
            of: u64::from(plan.connections),
            feed: feed.for_connection(index),
            schedule,
            tally: Arc::clone(&tally),
            stop: stop.clone(),
        };
        match plan.transport.clone() {
            Transport::Udp(to) => connections.spawn_blocking(move || socket::send_udp(to, part)),
            Transport::Tcp(to, framing) => connections.spawn_blocking(move || socket::send_tcp(to, framing, part)),
            Transport::Tls(to, host, tls) => {
                connections.spawn_blocking(move || socket::send_tls(to, &host, &tls, part))
            }
            Transport::Http(options) => connections.spawn(async move { post::post(&options, part).await }),
            Transport::Inform(to, timeout) => connections.spawn(post::inform(to, timeout, part)),
        };
    }
    while let Some(ended) = connections.join_next().await {
        if let Err(error) = ended.context("a connection's task ended early")? {
            tally.add_error(error.to_string());
        }
    }
    let took = Instant::now().saturating_duration_since(schedule.start());
    Ok(tally.report(plan.transport.to_string(), plan.count, took))
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Udp(to) => write!(f, "udp to {to}"),
            Self::Tcp(to, _) => write!(f, "tcp to {to}"),
            Self::Tls(to, ..) => write!(f, "tls to {to}"),
            Self::Http(options) => write!(f, "http to {}{}", options.endpoint.address, options.endpoint.path),
            Self::Inform(to, _) => write!(f, "snmp informs to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::Encoding;
    use crate::cli::send::http::Endpoint;
    use crate::cli::send::snmp::{Notification, SnmpVersion, Wrapping};
    use tokio::net::UdpSocket;

    /// Sends 1,000 samples over three connections.
    async fn send(transport: Transport, shape: Shape) -> Report {
        let plan = Plan {
            transport,
            shape,
            origin: Origin::Samples { seed: 1 },
            marker: Some(Marker { text: "run".into(), digits: 6 }),
            connections: 3,
            count: Some(1_000),
            duration: None,
            rate: Some(100_000.0),
        };
        execute(plan, Arc::new(Tally::default()), CancellationToken::new()).await.expect("a report")
    }

    #[tokio::test]
    async fn batches_are_posted_and_their_answers_counted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        // Takes whatever is posted, compressed or not.
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(async || "{}")).await });
        let options = PostOptions {
            endpoint: Endpoint::parse(&format!("http://{address}"), "/").expect("an address"),
            api_key: Some(Arc::from("key")),
            batch: 100,
            encoding: Encoding::Gzip,
            tls: None,
            timeout: Duration::from_secs(10),
        };
        let report = send(Transport::Http(options), Shape::Json).await;
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.sent, report.accepted), (1_000, 1_000));
        // 334, 333 and 333 events: four requests a connection, the last one short.
        assert_eq!(report.statuses[&200], 12);
    }

    #[tokio::test]
    async fn informs_without_an_answer_are_told_from_those_with_one() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let to = receiver.local_addr().expect("an address");
        let responder = tokio::spawn(async move {
            let mut datagram = [0; 2_048];
            let mut answered = 0_u64;
            while let Ok((length, peer)) = receiver.recv_from(&mut datagram).await {
                // The PDU's tag follows the community; a response is the inform's PDU with another tag.
                let community = memchr::memmem::find(&datagram[..length], b"public").expect("a community");
                let tag = community + "public".len();
                datagram[tag] = 0xa2;
                let keep_silent = answered == 7;
                answered += 1;
                if !keep_silent {
                    receiver.send_to(&datagram[..length], peer).await.expect("answered");
                }
            }
        });
        let wrapping =
            Wrapping { version: SnmpVersion::V2c, notification: Notification::Inform, community: "public".into() };
        let report = send(Transport::Inform(to, Duration::from_secs(2)), Shape::Trap(wrapping)).await;
        responder.abort();
        assert_eq!((report.sent, report.accepted, report.unanswered), (1_000, 999, 1), "{report}");
        assert!(!report.is_clean());
    }

    #[tokio::test]
    async fn a_receiver_that_is_not_there_makes_a_report_and_no_hang() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
        let report = send(Transport::Tcp(free, Framing::LineFeed), Shape::Syslog).await;
        assert_eq!((report.sent, report.is_clean()), (0, false));
        assert_eq!(report.errors.len(), 1, "{report}");
    }
}
