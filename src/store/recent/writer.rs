//! The thread that writes the recent store: gathers, packs, writes, deletes what is too old or too much.
//!
//! Few events make poor frames, so they are first *spilled* (written to survive a crash) and later written again as
//! part of a full frame that takes the place of what was spilled. Until then searches find them in memory.
//! A disk that fails costs the events at hand; they are dropped and counted, and the next ones are tried again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::digest::Filter;
use super::frame::Encoder;
use super::segment::{self, Active, Found};
use super::{Piece, Shared, State};
use crate::clock::Clock;
use crate::live::Live;
use crate::model::Judged;
use crate::store::RecentSettings;
use crate::telemetry::metrics::RECENT_DROPPED;

/// How long an event may wait for others before it is written.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// Events that make a frame worth keeping.
const FRAME_EVENTS: usize = 1_024;
/// Their bytes, if they are few and large.
const FRAME_BYTES: usize = 2 << 20;
/// Events in one frame when many wait: larger frames compress no better and make single events dear to read.
const FRAME_EVENTS_MAX: usize = 4_096;
/// Bytes of a segment; a sixteenth of the budget if that is less, so that deleting one never deletes much.
const SEGMENT_BYTES: u64 = 32 << 20;
/// The least a segment is given.
const SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// How often age is looked at when nothing else happens.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
const SECONDS_PER_DAY: u64 = 86_400;

/// The state of the writer thread.
pub(super) struct Writer {
    folder: PathBuf,
    clock: Clock,
    settings: Live<RecentSettings>,
    encoder: Encoder,
    active: Option<Active>,
    next_number: u64,
    /// Whether the last write failed: told when it begins and when it ends.
    failing: bool,
}

/// What is to be done next.
enum Work {
    /// Write these as a frame that stays.
    Frame(Vec<Piece>),
    /// Write these to survive a crash.
    Spill(Vec<Piece>),
    /// Look at age and size.
    Housekeeping,
    /// Finish the segment being written, because someone waits for it.
    Seal,
    /// End.
    Stop,
}

/// Reads what is in `folder`.
pub(super) fn open(folder: &Path, clock: Clock, settings: Live<RecentSettings>) -> io::Result<(Writer, State)> {
    std::fs::create_dir_all(folder)?;
    super::erase::tidy(folder)?;
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        numbers.extend(entry?.file_name().to_str().and_then(segment::number_of));
    }
    numbers.sort_unstable();
    let next_number = numbers.last().map_or(1, |last| last + 1);
    let mut state = State::default();
    let mut active: Option<Active> = None;
    for number in numbers {
        // Only the last unfinished segment is written on; others, from a failed end, are finished now.
        if let Some(unfinished) = active.take() {
            state.sealed.push_back(Arc::new(unfinished.seal()?));
        }
        match segment::open(&folder.join(segment::file_name(number)))? {
            Found::Sealed(sealed) => state.sealed.push_back(Arc::new(sealed)),
            Found::Active(found) => active = Some(found),
        }
    }
    state.active = active.as_ref().map(|active| (active.path.clone(), active.frames.clone()));
    let encoder = Encoder::new()?;
    let writer = Writer { folder: folder.to_owned(), clock, settings, encoder, active, next_number, failing: false };
    Ok((writer, state))
}

impl Writer {
    /// Works until it is told to stop and everything is written.
    pub(super) fn run(mut self, shared: &Shared) {
        let mut work = Work::Housekeeping;
        while !matches!(work, Work::Stop) {
            let done = catch_unwind(AssertUnwindSafe(|| self.work(shared, &work)));
            if done.is_err() {
                error!("writing the recent store panicked; the events at hand are dropped");
                match &work {
                    Work::Frame(pieces) => drop_pieces(shared, pieces),
                    Work::Spill(pieces) => mark_spilled(shared, pieces),
                    Work::Seal => shared.state.lock().seal_wanted = false,
                    Work::Housekeeping | Work::Stop => {}
                }
            }
            shared.publish_bytes(self.bytes(&shared.state.lock()));
            work = next_work(shared);
        }
    }

    fn work(&mut self, shared: &Shared, work: &Work) {
        match work {
            Work::Frame(pieces) => {
                let written = self.write_frame(shared, pieces);
                if written.is_err() {
                    drop_pieces(shared, pieces);
                }
                self.tell(written);
                self.housekeeping(shared);
            }
            Work::Spill(pieces) => {
                let spilled = self.spill(shared, pieces);
                self.tell(spilled);
                // Also when it failed: they are tried again as part of their frame.
                mark_spilled(shared, pieces);
            }
            Work::Housekeeping => self.housekeeping(shared),
            Work::Seal => {
                let sealed = self.seal(shared);
                self.tell(sealed);
                shared.state.lock().seal_wanted = false;
            }
            Work::Stop => {}
        }
    }

    fn write_frame(&mut self, shared: &Shared, pieces: &[Piece]) -> io::Result<()> {
        let Some(frame) = self.encoder.encode(events(pieces))? else {
            finish(shared, pieces, None);
            return Ok(());
        };
        let active = self.active(shared)?;
        active.append(&frame)?;
        let placed = active.frames.last().copied();
        finish(shared, pieces, placed);
        Ok(())
    }

    fn spill(&mut self, shared: &Shared, pieces: &[Piece]) -> io::Result<()> {
        let fresh = pieces.iter().filter(|piece| !piece.spilled).flat_map(|piece| piece.events().iter());
        if let Some(frame) = self.encoder.encode(fresh)? {
            self.active(shared)?.spill(&frame.bytes)?;
        }
        Ok(())
    }

    /// The segment being written; a new one if there is none.
    fn active(&mut self, shared: &Shared) -> io::Result<&mut Active> {
        let active = match self.active.take() {
            Some(active) => active,
            None => {
                let active = Active::create(&self.folder, self.next_number)?;
                self.next_number += 1;
                shared.state.lock().active = Some((active.path.clone(), Vec::new()));
                active
            }
        };
        Ok(self.active.insert(active))
    }

    /// Finishes a full or old segment and deletes the oldest ones beyond the bounds.
    fn housekeeping(&mut self, shared: &Shared) {
        let settings = *self.settings.get();
        let max_age = Duration::from_secs(u64::from(settings.max_days.max(1)) * SECONDS_PER_DAY);
        let now = self.clock.now();
        let segment_bytes = (settings.max_bytes / 16).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        let is_due = self.active.as_ref().is_some_and(|active| {
            let begun = active.frames.first().map(|frame| frame.info.least_time);
            // A quiet site fills no segment in days; without this its events would never become old enough to go.
            active.end >= segment_bytes || begun.is_some_and(|begun| now.since(begun) > max_age / 8)
        });
        if is_due && shared.state.lock().pending.iter().all(|piece| !piece.spilled) {
            let sealed = self.seal(shared);
            self.tell(sealed);
        }
        let oldest_wanted = now.minus(max_age);
        loop {
            let mut state = shared.state.lock();
            let total = self.bytes(&state);
            let Some(oldest) = state.sealed.front().cloned() else { return };
            let newest_event = oldest.frames.iter().map(|frame| frame.info.greatest_time).max();
            if total <= settings.max_bytes && newest_event.is_some_and(|newest| newest >= oldest_wanted) {
                return;
            }
            state.sealed.pop_front();
            drop(state);
            if let Err(error) = std::fs::remove_file(&oldest.path) {
                warn!(segment = %oldest.path.display(), reason = %error, "an old recent segment cannot be deleted, delete it by hand");
            }
        }
    }

    fn seal(&mut self, shared: &Shared) -> io::Result<()> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let path = active.path.clone();
        let sealed = match active.seal() {
            Ok(sealed) => sealed,
            Err(error) => {
                // Without its footer the file is scanned at the next start; for now it is searched as it is.
                let mut state = shared.state.lock();
                if let Some((_, frames)) = state.active.take() {
                    let bytes = frames.last().map_or(0, |last| last.at + last.info.bytes());
                    let filter = Filter::default();
                    let sealed = segment::Sealed { path, bytes, frames: frames.into(), filter };
                    state.sealed.push_back(Arc::new(sealed));
                }
                return Err(error);
            }
        };
        let mut state = shared.state.lock();
        state.sealed.push_back(Arc::new(sealed));
        state.active = None;
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self, state: &State) -> u64 {
        let sealed: u64 = state.sealed.iter().map(|sealed| sealed.bytes).sum();
        sealed + self.active.as_ref().map_or(0, Active::bytes)
    }

    fn tell(&mut self, result: io::Result<()>) {
        match result {
            Err(error) if !self.failing => {
                self.failing = true;
                error!(reason = %error, "the recent store cannot write; events are missing from searches until it can (queue and audit are not affected)");
            }
            Ok(()) if self.failing => {
                self.failing = false;
                info!("the recent store writes again");
            }
            _ => {}
        }
    }
}

fn events(pieces: &[Piece]) -> impl Iterator<Item = &Judged> {
    pieces.iter().flat_map(|piece| piece.events().iter())
}

/// Gives up the first pieces of the list.
fn drop_pieces(shared: &Shared, pieces: &[Piece]) {
    metrics::counter!(RECENT_DROPPED).increment(finish(shared, pieces, None));
}

fn mark_spilled(shared: &Shared, pieces: &[Piece]) {
    shared.state.lock().pending.iter_mut().take(pieces.len()).for_each(|piece| piece.spilled = true);
}

/// Takes the first pieces off the list and, in the same moment, puts the frame they are in now into the index.
/// Pieces that are not on the list any more are left alone. Answers how many events were taken off.
fn finish(shared: &Shared, pieces: &[Piece], placed: Option<segment::Placed>) -> u64 {
    let mut state = shared.state.lock();
    let same = |(waiting, done): &(&Piece, &Piece)| waiting.is(done);
    let count = state.pending.iter().zip(pieces).take_while(same).count();
    let (mut events, mut bytes) = (0, 0);
    for piece in state.pending.drain(..count) {
        events += piece.events().len() as u64;
        bytes += piece.bytes;
    }
    state.pending_bytes = state.pending_bytes.saturating_sub(bytes);
    if let (Some(placed), Some((_, frames))) = (placed, &mut state.active) {
        frames.push(placed);
    }
    events
}

/// Waits until there is something to do.
fn next_work(shared: &Shared) -> Work {
    let mut state = shared.state.lock();
    let deadline = Instant::now() + HOUSEKEEPING;
    loop {
        let frame = first_frame(&state);
        let full = frame.events >= FRAME_EVENTS || frame.bytes >= FRAME_BYTES;
        // What was spilled lies behind the frames of the segment and must be part of one before it is finished.
        let spilled = state.pending.iter().any(|piece| piece.spilled);
        if full || (state.stopping && frame.pieces > 0) || (state.seal_wanted && spilled) {
            return Work::Frame(state.pending.iter().take(frame.pieces).cloned().collect());
        }
        if state.seal_wanted {
            return Work::Seal;
        }
        if state.stopping {
            return Work::Stop;
        }
        let due = state.pending.iter().find(|piece| !piece.spilled).map(|piece| piece.due);
        let until = due.unwrap_or(deadline).min(deadline);
        if Instant::now() >= until {
            return if due.is_some_and(|due| due <= until) {
                Work::Spill(state.pending.iter().cloned().collect())
            } else {
                Work::Housekeeping
            };
        }
        shared.wake.wait_until(&mut state, until);
    }
}

struct FirstFrame {
    pieces: usize,
    events: usize,
    bytes: usize,
}

/// How many of the waiting pieces make the next frame. Always covers every spilled one: those are fewer than a frame.
fn first_frame(state: &State) -> FirstFrame {
    let mut frame = FirstFrame { pieces: 0, events: 0, bytes: 0 };
    for piece in &state.pending {
        if frame.events >= FRAME_EVENTS_MAX || frame.bytes >= 2 * FRAME_BYTES {
            break;
        }
        frame.pieces += 1;
        frame.events += piece.events().len();
        frame.bytes += piece.bytes;
    }
    frame
}
