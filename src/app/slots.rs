//! Which listeners there are: what each is called, where the configuration wants it, how it is started and what stops it.
//! Starts nothing itself and keeps nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listeners::Slot;
use crate::admin::Admin;
use crate::config::Listen;
use crate::ingest::{self, ListenerContext};
use crate::net::http::{HttpLimits, serve_until};
use crate::net::tls::{Certificates, Door, TlsListener};
use crate::net::{self, BindError, Transport};
use crate::telemetry::{ListenerBoard, ListenerHandle, ListenerState};
use crate::web;

/// The listener of pages and API.
pub(super) const WEB: &str = "web_http";
/// The listeners that take events; a stop begins with them.
pub(super) const INPUTS: &[&str] = &["syslog_udp", "syslog_tcp", "syslog_tls", "snmp", "ingest_http"];

/// Where a configuration wants a listener.
type Wanted = fn(&Listen) -> Option<SocketAddr>;
/// What a listener's start answers.
type Started = Result<JoinHandle<()>, BindError>;
/// Makes the router of a listener, given its line on the board.
type Router = Arc<dyn Fn(ListenerHandle) -> axum::Router + Send + Sync>;

/// Every listener there is. `stop_pages` stops pages and API, which go on longer than the inputs.
pub(super) fn slots(
    context: &ListenerContext,
    admin: &Admin,
    probes: &axum::Router,
    certificates: &Certificates,
    stop_pages: &CancellationToken,
) -> Vec<Slot> {
    let door = certificates.door(TlsListener::Syslog);
    let over_tls = move |context: &ListenerContext, address| ingest::syslog::start_tls(context, address, door.clone());
    let (ingest, to_ingest) = (context.clone(), probes.clone());
    let ingest = Arc::new(move |line| ingest::http::router(ingest.clone(), line).merge(to_ingest.clone()));
    let (admin, to_web, stop) = (admin.clone(), probes.clone(), stop_pages.clone());
    let web = Arc::new(move |_line| web::router(admin.clone(), stop.clone()).merge(to_web.clone()));
    let http = |name, wanted, (listener, stop): (TlsListener, &CancellationToken), router| {
        let site = Site { board: context.board.clone(), name, door: certificates.door(listener), router };
        site.slot(wanted, stop)
    };
    vec![
        input(context, ("syslog_udp", Transport::Udp), |listen| listen.syslog_udp, ingest::syslog::start_udp),
        input(context, ("syslog_tcp", Transport::Tcp), |listen| listen.syslog_tcp, ingest::syslog::start_tcp),
        input(context, ("syslog_tls", Transport::Tcp), |listen| listen.syslog_tls, over_tls),
        input(context, ("snmp", Transport::Udp), |listen| listen.snmp, ingest::snmp::start),
        http("ingest_http", |listen| listen.ingest, (TlsListener::Ingest, &context.stop), ingest),
        http(WEB, |listen| listen.http, (TlsListener::Web, stop_pages), web),
    ]
}

/// A listener for datagrams or streams of events.
fn input(
    context: &ListenerContext,
    (name, transport): (&'static str, Transport),
    wanted: Wanted,
    start: impl Fn(&ListenerContext, SocketAddr) -> Started + Clone + Send + Sync + 'static,
) -> Slot {
    let (stop, context) = (context.stop.clone(), context.clone());
    let start = Box::new(move |address, release: CancellationToken| {
        let context = ListenerContext { release: release.clone(), ..context.clone() };
        let start = start.clone();
        net::keep_trying(&release, move || start(&context, address))
    });
    Slot { name, transport, wanted, stop, start }
}

/// A listener for HTTP.
#[derive(Clone)]
struct Site {
    board: ListenerBoard,
    name: &'static str,
    door: Door,
    router: Router,
}

impl Site {
    fn slot(self, wanted: Wanted, stop: &CancellationToken) -> Slot {
        let (name, stopped) = (self.name, stop.clone());
        let start = Box::new(move |address, release| self.clone().start(address, release, stopped.clone()));
        Slot { name, transport: Transport::Tcp, wanted, stop: stop.clone(), start }
    }

    /// Serves at `address` and tells on the board where, or why not.
    fn start(self, address: SocketAddr, release: CancellationToken, stop: CancellationToken) -> JoinHandle<()> {
        net::keep_trying(&release.clone(), move || {
            let listener = net::bind_tcp(address).inspect_err(|error| {
                self.board.register(self.name, ListenerState::Failed(error.explain()));
            })?;
            let local = listener.local_addr().unwrap_or(address);
            tracing::info!(listener = self.name, address = %local, "Listening");
            let line = self.board.register(self.name, ListenerState::Listening(local));
            let (router, door) = ((self.router)(line), self.door.clone());
            let serving = serve_until(listener, router, HttpLimits::default(), door, release.clone(), stop.clone());
            Ok(tokio::spawn(serving))
        })
    }
}
