//! How fast events leave the audit for the archive and how small they get: with the appliance stopped, as fast as it can,
//! and while events come in, at the pace that leaves the machine to them.
//!
//! The audit of a stopped server is filled through the code that fills it in service, with rows whose time in it is up.
//! The first run is `muttd retention run` on the data directory; it counts only if its report says that every row was
//! archived, which the run itself has read back from the disk before it removed one.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{BenchArgs, Input};
use super::figures::{Counters, cpu_seconds, disk_bytes, memory};
use super::measure::{Case, load, plan};
use super::rows;
use super::server::{Server, own_program};
use crate::cli::mock_moog::{MockMoog, MockOptions};
use crate::cli::send::http::Client;
use crate::cli::send::synthetic;
use crate::clock::Clock;

/// The youngest row lies so far back: beyond the 90 days of the default.
const AGE: Duration = Duration::from_secs(92 * 86_400);
/// Days that the rows lie in.
const SPAN: Duration = Duration::from_secs(30 * 86_400);
/// Of the rows of the first run, one in so many for the run under load.
const LOADED_SHARE: u64 = 5;
/// Events a second that come in during the second run.
const RATE: f64 = 20_000.0;
/// Before that run begins: the load has settled.
const SETTLE: Duration = Duration::from_secs(3);
/// Longest load; a run that takes longer fails the measurement.
const LONGEST: Duration = Duration::from_secs(600);
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// One piece of work on many rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Work {
    /// Rows it was done to.
    pub rows: u64,
    /// Rows a second.
    pub per_second: f64,
    /// CPU seconds for a million rows, where nothing else was done by the process.
    pub cpu_seconds_per_million: Option<f64>,
    /// Most memory of the process until then, in MB.
    pub peak_mb: f64,
}

/// What archiving came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchiveFigures {
    /// By `muttd retention run` with the appliance stopped: write, read back, enter, remove.
    pub stopped: Work,
    /// Reading every file again and comparing it, by the idle appliance.
    pub verified: Work,
    /// By the appliance itself while events come in.
    pub loaded: Work,
    /// Bytes on disk of a row in the audit, its indexes included.
    pub audit_bytes_per_row: f64,
    /// The same in the archive.
    pub archive_bytes_per_row: f64,
    /// Files of the archive after the first run.
    pub files: u64,
    /// Bytes on disk of the audit after the first run.
    pub audit_bytes_left: u64,
    /// Events a second that came in meanwhile.
    pub load_received_per_second: f64,
    /// Events a second that were judged meanwhile.
    pub load_judged_per_second: f64,
    /// Events that were dropped meanwhile.
    pub load_dropped: u64,
}

impl ArchiveFigures {
    /// Whether nothing was dropped.
    pub fn is_clean(&self) -> bool {
        self.load_dropped == 0
    }
}

/// Fills the audit of a stopped server with `rows` old rows, archives and verifies them, and a share of them once more
/// under load.
pub async fn measure(args: &BenchArgs, parent: &Path, rows: u64) -> anyhow::Result<ArchiveFigures> {
    let receiver = MockMoog::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, MockOptions::default())?;
    let mut server = Server::start(parent, &receiver.url()).await?;
    let rules = args.rules.first().copied().unwrap_or_default();
    server.install((0..rules).map(synthetic::rule).collect()).await?;
    server.stop().await?;
    let (audit, archive) = (server.data().join("store/audit"), server.data().join("archive"));
    let begin = Clock::system().now().minus(AGE + SPAN);
    rows::fill(audit.clone(), args, rows, begin, SPAN).await?;
    let audit_bytes_per_row = disk_bytes(&audit) as f64 / rows as f64;
    let stopped = run_stopped(&server, rows).await?;
    let archive_bytes_per_row = disk_bytes(&archive) as f64 / rows as f64;
    let audit_bytes_left = disk_bytes(&audit);

    server.start_again().await?;
    let mut api = Api { client: Client::new(&server.addresses.http.to_string(), TIMEOUT), key: server.admin_key() };
    let files = api.ask(Method::GET, "/retention", &Value::Null).await?["archive"]["files"].as_u64().unwrap_or(0);
    let (cpu, began) = (cpu_seconds(server.pid())?, Instant::now());
    let report = api.task("/archives/verify", "bench").await?;
    ensure!(report["verified"] == files && report["ok"] == true, "not every archive was found whole: {report}");
    let took = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds(server.pid())? - cpu;
    let (_, peak) = memory(server.pid())?;
    let verified = work(rows, took, Some(cpu), peak);

    server.stop().await?;
    let share = (rows / LOADED_SHARE).max(1);
    rows::fill(audit, args, share, begin, SPAN).await?;
    server.start_again().await?;
    let case =
        Case { input: Input::SyslogTcp, rules, match_percent: args.match_percent.first().copied().unwrap_or_default() };
    let mut api = Api { client: Client::new(&server.addresses.http.to_string(), TIMEOUT), key: server.admin_key() };
    let plan = plan(args, &server, case, "archive", LONGEST, Some(RATE))?;
    let pid = server.pid();
    let (before, report, took, after) = tokio::select! {
        ended = load(&mut server, plan) => anyhow::bail!("the load ended before the run: {:?}", ended.map(|run| run.report)),
        ran = async {
            tokio::time::sleep(SETTLE).await;
            let (before, began) = (api.counters().await?, Instant::now());
            let report = api.task("/retention/run", "bench").await?;
            let took = began.elapsed().as_secs_f64();
            anyhow::Ok((before, report, took, api.counters().await?))
        } => ran?,
    };
    ensure!(report["archived_events"] == share && report["ok"] == true, "not every row was archived: {report}");
    let (_, peak) = memory(pid)?;
    Ok(ArchiveFigures {
        stopped,
        verified,
        loaded: work(share, took, None, peak),
        audit_bytes_per_row,
        archive_bytes_per_row,
        files,
        audit_bytes_left,
        load_received_per_second: after.received.saturating_sub(before.received) as f64 / took,
        load_judged_per_second: after.processed_total().saturating_sub(before.processed_total()) as f64 / took,
        load_dropped: after.dropped.saturating_sub(before.dropped),
    })
}

fn work(rows: u64, took: f64, cpu: Option<f64>, peak: u64) -> Work {
    Work {
        rows,
        per_second: rows as f64 / took.max(1e-6),
        cpu_seconds_per_million: cpu.map(|cpu| cpu * 1e6 / rows.max(1) as f64),
        peak_mb: peak as f64 / 1e6,
    }
}

/// `muttd retention run` on the data directory of the stopped server.
async fn run_stopped(server: &Server, rows: u64) -> anyhow::Result<Work> {
    let began = Instant::now();
    let child = own_program()?
        .args(["retention", "run", "--json", "--reason", "bench", "--url"])
        .arg(format!("http://{}", server.addresses.http))
        .arg("--data")
        .arg(server.data())
        .env("MUTTD_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Running(child.context("cannot start the retention run")?);
    let pid = child.0.id();
    let (mut cpu, mut peak) = (0.0, 0);
    // A process that has ended keeps its CPU time until it is waited for, but not its memory.
    while let Ok((_, most)) = memory(pid) {
        (cpu, peak) = (cpu_seconds(pid)?, most);
        tokio::time::sleep(POLL).await;
    }
    cpu = cpu_seconds(pid).unwrap_or(cpu);
    let took = began.elapsed().as_secs_f64();
    let output = child.0.stdout.take().context("the run has no output")?;
    let report: Value = serde_json::from_reader(output).context("the retention run told no report")?;
    let status = child.0.wait().context("cannot look after the retention run")?;
    ensure!(status.success() && report["archived_events"] == rows, "not every row was archived ({status}): {report}");
    Ok(work(rows, took, Some(cpu), peak))
}

/// A child that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The server's API beside a load that has the server for itself.
struct Api {
    client: Client,
    key: &'static str,
}

impl Api {
    async fn ask(&mut self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let headers = [("x-api-key", self.key), ("content-type", "application/json")];
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.client.request(method, &format!("/api/v2{path}"), &headers, body).await;
        let answer = answer.with_context(|| format!("`{path}` is not answered"))?;
        let said = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status.is_success(), "`{path}` answers {}: {said}", answer.status);
        serde_json::from_str(&said).with_context(|| format!("`{path}` answers no JSON"))
    }

    /// Begins something, waits for its end; the answer is its report.
    async fn task(&mut self, path: &str, reason: &str) -> anyhow::Result<Value> {
        let mut answer = self.ask(Method::POST, path, &json!({"reason": reason})).await?;
        while answer["finished"] == false {
            let task = answer["task"].as_u64().context("the server does not say which task it began")?;
            tokio::time::sleep(POLL).await;
            answer = self.ask(Method::GET, &format!("/retention/tasks/{task}"), &Value::Null).await?;
        }
        Ok(answer["report"].clone())
    }

    async fn counters(&mut self) -> anyhow::Result<Counters> {
        let answer = self.client.request(Method::GET, "/metrics", &[("x-api-key", self.key)], Bytes::new()).await?;
        ensure!(answer.status.is_success(), "the server's metrics answer {}", answer.status);
        Ok(Counters::parse(&String::from_utf8_lossy(&answer.body)))
    }
}
