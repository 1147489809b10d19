//! Keeps the ruling current: rules, development hosts and teams as the store has them, compiled and swapped as one.
//!
//! The store's version is asked for twice a second, which costs a look into memory or one page of SQLite, so a change
//! takes effect within a second whoever made it. A ruling that cannot be loaded leaves the old one in force.
//!
//! Rules are compiled for the traffic that a sample shows ([`super::traffic`]), and again when the first sample is
//! there or the traffic has changed. That changes how long judging takes, never its outcome.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::traffic::{Traffic, Watch};
use super::{Ruling, Settings};
use crate::live::{Live, LiveSender};
use crate::rules::RuleProblem;
use crate::store::{HostQuery, Inventory, RuleBook, StoreError, StoreResult};
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
    /// What to compile for.
    pub traffic: Arc<Traffic>,
    /// The version that is in force already; `None` loads at once.
    pub version: Option<u64>,
    /// Told when to load whatever the version (SIGHUP).
    pub reload: Arc<Notify>,
    /// For `reload_interval`.
    pub settings: Live<Settings>,
}

/// Reads and compiles everything a decision depends on, compiling off the async threads and knowing nothing of the
/// traffic.
pub async fn load_ruling(rules: &dyn RuleBook, inventory: &dyn Inventory) -> StoreResult<Loaded> {
    load(rules, inventory, Arc::default(), Arc::default()).await
}

/// The same for the traffic as sampled; what the rules have in common with those of `previous` is not compiled again.
async fn load(
    rules: &dyn RuleBook,
    inventory: &dyn Inventory,
    previous: Arc<Ruling>,
    traffic: Arc<Traffic>,
) -> StoreResult<Loaded> {
    // Asked first: a change made while the rows are read is then noticed by the next look.
    let version = rules.version().await?;
    let (rows, unreadable) = rules.list().await?;
    let hosts = inventory.dev_hosts(&HostQuery::default()).await?;
    let teams = inventory.device_teams(&HostQuery::default()).await?;
    let compiled = tokio::task::spawn_blocking(move || previous.rules.recompile(&rows, &traffic.sample())).await;
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
    let watch = Watch::new(false, parts.traffic.effort());
    let refresher = Refresher { version: parts.version, parts, loaded_at: Instant::now(), watch, failing: false };
    tokio::spawn(refresher.run(stop))
}

struct Refresher {
    parts: RefreshParts,
    version: Option<u64>,
    loaded_at: Instant,
    /// When to compile because of the traffic.
    watch: Watch,
    failing: bool,
}

impl Refresher {
    async fn run(mut self, stop: CancellationToken) {
        let mut asked = self.version.is_none();
        self.count_active();
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

    /// Only what is in force is counted.
    fn count_active(&self) {
        metrics::gauge!(RULES_ACTIVE).set(self.parts.ruling.get().rules.len() as f64);
    }

    /// Loads if it is asked for, due or the version has moved.
    async fn look(&mut self, asked: bool) -> StoreResult<()> {
        let due = self.loaded_at.elapsed() >= self.parts.settings.get().reload_interval;
        let traffic = &self.parts.traffic;
        let chosen = self.watch.wants_choice(traffic);
        if !asked && !due && !chosen && Some(self.parts.rules.version().await?) == self.version {
            return Ok(());
        }
        let (sampled, effort) = (traffic.is_sampled(), traffic.effort());
        let (rules, inventory) = (self.parts.rules.as_ref(), self.parts.inventory.as_ref());
        let loaded = load(rules, inventory, self.parts.ruling.get(), Arc::clone(traffic)).await?;
        self.watch = Watch::new(sampled, effort);
        let changed = self.version != Some(loaded.version);
        self.version = Some(loaded.version);
        self.loaded_at = Instant::now();
        metrics::counter!(RULES_RELOADS, "result" => "success").increment(1);
        if changed || asked {
            announce(&loaded);
        } else if chosen {
            info!(rules = loaded.ruling.rules.len(), "rules were compiled again for the traffic of now");
        }
        self.parts.ruling.set(loaded.ruling);
        self.count_active();
        Ok(())
    }
}

/// Tells people what is about to be in force.
pub fn announce(loaded: &Loaded) {
    let active = loaded.ruling.rules.len();
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::*;
    use crate::alerter::fixtures::{event, rule};
    use crate::live::live;
    use crate::model::{Environment, Rule, RuleDraft, RuleId, Team};
    use crate::rules::Scratch;
    use crate::store::{Change, DevHost, DeviceTeam};

    /// A rule book in memory whose storage can be made to fail. Nothing but reading is asked of it.
    #[derive(Default)]
    struct Book {
        rules: Mutex<Vec<Rule>>,
        version: Mutex<u64>,
        fails: Mutex<bool>,
    }

    impl Book {
        fn refusal<T>() -> StoreResult<T> {
            Err(StoreError::Invalid("only read in these tests".into()))
        }

        fn set(&self, rules: Vec<Rule>) {
            *self.rules.lock() = rules;
            *self.version.lock() += 1;
        }
    }

    #[async_trait]
    impl RuleBook for Book {
        async fn version(&self) -> StoreResult<u64> {
            if *self.fails.lock() {
                return Err(StoreError::Unavailable { store: "rules".into(), why: "the disk fails".into() });
            }
            Ok(*self.version.lock())
        }

        async fn list(&self) -> StoreResult<(Vec<Rule>, Vec<String>)> {
            Ok((self.rules.lock().clone(), Vec::new()))
        }

        async fn get(&self, _: RuleId) -> StoreResult<Rule> {
            Self::refusal()
        }

        async fn create(&self, _: Vec<RuleDraft>, _: &Change) -> StoreResult<Vec<Rule>> {
            Self::refusal()
        }
    }

    #[async_trait]
    impl Inventory for Book {
        async fn dev_hosts(&self, _: &HostQuery) -> StoreResult<Vec<DevHost>> {
            Ok(vec![DevHost { hostname: "lab1".into() }])
        }

        async fn add_dev_host(&self, _: &str, _: &Change) -> StoreResult<DevHost> {
            Self::refusal()
        }

        async fn remove_dev_host(&self, _: &str, _: &Change) -> StoreResult<()> {
            Self::refusal()
        }

        async fn count_dev_hosts(&self) -> StoreResult<u64> {
            Ok(1)
        }

        async fn count_device_teams(&self) -> StoreResult<u64> {
            Ok(1)
        }

        async fn device_teams(&self, _: &HostQuery) -> StoreResult<Vec<DeviceTeam>> {
            let team_assignment = Team::new("ACCESS").expect("a team");
            Ok(vec![DeviceTeam { hostname: "sw9".into(), team_assignment }])
        }

        async fn add_device_team(&self, _: DeviceTeam, _: &Change) -> StoreResult<DeviceTeam> {
            Self::refusal()
        }
    }

    #[tokio::test]
    async fn a_ruling_is_loaded_with_what_was_left_out() {
        let book = Book::default();
        let mut broken = rule(2, "x(", "Page_only");
        broken.draft.match_type = crate::model::MatchType::Regex;
        book.set(vec![rule(1, "down", "Page_only"), broken]);
        let loaded = load_ruling(&book, &book).await.expect("a ruling");
        assert_eq!((loaded.version, loaded.ruling.rules.len(), loaded.problems.len()), (1, 1, 1));
        assert_eq!(loaded.ruling.environment("LAB1"), Environment::Dev);
        assert_eq!(loaded.ruling.team_of("sw9").map(Team::as_str), Some("ACCESS"));
    }

    #[tokio::test]
    async fn a_change_takes_effect_and_a_failure_leaves_the_old_ruling_in_force() {
        let book = Arc::new(Book::default());
        let (sender, mut ruling) = live(Ruling::default());
        let parts = RefreshParts {
            rules: Arc::clone(&book) as _,
            inventory: Arc::clone(&book) as _,
            ruling: sender,
            traffic: Arc::default(),
            version: None,
            reload: Arc::new(Notify::new()),
            settings: Live::constant(Settings::default()),
        };
        let (reload, stop) = (Arc::clone(&parts.reload), CancellationToken::new());
        let task = refresh(parts, stop.clone());
        let matches = |ruling: &Live<Ruling>| {
            ruling.get().rules.judge(&event("sw1", "link down"), &mut Scratch::default()).is_some()
        };
        ruling.changed().await;
        assert!(!matches(&ruling));
        book.set(vec![rule(1, "down", "Page_only")]);
        ruling.changed().await;
        assert!(matches(&ruling));
        *book.fails.lock() = true;
        book.set(Vec::new());
        reload.notify_one();
        tokio::time::timeout(POLL * 3, ruling.changed()).await.expect_err("nothing can be loaded");
        assert!(matches(&ruling));
        *book.fails.lock() = false;
        ruling.changed().await;
        assert!(!matches(&ruling));
        stop.cancel();
        task.await.expect("the task ends well");
    }

    #[tokio::test]
    async fn rules_are_compiled_again_once_there_is_a_full_sample() {
        let book = Arc::new(Book::default());
        book.set(vec![rule(1, "down", "Page_only")]);
        let loaded = load_ruling(book.as_ref(), book.as_ref()).await.expect("a ruling");
        let (sender, mut ruling) = live(loaded.ruling);
        let traffic = Arc::new(Traffic::default());
        let parts = RefreshParts {
            rules: Arc::clone(&book) as _,
            inventory: Arc::clone(&book) as _,
            ruling: sender,
            traffic: Arc::clone(&traffic),
            version: Some(loaded.version),
            reload: Arc::new(Notify::new()),
            settings: Live::constant(Settings::default()),
        };
        let stop = CancellationToken::new();
        let task = refresh(parts, stop.clone());
        tokio::time::timeout(POLL * 2, ruling.changed()).await.expect_err("nothing has changed");
        traffic.fill("fan failed");
        ruling.changed().await;
        assert_eq!(ruling.get().rules.len(), 1);
        tokio::time::timeout(POLL * 2, ruling.changed()).await.expect_err("the sample is known");
        stop.cancel();
        task.await.expect("the task ends well");
    }
}
