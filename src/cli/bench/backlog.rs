//! A start with millions of events waiting, as after a long stop of the alerter: how long until it is ready, with how much
//! memory, how quickly the backlog is worked off, whether its space is given back, and what the idle process costs then.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use super::args::BenchArgs;
use super::figures::{cpu_seconds, disk_bytes, memory};
use super::server::Server;
use super::source::EventSource;
use crate::cli::mock_moog::{MockMoog, MockOptions};
use crate::cli::send::synthetic::{self, Synthetic};
use crate::model::TargetName;
use crate::queue::{QueueOptions, Queues};

/// Events in one record, as the intake makes them under load.
const RECORD_EVENTS: usize = 1_024;
const POLL: Duration = Duration::from_millis(100);
/// Ten million events at 20,000 a second.
const LONGEST_DRAIN: Duration = Duration::from_secs(500);
/// Some ten thousand alerts at the default pace.
const LONGEST_DELIVERY: Duration = Duration::from_secs(300);
/// Time for the queue to remove what is drained and for the stores to finish.
const SETTLE: Duration = Duration::from_secs(3);
/// The idle process is watched for so long.
const IDLE: Duration = Duration::from_secs(10);

/// What a start with a backlog did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BacklogFigures {
    /// Events waiting at the start.
    pub events: u64,
    /// Active rules.
    pub rules: u32,
    /// From the start of the process until it was ready.
    pub started_in_ms: f64,
    /// Most memory until it was ready, in MB.
    pub start_peak_mb: f64,
    /// Bytes of the event queue before the start.
    pub queue_bytes_before: u64,
    /// The same after draining.
    pub queue_bytes_after: u64,
    /// Events judged a second.
    pub drained_per_second: f64,
    /// CPU seconds for a million events.
    pub cpu_seconds_per_million: f64,
    /// Most memory in all, in MB.
    pub peak_mb: f64,
    /// Memory when all is done, in MB.
    pub idle_mb: f64,
    /// Share of one core that the idle process takes, in percent.
    pub idle_cpu_percent: f64,
    /// Events that were waiting and never judged.
    pub lost: u64,
}

/// Fills the queue of a stopped server, starts it and watches.
pub async fn measure(args: &BenchArgs, parent: &Path, events: u64, rules: u32) -> anyhow::Result<BacklogFigures> {
    let receiver = MockMoog::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, MockOptions::default())?;
    let mut server = Server::start(parent, &receiver.url()).await?;
    server.install((0..rules).map(synthetic::rule).collect()).await?;
    server.stop().await?;
    let match_percent = args.match_percent.first().copied().unwrap_or_default();
    let spec = Synthetic { rules, match_percent, size: args.size, seed: args.seed };
    let queues = server.data().join("queues");
    fill(queues.clone(), &spec, events).await?;
    let queue_bytes_before = disk_bytes(&queues.join("events"));

    server.start_again().await?;
    let (_, start_peak) = memory(server.pid())?;
    let begun = Instant::now();
    let mut judged = 0;
    while judged < events && begun.elapsed() < LONGEST_DRAIN {
        tokio::time::sleep(POLL).await;
        judged = server.counters().await?.processed_total();
    }
    let (took, cpu) = (begun.elapsed(), cpu_seconds(server.pid())?);
    await_deliveries(&mut server).await?;
    tokio::time::sleep(SETTLE).await;
    let idle_from = cpu_seconds(server.pid())?;
    tokio::time::sleep(IDLE).await;
    let idle_cpu = cpu_seconds(server.pid())? - idle_from;
    let (idle, peak) = memory(server.pid())?;
    Ok(BacklogFigures {
        events,
        rules,
        started_in_ms: server.started_in.as_secs_f64() * 1_000.0,
        start_peak_mb: start_peak as f64 / 1e6,
        queue_bytes_before,
        queue_bytes_after: disk_bytes(&queues.join("events")),
        drained_per_second: judged as f64 / took.as_secs_f64().max(1e-6),
        cpu_seconds_per_million: cpu * 1e6 / judged.max(1) as f64,
        peak_mb: peak as f64 / 1e6,
        idle_mb: idle as f64 / 1e6,
        idle_cpu_percent: 100.0 * idle_cpu / IDLE.as_secs_f64(),
        lost: events.saturating_sub(judged),
    })
}

/// Waits until nothing is in any queue: alerts are delivered at the pace of `moog_rate_limit`, and until then the process
/// is not idle.
async fn await_deliveries(server: &mut Server) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_DELIVERY {
        if server.counters().await?.queues.values().sum::<u64>() == 0 {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Puts `events` events into the event queue below `queues`, as the intake would have.
async fn fill(queues: PathBuf, spec: &Synthetic, events: u64) -> anyhow::Result<()> {
    let options = QueueOptions::default();
    let opened = tokio::task::spawn_blocking(move || {
        let target = TargetName::new("moogsoft")?;
        Queues::open(&queues, &[target], &options).map_err(anyhow::Error::from)
    });
    let queues = opened.await?.context("cannot open the queues of the stopped server")?;
    let mut source = EventSource::new(spec)?;
    let mut left = events;
    while left > 0 {
        let count = left.min(RECORD_EVENTS as u64);
        let record = source.next(usize::try_from(count).unwrap_or(RECORD_EVENTS));
        queues.events.append(&record).await.context("cannot fill the queue")?;
        left -= count;
    }
    let waiting = queues.events.depth().items;
    queues.close().await.context("cannot close the queues")?;
    ensure!(waiting == events, "{waiting} events are in the queue, not {events}");
    Ok(())
}
