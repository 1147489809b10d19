//! The partitions there are, shared by the writer and the readers: their files, what is known of each, and the reading
//! connections that are kept open.
//!
//! A file is opened when it is first read and its connection kept for the next reader, [`IDLE_READERS`] of them over all
//! partitions and none longer than [`IDLE_TIME`] after its last use, so that years of months cost neither descriptors
//! nor memory. Files that are removed or restored while the process runs are told by [`Months::remove`] and
//! [`Months::add`]; readers under way finish on the file they have open. Nothing here writes.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tracing::error;

use super::connect::{Fault, open_reader};
use super::facts::Facts;
use super::partition::{Month, Partition};
use crate::telemetry::metrics::STORE_DAMAGED;

/// Ordinals tried for an event whose own is taken by another one.
pub(super) const PROBES: i64 = 64;
/// Reading connections kept open over all partitions: three descriptors and up to 2 MiB of pages each.
const IDLE_READERS: usize = 12;
/// How long a connection that nobody uses is kept.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// A partition's file, for readers.
#[derive(Debug)]
pub(super) struct PartitionFile {
    pub(super) partition: Partition,
    path: PathBuf,
    /// What is known of it; nothing before it was first opened.
    facts: Mutex<Option<Facts>>,
    /// Whether damage in it was logged: once a file and process is enough.
    pub(super) damage_told: AtomicBool,
    /// Whether the file is no longer one of the audit's.
    removed: AtomicBool,
}

impl PartitionFile {
    /// What is known of it without opening it.
    pub(super) fn known_facts(&self) -> Option<Facts> {
        *self.facts.lock()
    }

    /// What the writer knows after a transaction.
    pub(super) fn learn(&self, facts: Facts) {
        *self.facts.lock() = Some(facts);
    }
}

/// A reading connection that nobody uses at the moment.
#[derive(Debug)]
struct Idle {
    file: Arc<PartitionFile>,
    connection: Connection,
    since: Instant,
}

/// The partitions there are.
#[derive(Debug)]
pub(super) struct Months {
    folder: PathBuf,
    files: Mutex<BTreeMap<Partition, Arc<PartitionFile>>>,
    idle: Mutex<Vec<Idle>>,
}

impl Months {
    /// Looks which files there are.
    pub(super) fn scan(folder: &Path) -> std::io::Result<Self> {
        let months =
            Self { folder: folder.to_owned(), files: Mutex::new(BTreeMap::new()), idle: Mutex::new(Vec::new()) };
        for entry in std::fs::read_dir(folder)? {
            if let Some(partition) = entry?.file_name().to_str().and_then(Partition::of_file) {
                months.add(partition);
            }
        }
        Ok(months)
    }

    /// Where a partition's file is or would be.
    pub(super) fn path(&self, partition: Partition) -> PathBuf {
        self.folder.join(partition.file_name())
    }

    /// A file was made or put back; readers of one that was there before are let go.
    pub(super) fn add(&self, partition: Partition) -> Arc<PartitionFile> {
        self.remove(partition);
        let file = Arc::new(PartitionFile {
            partition,
            path: self.path(partition),
            facts: Mutex::new(None),
            damage_told: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        });
        self.files.lock().insert(partition, Arc::clone(&file));
        file
    }

    /// A file is about to be removed or was set aside: no reader begins on it any more.
    pub(super) fn remove(&self, partition: Partition) {
        if let Some(file) = self.files.lock().remove(&partition) {
            file.removed.store(true, Ordering::Relaxed);
        }
        self.idle.lock().retain(|idle| idle.file.partition != partition);
    }

    /// A partition's file, if there is one.
    pub(super) fn get(&self, partition: Partition) -> Option<Arc<PartitionFile>> {
        self.files.lock().get(&partition).cloned()
    }

    /// Whether there is a file of this month.
    pub(super) fn has(&self, month: Month) -> bool {
        self.files.lock().keys().any(|partition| partition.month == month)
    }

    /// The files of one month, the part begun last first.
    pub(super) fn of_month(&self, month: Month) -> Vec<Arc<PartitionFile>> {
        let files = self.files.lock();
        files.values().rev().filter(|file| file.partition.month == month).cloned().collect()
    }

    /// All files, newest first.
    pub(super) fn newest_first(&self) -> Vec<Arc<PartitionFile>> {
        self.files.lock().values().rev().cloned().collect()
    }

    /// A connection to read a partition with; only for threads that may block.
    pub(super) fn lease(self: &Arc<Self>, file: &Arc<PartitionFile>) -> Result<Lease, Fault> {
        let kept = {
            let mut idle = self.idle.lock();
            let position = idle.iter().rposition(|idle| Arc::ptr_eq(&idle.file, file));
            position.map(|position| idle.remove(position).connection)
        };
        let connection = match kept {
            Some(connection) => connection,
            None => open_reader(&file.path)?,
        };
        Ok(Lease { months: Arc::clone(self), file: Arc::clone(file), connection: Some(connection), sound: true })
    }

    /// Runs `body` with a connection to a partition; only for threads that may block.
    pub(super) fn read<T>(
        self: &Arc<Self>,
        file: &Arc<PartitionFile>,
        body: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut lease = self.lease(file)?;
        let result = body(&lease);
        if result.is_err() {
            lease.spoil();
        }
        result
    }

    /// What a partition tells about itself; it is opened if it never was.
    pub(super) fn facts(self: &Arc<Self>, file: &Arc<PartitionFile>) -> Result<Facts, Fault> {
        if let Some(facts) = file.known_facts() {
            return Ok(facts);
        }
        let facts = self.read(file, Facts::read)?;
        // The writer may have learnt something newer meanwhile.
        Ok(*file.facts.lock().get_or_insert(facts))
    }

    /// Takes a connection back, and closes those that are too many or too old.
    fn give_back(&self, file: &Arc<PartitionFile>, connection: Connection) {
        let mut idle = self.idle.lock();
        if !file.removed.load(Ordering::Relaxed) {
            idle.push(Idle { file: Arc::clone(file), connection, since: Instant::now() });
        }
        idle.retain(|idle| idle.since.elapsed() < IDLE_TIME);
        if idle.len() > IDLE_READERS {
            idle.remove(0);
        }
    }

    /// Reading connections that are open and unused.
    #[cfg(test)]
    pub(super) fn idle_readers(&self) -> usize {
        self.idle.lock().len()
    }
}

/// A reading connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    months: Arc<Months>,
    file: Arc<PartitionFile>,
    /// There until it is dropped.
    connection: Option<Connection>,
    sound: bool,
}

impl Lease {
    /// Something went wrong on it: it is closed instead of being given back.
    pub(super) fn spoil(&mut self) {
        self.sound = false;
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A search reads in one transaction; whatever is open ends here.
        let ended = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        if self.sound && ended {
            self.months.give_back(&self.file, connection);
        }
    }
}

/// A file that is damaged, or that was removed a moment ago, is left out, so that the others can still be searched; the
/// writer sets a damaged one aside when it meets the damage.
pub(super) fn tolerate_damage<T>(file: &PartitionFile, result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(_) if file.removed.load(Ordering::Relaxed) => Ok(None),
        Err(fault) if fault.is_damage() => {
            metrics::counter!(STORE_DAMAGED, "store" => "database").increment(1);
            if !file.damage_told.swap(true, Ordering::Relaxed) {
                error!(partition = %file.partition, reason = ?fault, "the audit of {} is damaged; searches leave part of it out", file.partition);
            }
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::connect::open_writer;
    use crate::store::sqlite::schema::AUDIT;

    #[test]
    fn years_of_partitions_keep_only_some_connections_open() {
        let folder = tempfile::tempdir().unwrap();
        let mut month = Month::of_millis(1_790_000_000_000);
        for _ in 0..30 {
            drop(open_writer(&folder.path().join(Partition::first(month).file_name()), AUDIT).unwrap());
            month = month.next();
        }
        let months = Arc::new(Months::scan(folder.path()).unwrap());
        assert_eq!(months.newest_first().len(), 30);
        assert_eq!(months.idle_readers(), 0, "nothing is opened before it is read");
        for file in months.newest_first() {
            assert_eq!(months.facts(&file).unwrap().rows, 0);
        }
        assert_eq!(months.idle_readers(), IDLE_READERS);
    }

    #[test]
    fn a_file_removed_while_it_is_read_is_left_out_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let partition = Partition::first(Month::of_millis(1_790_000_000_000));
        let path = folder.path().join(partition.file_name());
        drop(open_writer(&path, AUDIT).unwrap());
        let months = Arc::new(Months::scan(folder.path()).unwrap());
        let file = months.get(partition).unwrap();
        let lease = months.lease(&file).unwrap();
        months.remove(partition);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Facts::read(&lease).unwrap().rows, 0, "who reads it goes on reading it");
        drop(lease);
        assert_eq!(months.idle_readers(), 0);
        assert!(months.newest_first().is_empty());
        let gone = months.read(&file, Facts::read);
        assert!(matches!(tolerate_damage(&file, gone), Ok(None)));

        drop(open_writer(&path, AUDIT).unwrap());
        let restored = months.add(partition);
        assert_eq!(months.facts(&restored).unwrap().rows, 0);
    }
}
