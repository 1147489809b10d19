//! Each part of an event's way on its own, in this process and without sockets, so that a regression can be placed.
//!
//! What is measured is the part itself: events are made beforehand. Nothing here touches an installation; the files lie in
//! a folder of their own and go with it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use super::args::{BenchArgs, Stage};
use super::figures::{cpu_seconds, disk_bytes};
use super::server::Folder;
use super::source::EventSource;
use crate::cli::send::synthetic::{self, Synthetic};
use crate::clock::Clock;
use crate::model::{Decision, Environment, Event, Handling, Judged, Matched, Rule, RuleId, Team};
use crate::queue::sled::SledBackend;
use crate::queue::{Queue, QueueOptions, Seq};
use crate::rules::{RuleSet, Scratch};
use crate::store::AuditLog;
use crate::store::sqlite::AuditDb;

/// Events in one record, as the intake makes them under load.
const RECORD_EVENTS: usize = 1_024;
/// Appends under way at once, as in the intake.
const APPENDS: usize = 2;
/// Records leased at once, as by the alerter.
const LEASED: usize = 16;
/// Different records; they are appended in turn, so that making events is no part of what is measured.
const RECORDS: usize = 16;
/// Rows in one transaction: a tenth of the alerter's largest batch of 16,384 events.
const ROWS: usize = 1_638;
/// How long the last records may take.
const LEASE_WAIT: Duration = Duration::from_millis(500);

/// One stage measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageFigures {
    /// Which.
    pub stage: Stage,
    /// Active rules, where they matter.
    pub rules: Option<u32>,
    /// Share of the events that a rule hit, in percent, where it matters.
    pub matched_percent: Option<f64>,
    /// Events (for the audit: rows).
    pub events: u64,
    /// The same a second.
    pub per_second: f64,
    /// CPU seconds of this process for a million.
    pub cpu_seconds_per_million: f64,
    /// Disk used, per event, where there is any.
    pub disk_bytes_per_event: Option<f64>,
    /// Time to prepare: for the matcher to compile the rules.
    pub prepared_in_ms: f64,
    /// What went wrong.
    pub errors: Vec<String>,
}

/// Measures one stage with every number of rules and share of matches that matter to it.
pub async fn measure(args: &BenchArgs, parent: &Path, stage: Stage) -> anyhow::Result<Vec<StageFigures>> {
    let span = Duration::from_secs(u64::from(args.seconds));
    match stage {
        Stage::Queue => Ok(vec![queue(args, parent, span).await?]),
        Stage::Audit => Ok(vec![audit(args, parent, span).await?]),
        Stage::Matcher => {
            let mut figures = Vec::new();
            for &rules in &args.rules {
                for &percent in &args.match_percent {
                    let spec = spec(args, rules, percent);
                    figures.push(tokio::task::spawn_blocking(move || matcher(&spec, span)).await??);
                }
            }
            Ok(figures)
        }
    }
}

fn spec(args: &BenchArgs, rules: u32, match_percent: f64) -> Synthetic {
    Synthetic { rules, match_percent, size: args.size, seed: args.seed }
}

/// Time, CPU and what they were spent on.
struct Watch {
    begun: Instant,
    cpu: f64,
}

impl Watch {
    fn start() -> anyhow::Result<Self> {
        Ok(Self { begun: Instant::now(), cpu: cpu_seconds(std::process::id())? })
    }

    fn figures(&self, stage: Stage, events: u64) -> anyhow::Result<StageFigures> {
        let cpu = cpu_seconds(std::process::id())? - self.cpu;
        Ok(StageFigures {
            stage,
            rules: None,
            matched_percent: None,
            events,
            per_second: events as f64 / self.begun.elapsed().as_secs_f64().max(1e-6),
            cpu_seconds_per_million: cpu * 1e6 / events.max(1) as f64,
            disk_bytes_per_event: None,
            prepared_in_ms: 0.0,
            errors: Vec::new(),
        })
    }
}

/// Appends with sync while the records are leased and acked; over when all are.
async fn queue(args: &BenchArgs, parent: &Path, span: Duration) -> anyhow::Result<StageFigures> {
    let folder = Folder::new(parent)?;
    let path = folder.data();
    let opened = tokio::task::spawn_blocking(move || SledBackend::open_log(&path, "bench", &QueueOptions::default()));
    let queue: Queue<Event> = Queue::of_batches("bench", Arc::new(opened.await?.context("cannot open a queue")?));
    let mut source = EventSource::new(&spec(args, 10, 10.0))?;
    let records: Arc<Vec<Vec<Event>>> = Arc::new((0..RECORDS).map(|_| source.next(RECORD_EVENTS)).collect());
    let watch = Watch::start()?;
    let end = Instant::now() + span;
    let producers = (0..APPENDS).map(|first| {
        let (queue, records) = (queue.clone(), Arc::clone(&records));
        tokio::spawn(async move {
            let mut appended = 0;
            for at in (first..).step_by(APPENDS) {
                if Instant::now() >= end {
                    break;
                }
                let record = &records[at % RECORDS];
                queue.append(record).await?;
                appended += record.len() as u64;
            }
            Ok::<u64, crate::queue::QueueError>(appended)
        })
    });
    let producers: Vec<_> = producers.collect();
    let acked = consume(&queue, end).await?;
    let mut appended = 0;
    for producer in producers {
        appended += producer.await?.context("the queue did not take a record")?;
    }
    let mut figures = watch.figures(Stage::Queue, acked)?;
    if acked != appended {
        figures.errors.push(format!("{appended} events were appended and {acked} came out"));
    }
    figures.disk_bytes_per_event = Some(disk_bytes(&folder.data()) as f64 / acked.max(1) as f64);
    queue.close().await.context("cannot close the queue")?;
    Ok(figures)
}

async fn consume(queue: &Queue<Event>, end: Instant) -> anyhow::Result<u64> {
    let mut acked = 0;
    loop {
        let leased = queue.lease(LEASED, LEASE_WAIT).await.context("the queue gave nothing out")?;
        if leased.is_empty() && Instant::now() >= end && queue.depth().items == 0 {
            return Ok(acked);
        }
        let mut seqs: Vec<Seq> = Vec::with_capacity(leased.len());
        for record in leased {
            let items = record.items.map_err(|_| anyhow::anyhow!("a record came out damaged"))?;
            acked += items.len() as u64;
            seqs.push(record.seq);
        }
        queue.ack(&seqs).await.context("the queue did not take an ack")?;
    }
}

/// Compares on one core; two cores do twice as many.
fn matcher(spec: &Synthetic, span: Duration) -> anyhow::Result<StageFigures> {
    let rules = (0..spec.rules).map(|number| {
        let draft = synthetic::draft(number)?;
        Ok(Rule { id: RuleId(i64::from(number) + 1), draft })
    });
    let rules = rules.collect::<anyhow::Result<Vec<Rule>>>()?;
    let compiling = Instant::now();
    let (set, problems) = RuleSet::compile(&rules);
    let compiled_in = compiling.elapsed();
    ensure!(problems.is_empty(), "a rule cannot be compiled: {}", problems[0].why);
    let events = EventSource::new(spec)?.next(RECORD_EVENTS * RECORDS);
    let watch = Watch::start()?;
    let (mut judged, mut matched) = (0, 0);
    let mut scratch = Scratch::default();
    while watch.begun.elapsed() < span {
        matched += events.iter().filter(|event| set.judge(event, &mut scratch).is_some()).count() as u64;
        judged += events.len() as u64;
    }
    let mut figures = watch.figures(Stage::Matcher, judged)?;
    figures.rules = Some(spec.rules);
    figures.matched_percent = Some(100.0 * matched as f64 / judged.max(1) as f64);
    figures.prepared_in_ms = compiled_in.as_secs_f64() * 1_000.0;
    Ok(figures)
}

/// Records rows as the alerter does, each batch durable before the next.
async fn audit(args: &BenchArgs, parent: &Path, span: Duration) -> anyhow::Result<StageFigures> {
    let folder = Folder::new(parent)?;
    let path = folder.data().join("audit");
    let opened = tokio::task::spawn_blocking(move || AuditDb::open(&path, Clock::system()));
    let audit = opened.await?.context("cannot open an audit")?;
    let mut source = EventSource::new(&spec(args, 1_000, 100.0))?;
    let decision = Decision {
        environment: Environment::Prod,
        matched: Some(Matched { rule: RuleId(1), handling: Handling::new("Ignore")?, team: Team::new("BENCH")? }),
    };
    let events = source.next(ROWS * RECORDS);
    let empty = disk_bytes(&folder.data());
    let watch = Watch::start()?;
    let mut rows = 0;
    for batch in events.chunks(ROWS).cycle() {
        if watch.begun.elapsed() >= span {
            break;
        }
        let judged = batch
            .iter()
            .map(|event| Judged { event: Event { id: source.next_id(), ..event.clone() }, decision: decision.clone() });
        audit.record(judged.collect()).await.context("the audit did not take a batch")?;
        rows += batch.len() as u64;
    }
    let mut figures = watch.figures(Stage::Audit, rows)?;
    audit.close().await.context("cannot close the audit")?;
    let disk = disk_bytes(&folder.data()).saturating_sub(empty);
    figures.disk_bytes_per_event = Some(disk as f64 / rows.max(1) as f64);
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        bench: BenchArgs,
    }

    /// Measures for a second and answers what each row tells.
    async fn check(stage: Stage, line: &str, rows: usize) -> Vec<StageFigures> {
        let parent = tempfile::tempdir().expect("a folder");
        let words = format!("bench --seconds 1 {line}");
        let args = Command::try_parse_from(words.split_whitespace()).expect("valid").bench;
        let figures = measure(&args, parent.path(), stage).await.expect("measured");
        assert_eq!(figures.len(), rows);
        for row in &figures {
            assert!(row.events > 0 && row.per_second > 0.0 && row.errors.is_empty(), "{row:?}");
        }
        assert_eq!(std::fs::read_dir(parent.path()).expect("there").count(), 0, "files stayed behind");
        figures
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn queue_and_audit_are_measured_and_leave_nothing() {
        check(Stage::Queue, "", 1).await;
        check(Stage::Audit, "", 1).await;
    }

    #[tokio::test]
    async fn the_matcher_hits_the_share_that_was_asked_for() {
        let figures = check(Stage::Matcher, "--rules 10 --match-percent 0,50", 2).await;
        let matched: Vec<f64> = figures.iter().filter_map(|row| row.matched_percent).collect();
        assert_eq!(matched[0], 0.0);
        assert!((45.0..55.0).contains(&matched[1]), "{matched:?}");
    }
}
