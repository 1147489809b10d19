//! Leaves nothing of an erased host in the audit's files: its name goes, and the files are written anew.
//!
//! Rows that are removed are overwritten, but a page keeps copies of rows that moved within the tree, and the log keeps pages
//! as they were. `VACUUM` gets rid of the former, writing the log back as a whole of the latter. On a large file that takes
//! seconds a gigabyte, for which events must not wait. So such a file is laid to rest: what is recorded meanwhile goes to the
//! month's next part, and a thread of its own writes the file anew, which needs its size twice more: for its log, and for a
//! temporary file where SQLite keeps them. A small file is written anew by the writer itself, in a tenth of a second, so
//! that an erasure does not cost each month a part.
//!
//! That a file is to be written anew stands in the file itself until it was. So when a crash or a full disk ends the work,
//! doing it again begins with what is left. Nothing is ever removed here but a name that has no rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use tokio::sync::oneshot;

use super::audit::{AuditDb, STORE};
use super::audit_write::AuditWriter;
use super::connect::{BUSY_TIMEOUT, Fault, name_of, open_writer};
use super::months::{Months, tolerate_damage};
use super::partition::Partition;
use super::schema;
use super::worker::in_transaction;
use crate::store::{StoreError, StoreResult};

/// Files up to this size are written anew by the writer's thread, while events wait: a tenth of a second.
const SMALL: i64 = if cfg!(test) { 256 << 10 } else { 16 << 20 };
/// The fact that a file has to be written anew.
const UNCLEAN: &str = "unclean";
/// How often it is tried to write a log back as a whole; whoever reads the file delays it.
const TRIES: u32 = 300;
/// How long one try waits for readers: for so long a writer may have to wait too.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time between two tries; with the tries, five minutes, as long as a backup of a large file takes.
const PAUSE: Duration = Duration::from_millis(900);

impl AuditDb {
    /// Forgets the name of a host that has no rows any more, and cleans every file that knew it.
    pub(super) async fn forget(&self, key: &str) -> StoreResult<()> {
        let name = key.to_owned();
        for partition in self.read(move |months| unclean(months, &name)).await? {
            self.clean(partition, key).await?;
        }
        Ok(())
    }

    async fn clean(&self, partition: Partition, key: &str) -> StoreResult<()> {
        let name = key.to_owned();
        let is_small = self.errand(move |writer| clean_if_small(writer, partition, &name)).await?;
        let (path, name) = (self.months().path(partition), key.to_owned());
        if is_small {
            return apart(move || finish(&path)).await;
        }
        let cleaned = apart(move || clean_at_rest(&path, &name)).await;
        self.errand(move |writer| writer.wake(partition)).await?;
        cleaned
    }
}

/// The partitions that know a host, or that have to be written anew since an earlier time.
fn unclean(months: &Arc<Months>, key: &str) -> Result<Vec<Partition>, Fault> {
    let mut found = Vec::new();
    for file in months.newest_first() {
        let asked = months.read(&file, |connection| {
            let sql =
                "SELECT EXISTS (SELECT 1 FROM hosts WHERE name = ?1) OR EXISTS (SELECT 1 FROM facts WHERE name = ?2)";
            Ok(connection.query_row(sql, [key, UNCLEAN], |row| row.get(0))?)
        });
        if tolerate_damage(&file, asked)?.unwrap_or(false) {
            found.push(file.partition);
        }
    }
    Ok(found)
}

/// Cleans a small file and says so; lays a large one to rest.
fn clean_if_small(writer: &mut AuditWriter, partition: Partition, key: &str) -> Result<bool, Fault> {
    if writer.bytes_of(partition)? > SMALL {
        writer.lay_to_rest(partition);
        return Ok(false);
    }
    writer.change(partition, |transaction, part| {
        part.forget_host(key);
        forget_host(transaction, key)
    })?;
    writer.compact(partition)?;
    Ok(true)
}

/// Cleans a file that nobody else writes.
fn clean_at_rest(path: &Path, key: &str) -> Result<(), Fault> {
    let mut connection = open_writer(path, schema::AUDIT)?;
    in_transaction(&mut connection, |transaction| forget_host(transaction, key))?;
    connection.execute_batch("VACUUM")?;
    drop(connection);
    finish(path)
}

/// Takes a host's name out, if it has no rows any more, and notes that the file is to be written anew.
fn forget_host(transaction: &Transaction<'_>, key: &str) -> Result<(), Fault> {
    transaction.pragma_update(None, "secure_delete", true)?;
    transaction.execute("INSERT OR REPLACE INTO facts VALUES (?1, 1)", [UNCLEAN])?;
    let host = "SELECT id FROM hosts WHERE name = ?1";
    let Some(host) = transaction.query_row(host, [key], |row| row.get::<_, i64>(0)).optional()? else { return Ok(()) };
    let has_rows = "SELECT EXISTS (SELECT 1 FROM events WHERE host = ?1)";
    if !transaction.query_row(has_rows, [host], |row| row.get::<_, bool>(0))? {
        transaction.execute("DELETE FROM hosts WHERE id = ?1", [host])?;
    }
    Ok(())
}

/// Writes the log of a file back, so that nothing from before is left in it, and notes that the file is clean.
fn finish(path: &Path) -> Result<(), Fault> {
    let connection = open_writer(path, schema::AUDIT)?;
    connection.busy_timeout(PATIENCE)?;
    for _ in 0..TRIES {
        if is_written_back(&connection)? {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.execute("DELETE FROM facts WHERE name = ?1", [UNCLEAN])?;
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    let why = format!(
        "`{}` has been read for minutes, so its log could not be written back and holds what was erased; the next run of \
         retention tries again",
        name_of(path)
    );
    Err(StoreError::Unavailable { store: STORE.to_owned(), why }.into())
}

/// Writes a log back and empties it; answers whether it is empty, which it is not while somebody reads what it held.
fn is_written_back(connection: &Connection) -> Result<bool, Fault> {
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!is_busy)
}

/// Does something that takes long on a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> StoreResult<T> {
    let unavailable = |why: String| StoreError::Unavailable { store: STORE.to_owned(), why };
    let (answer, answered) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("audit anew".to_owned()).spawn(move || {
        // Whoever asked may have gone; what was done stands.
        let _ = answer.send(work().map_err(|fault| fault.of(STORE)));
    });
    spawned.map_err(|error| unavailable(format!("a thread cannot start: {error}")))?;
    answered.await.map_err(|_| unavailable("writing a file anew panicked, see the log".to_owned()))?
}
