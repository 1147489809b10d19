//! The reading side of `config_audit_log`, and lines for actions. It is written by `config::log_change` alone.

use std::path::PathBuf;

use async_trait::async_trait;
use rusqlite::{Row, ToSql};
use serde_json::Value;

use super::config::{ConfigDb, Entry, Table, log_change};
use super::trail;
use crate::model::Timestamp;
use crate::store::{Action, Change, ChangeLog, ChangeQuery, ChangeRow, Operation, StoreResult, TrailHead, TrailReport};

/// Lines returned at once, at most.
const MAX_LINES: usize = 1_000;

#[async_trait]
impl ChangeLog for ConfigDb {
    async fn changes(&self, query: &ChangeQuery) -> StoreResult<Vec<ChangeRow>> {
        let query = query.clone();
        self.read(move |connection| {
            let (mut condition, mut values) = restriction(&query);
            if let Some(before) = query.before {
                condition.push_str(" AND id < ?");
                values.push(Box::new(before));
            }
            if let Some(after) = query.after {
                condition.push_str(" AND id > ?");
                values.push(Box::new(after));
            }
            let sql = lines_sql(&query, &condition);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values), read_change)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn note_action(&self, action: Action, change: &Change) -> StoreResult<()> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let table = Table { name: action.kind, key: "", columns: &[], truths: &[], rules_decisions: false };
            let entry = Entry { table, record_id: &action.record_id, old: action.old, new: action.new };
            log_change(transaction, now, &change, &entry)
        })
        .await
    }

    async fn count_changes(&self, query: &ChangeQuery) -> StoreResult<u64> {
        let query = query.clone();
        let count: i64 = self
            .read(move |connection| {
                let (condition, values) = restriction(&query);
                let sql = format!("SELECT count(*) FROM config_audit_log WHERE {condition}");
                let mut statement = connection.prepare_cached(&sql)?;
                Ok(statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0))?)
            })
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn verify_trail(&self, against: &[TrailHead]) -> StoreResult<TrailReport> {
        let (folder, against, clock) = (self.trail_folder(), against.to_vec(), self.clock());
        self.read(move |connection| trail::verify(connection, &folder, &against, &clock)).await
    }

    async fn cut_before(&self, before: Timestamp, change: &Change) -> StoreResult<u64> {
        self.cut_trail(before, change.clone()).await
    }

    async fn trail_head(&self) -> StoreResult<TrailHead> {
        self.read(trail::sealed_head).await
    }

    async fn snapshot(&self, folder: PathBuf) -> StoreResult<()> {
        self.copy_into(folder).await
    }

    async fn reseal_trail(&self, change: &Change) -> StoreResult<String> {
        self.reseal(change.clone()).await
    }
}

fn restriction(query: &ChangeQuery) -> (String, Vec<Box<dyn ToSql>>) {
    let mut condition = String::from("1");
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let operation = query.operation.map(|operation| operation.name().to_owned());
    for (column, value) in [
        ("table_name", &query.table_name),
        ("record_id", &query.record_id),
        ("changed_by", &query.user),
        ("operation", &operation),
        ("correlation_id", &query.correlation_id),
    ] {
        if let Some(value) = value {
            condition.push_str(&format!(" AND {column} = ?"));
            values.push(Box::new(value.clone()));
        }
    }
    for (column, moment) in [("changed_at >= ?", query.from), ("changed_at < ?", query.to)] {
        if let Some(moment) = moment {
            condition.push_str(&format!(" AND {column}"));
            values.push(Box::new(moment.as_micros()));
        }
    }
    (condition, values)
}

/// The statement that reads lines under a condition.
fn lines_sql(query: &ChangeQuery, condition: &str) -> String {
    let order = if query.ascending { "ASC" } else { "DESC" };
    let limit = query.limit.clamp(1, MAX_LINES);
    format!(
        "SELECT id, changed_at, changed_by, operation, table_name, record_id, old_values, new_values, reason, \
         correlation_id, changed_via, changed_from, row_hash FROM config_audit_log WHERE {condition} ORDER BY id {order} LIMIT {limit} \
         OFFSET {}",
        query.skip
    )
}

fn read_change(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
    let operation: String = row.get(3)?;
    Ok(ChangeRow {
        id: row.get(0)?,
        changed_at: Timestamp::from_micros(row.get(1)?),
        changed_by: row.get(2)?,
        // The table's CHECK admits these three words only.
        operation: match operation.as_str() {
            "CREATE" => Operation::Create,
            "DELETE" => Operation::Delete,
            _ => Operation::Update,
        },
        table_name: row.get(4)?,
        record_id: row.get(5)?,
        old_values: row.get::<_, Option<String>>(6)?.map(|text| json(&text)),
        new_values: row.get::<_, Option<String>>(7)?.map(|text| json(&text)),
        reason: row.get(8)?,
        correlation_id: row.get(9)?,
        changed_via: row.get(10)?,
        changed_from: row.get(11)?,
        // Whatever stands there is shown; whether it is right is for the verification to say.
        hash: row.get::<_, Option<Vec<u8>>>(12).ok().flatten().map(|hash| trail::hex(&hash)),
    })
}

/// Text that is no JSON, after damage, is shown as it is.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::connect::open_writer;
    use crate::store::sqlite::schema::CONFIG;

    #[test]
    fn no_single_filter_reads_the_whole_log_or_sorts_it() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("config.db"), CONFIG).unwrap();
        let text = || Some("x".to_owned());
        let base = ChangeQuery { limit: 50, ..ChangeQuery::default() };
        for query in [
            ChangeQuery { table_name: text(), ..base.clone() },
            ChangeQuery { table_name: text(), record_id: text(), ..base.clone() },
            ChangeQuery { user: text(), ..base.clone() },
            ChangeQuery { operation: Some(Operation::Create), ..base.clone() },
            ChangeQuery { correlation_id: text(), ..base.clone() },
        ] {
            let (condition, values) = restriction(&query);
            let sql = format!("EXPLAIN QUERY PLAN {}", lines_sql(&query, &condition));
            let mut statement = connection.prepare(&sql).unwrap();
            let steps = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
            assert!(
                steps.iter().all(|step| step.starts_with("SEARCH") && step.contains("INDEX")),
                "{query:?}: {steps:?}"
            );
        }
    }
}
