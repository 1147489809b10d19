//! Events: search in both stores at once, and the whole way of one event.
//!
//! The audit and the recent store are asked the same question and their answers merged. When one of them fails, the
//! other's answer is given with a warning: during trouble an incomplete answer beats none.

use super::{Admin, AdminError, Explained};
use crate::model::{DeliveryNote, EventId, Judged, Rule, RuleId};
use crate::store::{EventPage, EventQuery, StoreResult};

/// Most rows an answer with page numbers reaches back; beyond, searching by time is the way.
const MAX_PAGED_ROWS: usize = 10_000;

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
    /// What could not be read.
    pub warnings: Vec<String>,
}

impl Admin {
    /// Searches the audit and the recent store.
    pub async fn search(&self, query: &EventQuery) -> Result<Found, AdminError> {
        let stores = &self.parts.stores;
        let limit = query.limit.clamp(1, EventQuery::MAX_LIMIT);
        let (audit, recent) = tokio::join!(stores.audit.search(query), stores.recent.search(query));
        let mut warnings = Vec::new();
        let page = match (audit, recent) {
            (Ok(audit), Ok(recent)) => merge(audit, recent, limit),
            (Ok(page), Err(error)) | (Err(error), Ok(page)) => {
                warnings.push(format!("the answer is incomplete: {error}"));
                page
            }
            (Err(error), Err(_)) => return Err(error.into()),
        };
        Ok(Found { items: page.items, next: page.next, warnings })
    }

    /// One page of the audit alone: what upstream calls the audit log.
    pub async fn audit_page(&self, query: &EventQuery, page: usize, limit: usize) -> Result<AuditPage, AdminError> {
        let wanted = page.saturating_mul(limit);
        if wanted > MAX_PAGED_ROWS {
            return Err(AdminError::invalid(
                "page",
                format!("pages end after {MAX_PAGED_ROWS} rows; narrow the search with start_date and end_date"),
            ));
        }
        let mut query = query.clone();
        let mut rows: Vec<Judged> = Vec::new();
        let has_more = loop {
            query.limit = (wanted + 1 - rows.len()).min(EventQuery::MAX_LIMIT);
            let found = self.parts.stores.audit.search(&query).await?;
            rows.extend(found.items);
            match found.next {
                _ if rows.len() > wanted => break true,
                None => break false,
                next => query.before = next,
            }
        };
        let items = rows.into_iter().take(wanted).skip(wanted - limit).collect();
        Ok(AuditPage { items, has_more })
    }

    /// The whole way of one event.
    pub async fn event(&self, id: EventId) -> Result<EventStory, AdminError> {
        let stores = &self.parts.stores;
        let (audit, recent) = tokio::join!(stores.audit.get(id), stores.recent.get(id));
        let mut warnings = Vec::new();
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
        Ok(EventStory { judged, rule, explained, deliveries, warnings })
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
}
