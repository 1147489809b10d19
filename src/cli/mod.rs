//! The command line: `muttd serve`, and the commands around it.
//!
//! Each command is a file of its own with its arguments and a `run`; this one only lists them.

pub mod api;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod config;
pub mod demo;
pub mod dlq;
pub mod keys;
pub mod logs;
pub mod mock_moog;
pub mod retention;
pub mod rules;
pub mod samples;
pub mod secrets;
pub mod send;
pub mod serve;
pub mod setup_link;
pub mod slo;
pub mod status;
pub mod targets;
pub mod transfer;
pub mod trust;
pub mod users;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// The MUTT appliance: receives syslog, SNMP traps and JSON events, keeps them safe, decides by rules, forwards the
/// alerts that matter.
#[derive(Debug, Parser)]
#[command(name = "muttd", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance.
    Serve(serve::ServeArgs),
    /// Run the appliance with sample rules, sample traffic and a built-in receiver, to see it work.
    Demo(demo::DemoArgs),
    /// Run a stand-in for the Moogsoft webhook that counts and shows what it receives.
    MockMoog(mock_moog::MockMoogArgs),
    /// Send messages over real sockets: files, samples or generated load.
    Send(send::SendArgs),
    /// Measure this build on this machine: events per second, CPU, memory and disk.
    Bench(bench::BenchArgs),
    /// Show, test and reset the delivery targets of a running appliance.
    Targets(targets::TargetsArgs),
    /// List, change, order, test and try rules of a running appliance.
    Rules(rules::RulesArgs),
    /// Show settings and where they come from, change them at run time, go back.
    Config(config::ConfigArgs),
    /// Look at dead letters, put them back, discard or change them.
    Dlq(dlq::DlqArgs),
    /// Show, set and exchange the keys of callers and receivers.
    Secrets(secrets::SecretsArgs),
    /// Verify the change log, export its head, list changes; list the files of the event audit.
    Audit(audit::AuditArgs),
    /// Write rules, hosts, teams, settings and targets of a running appliance into one file.
    Export(transfer::ExportArgs),
    /// Make rules, hosts, teams, settings and targets what a file says.
    Import(transfer::ImportArgs),
    /// Show the last lines that a running appliance logged, and follow them.
    Logs(logs::LogsArgs),
    /// Take a backup of a running appliance, or check one.
    Backup(backup::BackupArgs),
    /// Put a backup into the data directory of an appliance that is stopped.
    Restore(backup::RestoreArgs),
    /// Show how a running appliance is; ends with 1 if it is not ready.
    Status(status::StatusArgs),
    /// Run retention, show when it ran and when it will.
    Retention(retention::RetentionArgs),
    /// List, verify, search and restore archived events.
    Archive(retention::ArchiveArgs),
    /// Legal holds, and erasing a host's data.
    Hold(retention::HoldArgs),
    /// Show the service levels of a running appliance.
    Slo(slo::SloArgs),
    /// Make users, change their roles and passwords, end their sessions.
    Users(users::UsersArgs),
    /// Make, exchange and revoke API keys.
    Keys(keys::KeysArgs),
    /// Make a one-time link for setting the password of `admin`, when nobody knows it.
    SetupLink(setup_link::SetupLinkArgs),
    /// Print the configuration reference (docs/CONFIG.md).
    ConfigReference,
    /// Print the metrics reference (docs/METRICS.md).
    MetricsReference,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command that was asked for.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::ConfigReference => print(&crate::config::keys::reference()),
        Command::MetricsReference => print(&crate::telemetry::metrics::reference()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "muttd", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        command => run_async(command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("muttd: {error:#}");
        ExitCode::FAILURE
    })
}

fn print(page: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    std::io::stdout().write_all(page.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn run_async(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("muttd").build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::MockMoog(args) => mock_moog::run(args).await,
            Command::Send(args) => send::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Targets(args) => targets::run(args).await,
            Command::Rules(args) => rules::run(args).await,
            Command::Config(args) => config::run(args).await,
            Command::Dlq(args) => dlq::run(args).await,
            Command::Secrets(args) => secrets::run(args).await,
            Command::Audit(args) => audit::run(args).await,
            Command::Export(args) => transfer::export(args).await,
            Command::Import(args) => transfer::import(args).await,
            Command::Logs(args) => logs::run(args).await,
            Command::Backup(args) => backup::run(args).await,
            Command::Restore(args) => backup::restore(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Retention(args) => retention::run(args).await,
            Command::Archive(args) => retention::archive(args).await,
            Command::Hold(args) => retention::hold(args).await,
            Command::Slo(args) => slo::run(args).await,
            Command::Users(args) => users::run(args).await,
            Command::Keys(args) => keys::run(args).await,
            Command::SetupLink(args) => setup_link::run(args).await,
            Command::ConfigReference | Command::MetricsReference | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // A blocking thread that hangs on a dead disk must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
