//! Opening a database file: pragmas, migrations, and what happens to a file that is damaged or too new.
//!
//! Deletes nothing by itself: a damaged file is renamed to `<name>.damaged-<time>` together with its log, where
//! `sqlite3 <file> .recover` can get at it. A crash while a file is being made leaves it at an older schema version,
//! from which the next start goes on.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tracing::error;

use crate::clock::Clock;
use crate::store::StoreError;
use crate::telemetry::metrics::STORE_DAMAGED;

/// How long a statement waits for another process (a backup, the `sqlite3` tool) to let go of the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a database call failed, before the name of the database is added.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// Already in the caller's words.
    Told(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl Fault {
    /// As the store's caller is told.
    pub(super) fn of(self, store: &str) -> StoreError {
        match self {
            Self::Told(error) => error,
            Self::Sql(error) => StoreError::Unavailable { store: store.to_owned(), why: explain(&error) },
        }
    }

    /// Whether the file itself is broken, so that trying again cannot help.
    pub(super) fn is_damage(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
    }
}

fn explain(error: &rusqlite::Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full, free some space",
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => "the file is damaged",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "the file cannot be written, check owner and mount options"
        }
        Some(ErrorCode::CannotOpen) => "the file cannot be opened, check that its folder exists and who owns it",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program holds the file",
        Some(ErrorCode::SystemIoFailure) => "the disk answers with errors",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}

/// The numbered migrations of one kind of database; `PRAGMA user_version` is how many of them a file has had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    pub(super) migrations: &'static [&'static str],
    /// Pages of 4 KiB in the write-ahead log before it is copied back: fewer copies of hot index pages against disk space.
    pub(super) checkpoint_pages: u32,
}

/// A connection that writes; makes the file if there is none and brings it up to date.
pub(super) fn open_writer(path: &Path, schema: Schema) -> Result<Connection, Fault> {
    // The file is made by us so that its mode is right from the first byte; SQLite gives its log files the same mode.
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map_err(|error| Fault::Told(StoreError::Unavailable { store: name_of(path), why: error.to_string() }))?;
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // FULL: each commit syncs the log, so that what was answered survives a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", schema.checkpoint_pages)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cache_size", -8_192)?;
    migrate(&mut connection, path, schema)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -2_048)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path, schema: Schema) -> Result<(), Fault> {
    let version: usize =
        connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?.try_into().unwrap_or(0);
    if version > schema.migrations.len() {
        let why = format!(
            "it was written by a newer version of this program (schema {version}, this one knows {}): \
             install that version again or restore a backup",
            schema.migrations.len()
        );
        return Err(StoreError::Unavailable { store: name_of(path), why }.into());
    }
    for (index, migration) in schema.migrations.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    // Reads the schema, so that damage to the first pages shows now and not in the middle of a batch.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(())
}

/// Like [`open_writer`]; a damaged file is set aside and a fresh one takes its place.
pub(super) fn open_or_replace(path: &Path, schema: Schema, clock: &Clock) -> Result<Connection, Fault> {
    match open_writer(path, schema) {
        Err(fault) if fault.is_damage() => {
            set_aside(path, clock, &fault)?;
            open_writer(path, schema)
        }
        other => other,
    }
}

/// Renames a damaged file and its log, and raises the alarm.
pub(super) fn set_aside(path: &Path, clock: &Clock, fault: &Fault) -> Result<(), Fault> {
    let store = name_of(path);
    let stamp = clock.now().to_utc().format("%Y%m%dT%H%M%SZ");
    let free = (0..1_000).map(|n| with_suffix(path, &damaged_suffix(&stamp, n))).find(|target| !target.exists());
    let Some(target) = free else {
        let why = "1,000 damaged copies of it lie there already; look at the disk and move them away".to_owned();
        return Err(StoreError::Unavailable { store, why }.into());
    };
    for suffix in ["", "-wal", "-shm"] {
        let from = with_suffix(path, suffix);
        if from.exists() {
            std::fs::rename(&from, with_suffix(&target, suffix)).map_err(|error| StoreError::Unavailable {
                store: store.clone(),
                why: format!("it is damaged and cannot be moved aside: {error}"),
            })?;
        }
    }
    if let Some(folder) = path.parent() {
        // A folder that cannot be synced only means that the renaming may have to be done again.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    metrics::counter!(STORE_DAMAGED, "store" => "database").increment(1);
    error!(
        store,
        moved_to = %target.display(),
        reason = ?fault,
        "database {store} is damaged; it was moved to {} and a fresh one takes its place, `sqlite3 <file> .recover` may get the rows back",
        target.display()
    );
    Ok(())
}

/// Removes a database file and its log; one that is not there is removed already.
pub(super) fn remove_file(path: &Path) -> Result<(), Fault> {
    // The log first: a file without it is whole, a log without its file would be taken for that of the next one.
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let why = format!("it cannot be removed: {error}");
                return Err(StoreError::Unavailable { store: name_of(path), why }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn damaged_suffix(stamp: &impl std::fmt::Display, number: u32) -> String {
    if number == 0 { format!(".damaged-{stamp}") } else { format!(".damaged-{stamp}-{number}") }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What a database is called in errors and logs: its file name.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Copies the log back into the file, as far as readers allow; what is left over is read at the next start.
pub(super) fn checkpoint(connection: &Connection) -> Result<(), Fault> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const SCHEMA: Schema = Schema { migrations: &["CREATE TABLE t (a TEXT)"], checkpoint_pages: 1_000 };

    fn clock() -> Clock {
        Clock::fixed(Timestamp::from_millis(1_790_000_000_000))
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        open_writer(&path, SCHEMA).unwrap().pragma_update(None, "user_version", 7).unwrap();
        let error = open_or_replace(&path, SCHEMA, &clock()).unwrap_err().of("x.db").to_string();
        assert!(error.contains("schema 7, this one knows 1"), "{error}");
        assert_eq!(
            std::fs::read_dir(folder.path())
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"))
                .count(),
            0
        );
    }

    #[test]
    fn a_damaged_file_is_set_aside_as_often_as_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        for round in 1..=3 {
            std::fs::write(&path, "this is no database, it is a letter to the operator".repeat(100)).unwrap();
            let connection = open_or_replace(&path, SCHEMA, &clock()).unwrap();
            connection.execute("INSERT INTO t VALUES ('x')", []).unwrap();
            drop(connection);
            let aside = std::fs::read_dir(folder.path())
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-"))
                .count();
            assert_eq!(aside, round);
        }
    }

    #[test]
    fn a_full_disk_is_unavailable_and_passes() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("x.db"), SCHEMA).unwrap();
        connection.pragma_update(None, "max_page_count", 3).unwrap();
        let text = "x".repeat(20_000);
        let full = connection.execute("INSERT INTO t VALUES (?1)", [&text]).unwrap_err();
        let error = Fault::from(full).of("x.db");
        assert!(matches!(&error, StoreError::Unavailable { store, .. } if store == "x.db"), "{error:?}");
        assert!(error.to_string().contains("disk is full"), "{error}");
        connection.pragma_update(None, "max_page_count", 1_000).unwrap();
        connection.execute("INSERT INTO t VALUES (?1)", [&text]).unwrap();
    }
}
