//! Every event of the last days: an append-only, compressed log without an index. A search scans it, but passes over what
//! cannot hold a hit (see `digest`).
//!
//! Events are handed over without waiting ([`Recent::append`]) and are found by searches from that moment on. A thread
//! of its own packs them into frames (see `frame`) and writes these to segments (see `segment`); when it falls behind
//! by [`PENDING_BYTES`], events are dropped and counted, because the queue and the audit, not this store, are what
//! must not lose any. The oldest segments are deleted when the store exceeds its bytes or its age.
//!
//! On a crash of the process the last 0.2 seconds may be missing, on a power cut some seconds more.

mod digest;
mod erase;
mod frame;
mod search;
mod segment;
mod tail;
mod writer;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

use self::search::Snapshot;
use self::segment::{Placed, Sealed};
use self::tail::Tail;
pub use self::tail::{Watched, Watcher};
use super::{EventPage, EventQuery, StoreError, StoreResult};
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Event, EventId, Judged, Timestamp};
use crate::telemetry::metrics::{RECENT_BYTES, RECENT_DROPPED};

/// What the store is called in errors and logs.
const STORE: &str = "recent";
/// Memory of events handed over and not yet written, at most.
const PENDING_BYTES: usize = 48 << 20;
/// Events in one of the pieces a handed-over batch is kept in.
const PIECE_EVENTS: usize = 2_048;
/// How long a search may look before it answers with what it has.
const SEARCH_BUDGET: Duration = Duration::from_secs(1);
/// Searches at once: each may keep a core busy for its whole budget.
const SEARCHES: usize = 2;

/// Bounds of the recent store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentSettings {
    /// Bytes on disk, at most (`recent_max_bytes`).
    pub max_bytes: u64,
    /// Age in days, at most (`recent_max_days`).
    pub max_days: u32,
}

impl Default for RecentSettings {
    fn default() -> Self {
        Self { max_bytes: 2 << 30, max_days: 7 }
    }
}

/// How far a scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Every event received at or after this was shown. At the end of the store: its oldest event's time.
    pub reached: Timestamp,
    /// Whether the store was looked at as far back as was asked, or to its end.
    pub complete: bool,
}

/// Every event of the last days.
#[derive(Debug)]
pub struct Recent {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    searches: Semaphore,
    tail: Arc<Tail>,
}

/// What callers and the writer thread share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    bytes: AtomicU64,
}

/// Everything a search needs, kept so that an event is in exactly one place at any moment.
#[derive(Debug, Default)]
struct State {
    /// Handed over and not yet in a frame that stays, oldest first.
    pending: VecDeque<Piece>,
    pending_bytes: usize,
    /// Finished segments, oldest first.
    sealed: VecDeque<Arc<Sealed>>,
    /// The segment being written, as far as it is finished.
    active: Option<(std::path::PathBuf, Vec<Placed>)>,
    stopping: bool,
    /// Whether someone waits for the segment being written to be finished.
    seal_wanted: bool,
}

/// Some events that were handed over together.
#[derive(Debug, Clone)]
struct Piece {
    batch: Arc<Vec<Judged>>,
    /// Which of the batch.
    range: Range<usize>,
    bytes: usize,
    /// When the writer should have written it at the latest.
    due: Instant,
    /// Whether it is on disk in a form that survives a crash of the process.
    spilled: bool,
}

impl Piece {
    fn events(&self) -> &[Judged] {
        self.batch.get(self.range.clone()).unwrap_or_default()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.batch, &other.batch) && self.range == other.range
    }
}

impl Recent {
    /// Opens the store in `dir`, which is made if it is not there, and starts its writer thread. A segment that was
    /// being written when the process ended is cut at its last whole frame.
    pub fn open(dir: &Path, clock: Clock, settings: Live<RecentSettings>) -> StoreResult<Self> {
        let unavailable = |error: std::io::Error| StoreError::Unavailable {
            store: STORE.to_owned(),
            why: format!("folder `{}`: {error}", dir.display()),
        };
        let (writer, state) = writer::open(dir, clock, settings).map_err(unavailable)?;
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), bytes: AtomicU64::new(0) });
        shared.publish_bytes(writer.bytes(&shared.state.lock()));
        let for_writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store recent".to_owned())
            .spawn(move || writer.run(&for_writer))
            .map_err(unavailable)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), searches: Semaphore::new(SEARCHES), tail: Arc::default() })
    }

    /// Hands over events; never waits. What does not fit is dropped and counted.
    pub fn append(&self, batch: &Arc<Vec<Judged>>) {
        self.tail.offer(batch);
        let due = Instant::now() + writer::FLUSH_AFTER;
        for start in (0..batch.len()).step_by(PIECE_EVENTS) {
            let range = start..batch.len().min(start + PIECE_EVENTS);
            let piece = Piece { batch: Arc::clone(batch), range, bytes: 0, due, spilled: false };
            let bytes = piece.events().iter().map(|judged| Event::approximate_bytes(&judged.event)).sum();
            self.push(Piece { bytes, ..piece });
        }
        self.shared.wake.notify_one();
    }

    fn push(&self, piece: Piece) {
        let mut state = self.shared.state.lock();
        // A piece larger than the whole budget is taken when nothing else waits.
        let fits = state.pending.is_empty() || state.pending_bytes + piece.bytes <= PENDING_BYTES;
        if fits && !state.stopping {
            state.pending_bytes += piece.bytes;
            state.pending.push_back(piece);
        } else {
            metrics::counter!(RECENT_DROPPED).increment(piece.events().len() as u64);
        }
    }

    /// Begins to watch what is handed over from now on; `None` if too many watch.
    pub fn watch(&self) -> Option<Watcher> {
        self.tail.watch()
    }

    /// Events newest first; stops at a time budget and says where to go on.
    pub async fn search(&self, query: &EventQuery) -> StoreResult<EventPage> {
        let query = query.prepared();
        self.read(move |snapshot| snapshot.search(&query, Instant::now() + SEARCH_BUDGET)).await
    }

    /// Shows `visit` every event received since `from`, about newest first, until `deadline`; `state` travels along. It
    /// reads each frame once, so it is the way to look at everything.
    pub async fn scan<T: Send + 'static>(
        &self,
        from: Timestamp,
        deadline: Instant,
        mut state: T,
        mut visit: impl FnMut(&mut T, &Judged) + Send + 'static,
    ) -> StoreResult<(T, Scanned)> {
        self.read(move |snapshot| {
            let scanned = snapshot.scan(from, deadline, |judged| visit(&mut state, judged));
            (state, scanned)
        })
        .await
    }

    /// One event.
    pub async fn get(&self, id: EventId) -> StoreResult<Option<Judged>> {
        self.read(move |snapshot| snapshot.get(id)).await
    }

    async fn read<T: Send + 'static>(&self, body: impl FnOnce(Snapshot) -> T + Send + 'static) -> StoreResult<T> {
        let unavailable = |why: String| StoreError::Unavailable { store: STORE.to_owned(), why };
        let _permit = self.searches.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let snapshot = Snapshot::of(&self.shared.state.lock());
        tokio::task::spawn_blocking(move || body(snapshot)).await.map_err(|error| unavailable(error.to_string()))
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Writes what was handed over and ends the thread; what is handed over later is dropped and counted.
    pub async fn close(&self) -> StoreResult<()> {
        let Some(thread) = self.stop() else { return Ok(()) };
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(StoreError::Unavailable { store: STORE.to_owned(), why: "its writer thread panicked".to_owned() }),
        }
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.shared.state.lock().stopping = true;
        self.shared.wake.notify_one();
        self.thread.lock().take()
    }
}

impl Drop for Recent {
    /// Waits for the writer, so that nobody else opens the folder while it still writes.
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            // A panic of the writer was logged when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn publish_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        metrics::gauge!(RECENT_BYTES).set(bytes as f64);
    }
}

#[cfg(test)]
mod tests;
