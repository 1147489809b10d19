//! What was measured, as a table for people and as JSON for machines.

use serde::Serialize;

use super::args::Input;
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
    /// One entry for each input and number of rules.
    pub measurements: Vec<Measurement>,
}

/// One input with one number of rules.
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
    /// Messages sent and not refused, but never judged.
    pub lost: u64,
    /// Datagrams that the kernel dropped before the server could read them.
    pub kernel_drops: u64,
    /// How long the server worked on after the last message was sent.
    pub drain_seconds: f64,
    /// CPU seconds of the server for a million events.
    pub cpu_seconds_per_million: f64,
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

    /// Whether every message that was not refused was judged and sending went without fault.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.refused == 0 && self.errors.is_empty() && self.processed > 0
    }

    /// The cells of its row, in the order of [`HEADINGS`].
    fn cells(&self) -> [String; HEADINGS.len()] {
        let latency = self.latency.map_or_else(|| "-".to_owned(), |l| format!("{:.1} / {:.1}", l.p50_ms, l.p99_ms));
        [
            self.input.name().to_owned(),
            grouped(u64::from(self.rules)),
            grouped(self.sent_per_second as u64),
            grouped(self.processed_per_second as u64),
            grouped(self.lost + self.refused),
            format!("{:.2}", self.cpu_seconds_per_million),
            format!("{:.0}", self.peak_mb),
            format!("{:.0}", self.disk_bytes_per_event),
            format!("{:.1}", self.matched_percent),
            latency,
        ]
    }
}

/// Columns of the table; numbers stand to the right.
const HEADINGS: [&str; 10] = [
    "input",
    "rules",
    "sent/s",
    "processed/s",
    "lost",
    "CPU s/million",
    "peak MB",
    "disk B/event",
    "matched %",
    "p50 / p99 ms",
];

impl BenchReport {
    /// Whether nothing was lost anywhere.
    pub fn is_clean(&self) -> bool {
        self.measurements.iter().all(Measurement::is_clean)
    }

    /// The lines above the table.
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

    /// Heading, table, and what went wrong.
    pub fn text(&self) -> String {
        let rows: Vec<_> = self.measurements.iter().map(Measurement::cells).collect();
        let mut widths = HEADINGS.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        let line = |cells: &[String]| {
            let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            format!("{}\n", padded.join("  "))
        };
        let mut text = format!("{}\n\n{}", self.heading(), line(&HEADINGS.map(str::to_owned)));
        for row in &rows {
            text.push_str(&line(row));
        }
        if let Some(first) = self.measurements.first() {
            text.push_str(&format!("\nready after {:.0} ms, {:.0} MB when idle\n", first.started_in_ms, first.idle_mb));
        }
        for measurement in &self.measurements {
            for error in &measurement.errors {
                text.push_str(&format!("{} with {} rules: {error}\n", measurement.input.name(), measurement.rules));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64) -> BenchReport {
        let measurement = Measurement {
            input: Input::HttpBatch,
            rules: 10_000,
            sent: 2_000_000,
            sent_per_second: 200_000.9,
            refused: 0,
            processed: 2_000_000 - lost,
            processed_per_second: 190_000.0,
            lost,
            kernel_drops: 0,
            drain_seconds: 0.5,
            cpu_seconds_per_million: 4.25,
            peak_mb: 123.4,
            disk_bytes_per_event: 98.7,
            matched_percent: 10.0,
            latency: Some(LatencySummary { min_ms: 0.5, p50_ms: 1.5, p99_ms: 9.0, max_ms: 20.0 }),
            errors: Vec::new(),
            started_in_ms: 80.0,
            idle_mb: 20.0,
            alerts_delivered: 1,
        };
        BenchReport {
            version: "1",
            processor: "cpu".into(),
            cores: 2,
            file_system: "tmpfs".into(),
            seconds: 10,
            line_bytes: 202,
            measurements: vec![measurement],
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_measurement() {
        let text = report(0).text();
        let row = text.lines().find(|line| line.contains("http-batch")).expect("a row");
        let cells: Vec<_> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let expected = ["http-batch", "10,000", "200,000", "190,000", "0", "4.25", "123", "99", "10.0", "1.5 / 9.0"];
        assert_eq!(cells, expected);
        assert!(text.contains("lives in memory"), "{text}");
    }

    #[test]
    fn losses_are_not_clean() {
        assert!(report(0).is_clean());
        assert!(!report(1).is_clean());
        assert_eq!(report(20_000).measurements[0].loss(), 0.01);
    }

    #[test]
    fn the_report_is_json_under_stable_names() {
        let json = serde_json::to_value(report(0)).expect("JSON");
        assert_eq!(json["measurements"][0]["input"], "http-batch");
        assert_eq!(json["measurements"][0]["latency"]["p99_ms"], 9.0);
    }
}
