//! Settings changed at run time, in `config.db`. Reading them before the stores are open changes nothing on disk.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::config::{Table, refusal};
use super::connect::{Fault, open_reader};
use crate::store::{SETTINGS_TABLE, StoreResult};

pub(super) const SETTINGS: Table =
    Table { name: SETTINGS_TABLE, key: "key", columns: &["key", "value"], truths: &[], rules_decisions: false };

pub(super) fn put(transaction: &Transaction<'_>, key: &str, value: Option<&str>) -> rusqlite::Result<usize> {
    match value {
        Some(value) => transaction.execute(
            "INSERT INTO dynamic_config VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [key, value],
        ),
        None => transaction.execute("DELETE FROM dynamic_config WHERE key = ?1", [key]),
    }
}

/// The settings kept in the database at `path`; none if it is not there, or from before settings were kept.
pub fn kept_settings(path: &Path) -> StoreResult<BTreeMap<String, String>> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let read = open_reader(path).and_then(|connection| {
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let known: i64 = connection.query_row(tables, [SETTINGS_TABLE], |row| row.get(0))?;
        if known == 0 { Ok(BTreeMap::new()) } else { read_all(&connection) }
    });
    read.map_err(|fault| refusal(path, fault))
}

fn read_all(connection: &Connection) -> Result<BTreeMap<String, String>, Fault> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM dynamic_config")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::config::ConfigDb;
    use super::*;
    use crate::clock::Clock;
    use crate::store::{Change, ChangeLog, ChangeQuery, ConfigEdit, ConfigEdits, Operation};

    fn change(reason: &str) -> Change {
        Change { reason: Some(reason.into()), ..Change::new("alice", "c-1") }
    }

    #[tokio::test]
    async fn a_setting_is_kept_with_its_line_in_the_change_log_and_forgotten_with_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.db");
        assert!(kept_settings(&path).expect("none yet").is_empty());
        let store = ConfigDb::open(&path, Clock::system()).expect("opens");
        for value in [Some("7"), Some("7"), Some("8"), None, None] {
            let edit = ConfigEdit::PutSetting("unhandled_threshold".to_owned(), value.map(str::to_owned));
            store.apply(vec![edit], &change("CHG-1")).await.expect("written");
            assert_eq!(kept_settings(&path).expect("readable").get("unhandled_threshold").map(String::as_str), value);
        }
        let query = ChangeQuery { table_name: Some(SETTINGS_TABLE.into()), limit: 10, ..ChangeQuery::default() };
        let lines = store.changes(&query).await.expect("lines");
        let operations: Vec<Operation> = lines.iter().map(|line| line.operation).collect();
        assert_eq!(operations, [Operation::Delete, Operation::Update, Operation::Create], "no line for no change");
        assert_eq!(lines[1].old_values.as_ref().map(|row| row["value"].clone()), Some("7".into()));
        assert_eq!(lines[1].new_values.as_ref().map(|row| row["value"].clone()), Some("8".into()));
        assert_eq!((lines[0].record_id.as_str(), lines[0].new_values.as_ref()), ("unhandled_threshold", None));
    }

    #[test]
    fn what_is_no_database_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.db");
        std::fs::write(&path, "this is no database, however long one looks at it; it was written by a test".repeat(20))
            .expect("written");
        let error = kept_settings(&path).expect_err("it cannot be read").to_string();
        assert!(error.contains("Restore a backup"), "{error}");
    }
}
