//! Watching events as they are judged: each batch that the recent store is handed goes to those who watch, too.
//!
//! Nobody who watches makes the work wait: without one a batch costs a single load of an atomic; with some, each is given a
//! reference to the batch and no more. What a watcher looks for it compares itself. Whoever takes too slowly loses whole
//! batches, which are counted and told. Bounded in watchers and in events; nothing is kept over a restart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::Judged;

/// Watchers at once.
const MAX_WATCHERS: usize = 64;

/// Events held for one watcher; one batch is held however large it is.
const MAX_EVENTS: usize = 10_000;

/// Those who watch.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// How many there are: all that the hot path looks at.
    count: AtomicUsize,
    watchers: Mutex<Vec<Arc<Held>>>,
}

/// What waits for one watcher.
#[derive(Debug, Default)]
struct Held {
    state: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Arc<Vec<Judged>>>,
    events: usize,
    missed: u64,
}

/// One who watches; it ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    tail: Arc<Tail>,
    held: Arc<Held>,
}

/// What came since the watcher took last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// Batches, oldest first.
    pub batches: Vec<Arc<Vec<Judged>>>,
    /// Events that came after those and were not held, because too many were.
    pub missed: u64,
}

impl Tail {
    /// Begins to watch; `None` if too many do.
    pub(super) fn watch(self: &Arc<Self>) -> Option<Watcher> {
        let mut watchers = self.watchers.lock();
        if watchers.len() >= MAX_WATCHERS {
            return None;
        }
        let held = Arc::new(Held::default());
        watchers.push(Arc::clone(&held));
        self.count.store(watchers.len(), Ordering::Relaxed);
        Some(Watcher { tail: Arc::clone(self), held })
    }

    /// Shows a batch to those who watch; never waits.
    pub(super) fn offer(&self, batch: &Arc<Vec<Judged>>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for held in self.watchers.lock().iter() {
            let mut state = held.state.lock();
            if state.batches.is_empty() || (state.missed == 0 && state.events + batch.len() <= MAX_EVENTS) {
                state.events += batch.len();
                state.batches.push_back(Arc::clone(batch));
            } else {
                state.missed += batch.len() as u64;
            }
            drop(state);
            held.ready.notify_one();
        }
    }
}

impl Watcher {
    /// Waits until there is something, and takes all of it.
    pub async fn next(&self) -> Watched {
        loop {
            let taken = std::mem::take(&mut *self.held.state.lock());
            if !taken.batches.is_empty() || taken.missed > 0 {
                return Watched { batches: taken.batches.into(), missed: taken.missed };
            }
            self.held.ready.notified().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watchers = self.tail.watchers.lock();
        watchers.retain(|held| !Arc::ptr_eq(held, &self.held));
        self.tail.count.store(watchers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decision, Environment, Event, EventId, Protocol, Source, Timestamp};

    fn batch(events: usize) -> Arc<Vec<Judged>> {
        let source = Source { protocol: Protocol::Http, peer: std::net::IpAddr::from([192, 0, 2, 1]) };
        let event = Event::new(EventId::from_bytes([1; 16]), Timestamp::from_millis(1), source);
        Arc::new(vec![Judged { event, decision: Decision { environment: Environment::Prod, matched: None } }; events])
    }

    #[tokio::test]
    async fn who_watches_sees_every_batch_and_who_is_slow_is_told_what_it_missed() {
        let tail = Arc::new(Tail::default());
        tail.offer(&batch(3));
        let watcher = tail.watch().expect("a place");
        tail.offer(&batch(2));
        tail.offer(&batch(MAX_EVENTS - 2));
        tail.offer(&batch(5));
        tail.offer(&batch(1));
        let seen = watcher.next().await;
        assert_eq!(seen.batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [2, MAX_EVENTS - 2]);
        assert_eq!(seen.missed, 6, "once something is missed, the rest is too, so that the order holds");
        let large = batch(MAX_EVENTS + 1);
        tail.offer(&large);
        assert_eq!(watcher.next().await, Watched { batches: vec![large], missed: 0 });
    }

    #[test]
    fn watchers_are_bounded_and_leave_when_they_end() {
        let tail = Arc::new(Tail::default());
        let watchers: Vec<Watcher> = (0..MAX_WATCHERS).filter_map(|_| tail.watch()).collect();
        assert_eq!((watchers.len(), tail.watch().is_none()), (MAX_WATCHERS, true));
        drop(watchers);
        assert_eq!((tail.count.load(Ordering::Relaxed), tail.watchers.lock().len()), (0, 0));
        assert!(tail.watch().is_some());
    }
}
