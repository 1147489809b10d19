//! How long lists take over HTTP with millions of rows in the audit, a long change log, a large inventory and many dead
//! letters: idle, and while events come in.
//!
//! The stores of a stopped server are filled through the same code that fills them in service, three months back from
//! now; then the server is started and asked as a browser or a script would ask it, one request after the other.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde_json::Value;

use super::args::{BenchArgs, Input};
use super::figures::{disk_bytes, memory};
use super::measure::{Case, load, plan};
use super::rows;
use super::server::Server;
use super::source::EventSource;
use crate::cli::mock_moog::{MockMoog, MockOptions};
use crate::cli::send::LatencySummary;
use crate::cli::send::http::Client;
use crate::cli::send::synthetic::{self, Synthetic};
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{DeadLetter, DeathClass, Event, TargetName, Team};
use crate::queue::{QueueOptions, Queues};
use crate::store::{Change, ConfigEdit, DeviceTeam, RecentSettings, Stores};

/// Months that the rows lie in; the last of them ends now.
const SPAN: Duration = Duration::from_secs(80 * 86_400);
/// Hosts in each list of the inventory: each has its line in the change log.
const INVENTORY: u32 = 50_000;
const EDITS_IN_A_CALL: usize = 1_000;
const LETTERS: usize = 20_000;
const LETTERS_IN_A_CALL: usize = 1_000;
/// Requests for each figure.
const REQUESTS: usize = 100;
/// A list that is slow is asked for fewer times: no longer than this.
const LONGEST_ASKING: Duration = Duration::from_secs(10);
/// Not measured: files are opened, pages of them are read.
const WARM_UP: usize = 3;
/// Events a second that come in while lists are asked for.
const RATE: f64 = 20_000.0;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Before the requests: the load has settled.
const SETTLE: Duration = Duration::from_secs(3);

/// One list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListFigures {
    /// What was asked for.
    pub what: String,
    /// The address.
    pub path: String,
    /// Bytes of the answer.
    pub bytes: usize,
    /// How long it took while nothing else happened.
    pub idle: LatencySummary,
    /// How long it took while events came in.
    pub loaded: LatencySummary,
    /// Answers that were not 200.
    pub failures: u64,
}

/// All lists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListsFigures {
    /// Rows in the audit.
    pub rows: u64,
    /// Partitions they lie in.
    pub partitions: usize,
    /// Rows a second while filling.
    pub filled_per_second: f64,
    /// Bytes of the audit on disk, per row.
    pub bytes_per_row: f64,
    /// Most memory the server had, in MB.
    pub peak_mb: f64,
    /// From the start of the process until it was ready, with all that.
    pub started_in_ms: f64,
    /// One line for each list.
    pub lists: Vec<ListFigures>,
}

impl ListsFigures {
    /// Whether every answer came.
    pub fn is_clean(&self) -> bool {
        self.lists.iter().all(|list| list.failures == 0)
    }
}

/// Fills the stores of a stopped server with `rows` rows, starts it and asks.
pub async fn measure(args: &BenchArgs, parent: &Path, rows: u64) -> anyhow::Result<ListsFigures> {
    let receiver = MockMoog::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, MockOptions::default())?;
    let mut server = Server::start(parent, &receiver.url()).await?;
    let rules = args.rules.first().copied().unwrap_or_default();
    server.install((0..rules).map(synthetic::rule).collect()).await?;
    server.stop().await?;
    let store = server.data().join("store");
    inventory(store.clone()).await?;
    letters(server.data().join("queues")).await?;
    let began = Instant::now();
    rows::fill(store.join("audit"), args, rows, Clock::system().now().minus(SPAN), SPAN).await?;
    let filled_per_second = rows as f64 / began.elapsed().as_secs_f64().max(1e-6);
    let bytes_per_row = disk_bytes(&store.join("audit")) as f64 / rows.max(1) as f64;
    let partitions = std::fs::read_dir(store.join("audit"))?.flatten();
    let partitions = partitions.filter(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 1 << 20)).count();

    server.start_again().await?;
    let started_in_ms = server.started_in.as_secs_f64() * 1e3;
    let mut client = Asking::new(&mut server).await?;
    let cases = cases(&mut client).await?;
    let idle = ask_all(&mut client, &cases).await;
    let span = LONGEST_ASKING * u32::try_from(cases.len()).unwrap_or(u32::MAX) + Duration::from_secs(60);
    let case =
        Case { input: Input::SyslogTcp, rules, match_percent: args.match_percent.first().copied().unwrap_or_default() };
    let plan = plan(args, &server, case, "lists", span, Some(RATE))?;
    let loaded = tokio::select! {
        ended = load(&mut server, plan) => anyhow::bail!("the load ended before the lists: {:?}", ended.map(|run| run.report)),
        asked = async { tokio::time::sleep(SETTLE).await; ask_all(&mut client, &cases).await } => asked,
    };
    let (_, peak) = memory(server.pid())?;
    let lists = cases.into_iter().zip(idle.into_iter().zip(loaded)).map(|((what, path), (idle, loaded))| ListFigures {
        what,
        path,
        bytes: idle.bytes,
        failures: idle.failures + loaded.failures,
        idle: idle.times,
        loaded: loaded.times,
    });
    let lists = lists.collect();
    Ok(ListsFigures {
        rows,
        partitions,
        filled_per_second,
        bytes_per_row,
        peak_mb: peak as f64 / 1e6,
        started_in_ms,
        lists,
    })
}

/// Fills the lists of hosts and teams, and with them the change log.
async fn inventory(store: PathBuf) -> anyhow::Result<()> {
    let opened = tokio::task::spawn_blocking(move || {
        Stores::open(&store, Clock::system(), Live::constant(RecentSettings::default()))
    });
    let stores = opened.await?.context("cannot open the stores of the stopped server")?;
    let team = Team::new("NETO")?;
    let edits: Vec<ConfigEdit> = (0..INVENTORY)
        .flat_map(|number| {
            let hostname = format!("lab-{number:05}");
            let team = DeviceTeam { hostname: hostname.clone(), team_assignment: team.clone() };
            [ConfigEdit::AddDevHost(hostname), ConfigEdit::PutTeam(team)]
        })
        .collect();
    for (call, edits) in edits.chunks(EDITS_IN_A_CALL).enumerate() {
        let change = Change::new(if call % 10 == 0 { "anna" } else { "bench" }, format!("bench-{call}"));
        stores.edits.apply(edits.to_vec(), &change).await.context("the inventory was not taken")?;
    }
    stores.close().await.context("cannot close the stores")
}

/// Fills the dead letters.
async fn letters(queues: PathBuf) -> anyhow::Result<()> {
    let target = TargetName::new("moogsoft")?;
    let opened = tokio::task::spawn_blocking(move || Queues::open(&queues, &[target], &QueueOptions::default()));
    let queues = opened.await?.context("cannot open the queues of the stopped server")?;
    let now = Clock::system().now();
    let events = EventSource::new(&Synthetic { rules: 10, match_percent: 0.0, size: 200, seed: 1 })?.next(LETTERS);
    let letter = |(number, event): (usize, &Event)| {
        let reason = format!("it cannot be processed: number {}", number % 7);
        DeadLetter::of_event(event, "alerter", DeathClass::ALL[number % DeathClass::ALL.len()], reason, now)
    };
    let letters: Vec<DeadLetter> = events.iter().enumerate().map(letter).collect();
    for call in letters.chunks(LETTERS_IN_A_CALL) {
        queues.dead.append(call).await.context("the dead letters were not taken")?;
    }
    queues.close().await.context("cannot close the queues")
}

/// A list and how to ask for it.
type ListCase = (String, String);

/// The lists, with cursors from the server itself.
async fn cases(client: &mut Asking) -> anyhow::Result<Vec<ListCase>> {
    let days_ago = |days: u64| Clock::system().now().minus(Duration::from_secs(days * 86_400)).to_string();
    let old = client.cursor(&format!("/api/v2/events?limit=100&to={}", days_ago(75))).await?;
    let old_of_host = format!("/api/v2/events?hostname=common-router&to={}", days_ago(75));
    let old_of_host = client.cursor(&old_of_host).await?;
    let events = |filters: &str| format!("/api/v2/events?limit=100{filters}");
    let logs = |filters: &str| format!("/api/v2/audit-logs?limit=50{filters}");
    let span = format!("from={}&to={}", days_ago(45), days_ago(40));
    let dates = format!("&start_date={}&end_date={}", days_ago(45), days_ago(40));
    let cases = [
        ("events", events("")),
        ("events, 75 days back by cursor", events(&format!("&cursor={old}"))),
        ("events of a common host", events("&hostname=common-router")),
        ("events of a common host, 75 days back", events(&format!("&hostname=common-router&cursor={old_of_host}"))),
        ("events of one host in 2,000", events("&hostname=router-77")),
        ("events of a rare host", events("&hostname=rare-router")),
        ("events of an absent host", events("&hostname=nobody")),
        ("events of a common rule", events("&rule_id=9001")),
        ("events of one rule in 500", events("&rule_id=77")),
        ("events of a rare rule", events("&rule_id=9000")),
        ("events of an absent rule", events("&rule_id=12345")),
        ("events of a common severity", events("&severity=4")),
        ("events of a rare severity", events("&severity=0")),
        ("events of an absent severity", events("&severity=1")),
        ("events of a protocol", events("&source=syslog_udp")),
        ("events of an absent protocol", events("&source=http")),
        ("events no rule matched", events("&matched=false")),
        ("events of host and rule", events("&hostname=router-77&rule_id=77")),
        ("events of host and rule never together", events("&hostname=common-router&rule_id=77")),
        ("events of five days", events(&format!("&{span}"))),
        ("events of five days and a host", events(&format!("&hostname=router-77&{span}"))),
        ("events of a correlation id", events("&correlation_id=bench-5000")),
        ("events of an absent correlation id", events("&correlation_id=nothing")),
        ("audit log", logs("")),
        ("audit log, page 1,000", logs("&page=1000")),
        ("audit log, page 100,000", logs("&page=100000")),
        ("audit log of a common host, page 1,000", logs("&hostname=common-router&page=1000")),
        ("audit log of a rare host", logs("&hostname=rare-router")),
        ("audit log of an absent host", logs("&hostname=nobody")),
        ("audit log of one rule in 500", logs("&rule_id=77")),
        ("audit log of an absent rule", logs("&rule_id=12345")),
        ("audit log of five days", logs(&dates)),
        ("audit log, version 1", "/api/v1/audit-logs?limit=50".to_owned()),
        ("page of events", "/events".to_owned()),
        ("page of events of a rare host", "/events?hostname=rare-router".to_owned()),
        ("overview", "/".to_owned()),
        ("page of rules", "/rules".to_owned()),
        ("rules", "/api/v2/rules".to_owned()),
        ("change log", "/api/v2/config-audit".to_owned()),
        ("change log, page 200", "/api/v2/config-audit?page=200&limit=50".to_owned()),
        ("change log of a record", "/api/v2/config-audit?table_name=device_teams&record_id=lab-00077".to_owned()),
        ("change log of a table", "/api/v2/config-audit?table_name=development_hosts".to_owned()),
        ("change log of a person", "/api/v2/config-audit?user=anna".to_owned()),
        ("change log of an absent person", "/api/v2/config-audit?user=nobody".to_owned()),
        ("page of changes", "/changes".to_owned()),
        ("dead letters", "/api/v2/dead-letters".to_owned()),
        ("dead letters of an absent host", "/api/v2/dead-letters?hostname=nobody".to_owned()),
        ("page of dead letters", "/dead-letters".to_owned()),
        ("development hosts", "/api/v2/dev-hosts?limit=100&cursor=lab-25000".to_owned()),
        ("development hosts by a part of the name", "/api/v2/dev-hosts?limit=100&q=077".to_owned()),
        ("all development hosts", "/api/v2/dev-hosts".to_owned()),
        ("device teams", "/api/v2/teams?limit=100&cursor=lab-25000".to_owned()),
        ("all device teams", "/api/v2/teams".to_owned()),
        ("page of development hosts", "/dev-hosts".to_owned()),
        ("page of device teams", "/teams".to_owned()),
    ];
    Ok(cases.map(|(what, path)| (what.to_owned(), path)).into_iter().collect())
}

/// What asking for one list came to.
struct Asked {
    times: LatencySummary,
    bytes: usize,
    failures: u64,
}

/// Asks as one client with a key and a session.
struct Asking {
    client: Client,
    cookie: String,
    key: &'static str,
}

impl Asking {
    async fn new(server: &mut Server) -> anyhow::Result<Self> {
        let client = Client::new(&server.addresses.http.to_string(), TIMEOUT);
        Ok(Self { client, cookie: server.log_in().await?, key: server.admin_key() })
    }

    /// The body of a good answer.
    async fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let headers =
            if path.starts_with("/api/") { [("x-api-key", self.key)] } else { [("cookie", self.cookie.as_str())] };
        let answer = self.client.request(Method::GET, path, &headers, Bytes::new()).await;
        let answer = answer.with_context(|| format!("`{path}` is not answered"))?;
        ensure!(answer.status.is_success(), "`{path}` answers {}", answer.status);
        Ok(answer.body)
    }

    async fn cursor(&mut self, path: &str) -> anyhow::Result<String> {
        let body: Value = serde_json::from_slice(&self.get(path).await?).context("no JSON")?;
        let cursor = body["next_cursor"].as_str().map(str::to_owned);
        cursor.with_context(|| format!("`{path}` has no further page"))
    }
}

async fn ask_all(client: &mut Asking, cases: &[ListCase]) -> Vec<Asked> {
    let mut asked = Vec::with_capacity(cases.len());
    for (_, path) in cases {
        asked.push(ask(client, path).await);
    }
    asked
}

async fn ask(client: &mut Asking, path: &str) -> Asked {
    let first = Instant::now();
    let (mut times, mut bytes, mut failures) = (Vec::with_capacity(REQUESTS), 0, 0);
    for request in 0..WARM_UP + REQUESTS {
        let begun = Instant::now();
        match client.get(path).await {
            Ok(body) => bytes = body.len(),
            Err(error) => {
                if failures == 0 {
                    eprintln!("{error:#}");
                }
                failures += 1;
            }
        }
        if request >= WARM_UP {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if first.elapsed() > LONGEST_ASKING {
                break;
            }
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let times = LatencySummary { min_ms: at(0.0), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) };
    Asked { times, bytes, failures }
}
