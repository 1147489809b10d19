//! What an operator can do: the one layer that pages, API and command line call.
//!
//! Every change goes through an [`Actor`], so that the change log names who did it, why and with which request. Nothing
//! here renders anything or knows HTTP. A crash in the middle of a call leaves either the old state or the new one: the
//! stores write a change and its line in the change log in one transaction.

mod accounts;
mod actor;
mod api_keys;
mod backup;
mod changes;
mod dead_letter_acts;
mod dead_letter_groups;
mod dead_letters;
mod disk;
mod error;
mod event_way;
mod events;
mod health;
mod inventory;
mod live_events;
mod once;
mod passwords;
mod provider;
mod retention;
mod rule_edits;
mod rule_input;
mod rule_trial;
mod rules;
mod secrets;
mod settings;
mod setup;
mod status;
mod target_definitions;
mod targets;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;
mod trail;
mod transfer;
mod users;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use accounts::{FirstLogin, LoggedIn, SessionInfo};
pub use actor::{Actor, MAX_REASON};
pub use api_keys::{KeyInfo, KeyInput, ShownKey, key_itself};
pub use backup::{Backup, BackupOptions, Manifest, ManifestFile, Restored, restore, verify_backup};
pub use changes::{ChangePage, MAX_CHANGE_ROWS};
pub use dead_letter_acts::{Acted, LetterEdit, Selection};
pub use dead_letter_groups::{DeadGroup, DeadGroups};
pub use dead_letters::{DeadPage, LetterFilter};
pub use disk::{DataUsage, DiskSpace, free_bytes};
pub use error::{AdminError, ItemFault};
pub use event_way::{EventLetter, EventStep, KeptIn};
pub use events::{AuditPage, EventStory, Found};
pub use health::{HealthPart, HealthState};
pub use inventory::HostPage;
pub use live_events::{LiveBatch, LiveEvents};
pub use once::{Once, Turn};
pub use retention::{ArchiveFilter, ArchivePage, Begun, ErasurePlan, RestoreChoice};
pub use rule_edits::{Activity, MAX_BULK_ITEMS, Order, RuleChange, RuleEdit, RuleEdited};
pub use rule_input::{RuleInput, rule_json};
pub use rule_trial::{MAX_TRIAL_DAYS, MAX_TRIAL_SAMPLES, MAX_TRIAL_SECONDS, Trial, TrialDay, TrialOf, TrialSample};
pub use rules::{Explained, RuleList, TestMessage, TestOutcome, suggest_match};
pub use secrets::{
    SecretAct, SecretChanged, SecretLine, SecretLines, SecretView, SlotLine, change_secret_offline, secrets_offline,
};
pub use settings::{IgnoredSetting, SettingView, Settings, setting_text};
pub use setup::issue_setup_token;
pub use status::{Check, Overview, QueueLine, Readiness, VERSION};
pub use target_definitions::{Enabled, TargetDefinition};
pub use targets::{Abandoned, TargetLine, Targets};
pub use trail::{ExportedHead, head_in, sign_head, verify_in};
pub use transfer::{ImportOptions, PlannedChange};
pub use users::{OpenSession, TemporaryPassword, UserInfo};

pub use crate::config::{Changed, Ignored, Origin, Setting};
pub use crate::oidc::Callback as ProviderCallback;
pub use crate::queue::Fault as QueueFault;
pub use crate::remedy::{DeadItem, DeadQueue, DeadRecord, RemedyStatus, RunReport};
pub use crate::store::archive::{ArchiveFault, ArchiveHits, FileName, FileState};
pub use crate::store::{
    ChangeQuery, ChangeRow, DevHost, DeviceTeam, EventQuery, HostQuery, KeptAnswer, Operation, Overrun, PartitionInfo,
    RepeatId, Tampering, TrailFault, TrailHead, TrailReport, Via, rule_tag, team_tag,
};
pub use crate::store::{Erasure, Hold, HoldDraft};
pub use crate::upkeep::retention::{ArchiveCheck, Nearness, Report as RetentionReport, RetentionStatus};
pub use crate::upkeep::slo::{Figures, LevelReport, PrometheusReport, State as LevelState, WindowReport};

use crate::access::KeyRing;
use crate::clock::Clock;
use crate::config::Keeper;
use crate::live::{Live, LiveSender};
use crate::model::Timestamp;
use crate::oidc::Oidc;
use crate::queue::Queues;
use crate::remedy::Remedy;
use crate::secret::SecretPair;
use crate::store::Stores;
use crate::telemetry::logs::LogRing;
use crate::telemetry::trace::Tracer;
use crate::telemetry::{CertificateBoard, ListenerBoard, Rates, TargetBoard};
use crate::upkeep::retention::Retention;
use crate::upkeep::slo::Slo;

/// The keys that open the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminSecrets {
    /// The key that may do everything.
    pub admin_api_key: SecretPair,
}

/// What the layer works on.
#[derive(Clone)]
pub struct AdminParts {
    /// Everything that is kept.
    pub stores: Stores,
    /// Everything that waits.
    pub queues: Queues,
    /// How the listeners are.
    pub listeners: ListenerBoard,
    /// How the delivery targets are.
    pub targets: TargetBoard,
    /// Which certificates the listeners serve.
    pub certificates: CertificateBoard,
    /// How dead letters come back.
    pub remedy: Remedy,
    /// The service levels.
    pub slo: Slo,
    /// How long events are kept.
    pub retention: Retention,
    /// Events per second.
    pub rates: Rates,
    /// The last lines of the log.
    pub logs: LogRing,
    /// Takes the spans of requests.
    pub tracer: Tracer,
    /// Login by a provider, if there is one.
    pub oidc: Option<Oidc>,
    /// The time.
    pub clock: Clock,
    /// The configured API keys.
    pub secrets: Live<AdminSecrets>,
    /// The named API keys, for every port that takes them.
    pub key_ring: Arc<LiveSender<KeyRing>>,
    /// Notified after each change of rules, hosts or teams, so that it takes effect at once.
    pub changed: Arc<Notify>,
    /// The configuration in force, and the way to change it.
    pub keeper: Keeper,
    /// Where everything is kept on disk.
    pub data_dir: PathBuf,
    /// When the process started.
    pub started: Instant,
    /// The same by the wall clock.
    pub started_at: Timestamp,
}

/// The operator's side of the program; clones share everything.
#[derive(Clone)]
pub struct Admin {
    parts: Arc<AdminParts>,
    logins: Arc<Mutex<throttle::Throttle>>,
    hashing: Arc<Semaphore>,
    compiled: Arc<Mutex<Option<Arc<rules::Compiled>>>>,
    secrets: Arc<secrets::Desk>,
    key_refresh: Arc<tokio::sync::Mutex<()>>,
    trail: Arc<Mutex<Option<Arc<TrailReport>>>>,
    trials: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    under_way: Arc<once::UnderWayBoard>,
}

impl Admin {
    /// Builds the layer; starts nothing.
    pub fn new(parts: AdminParts) -> Self {
        Self {
            parts: Arc::new(parts),
            logins: Arc::default(),
            hashing: Arc::new(Semaphore::new(passwords::CONCURRENT_HASHES)),
            compiled: Arc::default(),
            secrets: Arc::default(),
            key_refresh: Arc::default(),
            trail: Arc::default(),
            trials: Arc::new(Semaphore::new(1)),
            backups: Arc::new(Semaphore::new(1)),
            under_way: Arc::default(),
        }
    }

    /// Takes the spans of requests.
    pub fn tracer(&self) -> &Tracer {
        &self.parts.tracer
    }

    /// The last lines of the log.
    pub fn logs(&self) -> &LogRing {
        &self.parts.logs
    }
}
