//! Which rows of a partition have which host, rule, severity and protocol: what the audit has instead of SQL indexes.
//!
//! An entry of an SQL index lands on a page of its own for each host, so with some thousands of hosts every small
//! transaction rewrites thousands of pages. Here what is recorded is first noted in *batches*, one short blob that grows
//! with each transaction. When [`RUN_ROWS`] rows are noted, they become a *run*: their ordinals in order, and for each
//! host, rule, severity and protocol the positions at which it occurs (see `postings`), written one after the other. A
//! search then reads one blob a run and condition, however many rows there are, and the batches from end to end.
//!
//! Everything is written in the transaction of its rows, so a crash never separates them. What cannot be read counts as
//! holding everything: the row itself decides, so damage here costs time, not rows. Rows that are removed stay noted and
//! are found missing; runs that hold nothing any more go with [`trim`].

use rusqlite::{Connection, Row, Transaction, params};

use super::connect::Fault;
use super::postings::{self, Pack, Unpack};

/// Rows of a run: positions fit 16 bits, a bitmap has 8 KiB. Unit tests have small runs,
/// so that they have many.
pub(super) const RUN_ROWS: usize = if cfg!(test) { 1_024 } else { 65_536 };
/// Ordinals that are unpacked together: a multiple of 64, the bits of a word.
pub(super) const CHUNK_ROWS: usize = if cfg!(test) { 128 } else { 512 };
/// Chunks of a run, at most.
const RUN_CHUNKS: i64 = (RUN_ROWS / CHUNK_ROWS) as i64;
/// A batch that has grown to so many rows is written again no more: it fills two pages then.
const BATCH_ROWS: usize = if cfg!(test) { 64 } else { 512 };

/// What rows are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The host's number.
    Host = 1,
    /// The rule that matched.
    Rule = 2,
    /// The severity; 8 for none.
    Severity = 3,
    /// The protocol's number.
    Protocol = 4,
    /// 1 if a rule matched, else 0.
    Matched = 5,
}

/// A kind and the value of it that is looked for.
pub(super) type Condition = (Kind, i64);

/// The severity key of rows without one.
pub(super) const NO_SEVERITY: u8 = 8;

/// What is noted of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ordinal: i64,
    pub(super) host: i64,
    pub(super) rule: Option<i64>,
    /// [`NO_SEVERITY`] for none.
    pub(super) severity: u8,
    pub(super) protocol: u8,
}

impl Entry {
    /// Whether the row has what is looked for.
    pub(super) fn has(&self, (kind, key): Condition) -> bool {
        self.keys().contains(&(kind, Some(key)))
    }

    fn keys(&self) -> [(Kind, Option<i64>); 5] {
        [
            (Kind::Host, Some(self.host)),
            (Kind::Rule, self.rule),
            (Kind::Severity, Some(self.severity.into())),
            (Kind::Protocol, Some(self.protocol.into())),
            (Kind::Matched, Some(self.rule.is_some().into())),
        ]
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            ordinal: row.get(0)?,
            host: row.get(1)?,
            rule: row.get(2)?,
            severity: row.get::<_, Option<u8>>(3)?.unwrap_or(NO_SEVERITY),
            protocol: row.get::<_, i64>(4)?.try_into().unwrap_or(u8::MAX),
        })
    }
}

/// The columns of [`Entry::read`].
const ENTRIES: &str =
    "SELECT ordinal, host, rule, severity, protocol FROM events WHERE ordinal BETWEEN ?1 AND ?2 ORDER BY ordinal";

/// Notes what is recorded in a partition.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The batch that grows, and its row once it has one.
    open: Vec<Entry>,
    id: Option<i64>,
    /// Rows in the other batches.
    closed_rows: usize,
    /// Whether the growing batch differs from its row.
    changed: bool,
}

impl Index {
    /// Goes on with a partition.
    pub(super) fn load(connection: &Connection) -> Result<Self, Fault> {
        let rows: i64 = connection.query_row("SELECT coalesce(sum(rows), 0) FROM batches", [], |row| row.get(0))?;
        Ok(Self { closed_rows: usize::try_from(rows).unwrap_or(0), ..Self::default() })
    }

    /// Notes a row.
    pub(super) fn add(&mut self, entry: Entry) {
        self.open.push(entry);
        self.changed = true;
    }

    /// Writes what was noted since the last time.
    pub(super) fn save(&mut self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        if !self.changed {
            return Ok(());
        }
        self.id = Some(put_batch(transaction, self.id, &self.open)?);
        self.changed = false;
        if self.closed_rows + self.open.len() >= RUN_ROWS {
            return self.merge(transaction);
        }
        if self.open.len() >= BATCH_ROWS {
            self.closed_rows += self.open.len();
            (self.open, self.id) = (Vec::new(), None);
        }
        Ok(())
    }

    /// Makes runs of all batches; what is left over is the newest rows, and becomes one batch.
    fn merge(&mut self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let mut entries = Vec::with_capacity(RUN_ROWS + RUN_ROWS / 4);
        for batch in batches(transaction)? {
            match batch.entries {
                Some(noted) => entries.extend(noted),
                None => entries.extend(entries_between(transaction, batch.first, batch.last)?),
            }
        }
        entries.sort_unstable_by_key(|entry| entry.ordinal);
        entries.dedup_by_key(|entry| entry.ordinal);
        transaction.execute("DELETE FROM batches", [])?;
        let full = entries.chunks_exact(RUN_ROWS);
        let left = full.remainder();
        for run in full {
            put_run(transaction, run)?;
        }
        if !left.is_empty() {
            put_batch(transaction, None, left)?;
        }
        *self = Self { closed_rows: left.len(), ..Self::default() };
        Ok(())
    }
}

/// Notes every row of a partition anew: files of before there was this index.
pub(super) fn rebuild(transaction: &Transaction<'_>) -> Result<(), Fault> {
    transaction.execute_batch("DELETE FROM batches; DELETE FROM runs; DELETE FROM ordinals; DELETE FROM postings;")?;
    let mut statement = transaction.prepare(ENTRIES)?;
    let mut rows = statement.query([i64::MIN, i64::MAX])?;
    let mut entries = Vec::with_capacity(RUN_ROWS);
    while let Some(row) = rows.next()? {
        entries.push(Entry::read(row)?);
        if entries.len() == RUN_ROWS {
            put_run(transaction, &entries)?;
            entries.clear();
        }
    }
    if !entries.is_empty() {
        put_batch(transaction, None, &entries)?;
    }
    Ok(())
}

/// Forgets runs below the oldest row: all of theirs were removed.
pub(super) fn trim(transaction: &Transaction<'_>) -> Result<(), Fault> {
    let first: Option<i64> = transaction.query_row("SELECT min(ordinal) FROM events", [], |row| row.get(0))?;
    let first = first.unwrap_or(i64::MAX);
    let gone: Vec<i64> = {
        let mut statement = transaction.prepare_cached("SELECT id FROM runs WHERE last < ?1")?;
        statement.query_map([first], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for run in gone {
        transaction.prepare_cached("DELETE FROM postings WHERE run = ?1")?.execute([run])?;
        let chunks = params![run * RUN_CHUNKS, (run + 1) * RUN_CHUNKS];
        transaction.prepare_cached("DELETE FROM ordinals WHERE id >= ?1 AND id < ?2")?.execute(chunks)?;
        transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([run])?;
    }
    Ok(())
}

fn put_batch(transaction: &Transaction<'_>, id: Option<i64>, entries: &[Entry]) -> Result<i64, Fault> {
    let first = entries.iter().map(|entry| entry.ordinal).min();
    let last = entries.iter().map(|entry| entry.ordinal).max();
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO batches VALUES (?1, ?2, ?3, ?4, ?5)")?;
    Ok(put.insert(params![id, first, last, count(entries), pack_entries(entries)])?)
}

fn count(entries: &[Entry]) -> i64 {
    i64::try_from(entries.len()).unwrap_or(i64::MAX)
}

fn pack_entries(entries: &[Entry]) -> Vec<u8> {
    let mut pack = Pack::default();
    let mut previous = 0_i64;
    for entry in entries {
        pack.signed(entry.ordinal.wrapping_sub(previous));
        previous = entry.ordinal;
        pack.signed(entry.host);
        pack.byte(entry.severity | if entry.rule.is_some() { 0x10 } else { 0 });
        pack.byte(entry.protocol);
        if let Some(rule) = entry.rule {
            pack.signed(rule);
        }
    }
    pack.sealed()
}

fn unpack_entries(blob: &[u8]) -> Option<Vec<Entry>> {
    let mut unpack = Unpack::opened(blob)?;
    let mut entries = Vec::new();
    let mut ordinal = 0_i64;
    while !unpack.is_empty() {
        ordinal = ordinal.wrapping_add(unpack.signed()?);
        let (host, flags, protocol) = (unpack.signed()?, unpack.byte()?, unpack.byte()?);
        let rule = if flags & 0x10 == 0 { None } else { Some(unpack.signed()?) };
        entries.push(Entry { ordinal, host, rule, severity: flags & 0x0f, protocol });
    }
    Some(entries)
}

/// A batch as it is read.
pub(super) struct Batch {
    pub(super) first: i64,
    pub(super) last: i64,
    /// `None` if it cannot be read; then any row between `first` and `last` may be one of its.
    pub(super) entries: Option<Vec<Entry>>,
}

/// All batches of a partition: the rows that are in no run yet.
pub(super) fn batches(connection: &Connection) -> Result<Vec<Batch>, Fault> {
    let mut statement = connection.prepare_cached("SELECT first, last, body FROM batches")?;
    let batches = statement.query_map([], |row| {
        let entries = unpack_entries(row.get_ref(2)?.as_blob().unwrap_or_default());
        Ok(Batch { first: row.get(0)?, last: row.get(1)?, entries })
    })?;
    Ok(batches.collect::<Result<_, _>>()?)
}

fn entries_between(connection: &Connection, first: i64, last: i64) -> Result<Vec<Entry>, Fault> {
    let mut statement = connection.prepare_cached(ENTRIES)?;
    let entries = statement.query_map([first, last], Entry::read)?;
    Ok(entries.collect::<Result<_, _>>()?)
}

/// `entries` are in the order of their ordinals and no more than a run has.
fn put_run(transaction: &Transaction<'_>, entries: &[Entry]) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let mut directory = Pack::default();
    let mut previous = first.ordinal;
    for chunk in entries.chunks(CHUNK_ROWS) {
        let (least, greatest) = (chunk[0].ordinal, chunk[chunk.len() - 1].ordinal);
        directory.number(least.wrapping_sub(previous).cast_unsigned());
        directory.number(greatest.wrapping_sub(least).cast_unsigned());
        previous = greatest;
    }
    let mut put = transaction.prepare_cached("INSERT INTO runs (first, last, rows, chunks) VALUES (?1, ?2, ?3, ?4)")?;
    let run = put.insert(params![first.ordinal, last.ordinal, count(entries), directory.sealed()])?;
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO ordinals VALUES (?1, ?2)")?;
    for (number, chunk) in (run * RUN_CHUNKS..).zip(entries.chunks(CHUNK_ROWS)) {
        let mut pack = Pack::default();
        for pair in chunk.windows(2) {
            pack.number(pair[1].ordinal.wrapping_sub(pair[0].ordinal).cast_unsigned());
        }
        put.execute(params![number, pack.sealed()])?;
    }
    put_postings(transaction, run, entries)
}

fn put_postings(transaction: &Transaction<'_>, run: i64, entries: &[Entry]) -> Result<(), Fault> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO postings VALUES (?1, ?2, ?3, ?4)")?;
    let mut keys: Vec<(i64, u16)> = Vec::with_capacity(entries.len());
    let mut positions: Vec<u16> = Vec::new();
    for column in 0..5 {
        keys.clear();
        let mut kind = Kind::Host;
        for (position, entry) in (0_u16..=u16::MAX).zip(entries) {
            let (this, key) = entry.keys()[column];
            kind = this;
            keys.extend(key.map(|key| (key, position)));
        }
        keys.sort_unstable();
        for of_key in keys.chunk_by(|one, other| one.0 == other.0) {
            positions.clear();
            positions.extend(of_key.iter().map(|(_, position)| *position));
            put.execute(params![run, kind as i64, of_key[0].0, postings::pack(&positions, entries.len())])?;
        }
    }
    Ok(())
}

/// A run as it is found.
#[derive(Debug, Default)]
pub(super) struct RunInfo {
    pub(super) id: i64,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) rows: usize,
    chunks: Vec<u8>,
}

/// The runs with rows between two ordinals.
pub(super) fn runs(connection: &Connection, least: i64, greatest: i64) -> Result<Vec<RunInfo>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT id, first, last, rows, chunks FROM runs WHERE last >= ?1 AND first <= ?2")?;
    let runs = statement.query_map([least, greatest], |row| {
        let rows: i64 = row.get(3)?;
        let rows = usize::try_from(rows).unwrap_or(0).min(RUN_ROWS);
        Ok(RunInfo { id: row.get(0)?, first: row.get(1)?, last: row.get(2)?, rows, chunks: row.get(4)? })
    })?;
    Ok(runs.collect::<Result<_, _>>()?)
}

impl RunInfo {
    /// The first and last ordinal of each chunk; `None` if that cannot be read.
    pub(super) fn directory(&self) -> Option<Vec<(i64, i64)>> {
        let mut unpack = Unpack::opened(&self.chunks)?;
        let mut previous = self.first;
        let mut chunks = Vec::with_capacity(self.rows.div_ceil(CHUNK_ROWS));
        while !unpack.is_empty() {
            let first = previous.wrapping_add(unpack.number()?.cast_signed());
            previous = first.wrapping_add(unpack.number()?.cast_signed());
            chunks.push((first, previous));
        }
        (chunks.len() == self.rows.div_ceil(CHUNK_ROWS)).then_some(chunks)
    }

    /// The positions that have all of `conditions`, as bits; none of a run without conditions is left out.
    pub(super) fn bits(&self, connection: &Connection, conditions: &[Condition]) -> Result<Vec<u64>, Fault> {
        let mut bits = postings::all(self.rows);
        let mut statement =
            connection.prepare_cached("SELECT body FROM postings WHERE run = ?1 AND kind = ?2 AND key = ?3")?;
        for (kind, key) in conditions {
            let mut rows = statement.query(params![self.id, *kind as i64, key])?;
            match rows.next()? {
                // What cannot be read holds everything.
                Some(row) => postings::restrict(&mut bits, row.get_ref(0)?.as_blob().unwrap_or_default()),
                None => bits.clear(),
            }
        }
        Ok(bits)
    }

    /// The ordinals of one chunk, ascending; `None` if they cannot be read.
    pub(super) fn ordinals(
        &self,
        connection: &Connection,
        chunk: usize,
        first: i64,
    ) -> Result<Option<Vec<i64>>, Fault> {
        let number = self.id * RUN_CHUNKS + i64::try_from(chunk).unwrap_or(0);
        let mut statement = connection.prepare_cached("SELECT body FROM ordinals WHERE id = ?1")?;
        let mut rows = statement.query([number])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(unpack_ordinals(row.get_ref(0)?.as_blob().unwrap_or_default(), first))
    }
}

fn unpack_ordinals(blob: &[u8], first: i64) -> Option<Vec<i64>> {
    let mut unpack = Unpack::opened(blob)?;
    let mut ordinals = Vec::with_capacity(CHUNK_ROWS);
    let mut ordinal = first;
    ordinals.push(ordinal);
    while !unpack.is_empty() {
        ordinal = ordinal.wrapping_add(unpack.number()?.cast_signed());
        ordinals.push(ordinal);
    }
    Some(ordinals)
}

/// Every ordinal that is noted, for the test that none is forgotten.
#[cfg(test)]
pub(super) fn noted(connection: &Connection) -> Result<std::collections::BTreeSet<i64>, Fault> {
    let mut noted = std::collections::BTreeSet::new();
    for batch in batches(connection)? {
        noted.extend(batch.entries.into_iter().flatten().map(|entry| entry.ordinal));
    }
    for run in runs(connection, i64::MIN, i64::MAX)? {
        for (chunk, (first, _)) in run.directory().into_iter().flatten().enumerate() {
            noted.extend(run.ordinals(connection, chunk, first)?.into_iter().flatten());
        }
    }
    Ok(noted)
}
