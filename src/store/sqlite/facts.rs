//! What a partition tells about itself: how many rows, from when to when, how large. Kept in the file (`facts`) where it
//! cannot be had with one look at the tree, so that nothing ever counts rows.

use rusqlite::{Connection, Transaction, params};

use super::connect::Fault;

/// What a partition tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// Rows in it.
    pub(super) rows: i64,
    /// Ordinal of its oldest row.
    pub(super) first: Option<i64>,
    /// Ordinal of its newest row.
    pub(super) last: Option<i64>,
    /// Bytes in use, what lies in the write-ahead log included; pages that are free again are not counted.
    pub(super) bytes: i64,
    /// By how many milliseconds ids are ahead of the receive time, at least: 0 or less.
    pub(super) least_skew_ms: i64,
    /// The same, at most: above 0 after the clock was set back, when ids go on ascending.
    pub(super) greatest_skew_ms: i64,
    /// Above 0 while its rows are not in its index: it was written by a version that had none.
    pub(super) unindexed: i64,
}

/// Where the value of a kept fact is here.
type Place = fn(&mut Facts) -> &mut i64;

/// The facts that stand in the file, by name.
const KEPT: [(&str, Place); 4] = [
    ("rows", |facts| &mut facts.rows),
    ("least_skew_ms", |facts| &mut facts.least_skew_ms),
    ("greatest_skew_ms", |facts| &mut facts.greatest_skew_ms),
    ("unindexed", |facts| &mut facts.unindexed),
];

impl Facts {
    /// Reads them from a partition's file: some looks at pages that are cached, however many rows there are.
    pub(super) fn read(connection: &Connection) -> Result<Self, Fault> {
        let mut facts = Self { unindexed: 1, ..Self::default() };
        let mut statement = connection.prepare_cached("SELECT name, value FROM facts")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(0)?.as_str().unwrap_or_default();
            if let Some((_, place)) = KEPT.iter().find(|(kept, _)| *kept == name) {
                *place(&mut facts) = row.get(1)?;
            }
        }
        facts.refresh(connection)?;
        Ok(facts)
    }

    /// Reads again what is not kept: the ends and the size.
    pub(super) fn refresh(&mut self, connection: &Connection) -> Result<(), Fault> {
        let number = |sql: &str| -> Result<Option<i64>, Fault> {
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        };
        self.first = number("SELECT min(ordinal) FROM events")?;
        self.last = number("SELECT max(ordinal) FROM events")?;
        let pages =
            number("PRAGMA page_count")?.unwrap_or(0).saturating_sub(number("PRAGMA freelist_count")?.unwrap_or(0));
        self.bytes = pages.saturating_mul(number("PRAGMA page_size")?.unwrap_or(0));
        Ok(())
    }

    /// Writes what differs from `before`.
    pub(super) fn write(mut self, mut before: Self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let mut update = transaction.prepare_cached("UPDATE facts SET value = ?2 WHERE name = ?1")?;
        for (name, place) in KEPT {
            let new = *place(&mut self);
            if *place(&mut before) != new {
                update.execute(params![name, new])?;
            }
        }
        Ok(())
    }
}
