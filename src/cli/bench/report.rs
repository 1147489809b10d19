//! What was measured, as tables for people and as JSON for machines.

use serde::Serialize;

use super::archive::{ArchiveFigures, Work};
use super::args::Input;
use super::backlog::BacklogFigures;
use super::flood::FloodFigures;
use super::ledger::Findings;
use super::lists::{ListFigures, ListsFigures};
use super::stages::StageFigures;
use super::table::Table;
use crate::cli::send::{LatencySummary, grouped};

/// Everything of one call of `muttd bench`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// The program's version.
    pub version: &'static str,
    /// The processor.
    pub processor: String,
    /// Cores that sender and server share.
    pub cores: usize,
    /// File system of the server's folder.
    pub file_system: String,
    /// Seconds of load per measurement.
    pub seconds: u32,
    /// Bytes of a line.
    pub line_bytes: usize,
    /// One entry for each input, number of rules and share of matching lines.
    pub measurements: Vec<Measurement>,
    /// Single stages.
    pub stages: Vec<StageFigures>,
    /// Pages during a flood of datagrams.
    pub flood: Option<FloodFigures>,
    /// A start with events waiting.
    pub backlog: Option<BacklogFigures>,
    /// Lists over a large audit.
    pub lists: Option<ListsFigures>,
    /// Archiving.
    pub archive: Option<ArchiveFigures>,
}

/// One input with one number of rules and one share of matching lines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The way in.
    pub input: Input,
    /// Active rules.
    pub rules: u32,
    /// Messages sent.
    pub sent: u64,
    /// Messages sent a second.
    pub sent_per_second: f64,
    /// Messages that the server refused or did not answer.
    pub refused: u64,
    /// Events that were made durable, judged and audited.
    pub processed: u64,
    /// The same a second, from the first message sent to the last one judged.
    pub processed_per_second: f64,
    /// Messages sent and not refused, but never judged, or hit by a rule and without a row in the audit.
    pub lost: u64,
    /// Events judged beyond those sent, and rows of the audit that should not be there.
    pub doubled: u64,
    /// The audit compared with what was sent, by sequence number.
    pub audit: Option<Findings>,
    /// Datagrams that the kernel dropped before the server could read them.
    pub kernel_drops: u64,
    /// How long the server worked on after the last message was sent.
    pub drain_seconds: f64,
    /// CPU seconds of the server for a million events.
    pub cpu_seconds_per_million: f64,
    /// CPU seconds of the sender for a million messages: what it takes from the server's share of the machine.
    pub generator_cpu_seconds_per_million: f64,
    /// Most memory the server had, in MB.
    pub peak_mb: f64,
    /// Disk that the load left used, per event.
    pub disk_bytes_per_event: f64,
    /// Share of the events that a rule hit: shows that the rules were at work.
    pub matched_percent: f64,
    /// Time from request to answer, where there are answers.
    pub latency: Option<LatencySummary>,
    /// What went wrong while sending.
    pub errors: Vec<String>,
    /// From the start of the process until it was ready.
    pub started_in_ms: f64,
    /// Memory when ready, before any rule.
    pub idle_mb: f64,
    /// Alerts that the receiver took.
    pub alerts_delivered: u64,
}

impl Measurement {
    /// Share of the messages that was lost.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.sent.max(1) as f64
    }

    /// Whether every message that was not refused was judged once and sending went without fault.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.refused == 0 && self.errors.is_empty() && self.processed > 0
    }

    fn row(&self) -> [String; 12] {
        let latency = self.latency.map_or_else(|| "-".to_owned(), |l| format!("{:.1} / {:.1}", l.p50_ms, l.p99_ms));
        [
            self.input.name().to_owned(),
            grouped(u64::from(self.rules)),
            format!("{:.1}", self.matched_percent),
            grouped(self.sent_per_second as u64),
            grouped(self.processed_per_second as u64),
            grouped(self.lost + self.refused),
            grouped(self.doubled),
            format!("{:.2}", self.cpu_seconds_per_million),
            format!("{:.2}", self.generator_cpu_seconds_per_million),
            format!("{:.0}", self.peak_mb),
            format!("{:.0}", self.disk_bytes_per_event),
            latency,
        ]
    }
}

/// Columns of the table of inputs.
const INPUT_HEADINGS: [&str; 12] = [
    "input",
    "rules",
    "matched %",
    "sent/s",
    "processed/s",
    "lost",
    "doubled",
    "CPU s/million",
    "sender's",
    "peak MB",
    "disk B/event",
    "p50 / p99 ms",
];

/// Columns of the table of stages.
const STAGE_HEADINGS: [&str; 7] =
    ["stage", "rules", "matched %", "events/s", "CPU s/million", "disk B/event", "prepared in ms"];

fn stage_row(figures: &StageFigures) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        figures.stage.name().to_owned(),
        or_dash(figures.rules.map(|rules| grouped(u64::from(rules)))),
        or_dash(figures.matched_percent.map(|percent| format!("{percent:.1}"))),
        grouped(figures.per_second as u64),
        format!("{:.2}", figures.cpu_seconds_per_million),
        or_dash(figures.disk_bytes_per_event.map(|bytes| format!("{bytes:.0}"))),
        format!("{:.0}", figures.prepared_in_ms),
    ]
}

impl BenchReport {
    /// Whether nothing was lost or doubled anywhere.
    pub fn is_clean(&self) -> bool {
        self.measurements.iter().all(Measurement::is_clean)
            && self.stages.iter().all(|figures| figures.errors.is_empty())
            && self.flood.as_ref().is_none_or(FloodFigures::is_clean)
            && self.backlog.as_ref().is_none_or(|figures| figures.lost == 0)
            && self.lists.as_ref().is_none_or(ListsFigures::is_clean)
            && self.archive.as_ref().is_none_or(ArchiveFigures::is_clean)
    }

    /// The lines above the tables.
    pub fn heading(&self) -> String {
        let memory_note = if matches!(self.file_system.as_str(), "tmpfs" | "ramfs") {
            "\nThis file system lives in memory, where syncs cost nothing: choose a folder on a disk with --dir."
        } else {
            ""
        };
        format!(
            "muttd {} on {} ({} cores, shared by sender and server), {}; {} s of load, lines of {} bytes{memory_note}",
            self.version, self.processor, self.cores, self.file_system, self.seconds, self.line_bytes
        )
    }

    /// Heading, tables, and what went wrong.
    pub fn text(&self) -> String {
        let mut inputs = Table::new(INPUT_HEADINGS);
        self.measurements.iter().for_each(|measurement| inputs.push(measurement.row()));
        let mut stages = Table::new(STAGE_HEADINGS);
        self.stages.iter().for_each(|figures| stages.push(stage_row(figures)));
        let mut text = format!("{}\n{}{}", self.heading(), inputs.text(), stages.text());
        if let Some(first) = self.measurements.first() {
            text.push_str(&format!("\nready after {:.0} ms, {:.0} MB when idle\n", first.started_in_ms, first.idle_mb));
        }
        if let Some(flood) = &self.flood {
            text.push_str(&flood_text(flood));
        }
        if let Some(backlog) = &self.backlog {
            text.push_str(&backlog_text(backlog));
        }
        if let Some(lists) = &self.lists {
            text.push_str(&lists_text(lists));
        }
        if let Some(archive) = &self.archive {
            text.push_str(&archive_text(archive));
        }
        for measurement in &self.measurements {
            for error in &measurement.errors {
                text.push_str(&format!("{} with {} rules: {error}\n", measurement.input.name(), measurement.rules));
            }
        }
        for figures in &self.stages {
            for error in &figures.errors {
                text.push_str(&format!("stage {}: {error}\n", figures.stage.name()));
            }
        }
        text
    }
}

fn flood_text(flood: &FloodFigures) -> String {
    let times = flood.page_times.map_or_else(
        || "none came".to_owned(),
        |times| format!("p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", times.p50_ms, times.p99_ms, times.max_ms),
    );
    format!(
        "\nflood with {} rules: {} datagrams at {} a second\n\
         \x20 taken {}, dropped by muttd {}, dropped by the kernel {}, unaccounted {}\n\
         \x20 judged {} a second; {} pages, {} failed, {times}; peak {:.0} MB\n",
        flood.rules,
        grouped(flood.sent),
        grouped(flood.sent_per_second as u64),
        grouped(flood.taken),
        grouped(flood.dropped),
        grouped(flood.kernel_drops),
        grouped(flood.unaccounted),
        grouped(flood.processed_per_second as u64),
        flood.pages,
        flood.page_failures,
        flood.peak_mb,
    )
}

fn backlog_text(backlog: &BacklogFigures) -> String {
    format!(
        "\nstart with {} events waiting, {} rules: ready after {:.0} ms with at most {:.0} MB\n\
         \x20 drained at {} events a second, {:.2} CPU s per million, at most {:.0} MB, {} lost\n\
         \x20 queue on disk {:.1} MB before, {:.1} MB after; then idle with {:.0} MB and {:.2} % of a core\n",
        grouped(backlog.events),
        grouped(u64::from(backlog.rules)),
        backlog.started_in_ms,
        backlog.start_peak_mb,
        grouped(backlog.drained_per_second as u64),
        backlog.cpu_seconds_per_million,
        backlog.peak_mb,
        grouped(backlog.lost),
        backlog.queue_bytes_before as f64 / 1e6,
        backlog.queue_bytes_after as f64 / 1e6,
        backlog.idle_mb,
        backlog.idle_cpu_percent,
    )
}

/// Columns of the table of lists.
const LIST_HEADINGS: [&str; 5] = ["list", "bytes", "idle p50 / p99 / max ms", "loaded p50 / p99 / max ms", "failed"];

fn list_row(list: &ListFigures) -> [String; 5] {
    let times = |times: &LatencySummary| format!("{:.1} / {:.1} / {:.1}", times.p50_ms, times.p99_ms, times.max_ms);
    [list.what.clone(), grouped(list.bytes as u64), times(&list.idle), times(&list.loaded), grouped(list.failures)]
}

fn lists_text(lists: &ListsFigures) -> String {
    let mut table = Table::new(LIST_HEADINGS);
    lists.lists.iter().for_each(|list| table.push(list_row(list)));
    format!(
        "\nlists over {} rows in {} partitions, {:.0} bytes a row, filled at {} rows a second\n\
         \x20 ready after {:.0} ms; at most {:.0} MB\n{}",
        grouped(lists.rows),
        lists.partitions,
        lists.bytes_per_row,
        grouped(lists.filled_per_second as u64),
        lists.started_in_ms,
        lists.peak_mb,
        table.text(),
    )
}

fn archive_text(archive: &ArchiveFigures) -> String {
    let mut table = Table::new(["archived", "rows", "rows/s", "CPU s/million", "peak MB"]);
    let mut row = |what: &str, work: &Work| {
        table.push([
            what.to_owned(),
            grouped(work.rows),
            grouped(work.per_second as u64),
            work.cpu_seconds_per_million.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}")),
            format!("{:.0}", work.peak_mb),
        ]);
    };
    row("appliance stopped", &archive.stopped);
    row("files verified, appliance idle", &archive.verified);
    row("while events come in", &archive.loaded);
    format!(
        "\narchive of {} rows: {:.0} bytes a row in the audit, {:.1} in the archive (factor {:.1}), {} files\n\
         \x20 {} bytes of the audit were left; while events came in, {} a second were taken, {} judged, {} dropped\n{}",
        grouped(archive.stopped.rows),
        archive.audit_bytes_per_row,
        archive.archive_bytes_per_row,
        archive.audit_bytes_per_row / archive.archive_bytes_per_row.max(1e-6),
        archive.files,
        grouped(archive.audit_bytes_left),
        grouped(archive.load_received_per_second as u64),
        grouped(archive.load_judged_per_second as u64),
        grouped(archive.load_dropped),
        table.text(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::args::Stage;
    use super::*;

    fn measurement(lost: u64, doubled: u64) -> Measurement {
        Measurement {
            input: Input::HttpBatch,
            rules: 10_000,
            sent: 2_000_000,
            sent_per_second: 200_000.9,
            refused: 0,
            processed: 2_000_000 - lost,
            processed_per_second: 190_000.0,
            lost,
            doubled,
            audit: Some(Findings { expected: 200_000, rows: 200_000, ..Findings::default() }),
            kernel_drops: 0,
            drain_seconds: 0.5,
            cpu_seconds_per_million: 4.25,
            generator_cpu_seconds_per_million: 0.31,
            peak_mb: 123.4,
            disk_bytes_per_event: 98.7,
            matched_percent: 10.0,
            latency: Some(LatencySummary { min_ms: 0.5, p50_ms: 1.5, p99_ms: 9.0, max_ms: 20.0 }),
            errors: Vec::new(),
            started_in_ms: 80.0,
            idle_mb: 20.0,
            alerts_delivered: 1,
        }
    }

    fn report(lost: u64, doubled: u64) -> BenchReport {
        BenchReport {
            version: "1",
            processor: "cpu".into(),
            cores: 2,
            file_system: "tmpfs".into(),
            seconds: 10,
            line_bytes: 202,
            measurements: vec![measurement(lost, doubled)],
            stages: vec![StageFigures {
                stage: Stage::Matcher,
                rules: Some(1_000),
                matched_percent: Some(10.0),
                events: 5,
                per_second: 1_234_567.0,
                cpu_seconds_per_million: 0.81,
                disk_bytes_per_event: None,
                prepared_in_ms: 12.0,
                errors: Vec::new(),
            }],
            flood: None,
            backlog: None,
            lists: None,
            archive: None,
        }
    }

    fn cells<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
        let row = text.lines().find(|line| line.trim_start().starts_with(first)).expect("a row");
        row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn the_tables_have_a_row_for_each_measurement_and_stage() {
        let text = report(0, 0).text();
        let expected =
            ["http-batch", "10,000", "10.0", "200,000", "190,000", "0", "0", "4.25", "0.31", "123", "99", "1.5 / 9.0"];
        assert_eq!(cells(&text, "http-batch"), expected);
        assert_eq!(cells(&text, "matcher"), ["matcher", "1,000", "10.0", "1,234,567", "0.81", "-", "12"]);
        assert!(text.contains("lives in memory"), "{text}");
    }

    #[test]
    fn what_is_lost_or_doubled_is_not_clean() {
        assert!(report(0, 0).is_clean());
        assert!(!report(1, 0).is_clean());
        assert!(!report(0, 1).is_clean());
        assert_eq!(report(20_000, 0).measurements[0].loss(), 0.01);
    }

    #[test]
    fn the_report_is_json_under_stable_names() {
        let json = serde_json::to_value(report(0, 0)).expect("JSON");
        assert_eq!(json["measurements"][0]["input"], "http-batch");
        assert_eq!(json["measurements"][0]["latency"]["p99_ms"], 9.0);
        assert_eq!(json["measurements"][0]["audit"]["expected"], 200_000);
        assert_eq!(json["stages"][0]["stage"], "matcher");
    }
}
