//! Wires retention, for a running appliance and for a command that works on the data directory of one that is stopped.
//! Decides nothing itself.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::force::{Lives, lives};
use super::remediation::reporter;
use super::{node_name, open_queues, open_stores, random_seed};
use crate::admin::free_bytes;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::EventIds;
use crate::queue::Queues;
use crate::store::{Change, Stores};
use crate::upkeep::retention::{ACTOR, Pace, Report, Retention, RetentionError, RetentionParts, Task};

/// Builds retention; starts nothing.
pub(super) fn build(
    queues: &Queues,
    stores: &Stores,
    lives: &Lives,
    clock: &Clock,
    stop: &CancellationToken,
) -> anyhow::Result<Retention> {
    Ok(Retention::new(parts(queues, stores, lives, clock, stop, Pace::Gentle)?))
}

fn parts(
    queues: &Queues,
    stores: &Stores,
    lives: &Lives,
    clock: &Clock,
    stop: &CancellationToken,
    pace: Pace,
) -> anyhow::Result<RetentionParts> {
    let folder = stores.archive.folder().to_owned();
    Ok(RetentionParts {
        stores: stores.clone(),
        settings: lives.retention.clone(),
        tell: reporter(queues, stores, lives),
        free: Arc::new(move || free_bytes(&folder)),
        pace,
        node: node_name(),
        ids: EventIds::new(random_seed()?),
        clock: clock.clone(),
        stop: stop.clone(),
    })
}

/// Retention on the data directory of an appliance that is stopped. It holds the lock of the queues, so that none can start
/// meanwhile, and no second command either.
pub struct Offline {
    queues: Queues,
    stores: Stores,
    retention: Retention,
}

impl Offline {
    /// Opens queues and stores. Fails while an appliance runs.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let (_senders, lives) = lives(config);
        let queues = open_queues(config).await?;
        let stores = open_stores(config, &clock, &lives).await?;
        let stop = CancellationToken::new();
        let retention = Retention::new(parts(&queues, &stores, &lives, &clock, &stop, Pace::Full)?);
        Ok(Self { queues, stores, retention })
    }

    /// Runs, or says what a run would do.
    pub async fn run(&self, dry: Dry, by: &str, reason: Option<&str>) -> Result<Report, RetentionError> {
        let mut change = Change::new(format!("{ACTOR} ({by})"), format!("retention-{}", Clock::system().now()));
        change.reason = reason.map(str::to_owned);
        let task = match dry {
            Dry::No => Task::Run(change),
            Dry::Yes => Task::DryRun(change),
        };
        self.retention.execute(task).await
    }

    /// Closes everything.
    pub async fn close(self) -> anyhow::Result<()> {
        drop(self.retention);
        self.queues.close().await.context("a queue did not close cleanly")?;
        self.stores.close().await.context("a store did not close cleanly")
    }
}

/// Whether only to say what would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dry {
    /// Do it.
    No,
    /// Say it.
    Yes,
}
