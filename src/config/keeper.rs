//! The one way by which a changed configuration comes into force: read or changed, checked as a whole, prepared, kept, put
//! into force - one change at a time.
//!
//! Whatever fails before the last step changes nothing: what cannot be used is refused before it is written, and what
//! cannot be written is not put into force. The last step cannot fail. A crash between writing and the last step leaves
//! the new setting in the store, and the next start puts it into force. A caller that goes away does not leave a change
//! half done: it is carried out by a task of its own.

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use super::keys::Key;
use super::{Config, ConfigError, Setting, TargetEdit};
use crate::live::{LiveSender, live};
use crate::store::{Change, ConfigEdit, ConfigEdits, StoreError, target_tag};
use crate::telemetry::metrics::{CONFIG_IN_FORCE, CONFIG_RELOADS};

/// Puts what was prepared into force; it cannot fail.
pub type Commit = Box<dyn FnOnce() + Send>;

/// Makes everything ready for a configuration without touching what is in force; the error is for people. It may block,
/// and is called on a thread where it may, within the runtime.
pub type Prepare = Arc<dyn Fn(&Config) -> Result<Commit, String> + Send + Sync>;

/// Why everything stayed as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotChanged {
    /// The value, or the file or environment, cannot be used: correct it. The text names the key and what it may be.
    #[error("{0}")]
    Invalid(String),
    /// It was checked against an older value than the one in force: look again.
    #[error("`{key}` is `{current}` meanwhile; look at it and decide again")]
    Outdated {
        /// The key.
        key: &'static str,
        /// The value in force.
        current: String,
    },
    /// The change cannot be written now: try again.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The process is not ready for changes: try again in a moment.
    #[error("the appliance is starting or stopping; try again in a moment")]
    NotReady,
}

impl From<ConfigError> for NotChanged {
    fn from(error: ConfigError) -> Self {
        Self::Invalid(error.0)
    }
}

/// What is to become of one dynamic key.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The key.
    pub key: &'static Key,
    /// Its value; `None` has it come from environment, file or default again.
    pub value: Option<String>,
    /// Only if this is the value in force.
    pub expected: Option<String>,
}

/// A change of one setting that was carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Before.
    pub before: Setting,
    /// After; the same if it was so already.
    pub after: Setting,
}

/// Holds the configuration in force; clones share it.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    config: LiveSender<Config>,
    edits: Arc<dyn ConfigEdits>,
    prepare: OnceLock<Prepare>,
    /// Its one permit is the right to change something.
    turn: Arc<Semaphore>,
}

impl Keeper {
    /// Holds `config`, which is in force already; changes are refused until [`Keeper::open`].
    pub fn new(config: Config, edits: Arc<dyn ConfigEdits>) -> Self {
        let (config, prepare) = (live(config).0, OnceLock::new());
        let shared = Shared { config, edits, prepare, turn: Arc::new(Semaphore::new(1)) };
        Self { shared: Arc::new(shared) }
    }

    /// From now on changes are prepared by `prepare`. Only the first call counts.
    pub fn open(&self, prepare: Prepare) {
        // A second caller would be a fault of the program's own start; the first one's way stays in use.
        let _ = self.shared.prepare.set(prepare);
        metrics::gauge!(CONFIG_IN_FORCE).set(1.0);
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<Config> {
        self.shared.config.get()
    }

    /// Reads file, environment, store and secrets again and puts them into force.
    pub async fn reload(&self) -> Result<(), NotChanged> {
        let shared = Arc::clone(&self.shared);
        let outcome = self.in_turn(async move {
            let current = shared.config.get();
            let config = on_blocking_thread(move || current.read_again()).await??;
            let (config, commit) = shared.prepare(config).await?;
            shared.put_into_force(config, commit).await
        });
        let outcome = outcome.await;
        count(outcome.is_ok());
        match &outcome {
            Ok(()) => tracing::info!("Configuration read again and put into force"),
            Err(error) => tracing::error!("Configuration kept as it was: {error}"),
        }
        outcome
    }

    /// Reads the secrets of every source again, and nothing else, and puts them into force.
    pub async fn reload_secrets(&self) -> Result<(), NotChanged> {
        let shared = Arc::clone(&self.shared);
        self.in_turn(async move {
            let current = shared.config.get();
            let config = on_blocking_thread(move || current.read_secrets_again()).await??;
            let (config, commit) = shared.prepare(config).await?;
            shared.put_into_force(config, commit).await
        })
        .await
    }

    /// Changes dynamic keys, all of them or none.
    pub async fn set(&self, wishes: Vec<Wish>, change: Change) -> Result<Vec<Changed>, NotChanged> {
        self.carry_out(wishes, Vec::new(), None, Vec::new(), change).await
    }

    /// Changes kept targets, all of them or none; with `expected` only if the target of that name has one of these tags.
    pub async fn set_targets(
        &self,
        edits: Vec<TargetEdit>,
        expected: Option<(String, Vec<String>)>,
        change: Change,
    ) -> Result<(), NotChanged> {
        self.carry_out(Vec::new(), edits, expected, Vec::new(), change).await.map(drop)
    }

    /// Changes settings, targets and whatever else `edits` say, all of it or none.
    pub async fn import(
        &self,
        wishes: Vec<Wish>,
        targets: Vec<TargetEdit>,
        edits: Vec<ConfigEdit>,
        change: Change,
    ) -> Result<(), NotChanged> {
        self.carry_out(wishes, targets, None, edits, change).await.map(drop)
    }

    /// One candidate, one transaction, one switch.
    async fn carry_out(
        &self,
        wishes: Vec<Wish>,
        targets: Vec<TargetEdit>,
        expected: Option<(String, Vec<String>)>,
        mut edits: Vec<ConfigEdit>,
        change: Change,
    ) -> Result<Vec<Changed>, NotChanged> {
        let shared = Arc::clone(&self.shared);
        self.in_turn(async move {
            let current = shared.config.get();
            let before: Vec<Setting> = wishes.iter().map(|wish| current.setting(wish.key)).collect();
            if let Some(outdated) = outdated(&wishes, &before).or_else(|| stale(&current, expected)) {
                return Err(outdated);
            }
            let wanted = targets.clone();
            let make = move || current.with_settings(&wishes)?.with_targets(&wanted);
            let candidate = on_blocking_thread(make).await??;
            let after: Vec<Setting> = before.iter().map(|setting| candidate.setting(setting.key)).collect();
            let prepared = shared.prepare(candidate).await;
            count(prepared.is_ok());
            let (candidate, commit) = prepared?;
            edits.extend(after.iter().map(kept));
            edits.extend(targets.into_iter().map(|edit| match edit {
                TargetEdit::Keep(target) => ConfigEdit::PutTarget(target.name.clone(), Some(target)),
                TargetEdit::Forget(name) => ConfigEdit::PutTarget(name, None),
            }));
            shared.edits.apply(edits, &change).await?;
            shared.put_into_force(candidate, commit).await?;
            for setting in &after {
                let (key, value) = (setting.key.name, &setting.text);
                tracing::info!(key, value, by = change.by, "A setting was changed");
            }
            Ok(before.into_iter().zip(after).map(|(before, after)| Changed { before, after }).collect())
        })
        .await
    }

    /// What `import` would refuse of settings and targets; nothing is changed.
    pub async fn check(&self, wishes: Vec<Wish>, targets: Vec<TargetEdit>) -> Result<(), NotChanged> {
        let current = self.shared.config.get();
        on_blocking_thread(move || current.with_settings(&wishes)?.with_targets(&targets)).await??;
        Ok(())
    }

    /// Forgets what is kept under a name that is no key here.
    pub async fn forget(&self, name: &str, change: Change) -> Result<(), NotChanged> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        self.in_turn(async move {
            shared.edits.apply(vec![ConfigEdit::PutSetting(name.clone(), None)], &change).await?;
            let config = shared.config.get().without_ignored(&name);
            shared.config.set(config);
            Ok(())
        })
        .await
    }

    /// Runs `work` when nobody else changes anything, to its end even if the caller goes away.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, NotChanged>> + Send + 'static,
    ) -> Result<T, NotChanged> {
        let turn = Arc::clone(&self.shared.turn).acquire_owned().await.map_err(|_| NotChanged::NotReady)?;
        let task = tokio::spawn(async move {
            let outcome = work.await;
            drop(turn);
            outcome
        });
        // A panic in it was logged where it happened; nothing was put into force then.
        task.await.unwrap_or(Err(NotChanged::NotReady))
    }
}

impl Shared {
    async fn prepare(&self, config: Config) -> Result<(Config, Commit), NotChanged> {
        let prepare = self.prepare.get().cloned().ok_or(NotChanged::NotReady)?;
        on_blocking_thread(move || {
            let commit = prepare(&config).map_err(NotChanged::Invalid)?;
            Ok((config, commit))
        })
        .await?
    }

    async fn put_into_force(&self, config: Config, commit: Commit) -> Result<(), NotChanged> {
        on_blocking_thread(commit).await?;
        let known = self.config.get().ignored().to_vec();
        config.tell_ignored(&known);
        config.tell_unusable(Some(&self.config.get().targets));
        self.config.set(config);
        Ok(())
    }
}

async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotChanged> {
    tokio::task::spawn_blocking(work).await.map_err(|_| NotChanged::NotReady)
}

/// What the store is to keep of a setting.
fn kept(setting: &Setting) -> ConfigEdit {
    let value = setting.beneath.is_some().then(|| setting.text.clone());
    ConfigEdit::PutSetting(setting.key.name.to_owned(), value)
}

/// The first wish that was made for another value than the one in force.
fn outdated(wishes: &[Wish], current: &[Setting]) -> Option<NotChanged> {
    let mut pairs = wishes.iter().zip(current);
    let differs = |wish: &Wish, setting: &Setting| wish.expected.as_ref().is_some_and(|text| *text != setting.text);
    let (wish, setting) = pairs.find(|(wish, setting)| differs(wish, setting))?;
    Some(NotChanged::Outdated { key: wish.key.name, current: setting.text.clone() })
}

/// Whether the target of the name in `expected` has none of the tags there.
fn stale(current: &Config, expected: Option<(String, Vec<String>)>) -> Option<NotChanged> {
    let (key, tags) = expected?;
    let tag = current.kept_targets().iter().find(|target| target.name == key).map(target_tag).unwrap_or_default();
    (!tags.contains(&tag)).then(|| StoreError::Stale { what: "target", key, tag }.into())
}

fn count(succeeded: bool) {
    let status = if succeeded { "success" } else { "failure" };
    metrics::counter!(CONFIG_RELOADS, "status" => status).increment(1);
    metrics::gauge!(CONFIG_IN_FORCE).set(if succeeded { 1.0 } else { 0.0 });
}

#[cfg(test)]
mod tests {
    use super::super::keys::find_id;
    use super::*;
    use crate::clock::Clock;
    use crate::live::Live;
    use crate::store::{ChangeQuery, RecentSettings, Stores, kept_settings};
    use parking_lot::Mutex;
    use tempfile::TempDir;

    fn change() -> Change {
        Change::new("alice", "c-1")
    }

    fn wish(key: &str, value: Option<&str>, expected: Option<&str>) -> Wish {
        let key = find_id(key).expect("a key");
        Wish { key, value: value.map(str::to_owned), expected: expected.map(str::to_owned) }
    }

    /// A keeper over real stores; what it put into force last.
    struct House {
        keeper: Keeper,
        stores: Stores,
        threshold: Arc<Mutex<u64>>,
        dir: TempDir,
    }

    /// `refuse`: the threshold that cannot be prepared.
    fn house(refuse: u64) -> House {
        let dir = tempfile::tempdir().expect("a directory");
        let recent = Live::constant(RecentSettings { max_bytes: 64 << 20, max_days: 7 });
        let stores = Stores::open(&dir.path().join("store"), Clock::system(), recent).expect("opens");
        let keeper = Keeper::new(Config::load(dir.path(), None).expect("valid"), Arc::clone(&stores.edits));
        let threshold = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&threshold);
        keeper.open(Arc::new(move |config| {
            let (wanted, seen) = (config.alerter.unhandled_threshold, Arc::clone(&seen));
            if wanted == refuse {
                return Err("this port is taken".to_owned());
            }
            Ok(Box::new(move || *seen.lock() = wanted))
        }));
        House { keeper, stores, threshold, dir }
    }

    impl House {
        async fn set(&self, value: Option<&str>, expected: Option<&str>) -> Result<Changed, NotChanged> {
            let wish = wish("unhandled_threshold", value, expected);
            Ok(self.keeper.set(vec![wish], change()).await?.remove(0))
        }

        /// What was put into force last.
        fn seen(&self) -> u64 {
            *self.threshold.lock()
        }

        async fn kept(&self) -> Option<String> {
            kept_settings(&self.dir.path().join("store")).expect("read").remove("unhandled_threshold")
        }

        async fn lines(&self) -> usize {
            let query = ChangeQuery { limit: 100, ..ChangeQuery::default() };
            self.stores.changes.changes(&query).await.expect("lines").len()
        }
    }

    #[tokio::test]
    async fn a_setting_is_kept_logged_and_in_force_and_a_reset_brings_back_what_was() {
        let house = house(0);
        let changed = house.set(Some("7"), Some("100")).await.expect("valid");
        assert_eq!((changed.before.text.as_str(), changed.after.text.as_str()), ("100", "7"));
        assert_eq!((house.seen(), house.kept().await.as_deref(), house.lines().await), (7, Some("7"), 1));
        assert_eq!(house.keeper.current().alerter.unhandled_threshold, 7);
        let restarted = Config::load(house.dir.path(), None).expect("valid");
        assert_eq!(restarted.alerter.unhandled_threshold, 7, "a restart keeps it");
        house.set(None, None).await.expect("valid");
        assert_eq!((house.seen(), house.kept().await, house.lines().await), (100, None, 2));
    }

    #[tokio::test]
    async fn what_fails_changes_nothing() {
        let house = house(13);
        for (value, expected, named) in [
            ("0", None, "`unhandled_threshold` is `0`, but must be a whole number from 1 to"),
            ("13", None, "this port is taken"),
            ("8", Some("99"), "`unhandled_threshold` is `100` meanwhile"),
        ] {
            let error = house.set(Some(value), expected).await.expect_err("refused").to_string();
            assert!(error.contains(named), "{error}");
            assert_eq!((house.kept().await, house.lines().await, house.seen()), (None, 0, 0));
            assert_eq!(house.keeper.current().alerter.unhandled_threshold, 100);
        }
    }

    #[tokio::test]
    async fn keys_that_must_fit_each_other_are_changed_together() {
        let house = house(0);
        let [warn, shed] = ["alerter_queue_warn_threshold", "alerter_queue_shed_threshold"];
        let refused = house.keeper.set(vec![wish(shed, Some("5"), None)], change()).await;
        assert!(matches!(refused, Err(NotChanged::Invalid(_))), "{refused:?}");
        let both = vec![wish(shed, Some("5"), None), wish(warn, Some("4"), None)];
        house.keeper.set(both, change()).await.expect("they fit");
        let refused = vec![wish(warn, Some("3"), None), wish(shed, Some("-1"), None)];
        house.keeper.set(refused, change()).await.expect_err("one of them is out of range");
        let settings = &house.keeper.current().alerter;
        assert_eq!((settings.queue_warn_threshold, settings.queue_shed_threshold, house.lines().await), (4, 5, 2));
    }

    #[tokio::test]
    async fn a_reload_reads_the_file_again_and_a_wrong_file_changes_nothing() {
        let house = house(0);
        house.set(Some("7"), None).await.expect("valid");
        let file = house.dir.path().join("muttd.toml");
        std::fs::write(&file, "[dynamic]\nunhandled_threshold = 55\nmoog_rate_limit = 3\n").expect("written");
        house.set(Some("8"), None).await.expect("valid");
        assert_eq!(house.keeper.current().targets.targets[0].settings.rate_limit, Some(50), "the file was not read");
        house.keeper.reload().await.expect("valid");
        let config = house.keeper.current();
        assert_eq!(config.targets.targets[0].settings.rate_limit, Some(3));
        assert_eq!(config.alerter.unhandled_threshold, 8, "what is kept wins over the file");
        std::fs::write(&file, "[dynamic]\nmoog_rate_limit = -3\n").expect("written");
        let error = house.keeper.reload().await.expect_err("refused").to_string();
        assert!(error.contains("moog_rate_limit"), "{error}");
        assert_eq!(house.keeper.current().targets.targets[0].settings.rate_limit, Some(3));
    }

    #[tokio::test]
    async fn changes_are_made_one_after_the_other_and_a_caller_that_goes_away_leaves_none_half_done() {
        let house = house(0);
        let set = |number: u64| {
            let (keeper, number) = (house.keeper.clone(), number.to_string());
            async move { keeper.set(vec![wish("unhandled_threshold", Some(&number), None)], change()).await }
        };
        let all = (1..=20).map(set);
        futures_util::future::join_all(all).await.into_iter().for_each(|outcome| drop(outcome.expect("valid")));
        let kept = house.kept().await.expect("kept");
        assert_eq!(kept, house.threshold.lock().to_string());
        assert_eq!(kept, house.keeper.current().alerter.unhandled_threshold.to_string());
        assert_eq!(house.lines().await, 20);
    }
}
