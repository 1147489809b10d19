//! A flood: far more datagrams than can be processed, while someone looks at the pages.
//!
//! Drops are expected; what is measured is that each is counted, that pages still come quickly and that memory stays
//! bounded.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::args::{BenchArgs, Input};
use super::figures;
use super::measure::{Case, Moment, load, plan};
use super::server::Server;
use crate::cli::mock_moog::{MockMoog, MockOptions};
use crate::cli::send::http::Client;
use crate::cli::send::{LatencySummary, Report, Tally, synthetic};

/// The pages somebody looks at in an emergency.
const PAGES: [&str; 3] = ["/", "/events", "/rules"];
/// Pause between two pages: a person clicks no faster.
const PAGE_PAUSE: Duration = Duration::from_millis(100);
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Sending threads; two reach what loopback carries.
const CONNECTIONS: u32 = 2;

/// What a flood did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FloodFigures {
    /// Active rules.
    pub rules: u32,
    /// Datagrams sent.
    pub sent: u64,
    /// The same a second.
    pub sent_per_second: f64,
    /// Events on stable storage.
    pub taken: u64,
    /// Datagrams that the server read and gave up, with a reason.
    pub dropped: u64,
    /// Datagrams that the kernel dropped for want of room in the receive buffer, as the server counts them.
    pub kernel_drops: u64,
    /// Datagrams that nobody counted.
    pub unaccounted: u64,
    /// Events judged, per second from the first datagram to the last judged event.
    pub processed_per_second: f64,
    /// Pages fetched meanwhile.
    pub pages: u64,
    /// Pages that did not come, or not with 200.
    pub page_failures: u64,
    /// How long the pages took.
    pub page_times: Option<LatencySummary>,
    /// Most memory the server had, in MB.
    pub peak_mb: f64,
}

impl FloodFigures {
    /// Whether every datagram is accounted for and every page came.
    pub const fn is_clean(&self) -> bool {
        self.unaccounted == 0 && self.page_failures == 0 && self.pages > 0
    }
}

/// Floods a fresh server.
pub async fn measure(args: &BenchArgs, parent: &Path, rules: u32) -> anyhow::Result<FloodFigures> {
    let receiver = MockMoog::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, MockOptions::default())?;
    let mut server = Server::start(parent, &receiver.url()).await?;
    server.install((0..rules).map(synthetic::rule).collect()).await?;
    let match_percent = args.match_percent.first().copied().unwrap_or_default();
    let case = Case { input: Input::SyslogUdp, rules, match_percent };
    let warm_up = Duration::from_secs(u64::from(args.warm_up));
    // Slow enough to lose nothing on any machine: the flood is to meet a server at work, not one that starts.
    let warming = plan(args, &server, case, "warm", warm_up, Some(10_000.0))?;
    load(&mut server, warming).await?;
    let cookie = server.log_in().await?;
    let span = Duration::from_secs(u64::from(args.seconds));
    let rate = (args.flood_rate > 0).then(|| f64::from(args.flood_rate));
    let mut plan = plan(args, &server, case, "flood", span, rate)?;
    plan.connections = args.connections.unwrap_or(CONNECTIONS);

    let before = Moment::now(&mut server).await?;
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let looking = tokio::spawn(look(server.addresses.http, cookie, span, stop.clone()));
    let run = load(&mut server, plan).await?;
    stop.cancel();
    let pages = looking.await?;

    let (then, now) = (before.counters(), &run.counters);
    let since = |now: u64, then: u64| now.saturating_sub(then);
    let (taken, dropped) = (since(now.committed, then.committed), since(now.dropped, then.dropped));
    let kernel_drops = since(now.kernel_drops, then.kernel_drops);
    let judged = since(now.processed_total(), then.processed_total());
    Ok(FloodFigures {
        rules,
        sent: run.report.sent,
        sent_per_second: run.report.messages_per_second,
        taken,
        dropped,
        kernel_drops,
        unaccounted: run.report.sent.saturating_sub(taken + dropped + kernel_drops),
        processed_per_second: judged as f64 / run.took.as_secs_f64().max(1e-6),
        pages: pages.sent,
        page_failures: pages.refused + pages.unanswered,
        page_times: pages.latency,
        peak_mb: figures::memory(server.pid())?.1 as f64 / 1e6,
    })
}

/// Opens one page after the other for as long as the flood lasts.
async fn look(address: SocketAddr, cookie: String, span: Duration, stop: CancellationToken) -> Report {
    let tally = Tally::default();
    let mut client = Client::new(&address.to_string(), PAGE_TIMEOUT);
    let begun = Instant::now();
    for page in PAGES.iter().cycle() {
        if stop.is_cancelled() || begun.elapsed() >= span {
            break;
        }
        let asked = Instant::now();
        match client.request(Method::GET, page, &[("cookie", &cookie)], Bytes::new()).await {
            Ok(answer) => {
                let refused = u64::from(answer.status != hyper::StatusCode::OK);
                tally.add_answer(Some(answer.status.as_u16()), asked.elapsed(), 1 - refused, refused);
                tally.add_sent(1, answer.body.len() as u64);
            }
            Err(_) => {
                tally.add_sent(1, 0);
                tally.add_unanswered(1);
            }
        }
        tokio::time::sleep(PAGE_PAUSE).await;
    }
    tally.report("pages".to_owned(), None, begun.elapsed())
}
