//! Keeps the ruling current: rules, development hosts and teams as the store has them, compiled and swapped as one.
//!
//! The store's version is asked for twice a second, which costs a look into memory or one page of SQLite, so a change
//! takes effect within a second whoever made it. A ruling that cannot be loaded leaves the old one in force.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Ruling, Settings};
use crate::live::{Live, LiveSender};
use crate::rules::{RuleProblem, RuleSet};
use crate::store::{Inventory, RuleBook, StoreError, StoreResult};
use crate::telemetry::metrics::{RULES_ACTIVE, RULES_RELOADS};

/// How often the version is asked for: saved rules take effect within a second.
const POLL: Duration = Duration::from_millis(500);
/// Faulty rules named in the log, at most.
const NAMED_PROBLEMS: usize = 20;

/// A ruling as loaded.
#[derive(Debug)]
pub struct Loaded {
    /// What to judge by.
    pub ruling: Ruling,
    /// Rules that were left out.
    pub problems: Vec<RuleProblem>,
    /// Rows of the rule table that could not be read, in words.
    pub unreadable: Vec<String>,
    /// The store's version that this is of, or a later one.
    pub version: u64,
}

/// What [`refresh`] works with.
pub struct RefreshParts {
    /// Rules and the version.
    pub rules: Arc<dyn RuleBook>,
    /// Hosts.
    pub inventory: Arc<dyn Inventory>,
    /// Where the ruling goes.
    pub ruling: LiveSender<Ruling>,
    /// The version that is in force already; `None` loads at once.
    pub version: Option<u64>,
    /// Told when to load whatever the version (SIGHUP).
    pub reload: Arc<Notify>,
    /// For `reload_interval`.
    pub settings: Live<Settings>,
}

/// Reads and compiles everything a decision depends on, compiling off the async threads.
pub async fn load_ruling(rules: &dyn RuleBook, inventory: &dyn Inventory) -> StoreResult<Loaded> {
    // Asked first: a change made while the rows are read is then noticed by the next look.
    let version = rules.version().await?;
    let (rows, unreadable) = rules.list().await?;
    let hosts = inventory.dev_hosts().await?;
    let teams = inventory.device_teams().await?;
    let compiled = tokio::task::spawn_blocking(move || RuleSet::compile(&rows)).await;
    let (rules, problems) = compiled.map_err(|error| StoreError::Unavailable {
        store: "rules".to_owned(),
        why: format!("they could not be compiled: {error}"),
    })?;
    let dev_hosts: HashSet<String> = hosts.into_iter().map(|host| host.hostname).collect();
    let teams: HashMap<_, _> = teams.into_iter().map(|row| (row.hostname, row.team_assignment)).collect();
    Ok(Loaded { ruling: Ruling { rules, dev_hosts, teams }, problems, unreadable, version })
}

/// Starts the task that keeps the ruling current; it ends when `stop` is cancelled.
pub fn refresh(parts: RefreshParts, stop: CancellationToken) -> JoinHandle<()> {
    let refresher = Refresher { version: parts.version, parts, loaded_at: Instant::now(), failing: false };
    tokio::spawn(refresher.run(stop))
}

struct Refresher {
    parts: RefreshParts,
    version: Option<u64>,
    loaded_at: Instant,
    failing: bool,
}

impl Refresher {
    async fn run(mut self, stop: CancellationToken) {
        let mut asked = self.version.is_none();
        loop {
            if let Err(error) = self.look(asked).await {
                metrics::counter!(RULES_RELOADS, "result" => "failure").increment(1);
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, "rules cannot be loaded; the old ones stay in force");
                }
            } else if std::mem::take(&mut self.failing) {
                info!("rules can be loaded again");
            }
            asked = tokio::select! {
                () = stop.cancelled() => return,
                () = self.parts.reload.notified() => true,
                // After a failure the next look must load, whatever the version.
                () = tokio::time::sleep(POLL) => self.failing,
            };
        }
    }

    /// Loads if it is asked for, due or the version has moved.
    async fn look(&mut self, asked: bool) -> StoreResult<()> {
        let due = self.loaded_at.elapsed() >= self.parts.settings.get().reload_interval;
        if !asked && !due && Some(self.parts.rules.version().await?) == self.version {
            return Ok(());
        }
        let loaded = load_ruling(self.parts.rules.as_ref(), self.parts.inventory.as_ref()).await?;
        let changed = self.version != Some(loaded.version);
        self.version = Some(loaded.version);
        self.loaded_at = Instant::now();
        metrics::counter!(RULES_RELOADS, "result" => "success").increment(1);
        if changed || asked {
            announce(&loaded);
        }
        self.parts.ruling.set(loaded.ruling);
        Ok(())
    }
}

/// Tells metrics and people what is in force from now on.
pub fn announce(loaded: &Loaded) {
    let active = loaded.ruling.rules.len();
    metrics::gauge!(RULES_ACTIVE).set(active as f64);
    let costly = loaded.ruling.rules.costly().count();
    let (hosts, teams) = (loaded.ruling.dev_hosts.len(), loaded.ruling.teams.len());
    info!(rules = active, costly_rules = costly, dev_hosts = hosts, device_teams = teams, "rules are in force");
    for problem in loaded.problems.iter().take(NAMED_PROBLEMS) {
        warn!(rule.id = %problem.rule, why = problem.why, "a rule is left out");
    }
    for row in loaded.unreadable.iter().take(NAMED_PROBLEMS) {
        warn!(why = row, "a rule cannot be read and is left out");
    }
}
