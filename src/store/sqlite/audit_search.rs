//! Reading the audit: pages of events, newest first, by cursor and by number; one event; what receivers said.
//!
//! Rows come in the order of their ordinals (see `walk`), and an event lies at its own ordinal or a few above it (another
//! event had the place). So when a walk has come down to ordinal `n`, everything not seen yet has an ordinal below `n`:
//! that is what makes pages complete. A damaged row is skipped and counted.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};
use tracing::warn;

use super::audit_write::{OUTCOMES, event_key};
use super::body::decode;
use super::connect::Fault;
use super::months::{Months, PROBES, PartitionFile, tolerate_damage};
use super::partition::Month;
use super::walk::{By, Raw, Walk, Work};
use crate::model::{DeliveryNote, DeliveryOutcome, EventId, Judged, TargetName, Timestamp};
use crate::store::{EventPage, EventQuery, NumberedPage, PartitionInfo, PartitionState};
use crate::telemetry::metrics::STORE_DAMAGED;

/// Notes shown of one event, at most.
const MAX_DELIVERIES: usize = 1_000;

/// How long a page by number may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// For finding its rows.
    pub(super) search: Duration,
    /// For counting those beyond it, before it goes without a total.
    pub(super) count: Duration,
}

/// Rows passed over between two looks at the clock.
const SKIP_ROWS: u64 = 1 << 20;

/// Events newest first. `query` is prepared.
pub(super) fn search(months: &Arc<Months>, query: &EventQuery, deadline: Instant) -> Result<(EventPage, Work), Fault> {
    let wanted = query.limit.saturating_add(1);
    let mut walk = Walk::new(months, query, By::Whichever);
    let mut hits: Vec<Judged> = Vec::new();
    let mut lowest = i64::MAX;
    let mut unseen_below = None;
    while let Some(bound) = walk.bound() {
        // An event may lie some places above its own, so only what is below every hit's own place is older than all.
        if hits.len() >= wanted && bound < lowest {
            break;
        }
        // Rows around the last page's end are looked at again; stopping among them would give the same page again.
        let advances = query.before.is_none_or(|before| bound < before.ordinal());
        if walk.work().rows > 0 && advances && Instant::now() >= deadline {
            unseen_below = Some(bound.saturating_add(1));
            break;
        }
        let Some((file, rows)) = walk.next(wanted.saturating_sub(hits.len()))? else { break };
        for judged in rows.iter().filter_map(|raw| whole(&file, raw)).filter(|judged| query.matches(judged)) {
            lowest = lowest.min(judged.event.id.ordinal());
            hits.push(judged);
        }
    }
    if let Some(hit) = own_correlation(months, query)? {
        hits.push(hit);
    }
    hits.sort_unstable_by_key(|hit| std::cmp::Reverse(hit.event.id));
    hits.dedup_by_key(|hit| hit.event.id);
    Ok((page(hits, query.limit, unseen_below), walk.work()))
}

/// The event of a row; a damaged one is counted and left out.
fn whole(file: &PartitionFile, raw: &Raw) -> Option<Judged> {
    decode(&raw.body, raw.crc).map_err(|why| damaged_row(file, raw.at, &why)).ok()
}

/// A page by its place among all hits. What is passed over is counted by the index, which knows hosts, rules,
/// severities, protocols and whole milliseconds; what else `query` asks for is compared row by row. `query` is prepared.
pub(super) fn numbered(
    months: &Arc<Months>,
    query: &EventQuery,
    skip: u64,
    budget: Budget,
) -> Result<(NumberedPage, Work), Fault> {
    let deadline = Instant::now() + budget.search;
    let counted = query.text.is_none() && query.peer.is_none() && query.correlation_id.is_none();
    let mut walk = Walk::new(months, query, By::Index);
    let mut left = skip;
    while left > 0 && counted && Instant::now() < deadline {
        let Some(passed) = walk.skip(left.min(SKIP_ROWS))? else { break };
        left -= passed;
    }
    let mut page = NumberedPage::default();
    // The row after the page only tells that there is one.
    let wanted = query.limit.saturating_add(1);
    let mut passed = skip - left;
    while page.items.len() < wanted && Instant::now() < deadline {
        let Some((file, rows)) = walk.next(wanted - page.items.len())? else { break };
        passed += rows.len() as u64;
        for raw in &rows {
            let Some(judged) = whole(&file, raw).filter(|judged| query.matches(judged)) else { continue };
            if !counted && left > 0 {
                left -= 1;
                continue;
            }
            // What is still to come has a lower place, and so a lower id than any of this one's place.
            page.next = (page.items.len() < query.limit).then(|| EventId::floor(raw.at)).or(page.next);
            page.items.push(judged);
        }
    }
    page.has_more = page.items.len() > query.limit || walk.bound().is_some() && page.items.len() < wanted;
    page.next = page.next.filter(|_| page.has_more);
    page.items.truncate(query.limit);
    if counted {
        page.total = rest(&mut walk, budget.count)?.map(|rest| passed + rest);
    }
    Ok((page, walk.work()))
}

/// How many hits are still to come; `None` if that takes too long.
fn rest(walk: &mut Walk<'_>, budget: Duration) -> Result<Option<u64>, Fault> {
    let deadline = Instant::now() + budget;
    let mut rest = 0;
    while walk.bound().is_some() {
        if Instant::now() >= deadline {
            return Ok(None);
        }
        rest += walk.skip(SKIP_ROWS)?.unwrap_or(0);
    }
    Ok(Some(rest))
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

fn damaged_row(file: &PartitionFile, at: i64, why: &str) {
    metrics::counter!(STORE_DAMAGED, "store" => "row").increment(1);
    if !file.damage_told.swap(true, Ordering::Relaxed) {
        warn!(partition = %file.partition, ordinal = at, reason = why, "an audit row of {} is damaged and left out", file.partition);
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

/// Every partition, newest first, as of `now`.
pub(super) fn partitions(months: &Arc<Months>, now: Timestamp) -> Result<Vec<PartitionInfo>, Fault> {
    let current = Month::of_millis(now.as_millis());
    let mut newest_of = None;
    let mut partitions = Vec::new();
    for file in months.newest_first() {
        let partition = file.partition;
        let is_newest = newest_of.replace(partition.month) != Some(partition.month);
        let facts = tolerate_damage(&file, months.facts(&file))?;
        let known = facts.unwrap_or_default();
        let state = match partition.month.cmp(&current) {
            _ if facts.is_none() => PartitionState::Damaged,
            Less => PartitionState::Closed,
            Equal if is_newest => PartitionState::Current,
            Equal => PartitionState::Full,
            Greater if known.rows == 0 => PartitionState::Ahead,
            Greater => PartitionState::Future,
        };
        let time = |ordinal: Option<i64>| ordinal.map(|ordinal| EventId::floor(ordinal).time());
        partitions.push(PartitionInfo {
            month: partition.month.to_string(),
            part: partition.part,
            file: partition.file_name(),
            rows: u64::try_from(known.rows).unwrap_or(0),
            bytes: u64::try_from(known.bytes).unwrap_or(0),
            first: time(known.first),
            last: time(known.last),
            state,
        });
    }
    Ok(partitions)
}
