//! `config.db`: what operators change. Every change and its line in the change log are one transaction, so after a
//! crash either both are there or neither. Never holds a password, and no hash ever enters the change log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, params_from_iter};
use serde_json::{Map, Value};

use super::connect::{Fault, name_of, open_writer};
use super::schema;
use super::worker::{Readers, Task, Worker, in_transaction, run_tasks};
use super::{backup, trail};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::store::{Change, Operation, StoreError, StoreResult};

/// The configuration database; `RuleBook`, `Inventory`, `Accounts`, `ConfigEdits` and `ChangeLog` are implemented on it.
pub struct ConfigDb {
    store: String,
    writer: Worker<Task>,
    readers: Arc<Readers>,
    /// Used by the writer thread alone.
    keeper: Arc<Mutex<trail::Keeper>>,
    path: PathBuf,
    clock: Clock,
}

/// A table whose changes are logged: how its rows become JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// Its name, upstream's.
    pub(super) name: &'static str,
    /// The column rows are found by.
    pub(super) key: &'static str,
    /// The columns that are logged.
    pub(super) columns: &'static [&'static str],
    /// Columns that are 0 or 1 in the database and true or false in JSON.
    pub(super) truths: &'static [&'static str],
    /// Whether decisions depend on it, so that the version has to grow.
    pub(super) rules_decisions: bool,
}

impl ConfigDb {
    /// Opens or makes the database. A damaged one is refused: it is the operators' work, and going on with an empty one
    /// would silently stop every alert.
    pub fn open(path: &Path, clock: Clock) -> StoreResult<Self> {
        let store = name_of(path);
        let opened = open_writer(path, schema::CONFIG).and_then(checked).and_then(|mut connection| {
            let keeper = trail::Keeper::open(&mut connection, path, &clock)?;
            Ok((connection, keeper))
        });
        let (connection, keeper) = opened.map_err(|fault| refusal(path, fault))?;
        let keeper = Arc::new(Mutex::new(keeper));
        let name = store.clone();
        let writer = Worker::start(&store, move |tasks| run_tasks(&name, connection, tasks))?;
        let readers = Arc::new(Readers::new(path.to_owned(), store.clone()));
        Ok(Self { store, writer, readers, keeper, path: path.to_owned(), clock })
    }

    /// Runs `body` in a transaction on the writer thread; `now` is when the change counts as made.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Transaction<'_>, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> StoreResult<T> {
        let (store, now, keeper) = (self.store.clone(), self.clock.now(), Arc::clone(&self.keeper));
        let job = move |answer: super::worker::Answer<T>| -> Task {
            Box::new(move |connection| {
                let mut keeper = keeper.lock();
                let written = in_transaction(connection, |transaction| {
                    keeper.begin(transaction, now)?;
                    let value = body(transaction, now)?;
                    Ok((value, keeper.end(transaction)?))
                });
                let result = written.map(|(value, sealed)| {
                    keeper.committed(sealed);
                    value
                });
                // Whoever asked may have gone; the change stands nevertheless.
                let _ = answer.send(result.map_err(|fault| fault.of(&store)));
            })
        };
        self.writer.ask(job).await
    }

    /// Accepts the change log as it is; see [`trail::reseal`].
    pub(super) async fn reseal(&self, change: Change) -> StoreResult<String> {
        let (store, clock, keeper) = (self.store.clone(), self.clock.clone(), Arc::clone(&self.keeper));
        let job = move |answer: super::worker::Answer<String>| -> Task {
            Box::new(move |connection| {
                let result = trail::reseal(connection, &mut keeper.lock(), &change, &clock);
                let _ = answer.send(result.map_err(|fault| fault.of(&store)));
            })
        };
        self.writer.ask(job).await
    }

    /// Copies the database and the chain's folder while nothing is written.
    pub(super) async fn copy_into(&self, folder: PathBuf) -> StoreResult<()> {
        let (store, trail, keeper) = (self.store.clone(), self.trail_folder(), Arc::clone(&self.keeper));
        let name = self.path.file_name().map(PathBuf::from).unwrap_or_default();
        let job = move |answer: super::worker::Answer<()>| -> Task {
            Box::new(move |connection| {
                let _still = keeper.lock();
                let copied = backup::copy_into(connection, &folder.join(name)).and_then(|()| {
                    backup::copy_folder(&trail, &folder.join("trail")).map_err(|error| {
                        let why = format!("the chain's keys cannot be copied: {error}");
                        Fault::Told(StoreError::Unavailable { store: store.clone(), why })
                    })
                });
                let _ = answer.send(copied.map_err(|fault| fault.of(&store)));
            })
        };
        self.writer.ask(job).await
    }

    /// Removes the lines from before a moment; see [`trail::cut`].
    pub(super) async fn cut_trail(&self, before: Timestamp, change: Change) -> StoreResult<u64> {
        let (store, clock, keeper) = (self.store.clone(), self.clock.clone(), Arc::clone(&self.keeper));
        let job = move |answer: super::worker::Answer<u64>| -> Task {
            Box::new(move |connection| {
                let result = trail::cut(connection, &mut keeper.lock(), before, &change, &clock);
                let _ = answer.send(result.map_err(|fault| fault.of(&store)));
            })
        };
        self.writer.ask(job).await
    }

    /// Where key and anchor of the change log lie.
    pub(super) fn trail_folder(&self) -> PathBuf {
        trail::folder_of(&self.path)
    }

    /// The time.
    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Runs `body` with a reading connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> StoreResult<T> {
        self.readers.read(body).await
    }

    /// Finishes what was handed over and writes the log back.
    pub(super) async fn finish(&self) -> StoreResult<()> {
        self.writer.close().await
    }
}

fn checked(connection: Connection) -> Result<Connection, Fault> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(connection);
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(verdict)).into())
}

pub(super) fn refusal(path: &Path, fault: Fault) -> StoreError {
    let damaged = fault.is_damage();
    match fault.of(&name_of(path)) {
        StoreError::Unavailable { store, why } if damaged => {
            let path = path.display();
            let why = format!(
                "{why}; it holds rules, hosts, teams and users, so it is not replaced by an empty one. \
                 Restore a backup to `{path}`, or move `{path}`, `{path}-wal` and `{path}-shm` away to begin without rules, \
                 or try `sqlite3 {path} .recover`"
            );
            StoreError::Unavailable { store, why }
        }
        error => error,
    }
}

/// A row as JSON under upstream's names, straight from its columns, so that a row which is no valid rule can be logged too.
pub(super) fn row_values(transaction: &Transaction<'_>, table: Table, key: &dyn ToSql) -> Result<Option<Value>, Fault> {
    let sql = format!("SELECT {} FROM {} WHERE {} = ?1", table.columns.join(", "), table.name, table.key);
    let mut statement = transaction.prepare_cached(&sql)?;
    let row = statement.query_row([key], |row| {
        let mut members = Map::new();
        for (index, column) in table.columns.iter().enumerate() {
            let value = json_value(row.get_ref(index)?, table.truths.contains(column));
            members.insert((*column).to_owned(), value);
        }
        Ok(Value::Object(members))
    });
    Ok(row.optional()?)
}

fn json_value(value: ValueRef<'_>, truth: bool) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) if truth => Value::Bool(number != 0),
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

/// What happened to a row, for its line in the change log.
pub(super) struct Entry<'a> {
    pub(super) table: Table,
    pub(super) record_id: &'a str,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// One line with its link and marks, in the order of [`trail::COLUMNS`].
const INSERT_LINE: &str = "INSERT INTO config_audit_log (id, changed_at, changed_by, operation, table_name, record_id, \
     old_values, new_values, reason, correlation_id, changed_via, changed_from, row_hash, row_marks) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// Writes the line of one change and, if decisions depend on the table, moves the version on. The only place that
/// writes to `config_audit_log`.
pub(super) fn log_change(
    transaction: &Transaction<'_>,
    now: Timestamp,
    change: &Change,
    entry: &Entry<'_>,
) -> Result<(), Fault> {
    let operation = match (&entry.old, &entry.new) {
        (None, _) => Operation::Create,
        (Some(_), Some(_)) => Operation::Update,
        (Some(_), None) => Operation::Delete,
    };
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    let (old, new) = (text(&entry.old), text(&entry.new));
    let peer = change.origin.peer.map(|peer| peer.to_string());
    trail::advance(transaction, |id, previous| {
        let optional = |text: Option<&str>| text.map_or(SqlValue::Null, |text| SqlValue::Text(text.to_owned()));
        let values = [
            SqlValue::Integer(id),
            SqlValue::Integer(now.as_micros()),
            SqlValue::Text(change.by.clone()),
            SqlValue::Text(operation.name().to_owned()),
            SqlValue::Text(entry.table.name.to_owned()),
            SqlValue::Text(entry.record_id.to_owned()),
            optional(old.as_deref()),
            optional(new.as_deref()),
            optional(change.reason.as_deref()),
            SqlValue::Text(change.correlation_id.clone()),
            SqlValue::Text(change.origin.via.name().to_owned()),
            optional(peer.as_deref()),
        ];
        let chained: trail::Values<'_> = values.each_ref().map(ValueRef::from);
        let hash = trail::link(previous, &chained);
        let further = [SqlValue::Blob(hash.to_vec()), SqlValue::Blob(trail::marks(&chained))];
        let mut insert = transaction.prepare_cached(INSERT_LINE)?;
        insert.execute(params_from_iter(values.iter().chain(&further)))?;
        Ok(hash)
    })?;
    if entry.table.rules_decisions {
        transaction.execute("UPDATE versions SET value = value + 1 WHERE name = 'ruling'", [])?;
    }
    Ok(())
}
