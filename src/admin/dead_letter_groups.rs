//! Dead letters by who gave up and why: the first thing to look at when there are thousands. Counts, changes nothing.

use std::collections::BTreeMap;

use super::dead_letters::LetterReader;
use super::{Admin, AdminError, LetterFilter};
use crate::model::{DeathClass, Timestamp};
use crate::queue::Seq;
use crate::remedy::{DeadItem, DeadQueue};

/// Letters one call counts, so that it ends. Beyond, the answer says that it is not complete.
const MOST_COUNTED: u64 = 200_000;
/// Groups kept; further ones are counted together.
const MOST_GROUPS: usize = 200;
/// Characters of a reason by which letters fall together: the start says what, the rest which.
const REASON_CHARS: usize = 80;

/// Letters that died for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadGroup {
    /// The stage or target that gave up; empty in the group of all the rest.
    pub origin: String,
    /// Why, as a class.
    pub class: DeathClass,
    /// The start of the reason, with numbers replaced.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// When the first of them died for the first time.
    pub first: Option<Timestamp>,
    /// When the last of them died.
    pub last: Option<Timestamp>,
    /// One of them.
    pub example: Seq,
}

/// The groups of one queue, largest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadGroups {
    /// Largest first.
    pub groups: Vec<DeadGroup>,
    /// Whether every letter was counted.
    pub complete: bool,
}

impl Admin {
    /// Groups the letters of a queue that fit a filter.
    pub async fn dead_groups(&self, queue: DeadQueue, filter: &LetterFilter) -> Result<DeadGroups, AdminError> {
        let filter = filter.prepared();
        let mut reader = LetterReader::new(self, queue, 0);
        let mut groups = BTreeMap::new();
        let mut counted = 0;
        let mut complete = true;
        while let Some(page) = reader.page(usize::MAX).await? {
            if counted >= MOST_COUNTED {
                complete = false;
                break;
            }
            counted += page.len() as u64;
            page.iter().filter(|item| filter.matches(item)).for_each(|item| add(&mut groups, item));
            // Taking letters apart is work; others have their turn between two pages.
            tokio::task::yield_now().await;
        }
        let mut groups: Vec<DeadGroup> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(DeadGroups { groups, complete })
    }
}

fn add(groups: &mut BTreeMap<(String, DeathClass, String), DeadGroup>, item: &DeadItem) {
    let letter = item.letter.as_ref().ok();
    let reason = item.letter.as_ref().map_or_else(String::as_str, |letter| letter.reason.as_str());
    let origin = letter.map(|letter| letter.origin.clone()).unwrap_or_default();
    let class = letter.map_or(DeathClass::Undecodable, |letter| letter.class);
    let mut key = (origin, class, pattern(reason));
    if groups.len() >= MOST_GROUPS && !groups.contains_key(&key) {
        key = (String::new(), DeathClass::Unknown, "any other reason".to_owned());
    }
    let group = groups.entry(key.clone()).or_insert_with(|| DeadGroup {
        origin: key.0,
        class: key.1,
        reason: key.2,
        count: 0,
        first: letter.map(|letter| letter.first_died_at),
        last: None,
        example: item.seq,
    });
    group.count += 1;
    if let Some(letter) = letter {
        group.first = Some(group.first.map_or(letter.first_died_at, |first| first.min(letter.first_died_at)));
        group.last = group.last.max(Some(letter.died_at));
    }
}

/// The start of a reason with every run of digits made a `#`, but for the first three digits: those are a status.
fn pattern(reason: &str) -> String {
    let mut pattern = String::new();
    for (place, c) in reason.chars().take(REASON_CHARS).enumerate() {
        match c {
            digit if digit.is_ascii_digit() && place >= 3 => {
                if !pattern.ends_with('#') {
                    pattern.push('#');
                }
            }
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::{NOON, TestAdmin, judged};
    use crate::model::DeadLetter;

    #[tokio::test]
    async fn letters_that_died_alike_are_one_group_however_many() {
        let test = TestAdmin::new().await;
        let letter = |number: u64, class, reason: String| {
            let later = NOON.plus(std::time::Duration::from_secs(number));
            DeadLetter::of_event(&judged(1, "core1", "it broke").event, "alerter", class, reason, later)
        };
        let letters: Vec<DeadLetter> = (0..300)
            .map(|number| letter(number, DeathClass::Judging, format!("judging it failed: index {number}")))
            .chain([letter(5, DeathClass::Crashed, "the process ended 4 times".into())])
            .collect();
        test.queues.dead_events.append(&letters).await.expect("room");
        let found = test.admin.dead_groups(DeadQueue::Alerter, &LetterFilter::default()).await.expect("open");
        assert!(found.complete);
        let told: Vec<_> = found.groups.iter().map(|group| (group.class, group.reason.as_str(), group.count)).collect();
        assert_eq!(
            told,
            [
                (DeathClass::Judging, "judging it failed: index #", 300),
                (DeathClass::Crashed, "the process ended # times", 1)
            ]
        );
        assert_eq!(found.groups[0].last, Some(NOON.plus(std::time::Duration::from_secs(299))));
    }

    #[test]
    fn a_status_stays_and_other_numbers_fall_together() {
        assert_eq!(pattern("422 no class 17 in 4 of 20"), "422 no class # in # of #");
    }
}
