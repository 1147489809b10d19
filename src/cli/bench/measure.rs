//! One measurement: load for some seconds, then wait until the server has judged everything it took, then stop it and
//! compare its audit with what was sent.
//!
//! The processed rate counts from the first message to the last judged one, so a backlog that was built up during the
//! load lowers it. What was sent and never judged, or judged and never written down, is reported as lost.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::args::{BenchArgs, Input};
use super::figures::{self, Counters};
use super::ledger::{Findings, Ledger};
use super::report::Measurement;
use super::server::Server;
use crate::cli::mock_moog::{MockMoog, MockOptions};
use crate::cli::send::http::Endpoint;
use crate::cli::send::snmp::{Notification, SnmpVersion, Wrapping};
use crate::cli::send::synthetic::{self, Synthetic};
use crate::cli::send::{self, Encoding, Framing, Marker, Origin, Plan, PostOptions, Report, Shape, Tally, Transport};

const POLL: Duration = Duration::from_millis(50);
/// Without progress for so long the server has taken and judged all it will.
const QUIET: Duration = Duration::from_secs(2);
/// A queue of five million events at 50,000 a second.
const LONGEST_DRAIN: Duration = Duration::from_secs(120);
const POST_TIMEOUT: Duration = Duration::from_secs(30);
/// Digits of the running number: enough for ten hours at 250,000 a second.
const DIGITS: usize = 10;

/// What is measured at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// The way in.
    pub input: Input,
    /// Active rules.
    pub rules: u32,
    /// Share of the lines that a rule hits, in percent.
    pub match_percent: f64,
}

/// Starts a server, measures one case, stops the server and looks into its audit.
pub async fn measure(args: &BenchArgs, parent: &Path, case: Case) -> anyhow::Result<Measurement> {
    let receiver = MockMoog::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, MockOptions::default())?;
    let mut server = Server::start(parent, &receiver.url()).await?;
    let (idle_bytes, _) = figures::memory(server.pid())?;
    server.install((0..case.rules).map(synthetic::rule).collect()).await?;

    let mut best: Option<(Measurement, Ledger)> = None;
    for (attempt, rate) in args.rates(case.input).into_iter().enumerate() {
        let warm_up = Duration::from_secs(u64::from(args.warm_up));
        let warming = plan(args, &server, case, "warm", warm_up, rate)?;
        load(&mut server, warming).await?;
        let load_time = Duration::from_secs(u64::from(args.seconds));
        let before = Moment::now(&mut server).await?;
        let mark = format!("run{attempt}");
        let plan = plan(args, &server, case, &mark, load_time, rate)?;
        let connections = u64::from(plan.connections);
        let run = load(&mut server, plan).await?;
        let measurement = measurement(case, &before, &run, &server)?;
        let clean = measurement.lost == 0;
        // Of several rates the first that lost nothing counts; if all did, the one that lost the smallest share.
        if clean || best.as_ref().is_none_or(|(best, _)| measurement.loss() < best.loss()) {
            let hits = synthetic::hits(&lines(args, case));
            best = Some((measurement, Ledger::new(&mark, hits, run.report.connections, connections)));
        }
        if clean {
            break;
        }
    }
    let (mut best, ledger) = best.ok_or_else(|| anyhow::anyhow!("no rate to measure with"))?;
    best.started_in_ms = server.started_in.as_secs_f64() * 1_000.0;
    best.idle_mb = idle_bytes as f64 / 1e6;
    server.stop().await?;
    best.alerts_delivered = receiver.stats().received;
    settle(&mut best, ledger.compare(&server.data()).await?);
    Ok(best)
}

/// Puts what the audit tells beside what the counters tell; the worse of both counts.
fn settle(measurement: &mut Measurement, findings: Findings) {
    // What was refused, or got no answer, was sent and need not have a row.
    let excused = measurement.refused;
    measurement.lost = measurement.lost.max(findings.missing.saturating_sub(excused));
    measurement.doubled = measurement.doubled.max(findings.doubled + findings.unexpected);
    measurement.audit = Some(findings);
}

/// The server's figures before the load.
pub struct Moment {
    counters: Counters,
    cpu: f64,
    own_cpu: f64,
    disk: u64,
}

impl Moment {
    /// The figures now.
    pub async fn now(server: &mut Server) -> anyhow::Result<Self> {
        let disk = figures::disk_bytes(&server.data());
        let own_cpu = figures::cpu_seconds(std::process::id())?;
        Ok(Self { counters: server.counters().await?, cpu: figures::cpu_seconds(server.pid())?, own_cpu, disk })
    }

    /// The counters then.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// What a load did.
pub struct Load {
    /// What the sender tells.
    pub report: Report,
    /// The server's counters when it was done.
    pub counters: Counters,
    /// From the first message to the last judged one.
    pub took: Duration,
    /// CPU seconds of the server when it was done.
    cpu: f64,
    /// CPU seconds of this process when the last message was sent.
    own_cpu: f64,
}

/// Sends, and waits until the server has judged what it took.
pub async fn load(server: &mut Server, plan: Plan) -> anyhow::Result<Load> {
    let before = server.counters().await?;
    let stop = CancellationToken::new();
    // When this future is dropped, the sending threads are told to end.
    let _stop_on_drop = stop.clone().drop_guard();
    let begun = Instant::now();
    let report = send::execute(plan, Arc::new(Tally::default()), stop).await?;
    let sent_by = Instant::now();
    let own_cpu = figures::cpu_seconds(std::process::id())?;
    let expected = before.processed_total() + taken(&report);
    let mut last = server.counters().await?;
    let mut progress = Instant::now();
    loop {
        let judged = last.processed_total();
        let quiet = progress.elapsed() >= QUIET;
        if judged >= expected || quiet && judged >= last.committed || sent_by.elapsed() >= LONGEST_DRAIN {
            break;
        }
        tokio::time::sleep(POLL).await;
        let now = server.counters().await?;
        if now.processed_total() != judged || now.received != last.received {
            progress = Instant::now();
        }
        last = now;
    }
    let took = progress.max(sent_by) - begun;
    Ok(Load { report, counters: last, took, cpu: figures::cpu_seconds(server.pid())?, own_cpu })
}

/// Messages that the server has to judge: all that were sent, less what it refused in so many words.
fn taken(report: &Report) -> u64 {
    report.sent.saturating_sub(report.refused).saturating_sub(report.unanswered)
}

fn measurement(case: Case, before: &Moment, run: &Load, server: &Server) -> anyhow::Result<Measurement> {
    let judged = run.counters.processed_total().saturating_sub(before.counters.processed_total());
    let matched = run.counters.matched().saturating_sub(before.counters.matched());
    let (_, peak) = figures::memory(server.pid())?;
    let disk = figures::disk_bytes(&server.data()).saturating_sub(before.disk);
    let events = judged.max(1) as f64;
    let mut errors = run.report.errors.clone();
    let waiting = run.counters.committed.saturating_sub(run.counters.processed_total());
    if waiting > 0 {
        errors.push(format!("{waiting} events were still waiting in the queue; they are counted as lost"));
    }
    Ok(Measurement {
        input: case.input,
        rules: case.rules,
        sent: run.report.sent,
        sent_per_second: run.report.messages_per_second,
        refused: run.report.refused + run.report.unanswered,
        processed: judged,
        processed_per_second: judged as f64 / run.took.as_secs_f64().max(1e-6),
        lost: taken(&run.report).saturating_sub(judged),
        doubled: judged.saturating_sub(run.report.sent),
        audit: None,
        kernel_drops: run.counters.kernel_drops.saturating_sub(before.counters.kernel_drops),
        drain_seconds: (run.took.as_secs_f64() - run.report.seconds).max(0.0),
        cpu_seconds_per_million: (run.cpu - before.cpu) * 1e6 / events,
        generator_cpu_seconds_per_million: (run.own_cpu - before.own_cpu) * 1e6 / run.report.sent.max(1) as f64,
        peak_mb: peak as f64 / 1e6,
        disk_bytes_per_event: disk as f64 / events,
        matched_percent: 100.0 * matched as f64 / events,
        latency: run.report.latency,
        errors,
        started_in_ms: 0.0,
        idle_mb: 0.0,
        alerts_delivered: 0,
    })
}

fn lines(args: &BenchArgs, case: Case) -> Synthetic {
    Synthetic { rules: case.rules, match_percent: case.match_percent, size: args.size, seed: args.seed }
}

/// A load on `server`, each message marked `mark`.
pub fn plan(
    args: &BenchArgs,
    server: &Server,
    case: Case,
    mark: &str,
    duration: Duration,
    rate: Option<f64>,
) -> anyhow::Result<Plan> {
    let addresses = &server.addresses;
    let (transport, shape) = match case.input {
        Input::SyslogTcp => (Transport::Tcp(addresses.syslog_tcp, Framing::LineFeed), Shape::Syslog),
        Input::SyslogUdp => (Transport::Udp(addresses.syslog_udp), Shape::Syslog),
        Input::Snmp => (Transport::Udp(addresses.snmp), trap_shape()),
        Input::Http | Input::HttpBatch => {
            let options = PostOptions {
                endpoint: Endpoint::parse(&addresses.ingest.to_string(), "/api/v2/ingest")?,
                api_key: Some(Arc::from(server.ingest_key())),
                batch: args.batch_of(case.input),
                encoding: Encoding::Plain,
                tls: None,
                timeout: POST_TIMEOUT,
            };
            (Transport::Http(options), Shape::Json)
        }
    };
    Ok(Plan {
        transport,
        shape,
        origin: Origin::Synthetic(lines(args, case)),
        marker: Some(Marker { text: mark.to_owned(), digits: DIGITS }),
        connections: args.connections.unwrap_or_else(|| case.input.connections()),
        count: None,
        duration: Some(duration),
        rate,
    })
}

fn trap_shape() -> Shape {
    Shape::Trap(Wrapping {
        version: SnmpVersion::V2c,
        notification: Notification::Trap,
        community: "public".to_owned(),
    })
}
