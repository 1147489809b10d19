//! Writing the audit: one transaction a month for all calls that wait, hosts as numbers, rows found again by ordinal. A
//! month begins a new part when its newest has reached `partition_max_bytes`.
//!
//! Never updates a row. After a crash a transaction is there as a whole or not at all; the caller, who was not
//! answered, repeats it, and what is there already is left as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};
use tracing::info;

use super::body::Encoder;
use super::connect::{Fault, checkpoint, open_or_replace, remove_file, set_aside};
use super::facts::Facts;
use super::index::{self, Entry, Index, NO_SEVERITY};
use super::months::{Months, PROBES, PartitionFile, tolerate_damage};
use super::partition::{Month, Partition};
use super::schema;
use super::worker::in_transaction;
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{DeliveryNote, DeliveryOutcome, EventId, Judged, Protocol, host_key};
use crate::store::{AuditSettings, StoreError};
use crate::telemetry::metrics::{AUDIT_BYTES, AUDIT_PARTITIONS, AUDIT_ROWS};

/// Partitions open for writing at once: the current one, the one before at midnight, and two for old events of a replay.
const OPEN_PARTITIONS: usize = 4;
/// Host numbers remembered for one partition; a network that names more hosts than this looks them up again.
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
    settings: Live<AuditSettings>,
    open: BTreeMap<Partition, PartitionWriter>,
    encoder: Encoder,
    /// Partitions that take nothing new for the moment, because they are written anew.
    resting: BTreeSet<Partition>,
    /// The month, and how many after it, for which files were made ahead last.
    prepared: Option<(Month, u32)>,
}

/// A partition open for writing.
struct PartitionWriter {
    file: Arc<PartitionFile>,
    connection: Connection,
    hosts: HashMap<String, i64>,
    index: Index,
    facts: Facts,
}

impl AuditWriter {
    /// Opens the current month, so that a file of a newer version is refused at the start.
    pub(super) fn open(months: Arc<Months>, clock: Clock, settings: Live<AuditSettings>) -> Result<Self, Fault> {
        let (open, encoder, resting) = (BTreeMap::new(), Encoder::default(), BTreeSet::new());
        let mut writer = Self { months, clock, settings, open, encoder, resting, prepared: None };
        let month = Month::of_millis(writer.clock.now().as_millis());
        writer.partition_for(month)?;
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
            self.write_month(month, rows, &notes)?;
        }
        Ok(())
    }

    fn write_month(&mut self, month: Month, rows: Vec<&Judged>, notes: &[&DeliveryNote]) -> Result<(), Fault> {
        let partition = self.partition_for(month)?;
        let rows = self.not_in_other_parts(partition, rows)?;
        match self.write_partition(partition, &rows, notes) {
            Err(fault) if fault.is_damage() => {
                // The file broke while it was in use. Events must go on being recorded, so a fresh one takes its place.
                self.open.remove(&partition);
                self.months.remove(partition);
                set_aside(&self.months.path(partition), &self.clock, &fault)?;
                self.write_partition(partition, &rows, notes)
            }
            other => other,
        }
    }

    /// The part of `month` that takes what comes now: the one begun last, or a new one when that is full.
    fn partition_for(&mut self, month: Month) -> Result<Partition, Fault> {
        let newest = self.months.of_month(month).first().map_or(Partition::first(month), |file| file.partition);
        let most = i64::try_from(self.settings.get().max_bytes).unwrap_or(i64::MAX);
        let is_resting = self.resting.contains(&newest);
        if !is_resting && self.opened(newest)?.facts.bytes < most {
            return Ok(newest);
        }
        let next = newest.next_part();
        self.opened(next)?;
        let why = if is_resting { "is written anew" } else { "is full" };
        info!(partition = %newest, next = %next, "the audit of {newest} {why}; {next} takes what comes now");
        Ok(next)
    }

    /// The rows that no other part of the month has: an event is recorded once, also when it comes again after a roll.
    /// Only rows that lie among another part's are looked up, so what comes in order costs nothing.
    fn not_in_other_parts<'a>(
        &self,
        partition: Partition,
        mut rows: Vec<&'a Judged>,
    ) -> Result<Vec<&'a Judged>, Fault> {
        for file in self.months.of_month(partition.month) {
            if file.partition == partition || rows.is_empty() {
                continue;
            }
            // What a damaged part holds is unknown; recording once more beats not recording.
            let Some(facts) = tolerate_damage(&file, self.months.facts(&file))? else { continue };
            let (Some(first), Some(last)) = (facts.first, facts.last) else { continue };
            let among = |row: &Judged| (first.saturating_sub(PROBES)..=last).contains(&row.event.id.ordinal());
            if !rows.iter().any(|row| among(row)) {
                continue;
            }
            let looked_up = self.months.read(&file, |connection| {
                let known: Result<Vec<bool>, Fault> =
                    rows.iter().map(|row| Ok(among(row) && holds(connection, row.event.id)?)).collect();
                known
            });
            if let Some(known) = tolerate_damage(&file, looked_up)? {
                let mut known = known.into_iter();
                rows.retain(|_| !known.next().unwrap_or(false));
            }
        }
        Ok(rows)
    }

    fn write_partition(
        &mut self,
        partition: Partition,
        rows: &[&Judged],
        notes: &[&DeliveryNote],
    ) -> Result<(), Fault> {
        let mut encoder = std::mem::take(&mut self.encoder);
        let written = self.change(partition, |transaction, part| {
            let before = part.facts.rows;
            let mut tools = Tools { hosts: part.hosts, index: part.index, encoder: &mut encoder };
            insert_rows(transaction, rows, &mut tools, part.facts)?;
            insert_notes(transaction, notes)?;
            Ok(part.facts.rows.saturating_sub(before))
        });
        self.encoder = encoder;
        metrics::counter!(AUDIT_ROWS).increment(u64::try_from(written?).unwrap_or(0));
        Ok(())
    }

    /// Changes a partition in one transaction: all of `body` is done, or nothing. What `body` makes of the facts is kept
    /// with it, and readers know it when this returns.
    pub(super) fn change<T>(
        &mut self,
        partition: Partition,
        body: impl FnOnce(&Transaction<'_>, &mut Part<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let writer = self.opened(partition)?;
        let mut facts = writer.facts;
        if writer.hosts.len() > KNOWN_HOSTS {
            writer.hosts.clear();
        }
        let (hosts, index) = (&mut writer.hosts, &mut writer.index);
        let changed = in_transaction(&mut writer.connection, |transaction| {
            let value = body(transaction, &mut Part { hosts, index, facts: &mut facts })?;
            if facts.rows < writer.facts.rows {
                index::trim(transaction)?;
            }
            facts.write(writer.facts, transaction)?;
            Ok(value)
        });
        let changed = changed.and_then(|value| facts.refresh(&writer.connection).map(|()| value));
        match changed {
            Ok(value) => {
                writer.facts = facts;
                writer.file.learn(facts);
                Ok(value)
            }
            Err(fault) => {
                // What was rolled back may be among what is remembered.
                self.open.remove(&partition);
                Err(fault)
            }
        }
    }

    /// A partition's writer; its file is opened, or made, if it is not open, and the oldest of too many is closed.
    fn opened(&mut self, partition: Partition) -> Result<&mut PartitionWriter, Fault> {
        if !self.open.contains_key(&partition) {
            while self.open.len() >= OPEN_PARTITIONS {
                self.open.pop_first();
            }
            let (file, mut connection) = self.open_file(partition)?;
            let facts = indexed(partition, &mut connection)?;
            file.learn(facts);
            let (hosts, index) = (HashMap::new(), Index::load(&connection)?);
            self.open.insert(partition, PartitionWriter { file, connection, hosts, index, facts });
        }
        Ok(self.open.get_mut(&partition).expect("it was opened above"))
    }

    fn open_file(&self, partition: Partition) -> Result<(Arc<PartitionFile>, Connection), Fault> {
        let path = self.months.path(partition);
        let inode = || std::fs::metadata(&path).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).ok();
        let before = inode();
        let connection = open_or_replace(&path, schema::AUDIT, &self.clock)?;
        let known = self.months.get(partition).filter(|_| before == inode());
        Ok((known.unwrap_or_else(|| self.months.add(partition)), connection))
    }

    /// Makes the files of the coming months if the month, or how many are wanted, has changed since it was done last.
    /// Empty files of months further ahead, made while the clock was wrong, are removed.
    pub(super) fn prepare_ahead(&mut self) -> Result<(), Fault> {
        let current = Month::of_millis(self.clock.now().as_millis());
        let ahead = self.settings.get().advance_months;
        if self.prepared == Some((current, ahead)) {
            return Ok(());
        }
        // Also when it fails: files are made on demand too, and one warning a month is enough.
        self.prepared = Some((current, ahead));
        for month in (0..=ahead).map(|count| current.plus(count)) {
            if !self.months.has(month) {
                checkpoint(&self.open_file(Partition::first(month))?.1)?;
            }
        }
        for file in self.months.newest_first() {
            if file.partition.month <= current.plus(ahead) {
                break;
            }
            if tolerate_damage(&file, self.months.facts(&file))?.is_some_and(|facts| facts.rows == 0) {
                self.drop_partition(file.partition)?;
            }
        }
        Ok(())
    }

    /// Gives an index to partitions that were written before there was one.
    pub(super) fn index_old_files(&mut self) -> Result<(), Fault> {
        for file in self.months.newest_first() {
            if tolerate_damage(&file, self.months.facts(&file))?.is_some_and(|facts| facts.unindexed > 0) {
                self.opened(file.partition)?;
            }
        }
        Ok(())
    }

    /// The partitions there are.
    pub(super) fn months(&self) -> &Arc<Months> {
        &self.months
    }

    /// The month it is.
    pub(super) fn current_month(&self) -> Month {
        Month::of_millis(self.clock.now().as_millis())
    }

    /// Bytes in use of a partition.
    pub(super) fn bytes_of(&mut self, partition: Partition) -> Result<i64, Fault> {
        Ok(self.opened(partition)?.facts.bytes)
    }

    /// Closes a partition, so that somebody else can write its file: what is recorded from now on goes to the next part.
    pub(super) fn lay_to_rest(&mut self, partition: Partition) {
        self.resting.insert(partition);
        self.open.remove(&partition);
    }

    /// Takes a partition back that was laid to rest.
    pub(super) fn wake(&mut self, partition: Partition) -> Result<(), Fault> {
        self.resting.remove(&partition);
        self.opened(partition).map(drop)
    }

    /// Writes a partition's file anew, without what lies in its unused corners. What is in its log stays there.
    pub(super) fn compact(&mut self, partition: Partition) -> Result<(), Fault> {
        let writer = self.opened(partition)?;
        writer.connection.execute_batch("VACUUM")?;
        writer.facts.refresh(&writer.connection)?;
        writer.file.learn(writer.facts);
        Ok(())
    }

    /// Removes a partition's file, with whatever is in it.
    pub(super) fn drop_partition(&mut self, partition: Partition) -> Result<(), Fault> {
        self.open.remove(&partition);
        self.months.remove(partition);
        remove_file(&self.months.path(partition))
    }

    /// Tells how many partitions there are, and how large they are as far as that is known.
    pub(super) fn publish(&self) {
        let files = self.months.newest_first();
        let bytes: i64 = files.iter().filter_map(|file| file.known_facts()).map(|facts| facts.bytes).sum();
        metrics::gauge!(AUDIT_PARTITIONS).set(files.len() as f64);
        metrics::gauge!(AUDIT_BYTES).set(bytes as f64);
    }

    /// Forgets what is open: after a panic nobody knows how far it came.
    pub(super) fn reset(&mut self) {
        self.open.clear();
        self.encoder = Encoder::default();
    }

    /// Writes the logs back into the files.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        for (_, writer) in std::mem::take(&mut self.open) {
            checkpoint(&writer.connection)?;
        }
        Ok(())
    }
}

/// The facts of a partition, after giving it an index if it was written before there was one.
fn indexed(partition: Partition, connection: &mut Connection) -> Result<Facts, Fault> {
    let before = Facts::read(connection)?;
    if before.unindexed == 0 {
        return Ok(before);
    }
    info!(%partition, rows = before.rows, "the audit of {partition} is given its index; events wait meanwhile");
    let facts = Facts { unindexed: 0, ..before };
    in_transaction(connection, |transaction| {
        index::rebuild(transaction)?;
        facts.write(before, transaction)
    })?;
    Ok(facts)
}

/// A partition while it is changed.
pub(super) struct Part<'a> {
    hosts: &'a mut HashMap<String, i64>,
    index: &'a mut Index,
    /// Its facts; rows that are removed have to be taken off [`Facts::rows`].
    pub(super) facts: &'a mut Facts,
}

impl Part<'_> {
    /// The number of a host stands for nothing any more.
    pub(super) fn forget_host(&mut self, key: &str) {
        self.hosts.retain(|name, _| host_key(name) != key);
    }
}

/// What is kept from transaction to transaction; thrown away with its month when one fails.
struct Tools<'a> {
    hosts: &'a mut HashMap<String, i64>,
    index: &'a mut Index,
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
            tools.index.add(Entry {
                ordinal: at,
                host,
                rule: judged.decision.rule().map(|rule| rule.0),
                severity: event.severity.map_or(NO_SEVERITY, |severity| severity.number()),
                protocol: protocol_number(event.source.protocol).try_into().unwrap_or(u8::MAX),
            });
            let skew = event.id.millis().saturating_sub(event.received_at.as_millis());
            facts.rows += 1;
            facts.least_skew_ms = facts.least_skew_ms.min(skew);
            facts.greatest_skew_ms = facts.greatest_skew_ms.max(skew);
        }
    }
    tools.index.save(transaction)
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

/// Whether an event lies in a partition.
fn holds(connection: &Connection, id: EventId) -> Result<bool, Fault> {
    let mut find = connection.prepare_cached("SELECT 1 FROM events WHERE ordinal BETWEEN ?1 AND ?2 AND id = ?3")?;
    let first = id.ordinal();
    Ok(find.exists(params![first, first.saturating_add(PROBES), id.as_bytes()])?)
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
