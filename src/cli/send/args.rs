//! The arguments of `muttd send`, and how they become a checked plan.
//!
//! A file is read whole before the first message goes out, so that reading never disturbs the rate; its size is bounded.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};

use super::feed::{Marker, Origin, Shape};
use super::http::Endpoint;
use super::post::{Encoding, PostOptions};
use super::run::{Plan, Transport};
use super::snmp::{Notification, SnmpVersion, Wrapping};
use super::socket::Framing;
use super::synthetic::{MAX_RULES, Synthetic};
use crate::cli::trust::TrustArgs;
use crate::net::tls::Connector;

/// The largest file that is replayed: it is held in memory, shaped lines on top.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Messages of a generated run that names no number.
const DEFAULT_COUNT: u64 = 1_000;
/// Connections are threads or tasks of their own; more would only measure their scheduling.
const MAX_CONNECTIONS: u32 = 256;
/// Digits of a marker's running number, more if the run is longer.
const MARKER_DIGITS: usize = 6;

/// The way messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Syslog, one datagram a message.
    SyslogUdp,
    /// Syslog over TCP, ended by line feeds or octet counted.
    SyslogTcp,
    /// The same inside TLS (RFC 5425), octet counted.
    SyslogTls,
    /// SNMP traps or informs.
    Snmp,
    /// JSON events over HTTP.
    Http,
}

/// Messages made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// A mixture of what imaginary devices say.
    Samples,
    /// Lines for measuring, of which a known share matches the rules that `muttd bench` makes.
    Bench,
}

/// Sends messages over syslog, SNMP or HTTP at a steady rate and counts what came back.
///
/// Exit status: 0 everything was sent and accepted, 1 something was refused or unanswered, 2 wrong arguments.
#[derive(Debug, Clone, Args)]
// `--version` is the SNMP version here; the program's own is told by `muttd --version`.
#[command(disable_version_flag = true)]
pub struct SendArgs {
    /// How messages travel.
    #[arg(value_enum)]
    pub protocol: Protocol,
    /// Receiver as host:port, for http also http://host:port/path or https://host:port/path. Default: this machine, the unprivileged ports.
    #[arg(long, value_name = "ADDR")]
    pub to: Option<String>,
    /// Send the lines of this file, one message a line (`-` is standard input): syslog lines as they are; for http
    /// JSON objects as they are and other text as an event's message; for snmp JSON objects with trap_oid and
    /// varbinds[] {oid, type, value}, as events show them.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub file: Option<PathBuf>,
    /// Make messages up.
    #[arg(long, value_enum, default_value = "samples")]
    pub generate: Generate,
    /// Messages to send. Default: all lines of the file once, or 1000 generated ones.
    #[arg(long)]
    pub count: Option<u64>,
    /// Send for so many seconds instead of a number of messages.
    #[arg(long, conflicts_with = "count")]
    pub seconds: Option<f64>,
    /// Messages a second over all connections. Default: as fast as it goes.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1)]
    pub connections: u32,
    /// Length of a bench line in bytes.
    #[arg(long, default_value_t = 202)]
    pub size: usize,
    /// Share of the bench lines that a rule hits, in percent.
    #[arg(long, default_value_t = 10.0)]
    pub match_percent: f64,
    /// Rules that the bench lines are made for.
    #[arg(long, default_value_t = 1_000)]
    pub rules: u32,
    /// Frame syslog over TCP by octet counts (RFC 6587) instead of line feeds.
    #[arg(long)]
    pub octet_counted: bool,
    /// Key for the ingest API.
    #[arg(long, env = "MUTTD_INGEST_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Events in one HTTP request.
    #[arg(long, default_value_t = 1)]
    pub batch: u32,
    /// Compress HTTP bodies.
    #[arg(long)]
    pub gzip: bool,
    /// SNMP community.
    #[arg(long, default_value = "public")]
    pub community: String,
    /// SNMP version.
    #[arg(long, value_enum, default_value = "2c", value_name = "VERSION")]
    pub version: SnmpVersion,
    /// Send informs and wait for each answer.
    #[arg(long)]
    pub inform: bool,
    /// Put this text and a running number (seq=000001) into every message.
    #[arg(long, value_name = "TEXT")]
    pub marker: Option<String>,
    /// Seed of generated messages; one seed gives the same messages again.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 10.0)]
    pub timeout: f64,
    /// Data directory of the receiving appliance, whose own certificate is then known.
    #[arg(long, value_name = "DIR", env = "MUTTD_DATA")]
    pub data: Option<PathBuf>,
    /// Which certificate is believed.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

impl SendArgs {
    /// Checks everything that can be checked without sending.
    pub async fn plan(&self) -> anyhow::Result<Plan> {
        self.check_numbers()?;
        self.check_combinations()?;
        let origin = self.origin()?;
        let count = match (&origin, self.count, self.seconds) {
            (_, Some(count), _) => Some(count),
            (_, None, Some(_)) => None,
            (Origin::Lines(lines), None, None) => Some(lines.len() as u64),
            (_, None, None) => Some(DEFAULT_COUNT),
        };
        let marker = self
            .marker
            .clone()
            .map(|text| Marker { text, digits: count.map_or(0, |count| count.to_string().len()).max(MARKER_DIGITS) });
        Ok(Plan {
            transport: self.transport().await?,
            shape: self.shape(),
            origin,
            marker,
            connections: self.connections,
            count,
            duration: self.seconds.map(Duration::from_secs_f64),
            rate: self.rate,
        })
    }

    fn check_numbers(&self) -> anyhow::Result<()> {
        let connections = self.connections;
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&connections),
            "--connections {connections} is not between 1 and {MAX_CONNECTIONS}"
        );
        let above_zero = |number: f64| number.is_finite() && number > 0.0;
        ensure!(self.rate.is_none_or(above_zero), "--rate must be above 0");
        ensure!(
            self.seconds.is_none_or(|seconds| above_zero(seconds) && seconds <= 86_400.0),
            "--seconds must be above 0 and at most 86400"
        );
        ensure!(above_zero(self.timeout) && self.timeout <= 3_600.0, "--timeout must be above 0 and at most 3600");
        ensure!(self.count != Some(0), "--count must be at least 1");
        ensure!((0.0..=100.0).contains(&self.match_percent), "--match-percent must be between 0 and 100");
        ensure!((1..=10_000).contains(&self.batch), "--batch must be between 1 and 10000");
        ensure!((100..=60_000).contains(&self.size), "--size must be between 100 and 60000 bytes");
        ensure!(self.rules < MAX_RULES, "--rules must be below {MAX_RULES}");
        Ok(())
    }

    /// An option that would have no effect is a misunderstanding; saying so beats a surprising result.
    fn check_combinations(&self) -> anyhow::Result<()> {
        let (http, snmp) = (self.protocol == Protocol::Http, self.protocol == Protocol::Snmp);
        ensure!(!self.octet_counted || self.protocol == Protocol::SyslogTcp, "--octet-counted is for syslog-tcp only");
        ensure!(http || (!self.gzip && self.batch == 1), "--gzip and --batch are for http only");
        ensure!(snmp || !self.inform, "--inform is for snmp only");
        ensure!(!self.inform || self.version == SnmpVersion::V2c, "--inform needs --version 2c");
        Ok(())
    }

    fn origin(&self) -> anyhow::Result<Origin> {
        if let Some(path) = &self.file {
            return Ok(Origin::Lines(read_lines(path)?));
        }
        Ok(match self.generate {
            Generate::Samples => Origin::Samples { seed: self.seed },
            Generate::Bench => Origin::Synthetic(Synthetic {
                rules: self.rules,
                match_percent: self.match_percent,
                size: self.size,
                seed: self.seed,
            }),
        })
    }

    fn shape(&self) -> Shape {
        match self.protocol {
            Protocol::SyslogUdp | Protocol::SyslogTcp | Protocol::SyslogTls => Shape::Syslog,
            Protocol::Http => Shape::Json,
            Protocol::Snmp => Shape::Trap(Wrapping {
                version: self.version,
                notification: if self.inform { Notification::Inform } else { Notification::Trap },
                community: self.community.clone(),
            }),
        }
    }

    async fn transport(&self) -> anyhow::Result<Transport> {
        let timeout = Duration::from_secs_f64(self.timeout);
        let to = |default: &str| self.to.clone().unwrap_or_else(|| default.to_owned());
        Ok(match self.protocol {
            Protocol::SyslogUdp => Transport::Udp(resolve(&to("127.0.0.1:5514")).await?),
            Protocol::SyslogTcp => {
                let framing = if self.octet_counted { Framing::OctetCounted } else { Framing::LineFeed };
                Transport::Tcp(resolve(&to("127.0.0.1:5514")).await?, framing)
            }
            Protocol::SyslogTls => {
                let to = to("127.0.0.1:6514");
                let host = to.rsplit_once(':').map_or(to.as_str(), |(host, _)| host).to_owned();
                Transport::Tls(resolve(&to).await?, host, self.trust.connector(self.data.as_deref())?)
            }
            Protocol::Snmp if self.inform => Transport::Inform(resolve(&to("127.0.0.1:1162")).await?, timeout),
            Protocol::Snmp => Transport::Udp(resolve(&to("127.0.0.1:1162")).await?),
            Protocol::Http => {
                let (endpoint, tls) = self.post_to(&to("127.0.0.1:8080"))?;
                Transport::Http(PostOptions {
                    endpoint,
                    api_key: self.api_key.as_deref().map(Arc::from),
                    batch: self.batch,
                    encoding: if self.gzip { Encoding::Gzip } else { Encoding::Plain },
                    tls,
                    timeout,
                })
            }
        })
    }

    /// Where events are posted, and how to come into TLS if the address begins with https.
    fn post_to(&self, receiver: &str) -> anyhow::Result<(Endpoint, Option<Connector>)> {
        const PATH: &str = "/api/v2/ingest";
        match receiver.strip_prefix("https://") {
            None => Ok((Endpoint::parse(receiver, PATH)?, None)),
            Some(rest) => {
                Ok((Endpoint::with_port(rest, PATH, 443)?, Some(self.trust.connector(self.data.as_deref())?)))
            }
        }
    }
}

async fn resolve(text: &str) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host(text).await;
    let mut addresses = found.with_context(|| format!("--to `{text}` cannot be used, give host:port"))?;
    addresses.next().with_context(|| format!("--to `{text}` has no address"))
}

/// The lines of a file that are not blank.
fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut bytes = Vec::new();
    let mut limited: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock().take(MAX_FILE_BYTES + 1))
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        Box::new(file.take(MAX_FILE_BYTES + 1))
    };
    limited.read_to_end(&mut bytes).with_context(|| format!("cannot read `{}`", path.display()))?;
    let too_long = bytes.len() as u64 > MAX_FILE_BYTES;
    ensure!(!too_long, "`{}` is longer than {MAX_FILE_BYTES} bytes, split it", path.display());
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    ensure!(!lines.is_empty(), "`{}` holds no messages", path.display());
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        send: SendArgs,
    }

    /// The way the program nests its commands; clap checks the whole when it is built.
    #[derive(Parser)]
    #[command(name = "program", version, propagate_version = true)]
    enum Program {
        Send(SendArgs),
    }

    #[test]
    fn the_snmp_version_does_not_clash_with_the_program_version() {
        let Program::Send(args) = Program::parse_from(["program", "send", "snmp", "--version", "1"]);
        assert_eq!(args.version, SnmpVersion::V1);
    }

    async fn plan(line: &str) -> anyhow::Result<Plan> {
        let words = std::iter::once("send").chain(line.split_whitespace());
        Command::try_parse_from(words)?.send.plan().await
    }

    #[tokio::test]
    async fn arguments_become_a_plan() {
        let plan = plan("http --to http://127.0.0.1:9/x --batch 50 --gzip --marker m --count 5000000 --rate 0.5")
            .await
            .expect("a plan");
        assert_eq!((plan.count, plan.rate, plan.connections), (Some(5_000_000), Some(0.5), 1));
        assert_eq!(plan.marker.expect("a marker").digits, 7);
        let Transport::Http(options) = plan.transport else { panic!("not http") };
        assert_eq!((options.endpoint.path.as_str(), options.batch, options.encoding), ("/x", 50, Encoding::Gzip));
    }

    #[tokio::test]
    async fn a_file_is_sent_once_unless_a_number_is_given() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "<13>one\r\n\n<13>two \u{e9}").expect("written");
        let line = format!("syslog-udp --to 127.0.0.1:9 --file {}", file.path().display());
        assert_eq!(plan(&line).await.expect("a plan").count, Some(2));
        assert_eq!(plan(&format!("{line} --count 7")).await.expect("a plan").count, Some(7));
        let Origin::Lines(lines) = plan(&line).await.expect("a plan").origin else { panic!("no lines") };
        assert_eq!(lines, ["<13>one", "<13>two \u{e9}"]);
    }

    #[tokio::test]
    async fn arguments_that_make_no_sense_are_refused() {
        for line in [
            "carrier-pigeon",
            "http --to ftp://127.0.0.1",
            "http --octet-counted",
            "syslog-udp --gzip",
            "syslog-udp --batch 5",
            "syslog-tcp --inform",
            "snmp --inform --version 1",
            "snmp --version 3",
            "snmp --to 127.0.0.1",
            "syslog-udp --rate 0",
            "syslog-udp --rate NaN",
            "syslog-udp --count 0",
            "syslog-udp --count 5 --seconds 5",
            "syslog-udp --connections 0",
            "syslog-udp --match-percent 101",
            "syslog-udp --file /nonexistent/file",
            "syslog-udp --file /dev/null",
        ] {
            assert!(plan(line).await.is_err(), "{line}");
        }
    }
}
