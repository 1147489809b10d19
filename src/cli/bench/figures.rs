//! Reads a server's figures from outside: its counters from the Prometheus text, CPU time and memory from `/proc`,
//! disk use from its folder.
//!
//! It only reads. A figure that is missing counts as zero for counters, as an error for `/proc`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

use crate::telemetry::metrics::{
    ALERTER_PROCESSED, EVENTS_COMMITTED, EVENTS_DROPPED, EVENTS_RECEIVED, KERNEL_DROPS, QUEUE_DEPTH, RULES_ACTIVE,
};

/// Clock ticks a second in `/proc/<pid>/stat`: USER_HZ, which is 100 on every Linux that Rust's std supports.
const TICKS_PER_SECOND: f64 = 100.0;
/// Unit of `st_blocks`, whatever the file system's block size (POSIX leaves it open, Linux has always used 512).
const BLOCK_BYTES: u64 = 512;

/// The server's counters at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Events that reached the process.
    pub received: u64,
    /// Events on stable storage.
    pub committed: u64,
    /// Events not taken.
    pub dropped: u64,
    /// Datagrams the kernel dropped.
    pub kernel_drops: u64,
    /// Events judged, by outcome.
    pub processed: BTreeMap<String, u64>,
    /// Items waiting in each queue.
    pub queues: BTreeMap<String, u64>,
    /// Rules in force.
    pub rules: u64,
}

impl Counters {
    /// Reads the Prometheus text format.
    pub fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels, value)) = sample(line) else { continue };
            match name {
                EVENTS_RECEIVED => counters.received += value,
                EVENTS_COMMITTED => counters.committed += value,
                EVENTS_DROPPED => counters.dropped += value,
                KERNEL_DROPS => counters.kernel_drops += value,
                RULES_ACTIVE => counters.rules += value,
                ALERTER_PROCESSED => *counters.processed.entry(label(labels, "status")).or_default() += value,
                QUEUE_DEPTH => *counters.queues.entry(label(labels, "queue")).or_default() += value,
                _ => {}
            }
        }
        counters
    }

    /// Events judged, whatever the outcome.
    pub fn processed_total(&self) -> u64 {
        self.processed.values().sum()
    }

    /// Events that a rule hit.
    pub fn matched(&self) -> u64 {
        ["forwarded", "ignored"].iter().filter_map(|status| self.processed.get(*status)).sum()
    }
}

/// Splits `name{labels} value`; counters and depths are whole numbers, however they are written.
fn sample(line: &str) -> Option<(&str, &str, u64)> {
    let (series, value) = line.trim_end().rsplit_once(' ')?;
    let value = value.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    Some((name, labels, value as u64))
}

/// A label's value; none of those read here holds a quote or a comma.
fn label(labels: &str, name: &str) -> String {
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let value = pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim_matches('"'));
    value.unwrap_or_default().to_owned()
}

/// User and system time of a process in seconds.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    cpu_of_stat(&text).with_context(|| format!("`{path}` has an unknown form"))
}

/// Fields 14 and 15 of proc(5)'s stat; the command in field 2 may hold blanks and brackets.
fn cpu_of_stat(text: &str) -> Option<f64> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// A process's memory in bytes: resident now (`VmRSS`) and at most so far (`VmHWM`).
pub fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let read = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok())
    };
    let both = read("VmRSS").zip(read("VmHWM")).with_context(|| format!("`{path}` names no memory"))?;
    Ok((both.0 * 1_024, both.1 * 1_024))
}

/// Bytes that a folder takes on its disk. Files that vanish while it is read count as nothing.
pub fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    });
    sizes.sum()
}

/// The type of the file system that holds `folder`, from the longest mount point that is a prefix of it.
pub fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    file_system_of(&mounts, &folder)
}

fn file_system_of(mounts: &str, folder: &Path) -> String {
    let lines = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // The last of several mounts on one point is the one in sight.
    let best = lines.filter(|(point, _)| folder.starts_with(point)).max_by_key(|(point, _)| point.len());
    best.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// The processor's name and the number of cores that may be used.
pub fn processor() -> (String, usize) {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    let name = name.map_or("unknown", |(_, name)| name.trim()).to_owned();
    (name, std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# HELP mutt_events_received_total x\n\
                    mutt_events_received_total{source=\"http\"} 3\n\
                    mutt_events_received_total{source=\"snmp_trap\"} 4\n\
                    mutt_events_committed_total 7\n\
                    mutt_alerter_events_processed_total{status=\"ignored\"} 2\n\
                    mutt_alerter_events_processed_total{status=\"unhandled\"} 5\n\
                    mutt_queue_depth{queue=\"events\"} 1e3\n\
                    mutt_events_received_total_other 9\nbroken\nmutt_rules_active NaN\n";
        let counters = Counters::parse(text);
        assert_eq!((counters.received, counters.committed, counters.dropped), (7, 7, 0));
        assert_eq!((counters.processed_total(), counters.matched(), counters.rules), (7, 2, 0));
        assert_eq!(counters.queues["events"], 1_000);
    }

    #[test]
    fn the_cpu_time_is_found_behind_any_command_name() {
        let text = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 1";
        assert_eq!(cpu_of_stat(text), Some(2.0));
        assert_eq!(cpu_of_stat("42 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_cpu_time() {
        let (now, most) = memory(std::process::id()).expect("memory");
        assert!(now > 0 && most >= now);
        assert!(cpu_seconds(std::process::id()).expect("time") >= 0.0);
    }

    #[test]
    fn the_longest_mount_point_names_the_file_system() {
        let mounts = "overlay / overlay rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/x /tmp/y ext4 rw 0 0\n";
        for (folder, kind) in [("/tmp/y/z", "ext4"), ("/tmp/yy", "tmpfs"), ("/home", "overlay")] {
            assert_eq!(file_system_of(mounts, Path::new(folder)), kind, "{folder}");
        }
        assert_eq!(file_system_of("", Path::new("/x")), "unknown");
    }

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("deep")).expect("made");
        std::fs::write(folder.path().join("deep/file"), vec![7; 100_000]).expect("written");
        let bytes = disk_bytes(folder.path());
        assert!((100_000..300_000).contains(&bytes), "{bytes}");
        assert_eq!(disk_bytes(Path::new("/nonexistent")), 0);
    }
}
