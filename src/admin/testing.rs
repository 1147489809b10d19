//! An operator's layer over real stores in a temporary directory and queues in memory, for the tests of this module and
//! of the pages.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Admin, AdminParts, AdminSecrets};
use crate::access::KeyRing;
use crate::clock::Clock;
use crate::config::{Config, Keeper};
use crate::live::{Live, live};
use crate::model::{
    Decision, Environment, Event, EventId, EventIds, Handling, Health, Judged, Matched, Protocol, RuleId, Severity,
    Source, TargetName, Team, Timestamp,
};
use crate::queue::{MemoryBackend, Queue, Queues};
use crate::remedy::{self, Remedy, RemedyParts};
use crate::secret::SecretPair;
use crate::store::{RecentSettings, Stores};
use crate::telemetry::logs::LogRing;
use crate::telemetry::trace::Tracer;
use crate::telemetry::{CertificateBoard, ListenerBoard, ListenerState, Rates, TargetBoard};
use crate::upkeep::retention::{self, Pace, Retention, RetentionParts};
use crate::upkeep::slo::{PrometheusSettings, Settings, Slo, SloParts};

/// 2026-03-01T12:00:00Z.
pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// The layer and what a test reaches around it.
pub(crate) struct TestAdmin {
    pub admin: Admin,
    pub stores: Stores,
    pub queues: Queues,
    pub clock: Clock,
    _dir: TempDir,
}

impl TestAdmin {
    /// Empty stores, one listener that works and one that failed.
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// The same with these lines in its configuration file.
    pub async fn with(file: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("muttd.toml"), file).expect("the file is written");
        let clock = Clock::fixed(NOON);
        let settings = Live::constant(RecentSettings { max_bytes: 64 << 20, max_days: 7 });
        let stores = Stores::open(dir.path(), clock.clone(), settings).expect("opens");
        let queues = memory_queues();
        let listeners = ListenerBoard::default();
        let up = ListenerState::Listening("127.0.0.1:5514".parse().expect("an address"));
        let syslog = listeners.register("syslog_udp", up);
        syslog.count_received(10);
        syslog.count_kernel_drops(3);
        listeners.register("snmp", ListenerState::Failed("port 1162 is taken by snmptrapd; stop it".into()));
        let keeper = Keeper::new(Config::load(dir.path(), None).expect("valid"), Arc::clone(&stores.edits));
        keeper.open(Arc::new(|_| Ok(Box::new(|| {}))));
        let admin = Admin::new(AdminParts {
            stores: stores.clone(),
            queues: queues.clone(),
            listeners,
            targets: TargetBoard::default(),
            certificates: CertificateBoard::default(),
            remedy: remedy(&queues, &clock),
            slo: slo(&stores, &clock).await,
            retention: retention(&stores, &clock),
            rates: Rates::new(clock.clone()),
            logs: LogRing::default(),
            tracer: Tracer::off(),
            oidc: None,
            clock: clock.clone(),
            secrets: Live::constant(AdminSecrets {
                admin_api_key: SecretPair::new("admin_api_key", "current-key").with_next("next-key"),
            }),
            key_ring: Arc::new(live(KeyRing::default()).0),
            changed: Arc::default(),
            keeper,
            data_dir: dir.path().to_owned(),
            started: Instant::now(),
            started_at: clock.now(),
        });
        Self { admin, stores, queues, clock, _dir: dir }
    }
}

/// Service levels of which nothing was counted.
async fn slo(stores: &Stores, clock: &Clock) -> Slo {
    let parts = SloParts {
        levels: Arc::clone(&stores.levels),
        settings: Live::constant(Settings::for_team(Team::new("NETO").expect("a valid name"))),
        read: Arc::new(String::new),
        tell: Arc::new(|_| Box::pin(async { Ok(()) })),
        node: "muttd".to_owned(),
        ids: EventIds::new(9),
        prometheus: PrometheusSettings::default(),
        clock: clock.clone(),
    };
    Slo::start(parts, CancellationToken::new()).await.expect("starts").0
}

/// Retention that runs on request only.
fn retention(stores: &Stores, clock: &Clock) -> Retention {
    Retention::new(RetentionParts {
        stores: stores.clone(),
        settings: Live::constant(retention::Settings::for_team(Team::new("NETO").expect("a valid name"))),
        tell: Arc::new(|_| Box::pin(async { Ok(()) })),
        free: Arc::new(|| None),
        pace: Pace::Full,
        node: "muttd".to_owned(),
        ids: EventIds::new(11),
        clock: clock.clone(),
        stop: CancellationToken::new(),
    })
}

/// A remediation that runs on request only.
fn remedy(queues: &Queues, clock: &Clock) -> Remedy {
    let team = Team::new("NETO").expect("a valid name");
    let moogsoft = TargetName::new("moogsoft").expect("a valid name");
    let parts = RemedyParts {
        queues: queues.clone(),
        health: Live::constant(BTreeMap::from([(
            moogsoft.clone(),
            Live::constant(Health::probed(moogsoft, NOON, Ok(()))),
        )])),
        settings: Live::constant(remedy::Settings { enabled: false, ..remedy::Settings::for_team(team) }),
        report: Arc::new(|_| Box::pin(async { Ok(()) })),
        node: "mutt1".into(),
        ids: EventIds::new(1),
        clock: clock.clone(),
    };
    Remedy::start(parts, CancellationToken::new()).0
}

fn memory_queues() -> Queues {
    let singles = |name: &str| Arc::new(MemoryBackend::new(name));
    let moogsoft = TargetName::new("moogsoft").expect("a valid name");
    Queues {
        events: Queue::of_batches("ingest", singles("ingest")),
        outboxes: BTreeMap::from([(moogsoft, Queue::of_singles("alert", singles("alert")))]).into(),
        dead_events: Queue::of_singles("dlq.alerter", singles("dlq.alerter")),
        dead_alerts: Queue::of_singles("dlq.forwarder", singles("dlq.forwarder")),
        dead: Queue::of_singles("dead", singles("dead")),
    }
}

/// An event that no rule matched, the `number`-th of its second.
pub(crate) fn judged(number: u8, hostname: &str, message: &str) -> Judged {
    let millis = u128::try_from(NOON.as_millis()).expect("after 1970");
    // A version 7 UUID whose last byte tells it from the others and orders them.
    let bits = (millis << 80) | (0x7 << 76) | (u128::from(number) << 64) | (0b10 << 62) | u128::from(number);
    let source = Source { protocol: Protocol::SyslogUdp, peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)) };
    let mut event = Event::new(EventId::from_bytes(bits.to_be_bytes()), NOON, source);
    event.hostname = hostname.into();
    event.message = message.into();
    event.raw = format!("<11>{message}").into();
    event.severity = Severity::new(3);
    event.facility = Some(1);
    Judged { event, decision: Decision { environment: Environment::Prod, matched: None } }
}

/// The same event, matched by a rule that forwards it.
pub(crate) fn matched(number: u8, hostname: &str, message: &str, rule: i64) -> Judged {
    let mut judged = judged(number, hostname, message);
    judged.decision.matched = Some(Matched {
        rule: RuleId(rule),
        handling: Handling::PageOnly,
        team: Team::new("NETO").expect("a valid name"),
    });
    judged
}
