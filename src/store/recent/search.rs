//! Searching the recent store: frames from the newest event down, until there is enough or the time is up.
//!
//! Frames of one moment may overlap in their ids (batches are judged side by side, replays come late). They are opened
//! in the order of their greatest id, so whatever was not opened has only ids up to the next frame's greatest: hits
//! above it are final. A frame is opened only if its ids, its times and its digest allow a hit, and an event is decoded
//! only if its bytes contain what is looked for. A damaged frame is left out and counted.

use std::cmp::Reverse;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use memchr::memmem;
use tracing::warn;

use super::digest::Wanted;
use super::frame::records;
use super::segment::{Placed, Sealed, read_filter, read_frame};
use super::{Piece, Scanned, State};
use crate::model::{EventId, Judged, Timestamp};
use crate::store::{EventPage, EventQuery};
use crate::telemetry::metrics::STORE_DAMAGED;

/// What the store held at one moment. Segments may be deleted meanwhile: their events are then too old to be shown.
pub(super) struct Snapshot {
    pending: Vec<Piece>,
    sealed: Vec<Arc<Sealed>>,
    active: Option<(PathBuf, Vec<Placed>)>,
}

/// A frame and the file it is in.
type Candidate<'a> = (&'a PathBuf, &'a Placed);

impl Snapshot {
    /// Of the state, under its lock.
    pub(super) fn of(state: &State) -> Self {
        Self {
            pending: state.pending.iter().cloned().collect(),
            sealed: state.sealed.iter().cloned().collect(),
            active: state.active.clone(),
        }
    }

    /// Events newest first. `query` is prepared.
    pub(super) fn search(&self, query: &EventQuery, deadline: Instant) -> EventPage {
        self.search_counting(query, deadline).1
    }

    /// The same, and how many frames were unpacked for it: what a search costs.
    pub(super) fn search_counting(&self, query: &EventQuery, deadline: Instant) -> (usize, EventPage) {
        let wanted = query.limit.saturating_add(1);
        let pending = self.pending.iter().flat_map(Piece::events);
        let mut hits: Vec<Judged> = pending.filter(|judged| query.matches(judged)).cloned().collect();
        keep_newest(&mut hits, wanted);
        let (asked, needles) = (Wanted::of(query), Needles::of(query));
        let mut reader = Reader::default();
        let (mut opened, mut unseen) = (0, None);
        for (index, (path, frame)) in self.candidates(query, &asked).into_iter().enumerate() {
            if hits.len() >= wanted && hits[wanted - 1].event.id > frame.info.greatest_id {
                break;
            }
            // Frames around the last page's end are opened again; stopping among them would give the same page again.
            let advances = query.before.is_none_or(|before| after(frame.info.greatest_id) < before);
            if index > 0 && advances && Instant::now() >= deadline {
                unseen = Some(frame.info.greatest_id);
                break;
            }
            if !reader.may_hold(path, frame, &asked) {
                continue;
            }
            opened += 1;
            let before = hits.len();
            if let Some(plain) = reader.read(path, frame) {
                needles.for_each_candidate(&plain, |judged| {
                    if query.matches(&judged) {
                        hits.push(judged);
                    }
                });
            }
            if hits.len() > before {
                keep_newest(&mut hits, wanted);
            }
        }
        (opened, page(hits, query, unseen))
    }

    /// Shows every event received since `from`, frame by frame from the newest down, until `deadline`.
    pub(super) fn scan(&self, from: Timestamp, deadline: Instant, mut visit: impl FnMut(&Judged)) -> Scanned {
        let mut oldest = Timestamp::from_micros(i64::MAX);
        let mut show = |judged: &Judged| {
            if judged.event.received_at >= from {
                oldest = oldest.min(judged.event.received_at);
                visit(judged);
            }
        };
        self.pending.iter().flat_map(Piece::events).for_each(&mut show);
        let mut frames: Vec<Candidate<'_>> =
            self.frames().filter(|(_, frame)| frame.info.greatest_time >= from).collect();
        // By time, so that what was not opened is older than what the scan says it reached.
        frames.sort_by_key(|(_, frame)| Reverse(frame.info.greatest_time));
        let mut reader = Reader::default();
        for (index, (path, frame)) in frames.into_iter().enumerate() {
            if index > 0 && Instant::now() >= deadline {
                let reached = Timestamp::from_micros(frame.info.greatest_time.as_micros().saturating_add(1));
                return Scanned { reached, complete: false };
            }
            if let Some(plain) = reader.read(path, frame) {
                records(&plain).filter_map(|record| Judged::read(&plain[record]).ok()).for_each(|judged| show(&judged));
            }
        }
        Scanned { reached: oldest, complete: true }
    }

    /// One event.
    pub(super) fn get(&self, id: EventId) -> Option<Judged> {
        let mut pending = self.pending.iter().flat_map(Piece::events);
        if let Some(judged) = pending.find(|judged| judged.event.id == id) {
            return Some(judged.clone());
        }
        let mut reader = Reader::default();
        let bytes = memmem::Finder::new(id.as_bytes());
        for (path, frame) in
            self.frames().filter(|(_, frame)| frame.info.least_id <= id && id <= frame.info.greatest_id)
        {
            let Some(plain) = reader.read(path, frame) else { continue };
            let possible = records(&plain).filter(|record| bytes.find(&plain[record.clone()]).is_some());
            for record in possible {
                match Judged::read(&plain[record]) {
                    Ok(judged) if judged.event.id == id => return Some(judged),
                    _ => {}
                }
            }
        }
        None
    }

    fn frames(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.frames_of(|_| true)
    }

    /// The frames of the finished segments that `is_wanted`, and those of the one being written.
    fn frames_of(&self, is_wanted: impl Fn(&Sealed) -> bool) -> impl Iterator<Item = Candidate<'_>> {
        let sealed = self.sealed.iter().filter(move |sealed| is_wanted(sealed));
        let sealed = sealed.flat_map(|sealed| sealed.frames.iter().map(|frame| (&sealed.path, frame)));
        let active = self.active.iter().flat_map(|(path, frames)| frames.iter().map(move |frame| (path, frame)));
        sealed.chain(active)
    }

    /// Frames that may hold a hit, those with the newest events first.
    fn candidates(&self, query: &EventQuery, wanted: &Wanted) -> Vec<Candidate<'_>> {
        let mut candidates: Vec<Candidate<'_>> = self
            .frames_of(|sealed| wanted.passes(&sealed.filter))
            .filter(|(_, frame)| wanted.admits(frame.info.traits))
            .filter(|(_, frame)| {
                query.before.is_none_or(|before| frame.info.least_id < before)
                    && query.from.is_none_or(|from| frame.info.greatest_time >= from)
                    && query.to.is_none_or(|to| frame.info.least_time < to)
            })
            .collect();
        candidates.sort_by_key(|(_, frame)| Reverse(frame.info.greatest_id));
        candidates
    }
}

/// The smallest id above `id`.
fn after(id: EventId) -> EventId {
    EventId::from_bytes(u128::from_be_bytes(*id.as_bytes()).saturating_add(1).to_be_bytes())
}

fn keep_newest(hits: &mut Vec<Judged>, wanted: usize) {
    hits.sort_unstable_by_key(|hit| Reverse(hit.event.id));
    hits.dedup_by_key(|hit| hit.event.id);
    hits.truncate(wanted);
}

/// The page, and where to go on. `unseen` is the greatest id that may not have been looked at.
fn page(mut hits: Vec<Judged>, query: &EventQuery, unseen: Option<EventId>) -> EventPage {
    let floor = unseen.map(after);
    if let Some(floor) = floor {
        hits.retain(|hit| hit.event.id >= floor);
    }
    if hits.len() > query.limit {
        hits.truncate(query.limit);
        let next = hits.last().map(|hit| hit.event.id);
        return EventPage { items: hits, next };
    }
    EventPage { items: hits, next: floor }
}

/// Reads frames, keeping the file of the last one open.
#[derive(Default)]
struct Reader {
    open: Option<(PathBuf, File)>,
}

impl Reader {
    fn file(&mut self, path: &PathBuf) -> Option<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            match File::open(path) {
                Ok(file) => self.open = Some((path.clone(), file)),
                // Deleted since the snapshot was taken, as too old.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                Err(error) => {
                    warn!(segment = %path.display(), reason = %error, "a recent segment cannot be opened and is left out of a search");
                    return None;
                }
            }
        }
        self.open.as_ref().map(|(_, file)| file)
    }

    /// Whether a frame's filter admits what is looked for; costs a read of some hundred bytes.
    fn may_hold(&mut self, path: &PathBuf, frame: &Placed, wanted: &Wanted) -> bool {
        !wanted.has_keys()
            || frame.info.filter == 0
            || self.file(path).is_some_and(|file| wanted.passes(&read_filter(file, frame)))
    }

    fn read(&mut self, path: &PathBuf, frame: &Placed) -> Option<Vec<u8>> {
        let file = self.file(path)?;
        match read_frame(file, frame) {
            Ok(plain) => Some(plain),
            Err(why) => {
                metrics::counter!(STORE_DAMAGED, "store" => "frame").increment(1);
                warn!(segment = %path.display(), at = frame.at, reason = why, "a frame of the recent store is damaged and left out of a search");
                None
            }
        }
    }
}

/// Byte strings of which an event's record must contain at least one in each group, ignoring ASCII case: a cheap test
/// that never misses a hit. What passes is decoded and compared exactly.
struct Needles {
    groups: Vec<Vec<memmem::Finder<'static>>>,
    /// The group made from the query's text, if any.
    text: Option<usize>,
}

/// Characters outside ASCII whose lower case contains an ASCII letter (the Kelvin sign becomes `k`, the dotted capital
/// I becomes `i` and a dot): where one occurs, looking for ASCII bytes may miss a hit.
const FOLDED_TO_ASCII: [&str; 2] = ["\u{212a}", "\u{130}"];

impl Needles {
    fn of(query: &EventQuery) -> Self {
        let finder = |bytes: &[u8]| memmem::Finder::new(&bytes.to_ascii_lowercase()).into_owned();
        let (mut groups, mut text) = (Vec::new(), None);
        if let Some(wanted) = &query.text
            && wanted.is_ascii()
        {
            text = Some(groups.len());
            groups.push(vec![finder(wanted.as_bytes())]);
        }
        if let Some(hostname) = &query.hostname {
            groups.push(vec![finder(hostname.as_bytes())]);
        }
        if let Some(correlation) = &query.correlation_id {
            // Either sent as text, or none was sent and the event's own id stands in.
            let own = correlation.parse::<EventId>().ok().map(|id| finder(id.as_bytes()));
            groups.push(std::iter::once(finder(correlation.as_bytes())).chain(own).collect());
        }
        Self { groups, text }
    }

    /// Decodes the events of a frame that may be hits.
    fn for_each_candidate(&self, plain: &[u8], mut tell: impl FnMut(Judged)) {
        let mut decode = |record: std::ops::Range<usize>| {
            // The frame's checksum was right, so this can only be a record of a newer version of the program.
            if let Ok(judged) = Judged::read(&plain[record]) {
                tell(judged);
            }
        };
        if self.groups.is_empty() {
            records(plain).for_each(decode);
            return;
        }
        let lower = plain.to_ascii_lowercase();
        let folded = self.text.is_some() && FOLDED_TO_ASCII.iter().any(|c| memmem::find(plain, c.as_bytes()).is_some());
        let groups: Vec<_> =
            self.groups.iter().enumerate().filter(|(index, _)| !(folded && self.text == Some(*index))).collect();
        let holds =
            |bytes: &[u8]| groups.iter().all(|(_, group)| group.iter().any(|finder| finder.find(bytes).is_some()));
        if holds(&lower) {
            records(plain).filter(|record| holds(&lower[record.clone()])).for_each(&mut decode);
        }
    }
}
