//! Whole days of the audit: read in chunks, removed row by row, put back, and files dropped in which nothing is left.
//!
//! Reading goes past the writer; removing is an errand of the writer's thread, a small transaction each, so that recording
//! waits for milliseconds. A row is removed only if it is, byte for byte of its meaning, what the caller holds. Pages that
//! become free are overwritten (`secure_delete`): what has left the audit cannot be read from its file any more. They are
//! used again by the same file and given back to the disk when the file is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::audit::AuditDb;
use super::audit_write::{AuditWriter, OUTCOMES, event_key};
use super::body::decode;
use super::connect::Fault;
use super::months::{Months, PROBES, PartitionFile, tolerate_damage};
use super::partition::{Month, Partition};
use crate::model::{Day, DeliveryNote, DeliveryOutcome, EventId, TargetName, Timestamp};
use crate::store::archive::{DamagedRow, EventIdText, Record};
use crate::store::{AuditShelf, AuditSize, Chunk, DroppedFile, Place, StoreError, StoreResult};

/// Notes read for one event at most; a target is tried some dozens of times.
const MOST_NOTES: i64 = 10_000;

#[async_trait]
impl AuditShelf for AuditDb {
    async fn days(&self, before: Day) -> StoreResult<Vec<Day>> {
        self.read(move |months| days(months, before)).await
    }

    async fn rows_of(&self, day: Day) -> StoreResult<u64> {
        self.read(move |months| rows_of(months, day)).await
    }

    async fn read_day(&self, day: Day, place: Place, limit: usize) -> StoreResult<Chunk> {
        self.read(move |months| read_day(months, day, place, limit.max(1))).await
    }

    async fn remove(&self, records: Vec<Record>) -> StoreResult<u64> {
        self.errand(move |writer| remove(writer, &records)).await
    }

    async fn put_back(&self, records: Vec<Record>) -> StoreResult<u64> {
        self.errand(move |writer| put_back(writer, records)).await
    }

    async fn forget_host(&self, key: &str) -> StoreResult<()> {
        self.forget(key).await
    }

    async fn drop_empty(&self) -> StoreResult<Vec<DroppedFile>> {
        self.errand(drop_empty).await
    }

    async fn size(&self) -> StoreResult<AuditSize> {
        self.read(size).await
    }
}

/// The files that can hold rows of a day, in the order of their parts.
fn files_of(months: &Months, day: Day) -> Vec<Arc<PartitionFile>> {
    let mut files = months.of_month(Month::of_millis(day.start().as_millis()));
    files.reverse();
    files
}

/// The ordinals at which rows of a day can lie: its own, and a few above for rows whose place was taken.
fn ordinals(day: Day) -> (i64, i64) {
    let start = EventId::ordinal_at(day.start().as_millis());
    let end = EventId::ordinal_at(day.plus(1).start().as_millis());
    (start, end.saturating_add(PROBES))
}

/// The least event ids of a day and of the one after it, as they are kept.
fn id_bounds(day: Day) -> ([u8; 16], [u8; 16]) {
    let floor = |day: Day| {
        let millis = u128::try_from(day.start().as_millis().max(0)).unwrap_or(0);
        (millis << 80).to_be_bytes()
    };
    (floor(day), floor(day.plus(1)))
}

fn id_of(bytes: Vec<u8>) -> Option<EventId> {
    bytes.try_into().ok().map(EventId::from_bytes)
}

fn days(months: &Arc<Months>, before: Day) -> Result<Vec<Day>, Fault> {
    let mut days = std::collections::BTreeSet::new();
    for file in months.newest_first() {
        if file.partition.month.start_millis() >= before.start().as_millis() {
            continue;
        }
        let found = months.read(&file, |connection| {
            let mut found = Vec::new();
            let mut next_row =
                connection.prepare_cached("SELECT id FROM events WHERE ordinal >= ?1 ORDER BY ordinal LIMIT 1")?;
            let mut from = i64::MIN;
            loop {
                let id = next_row.query_row([from], |row| row.get::<_, Vec<u8>>(0)).optional()?;
                let Some(day) = id.and_then(id_of).map(Day::of_event) else { break };
                found.push(day);
                // Rows of this day that lie a few places into the next one are met once more, which does no harm.
                from = ordinals(day.plus(1)).0.max(from.saturating_add(1));
            }
            let mut next_note =
                connection.prepare_cached("SELECT event FROM deliveries WHERE event >= ?1 ORDER BY event LIMIT 1")?;
            let mut from = [0_u8; 16];
            loop {
                let id = next_note.query_row([from], |row| row.get::<_, Vec<u8>>(0)).optional()?;
                let Some(day) = id.and_then(id_of).map(Day::of_event) else { break };
                found.push(day);
                from = id_bounds(day).1;
            }
            Ok(found)
        });
        days.extend(tolerate_damage(&file, found)?.unwrap_or_default());
    }
    Ok(days.into_iter().filter(|day| *day < before).collect())
}

fn rows_of(months: &Arc<Months>, day: Day) -> Result<u64, Fault> {
    let (start, end) = ordinals(day);
    let (first, last) = id_bounds(day);
    let mut rows = 0;
    for file in files_of(months, day) {
        let counted = months.read(&file, |connection| {
            let sql = "SELECT count(*) FROM events WHERE ordinal >= ?1 AND ordinal < ?2 AND id >= ?3 AND id < ?4";
            let count: i64 =
                connection.prepare_cached(sql)?.query_row(params![start, end, first, last], |row| row.get(0))?;
            Ok(count)
        });
        rows += u64::try_from(tolerate_damage(&file, counted)?.unwrap_or(0)).unwrap_or(0);
    }
    Ok(rows)
}

fn read_day(months: &Arc<Months>, day: Day, place: Place, limit: usize) -> Result<Chunk, Fault> {
    let files = files_of(months, day);
    let (mut index, mut after) = match place {
        Place::Start => (0, i64::MIN),
        Place::Row(index, after) => (index, after),
        Place::Note(event) => return lone_notes(months, &files, day, Some(event), limit),
    };
    while let Some(file) = files.get(index) {
        let rows = months.read(file, |connection| rows(connection, day, after, limit))?;
        if let Some(last) = rows.last().map(|row| row.0) {
            let records = with_notes(months, &files, rows)?;
            return Ok(Chunk { records, next: Some(Place::Row(index, last)) });
        }
        (index, after) = (index + 1, i64::MIN);
    }
    lone_notes(months, &files, day, None, limit)
}

/// A row: its ordinal, and what it holds without its notes.
type Row = (i64, Record);

fn rows(connection: &Connection, day: Day, after: i64, limit: usize) -> Result<Vec<Row>, Fault> {
    let (start, end) = ordinals(day);
    let mut statement = connection.prepare_cached(
        "SELECT ordinal, id, crc, body FROM events WHERE ordinal > ?1 AND ordinal >= ?2 AND ordinal < ?3 \
         AND id >= ?4 AND id < ?5 ORDER BY ordinal LIMIT ?6",
    )?;
    let (first, last) = id_bounds(day);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![after, start, end, first, last, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (ordinal, id): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let Some(id) = id_of(id) else { continue };
        let (crc, body) = (row.get(2)?, row.get_ref(3)?.as_blob().unwrap_or_default());
        let record = match decode(body, crc) {
            Ok(judged) if judged.event.id == id => Record::Event(Box::new(judged), Vec::new()),
            _ => Record::Damaged(DamagedRow { id: EventIdText(id), crc, body: super::trail::hex(body) }),
        };
        found.push((ordinal, record));
    }
    Ok(found)
}

/// Adds what receivers said to the events among `rows`; notes may lie in any part of the month.
fn with_notes(months: &Arc<Months>, files: &[Arc<PartitionFile>], rows: Vec<Row>) -> Result<Vec<Record>, Fault> {
    let mut records: Vec<Record> = rows.into_iter().map(|(_, record)| record).collect();
    for file in files {
        months.read(file, |connection| {
            if !has_notes(connection)? {
                return Ok(());
            }
            for record in &mut records {
                if let Record::Event(judged, notes) = record {
                    notes.extend(notes_of(connection, judged.event.id)?);
                }
            }
            Ok(())
        })?;
    }
    Ok(records)
}

fn has_notes(connection: &Connection) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM deliveries)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn notes_of(connection: &Connection, event_id: EventId) -> Result<Vec<DeliveryNote>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT target, at, attempt, outcome, answer FROM deliveries WHERE event = ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![event_key(event_id), MOST_NOTES])?;
    let mut notes = Vec::new();
    while let Some(row) = rows.next()? {
        // A name that is none any more can only come from damage.
        let Ok(target) = TargetName::new(&row.get::<_, String>(0)?) else { continue };
        let outcome = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX);
        notes.push(DeliveryNote {
            event_id,
            target,
            at: Timestamp::from_micros(row.get(1)?),
            attempt: row.get(2)?,
            outcome: OUTCOMES.get(outcome).copied().unwrap_or(DeliveryOutcome::Retrying),
            answer: row.get(4)?,
        });
    }
    Ok(notes)
}

/// Notes of events of the day that have no row: they came after their event was archived.
fn lone_notes(
    months: &Arc<Months>,
    files: &[Arc<PartitionFile>],
    day: Day,
    after: Option<EventId>,
    limit: usize,
) -> Result<Chunk, Fault> {
    let (first, end) = id_bounds(day);
    let start = after.map_or(first, event_key);
    let mut found: BTreeMap<EventId, Vec<DeliveryNote>> = BTreeMap::new();
    let (mut seen, mut full_up_to) = (0, None::<EventId>);
    for file in files {
        let events = months.read(file, |connection| {
            let sql = "SELECT DISTINCT event FROM deliveries WHERE event >= ?1 AND event < ?2 ORDER BY event LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
            let rows = statement.query_map(params![start, end, most], |row| row.get::<_, Vec<u8>>(0))?;
            let events: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
            Ok(events)
        })?;
        let mut events: Vec<EventId> = events.into_iter().filter_map(id_of).collect();
        events.retain(|event| after.is_none_or(|after| *event > after));
        events.truncate(limit);
        seen = seen.max(events.len());
        if events.len() == limit {
            full_up_to = Some(full_up_to.map_or(events[limit - 1], |up_to| up_to.min(events[limit - 1])));
        }
        for event in events {
            found.entry(event).or_default();
        }
    }
    if let Some(up_to) = full_up_to {
        found.retain(|event, _| *event <= up_to);
    }
    let last = found.keys().next_back().copied();
    let mut records = Vec::new();
    for (event, mut notes) in found {
        if has_row(months, files, event)? {
            continue;
        }
        for file in files {
            notes.extend(months.read(file, |connection| notes_of(connection, event))?);
        }
        if !notes.is_empty() {
            records.push(Record::Notes(event, notes));
        }
    }
    let next = full_up_to.and(last).map(Place::Note);
    Ok(Chunk { records, next })
}

fn has_row(months: &Arc<Months>, files: &[Arc<PartitionFile>], event: EventId) -> Result<bool, Fault> {
    for file in files {
        if months.read(file, |connection| Ok(place_of(connection, event)?.is_some()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where an event's row lies, with its checksum and its body.
fn place_of(connection: &Connection, id: EventId) -> Result<Option<(i64, u32, Vec<u8>)>, Fault> {
    let first = id.ordinal();
    let mut statement = connection
        .prepare_cached("SELECT ordinal, crc, body FROM events WHERE ordinal BETWEEN ?1 AND ?2 AND id = ?3")?;
    let bounds = params![first, first.saturating_add(PROBES), event_key(id)];
    Ok(statement.query_row(bounds, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?)
}

fn remove(writer: &mut AuditWriter, records: &[Record]) -> Result<u64, Fault> {
    let mut months: BTreeMap<Month, Vec<&Record>> = BTreeMap::new();
    for record in records {
        months.entry(Month::of(record.id())).or_default().push(record);
    }
    let mut removed = 0;
    for (month, records) in months {
        for partition in partitions(writer, Some(month)) {
            removed += writer.change(partition, |transaction, part| {
                transaction.pragma_update(None, "secure_delete", true)?;
                let mut gone = 0;
                for record in &records {
                    gone += i64::from(remove_one(transaction, record)?);
                }
                part.facts.rows = part.facts.rows.saturating_sub(gone);
                Ok(u64::try_from(gone).unwrap_or(0))
            })?;
        }
    }
    Ok(removed)
}

fn remove_one(transaction: &Transaction<'_>, record: &Record) -> Result<bool, Fault> {
    let notes = match record {
        Record::Event(_, notes) | Record::Notes(_, notes) => notes.as_slice(),
        Record::Damaged(_) => &[],
    };
    for note in notes {
        remove_note(transaction, note)?;
    }
    if matches!(record, Record::Notes(..)) {
        return Ok(false);
    }
    let Some((ordinal, crc, body)) = place_of(transaction, record.id())? else { return Ok(false) };
    let is_the_same = match record {
        Record::Event(judged, _) => decode(&body, crc).is_ok_and(|found| found == **judged),
        Record::Damaged(row) => row.crc == crc && row.body == super::trail::hex(&body),
        Record::Notes(..) => false,
    };
    if !is_the_same {
        let why = format!("event `{}` is not what was archived of it; it stays in the audit", record.id());
        return Err(StoreError::Invalid(why).into());
    }
    let removed = transaction.prepare_cached("DELETE FROM events WHERE ordinal = ?1")?.execute([ordinal])?;
    Ok(removed == 1)
}

fn remove_note(transaction: &Transaction<'_>, note: &DeliveryNote) -> Result<(), Fault> {
    let outcome = OUTCOMES.iter().position(|outcome| *outcome == note.outcome).unwrap_or(0);
    // One of them: the same can have been noted twice, and then it stands in the archive twice.
    let mut delete = transaction.prepare_cached(
        "DELETE FROM deliveries WHERE id = (SELECT id FROM deliveries WHERE event = ?1 AND target = ?2 AND at = ?3 \
         AND attempt = ?4 AND outcome = ?5 AND answer = ?6 LIMIT 1)",
    )?;
    delete.execute(params![
        event_key(note.event_id),
        note.target.as_str(),
        note.at.as_micros(),
        note.attempt,
        i64::try_from(outcome).unwrap_or(0),
        note.answer,
    ])?;
    Ok(())
}

fn put_back(writer: &mut AuditWriter, records: Vec<Record>) -> Result<u64, Fault> {
    let (mut rows, mut notes, mut known) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let own = match record {
            Record::Event(judged, own) => {
                known +=
                    usize::from(there(writer, judged.event.id, |at| Ok(place_of(at, judged.event.id)?.is_some()))?);
                rows.push(*judged);
                own
            }
            Record::Notes(_, own) => own,
            // What could not be read then cannot be searched now.
            Record::Damaged(_) => continue,
        };
        // Notes have no key of their own, but the notes of a record came together.
        let Some(first) = own.first() else { continue };
        if !there(writer, first.event_id, |at| Ok(notes_of(at, first.event_id)?.contains(first)))? {
            notes.extend(own);
        }
    }
    let fresh = rows.len() - known;
    writer.write(&[rows], &[notes])?;
    Ok(fresh as u64)
}

/// Whether any part of an event's month answers yes.
fn there(
    writer: &AuditWriter,
    event: EventId,
    asked: impl Fn(&Connection) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    let months = writer.months();
    for file in months.of_month(Month::of(event)) {
        if months.read(&file, &asked)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every partition there is, or those of one month.
fn partitions(writer: &AuditWriter, month: Option<Month>) -> Vec<Partition> {
    let files = writer.months().newest_first().into_iter();
    files.map(|file| file.partition).filter(|partition| month.is_none_or(|month| partition.month == month)).collect()
}

fn drop_empty(writer: &mut AuditWriter) -> Result<Vec<DroppedFile>, Fault> {
    let current = writer.current_month();
    let mut dropped = Vec::new();
    for partition in partitions(writer, None) {
        if partition.month >= current {
            continue;
        }
        let is_empty = writer.change(partition, |transaction, _| {
            let sql = "SELECT NOT EXISTS (SELECT 1 FROM events) AND NOT EXISTS (SELECT 1 FROM deliveries)";
            Ok(transaction.query_row(sql, [], |row| row.get::<_, bool>(0))?)
        })?;
        if is_empty {
            let bytes = std::fs::metadata(writer.months().path(partition)).map_or(0, |meta| meta.len());
            writer.drop_partition(partition)?;
            dropped.push(DroppedFile { name: partition.file_name(), bytes });
        }
    }
    Ok(dropped)
}

fn size(months: &Arc<Months>) -> Result<AuditSize, Fault> {
    let mut size = AuditSize::default();
    for file in months.newest_first() {
        let Some(facts) = tolerate_damage(&file, months.facts(&file))? else { continue };
        size.rows += u64::try_from(facts.rows).unwrap_or(0);
        size.used += u64::try_from(facts.bytes).unwrap_or(0);
        size.files += std::fs::metadata(months.path(file.partition)).map_or(0, |meta| meta.len());
        let oldest = facts.first.map(|ordinal| Day::of_event(EventId::floor(ordinal)));
        size.oldest = match (size.oldest, oldest) {
            (Some(known), Some(found)) => Some(known.min(found)),
            (known, found) => known.or(found),
        };
    }
    Ok(size)
}
