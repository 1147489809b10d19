//! Events as they come, filtered as a search is: for the live view and for programs.
//!
//! A reader gets at most [`MAX_AT_ONCE`] events at a time and asks some times a second, so that a flood costs a reader's
//! share of a core and no more; what it does not get is counted. One who comes again is given what came meanwhile, as far as
//! the recent store reaches and no more than [`MAX_RESUMED`]. Keeps nothing.

use std::collections::HashSet;
use std::time::Duration;

use super::{Admin, AdminError};
use crate::model::{EventId, Judged};
use crate::store::{EventQuery, Watcher};

/// Events given at once.
const MAX_AT_ONCE: usize = 500;

/// Events given to a reader who comes again.
const MAX_RESUMED: usize = 5_000;

/// Pause between two looks: with the bound of what is held for a reader, at most 50,000 events a second are compared.
const PACE: Duration = Duration::from_millis(200);

/// A reader of events as they come.
pub struct LiveEvents {
    watcher: Watcher,
    query: EventQuery,
    /// What was given because it came before; it may still come once more.
    resumed: HashSet<EventId>,
    first: Option<LiveBatch>,
}

/// What a reader gets.
#[derive(Debug, Default)]
pub struct LiveBatch {
    /// Events that fit, oldest first.
    pub events: Vec<Judged>,
    /// Events that came after those and were not looked at, or fit and were too many.
    pub missed: u64,
}

impl Admin {
    /// Begins to watch events that fit; after `last` first those that came since.
    pub async fn watch_events(&self, query: &EventQuery, last: Option<EventId>) -> Result<LiveEvents, AdminError> {
        let full = || AdminError::Unavailable("too many readers watch events; try again later".into());
        // First watched, then searched: what comes between the two is in both, and given once.
        let watcher = self.parts.stores.recent.watch().ok_or_else(full)?;
        let query = EventQuery { before: None, ..query.prepared() };
        let mut live = LiveEvents { watcher, query, resumed: HashSet::new(), first: None };
        if let Some(last) = last {
            let batch = self.events_since(&live.query, last).await?;
            live.resumed = batch.events.iter().map(|judged| judged.event.id).collect();
            live.first = Some(batch);
        }
        Ok(live)
    }

    async fn events_since(&self, query: &EventQuery, last: EventId) -> Result<LiveBatch, AdminError> {
        let mut query = EventQuery { limit: MAX_AT_ONCE, ..query.clone() };
        let mut batch = LiveBatch::default();
        loop {
            let page = self.parts.stores.recent.search(&query).await?;
            let newer = page.items.into_iter().filter(|judged| judged.event.id > last);
            let before = batch.events.len();
            batch.events.extend(newer);
            let reached = page.next.is_none_or(|next| next <= last) || batch.events.len() == before;
            if reached || batch.events.len() >= MAX_RESUMED {
                // How many older ones there are is not known; that there are some is.
                batch.missed = u64::from(!reached);
                batch.events.reverse();
                return Ok(batch);
            }
            query.before = page.next;
        }
    }
}

impl LiveEvents {
    /// Waits for events that fit, or for something to be missed.
    pub async fn next(&mut self) -> LiveBatch {
        if let Some(first) = self.first.take().filter(|first| !first.events.is_empty() || first.missed > 0) {
            return first;
        }
        loop {
            let watched = self.watcher.next().await;
            let mut batch = LiveBatch { events: Vec::new(), missed: watched.missed };
            for judged in watched.batches.iter().flat_map(|batch| batch.iter()) {
                if !self.query.matches(judged) || self.resumed.contains(&judged.event.id) {
                    continue;
                }
                if batch.events.len() < MAX_AT_ONCE {
                    batch.events.push(judged.clone());
                } else {
                    batch.missed += 1;
                }
            }
            tokio::time::sleep(PACE).await;
            if !batch.events.is_empty() || batch.missed > 0 {
                return batch;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::{TestAdmin, judged};
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_what_fits_once_and_in_order_also_when_it_comes_again() {
        let house = TestAdmin::new().await;
        let send = |numbers: &[u8], text: &str| {
            let batch: Vec<Judged> = numbers.iter().map(|number| judged(*number, "core1", text)).collect();
            house.stores.recent.append(&Arc::new(batch));
        };
        let numbers =
            |batch: &LiveBatch| batch.events.iter().map(|one| one.event.id.as_bytes()[15]).collect::<Vec<_>>();
        let query = EventQuery { text: Some("DOWN".into()), ..EventQuery::default() };
        send(&[1, 2, 3], "link down");
        let mut fresh = house.admin.watch_events(&query, None).await.expect("watches");
        let last = judged(1, "core1", "x").event.id;
        let mut again = house.admin.watch_events(&query, Some(last)).await.expect("watches");
        send(&[4], "link up");
        send(&[5, 6], "link down");
        assert_eq!(numbers(&fresh.next().await), [5, 6]);
        assert_eq!(numbers(&again.next().await), [2, 3], "what came meanwhile");
        assert_eq!(numbers(&again.next().await), [5, 6]);
        send(&vec![7; MAX_AT_ONCE + 3], "all down");
        let many = fresh.next().await;
        assert_eq!((many.events.len(), many.missed), (MAX_AT_ONCE, 3));
    }
}
