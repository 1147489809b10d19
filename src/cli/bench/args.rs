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
    /// 500 JSON events a request.
    HttpBatch,
    /// SNMP v2c traps, at the highest rate of a few that loses nothing.
    Snmp,
}

impl Input {
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
            Self::Http => 128,
            Self::HttpBatch => 8,
        }
    }

    /// Events in one request.
    pub const fn batch(self) -> u32 {
        match self {
            Self::HttpBatch => 500,
            _ => 1,
        }
    }
}

/// Measures this build on this machine: events per second that are durable, judged and audited, CPU, memory, disk.
///
/// Each combination of inputs and rules runs against a fresh server. Exit status: 0 nothing was lost, 1 something was
/// lost or could not be measured, 2 wrong arguments.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Inputs to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "syslog-tcp,syslog-udp,http,http-batch,snmp"
    )]
    pub inputs: Vec<Input>,
    /// Numbers of rules to measure with.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "10,1000,10000")]
    pub rules: Vec<u32>,
    /// Seconds of load per measurement.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// Share of the lines that a rule hits, in percent.
    #[arg(long, default_value_t = 10.0)]
    pub match_percent: f64,
    /// Length of a line in bytes.
    #[arg(long, default_value_t = 202)]
    pub size: usize,
    /// First rate to try over syslog UDP, messages a second; lower ones follow while messages are lost.
    #[arg(long, default_value_t = 300_000)]
    pub udp_rate: u32,
    /// First rate to try with SNMP traps.
    #[arg(long, default_value_t = 60_000)]
    pub snmp_rate: u32,
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
        ensure!(!self.inputs.is_empty() && !self.rules.is_empty(), "--inputs and --rules must name at least one each");
        ensure!((1..=600).contains(&self.seconds), "--seconds must be between 1 and 600");
        ensure!((0.0..=100.0).contains(&self.match_percent), "--match-percent must be between 0 and 100");
        ensure!((100..=60_000).contains(&self.size), "--size must be between 100 and 60000 bytes");
        ensure!(self.rules.iter().all(|rules| *rules < MAX_RULES), "--rules must be below {MAX_RULES}");
        ensure!(self.udp_rate > 0 && self.snmp_rate > 0, "--udp-rate and --snmp-rate must be above 0");
        ensure!(self.connections.is_none_or(|n| (1..=256).contains(&n)), "--connections must be between 1 and 256");
        Ok(())
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
        let args = args("--inputs http,snmp --rules 1,2,3").expect("valid");
        assert_eq!((args.inputs, args.rules), (vec![Input::Http, Input::Snmp], vec![1, 2, 3]));
    }

    #[test]
    fn all_inputs_are_measured_by_default() {
        let args = args("").expect("valid");
        let names: Vec<_> = args.inputs.iter().map(|input| input.name()).collect();
        assert_eq!(names, ["syslog-tcp", "syslog-udp", "http", "http-batch", "snmp"]);
        assert_eq!(args.rates(Input::SyslogUdp)[..2], [Some(300_000.0), Some(240_000.0)]);
        assert_eq!(args.rates(Input::Http), [None]);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for line in ["--inputs fax", "--rules x", "--rules 50000", "--seconds 0", "--size 5", "--connections 0"] {
            assert!(args(line).is_err(), "{line}");
        }
    }
}
