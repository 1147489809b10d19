//! API keys in `config.db`. Their hashes never leave the table `api_keys`; in the change log an exchange shows as
//! `rotated` or `promoted`.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};
use serde_json::Value;

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use super::connect::Fault;
use crate::access::{Network, RingKey, Scopes};
use crate::model::Timestamp;
use crate::store::{ApiKey, ApiKeys, Change, KeyChange, StoreError, StoreResult};

const API_KEYS: Table = Table {
    name: "api_keys",
    key: "name",
    columns: &["name", "scopes", "networks", "created_at", "created_by", "rotated_at", "expires_at"],
    truths: &[],
    rules_decisions: false,
};

/// Every column of a key, as [`read_key`] takes them.
const COLUMNS: &str = "name, scopes, networks, expires_at, current_hash, next_hash, created_at, created_by, rotated_at, \
                       last_used, last_peer";

/// Keys at most: all are held in memory, and each has a metric of its own.
const MAX_KEYS: i64 = 1_000;

#[async_trait]
impl ApiKeys for ConfigDb {
    async fn api_keys(&self) -> StoreResult<Vec<ApiKey>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM api_keys ORDER BY name"))?;
            let rows = statement.query_map([], read_key)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn create_api_key(&self, key: ApiKey, change: &Change) -> StoreResult<()> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let name = &key.key.name;
            if row_values(transaction, API_KEYS, name)?.is_some() {
                return Err(StoreError::Exists { what: "API key", key: name.clone() }.into());
            }
            let count: i64 = transaction.query_row("SELECT count(*) FROM api_keys", [], |row| row.get(0))?;
            if count >= MAX_KEYS {
                return Err(StoreError::Conflict(format!("there are {MAX_KEYS} API keys; revoke some first")).into());
            }
            let networks: Vec<String> = key.key.networks.iter().map(ToString::to_string).collect();
            transaction.execute(
                "INSERT INTO api_keys (name, scopes, networks, expires_at, current_hash, created_at, created_by) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    name,
                    key.key.scopes.to_string(),
                    networks.join(","),
                    key.key.expires_at.map(Timestamp::as_micros),
                    key.key.current,
                    key.created_at.as_micros(),
                    key.created_by
                ],
            )?;
            let new = row_values(transaction, API_KEYS, name)?;
            log_change(transaction, now, &change, &Entry { table: API_KEYS, record_id: name, old: None, new })
        })
        .await
    }

    async fn change_api_key(&self, name: &str, what: KeyChange, change: &Change) -> StoreResult<ApiKey> {
        let (name, change) = (name.to_owned(), change.clone());
        self.write(move |transaction, now| {
            let old = row_values(transaction, API_KEYS, &name)?.ok_or_else(|| missing(&name))?;
            let done = apply(transaction, &name, &what, now)?;
            let mut new = row_values(transaction, API_KEYS, &name)?;
            if let Some(Value::Object(members)) = &mut new {
                members.insert(done.to_owned(), Value::Bool(true));
            }
            let entry = Entry { table: API_KEYS, record_id: &name, old: Some(old), new };
            log_change(transaction, now, &change, &entry)?;
            Ok(transaction.query_row(&format!("SELECT {COLUMNS} FROM api_keys WHERE name = ?1"), [&name], read_key)?)
        })
        .await
    }

    async fn revoke_api_key(&self, name: &str, change: &Change) -> StoreResult<()> {
        let (name, change) = (name.to_owned(), change.clone());
        self.write(move |transaction, now| {
            let old = row_values(transaction, API_KEYS, &name)?.ok_or_else(|| missing(&name))?;
            transaction.execute("DELETE FROM api_keys WHERE name = ?1", [&name])?;
            let entry = Entry { table: API_KEYS, record_id: &name, old: Some(old), new: None };
            log_change(transaction, now, &change, &entry)
        })
        .await
    }

    async fn note_key_uses(&self, uses: Vec<(String, Timestamp, IpAddr)>) -> StoreResult<()> {
        self.write(move |transaction, _| {
            let mut update =
                transaction.prepare_cached("UPDATE api_keys SET last_used = ?1, last_peer = ?2 WHERE name = ?3")?;
            for (name, at, peer) in &uses {
                update.execute(params![at.as_micros(), peer.to_string(), name])?;
            }
            Ok(())
        })
        .await
    }
}

/// Does it, and says what was done for the change log.
fn apply(transaction: &Transaction<'_>, name: &str, what: &KeyChange, now: Timestamp) -> Result<&'static str, Fault> {
    match what {
        KeyChange::Rotate(hash) => {
            transaction.execute(
                "UPDATE api_keys SET next_hash = ?1, rotated_at = ?2 WHERE name = ?3",
                params![hash, now.as_micros(), name],
            )?;
            Ok("rotated")
        }
        KeyChange::Promote => {
            let changed = transaction.execute(
                "UPDATE api_keys SET current_hash = next_hash, next_hash = NULL WHERE name = ?1 AND next_hash IS NOT NULL",
                [name],
            )?;
            if changed == 0 {
                let why = format!("the API key `{name}` has no NEXT; rotate it first");
                return Err(StoreError::Conflict(why).into());
            }
            Ok("promoted")
        }
    }
}

fn missing(name: &str) -> Fault {
    StoreError::NotFound { what: "API key", key: name.to_owned() }.into()
}

/// Scopes and networks that cannot be read, after damage, open nothing: a key without scopes may do nothing, and one
/// without readable networks is used from nowhere.
fn read_key(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let moment =
        |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    let networks = Network::parse_list(&row.get::<_, String>(2)?);
    let scopes = Scopes::parse(&row.get::<_, String>(1)?).unwrap_or_default();
    let peer: Option<String> = row.get(10)?;
    Ok(ApiKey {
        key: RingKey {
            name: row.get(0)?,
            scopes: if networks.is_ok() { scopes } else { Scopes::default() },
            networks: networks.unwrap_or_default(),
            expires_at: moment(3)?,
            current: row.get(4)?,
            next: row.get(5)?,
        },
        created_at: moment(6)?.unwrap_or_default(),
        created_by: row.get(7)?,
        rotated_at: moment(8)?,
        last_used: moment(9)?.zip(peer.and_then(|peer| peer.parse().ok())),
    })
}
