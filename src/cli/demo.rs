//! `muttd demo`: the whole appliance with sample rules, sample traffic over real sockets and a receiver of its own.
//!
//! Nothing is simulated but the devices: messages travel through the same sockets, queues, rules and forwarder as in
//! service. The data directory is a fresh temporary one, removed at the end, unless one is given.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::mock_moog::{MockMoog, MockOptions};
use super::samples::sample_setup;
use super::send::{DemoTargets, DemoTraffic, run_traffic};
use crate::admin::{Actor, Admin};
use crate::app::App;
use crate::config::Config;
use crate::telemetry::logs;

/// Arguments of `muttd demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the data here instead of in a temporary directory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Sample messages per second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Stop by itself after so many seconds; 0 runs until interrupted.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

/// Runs until SIGINT, SIGTERM or the given time.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    stop_on_signal(&stop)?;
    let (data, temporary) = match &args.data {
        Some(dir) => (dir.clone(), false),
        None => (temporary_directory()?, true),
    };
    let result = demonstrate(&args, &data, &stop).await;
    if temporary {
        std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove `{}`", data.display()))?;
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn stop_on_signal(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

async fn demonstrate(args: &DemoArgs, data: &Path, stop: &CancellationToken) -> anyhow::Result<()> {
    let receiver = MockMoog::start(TcpListener::bind("127.0.0.1:0")?, MockOptions::default())?;
    let config = Config::load_with(data, None, demo_variables(receiver.local_addr()))?;
    let log = logs::init("warn", logs::LogFormat::Text)?.with_fixed_filter();
    let (app, greeting) = App::start(config, log).await.context("cannot start the demo")?;
    install_samples(app.admin()).await.context("cannot install the sample rules")?;
    let targets = DemoTargets {
        syslog_udp: address(&app, "syslog_udp")?,
        syslog_tcp: address(&app, "syslog_tcp")?,
        snmp: address(&app, "snmp")?,
        ingest_http: format!("http://{}/api/v2/ingest", address(&app, "ingest_http")?),
        api_key: app.ingest_api_key().reveal().to_owned(),
        community: "public".to_owned(),
    };
    println!("muttd demo: the appliance is running; everything is kept in {}", data.display());
    println!("  web UI      http://{}/", address(&app, "web_http")?);
    match &greeting.first_login {
        Some(login) => println!("  log in as   {}   password   {}", login.user, login.password),
        None => println!("  log in with the password shown when this data directory was made"),
    }
    println!("  syslog      UDP {}, TCP {}", targets.syslog_udp, targets.syslog_tcp);
    println!("  SNMP traps  {} (community public)", targets.snmp);
    println!("  JSON        POST {}   X-API-KEY: {}", targets.ingest_http, targets.api_key);
    println!("  receiver    http://{}/stats (stands in for Moogsoft)", receiver.local_addr());
    println!("Sending {} sample messages a second. Ctrl-C stops.", args.rate);
    let traffic = Arc::new(DemoTraffic::default());
    let sending = tokio::spawn(run_traffic(targets, f64::from(args.rate), Arc::clone(&traffic), stop.clone()));
    report_progress(args, &app, &receiver, &traffic, stop).await;
    stop.cancel();
    sending.await.context("the sample traffic ended by a fault")??;
    app.stop().await;
    println!("Stopped. The receiver was given {} alerts.", receiver.stats().accepted);
    receiver.stop().await?;
    Ok(())
}

/// One line a second until stopped.
async fn report_progress(
    args: &DemoArgs,
    app: &App,
    receiver: &MockMoog,
    traffic: &DemoTraffic,
    stop: &CancellationToken,
) {
    let started = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let sent =
            |counters: &[&AtomicU64]| counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum::<u64>();
        let alerts = receiver.stats();
        let alerts_by =
            |sources: &[&str]| sources.iter().filter_map(|source| alerts.by_source.get(*source)).sum::<u64>();
        println!(
            "{:>4} s  sent: {} syslog, {} traps, {} JSON   waiting: {}   alerts at the receiver: {} (syslog {}, traps {}, JSON {})",
            started.elapsed().as_secs(),
            sent(&[&traffic.syslog_udp, &traffic.syslog_tcp]),
            sent(&[&traffic.snmp]),
            sent(&[&traffic.http]),
            app.queue_depth(),
            alerts.accepted,
            alerts_by(&["syslog_udp", "syslog_tcp"]),
            alerts_by(&["snmp_trap"]),
            alerts_by(&["http"]),
        );
        if args.seconds > 0 && started.elapsed() >= Duration::from_secs(args.seconds) {
            return;
        }
    }
}

/// Rules, development hosts and teams that fit the sample messages; what a kept data directory has already is left.
async fn install_samples(admin: &Admin) -> anyhow::Result<()> {
    let actor = Actor::new("demo", "demo");
    let reason = Some("sample data of the demonstration");
    if !admin.rules().await?.rules.is_empty() {
        return Ok(());
    }
    let setup = sample_setup();
    admin.create_rules(setup.rules, &actor, reason).await?;
    for host in &setup.dev_hosts {
        admin.add_dev_host(host, &actor, reason).await?;
    }
    for (host, team) in &setup.teams {
        admin.add_device_team(host, team.as_str(), &actor, reason).await?;
    }
    Ok(())
}

fn address(app: &App, listener: &'static str) -> anyhow::Result<SocketAddr> {
    app.listeners()
        .address(listener)
        .with_context(|| format!("the listener {listener} did not start; see the messages above"))
}

/// The demo's configuration: loopback only, the usual ports where they are free, alerts to the built-in receiver.
fn demo_variables(receiver: SocketAddr) -> BTreeMap<String, String> {
    let variables = [
        ("MUTTD_HTTP_LISTEN", tcp_address(8090)),
        ("MUTTD_INGEST_LISTEN", tcp_address(8080)),
        ("MUTTD_SYSLOG_UDP_LISTEN", udp_address(5514)),
        ("MUTTD_SYSLOG_TCP_LISTEN", tcp_address(5514)),
        ("MUTTD_SNMP_LISTEN", udp_address(1162)),
        ("MUTTD_MOOG_WEBHOOK_URL", format!("http://{receiver}/events")),
        // Few enough that a newcomer sees the meta-alert for unhandled events within a minute.
        ("MUTTD_DYNAMIC_UNHANDLED_THRESHOLD", "20".to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The usual port on loopback, or any free one when something else has it.
fn tcp_address(port: u16) -> String {
    let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
    format!("127.0.0.1:{}", if free { port } else { 0 })
}

fn udp_address(port: u16) -> String {
    let free = UdpSocket::bind(("127.0.0.1", port)).is_ok();
    format!("127.0.0.1:{}", if free { port } else { 0 })
}

/// A fresh directory that only this user can read.
fn temporary_directory() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = std::env::temp_dir().join(format!("muttd-demo-{}", std::process::id()));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("cannot make `{}`", path.display()))?;
    Ok(path)
}
