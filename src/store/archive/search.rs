//! Searches the archive in place: only frames whose time, hosts and rules can hold a hit are unpacked.
//!
//! Newest first. Files of one day may overlap, so frames go by their greatest id, and a hit counts only when no unseen frame
//! can hold a newer one. A search has its time; when that is up it says where to go on. An archive that cannot be read is left
//! out, and the answer names it.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Instant;

use super::{Archive, FileName, Frame, ReadFault, Reader, Record};
use crate::model::{Day, EventId, Judged};
use crate::store::{EventPage, EventQuery};

/// Days by which the receive time of an event may lie apart from its id's, after the clock was set back: one is enough
/// for what people set, and a search in the archive that misses an event of a broken clock by more can leave `from` out.
const SLACK_DAYS: i64 = 1;

/// Files of one day that are open at once, at most. A day has as many only if it has that many million events.
const MOST_OPEN: usize = 64;

/// What a search found.
#[derive(Debug, Default)]
pub struct ArchiveHits {
    /// Events, newest first.
    pub items: Vec<Judged>,
    /// Where to go on.
    pub next: Option<EventId>,
    /// Archives that may hold further hits and could not be read.
    pub left_out: BTreeSet<FileName>,
}

impl Archive {
    /// Events that are archived, newest first. `query` is prepared. Blocks for as long as `deadline` allows.
    pub fn search(&self, query: &EventQuery, deadline: Instant) -> ArchiveHits {
        let mut left_out = BTreeSet::new();
        let EventPage { items, next } = self.search_into(query, deadline, &mut left_out);
        ArchiveHits { items, next, left_out }
    }

    fn search_into(&self, query: &EventQuery, deadline: Instant, left_out: &mut BTreeSet<FileName>) -> EventPage {
        let mut hits: Vec<Judged> = Vec::new();
        let mut days: Vec<(Day, Vec<FileName>)> = Vec::new();
        for name in self.candidates(query) {
            match days.last_mut() {
                Some((day, names)) if *day == name.day => names.push(name),
                _ => days.push((name.day, vec![name])),
            }
        }
        for (day, names) in days {
            let enough = self.search_day(&names, query, deadline, &mut hits, left_out);
            hits.sort_unstable_by_key(|hit| Reverse(hit.event.id));
            hits.dedup_by_key(|hit| hit.event.id);
            match enough {
                Searched::Whole if hits.len() <= query.limit => {}
                Searched::Whole => return page(hits, query.limit, None),
                Searched::Down(below) => return page(hits, query.limit, Some(below)),
            }
            if Instant::now() >= deadline {
                return page(hits, query.limit, Some(floor_of(day)));
            }
        }
        page(hits, query.limit, None)
    }

    /// Files that may hold a hit, newest day first.
    fn candidates(&self, query: &EventQuery) -> Vec<FileName> {
        let from = query.from.map(|from| Day::of(from).plus(-SLACK_DAYS));
        let to = query.to.map(|to| Day::of(to).plus(SLACK_DAYS));
        let before = query.before.map(Day::of_event);
        let manifest = self.manifest.lock();
        let fits = |name: &&FileName| {
            from.is_none_or(|from| name.day >= from)
                && to.is_none_or(|to| name.day <= to)
                && before.is_none_or(|before| name.day <= before)
        };
        manifest.state.files.keys().rev().filter(fits).copied().collect()
    }

    fn search_day(
        &self,
        names: &[FileName],
        query: &EventQuery,
        deadline: Instant,
        hits: &mut Vec<Judged>,
        left_out: &mut BTreeSet<FileName>,
    ) -> Searched {
        let mut readers: Vec<(FileName, Reader)> = Vec::new();
        for name in names {
            match self.open_or_tell(*name) {
                Some(reader) if readers.len() < MOST_OPEN => readers.push((*name, reader)),
                // A run may have taken the file away since the list was made: then its events are elsewhere or gone.
                None if self.file(*name).is_none() => {}
                _ => drop(left_out.insert(*name)),
            }
        }
        let mut frames: Vec<(&FileName, &Reader, &Frame)> = Vec::new();
        for (name, reader) in &readers {
            frames.extend(reader.index.frames.iter().map(|frame| (name, reader, frame)));
        }
        frames.retain(|(_, _, frame)| may_hold(frame, query));
        frames.sort_by_key(|(_, _, frame)| Reverse(frame.ids().1));
        for (name, reader, frame) in frames {
            let greatest = frame.ids().1;
            if hits.len() > query.limit && nth_newest(hits, query.limit).is_some_and(|id| id > greatest) {
                return Searched::Down(above(greatest));
            }
            if Instant::now() >= deadline {
                return Searched::Down(above(greatest));
            }
            match reader.records(frame) {
                Ok(records) => hits.extend(records.into_iter().filter_map(|record| hit(record, query))),
                Err(fault) => {
                    tell(reader.index.day, &fault);
                    left_out.insert(*name);
                }
            }
        }
        Searched::Whole
    }

    fn open_or_tell(&self, name: FileName) -> Option<Reader> {
        match self.read(name) {
            Ok(reader) => Some(reader),
            Err(fault) => {
                // A run may have taken the file away since the list was made.
                if self.file(name).is_some() {
                    tell(name.day, &fault);
                }
                None
            }
        }
    }

    /// One archived event.
    pub fn get(&self, id: EventId) -> Option<(Judged, Vec<crate::model::DeliveryNote>)> {
        let day = Day::of_event(id);
        let names: Vec<FileName> = {
            let manifest = self.manifest.lock();
            let range = FileName { day, number: 0 }..=FileName { day, number: u32::MAX };
            manifest.state.files.range(range).map(|(name, _)| *name).collect()
        };
        let (mut found, mut notes) = (None, Vec::new());
        for reader in names.into_iter().filter_map(|name| self.open_or_tell(name)) {
            let frames = reader.index.frames.iter().filter(|frame| {
                let (least, greatest) = frame.ids();
                (least..=greatest).contains(&id)
            });
            for record in frames.filter_map(|frame| reader.records(frame).ok()).flatten() {
                match record {
                    Record::Event(judged, own) if judged.event.id == id => {
                        found = Some(*judged);
                        notes.extend(own);
                    }
                    Record::Notes(of, further) if of == id => notes.extend(further),
                    _ => {}
                }
            }
        }
        found.map(|judged| (judged, notes))
    }
}

/// How far a day was searched.
enum Searched {
    /// All of it.
    Whole,
    /// Everything from this id on.
    Down(EventId),
}

fn page(mut hits: Vec<Judged>, limit: usize, unseen_below: Option<EventId>) -> EventPage {
    if let Some(floor) = unseen_below {
        hits.retain(|hit| hit.event.id >= floor);
    }
    if hits.len() > limit {
        hits.truncate(limit);
        let next = hits.last().map(|hit| hit.event.id);
        return EventPage { items: hits, next };
    }
    EventPage { items: hits, next: unseen_below }
}

fn may_hold(frame: &Frame, query: &EventQuery) -> bool {
    let (least, _) = frame.ids();
    query.before.is_none_or(|before| least < before)
        && query.hostname.as_deref().is_none_or(|host| frame.may_hold_host(host))
        && query.rule.is_none_or(|rule| frame.may_hold_rule(rule))
}

fn hit(record: Record, query: &EventQuery) -> Option<Judged> {
    match record {
        Record::Event(judged, _) if query.matches(&judged) => Some(*judged),
        _ => None,
    }
}

/// The id of the n-th newest hit, counted from 1.
fn nth_newest(hits: &mut [Judged], n: usize) -> Option<EventId> {
    let index = n.checked_sub(1).filter(|index| *index < hits.len())?;
    let (_, hit, _) = hits.select_nth_unstable_by_key(index, |hit| Reverse(hit.event.id));
    Some(hit.event.id)
}

/// The id right after `id`.
fn above(id: EventId) -> EventId {
    EventId::from_bytes(u128::from_be_bytes(*id.as_bytes()).saturating_add(1).to_be_bytes())
}

/// The least id an event of `day` can have.
fn floor_of(day: Day) -> EventId {
    let millis = u128::try_from(day.start().as_millis().max(0)).unwrap_or(0);
    EventId::from_bytes((millis << 80).to_be_bytes())
}

fn tell(day: Day, fault: &ReadFault) {
    tracing::warn!(%day, %fault, "A search left out an archive of {day} that cannot be read; `muttd archive verify` tells more");
}
