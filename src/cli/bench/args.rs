//! The arguments of `muttd bench`, and what each input sends by default.

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::send::synthetic::MAX_RULES;

/// One way into the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// Syslog over TCP, as fast as the server reads.
    SyslogTcp,
    /// Syslog over UDP, at the highest rate of a few that loses nothing.
    SyslogUdp,
    /// One JSON event a request.
    Http,
    /// Some JSON events a request (--batch).
    HttpBatch,
    /// SNMP v2c traps, at the highest rate of a few that loses nothing.
    Snmp,
}

impl Input {
    /// Every input, in the order of the table.
    const ALL: [Self; 5] = [Self::SyslogTcp, Self::SyslogUdp, Self::Http, Self::HttpBatch, Self::Snmp];

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SyslogTcp => "syslog-tcp",
            Self::SyslogUdp => "syslog-udp",
            Self::Http => "http",
            Self::HttpBatch => "http-batch",
            Self::Snmp => "snmp",
        }
    }

    /// Connections unless the command line says otherwise. Two threads saturate a stream; a request waits for a sync
    /// that serves all requests under way, so single events need many of them.
    pub const fn connections(self) -> u32 {
        match self {
            Self::SyslogTcp => 2,
            Self::SyslogUdp | Self::Snmp => 1,
            Self::Http => 64,
            Self::HttpBatch => 8,
        }
    }
}

/// One part of the way on its own, in this process, without sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The event queue: append with sync, lease, ack.
    Queue,
    /// The rules: which one matches, on one core.
    Matcher,
    /// The audit: rows of matched events, durable.
    Audit,
}

impl Stage {
    /// Every stage, in the order of an event's way.
    const ALL: [Self; 3] = [Self::Queue, Self::Matcher, Self::Audit];

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Matcher => "matcher",
            Self::Audit => "audit",
        }
    }
}

/// Measures this build on this machine: events per second that are durable, judged and audited, CPU, memory, disk.
///
/// Each combination of inputs, rules and shares of matching lines runs against a fresh server. Afterwards the server is
/// stopped and its audit is compared, by sequence number, with what was sent. Without --inputs, --stages, --flood,
/// --backlog, --lists and --archive all inputs and stages are measured; with any of them only what is named. Exit status: 0
/// nothing was lost or doubled, 1 something was or could not be measured, 2 wrong arguments.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Inputs to measure: syslog-tcp, syslog-udp, http, http-batch, snmp.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    inputs: Vec<Input>,
    /// Parts to measure on their own, without sockets: queue, matcher, audit.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    stages: Vec<Stage>,
    /// Flood the syslog UDP port and measure how long pages take meanwhile. Drops are expected and counted.
    #[arg(long)]
    pub flood: bool,
    /// Start with so many events waiting; measure the start, draining, and the space given back.
    #[arg(long, value_name = "EVENTS")]
    pub backlog: Option<u64>,
    /// Fill the audit of a stopped server with so many rows over three months; measure how long lists take over HTTP, idle
    /// and while events come in.
    #[arg(long, value_name = "ROWS")]
    pub lists: Option<u64>,
    /// Fill the audit of a stopped server with so many rows whose time in it is up; measure how fast they are archived and
    /// verified, how small they get, and the same for a fifth of them while events come in.
    #[arg(long, value_name = "ROWS")]
    pub archive: Option<u64>,
    /// Numbers of rules to measure with.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "10,1000,10000")]
    pub rules: Vec<u32>,
    /// Shares of the lines that a rule hits, in percent.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "10")]
    pub match_percent: Vec<f64>,
    /// Seconds of load per measurement.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// Seconds of load before it, not measured: files are opened, caches filled, and the server sees what its traffic
    /// is like.
    #[arg(long, default_value_t = 3)]
    pub warm_up: u32,
    /// Length of a line in bytes.
    #[arg(long, default_value_t = 202)]
    pub size: usize,
    /// Events in one request of http-batch.
    #[arg(long, default_value_t = 100)]
    pub batch: u32,
    /// First rate to try over syslog UDP, messages a second; lower ones follow while messages are lost.
    #[arg(long, default_value_t = 300_000)]
    pub udp_rate: u32,
    /// First rate to try with SNMP traps.
    #[arg(long, default_value_t = 75_000)]
    pub snmp_rate: u32,
    /// Datagrams a second of --flood, as far as the machine can send them; 0 is as many as it can.
    #[arg(long, default_value_t = 500_000)]
    pub flood_rate: u32,
    /// Connections, instead of each input's own number.
    #[arg(long)]
    pub connections: Option<u32>,
    /// Folder for the server's data; it should lie on the disk that is to be measured. Default: the temporary folder.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the report as JSON to this file, too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Seed of the lines.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl BenchArgs {
    /// Checks the numbers.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            !self.rules.is_empty() && !self.match_percent.is_empty(),
            "--rules and --match-percent must name one each"
        );
        ensure!((1..=600).contains(&self.seconds), "--seconds must be between 1 and 600");
        ensure!((1..=60).contains(&self.warm_up), "--warm-up must be between 1 and 60");
        let share = |percent: &f64| (0.0..=100.0).contains(percent);
        ensure!(self.match_percent.iter().all(share), "--match-percent must be between 0 and 100");
        ensure!((100..=60_000).contains(&self.size), "--size must be between 100 and 60000 bytes");
        ensure!((1..=10_000).contains(&self.batch), "--batch must be between 1 and 10000");
        ensure!(self.rules.iter().all(|rules| *rules < MAX_RULES), "--rules must be below {MAX_RULES}");
        ensure!(self.udp_rate > 0 && self.snmp_rate > 0, "--udp-rate and --snmp-rate must be above 0");
        ensure!(self.connections.is_none_or(|n| (1..=256).contains(&n)), "--connections must be between 1 and 256");
        let backlog = self.backlog.is_none_or(|events| (1..=100_000_000).contains(&events));
        ensure!(backlog, "--backlog must be between 1 and 100000000 events");
        let lists = self.lists.is_none_or(|rows| (1_000..=1_000_000_000).contains(&rows));
        ensure!(lists, "--lists must be between 1000 and 1000000000 rows");
        let archive = self.archive.is_none_or(|rows| (1_000..=1_000_000_000).contains(&rows));
        ensure!(archive, "--archive must be between 1000 and 1000000000 rows");
        Ok(())
    }

    /// Whether nothing in particular was asked for.
    fn wants_all(&self) -> bool {
        self.inputs.is_empty()
            && self.stages.is_empty()
            && !self.flood
            && self.backlog.is_none()
            && self.lists.is_none()
            && self.archive.is_none()
    }

    /// The inputs to measure.
    pub fn inputs(&self) -> Vec<Input> {
        if self.wants_all() { Input::ALL.to_vec() } else { self.inputs.clone() }
    }

    /// The stages to measure.
    pub fn stages(&self) -> Vec<Stage> {
        if self.wants_all() { Stage::ALL.to_vec() } else { self.stages.clone() }
    }

    /// Events in one request.
    pub fn batch_of(&self, input: Input) -> u32 {
        if input == Input::HttpBatch { self.batch } else { 1 }
    }

    /// The rates to try, highest first; one without a limit where the protocol itself slows the sender down.
    pub fn rates(&self, input: Input) -> Vec<Option<f64>> {
        // Steps of a fifth: finer ones would be finer than the noise of two runs.
        let steps = |first: u32| (0..5).map(|step| Some(f64::from(first) * 0.8_f64.powi(step))).collect();
        match input {
            Input::SyslogUdp => steps(self.udp_rate),
            Input::Snmp => steps(self.snmp_rate),
            Input::SyslogTcp | Input::Http | Input::HttpBatch => vec![None],
        }
    }
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

    fn args(line: &str) -> anyhow::Result<BenchArgs> {
        let args = Command::try_parse_from(std::iter::once("bench").chain(line.split_whitespace()))?.bench;
        args.check()?;
        Ok(args)
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let args = args("--inputs http,snmp --rules 1,2,3 --match-percent 0,10").expect("valid");
        assert_eq!((args.inputs(), args.rules), (vec![Input::Http, Input::Snmp], vec![1, 2, 3]));
        assert_eq!(args.match_percent, [0.0, 10.0]);
    }

    #[test]
    fn everything_is_measured_unless_something_is_named() {
        let names = |line: &str| {
            let args = args(line).expect("valid");
            let inputs = args.inputs().iter().map(|input| input.name()).collect::<Vec<_>>().join(" ");
            (inputs, args.stages().iter().map(|stage| stage.name()).collect::<Vec<_>>().join(" "))
        };
        let named = |inputs: &str, stages: &str| (inputs.to_owned(), stages.to_owned());
        assert_eq!(names(""), named("syslog-tcp syslog-udp http http-batch snmp", "queue matcher audit"));
        assert_eq!(names("--stages matcher"), named("", "matcher"));
        assert_eq!(names("--inputs snmp"), named("snmp", ""));
        assert_eq!(names("--flood"), named("", ""));
        assert_eq!(names("--backlog 1000"), named("", ""));
        assert_eq!(names("--lists 1000"), named("", ""));
        assert_eq!(names("--archive 1000"), named("", ""));
    }

    #[test]
    fn datagrams_are_tried_at_falling_rates() {
        let args = args("").expect("valid");
        assert_eq!(args.rates(Input::SyslogUdp)[..2], [Some(300_000.0), Some(240_000.0)]);
        assert_eq!(args.rates(Input::Http), [None]);
        assert_eq!((args.batch_of(Input::HttpBatch), args.batch_of(Input::Http)), (100, 1));
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for line in [
            "--inputs fax",
            "--stages lunch",
            "--rules x",
            "--rules 50000",
            "--seconds 0",
            "--size 5",
            "--connections 0",
            "--match-percent 101",
            "--backlog 0",
            "--lists 10",
            "--archive 10",
            "--batch 0",
        ] {
            assert!(args(line).is_err(), "{line}");
        }
    }
}
