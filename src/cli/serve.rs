//! `muttd serve`: run the appliance until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Greeting};
use crate::clock::Clock;
use crate::config::Sources;
use crate::secret::process::keep_memory_private;
use crate::telemetry::logs;
use crate::vault;

/// Arguments of `muttd serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Directory that holds everything the appliance writes; made if missing.
    #[arg(long, value_name = "DIR", env = "MUTTD_DATA")]
    data: PathBuf,
    /// Configuration file; without it DIR/muttd.toml is read if there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reloads.
pub async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    if let Err(error) = keep_memory_private() {
        eprintln!("muttd: the memory of this process is not kept from core files and other processes: {error}");
    }
    // Signals first: one that comes while starting must not kill half a start.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut sources = Sources::new(&args.data, args.config.as_deref());
    let (filter, format) = sources.logging()?;
    let log_control = logs::init(&filter, format)?;
    let stop_vault = CancellationToken::new();
    let _stop_vault = stop_vault.clone().drop_guard();
    if let Some(settings) = sources.vault_settings()? {
        let starting = vault::start(settings, Clock::system(), stop_vault);
        let vault = tokio::select! {
            vault = starting => vault?,
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        };
        sources = sources.with_vault(vault);
    }
    let config = sources.load()?;
    let (app, greeting) = App::start(config, log_control).await.context("cannot start")?;
    show(&greeting);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // What cannot be used changes nothing and was told in the log.
            _ = hang_up.recv() => drop(app.reload().await),
        }
    }
    tracing::info!("Stopping: no more input is taken, what is under way is finished");
    app.stop().await;
    tracing::info!("Stopped");
    Ok(ExitCode::SUCCESS)
}

/// Prints what is shown only once: to the terminal, never to the log.
pub fn show(greeting: &Greeting) {
    if let Some(login) = &greeting.first_login {
        println!("First start. Log in to the web UI as `{}` with the password {}", login.user, login.password);
        println!("It is shown only now.");
    }
    if let Some((ingest, admin)) = &greeting.fresh_keys {
        println!("API keys made and kept in {}:", greeting.secrets_file.display());
        println!("  ingest {}", ingest.reveal());
        println!("  admin  {}", admin.reveal());
    }
}
