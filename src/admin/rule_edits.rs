//! Many changes of rules as one: bulk edits and a new order. All of them or none, each with its line in the change log.
//!
//! What is to be done is worked out on the rules as they are and carried out only if none of those it touches was changed
//! meanwhile; otherwise it is worked out again, a few times.

use std::collections::HashMap;

use super::{Actor, Admin, AdminError, ItemFault};
use crate::model::{Rule, RuleDraft, RuleId};
use crate::rules::check_draft;
use crate::store::{ConfigEdit, rule_tag};

/// Most items of one request: a large site's whole rule set.
pub const MAX_BULK_ITEMS: usize = 10_000;

/// Faults told at once.
const MAX_FAULTS: usize = 100;

/// How often it is tried when others change the same rules.
const TRIES: usize = 3;

/// From one priority to the next when all are given anew, so that rules can be put between.
const STEP: i64 = 10;

/// One thing to be done to rules.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleEdit {
    /// A new rule.
    Create(RuleDraft),
    /// These members of a rule, the others as they are; the function puts them in place.
    Change(RuleId, RuleChange),
    /// A rule goes into force or out of it.
    Activate(RuleId, Activity),
    /// A rule goes; with a tag only if it is still its own.
    Delete(RuleId, Option<String>),
}

/// Whether a rule is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It is.
    On,
    /// It is kept only.
    Off,
}

/// Members of a rule as they were sent.
pub type RuleChange = serde_json::Map<String, serde_json::Value>;

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleEdited {
    /// It was made; its number is given when it is stored.
    Created(Option<RuleId>),
    /// It is so now.
    Changed(Rule),
    /// It was so already.
    Unchanged(Rule),
    /// It is gone.
    Deleted(RuleId),
}

/// Where a rule is to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// These rules in this order, in the places that they have among the others now.
    Sequence(Vec<RuleId>),
    /// One directly before another.
    Before(RuleId, RuleId),
    /// One directly after another.
    After(RuleId, RuleId),
}

impl Admin {
    /// Carries out every edit, one after the other, or none; with `dry_run` only says what would become of them.
    pub async fn edit_rules(
        &self,
        edits: &[RuleEdit],
        dry_run: bool,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Vec<RuleEdited>, AdminError> {
        if edits.is_empty() || edits.len() > MAX_BULK_ITEMS {
            return Err(AdminError::invalid("items", format!("give 1 to {MAX_BULK_ITEMS} items")));
        }
        let change = actor.change(reason)?;
        for left in (0..TRIES).rev() {
            let (now, _) = self.parts.stores.rules.list().await?;
            let mut plan = Plan::new(now);
            for (index, edit) in edits.iter().enumerate() {
                plan.take(index, edit);
            }
            if !plan.faults.is_empty() {
                return Err(AdminError::Items(plan.faults));
            }
            if dry_run || plan.edits.is_empty() {
                return Ok(plan.outcomes);
            }
            let (edits, mut outcomes) = plan.finish();
            match self.parts.stores.edits.apply(edits, &change).await {
                Ok(added) => {
                    let mut added = added.into_iter();
                    for outcome in &mut outcomes {
                        if let RuleEdited::Created(id) = outcome {
                            *id = added.next();
                        }
                    }
                    self.parts.changed.notify_one();
                    return Ok(outcomes);
                }
                Err(crate::store::StoreError::Stale { .. } | crate::store::StoreError::NotFound { .. }) if left > 0 => {
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AdminError::Conflict("others change the same rules all the time; try again".into()))
    }

    /// Gives rules priorities so that they stand in this order. As few as possible are changed; only where there is no room
    /// between two, all are numbered anew. Answers the rules that were changed.
    pub async fn order_rules(
        &self,
        order: &Order,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Vec<Rule>, AdminError> {
        let change = actor.change(reason)?;
        for left in (0..TRIES).rev() {
            let (now, _) = self.parts.stores.rules.list().await?;
            let wanted = sequence(&now, order)?;
            let changed = priorities(&now, &wanted);
            let mut edits = Vec::with_capacity(changed.len() * 2);
            for rule in &changed {
                let seen = now.iter().find(|one| one.id == rule.id);
                edits.extend(seen.map(|seen| ConfigEdit::ExpectRule(seen.id, vec![rule_tag(seen)])));
            }
            edits.extend(changed.iter().cloned().map(ConfigEdit::ReplaceRule));
            match self.parts.stores.edits.apply(edits, &change).await {
                Ok(_) => {
                    self.parts.changed.notify_one();
                    return Ok(changed);
                }
                Err(crate::store::StoreError::Stale { .. } | crate::store::StoreError::NotFound { .. }) if left > 0 => {
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AdminError::Conflict("others change the same rules all the time; try again".into()))
    }
}

/// What the edits come to.
struct Plan {
    rules: HashMap<RuleId, Rule>,
    /// The tags of rules as they were before any edit.
    seen: HashMap<RuleId, String>,
    expects: Vec<ConfigEdit>,
    edits: Vec<ConfigEdit>,
    outcomes: Vec<RuleEdited>,
    faults: Vec<ItemFault>,
}

impl Plan {
    fn new(rules: Vec<Rule>) -> Self {
        Self {
            seen: rules.iter().map(|rule| (rule.id, rule_tag(rule))).collect(),
            rules: rules.into_iter().map(|rule| (rule.id, rule)).collect(),
            expects: Vec::new(),
            edits: Vec::new(),
            outcomes: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn take(&mut self, index: usize, edit: &RuleEdit) {
        match self.outcome(edit) {
            Ok(outcome) => self.outcomes.push(outcome),
            Err(error) if self.faults.len() < MAX_FAULTS => self.faults.push(ItemFault::new(index, &error)),
            Err(_) => {}
        }
    }

    fn outcome(&mut self, edit: &RuleEdit) -> Result<RuleEdited, AdminError> {
        match edit {
            RuleEdit::Create(draft) => {
                check_draft(draft)?;
                self.edits.push(ConfigEdit::AddRule(draft.clone()));
                Ok(RuleEdited::Created(None))
            }
            RuleEdit::Change(id, members) => {
                let old = self.rule(*id)?;
                let draft = super::rule_input::changed_draft(&old, members)?;
                check_draft(&draft)?;
                Ok(self.replace(old, draft))
            }
            RuleEdit::Activate(id, activity) => {
                let old = self.rule(*id)?;
                let draft = RuleDraft { is_active: *activity == Activity::On, ..old.draft.clone() };
                Ok(self.replace(old, draft))
            }
            RuleEdit::Delete(id, seen) => {
                let tag = rule_tag(&self.rule(*id)?);
                if seen.as_ref().is_some_and(|seen| *seen != tag) {
                    return Err(AdminError::Stale { what: "rule", key: id.to_string(), tag });
                }
                self.expect(*id);
                self.rules.remove(id);
                self.edits.push(ConfigEdit::RemoveRule(*id));
                Ok(RuleEdited::Deleted(*id))
            }
        }
    }

    fn rule(&self, id: RuleId) -> Result<Rule, AdminError> {
        self.rules.get(&id).cloned().ok_or_else(|| AdminError::NotFound { what: "rule", key: id.to_string() })
    }

    fn replace(&mut self, old: Rule, draft: RuleDraft) -> RuleEdited {
        if old.draft == draft {
            return RuleEdited::Unchanged(old);
        }
        let rule = Rule { id: old.id, draft };
        self.expect(rule.id);
        self.rules.insert(rule.id, rule.clone());
        self.edits.push(ConfigEdit::ReplaceRule(rule.clone()));
        RuleEdited::Changed(rule)
    }

    /// The rule must still be what this was worked out on.
    fn expect(&mut self, id: RuleId) {
        if let Some(tag) = self.seen.remove(&id) {
            self.expects.push(ConfigEdit::ExpectRule(id, vec![tag]));
        }
    }

    /// The edits, behind what must be so for them.
    fn finish(self) -> (Vec<ConfigEdit>, Vec<RuleEdited>) {
        let mut edits = self.expects;
        edits.extend(self.edits);
        (edits, self.outcomes)
    }
}

/// Every rule in the order that is asked for.
fn sequence(now: &[Rule], order: &Order) -> Result<Vec<RuleId>, AdminError> {
    let mut ids: Vec<RuleId> = now.iter().map(|rule| rule.id).collect();
    let must_be = |id: RuleId, field: &'static str| {
        let there = ids.contains(&id);
        there.then_some(()).ok_or_else(|| AdminError::invalid(field, format!("there is no rule {id}")))
    };
    match order {
        Order::Sequence(wanted) => {
            for (index, id) in wanted.iter().enumerate() {
                must_be(*id, "order")?;
                if wanted[..index].contains(id) {
                    return Err(AdminError::invalid("order", format!("rule {id} is there twice")));
                }
            }
            let mut next = wanted.iter().copied();
            for place in &mut ids {
                if wanted.contains(place) {
                    *place = next.next().unwrap_or(*place);
                }
            }
        }
        Order::Before(id, other) | Order::After(id, other) => {
            must_be(*id, "id")?;
            let before = matches!(order, Order::Before(..));
            must_be(*other, if before { "before" } else { "after" })?;
            if id != other {
                ids.retain(|one| one != id);
                let at = ids.iter().position(|one| one == other).unwrap_or(0);
                ids.insert(at + usize::from(!before), *id);
            }
        }
    }
    Ok(ids)
}

/// The rules whose priority must change so that they stand in the order of `wanted`, which names each of `now`.
fn priorities(now: &[Rule], wanted: &[RuleId]) -> Vec<Rule> {
    let by_id: HashMap<RuleId, &Rule> = now.iter().map(|rule| (rule.id, rule)).collect();
    let rules: Vec<&Rule> = wanted.iter().filter_map(|id| by_id.get(id).copied()).collect();
    let (mut given, mut fits) = (Vec::new(), false);
    for end in [RunEnd::Lowest, RunEnd::First] {
        let stays = longest_run(&rules, end);
        let kept = rules.iter().zip(&stays).map(|(rule, stays)| stays.then_some(i64::from(rule.draft.priority)));
        given = kept.collect();
        fits = fill(&rules, &mut given);
        if fits {
            break;
        }
    }
    let changed = rules.iter().zip(given).enumerate().filter_map(|(index, (rule, priority))| {
        let renumbered = STEP * (i64::try_from(index).unwrap_or(i64::MAX / STEP - 1) + 1);
        let priority = if fits { priority.unwrap_or(renumbered) } else { renumbered };
        let priority = i32::try_from(priority).unwrap_or(i32::MAX);
        (priority != rule.draft.priority)
            .then(|| Rule { id: rule.id, draft: RuleDraft { priority, ..rule.draft.clone() } })
    });
    changed.collect()
}

/// Which of several equally long runs is taken: one may leave room where another does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunEnd {
    Lowest,
    First,
}

/// Which rules keep their priority: as many as can, so that those ascend (the longest increasing subsequence).
fn longest_run(rules: &[&Rule], end: RunEnd) -> Vec<bool> {
    let key = |index: usize| (rules[index].draft.priority, rules[index].id);
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; rules.len()]);
    for (index, before) in before.iter_mut().enumerate() {
        let at = ends.partition_point(|end| key(*end) < key(index));
        *before = at.checked_sub(1).map(|at| ends[at]);
        if at == ends.len() {
            ends.push(index);
        } else if end == RunEnd::Lowest || at + 1 < ends.len() {
            ends[at] = index;
        }
    }
    let mut stays = vec![false; rules.len()];
    let mut last = ends.last().copied();
    while let Some(index) = last {
        stays[index] = true;
        last = before[index];
    }
    stays
}

/// Gives those without a priority one between their neighbours; false if there is no room somewhere.
fn fill(rules: &[&Rule], given: &mut [Option<i64>]) -> bool {
    let mut start = 0;
    while start < given.len() {
        if given[start].is_some() {
            start += 1;
            continue;
        }
        let end = (start..given.len()).find(|at| given[*at].is_some()).unwrap_or(given.len());
        let count = i64::try_from(end - start).unwrap_or(i64::MAX / STEP - 1);
        let low = start.checked_sub(1).and_then(|at| given[at]);
        let high = given.get(end).copied().flatten();
        let (low, high) = match (low, high) {
            (Some(low), Some(high)) => (low, high),
            (Some(low), None) => (low, low + STEP * (count + 1)),
            (None, Some(high)) => (high - STEP * (count + 1), high),
            (None, None) => (0, STEP * (count + 1)),
        };
        if high - low <= count && !equal_is_enough(rules, given, start, end) {
            return false;
        }
        if high - low > count {
            for (place, at) in (start..end).enumerate() {
                given[at] = Some(low + (i64::try_from(place).unwrap_or(0) + 1) * (high - low) / (count + 1));
            }
        }
        if given[start..end].iter().flatten().any(|priority| i32::try_from(*priority).is_err()) {
            return false;
        }
        start = end;
    }
    true
}

/// A single rule between two of neighbouring priorities may share one of them, where its number puts it on the right side.
fn equal_is_enough(rules: &[&Rule], given: &mut [Option<i64>], start: usize, end: usize) -> bool {
    if end - start != 1 {
        return false;
    }
    let own = rules[start].id;
    let low = start.checked_sub(1).and_then(|at| Some((given[at]?, rules[at].id)));
    let high = given.get(end).copied().flatten().zip(rules.get(end).map(|rule| rule.id));
    let fits =
        |priority: i64| low.is_none_or(|low| low < (priority, own)) && high.is_none_or(|high| (priority, own) < high);
    let candidates = [low.map(|(priority, _)| priority), high.map(|(priority, _)| priority)];
    given[start] = candidates.into_iter().flatten().find(|priority| fits(*priority));
    given[start].is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;
    use crate::model::{Handling, MatchType, Team};
    use serde_json::json;

    fn draft(priority: i32) -> RuleDraft {
        RuleDraft {
            match_string: Some("down".into()),
            trap_oid: None,
            syslog_severity: None,
            match_type: MatchType::Contains,
            priority,
            prod_handling: Handling::PageOnly,
            dev_handling: Handling::Other("Ignore".into()),
            team_assignment: Team::new("NETO").expect("a team"),
            is_active: true,
        }
    }

    /// Rules 1, 2, 3 ... of these priorities, in the order `wanted`; how many had to change.
    fn check_order(start: &[i32], wanted: &[i64], most_changed: usize) {
        let mut now: Vec<Rule> =
            start.iter().zip(1..).map(|(priority, id)| Rule { id: RuleId(id), draft: draft(*priority) }).collect();
        now.sort_by_key(|rule| (rule.draft.priority, rule.id));
        let ids: Vec<RuleId> = wanted.iter().copied().map(RuleId).collect();
        let changed = priorities(&now, &ids);
        assert!(changed.len() <= most_changed, "{start:?} {wanted:?}: {changed:?}");
        for rule in &changed {
            now.iter_mut().filter(|one| one.id == rule.id).for_each(|one| one.draft = rule.draft.clone());
        }
        now.sort_by_key(|rule| (rule.draft.priority, rule.id));
        assert_eq!(now.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), wanted, "{start:?}");
    }

    #[test]
    fn an_order_is_reached_with_few_changes_of_priority() {
        check_order(&[10, 20, 30, 40], &[1, 2, 3, 4], 0);
        check_order(&[10, 20, 30, 40], &[4, 1, 2, 3], 1);
        check_order(&[10, 20, 30, 40], &[2, 3, 1, 4], 1);
        check_order(&[10, 20, 30, 40], &[4, 3, 2, 1], 3);
        check_order(&[100, 100, 100, 100], &[2, 1, 3, 4], 4);
        check_order(&[100, 100, 100, 100], &[1, 2, 4, 3], 1);
        check_order(&[1, 2, 3], &[1, 3, 2], 1);
        check_order(&[i32::MIN, 5, i32::MAX], &[3, 1, 2], 3);
        check_order(&[i32::MIN, 5, i32::MAX], &[2, 3, 1], 3);
        check_order(&[1, 1, 2, 2], &[3, 1, 4, 2], 4);
        check_order(&[], &[], 0);
    }

    #[tokio::test]
    async fn many_edits_are_made_in_their_order_or_not_at_all() {
        let house = TestAdmin::new().await;
        let actor = Actor::new("alice", "c-1");
        let edits = |edits: Vec<RuleEdit>| {
            let (admin, actor) = (house.admin.clone(), actor.clone());
            async move { admin.edit_rules(&edits, false, &actor, Some("CHG-1")).await }
        };
        let made = edits(vec![RuleEdit::Create(draft(1)), RuleEdit::Create(draft(2))]).await.expect("made");
        assert_eq!(made, [RuleEdited::Created(Some(RuleId(1))), RuleEdited::Created(Some(RuleId(2)))]);
        let members = json!({"priority": 7}).as_object().expect("members").clone();
        let done = edits(vec![
            RuleEdit::Activate(RuleId(1), Activity::Off),
            RuleEdit::Change(RuleId(1), members.clone()),
            RuleEdit::Activate(RuleId(2), Activity::On),
        ])
        .await
        .expect("done");
        assert!(matches!(&done[2], RuleEdited::Unchanged(rule) if rule.id == RuleId(2)));
        let first = house.admin.rule(RuleId(1)).await.expect("there");
        assert_eq!((first.draft.is_active, first.draft.priority), (false, 7));
        let wrong = json!({"priority": "soon"}).as_object().expect("members").clone();
        let refused = edits(vec![
            RuleEdit::Delete(RuleId(1), None),
            RuleEdit::Change(RuleId(1), members),
            RuleEdit::Change(RuleId(2), wrong),
        ]);
        let Err(AdminError::Items(faults)) = refused.await else { panic!("it should be refused") };
        let told: Vec<_> = faults.iter().map(|fault| (fault.index, fault.field.as_deref())).collect();
        assert_eq!(told, [(1, None), (2, Some("priority"))]);
        assert_eq!(house.admin.rules().await.expect("rules").rules.len(), 2, "nothing was deleted");
        let order = Order::Before(RuleId(1), RuleId(2));
        let moved = house.admin.order_rules(&order, &actor, None).await.expect("ordered");
        assert_eq!(moved.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [1]);
        let twice = Order::Sequence(vec![RuleId(1), RuleId(1)]);
        assert!(house.admin.order_rules(&twice, &actor, None).await.is_err());
    }
}
