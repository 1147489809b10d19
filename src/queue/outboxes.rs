//! The outboxes of all targets: read all the time, and more of them while the process runs. Readers take a snapshot and wait
//! for nobody. An outbox is opened once and stays open until the queues are closed, whether its target is configured or not:
//! what waits in it must not be lost, and two openings of the same folder must never be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::backend::QueueError;
use super::options::QueueOptions;
use super::sled::SledBackend;
use super::typed::Queue;
use crate::model::{Alert, TargetName};

/// Outboxes by their target.
pub type OutboxMap = BTreeMap<TargetName, Queue<Alert>>;

/// The outboxes of one node; clones share them.
#[derive(Clone)]
pub struct Outboxes {
    all: Arc<ArcSwap<OutboxMap>>,
    /// Where further ones are opened; `None` for queues that are in memory only.
    shelf: Option<Arc<Shelf>>,
}

struct Shelf {
    dir: PathBuf,
    options: QueueOptions,
    /// Held while one is opened.
    turn: Mutex<()>,
}

impl From<OutboxMap> for Outboxes {
    fn from(all: OutboxMap) -> Self {
        Self { all: Arc::new(ArcSwap::from_pointee(all)), shelf: None }
    }
}

impl Outboxes {
    /// Those that are open already, with the place where further ones are opened.
    pub(super) fn on_shelf(all: OutboxMap, dir: PathBuf, options: QueueOptions) -> Self {
        let shelf = Shelf { dir, options, turn: Mutex::new(()) };
        Self { shelf: Some(Arc::new(shelf)), ..Self::from(all) }
    }

    /// All of them as they are now.
    pub fn all(&self) -> Arc<OutboxMap> {
        self.all.load_full()
    }

    /// The outbox of a target.
    pub fn get(&self, target: &TargetName) -> Option<Queue<Alert>> {
        self.all.load().get(target).cloned()
    }

    /// Opens the outbox of a target that has none yet. Blocks on the disk.
    pub fn open(&self, target: &TargetName) -> Result<(), QueueError> {
        let Some(shelf) = &self.shelf else { return Ok(()) };
        let _turn = shelf.turn.lock();
        let mut all = OutboxMap::clone(&self.all.load());
        if all.contains_key(target) {
            return Ok(());
        }
        let name = format!("alert.{target}");
        let backend = SledBackend::open_work(&shelf.dir.join(format!("outbox-{target}")), &name, &shelf.options)?;
        all.insert(target.clone(), Queue::of_singles(&name, Arc::new(backend)));
        self.all.store(Arc::new(all));
        Ok(())
    }
}
