//! Runs the measurements one after the other and prints the report.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::args::BenchArgs;
use super::figures;
use super::measure::measure;
use super::report::BenchReport;

/// Exit status of wrong arguments, as clap's own.
const WRONG_ARGUMENTS: u8 = 2;

/// `muttd bench`.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    if let Err(error) = args.check() {
        eprintln!("error: {error:#}");
        return Ok(ExitCode::from(WRONG_ARGUMENTS));
    }
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    // Whichever ends first drops the other: an interrupt drops the measurement, and with it its child and folder.
    let report = tokio::select! {
        report = all(&args) => report?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; nothing was reported"),
        _ = terminate.recv() => anyhow::bail!("terminated; nothing was reported"),
    };
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    std::io::stdout().write_all(report.text().as_bytes()).context("cannot print the report")?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn all(args: &BenchArgs) -> anyhow::Result<BenchReport> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let (processor, cores) = figures::processor();
    let mut report = BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        processor,
        cores,
        file_system: figures::file_system(&parent),
        seconds: args.seconds,
        line_bytes: args.size,
        measurements: Vec::with_capacity(args.inputs.len() * args.rules.len()),
    };
    let total = args.inputs.len() * args.rules.len();
    for &input in &args.inputs {
        for &rules in &args.rules {
            let number = report.measurements.len() + 1;
            eprintln!("[{number}/{total}] {} with {rules} rules ...", input.name());
            let measured = measure(args, &parent, input, rules).await;
            let measured = measured.with_context(|| format!("{} with {rules} rules was not measured", input.name()))?;
            eprintln!(
                "[{number}/{total}] {:.0} events/s, {:.2} CPU s per million, {} lost",
                measured.processed_per_second, measured.cpu_seconds_per_million, measured.lost
            );
            report.measurements.push(measured);
        }
    }
    Ok(report)
}
