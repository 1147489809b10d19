//! The composition root: builds every part, starts them in order, stops them in reverse. Used by `serve`, `demo` and
//! every test alike.
//!
//! Start: queues, stores, alerter, forwarder, intake, listeners, pages - so that whatever arrives finds its way open.
//! Stop: listeners, intake, alerter, forwarder, pages, queues, stores - so that what was taken is kept. A listener that
//! cannot bind is told on the board and in the log and tried again; the others go on.

mod remediation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminParts, AdminSecrets, FirstLogin};
use crate::alerter::{self, AlerterParts, RefreshParts, Traffic};
use crate::clock::Clock;
use crate::config::{Config, Listen, SECRETS_FILE, Targets};
use crate::forward::{self, ForwarderParts, TargetConfig, Wiring};
use crate::ingest::{self, Gate, Intake, ListenerContext};
use crate::live::{Live, LiveSender, live};
use crate::model::{EventIds, TargetName};
use crate::net;
use crate::net::http::{HttpLimits, serve};
use crate::net::tls::{Certificates, Door, TlsListener, TlsPlan};
use crate::queue::Queues;
use crate::remedy;
use crate::secret::Secret;
use crate::store::{self, Stores};
use crate::telemetry::metrics;
use crate::telemetry::{CertificateBoard, ListenerBoard, ListenerHandle, ListenerState, Rates, TargetBoard};
use crate::web;

/// Time given to each step of a stop; together they stay below the 10 s a service manager is promised.
const STEP: Duration = Duration::from_secs(2);

/// A running appliance.
pub struct App {
    admin: Admin,
    board: ListenerBoard,
    intake: Intake,
    queues: Queues,
    stores: Stores,
    senders: Senders,
    changed: Arc<Notify>,
    certificates: Certificates,
    config: Mutex<Config>,
    tasks: Tasks,
}

/// What is shown once, at the first start.
pub struct Greeting {
    /// The first user's name and password.
    pub first_login: Option<FirstLogin>,
    /// Ingest and admin API key, when they were made now.
    pub fresh_keys: Option<(Secret, Secret)>,
    /// Where the keys are kept.
    pub secrets_file: PathBuf,
}

/// The writing sides of everything that can change at run time.
struct Senders {
    ingest: LiveSender<ingest::Settings>,
    ingest_secrets: LiveSender<ingest::Secrets>,
    admin_secrets: LiveSender<AdminSecrets>,
    alerter: LiveSender<alerter::Settings>,
    targets: Mutex<Wired>,
    remedy: LiveSender<remedy::Settings>,
    recent: LiveSender<store::RecentSettings>,
}

/// Running tasks with the tokens that end them, by step of the stop.
struct Tasks {
    listeners: (CancellationToken, Vec<JoinHandle<()>>),
    intake: JoinHandle<()>,
    stages: (CancellationToken, Vec<JoinHandle<()>>),
    pages: (CancellationToken, Vec<JoinHandle<()>>),
}

impl App {
    /// Builds and starts everything. Fails only for what nothing can work without: data directory, stores, queues.
    pub async fn start(config: Config) -> anyhow::Result<(Self, Greeting)> {
        let clock = Clock::system();
        let prometheus = metrics::install()?;
        let (senders, lives) = settings(&config);
        // The queues first: their lock refuses a second process before it touches the databases.
        let queues = open_queues(&config).await?;
        let stores = open_stores(&config, &clock, lives.recent.clone()).await?;
        let rates = Rates::new(clock.clone());
        let board = ListenerBoard::default();
        let targets = TargetBoard::default();
        let certificate_board = CertificateBoard::default();
        let changed = Arc::new(Notify::new());
        let stop_stages = CancellationToken::new();
        let wired = wire_targets(&config.targets, &clock)?;
        let remediation = remediation::Parts {
            queues: &queues,
            stores: &stores,
            lives: &lives,
            clock: &clock,
            targets: wired.iter().map(|(name, (_, sender))| (name.clone(), sender.subscribe())).collect(),
            node: node_name(),
        };
        let (remedy, healers) = remediation::start(remediation, &stop_stages)?;
        let admin = Admin::new(AdminParts {
            stores: stores.clone(),
            queues: queues.clone(),
            listeners: board.clone(),
            targets: targets.clone(),
            certificates: certificate_board.clone(),
            remedy,
            rates: rates.clone(),
            clock: clock.clone(),
            secrets: lives.admin_secrets.clone(),
            changed: Arc::clone(&changed),
            data_dir: config.data_dir.clone(),
            started: Instant::now(),
        });
        let first_login = admin.ensure_admin(config.admin_password.clone()).await?;

        let parts = StageParts { queues: &queues, stores: &stores, lives: &lives, clock: &clock, rates: &rates };
        Intake::count_recovered(queues.events.depth().items);
        let mut stages = start_alerter(&parts, &changed, &stop_stages).await?;
        let forwarders = start_forwarders(&parts, &wired, &targets, &stop_stages)?;
        *senders.targets.lock() = wired;
        stages.extend(forwarders);
        stages.extend(healers);

        let certificates = open_certificates(&config, &clock, certificate_board).await?;
        let gate = Gate::new(lives.ingest.clone());
        let (intake, intake_task) = Intake::start(queues.events.clone(), gate, rates);
        let stop_listeners = CancellationToken::new();
        let context = ListenerContext {
            intake: intake.clone(),
            ids: Arc::new(EventIds::new(random_seed()?)),
            clock,
            settings: lives.ingest,
            secrets: lives.ingest_secrets,
            board: board.clone(),
            stop: stop_listeners.clone(),
        };
        let probes = web::probes::router(admin.clone(), prometheus, web::WebOptions::default());
        let mut listeners = start_datagram_and_stream_listeners(&context, &config.listen, &certificates);
        listeners.extend(start_ingest_http(&context, &config.listen, &certificates, probes.clone()));
        listeners.push(certificates.watch(context.stop.clone()));
        let stop_pages = CancellationToken::new();
        let pages = start_pages(&admin, &board, &config.listen, &certificates, probes, &stop_pages);

        let greeting = Greeting {
            first_login,
            fresh_keys: config.fresh_keys.clone(),
            secrets_file: config.data_dir.join(SECRETS_FILE),
        };
        let tasks = Tasks {
            listeners: (stop_listeners, listeners),
            intake: intake_task,
            stages: (stop_stages, stages),
            pages: (stop_pages, pages.into_iter().collect()),
        };
        let config = Mutex::new(config);
        Ok((Self { admin, board, intake, queues, stores, senders, changed, certificates, config, tasks }, greeting))
    }

    /// What an operator can do.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Where everything listens.
    pub fn listeners(&self) -> &ListenerBoard {
        &self.board
    }

    /// Events waiting to be judged.
    pub fn queue_depth(&self) -> u64 {
        self.intake.queue_depth()
    }

    /// The key senders of JSON use.
    pub fn ingest_api_key(&self) -> Secret {
        self.config.lock().ingest_secrets.api_keys.first().map(|pair| pair.current.clone()).unwrap_or_default()
    }

    /// Puts a newly read configuration into force, and has rules, hosts and teams read again.
    pub fn reload(&self, config: Config) {
        self.senders.ingest.set(config.ingest.clone());
        self.senders.ingest_secrets.set(config.ingest_secrets.clone());
        self.senders.admin_secrets.set(AdminSecrets { admin_api_key: config.admin_api_key.clone() });
        self.senders.alerter.set(config.alerter.clone());
        self.rewire(&config.targets);
        self.reload_certificates(config.tls.clone());
        self.senders.remedy.set(config.remedy.clone());
        self.senders.recent.set(config.recent);
        self.changed.notify_one();
        let mut current = self.config.lock();
        if current.listen != config.listen {
            tracing::warn!("Changed addresses take effect after a restart");
        }
        *current = config;
        tracing::info!("Configuration read again and put into force");
    }

    /// Reads the certificates again, on a thread that may block.
    fn reload_certificates(&self, plan: TlsPlan) {
        let certificates = self.certificates.clone();
        tokio::task::spawn_blocking(move || certificates.replace(plan));
    }

    /// Makes the targets whose configuration changed anew. A target that cannot be made stays as it was.
    fn rewire(&self, targets: &Targets) {
        let clock = Clock::system();
        let mut wired = self.senders.targets.lock();
        for target in &targets.targets {
            let Some((current, sender)) = wired.get_mut(&target.name) else { continue };
            if current == target {
                continue;
            }
            match target.wire(&clock) {
                Ok(wiring) => {
                    sender.set(wiring);
                    *current = target.clone();
                }
                Err(why) => tracing::error!(target = %target.name, "A target keeps its old configuration: {why}"),
            }
        }
        if wired.len() != targets.targets.len()
            || targets.targets.iter().any(|target| !wired.contains_key(&target.name))
        {
            tracing::warn!("Targets that were added or removed take effect after a restart");
        }
    }

    /// Takes no more, finishes what is under way, and closes everything. What is still queued is processed after the
    /// next start.
    pub async fn stop(self) {
        let Tasks { listeners, intake, stages, pages } = self.tasks;
        finish("listeners", listeners).await;
        // The batching task ends when nobody can hand over events any more.
        drop(self.intake);
        wait("intake", intake).await;
        let deadline = Instant::now() + STEP;
        while self.queues.events.depth().items > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::join!(finish("alerter and forwarder", stages), finish("pages", pages));
        drop(self.admin);
        if let Err(error) = self.queues.close().await {
            tracing::error!("A queue did not close cleanly; nothing acknowledged is lost: {error}");
        }
        if let Err(error) = self.stores.close().await {
            tracing::error!("A store did not close cleanly; nothing acknowledged is lost: {error}");
        }
    }
}

/// The reading sides, as the stages get them.
struct Lives {
    ingest: Live<ingest::Settings>,
    ingest_secrets: Live<ingest::Secrets>,
    admin_secrets: Live<AdminSecrets>,
    alerter: Live<alerter::Settings>,
    remedy: Live<remedy::Settings>,
    recent: Live<store::RecentSettings>,
}

/// What alerter and forwarder are built from.
struct StageParts<'a> {
    queues: &'a Queues,
    stores: &'a Stores,
    lives: &'a Lives,
    clock: &'a Clock,
    rates: &'a Rates,
}

fn settings(config: &Config) -> (Senders, Lives) {
    let (ingest_sender, ingest) = live(config.ingest.clone());
    let (ingest_secrets_sender, ingest_secrets) = live(config.ingest_secrets.clone());
    let (admin_sender, admin_secrets) = live(AdminSecrets { admin_api_key: config.admin_api_key.clone() });
    let (alerter_sender, alerter) = live(config.alerter.clone());
    let (remedy_sender, remedy) = live(config.remedy.clone());
    let (recent_sender, recent) = live(config.recent);
    let senders = Senders {
        ingest: ingest_sender,
        ingest_secrets: ingest_secrets_sender,
        admin_secrets: admin_sender,
        alerter: alerter_sender,
        targets: Mutex::default(),
        remedy: remedy_sender,
        recent: recent_sender,
    };
    (senders, Lives { ingest, ingest_secrets, admin_secrets, alerter, remedy, recent })
}

async fn open_queues(config: &Config) -> anyhow::Result<Queues> {
    let (dir, options) = (config.data_dir.join("queues"), config.queue.clone());
    let targets: Vec<TargetName> = config.targets.targets.iter().map(|target| target.name.clone()).collect();
    tokio::task::spawn_blocking(move || Queues::open(&dir, &targets, &options)).await?.context("cannot open the queues")
}

async fn open_stores(config: &Config, clock: &Clock, recent: Live<store::RecentSettings>) -> anyhow::Result<Stores> {
    let (dir, clock) = (config.data_dir.join("store"), clock.clone());
    tokio::task::spawn_blocking(move || Stores::open(&dir, clock, recent)).await?.context("cannot open the stores")
}

async fn open_certificates(config: &Config, clock: &Clock, board: CertificateBoard) -> anyhow::Result<Certificates> {
    let (plan, clock) = (config.tls.clone(), clock.clone());
    Ok(tokio::task::spawn_blocking(move || Certificates::open(plan, clock, board)).await?)
}

/// The alerter, and the task that keeps rules and hosts up to date for it.
async fn start_alerter(
    parts: &StageParts<'_>,
    changed: &Arc<Notify>,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let stores = parts.stores;
    let loaded = alerter::load_ruling(stores.rules.as_ref(), stores.inventory.as_ref())
        .await
        .context("cannot read the rules")?;
    alerter::announce(&loaded);
    let (sender, ruling) = live(loaded.ruling);
    let traffic = Arc::new(Traffic::default());
    let refresh = alerter::refresh(
        RefreshParts {
            rules: Arc::clone(&stores.rules),
            inventory: Arc::clone(&stores.inventory),
            ruling: sender,
            traffic: Arc::clone(&traffic),
            version: Some(loaded.version),
            reload: Arc::clone(changed),
            settings: parts.lives.alerter.clone(),
        },
        stop.clone(),
    );
    let recent = Arc::clone(&stores.recent);
    let worker = alerter::start(
        AlerterParts {
            events: parts.queues.events.clone(),
            outboxes: parts.queues.outboxes.clone(),
            dead_events: parts.queues.dead_events.clone(),
            dead_alerts: parts.queues.dead_alerts.clone(),
            audit: Arc::clone(&stores.audit),
            recent: Arc::new(move |batch| recent.append(batch)),
            unhandled: Arc::clone(&stores.unhandled),
            ruling,
            traffic,
            settings: parts.lives.alerter.clone(),
            clock: parts.clock.clone(),
            rates: parts.rates.clone(),
        },
        stop.clone(),
    );
    Ok(vec![refresh, worker])
}

/// What can rewire a target later, and the configuration it has now.
type Wired = BTreeMap<TargetName, (TargetConfig, LiveSender<Wiring>)>;

/// Every target of the configuration, ready to be spoken to.
fn wire_targets(targets: &Targets, clock: &Clock) -> anyhow::Result<Wired> {
    let mut wired = Wired::new();
    for config in &targets.targets {
        let wiring = config.wire(clock).map_err(|why| anyhow::anyhow!("target `{}`: {why}", config.name))?;
        wired.insert(config.name.clone(), (config.clone(), live(wiring).0));
    }
    Ok(wired)
}

/// A forwarder for each target.
fn start_forwarders(
    parts: &StageParts<'_>,
    wired: &Wired,
    board: &TargetBoard,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut tasks = Vec::new();
    for (name, (config, sender)) in wired {
        let outbox = parts.queues.outboxes.get(name).with_context(|| format!("the outbox of `{name}` is missing"))?;
        let address = sender.get().target.address();
        let (handle, commands) = board.register(name.clone(), config.kind.name, address);
        let forwarder = ForwarderParts {
            name: name.clone(),
            outbox: outbox.clone(),
            outboxes: parts.queues.outboxes.clone(),
            dead: parts.queues.dead_alerts.clone(),
            wiring: sender.subscribe(),
            audit: Arc::clone(&parts.stores.audit),
            board: handle,
            clock: parts.clock.clone(),
        };
        tasks.push(forward::start(forwarder, commands, stop.clone()));
    }
    Ok(tasks)
}

/// This machine's host name; empty if it has none.
fn node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn random_seed() -> anyhow::Result<u64> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn start_datagram_and_stream_listeners(
    context: &ListenerContext,
    listen: &Listen,
    certificates: &Certificates,
) -> Vec<JoinHandle<()>> {
    let start = |address: Option<SocketAddr>, start: fn(&ListenerContext, SocketAddr) -> Started| {
        let context = context.clone();
        address.map(|address| net::keep_trying(&context.stop.clone(), move || start(&context, address)))
    };
    let over_tls = listen.syslog_tls.map(|address| {
        let (context, door) = (context.clone(), certificates.door(TlsListener::Syslog));
        net::keep_trying(&context.stop.clone(), move || ingest::syslog::start_tls(&context, address, door.clone()))
    });
    let started = [
        start(listen.syslog_udp, ingest::syslog::start_udp),
        start(listen.syslog_tcp, ingest::syslog::start_tcp),
        over_tls,
        start(listen.snmp, ingest::snmp::start),
    ];
    started.into_iter().flatten().collect()
}

/// What a listener's start answers.
type Started = Result<JoinHandle<()>, net::BindError>;

/// Serves HTTP at `address` and tells on the board where, or why not.
fn start_http<F>(
    board: &ListenerBoard,
    name: &'static str,
    address: SocketAddr,
    stop: &CancellationToken,
    door: Door,
    router: F,
) -> JoinHandle<()>
where
    F: Fn(ListenerHandle) -> axum::Router + Send + 'static,
{
    let (board, stopped) = (board.clone(), stop.clone());
    net::keep_trying(stop, move || {
        let listener = net::bind_tcp(address).inspect_err(|error| {
            board.register(name, ListenerState::Failed(error.explain()));
        })?;
        let local = listener.local_addr().unwrap_or(address);
        tracing::info!(listener = name, address = %local, "Listening");
        let line = board.register(name, ListenerState::Listening(local));
        Ok(tokio::spawn(serve(listener, router(line), HttpLimits::default(), door.clone(), stopped.clone())))
    })
}

fn start_ingest_http(
    context: &ListenerContext,
    listen: &Listen,
    certificates: &Certificates,
    probes: axum::Router,
) -> Option<JoinHandle<()>> {
    let (ingest, door) = (context.clone(), certificates.door(TlsListener::Ingest));
    Some(start_http(&context.board, "ingest_http", listen.ingest?, &context.stop, door, move |line| {
        ingest::http::router(ingest.clone(), line).merge(probes.clone())
    }))
}

fn start_pages(
    admin: &Admin,
    board: &ListenerBoard,
    listen: &Listen,
    certificates: &Certificates,
    probes: axum::Router,
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let (admin, door) = (admin.clone(), certificates.door(TlsListener::Web));
    Some(start_http(board, "web_http", listen.http?, stop, door, move |_line| {
        web::router(admin.clone()).merge(probes.clone())
    }))
}

/// Cancels a group of tasks and waits for them.
async fn finish(what: &str, (stop, tasks): (CancellationToken, Vec<JoinHandle<()>>)) {
    stop.cancel();
    let deadline = tokio::time::Instant::now() + STEP;
    for task in tasks {
        if tokio::time::timeout_at(deadline, task).await.is_err() {
            tracing::warn!("The {what} did not finish in time; what they had is kept in the queues");
        }
    }
}

async fn wait(what: &str, task: JoinHandle<()>) {
    if tokio::time::timeout(STEP, task).await.is_err() {
        tracing::warn!("The {what} did not finish in time");
    }
}
