//! Writing the audit: one transaction a month for all calls that wait, hosts as numbers, rows found again by ordinal.
//!
//! Never updates a row. After a crash a transaction is there as a whole or not at all; the caller, who was not
//! answered, repeats it, and what is there already is left as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};

use super::body::Encoder;
use super::connect::{Fault, checkpoint, open_or_replace, set_aside};
use super::digest::Digest;
use super::months::{Month, Months, PROBES};
use super::schema;
use super::worker::in_transaction;
use crate::clock::Clock;
use crate::model::{DeliveryNote, DeliveryOutcome, EventId, Judged, Protocol, host_key};
use crate::store::StoreError;
use crate::telemetry::metrics::AUDIT_ROWS;

/// Months made ahead of the current one (requirement 1.2).
const MONTHS_AHEAD: usize = 3;
/// Months open for writing at once: the current one, the one before at midnight, and one for old events of a replay.
const OPEN_MONTHS: usize = 3;
/// Host numbers remembered for one month; a network that names more hosts than this looks them up again.
const KNOWN_HOSTS: usize = 100_000;
/// Longest answer of a receiver kept, in bytes: enough for its error page's message.
const MAX_ANSWER: usize = 4_096;

/// The number protocols have in the `protocol` column: their position in [`Protocol::ALL`].
pub(super) fn protocol_number(protocol: Protocol) -> i64 {
    let position = Protocol::ALL.iter().position(|other| *other == protocol).unwrap_or(Protocol::ALL.len());
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// The number outcomes have in the `outcome` column.
pub(super) const OUTCOMES: [DeliveryOutcome; 3] =
    [DeliveryOutcome::Delivered, DeliveryOutcome::Retrying, DeliveryOutcome::DeadLettered];

/// The state of the audit's writer thread.
pub(super) struct AuditWriter {
    months: Arc<Months>,
    clock: Clock,
    open: BTreeMap<Month, MonthWriter>,
    encoder: Encoder,
    /// The newest month after which files were made ahead.
    prepared: Option<Month>,
}

struct MonthWriter {
    connection: Connection,
    hosts: HashMap<String, i64>,
    digest: Digest,
    facts: Facts,
}

/// What a month's file tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// Rows in it.
    pub(super) rows: i64,
    /// By how many milliseconds ids are ahead of the receive time, at least: 0 or less.
    pub(super) least_skew_ms: i64,
    /// The same, at most: above 0 after the clock was set back, when ids go on ascending.
    pub(super) greatest_skew_ms: i64,
}

impl Facts {
    /// Reads them from a month's file.
    pub(super) fn read(connection: &Connection) -> Result<Self, Fault> {
        let mut facts = Self::default();
        let mut statement = connection.prepare_cached("SELECT name, value FROM facts")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let value = row.get(1)?;
            match row.get_ref(0)?.as_str().unwrap_or_default() {
                "rows" => facts.rows = value,
                "least_skew_ms" => facts.least_skew_ms = value,
                "greatest_skew_ms" => facts.greatest_skew_ms = value,
                _ => {}
            }
        }
        Ok(facts)
    }

    fn write(self, before: Self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let mut update = transaction.prepare_cached("UPDATE facts SET value = ?2 WHERE name = ?1")?;
        for (name, old, new) in [
            ("rows", before.rows, self.rows),
            ("least_skew_ms", before.least_skew_ms, self.least_skew_ms),
            ("greatest_skew_ms", before.greatest_skew_ms, self.greatest_skew_ms),
        ] {
            if old != new {
                update.execute(params![name, new])?;
            }
        }
        Ok(())
    }
}

impl AuditWriter {
    /// Opens the current month, so that a file of a newer version is refused at the start.
    pub(super) fn open(months: Arc<Months>, clock: Clock) -> Result<Self, Fault> {
        let mut writer = Self { months, clock, open: BTreeMap::new(), encoder: Encoder::new(), prepared: None };
        let month = Month::of_millis(writer.clock.now().as_millis());
        writer.month(month)?;
        Ok(writer)
    }

    /// Writes rows and notes; on return they are on stable storage.
    pub(super) fn write(&mut self, rows: &[Vec<Judged>], notes: &[Vec<DeliveryNote>]) -> Result<(), Fault> {
        let mut months: BTreeMap<Month, (Vec<&Judged>, Vec<&DeliveryNote>)> = BTreeMap::new();
        for row in rows.iter().flatten() {
            months.entry(Month::of(row.event.id)).or_default().0.push(row);
        }
        for note in notes.iter().flatten() {
            months.entry(Month::of(note.event_id)).or_default().1.push(note);
        }
        for (month, (rows, notes)) in months {
            self.write_month(month, &rows, &notes)?;
        }
        Ok(())
    }

    fn write_month(&mut self, month: Month, rows: &[&Judged], notes: &[&DeliveryNote]) -> Result<(), Fault> {
        match self.try_write_month(month, rows, notes) {
            Err(fault) if fault.is_damage() => {
                // The file broke while it was in use. Events must go on being recorded, so a fresh one takes its place.
                self.open.remove(&month);
                set_aside(&self.months.path(month), &self.clock, &fault)?;
                self.try_write_month(month, rows, notes)
            }
            Err(fault) => {
                // What was rolled back may be among the remembered host numbers.
                self.open.remove(&month);
                Err(fault)
            }
            Ok(()) => Ok(()),
        }
    }

    fn try_write_month(&mut self, month: Month, rows: &[&Judged], notes: &[&DeliveryNote]) -> Result<(), Fault> {
        self.month(month)?;
        let Some(writer) = self.open.get_mut(&month) else { return Ok(()) };
        let mut facts = writer.facts;
        if writer.hosts.len() > KNOWN_HOSTS {
            writer.hosts.clear();
        }
        let mut tools = Tools { hosts: &mut writer.hosts, digest: &mut writer.digest, encoder: &mut self.encoder };
        in_transaction(&mut writer.connection, |transaction| {
            insert_rows(transaction, rows, &mut tools, &mut facts)?;
            insert_notes(transaction, notes)?;
            facts.write(writer.facts, transaction)
        })?;
        let written = facts.rows.saturating_sub(writer.facts.rows);
        metrics::counter!(AUDIT_ROWS).increment(u64::try_from(written).unwrap_or(0));
        writer.facts = facts;
        Ok(())
    }

    /// Opens a month's file if it is not open, and closes the oldest of too many.
    fn month(&mut self, month: Month) -> Result<(), Fault> {
        if self.open.contains_key(&month) {
            return Ok(());
        }
        while self.open.len() >= OPEN_MONTHS {
            self.open.pop_first();
        }
        let connection = self.open_file(month)?;
        let facts = Facts::read(&connection)?;
        self.open.insert(month, MonthWriter { connection, hosts: HashMap::new(), digest: Digest::default(), facts });
        Ok(())
    }

    fn open_file(&self, month: Month) -> Result<Connection, Fault> {
        let path = self.months.path(month);
        let asides = || std::fs::metadata(&path).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).ok();
        let before = asides();
        let connection = open_or_replace(&path, schema::AUDIT, &self.clock)?;
        if before != asides() || !self.months.has(month) {
            self.months.add(month);
        }
        Ok(connection)
    }

    /// Makes the files of the coming months if the month has changed since it was done last.
    pub(super) fn prepare_ahead(&mut self) -> Result<(), Fault> {
        let current = Month::of_millis(self.clock.now().as_millis());
        if self.prepared == Some(current) {
            return Ok(());
        }
        // Also when it fails: files are made on demand too, and one warning a month is enough.
        self.prepared = Some(current);
        let mut month = current;
        for _ in 0..=MONTHS_AHEAD {
            if !self.months.has(month) {
                checkpoint(&self.open_file(month)?)?;
            }
            month = month.next();
        }
        Ok(())
    }

    /// Forgets what is open: after a panic nobody knows how far it came.
    pub(super) fn reset(&mut self) {
        self.open.clear();
        self.encoder = Encoder::new();
    }

    /// Writes the logs back into the files.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        for (_, writer) in std::mem::take(&mut self.open) {
            checkpoint(&writer.connection)?;
        }
        Ok(())
    }
}

/// What is kept from transaction to transaction; thrown away with its month when one fails.
struct Tools<'a> {
    hosts: &'a mut HashMap<String, i64>,
    digest: &'a mut Digest,
    encoder: &'a mut Encoder,
}

const INSERT: &str = "INSERT INTO events \
    (ordinal, id, host, severity, protocol, rule, environment, forwarded, correlation, crc, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";

fn insert_rows(
    transaction: &Transaction<'_>,
    rows: &[&Judged],
    tools: &mut Tools<'_>,
    facts: &mut Facts,
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(INSERT)?;
    for judged in rows {
        let event = &judged.event;
        let host = host_number(transaction, tools.hosts, &event.hostname)?;
        let body = tools
            .encoder
            .encode(judged)
            .map_err(|why| StoreError::Invalid(format!("event `{}` cannot be stored: {why}", event.id)))?;
        if let Some(at) = insert_row(transaction, &mut insert, judged, host, body)? {
            tools.digest.add(transaction, at, host, judged.decision.rule().map(|rule| rule.0))?;
            let skew = event.id.millis().saturating_sub(event.received_at.as_millis());
            facts.rows += 1;
            facts.least_skew_ms = facts.least_skew_ms.min(skew);
            facts.greatest_skew_ms = facts.greatest_skew_ms.max(skew);
        }
    }
    tools.digest.save(transaction)
}

/// Inserts one row at its ordinal or, when another event lies there, at the next free one, and says where; `None` if it
/// is there already.
fn insert_row(
    transaction: &Transaction<'_>,
    insert: &mut CachedStatement<'_>,
    judged: &Judged,
    host: i64,
    body: &[u8],
) -> Result<Option<i64>, Fault> {
    let event = &judged.event;
    let first = event.id.ordinal();
    let crc = crc32fast::hash(body);
    for at in first..first.saturating_add(PROBES) {
        let inserted = insert.execute(params![
            at,
            event.id.as_bytes(),
            host,
            event.severity.map(|severity| severity.number()),
            protocol_number(event.source.protocol),
            judged.decision.rule().map(|rule| rule.0),
            judged.decision.environment.name() == "dev",
            judged.decision.forwarded(),
            event.correlation_id.as_deref(),
            crc,
            body,
        ])?;
        if inserted == 1 {
            return Ok(Some(at));
        }
        if id_at(transaction, at)?.as_ref() == Some(event.id.as_bytes()) {
            return Ok(None);
        }
    }
    let why =
        format!("event `{}` cannot be stored: {PROBES} others of the same millisecond and count are there", event.id);
    Err(StoreError::Invalid(why).into())
}

fn id_at(transaction: &Transaction<'_>, at: i64) -> Result<Option<[u8; 16]>, Fault> {
    let mut statement = transaction.prepare_cached("SELECT id FROM events WHERE ordinal = ?1")?;
    Ok(statement.query_row([at], |row| row.get(0)).optional()?)
}

fn host_number(transaction: &Transaction<'_>, known: &mut HashMap<String, i64>, hostname: &str) -> Result<i64, Fault> {
    // Most names are lower case already; only the others cost an allocation.
    if let Some(number) = known.get(hostname) {
        return Ok(*number);
    }
    let key = host_key(hostname);
    if let Some(number) = known.get(&key) {
        return Ok(*number);
    }
    let mut select = transaction.prepare_cached("SELECT id FROM hosts WHERE name = ?1")?;
    let number = match select.query_row([&key], |row| row.get(0)).optional()? {
        Some(number) => number,
        None => transaction.prepare_cached("INSERT INTO hosts (name) VALUES (?1)")?.insert([&key])?,
    };
    known.insert(key, number);
    Ok(number)
}

fn insert_notes(transaction: &Transaction<'_>, notes: &[&DeliveryNote]) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO deliveries (event, target, at, attempt, outcome, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for note in notes {
        let outcome = OUTCOMES.iter().position(|outcome| *outcome == note.outcome).unwrap_or(0);
        insert.execute(params![
            note.event_id.as_bytes(),
            note.target.as_str(),
            note.at.as_micros(),
            note.attempt,
            i64::try_from(outcome).unwrap_or(0),
            shortened(&note.answer),
        ])?;
    }
    Ok(())
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_ANSWER);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// How an event id is kept in a column.
pub(super) fn event_key(id: EventId) -> [u8; 16] {
    *id.as_bytes()
}
