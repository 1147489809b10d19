//! Events: search in both stores at once, and the whole way of one event.
//!
//! The audit and the recent store are asked the same question and their answers merged. When one of them fails, the
//! other's answer is given with a warning: during trouble an incomplete answer beats none.

use std::collections::VecDeque;

use super::{Admin, AdminError, EventLetter, Explained, KeptIn};
use crate::model::{DeliveryNote, EventId, Judged, Rule, RuleId};
use crate::store::{EventPage, EventQuery, StoreResult};

/// Most rows an answer with page numbers reaches back; beyond, searching by time is the way.
const MAX_PAGED_ROWS: usize = 10_000;

/// Events asked of a store at once: a few megabytes each even when every message is as long as may be (64 KiB, kept
/// twice).
const CHUNK: usize = 100;

/// Most bytes of events in one answer; what is left comes with the next cursor.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Chunks searched for the last alerts: where a rule ignores a flood, some of them may lie further back.
const MAX_ALERT_CHUNKS: usize = 5;

/// Where pages of the audit ended that were asked for lately, so that the next one need not be counted from the start.
/// Bounded; what is forgotten is only found more slowly. Kept in memory: it says nothing that a search would not find.
#[derive(Debug, Default)]
pub(super) struct Bookmarks(VecDeque<Bookmark>);

#[derive(Debug)]
struct Bookmark {
    query: EventQuery,
    limit: usize,
    page: usize,
    last: EventId,
}

/// Bookmarks kept: as many scripts can go through the audit at once.
const MAX_BOOKMARKS: usize = 128;

impl Bookmarks {
    /// The latest page before `page` whose end is known, and that end.
    fn before(&self, query: &EventQuery, limit: usize, page: usize) -> Option<(usize, EventId)> {
        let same = self.0.iter().filter(|mark| mark.limit == limit && mark.page < page && mark.query == *query);
        same.max_by_key(|mark| mark.page).map(|mark| (mark.page, mark.last))
    }

    fn put(&mut self, query: EventQuery, limit: usize, page: usize, last: EventId) {
        // A script goes forward, so where it was before is of no use any more.
        let is_passed = |mark: &Bookmark| mark.page == page || mark.page + 1 == page;
        self.0.retain(|mark| mark.limit != limit || mark.query != query || !is_passed(mark));
        if self.0.len() >= MAX_BOOKMARKS {
            self.0.pop_front();
        }
        self.0.push_back(Bookmark { query, limit, page, last });
    }
}

/// Events found in both stores.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Newest first, no event twice.
    pub items: Vec<Judged>,
    /// Where to go on, as the next query's `before`.
    pub next: Option<EventId>,
    /// What could not be searched.
    pub warnings: Vec<String>,
}

/// One page of the audit, by page number.
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// Newest first.
    pub items: Vec<Judged>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// Rows there are, at least: an estimate unless `is_exact`.
    pub total: u64,
    /// Whether `total` was counted.
    pub is_exact: bool,
}

/// Everything known about one event.
#[derive(Debug, Clone)]
pub struct EventStory {
    /// The event and what was decided.
    pub judged: Judged,
    /// The rule that decided it, as it is now; `None` if it was deleted or none matched.
    pub rule: Option<Rule>,
    /// What the rules as they are now say to it: those that match first, then those that come closest.
    pub explained: Vec<Explained>,
    /// What receivers said, oldest first.
    pub deliveries: Vec<DeliveryNote>,
    /// Its dead letters that wait now.
    pub letters: Vec<EventLetter>,
    /// Where it was found.
    pub kept_in: KeptIn,
    /// What could not be read.
    pub warnings: Vec<String>,
}

impl Admin {
    /// Searches the audit and the recent store.
    pub async fn search(&self, query: &EventQuery) -> Result<Found, AdminError> {
        let limit = query.limit.clamp(1, EventQuery::MAX_LIMIT);
        let mut query = query.clone();
        let mut found = Found::default();
        let mut bytes = 0;
        loop {
            query.limit = (limit - found.items.len()).min(CHUNK);
            let page = self.search_chunk(&query, &mut found.warnings).await?;
            let is_full = page.items.len() == query.limit;
            bytes += page.items.iter().map(|judged| judged.event.approximate_bytes()).sum::<usize>();
            found.items.extend(page.items);
            found.next = page.next;
            // A chunk that is not full is the end, or a store that stopped at its time budget: the caller decides.
            if !is_full || page.next.is_none() || found.items.len() >= limit || bytes >= MAX_ANSWER_BYTES {
                return Ok(found);
            }
            query.before = page.next;
        }
    }

    async fn search_chunk(&self, query: &EventQuery, warnings: &mut Vec<String>) -> Result<EventPage, AdminError> {
        let stores = &self.parts.stores;
        let (audit, recent) = tokio::join!(stores.audit.search(query), stores.recent.search(query));
        match (audit, recent) {
            (Ok(audit), Ok(recent)) => Ok(merge(audit, recent, query.limit)),
            (Ok(page), Err(error)) | (Err(error), Ok(page)) => {
                let warning = format!("the answer is incomplete: {error}");
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
                Ok(page)
            }
            (Err(error), Err(_)) => Err(error.into()),
        }
    }

    /// One page of the audit alone: what upstream calls the audit log. Pages that are asked for one after the other go on
    /// where the one before ended, however far back; a jump reaches [`MAX_PAGED_ROWS`] rows.
    pub async fn audit_page(&self, query: &EventQuery, page: usize, limit: usize) -> Result<AuditPage, AdminError> {
        let mut found = self.audit_rows(query, page, limit).await?;
        let seen = u64::try_from((page - 1).saturating_mul(limit) + found.items.len()).unwrap_or(u64::MAX);
        found.is_exact = !found.has_more && query.before.is_none() && (page == 1 || !found.items.is_empty());
        found.total = seen.saturating_add(u64::from(found.has_more));
        if !found.is_exact {
            // Rows that no filter leaves out can be told without counting.
            let plain = EventQuery { matched: None, before: None, ..query.clone() } == EventQuery::default();
            let about = if plain { self.parts.stores.audit.approximate_rows().await? } else { 0 };
            found.total = found.total.max(about);
        }
        Ok(found)
    }

    async fn audit_rows(&self, query: &EventQuery, page: usize, limit: usize) -> Result<AuditPage, AdminError> {
        let end = page.saturating_mul(limit);
        let asked = query.clone();
        let mut query = query.clone();
        let mut seen = 0;
        if let Some((pages, last)) = self.bookmarks.lock().before(&asked, limit, page) {
            query.before = Some(last);
            seen = pages * limit;
        }
        if end - seen > MAX_PAGED_ROWS {
            return Err(AdminError::invalid(
                "page",
                format!(
                    "it is more than {MAX_PAGED_ROWS} rows ahead; go on page by page or by cursor, or narrow the search \
                     with start_date and end_date"
                ),
            ));
        }
        let mut items: Vec<Judged> = Vec::new();
        loop {
            query.limit = (end + 1 - seen).min(CHUNK);
            let found = self.parts.stores.audit.search(&query).await?;
            for judged in found.items {
                if (end - limit..end).contains(&seen) {
                    items.push(judged);
                }
                seen += 1;
            }
            if seen > end || found.next.is_none() {
                let has_more = seen > end;
                if let Some(last) = items.last().filter(|_| has_more) {
                    self.bookmarks.lock().put(asked, limit, page, last.event.id);
                }
                return Ok(AuditPage { items, has_more, total: 0, is_exact: false });
            }
            query.before = found.next;
        }
    }

    /// The last alerts, newest first. Only the audit is asked: everything that was forwarded is in it, and it finds
    /// matched events without scanning.
    pub(super) async fn last_alerts(&self, wanted: usize) -> Result<Vec<Judged>, AdminError> {
        let mut query = EventQuery { matched: Some(true), limit: CHUNK, ..EventQuery::default() };
        let mut alerts = Vec::new();
        for _ in 0..MAX_ALERT_CHUNKS {
            let found = self.parts.stores.audit.search(&query).await?;
            alerts.extend(found.items.into_iter().filter(|judged| judged.decision.forwarded()));
            if alerts.len() >= wanted || found.next.is_none() {
                break;
            }
            query.before = found.next;
        }
        alerts.truncate(wanted);
        Ok(alerts)
    }

    /// The whole way of one event.
    pub async fn event(&self, id: EventId) -> Result<EventStory, AdminError> {
        let stores = &self.parts.stores;
        let (audit, recent) = tokio::join!(stores.audit.get(id), stores.recent.get(id));
        let mut warnings = Vec::new();
        let kept_in = KeptIn { recent: matches!(recent, Ok(Some(_))), audit: matches!(audit, Ok(Some(_))) };
        let judged = either(audit, recent, &mut warnings)?;
        let judged = judged.ok_or_else(|| AdminError::NotFound { what: "event", key: id.to_string() })?;
        let deliveries = stores.audit.deliveries(id).await.unwrap_or_else(|error| {
            warnings.push(format!("the deliveries cannot be shown: {error}"));
            Vec::new()
        });
        let rule = match judged.decision.rule() {
            // Rule 0 is the meta-alert for unhandled events: no rule made it.
            Some(id) if id != RuleId(0) => self.rule(id).await.ok(),
            _ => None,
        };
        let explained = match self.judge_now(judged.event.clone()).await {
            Ok(outcome) => outcome.explained,
            Err(error) => {
                warnings.push(format!("the rules cannot be explained: {error}"));
                Vec::new()
            }
        };
        let letters = self.letters_of(id, &mut warnings).await;
        Ok(EventStory { judged, rule, explained, deliveries, letters, kept_in, warnings })
    }
}

/// The audit's row if there is one, else the recent store's; an error only if neither has it and one failed.
fn either(
    audit: StoreResult<Option<Judged>>,
    recent: StoreResult<Option<Judged>>,
    warnings: &mut Vec<String>,
) -> Result<Option<Judged>, AdminError> {
    match (audit, recent) {
        (Ok(Some(judged)), _) => Ok(Some(judged)),
        (Err(error), Ok(Some(judged))) => {
            warnings.push(format!("the audit cannot be read: {error}"));
            Ok(Some(judged))
        }
        (Ok(None), Ok(found)) => Ok(found),
        (_, Err(error)) | (Err(error), Ok(None)) => Err(error.into()),
    }
}

/// Merges two pages, newest first. A page with a `next` says nothing about events older than it, so what the other
/// page has beyond that point is left for the next page.
fn merge(audit: EventPage, recent: EventPage, limit: usize) -> EventPage {
    let horizon = audit.next.max(recent.next);
    let mut items = audit.items;
    items.extend(recent.items);
    // A stable sort keeps the audit's row before the recent store's of the same event; the audit's is the one kept.
    items.sort_by_key(|judged| std::cmp::Reverse(judged.event.id));
    items.dedup_by_key(|judged| judged.event.id);
    if let Some(horizon) = horizon {
        items.retain(|judged| judged.event.id >= horizon);
    }
    if items.len() > limit {
        items.truncate(limit);
        let next = items.last().map(|judged| judged.event.id);
        return EventPage { items, next };
    }
    EventPage { items, next: horizon }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::judged;

    fn ids(page: &EventPage) -> Vec<u8> {
        page.items.iter().map(|judged| judged.event.id.as_bytes()[15]).collect()
    }

    fn page(numbers: &[u8], next: Option<u8>) -> EventPage {
        EventPage {
            items: numbers.iter().map(|number| judged(*number, "host", "text")).collect(),
            next: next.map(|number| judged(number, "host", "text").event.id),
        }
    }

    fn check(audit: EventPage, recent: EventPage, limit: usize, expected: &[u8], next: Option<u8>) {
        let merged = merge(audit, recent, limit);
        assert_eq!(ids(&merged), expected);
        assert_eq!(merged.next.map(|id| id.as_bytes()[15]), next);
    }

    #[test]
    fn two_stores_answer_as_one() {
        check(page(&[9, 5], None), page(&[9, 7, 5, 3], None), 10, &[9, 7, 5, 3], None);
        check(page(&[9, 5], None), page(&[8, 7], None), 3, &[9, 8, 7], Some(7));
        // The recent store stopped at 7: the audit's 5 may not overtake what lies between.
        check(page(&[9, 5], None), page(&[8, 7], Some(7)), 10, &[9, 8, 7], Some(7));
        check(page(&[9, 5], Some(5)), page(&[], Some(8)), 10, &[9], Some(8));
        check(page(&[], None), page(&[], None), 10, &[], None);
    }

    #[tokio::test]
    async fn long_answers_are_whole_however_they_are_fetched() {
        let test = crate::admin::testing::TestAdmin::new().await;
        let rows: Vec<_> = (1..=250).map(|number| crate::admin::testing::matched(number, "core1", "down", 1)).collect();
        test.stores.audit.record(rows).await.expect("recorded");
        let numbers = |items: &[Judged]| items.iter().map(|row| row.event.id.as_bytes()[15]).collect::<Vec<_>>();
        let expected: Vec<u8> = (1..=250).rev().collect();

        let query = EventQuery { limit: 1_000, ..EventQuery::default() };
        let found = test.admin.search(&query).await.expect("found");
        assert_eq!(numbers(&found.items), expected);
        let most = test.admin.search(&EventQuery { limit: 249, ..EventQuery::default() }).await.expect("found");
        assert_eq!((most.items.len(), most.next.is_some()), (249, true));

        let third = test.admin.audit_page(&EventQuery::default(), 3, 100).await.expect("found");
        assert_eq!((numbers(&third.items), third.has_more), (expected[200..].to_vec(), false));
        let second = test.admin.audit_page(&EventQuery::default(), 2, 100).await.expect("found");
        assert_eq!((numbers(&second.items), second.has_more), (expected[100..200].to_vec(), true));
        assert_eq!(numbers(&test.admin.last_alerts(10).await.expect("found")), expected[..10]);
    }
}
