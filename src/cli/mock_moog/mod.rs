//! `muttd mock-moog`: the stand-in receiver as a program of its own.

mod receiver;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

pub use receiver::{MockMoog, MockOptions, MockStats};

use crate::net::bind_tcp;

/// Arguments of `muttd mock-moog`.
#[derive(Debug, Args)]
pub struct MockMoogArgs {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Share of requests answered with a failure, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    failure_rate: f64,
    /// Which requests fail follows from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds each answer takes.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u64,
    /// Status of failures; with a failure rate of 0, of every answer.
    #[arg(long, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// Retry-After header of failures: seconds or an HTTP date.
    #[arg(long)]
    retry_after: Option<String>,
    /// Bearer token that requests must carry.
    #[arg(long)]
    token: Option<String>,
}

/// Serves until SIGINT or SIGTERM, then prints what was received.
pub async fn run(args: MockMoogArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=1.0).contains(&args.failure_rate), "--failure-rate is a share from 0 to 1, such as 0.25");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options = MockOptions {
        failure_rate: args.failure_rate,
        seed: args.seed,
        delay: Duration::from_millis(args.delay_ms),
        status: args.status,
        retry_after: args.retry_after,
        token: args.token,
    };
    let receiver = MockMoog::start(bind_tcp(args.listen)?, options)?;
    println!("Receiver at {}; see http://{}/stats. Ctrl-C stops.", receiver.url(), receiver.local_addr());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    println!("{}", serde_json::to_string_pretty(&receiver.stats())?);
    receiver.stop().await?;
    Ok(ExitCode::SUCCESS)
}
