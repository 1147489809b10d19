//! One generation: a sled directory that holds a run of sequences and is deleted as a whole.
//!
//! sled's `flush` writes but does not sync (it calls `sync_file_range`, which leaves the disk's cache and the file's size
//! alone), so every durable commit is `apply_batch`, `flush`, then `fdatasync` on an own handle of the same file. sled may
//! also panic on damaged files; every call into it is caught and becomes [`Trouble`]. Never decides what to do about it.
//!
//! After a crash sled replays its log; a batch is there as a whole or not at all. Unfinished snapshots, which sled would
//! take for corruption, are removed first, and a snapshot that contradicts the log is dropped in favour of the log.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::disk;
use super::layout::{
    Assembler, Retry, Shape, Stored, TOTALS_KEY, Totals, decode_small, encode, encode_small, key, parse_key,
    settle_weight,
};
use crate::queue::backend::{Record, Seq};

/// Says that sled's own files and the first totals are durable: nothing is acknowledged before it is there.
const BEGUN: &str = "begun";

/// Why a generation did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// The system refused; the files may be fine and the call may succeed later.
    #[error("{0}")]
    Io(String),
    /// The files are not what was written; trying again will not help.
    #[error("{0}")]
    Broken(String),
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData => Self::Broken(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Whether a commit must survive a power cut or only the end of the process. The latter is synced now and then all the
/// same, see [`Shape::most_settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    PowerCut,
    Kill,
}

/// An open generation.
pub(super) struct Generation {
    /// Always there but while it is dropped.
    db: Option<sled::Db>,
    /// An own handle of sled's file, for `fdatasync`.
    file: File,
    shape: Shape,
    /// What settling may have caused to be written since the last sync, in bytes.
    unsynced: AtomicUsize,
}

impl Generation {
    /// Opens or creates the sled directory at `path`, whose first sequence is `first`; blocks for some milliseconds, longer after a crash.
    pub(super) fn open(path: &Path, first: Seq, shape: Shape) -> Result<Self, Trouble> {
        let result = Self::open_once(path, first, shape);
        let Err(Trouble::Broken(why)) = result else { return result };
        // On a full disk sled fails in ways that look like damage.
        if disk::free_bytes(path)? < 2 * shape.segment as u64 {
            return Err(Trouble::Io(format!("{why}, and the disk is full")));
        }
        if remove_snapshots(path, Snapshots::All)? == 0 {
            return Err(Trouble::Broken(why));
        }
        tracing::warn!("{}: {why}; reading it again from its log", path.display());
        Self::open_once(path, first, shape)
    }

    fn open_once(path: &Path, first: Seq, shape: Shape) -> Result<Self, Trouble> {
        disk::create_dir(path)?;
        remove_snapshots(path, Snapshots::Unfinished)?;
        let db_file = path.join("db");
        let begun = path.join(BEGUN);
        if db_file.exists() {
            // The snapshot that sled writes on opening must not reach the disk before what it describes.
            File::options().write(true).open(&db_file)?.sync_data()?;
        }
        let config = sled::Config::new()
            .path(path)
            .segment_size(shape.segment)
            .cache_capacity(shape.cache)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let db = open_db(&config)?;
        let file = File::options().write(true).open(&db_file)?;
        let generation = Self { db: Some(db), file, shape, unsynced: AtomicUsize::new(0) };
        if !begun.exists() {
            generation.commit(generation.change(), &Totals::empty(first), Durability::PowerCut)?;
            File::open(path.join("conf"))?.sync_all()?;
            File::create(&begun)?.sync_all()?;
            disk::sync_dir(path)?;
        }
        Ok(generation)
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("only drop takes the database out")
    }

    /// Applies a change and the totals after it, all or nothing.
    pub(super) fn commit(&self, change: Change, totals: &Totals, durability: Durability) -> Result<(), Trouble> {
        let Change { mut batch, weight, .. } = change;
        batch.insert(TOTALS_KEY, encode_small(totals));
        guarded(|| {
            self.db().apply_batch(batch)?;
            self.db().flush()?;
            Ok(())
        })?;
        let unsynced = self.unsynced.fetch_add(weight, Ordering::Relaxed) + weight;
        if durability == Durability::PowerCut || unsynced > self.shape.most_settled() {
            self.file.sync_data()?;
            self.unsynced.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes everything written so far survive a power cut.
    pub(super) fn sync(&self) -> Result<(), Trouble> {
        guarded(|| Ok(self.db().flush().map(drop)?))?;
        Ok(self.file.sync_data()?)
    }

    /// The totals, counted anew if they are damaged. They are there from the beginning: sled takes a log that it cannot
    /// read for an empty one, and this is how that is noticed.
    pub(super) fn totals(&self, first: Seq) -> Result<Totals, Trouble> {
        match guarded(|| Ok(self.db().get(TOTALS_KEY)?))?.as_deref().map(decode_small) {
            Some(Some(totals)) => Ok(totals),
            Some(None) => self.recount(first),
            None => Err(Trouble::Broken("nothing in it can be read".to_owned())),
        }
    }

    fn recount(&self, first: Seq) -> Result<Totals, Trouble> {
        let mut totals = Totals::empty(first);
        loop {
            let stored = self.read(totals.next, Seq::MAX, 1_024, 16 << 20)?;
            if stored.is_empty() {
                return Ok(totals);
            }
            for record in stored {
                totals.next = record.seq;
                match record.body {
                    Ok(body) => totals.append(&body),
                    Err(_) => totals.next += 1,
                }
            }
        }
    }

    /// Records of `from..to` in order: at most `records`, and no more once `bytes` are reached.
    pub(super) fn read(&self, from: Seq, to: Seq, records: usize, bytes: usize) -> Result<Vec<Stored>, Trouble> {
        guarded(|| {
            let mut found = Vec::new();
            let mut assembler = Assembler::default();
            let mut room = bytes;
            for entry in self.db().range(key(from, 0)..key(to, 0)) {
                let (key, value) = entry?;
                let Some((seq, part)) = parse_key(&key) else { continue };
                found.extend(assembler.take(seq, part, &value));
                if found.len() >= records || (room == 0 && !found.is_empty()) {
                    return Ok(found);
                }
                room = room.saturating_sub(value.len());
            }
            found.extend(assembler.finish());
            Ok(found)
        })
    }

    /// Begins a change.
    pub(super) fn change(&self) -> Change {
        Change { batch: sled::Batch::default(), piece: self.shape.piece, weight: 0 }
    }

    /// Adds the removal of a record of about `bytes`, of whatever parts it has, to a change.
    pub(super) fn remove(&self, seq: Seq, bytes: usize, change: &mut Change) -> Result<(), Trouble> {
        change.weight += settle_weight(bytes);
        guarded(|| {
            for key in self.db().range(key(seq, 0)..=key(seq, u16::MAX)).keys() {
                change.batch.remove(key?);
            }
            Ok(())
        })
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // sled syncs when it is dropped and panics if that fails.
        drop(catch_unwind(AssertUnwindSafe(|| drop(self.db.take()))));
    }
}

/// What is to be written in one atomic batch.
pub(super) struct Change {
    batch: sled::Batch,
    piece: usize,
    weight: usize,
}

impl Change {
    /// Adds a record.
    pub(super) fn put(&mut self, seq: Seq, record: &Record) {
        for (part, value) in (1..).zip(encode(seq, record, self.piece)) {
            self.batch.insert(&key(seq, part), value);
        }
    }

    /// Adds when a record of about `bytes` is due again.
    pub(super) fn put_retry(&mut self, seq: Seq, bytes: usize, retry: Retry) {
        self.weight += settle_weight(bytes);
        self.batch.insert(&key(seq, 0), encode_small(&retry));
    }
}

fn open_db(config: &sled::Config) -> Result<sled::Db, Trouble> {
    // A generation that was just closed stays locked until sled's own threads have let go of it.
    for _ in 0..100 {
        match guarded(|| Ok(config.open()?)) {
            Err(Trouble::Io(why)) if why.contains("could not acquire lock") => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other,
        }
    }
    Err(Trouble::Io("another process holds sled's lock".to_owned()))
}

/// Runs a call into sled; a panic in it is damage.
fn guarded<R>(call: impl FnOnce() -> Result<R, Trouble>) -> Result<R, Trouble> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Trouble::Broken(format!("sled panicked: {text}")))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshots {
    All,
    Unfinished,
}

/// Removes snapshots; returns how many there were.
fn remove_snapshots(path: &Path, which: Snapshots) -> Result<usize, Trouble> {
    let mut removed = 0;
    for entry in std::fs::read_dir(path)? {
        let file: PathBuf = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let wanted = name.starts_with("snap.") && (which == Snapshots::All || name.ends_with(".generating"));
        if wanted {
            std::fs::remove_file(&file)?;
            removed += 1;
        }
    }
    Ok(removed)
}
