//! Delivery targets changed at run time, in `config.db`. Reading them before the stores are open changes nothing on disk.

use std::path::Path;

use rusqlite::{Connection, Transaction, params};

use super::config::{Table, refusal};
use super::connect::{Fault, open_reader};
use crate::store::{KeptTarget, StoreResult, TARGETS_TABLE};

pub(super) const TARGETS: Table = Table {
    name: TARGETS_TABLE,
    key: "name",
    columns: &["name", "kind", "definition", "enabled"],
    truths: &["enabled"],
    rules_decisions: false,
};

pub(super) fn put(transaction: &Transaction<'_>, name: &str, target: Option<&KeptTarget>) -> rusqlite::Result<usize> {
    let Some(target) = target else {
        return transaction.execute("DELETE FROM delivery_targets WHERE name = ?1", [name]);
    };
    transaction.execute(
        "INSERT OR REPLACE INTO delivery_targets (name, kind, definition, enabled) VALUES (?1, ?2, ?3, ?4)",
        params![name, target.kind, target.definition, target.enabled],
    )
}

fn read_all(connection: &Connection) -> Result<Vec<KeptTarget>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT name, kind, definition, enabled FROM delivery_targets ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok(KeptTarget { name: row.get(0)?, kind: row.get(1)?, definition: row.get(2)?, enabled: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The targets kept in the database at `path`; none if it is not there, or from before targets were kept.
pub fn kept_targets(path: &Path) -> StoreResult<Vec<KeptTarget>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read = open_reader(path).and_then(|connection| {
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let known: i64 = connection.query_row(tables, [TARGETS_TABLE], |row| row.get(0))?;
        if known == 0 { Ok(Vec::new()) } else { read_all(&connection) }
    });
    read.map_err(|fault| refusal(path, fault))
}

#[cfg(test)]
mod tests {
    use super::super::config::ConfigDb;
    use super::*;
    use crate::clock::Clock;
    use crate::store::{Change, ChangeLog, ChangeQuery, ConfigEdit, ConfigEdits, Operation};

    #[tokio::test]
    async fn a_target_is_kept_with_its_line_and_forgotten_with_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.db");
        assert!(kept_targets(&path).expect("none yet").is_empty());
        let store = ConfigDb::open(&path, Clock::system()).expect("opens");
        let target = |definition: &str| {
            let (name, kind) = ("chat".to_owned(), "slack".to_owned());
            KeptTarget { name, kind, definition: definition.to_owned(), enabled: true }
        };
        for kept in [Some(target("a")), Some(target("a")), Some(target("b")), None, None] {
            let edit = ConfigEdit::PutTarget("chat".to_owned(), kept.clone());
            store.apply(vec![edit], &Change::new("alice", "c")).await.expect("done");
            assert_eq!(kept_targets(&path).expect("read"), kept.into_iter().collect::<Vec<_>>());
        }
        let query = ChangeQuery { table_name: Some(TARGETS_TABLE.into()), limit: 10, ..ChangeQuery::default() };
        let lines = store.changes(&query).await.expect("lines");
        let operations: Vec<Operation> = lines.iter().map(|line| line.operation).collect();
        assert_eq!(operations, [Operation::Delete, Operation::Update, Operation::Create], "no line for no change");
        assert_eq!(lines[1].new_values.as_ref().map(|row| row["enabled"].clone()), Some(true.into()));
    }
}
