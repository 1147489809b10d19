//! What the alerter may be told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Route;
use crate::model::{TargetName, Team};

/// Which events become audit rows; those that a rule matched always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditScope {
    /// Only those.
    Matched,
    /// Every event.
    All,
    /// And one in so many of the others, chosen by event id so that a repeated batch chooses the same ones.
    Sample(u32),
}

/// What happens to new alerts while the outboxes are too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedMode {
    /// Events wait in the event queue.
    Defer,
    /// Alerts go to `dlq.forwarder`.
    Dlq,
}

impl ShedMode {
    /// The setting's value and the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Defer => "defer",
            Self::Dlq => "dlq",
        }
    }
}

/// Thresholds and options; each field names its key in the dynamic configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `unhandled_threshold`: events of one host and kind within the window that make one meta-alert.
    pub unhandled_threshold: u64,
    /// `unhandled_expiry_seconds`: the window.
    pub unhandled_expiry: Duration,
    /// Hosts and kinds counted at once; beyond, those seen longest ago are forgotten. About 500 bytes each.
    pub unhandled_max_counters: usize,
    /// `unhandled_default_team`: the team of hosts that have none.
    pub unhandled_default_team: Team,
    /// `alerter_max_retries`: further tries for an event whose judging failed.
    pub max_retries: u32,
    /// `alerter_queue_warn_threshold`: alerts waiting that are worth a warning.
    pub queue_warn_threshold: u64,
    /// `alerter_queue_shed_threshold`: alerts waiting from which on `shed_mode` applies.
    pub queue_shed_threshold: u64,
    /// `alerter_shed_mode`.
    pub shed_mode: ShedMode,
    /// `alerter_defer_sleep_ms`: how long to wait before looking again, give or take a half.
    pub defer_sleep: Duration,
    /// `audit`.
    pub audit: AuditScope,
    /// `[targets.route]`: which alerts each target takes; one that is not listed takes none.
    pub routes: BTreeMap<TargetName, Route>,
    /// The targets for alerts that no route takes.
    pub default_targets: Vec<TargetName>,
    /// `cache_reload_interval`: rules and hosts are read again after so long even if no change was noticed.
    pub reload_interval: Duration,
}

impl Settings {
    /// Whether alerts are put into this target's outbox here: not into those of targets that are no longer configured,
    /// nor into one that only takes over for others.
    pub(super) fn sends_to(&self, target: &TargetName) -> bool {
        self.default_targets.contains(target) || self.routes.get(target).is_some_and(|route| !route.only_fallback)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            unhandled_threshold: 100,
            unhandled_expiry: Duration::from_secs(86_400),
            unhandled_max_counters: 100_000,
            unhandled_default_team: Team::new("NETO").expect("NETO is a valid team name"),
            max_retries: 3,
            queue_warn_threshold: 10_000,
            queue_shed_threshold: 1_000_000,
            shed_mode: ShedMode::Defer,
            defer_sleep: Duration::from_millis(250),
            audit: AuditScope::Matched,
            routes: BTreeMap::new(),
            default_targets: vec![TargetName::new("moogsoft").expect("moogsoft is a valid target name")],
            reload_interval: Duration::from_secs(300),
        }
    }
}
