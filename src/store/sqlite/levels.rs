//! `levels.db`: what the service levels counted, by minute and by hour. A damaged file is set aside and counting starts
//! anew. After a crash the minute under way is missing, no more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Transaction, params};

use super::connect::{Fault, name_of, open_or_replace};
use super::schema;
use super::worker::{Answer, Readers, Task, Worker, in_transaction, run_tasks};
use crate::clock::Clock;
use crate::store::{LevelRow, Levels, StoreResult, Width};

/// The counts of one node.
pub struct LevelsDb {
    store: String,
    writer: Worker<Task>,
    readers: Arc<Readers>,
}

impl LevelsDb {
    /// Opens or makes the database.
    pub fn open(path: &Path, clock: &Clock) -> StoreResult<Self> {
        let store = name_of(path);
        let connection = open_or_replace(path, schema::LEVELS, clock).map_err(|fault| fault.of(&store))?;
        let name = store.clone();
        let writer = Worker::start(&store, move |tasks| run_tasks(&name, connection, tasks))?;
        let readers = Arc::new(Readers::new(path.to_owned(), store.clone()));
        Ok(Self { store, writer, readers })
    }

    async fn write(
        &self,
        body: impl FnOnce(&Transaction<'_>) -> Result<(), Fault> + Send + 'static,
    ) -> StoreResult<()> {
        let store = self.store.clone();
        let job = move |answer: Answer<()>| -> Task {
            Box::new(move |connection| {
                let result = in_transaction(connection, body);
                // Whoever asked may have gone; what was written stays.
                let _ = answer.send(result.map_err(|fault| fault.of(&store)));
            })
        };
        self.writer.ask(job).await
    }
}

#[async_trait]
impl Levels for LevelsDb {
    async fn levels(&self) -> StoreResult<Vec<LevelRow>> {
        self.readers
            .read(|connection| {
                let mut statement = connection.prepare_cached("SELECT width, number, level, bad, total FROM levels")?;
                let rows = statement.query_map([], |row| {
                    let seconds: i64 = row.get(0)?;
                    let width = if seconds == Width::Hour.seconds() { Width::Hour } else { Width::Minute };
                    let count = |index| row.get::<_, i64>(index).map(|count| u64::try_from(count).unwrap_or(0));
                    Ok(LevelRow { width, number: row.get(1)?, level: row.get(2)?, bad: count(3)?, total: count(4)? })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn put_levels(&self, rows: Vec<LevelRow>, keep_from: [(Width, i64); 2]) -> StoreResult<()> {
        self.write(move |transaction| {
            let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO levels VALUES (?1, ?2, ?3, ?4, ?5)")?;
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            for row in &rows {
                put.execute(params![row.width.seconds(), row.number, row.level, number(row.bad), number(row.total)])?;
            }
            let mut forget = transaction.prepare_cached("DELETE FROM levels WHERE width = ?1 AND number < ?2")?;
            for (width, first) in keep_from {
                forget.execute(params![width.seconds(), first])?;
            }
            Ok(())
        })
        .await
    }

    async fn states(&self) -> StoreResult<BTreeMap<String, String>> {
        self.readers
            .read(|connection| {
                let mut statement = connection.prepare_cached("SELECT level, state FROM states")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn put_state(&self, level: &str, state: &str) -> StoreResult<()> {
        let (level, state) = (level.to_owned(), state.to_owned());
        self.write(move |transaction| {
            transaction.execute("INSERT OR REPLACE INTO states VALUES (?1, ?2)", params![level, state])?;
            Ok(())
        })
        .await
    }

    async fn close(&self) -> StoreResult<()> {
        self.writer.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn buckets_are_replaced_and_old_ones_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("levels.db");
        let row = |number, bad, total| LevelRow { width: Width::Minute, number, level: "a".into(), bad, total };
        let hour = LevelRow { width: Width::Hour, number: 1, level: "a".into(), bad: 1, total: 9 };
        let db = LevelsDb::open(&path, &Clock::system()).expect("opens");
        let keep_all = [(Width::Minute, 0), (Width::Hour, 0)];
        db.put_levels(vec![row(1, 0, 5), row(2, 1, 5), hour.clone()], keep_all).await.expect("written");
        db.put_levels(vec![row(2, 2, 7)], [(Width::Minute, 2), (Width::Hour, 0)]).await.expect("written");
        db.put_state("a", "critical").await.expect("written");
        db.close().await.expect("closed");
        let db = LevelsDb::open(&path, &Clock::system()).expect("opens again");
        assert_eq!(db.levels().await.expect("read"), [row(2, 2, 7), hour]);
        assert_eq!(db.states().await.expect("read").get("a").map(String::as_str), Some("critical"));
    }
}
