//! The composition root: builds every part, starts them in order, stops them in reverse. Used by `serve`, `demo` and
//! every test alike.
//!
//! Start: queues, stores, alerter, forwarder, intake, listeners, pages - so that whatever arrives finds its way open.
//! Stop: listeners, intake, alerter, forwarder, pages, queues, stores - so that what was taken is kept. A listener that
//! cannot bind is told on the board and in the log and tried again; the others go on.

mod delivery;
mod force;
mod levels;
mod listeners;
mod remediation;
mod retention;
mod secrets;
mod slots;

pub use self::retention::{Dry, Offline};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::delivery::{Delivery, DeliveryParts};
use self::force::{Force, Lives, lives};
use self::listeners::Listeners;
use self::slots::{INPUTS, WEB, slots};
use crate::access::KeyRing;
use crate::admin::{Admin, AdminParts, FirstLogin};
use crate::alerter::{self, AlerterParts, RefreshParts, Traffic};
use crate::clock::Clock;
use crate::config::{Config, Keeper, NotChanged, SECRETS_FILE};
use crate::ingest::{Gate, Intake, ListenerContext};
use crate::live::{Live, live};
use crate::model::{EventIds, TargetName};
use crate::net::tls::Certificates;
use crate::oidc::Oidc;
use crate::queue::Queues;
use crate::secret::Secret;
use crate::store::Stores;
use crate::telemetry::logs::LogControl;
use crate::telemetry::trace::Tracer;
use crate::telemetry::{CertificateBoard, ListenerBoard, Rates, TargetBoard};
use crate::telemetry::{metrics, otlp};
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
    keeper: Keeper,
    force: Arc<Force>,
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

impl Greeting {
    fn new(config: &Config, first_login: Option<FirstLogin>) -> Self {
        let secrets_file = config.data_dir.join(SECRETS_FILE);
        Self { first_login, fresh_keys: config.fresh_keys.clone(), secrets_file }
    }
}

/// Running tasks with the tokens that end them, by step of the stop.
struct Tasks {
    stop_listeners: CancellationToken,
    intake: JoinHandle<()>,
    stages: (CancellationToken, Vec<JoinHandle<()>>),
    stop_pages: CancellationToken,
}

impl App {
    /// Builds and starts everything. Fails only for what nothing can work without: data directory, stores, queues.
    pub async fn start(config: Config, logs: LogControl) -> anyhow::Result<(Self, Greeting)> {
        let clock = Clock::system();
        let prometheus = metrics::install()?;
        let (senders, lives) = lives(&config);
        // The queues first: their lock refuses a second process before it touches the databases.
        let queues = open_queues(&config).await?;
        let stores = open_stores(&config, &clock, &lives).await?;
        let rates = Rates::new(clock.clone());
        let board = ListenerBoard::default();
        let targets = TargetBoard::default();
        let certificate_board = CertificateBoard::default();
        let changed = Arc::new(Notify::new());
        let stop_stages = CancellationToken::new();
        let (tracer, exporting) = otlp::start(&config.otlp, lives.trace.clone(), &node_name(), stop_stages.clone())?;
        let delivery = new_delivery(&queues, &stores, &lives, &targets, (&clock, &tracer), &stop_stages);
        let remediation = remediation::Parts::new(&queues, &stores, &lives, &clock, delivery.health());
        let (remedy, healer) = remediation::start(remediation, &stop_stages)?;
        let (slo, counting) =
            levels::start(&queues, &stores, &lives, (&clock, config.prometheus.clone()), node_name(), &stop_stages)
                .await?;
        let retention = retention::build(&queues, &stores, &lives, &clock, &stop_stages)?;
        let keeper = Keeper::new(config.clone(), Arc::clone(&stores.edits));
        let oidc = config.oidc.clone().map(|settings| Oidc::new(settings, clock.clone())).transpose()?;
        let (key_sender, keys) = live(KeyRing::default());
        let admin = Admin::new(AdminParts {
            stores: stores.clone(),
            queues: queues.clone(),
            listeners: board.clone(),
            targets: targets.clone(),
            certificates: certificate_board.clone(),
            remedy,
            slo,
            retention: retention.clone(),
            rates: rates.clone(),
            logs: logs.ring(),
            tracer: tracer.clone(),
            oidc,
            clock: clock.clone(),
            secrets: lives.admin_secrets.clone(),
            key_ring: Arc::new(key_sender),
            changed: Arc::clone(&changed),
            keeper: keeper.clone(),
            data_dir: config.data_dir.clone(),
            started: Instant::now(),
            started_at: clock.now(),
        });
        let first_login = let_in(&admin, &config).await?;

        let parts = StageParts {
            queues: &queues,
            stores: &stores,
            lives: &lives,
            clock: &clock,
            rates: &rates,
            tracer: &tracer,
        };
        Intake::count_recovered(queues.events.depth().items);
        let mut stages = start_alerter(&parts, &changed, &stop_stages).await?;
        delivery.commit(delivery.prepare(&config.targets).map_err(anyhow::Error::msg)?);
        let watching = tokio::spawn(admin.clone().watch_trail(stop_stages.clone()));
        stages.extend([healer, watching, counting, tokio::spawn(retention.watch(stop_stages.clone()))]);
        stages.extend(exporting);

        let certificates = open_certificates(&config, &clock, certificate_board).await?;
        stages.push(certificates.watch(stop_stages.clone()));
        stages.push(admin.keep_key_uses(stop_stages.clone()));
        let gate = Gate::new(lives.ingest.clone());
        let (intake, intake_task) = Intake::start(queues.events.clone(), gate, rates.clone(), tracer.clone());
        let stop_listeners = CancellationToken::new();
        let stop_pages = CancellationToken::new();
        let context = listener_context(&parts, &intake, keys, &board, &stop_listeners)?;
        let probes = web::probes::router(admin.clone(), prometheus, web::WebOptions::default());
        let slots = slots(&context, &admin, &probes, &certificates, &stop_pages);
        let listeners = Listeners::start(slots, &config.listen, board.clone());
        let tls = Mutex::new(config.tls.clone());
        let force = Arc::new(Force { senders, delivery, listeners, certificates, tls, changed, logs });
        force.follow(&keeper);
        stages.push(secrets::watch(admin.clone(), keeper.clone(), stop_stages.clone()));
        tell(&config);

        let greeting = Greeting::new(&config, first_login);
        let tasks = Tasks { stop_listeners, intake: intake_task, stages: (stop_stages, stages), stop_pages };
        Ok((Self { admin, board, intake, queues, stores, keeper, force, tasks }, greeting))
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
        let config = self.keeper.current();
        config.ingest_secrets.api_keys.first().map(|pair| pair.current.clone()).unwrap_or_default()
    }

    /// Reads the configuration again and puts it into force, and has rules, hosts and teams read again. What cannot be used
    /// changes nothing; it is told in the log.
    pub async fn reload(&self) -> Result<(), NotChanged> {
        self.keeper.reload().await?;
        self.force.changed.notify_one();
        let certificates = self.force.certificates.clone();
        // A thread that is gone has read nothing; the files are looked at every second all the same.
        drop(tokio::task::spawn_blocking(move || certificates.reload()).await);
        Ok(())
    }

    /// Takes no more, finishes what is under way, and closes everything. What is still queued is processed after the
    /// next start.
    pub async fn stop(self) {
        let Tasks { stop_listeners, intake, mut stages, stop_pages } = self.tasks;
        finish("listeners", (stop_listeners, self.force.listeners.take_tasks(INPUTS))).await;
        // The batching task ends when nobody can hand over events any more.
        drop(self.intake);
        let pages = (stop_pages, self.force.listeners.take_tasks(&[WEB]));
        stages.1.extend(self.force.delivery.take_tasks());
        // What starts listeners anew holds the way into the intake.
        drop((self.force, self.keeper));
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

/// What alerter and forwarder are built from.
struct StageParts<'a> {
    queues: &'a Queues,
    stores: &'a Stores,
    lives: &'a Lives,
    clock: &'a Clock,
    rates: &'a Rates,
    tracer: &'a Tracer,
}

async fn open_queues(config: &Config) -> anyhow::Result<Queues> {
    let (dir, options) = (config.data_dir.join("queues"), config.queue.clone());
    let targets: Vec<TargetName> = config.targets.targets.iter().map(|target| target.name.clone()).collect();
    tokio::task::spawn_blocking(move || Queues::open(&dir, &targets, &options)).await?.context("cannot open the queues")
}

async fn open_stores(config: &Config, clock: &Clock, lives: &Lives) -> anyhow::Result<Stores> {
    let (dir, clock) = (config.data_dir.join("store"), clock.clone());
    let (recent, audit) = (lives.recent.clone(), lives.audit.clone());
    tokio::task::spawn_blocking(move || Stores::open_with(&dir, clock, recent, audit))
        .await?
        .context("cannot open the stores")
}

async fn open_certificates(config: &Config, clock: &Clock, board: CertificateBoard) -> anyhow::Result<Certificates> {
    let (plan, clock) = (config.tls.clone(), clock.clone());
    Ok(tokio::task::spawn_blocking(move || Certificates::open(plan, clock, board)).await?)
}

/// Makes sure that somebody can log in, and reads the keys of those who need not. Answers how the first one does.
async fn let_in(admin: &Admin, config: &Config) -> anyhow::Result<Option<FirstLogin>> {
    let first_login = admin.ensure_admin(config.admin_password.clone()).await?;
    admin.refresh_keys().await.context("cannot read the API keys")?;
    Ok(first_login)
}

/// Tells what of the configuration has no effect.
fn tell(config: &Config) {
    config.tell_ignored(&[]);
    config.tell_unusable(None);
}

/// What every input is given.
fn listener_context(
    parts: &StageParts<'_>,
    intake: &Intake,
    keys: Live<KeyRing>,
    board: &ListenerBoard,
    stop: &CancellationToken,
) -> anyhow::Result<ListenerContext> {
    Ok(ListenerContext {
        intake: intake.clone(),
        ids: Arc::new(EventIds::new(random_seed()?)),
        clock: parts.clock.clone(),
        settings: parts.lives.ingest.clone(),
        secrets: parts.lives.ingest_secrets.clone(),
        keys,
        board: board.clone(),
        tracer: parts.tracer.clone(),
        release: stop.child_token(),
        stop: stop.clone(),
    })
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
            tracer: parts.tracer.clone(),
        },
        stop.clone(),
    );
    Ok(vec![refresh, worker])
}

/// The forwarders and probers, of no target yet.
fn new_delivery(
    queues: &Queues,
    stores: &Stores,
    lives: &Lives,
    board: &TargetBoard,
    (clock, tracer): (&Clock, &Tracer),
    stop: &CancellationToken,
) -> Delivery {
    Delivery::new(DeliveryParts {
        outboxes: queues.outboxes.clone(),
        dead: queues.dead_alerts.clone(),
        audit: Arc::clone(&stores.audit),
        board: board.clone(),
        remedy: lives.remedy.clone(),
        clock: clock.clone(),
        tracer: tracer.clone(),
        stop: stop.clone(),
    })
}

/// This machine's host name; the program's if it has none.
fn node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "muttd".to_owned() } else { name.to_owned() }
}

fn random_seed() -> anyhow::Result<u64> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
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
