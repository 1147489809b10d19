//! Legal holds and erasures in `config.db`. A change and its line in the log are one transaction; the rule that what is held
//! is not erased is checked in the same transaction.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, params};

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use super::connect::Fault;
use crate::model::{Timestamp, host_key};
use crate::store::{Change, Erased, Erasure, Hold, HoldBook, HoldDraft, StoreError, StoreResult};

/// Holds in force at once: each is compared with every event that is about to be deleted.
const MOST_HOLDS: i64 = 1_000;

const HOLDS: Table = Table {
    name: "legal_holds",
    key: "id",
    columns: &["id", "name", "hostname", "from_micros", "to_micros", "reason", "placed_by", "placed_at"],
    truths: &[],
    rules_decisions: false,
};

const ERASURES: Table = Table {
    name: "erasures",
    key: "id",
    columns: &["id", "hostname", "reason", "requested_by", "requested_at", "finished_at", "erased"],
    truths: &[],
    rules_decisions: false,
};

const SELECT_HOLD: &str =
    "SELECT id, name, hostname, from_micros, to_micros, reason, placed_by, placed_at FROM legal_holds";

const SELECT_ERASURE: &str =
    "SELECT id, hostname, reason, requested_by, requested_at, finished_at, erased FROM erasures";

fn read_hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    Ok(Hold {
        id: row.get(0)?,
        name: row.get(1)?,
        hostname: row.get(2)?,
        from: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_micros),
        to: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
        reason: row.get(5)?,
        placed_by: row.get(6)?,
        placed_at: Timestamp::from_micros(row.get(7)?),
    })
}

fn read_erasure(row: &Row<'_>) -> rusqlite::Result<Erasure> {
    let erased: String = row.get(6)?;
    Ok(Erasure {
        id: row.get(0)?,
        hostname: row.get(1)?,
        reason: row.get(2)?,
        requested_by: row.get(3)?,
        requested_at: Timestamp::from_micros(row.get(4)?),
        finished_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
        erased: serde_json::from_str(&erased).unwrap_or_default(),
    })
}

#[async_trait]
impl HoldBook for ConfigDb {
    async fn holds(&self) -> StoreResult<Vec<Hold>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT_HOLD} ORDER BY id"))?;
            let holds = statement.query_map([], read_hold)?;
            Ok(holds.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn place(&self, draft: HoldDraft, change: &Change) -> StoreResult<Hold> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let count: i64 = transaction.query_row("SELECT count(*) FROM legal_holds", [], |row| row.get(0))?;
            if count >= MOST_HOLDS {
                let why = format!("there are {MOST_HOLDS} holds already; lift those that are not needed any more");
                return Err(StoreError::Invalid(why).into());
            }
            let hostname = draft.hostname.as_deref().map(host_key);
            transaction.execute(
                "INSERT INTO legal_holds (name, hostname, from_micros, to_micros, reason, placed_by, placed_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    draft.name,
                    hostname,
                    draft.from.map(Timestamp::as_micros),
                    draft.to.map(Timestamp::as_micros),
                    draft.reason,
                    change.by,
                    now.as_micros(),
                ],
            )?;
            let id = transaction.last_insert_rowid();
            let new = row_values(transaction, HOLDS, &id)?;
            let entry = Entry { table: HOLDS, record_id: &id.to_string(), old: None, new };
            log_change(transaction, now, &change, &entry)?;
            Ok(transaction.query_row(&format!("{SELECT_HOLD} WHERE id = ?1"), [id], read_hold)?)
        })
        .await
    }

    async fn lift(&self, id: i64, change: &Change) -> StoreResult<()> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let Some(old) = row_values(transaction, HOLDS, &id)? else {
                return Err(StoreError::NotFound { what: "hold", key: id.to_string() }.into());
            };
            transaction.execute("DELETE FROM legal_holds WHERE id = ?1", [id])?;
            let entry = Entry { table: HOLDS, record_id: &id.to_string(), old: Some(old), new: None };
            log_change(transaction, now, &change, &entry)
        })
        .await
    }

    async fn erasures(&self) -> StoreResult<Vec<Erasure>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT_ERASURE} ORDER BY id DESC LIMIT 1000"))?;
            let erasures = statement.query_map([], read_erasure)?;
            Ok(erasures.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn request_erasure(&self, hostname: &str, reason: &str, change: &Change) -> StoreResult<Erasure> {
        let (key, reason, change) = (host_key(hostname), reason.to_owned(), change.clone());
        self.write(move |transaction, now| {
            let held = "SELECT name FROM legal_holds WHERE hostname IS NULL OR hostname = ?1 ORDER BY id LIMIT 1";
            let held: Option<String> = transaction.query_row(held, [&key], |row| row.get(0)).optional()?;
            if let Some(name) = held {
                let why = format!("the hold `{name}` may cover events of `{key}`; lift it first, or let the data be");
                return Err(StoreError::Invalid(why).into());
            }
            transaction.execute(
                "INSERT INTO erasures (hostname, reason, requested_by, requested_at, finished_at, erased) \
                 VALUES (?1, ?2, ?3, ?4, NULL, '{}')",
                params![key, reason, change.by, now.as_micros()],
            )?;
            let id = transaction.last_insert_rowid();
            let new = row_values(transaction, ERASURES, &id)?;
            let entry = Entry { table: ERASURES, record_id: &id.to_string(), old: None, new };
            log_change(transaction, now, &change, &entry)?;
            Ok(transaction.query_row(&format!("{SELECT_ERASURE} WHERE id = ?1"), [id], read_erasure)?)
        })
        .await
    }

    async fn finish_erasure(&self, id: i64, erased: Erased, change: &Change) -> StoreResult<()> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let old = row_values(transaction, ERASURES, &id)?;
            let text =
                serde_json::to_string(&erased).map_err(|error| Fault::from(StoreError::Invalid(error.to_string())))?;
            transaction.execute(
                "UPDATE erasures SET finished_at = ?2, erased = ?3 WHERE id = ?1",
                params![id, now.as_micros(), text],
            )?;
            let new = row_values(transaction, ERASURES, &id)?;
            let entry = Entry { table: ERASURES, record_id: &id.to_string(), old, new };
            log_change(transaction, now, &change, &entry)
        })
        .await
    }
}
