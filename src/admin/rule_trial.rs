//! Trying a rule on what came in: which of the events of the last days it would decide, and for how many that would
//! change what was done. Nothing is stored or sent.
//!
//! The recent store has every event and is read first, newest to oldest; the audit has what is older, as far as a rule
//! matched it. A trial ends at its time limit and says how far back it came. One runs at a time: it keeps a core busy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rules::Compiled;
use super::{Admin, AdminError};
use crate::model::{Environment, Event, EventId, Judged, Rule, RuleDraft, RuleId, Timestamp};
use crate::rules::{RuleSet, Scratch, check_draft};
use crate::store::EventQuery;

/// Longest time back.
pub const MAX_TRIAL_DAYS: usize = 400;

/// Longest time a trial may take, in seconds: within the time limit of a request.
pub const MAX_TRIAL_SECONDS: usize = 60;

/// Most sample events of an answer.
pub const MAX_TRIAL_SAMPLES: usize = 100;

/// Events asked of the audit at once.
const CHUNK: usize = 500;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// What is to be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialOf {
    /// The rule in force that it takes the place of, or is; `None` for a new one.
    pub id: Option<RuleId>,
    /// How it would be; `None` to try the rule `id` as it is, against the rules without it.
    pub draft: Option<RuleDraft>,
    /// How far back, in days.
    pub days: usize,
    /// How long it may take.
    pub limit: Duration,
    /// Sample events wanted.
    pub samples: usize,
}

/// What came of a trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// From when on events were to be looked at.
    pub from: Timestamp,
    /// From when on they were: everything received since has been looked at.
    pub reached: Timestamp,
    /// Whether that is as far as was asked.
    pub complete: bool,
    /// Events looked at.
    pub events: u64,
    /// Those for which the rule's conditions hold.
    pub matched: u64,
    /// Those that it would decide: no rule before it matches.
    pub decided: u64,
    /// Those for which rule, handling or team would be another one than by the rules in force.
    pub changed: u64,
    /// Those of `changed` that would go out as an alert and do not.
    pub newly_forwarded: u64,
    /// Those of `changed` that go out and would not.
    pub no_longer_forwarded: u64,
    /// The same by day (UTC, days since 1970), newest first; days without a match are left out.
    pub days: Vec<(i64, TrialDay)>,
    /// Some events that it matches, newest first.
    pub samples: Vec<TrialSample>,
    /// What could not be looked at.
    pub warnings: Vec<String>,
}

/// One day of a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialDay {
    /// Events for which the rule's conditions hold.
    pub matched: u64,
    /// Events that it would decide.
    pub decided: u64,
    /// Events whose outcome would change.
    pub changed: u64,
}

/// One event of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialSample {
    /// Its id.
    pub id: EventId,
    /// When it came in.
    pub received_at: Timestamp,
    /// The host.
    pub hostname: String,
    /// The text, shortened.
    pub message: String,
    /// By the rules in force: rule and handling.
    pub now: Option<(RuleId, String)>,
    /// With the rule that is tried.
    pub then: Option<(RuleId, String)>,
}

impl Admin {
    /// Tries a rule.
    pub async fn try_rule(&self, wanted: TrialOf) -> Result<Trial, AdminError> {
        if let Some(draft) = &wanted.draft {
            check_draft(draft)?;
        }
        let _turn = self.trials.acquire().await.map_err(|_| AdminError::Unavailable("the appliance stops".into()))?;
        let compiled = self.compiled().await?;
        let judges = {
            let (compiled, wanted) = (Arc::clone(&compiled), wanted.clone());
            tokio::task::spawn_blocking(move || Judges::new(&compiled, &wanted)).await
        };
        let judges = judges.map_err(|_| AdminError::Unavailable("the rules could not be compiled".into()))??;
        let now = self.parts.clock.now();
        let span = Duration::from_secs(wanted.days.clamp(1, MAX_TRIAL_DAYS) as u64 * 86_400);
        let from = now.minus(span);
        let deadline = Instant::now() + wanted.limit;
        let trial = Trial { from, reached: now, ..Trial::default() };
        let mut work = Work { judges, trial, days: BTreeMap::new(), samples: wanted.samples.min(MAX_TRIAL_SAMPLES) };
        let visit = |work: &mut Work, judged: &Judged| work.take(&judged.event);
        match self.parts.stores.recent.scan(from, deadline, work, visit).await {
            Ok((back, scanned)) => {
                work = back;
                work.trial.reached = scanned.reached.min(now).max(from);
                if !scanned.complete {
                    return Ok(work.finish());
                }
            }
            Err(error) => return Err(error.into()),
        }
        let oldest = work.trial.reached;
        self.try_on_audit(&mut work, from, oldest, deadline).await;
        Ok(work.finish())
    }

    /// What the audit has from before the recent store's time.
    async fn try_on_audit(&self, work: &mut Work, from: Timestamp, until: Timestamp, deadline: Instant) {
        let mut query = EventQuery { from: Some(from), to: Some(until), limit: CHUNK, ..EventQuery::default() };
        loop {
            let page = match self.parts.stores.audit.search(&query).await {
                Ok(page) => page,
                Err(error) => {
                    work.trial.warnings.push(format!("the audit could not be looked at: {error}"));
                    return;
                }
            };
            for judged in &page.items {
                work.take(&judged.event);
                work.trial.reached = work.trial.reached.min(judged.event.received_at);
            }
            let Some(next) = page.next else {
                work.trial.reached = from;
                work.trial.complete = true;
                return;
            };
            if Instant::now() >= deadline {
                return;
            }
            query.before = Some(next);
        }
    }
}

/// The rules as they are, and as they would be.
struct Judges {
    compiled: Arc<Compiled>,
    then: RuleSet,
    /// The rule that is tried alone, and the one it takes the place of: what neither matches is decided as before.
    alone: RuleSet,
    replaced: RuleSet,
    id: RuleId,
    scratch: Scratch,
}

impl Judges {
    fn new(compiled: &Arc<Compiled>, wanted: &TrialOf) -> Result<Self, AdminError> {
        let old = match wanted.id {
            None => None,
            Some(id) => {
                let found = compiled.rule(id).cloned();
                Some(found.ok_or_else(|| AdminError::NotFound { what: "rule", key: id.to_string() })?)
            }
        };
        // A new rule has the highest number, as the store would give it one.
        let next = compiled.all().map(|rule| rule.id.0).max().unwrap_or(0) + 1;
        let id = wanted.id.unwrap_or(RuleId(next));
        let others = compiled.all().filter(|rule| rule.id != id).cloned();
        let (tried, then): (Option<Rule>, Vec<Rule>) = match (&wanted.draft, &old) {
            (Some(draft), _) => {
                let tried = Rule { id, draft: draft.clone() };
                (Some(tried.clone()), others.chain([tried]).collect())
            }
            // As it is: compared with the rules without it, so that `changed` says what it is good for.
            (None, old) => (old.clone(), others.collect()),
        };
        let set = |rule: &Option<Rule>| RuleSet::compile(rule.as_slice()).0;
        let replaced = if wanted.draft.is_some() { set(&old) } else { RuleSet::default() };
        Ok(Self {
            compiled: Arc::clone(compiled),
            then: RuleSet::compile(&then).0,
            alone: set(&tried),
            replaced,
            id,
            scratch: Scratch::default(),
        })
    }
}

/// A trial under way.
struct Work {
    judges: Judges,
    trial: Trial,
    days: BTreeMap<i64, TrialDay>,
    samples: usize,
}

/// Characters of a sample's text.
const SAMPLE_TEXT: usize = 300;

impl Work {
    fn take(&mut self, event: &Event) {
        self.trial.events += 1;
        let judges = &mut self.judges;
        let matched = judges.alone.judge(event, &mut judges.scratch).is_some();
        if !matched && judges.replaced.judge(event, &mut judges.scratch).is_none() {
            return;
        }
        let environment = judges.compiled.environment(event);
        let now = judges.compiled.winner(event, &mut judges.scratch).cloned();
        let then = judges.then.judge(event, &mut judges.scratch).cloned();
        let is_tried = |rule: &Option<Rule>| rule.as_ref().is_some_and(|rule| rule.id == judges.id);
        let decided = is_tried(&then) || (is_tried(&now) && matched);
        let outcome = |rule: &Option<Rule>| {
            rule.as_ref()
                .map(|rule| (rule.id, rule.draft.handling(environment).clone(), rule.draft.team_assignment.clone()))
        };
        let changed = outcome(&now) != outcome(&then);
        let day = self.days.entry(event.received_at.as_millis().div_euclid(DAY)).or_default();
        day.matched += u64::from(matched);
        day.decided += u64::from(decided);
        day.changed += u64::from(changed);
        let goes_out =
            |rule: &Option<Rule>| rule.as_ref().is_some_and(|r| r.draft.handling(environment).is_forwarded());
        self.trial.newly_forwarded += u64::from(!goes_out(&now) && goes_out(&then));
        self.trial.no_longer_forwarded += u64::from(goes_out(&now) && !goes_out(&then));
        if (matched || changed) && self.trial.samples.len() < self.samples {
            self.trial.samples.push(sample(event, environment, now.as_ref(), then.as_ref()));
        }
    }

    fn finish(mut self) -> Trial {
        let sum = |of: fn(&TrialDay) -> u64| self.days.values().map(of).sum();
        self.trial.matched = sum(|day| day.matched);
        self.trial.decided = sum(|day| day.decided);
        self.trial.changed = sum(|day| day.changed);
        self.trial.days = self.days.into_iter().rev().collect();
        self.trial.samples.sort_by_key(|sample| std::cmp::Reverse(sample.id));
        self.trial
    }
}

fn sample(event: &Event, environment: Environment, now: Option<&Rule>, then: Option<&Rule>) -> TrialSample {
    let told = |rule: Option<&Rule>| rule.map(|rule| (rule.id, rule.draft.handling(environment).to_string()));
    TrialSample {
        id: event.id,
        received_at: event.received_at,
        hostname: event.hostname.to_string(),
        message: event.message.chars().take(SAMPLE_TEXT).collect(),
        now: told(now),
        then: told(then),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::{NOON, TestAdmin, judged};
    use crate::admin::{Actor, RuleInput};

    fn draft(text: &str, priority: &str, handling: &str) -> RuleDraft {
        let input = RuleInput {
            match_string: text.into(),
            priority: priority.into(),
            prod_handling: handling.into(),
            team_assignment: "NETO".into(),
            is_active: true,
            ..RuleInput::default()
        };
        input.check().expect("valid")
    }

    fn of(id: Option<i64>, draft: Option<RuleDraft>) -> TrialOf {
        TrialOf { id: id.map(RuleId), draft, days: 7, limit: Duration::from_secs(30), samples: 2 }
    }

    #[tokio::test]
    async fn a_rule_is_tried_on_what_came_in_and_compared_with_the_rules_in_force() {
        let house = TestAdmin::new().await;
        let actor = Actor::new("alice", "c-1");
        house.admin.create_rule(draft("link", "50", "Ignore"), &actor, None).await.expect("made");
        let texts = ["link down", "link up", "fan down", "fan ok", "other"];
        let events: Vec<Judged> = texts.iter().zip(1..).map(|(text, number)| judged(number, "core1", text)).collect();
        house.stores.recent.append(&Arc::new(events));
        // The audit has one from before the recent store's time.
        let mut old = crate::admin::testing::matched(9, "core1", "fan down long ago", 1);
        old.event.received_at = NOON.minus(Duration::from_secs(2 * 86_400));
        house.stores.audit.record(vec![old]).await.expect("recorded");

        let new = house.admin.try_rule(of(None, Some(draft("down", "10", "Page_only")))).await.expect("tried");
        assert!(new.complete && new.warnings.is_empty(), "{new:?}");
        assert_eq!((new.events, new.matched, new.decided, new.changed), (6, 3, 3, 3));
        assert_eq!((new.newly_forwarded, new.no_longer_forwarded), (3, 0));
        assert_eq!(new.days.iter().map(|(_, day)| day.matched).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(new.samples.len(), 2);
        let first = &new.samples.iter().find(|sample| sample.message == "link down").expect("a sample");
        assert_eq!(first.now, Some((RuleId(1), "Ignore".into())));
        assert_eq!(first.then, Some((RuleId(2), "Page_only".into())));

        let behind = house.admin.try_rule(of(None, Some(draft("link", "60", "Page_only")))).await.expect("tried");
        assert_eq!((behind.matched, behind.decided, behind.changed), (2, 0, 0), "the rule in force wins");
        let as_it_is = house.admin.try_rule(of(Some(1), None)).await.expect("tried");
        assert_eq!((as_it_is.matched, as_it_is.decided, as_it_is.changed), (2, 2, 2));
        let narrower = house.admin.try_rule(of(Some(1), Some(draft("link up", "50", "Ignore")))).await.expect("tried");
        assert_eq!((narrower.matched, narrower.changed), (1, 1), "what it matched and would not is a change");
        assert!(house.admin.try_rule(of(Some(9), None)).await.is_err());
        let short = TrialOf { days: 1, ..of(None, Some(draft("down", "10", "Page_only"))) };
        assert_eq!(house.admin.try_rule(short).await.expect("tried").matched, 2);
    }
}
