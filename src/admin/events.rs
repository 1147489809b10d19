//! Events: search in both stores at once, and the whole way of one event.
//!
//! The audit and the recent store are asked the same question and their answers merged. When one of them fails, the
//! other's answer is given with a warning: during trouble an incomplete answer beats none.

use super::{Admin, AdminError, EventLetter, Explained, KeptIn};
use crate::model::{DeliveryNote, EventId, Judged, Rule, RuleId};
use crate::store::{EventPage, EventQuery, PartitionInfo, StoreResult};

/// Events asked of a store at once: a few megabytes each even when every message is as long as may be (64 KiB, kept
/// twice).
const CHUNK: usize = 100;

/// Most bytes of events in one answer; what is left comes with the next cursor.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Chunks searched for the last alerts: where a rule ignores a flood, some of them may lie further back.
const MAX_ALERT_CHUNKS: usize = 5;

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
    /// Where to go on, as a query's `before`.
    pub next: Option<EventId>,
    /// Rows there are, at least: those seen unless `is_exact`.
    pub total: u64,
    /// Whether `total` was counted; rows that were removed one by one may still be counted.
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

    /// One page of the audit alone: what upstream calls the audit log. As quick at any depth.
    pub async fn audit_page(&self, query: &EventQuery, page: usize, limit: usize) -> Result<AuditPage, AdminError> {
        let query = EventQuery { limit, ..query.clone() };
        if query.before.is_some() {
            let found = self.parts.stores.audit.search(&query).await?;
            let (seen, has_more) = (u64::try_from(found.items.len()).unwrap_or(0), found.next.is_some());
            let (items, next) = (found.items, found.next);
            return Ok(AuditPage { items, has_more, next, total: seen + u64::from(has_more), is_exact: false });
        }
        let skip = u64::try_from(page.saturating_sub(1).saturating_mul(limit)).unwrap_or(u64::MAX);
        let found = self.parts.stores.audit.numbered(&query, skip).await?;
        let seen = skip.saturating_add(u64::try_from(found.items.len()).unwrap_or(0));
        let total = found.total.unwrap_or(seen.saturating_add(u64::from(found.has_more)));
        let is_exact = found.total.is_some();
        Ok(AuditPage { items: found.items, has_more: found.has_more, next: found.next, total, is_exact })
    }

    /// The files of the audit, newest first.
    pub async fn partitions(&self) -> Result<Vec<PartitionInfo>, AdminError> {
        Ok(self.parts.stores.audit.partitions().await?)
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
