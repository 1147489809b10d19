//! Reading the audit: month files newest first, each walked from its newest row down, until there is enough or the
//! time is up.
//!
//! Rows lie in the order of their ordinals, and an event lies at its own ordinal or a few above it (another event had
//! the place). So when a walk has come down to ordinal `n`, everything not seen yet has an ordinal below `n`: that is
//! what makes pages complete. A damaged row is skipped and counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use tracing::warn;

use super::audit_write::{OUTCOMES, event_key, protocol_number};
use super::body::decode;
use super::connect::Fault;
use super::digest::stretches;
use super::facts::Facts;
use super::months::{Months, PROBES, PartitionFile, tolerate_damage};
use super::partition::Month;
use crate::model::{DeliveryNote, DeliveryOutcome, EventId, Judged, TargetName, Timestamp};
use crate::store::{EventPage, EventQuery};
use crate::telemetry::metrics::STORE_DAMAGED;

/// Rows between two looks at the clock: some 100 microseconds.
const ROWS_PER_LOOK: u32 = 256;
/// Notes shown of one event, at most.
const MAX_DELIVERIES: usize = 1_000;

/// How the walk through one month ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// Every row was seen.
    Done,
    /// There is enough; what was not seen is older than every hit.
    Enough,
    /// The time was up; what was not seen has a smaller ordinal than this.
    OutOfTime(i64),
}

/// Events newest first. `query` is prepared.
pub(super) fn search(months: &Arc<Months>, query: &EventQuery, deadline: Instant) -> Result<EventPage, Fault> {
    let wanted = query.limit.saturating_add(1);
    let mut hits: Vec<Judged> = Vec::new();
    let mut unseen_below = None;
    let mut last_month = None;
    for file in months.newest_first() {
        // Parts of a month may overlap, months do not.
        if last_month.is_some_and(|month| month != file.partition.month) {
            break;
        }
        match tolerate_damage(
            &file,
            months.read(&file, |connection| walk(connection, &file, query, &mut hits, wanted, deadline)),
        )? {
            Some(Walk::OutOfTime(below)) => {
                unseen_below = Some(below);
                break;
            }
            Some(Walk::Enough) => last_month = Some(file.partition.month),
            Some(Walk::Done) | None => {}
        }
    }
    if let Some(hit) = own_correlation(months, query)? {
        hits.push(hit);
    }
    hits.sort_unstable_by_key(|hit| std::cmp::Reverse(hit.event.id));
    hits.dedup_by_key(|hit| hit.event.id);
    Ok(page(hits, query.limit, unseen_below))
}

fn page(mut hits: Vec<Judged>, limit: usize, unseen_below: Option<i64>) -> EventPage {
    // An event that lies above its own ordinal may have been seen before its turn; it is found again on the next page.
    let floor = unseen_below.map(EventId::floor);
    if let Some(floor) = floor {
        hits.retain(|hit| hit.event.id >= floor);
    }
    if hits.len() > limit {
        hits.truncate(limit);
        let next = hits.last().map(|hit| hit.event.id);
        return EventPage { items: hits, next };
    }
    EventPage { items: hits, next: floor }
}

/// An event without a correlation id of its own is known by its event id, which no index holds.
fn own_correlation(months: &Arc<Months>, query: &EventQuery) -> Result<Option<Judged>, Fault> {
    let Some(id) = query.correlation_id.as_deref().and_then(|text| text.parse().ok()) else { return Ok(None) };
    Ok(get(months, id)?.filter(|judged| query.matches(judged)))
}

fn walk(
    connection: &Connection,
    file: &PartitionFile,
    query: &EventQuery,
    hits: &mut Vec<Judged>,
    wanted: usize,
    deadline: Instant,
) -> Result<Walk, Fault> {
    let Some(plan) = plan(connection, query)? else { return Ok(Walk::Done) };
    let mut lowest = hits.iter().map(|hit| hit.event.id.ordinal()).min().unwrap_or(i64::MAX);
    let mut until_look = ROWS_PER_LOOK;
    for stretch in plan.stretches {
        let (sql, values) = statement(query, stretch);
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            if hits.len() >= wanted && at < lowest {
                return Ok(Walk::Enough);
            }
            until_look -= 1;
            if until_look == 0 {
                until_look = ROWS_PER_LOOK;
                if Instant::now() >= deadline {
                    // This row was not looked at, so everything up to it is still to be seen.
                    return Ok(Walk::OutOfTime(at.saturating_add(1)));
                }
            }
            if !may_match(row, query, plan.host)? {
                continue;
            }
            match decode(row.get_ref(5)?.as_blob().unwrap_or_default(), row.get(4)?) {
                Ok(judged) if query.matches(&judged) => {
                    lowest = lowest.min(judged.event.id.ordinal());
                    hits.push(judged);
                }
                Ok(_) => {}
                Err(why) => damaged_row(file, at, &why),
            }
        }
    }
    Ok(if hits.len() >= wanted { Walk::Enough } else { Walk::Done })
}

fn damaged_row(file: &PartitionFile, at: i64, why: &str) {
    metrics::counter!(STORE_DAMAGED, "store" => "row").increment(1);
    if !file.damage_told.swap(true, Ordering::Relaxed) {
        warn!(partition = %file.partition, ordinal = at, reason = why, "an audit row of {} is damaged and left out", file.partition);
    }
}

/// The cheap half of the comparison: columns, without decoding the event.
fn may_match(row: &Row<'_>, query: &EventQuery, host: Option<i64>) -> Result<bool, Fault> {
    if host.is_some() && row.get::<_, Option<i64>>(6)? != host {
        return Ok(false);
    }
    if let Some(rule) = query.rule
        && row.get::<_, Option<i64>>(3)? != Some(rule.0)
    {
        return Ok(false);
    }
    if let Some(severity) = query.severity
        && row.get::<_, Option<i64>>(1)? != Some(i64::from(severity.number()))
    {
        return Ok(false);
    }
    if let Some(protocol) = query.protocol
        && row.get::<_, i64>(2)? != protocol_number(protocol)
    {
        return Ok(false);
    }
    if let Some(matched) = query.matched
        && row.get::<_, Option<i64>>(3)?.is_some() != matched
    {
        return Ok(false);
    }
    Ok(true)
}

/// What of a month has to be walked.
struct Plan {
    host: Option<i64>,
    /// Stretches of ordinals, the highest first.
    stretches: Vec<(i64, i64)>,
}

/// What of the month to walk; `None` if it cannot hold a hit. Severity, protocol and text are compared row by row.
fn plan(connection: &Connection, query: &EventQuery) -> Result<Option<Plan>, Fault> {
    let facts = Facts::read(connection)?;
    let mut least = i64::MIN;
    let mut greatest = i64::MAX;
    if let Some(from) = query.from {
        least = EventId::ordinal_at(from.as_millis().saturating_add(facts.least_skew_ms));
    }
    if let Some(to) = query.to {
        greatest =
            EventId::ordinal_at(to.as_millis().saturating_add(1 + facts.greatest_skew_ms)).saturating_add(PROBES);
    }
    if let Some(before) = query.before {
        greatest = greatest.min(before.ordinal().saturating_add(PROBES));
    }
    if least > greatest || facts.rows == 0 {
        return Ok(None);
    }
    let mut host = None;
    if let Some(hostname) = &query.hostname {
        let mut find = connection.prepare_cached("SELECT id FROM hosts WHERE name = ?1")?;
        host = find.query_row([hostname], |row| row.get(0)).optional()?;
        if host.is_none() {
            return Ok(None);
        }
    }
    let rule = query.rule.map(|rule| rule.0);
    // Correlation ids have an index of their own, which is narrower than any stretch.
    let is_plain = host.is_none() && rule.is_none() || query.correlation_id.is_some();
    let stretches =
        if is_plain { vec![(least, greatest)] } else { stretches(connection, (least, greatest), host, rule)? };
    Ok(Some(Plan { host, stretches }))
}

/// The rows of a stretch, newest first.
fn statement(query: &EventQuery, (least, greatest): (i64, i64)) -> (&'static str, Vec<Value>) {
    let mut values = vec![Value::Integer(least), Value::Integer(greatest)];
    match &query.correlation_id {
        None => (
            "SELECT ordinal, severity, protocol, rule, crc, body, host FROM events \
             WHERE ordinal BETWEEN ? AND ? ORDER BY ordinal DESC",
            values,
        ),
        Some(correlation) => {
            values.push(Value::Text(correlation.clone()));
            (
                "SELECT ordinal, severity, protocol, rule, crc, body, host FROM events INDEXED BY events_correlation \
                 WHERE ordinal BETWEEN ? AND ? AND correlation = ? ORDER BY ordinal DESC",
                values,
            )
        }
    }
}

/// One event.
pub(super) fn get(months: &Arc<Months>, id: EventId) -> Result<Option<Judged>, Fault> {
    for file in months.of_month(Month::of(id)) {
        let found = months.read(&file, |connection| {
            let mut statement = connection
                .prepare_cached("SELECT ordinal, crc, body FROM events WHERE ordinal BETWEEN ?1 AND ?2 AND id = ?3")?;
            let first = id.ordinal();
            let row = statement.query_row((first, first.saturating_add(PROBES), event_key(id)), |row| {
                Ok((row.get::<_, i64>(0)?, decode(row.get_ref(2)?.as_blob().unwrap_or_default(), row.get(1)?)))
            });
            Ok(row.optional()?)
        });
        match tolerate_damage(&file, found)?.flatten() {
            Some((_, Ok(judged))) => return Ok(Some(judged)),
            Some((at, Err(why))) => damaged_row(&file, at, &why),
            None => {}
        }
    }
    Ok(None)
}

/// What receivers said about one event, oldest first. A note lies in the part that was written to when it came.
pub(super) fn deliveries(months: &Arc<Months>, id: EventId) -> Result<Vec<DeliveryNote>, Fault> {
    let mut all = Vec::new();
    for file in months.of_month(Month::of(id)).into_iter().rev() {
        let notes = months.read(&file, |connection| deliveries_in(connection, id));
        all.extend(tolerate_damage(&file, notes)?.unwrap_or_default());
        all.truncate(MAX_DELIVERIES);
    }
    Ok(all)
}

fn deliveries_in(connection: &Connection, id: EventId) -> Result<Vec<DeliveryNote>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT target, at, attempt, outcome, answer FROM deliveries WHERE event = ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query((event_key(id), i64::try_from(MAX_DELIVERIES).unwrap_or(i64::MAX)))?;
    let mut notes = Vec::new();
    while let Some(row) = rows.next()? {
        // A target's name that is none any more can only come from damage; the other notes still tell their story.
        let Ok(target) = TargetName::new(&row.get::<_, String>(0)?) else { continue };
        let outcome = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX);
        notes.push(DeliveryNote {
            event_id: id,
            target,
            at: Timestamp::from_micros(row.get(1)?),
            attempt: row.get(2)?,
            outcome: OUTCOMES.get(outcome).copied().unwrap_or(DeliveryOutcome::Retrying),
            answer: row.get(4)?,
        });
    }
    Ok(notes)
}

/// Rows in all partitions.
pub(super) fn rows(months: &Arc<Months>) -> Result<u64, Fault> {
    let mut rows = 0_u64;
    for file in months.newest_first() {
        let facts = tolerate_damage(&file, months.facts(&file))?.unwrap_or_default();
        rows = rows.saturating_add(u64::try_from(facts.rows).unwrap_or(0));
    }
    Ok(rows)
}
