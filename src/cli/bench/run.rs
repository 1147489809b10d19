//! Runs the measurements one after the other and prints the report.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::args::BenchArgs;
use super::measure::{Case, measure};
use super::report::BenchReport;
use super::{archive, backlog, figures, flood, lists, stages};

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
        measurements: Vec::new(),
        stages: Vec::new(),
        flood: None,
        backlog: None,
        lists: None,
        archive: None,
    };
    for stage in args.stages() {
        eprintln!("stage {} ...", stage.name());
        let figures = stages::measure(args, &parent, stage).await;
        report.stages.extend(figures.with_context(|| format!("the stage {} was not measured", stage.name()))?);
    }
    inputs(args, &parent, &mut report).await?;
    if args.flood {
        let rules = args.rules.first().copied().unwrap_or_default();
        eprintln!("a flood of datagrams with {rules} rules ...");
        report.flood = Some(flood::measure(args, &parent, rules).await.context("the flood was not measured")?);
    }
    if let Some(events) = args.backlog {
        let rules = args.rules.first().copied().unwrap_or_default();
        eprintln!("a start with {events} events waiting, {rules} rules ...");
        let measured = backlog::measure(args, &parent, events, rules).await;
        report.backlog = Some(measured.context("the start with a backlog was not measured")?);
    }
    if let Some(rows) = args.lists {
        eprintln!("lists over {rows} rows ...");
        report.lists = Some(lists::measure(args, &parent, rows).await.context("the lists were not measured")?);
    }
    if let Some(rows) = args.archive {
        eprintln!("archiving {rows} rows ...");
        report.archive = Some(archive::measure(args, &parent, rows).await.context("archiving was not measured")?);
    }
    Ok(report)
}

async fn inputs(args: &BenchArgs, parent: &Path, report: &mut BenchReport) -> anyhow::Result<()> {
    let mut cases = Vec::new();
    for input in args.inputs() {
        for &rules in &args.rules {
            cases.extend(args.match_percent.iter().map(|&match_percent| Case { input, rules, match_percent }));
        }
    }
    let total = cases.len();
    for (at, case) in cases.into_iter().enumerate() {
        let number = at + 1;
        let what = format!("{} with {} rules, {} % matching", case.input.name(), case.rules, case.match_percent);
        eprintln!("[{number}/{total}] {what} ...");
        let measured = measure(args, parent, case).await;
        let measured = measured.with_context(|| format!("{what}: not measured"))?;
        eprintln!(
            "[{number}/{total}] {:.0} events/s, {:.2} CPU s per million, {} lost, {} doubled",
            measured.processed_per_second, measured.cpu_seconds_per_million, measured.lost, measured.doubled
        );
        report.measurements.push(measured);
    }
    Ok(())
}
