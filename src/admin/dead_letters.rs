//! Dead letters, for people who look: browse, filter, one at a time. Looking never takes anything out of a queue.
//!
//! Filters are applied while the queue is read, page by page: a call looks at a bounded number of letters and says where
//! to go on, so neither its memory nor its time follows their number.

use super::{Admin, AdminError};
use crate::model::{DeathClass, Timestamp, host_key};
use crate::queue::{Queue, Seq};
use crate::remedy::{DeadItem, DeadQueue};

/// Most letters one call returns.
const MAX_LETTERS: usize = 200;
/// Letters read at once: their memory is bounded by this and the largest record.
const PAGE: usize = 128;
/// Letters one call looks at for those that fit a filter, so that an answer comes in some 30 ms however few fit.
const MOST_LOOKED_AT: usize = 5_000;

/// Which letters; members that are `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// The stage or target that gave up, in full.
    pub origin: Option<String>,
    /// Why it died.
    pub class: Option<DeathClass>,
    /// The event's host, ignoring case, in full.
    pub hostname: Option<String>,
    /// A part of the reason, the receiver's answer or the message, ignoring case.
    pub text: Option<String>,
    /// Given up at or after.
    pub from: Option<Timestamp>,
    /// Given up before.
    pub to: Option<Timestamp>,
}

impl LetterFilter {
    /// Whether nothing restricts.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The filter with host and text in the form [`LetterFilter::matches`] compares.
    pub(super) fn prepared(&self) -> Self {
        let mut filter = self.clone();
        filter.hostname = filter.hostname.as_deref().map(host_key);
        filter.text = filter.text.as_deref().map(str::to_lowercase);
        filter
    }

    /// Whether a letter is what is looked for. One that cannot be read has only its reason.
    pub(super) fn matches(&self, item: &DeadItem) -> bool {
        let letter = item.letter.as_ref().ok();
        let event = item.record.event();
        let class = letter.map_or(DeathClass::Undecodable, |letter| letter.class);
        let died_at = letter.map(|letter| letter.died_at);
        let reason = item.letter.as_ref().map_or_else(String::as_str, |letter| letter.reason.as_str());
        let contains = |text: &str, wanted: &str| text.to_lowercase().contains(wanted);
        self.origin.as_ref().is_none_or(|origin| letter.is_some_and(|letter| letter.origin == *origin))
            && self.class.is_none_or(|wanted| wanted == class)
            && self.from.is_none_or(|from| died_at.is_some_and(|at| at >= from))
            && self.to.is_none_or(|to| died_at.is_some_and(|at| at < to))
            && self.hostname.as_ref().is_none_or(|host| event.is_some_and(|event| host_key(&event.hostname) == *host))
            && self.text.as_ref().is_none_or(|wanted| {
                contains(reason, wanted)
                    || letter.and_then(|letter| letter.answer.as_ref()).is_some_and(|answer| contains(answer, wanted))
                    || event.is_some_and(|event| contains(&event.message, wanted))
            })
    }
}

/// Letters of one queue, oldest first.
#[derive(Debug, Clone)]
pub struct DeadPage {
    /// The letters.
    pub items: Vec<DeadItem>,
    /// Where to go on; `None` at the end. With a filter a page may hold fewer letters than asked and still go on.
    pub next: Option<Seq>,
    /// Letters there are in all, whatever the filter.
    pub total: u64,
}

impl Admin {
    /// Letters of a queue that fit a filter, from `from` on.
    pub async fn dead_letters(
        &self,
        queue: DeadQueue,
        filter: &LetterFilter,
        from: Seq,
        limit: usize,
    ) -> Result<DeadPage, AdminError> {
        let limit = limit.clamp(1, MAX_LETTERS);
        let filter = filter.prepared();
        let mut reader = LetterReader::new(self, queue, from);
        let mut items = Vec::new();
        let mut looked_at = 0;
        while items.len() < limit && looked_at < MOST_LOOKED_AT {
            let wanted = if filter.is_empty() { limit - items.len() } else { PAGE };
            let Some(page) = reader.page(wanted).await? else { break };
            for item in page {
                looked_at += 1;
                reader.from = item.seq.saturating_add(1);
                if filter.matches(&item) {
                    items.push(item);
                }
                if items.len() == limit {
                    break;
                }
            }
        }
        let next = if reader.is_at_end().await? { None } else { Some(reader.from) };
        Ok(DeadPage { items, next, total: reader.source.depth().items })
    }

    /// One letter.
    pub async fn dead_letter(&self, queue: DeadQueue, seq: Seq) -> Result<DeadItem, AdminError> {
        let found = queue.of(&self.parts.queues).peek(seq, 1).await?.into_iter().find(|record| record.seq == seq);
        let missing = || AdminError::NotFound { what: "dead letter", key: format!("{}/{seq}", queue.name()) };
        found.map(|record| DeadItem::of(record, queue)).ok_or_else(missing)
    }
}

/// Reads a queue of letters page by page.
pub(super) struct LetterReader<'a> {
    source: &'a Queue<crate::model::DeadLetter>,
    queue: DeadQueue,
    /// Where the next page begins.
    pub(super) from: Seq,
}

impl<'a> LetterReader<'a> {
    pub(super) fn new(admin: &'a Admin, queue: DeadQueue, from: Seq) -> Self {
        Self { source: queue.of(&admin.parts.queues), queue, from }
    }

    /// Up to `most` letters; `None` at the end.
    pub(super) async fn page(&mut self, most: usize) -> Result<Option<Vec<DeadItem>>, AdminError> {
        let records = self.source.peek(self.from, most.min(PAGE)).await?;
        let Some(last) = records.last().map(|record| record.seq) else { return Ok(None) };
        self.from = last.saturating_add(1);
        Ok(Some(records.into_iter().map(|record| DeadItem::of(record, self.queue)).collect()))
    }

    async fn is_at_end(&self) -> Result<bool, AdminError> {
        Ok(self.source.peek(self.from, 1).await?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::{NOON, TestAdmin, judged};
    use crate::model::DeadLetter;

    fn letter(host: &str, class: DeathClass, reason: &str) -> DeadLetter {
        DeadLetter::of_event(&judged(1, host, "it broke").event, "alerter", class, reason.into(), NOON)
    }

    #[tokio::test]
    async fn letters_are_found_by_each_filter_and_page_by_page() {
        let test = TestAdmin::new().await;
        let letters = [
            letter("core1", DeathClass::Judging, "judging it failed: overflow"),
            letter("core2", DeathClass::Crashed, "the process ended 4 times"),
            DeadLetter::of_bytes(
                "alerter",
                vec![0xff],
                "format 9".into(),
                1,
                NOON.plus(std::time::Duration::from_secs(60)),
            ),
        ];
        test.queues.dead_events.append(&letters).await.expect("room");
        let check = async |filter: LetterFilter, expected: &[usize]| {
            let page = test.admin.dead_letters(DeadQueue::Alerter, &filter, 0, 50).await.expect("open");
            let found: Vec<usize> = page.items.iter().map(|item| usize::try_from(item.seq).unwrap() - 1).collect();
            assert_eq!((found.as_slice(), page.next, page.total), (expected, None, 3), "{filter:?}");
        };
        let none = LetterFilter::default;
        check(none(), &[0, 1, 2]).await;
        check(LetterFilter { hostname: Some("CORE1".into()), ..none() }, &[0]).await;
        check(LetterFilter { class: Some(DeathClass::Undecodable), ..none() }, &[2]).await;
        check(LetterFilter { text: Some("OVERFLOW".into()), ..none() }, &[0]).await;
        check(LetterFilter { text: Some("broke".into()), ..none() }, &[0, 1]).await;
        check(LetterFilter { origin: Some("moogsoft".into()), ..none() }, &[]).await;
        let later = NOON.plus(std::time::Duration::from_secs(1));
        check(LetterFilter { from: Some(later), ..none() }, &[2]).await;
        check(LetterFilter { to: Some(later), ..none() }, &[0, 1]).await;
        let first = test.admin.dead_letters(DeadQueue::Alerter, &none(), 0, 2).await.expect("open");
        assert_eq!((first.items.len(), first.next), (2, Some(3)));
        assert!(test.admin.dead_letter(DeadQueue::Alerter, 9).await.is_err());
    }
}
