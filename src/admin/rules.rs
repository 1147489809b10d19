//! Rules: list, change, and say which of them an event meets and why.
//!
//! The compiled rules are kept until the store's version moves, so that looking at events does not compile ten thousand
//! rules each time. They are this layer's own copy: what the alerter uses is its own business.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Actor, Admin, AdminError};
use crate::model::{
    Environment, Event, EventId, Oid, Protocol, Rule, RuleDraft, RuleId, Severity, Source, Trap, host_key,
};
use crate::rules::{Explanation, RuleSet, Scratch, check_draft};
use crate::store::{ConfigEdit, HostQuery};

/// Most rules made by one request: a large site's whole rule set.
const MAX_NEW_RULES: usize = 10_000;

/// Every rule, and what is wrong with those that cannot be used.
#[derive(Debug, Clone, Default)]
pub struct RuleList {
    /// By priority, then number.
    pub rules: Vec<Rule>,
    /// Rows that cannot be read and rules that do not compile, in words.
    pub problems: Vec<String>,
}

/// A rule and what it says to an event.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The rule as it is now.
    pub rule: Rule,
    /// Whether it matches.
    pub matched: bool,
    /// Why, or why not.
    pub why: String,
}

/// A message as an operator types it in to see what would happen.
#[derive(Debug, Clone, Default)]
pub struct TestMessage {
    /// The text.
    pub message: String,
    /// The host that says it; decides the environment.
    pub hostname: String,
    /// Its severity.
    pub severity: Option<Severity>,
    /// For a trap: its OID.
    pub trap_oid: Option<Oid>,
}

/// What the rules make of a message.
#[derive(Debug, Clone)]
pub struct TestOutcome {
    /// The rule that wins.
    pub winner: Option<Rule>,
    /// Why that one, as a sentence.
    pub why: String,
    /// Active rules that were considered.
    pub considered: usize,
    /// How many of them match.
    pub matching: usize,
    /// Whether the host is a development host.
    pub environment: Environment,
    /// The team listed for the host, if one is.
    pub host_team: Option<String>,
    /// Every rule that matches, then those that come closest.
    pub explained: Vec<Explained>,
}

/// The rules, hosts and teams of one store version.
pub(super) struct Compiled {
    version: u64,
    rules: RuleSet,
    list: HashMap<RuleId, Rule>,
    problems: Vec<String>,
    dev_hosts: HashSet<String>,
    teams: HashMap<String, String>,
}

impl Admin {
    /// Every rule.
    pub async fn rules(&self) -> Result<RuleList, AdminError> {
        let compiled = self.compiled().await?;
        let mut rules: Vec<Rule> = compiled.list.values().cloned().collect();
        rules.sort_by_key(|rule| (rule.draft.priority, rule.id));
        Ok(RuleList { rules, problems: compiled.problems.clone() })
    }

    /// One rule.
    pub async fn rule(&self, id: RuleId) -> Result<Rule, AdminError> {
        Ok(self.parts.stores.rules.get(id).await?)
    }

    /// Adds a rule.
    pub async fn create_rule(&self, draft: RuleDraft, actor: &Actor, reason: Option<&str>) -> Result<Rule, AdminError> {
        let made = self.create_rules(vec![draft], actor, reason).await?;
        made.into_iter().next().ok_or_else(|| AdminError::Unavailable("the store made no rule".into()))
    }

    /// Adds rules, all or none.
    pub async fn create_rules(
        &self,
        drafts: Vec<RuleDraft>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Vec<Rule>, AdminError> {
        if drafts.is_empty() || drafts.len() > MAX_NEW_RULES {
            return Err(AdminError::invalid("rules", format!("give 1 to {MAX_NEW_RULES} rules")));
        }
        for draft in &drafts {
            check_draft(draft)?;
        }
        let made = self.parts.stores.rules.create(drafts, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(made)
    }

    /// Replaces a rule; with `expected` only if it has one of these tags.
    pub async fn update_rule(
        &self,
        rule: Rule,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Rule, AdminError> {
        check_draft(&rule.draft)?;
        let expects = ConfigEdit::ExpectRule(rule.id, expected.unwrap_or_default());
        let edits = vec![expects, ConfigEdit::ReplaceRule(rule.clone())];
        self.parts.stores.edits.apply(edits, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(rule)
    }

    /// Removes a rule; with `expected` only if it has one of these tags.
    pub async fn delete_rule(
        &self,
        id: RuleId,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        let expects = ConfigEdit::ExpectRule(id, expected.unwrap_or_default());
        let edits = vec![expects, ConfigEdit::RemoveRule(id)];
        self.parts.stores.edits.apply(edits, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(())
    }

    /// Grows with every change of rules, hosts or teams: what lists of them can be told apart by.
    pub async fn ruling_version(&self) -> Result<u64, AdminError> {
        Ok(self.parts.stores.rules.version().await?)
    }

    /// What would happen to a message; nothing is stored.
    pub async fn test_message(&self, test: TestMessage) -> Result<TestOutcome, AdminError> {
        if test.message.trim().is_empty() && test.trap_oid.is_none() {
            return Err(AdminError::invalid("message", "it is empty; paste a message, or give a trap's OID"));
        }
        self.judge_now(test_event(test)).await
    }

    /// What the rules as they are now make of an event that came in.
    pub async fn test_event(&self, id: EventId) -> Result<TestOutcome, AdminError> {
        let story = self.event(id).await?;
        self.judge_now(story.judged.event).await
    }

    /// What the rules as they are now make of an event. At most `MAX_EXPLAINED` rules are told.
    pub(super) async fn judge_now(&self, event: Event) -> Result<TestOutcome, AdminError> {
        let compiled = self.compiled().await?;
        let judged = tokio::task::spawn_blocking(move || compiled.judge(&event)).await;
        judged.map_err(|_| AdminError::Unavailable("the rules could not be tested".into()))
    }

    /// The compiled rules; compiled anew only when the store's version has moved.
    pub(super) async fn compiled(&self) -> Result<Arc<Compiled>, AdminError> {
        let stores = &self.parts.stores;
        let version = stores.rules.version().await?;
        if let Some(compiled) = self.compiled.lock().as_ref().filter(|compiled| compiled.version == version) {
            return Ok(Arc::clone(compiled));
        }
        let (rules, unreadable) = stores.rules.list().await?;
        let hosts = stores.inventory.dev_hosts(&HostQuery::default()).await?;
        let teams = stores.inventory.device_teams(&HostQuery::default()).await?;
        let compiling = tokio::task::spawn_blocking(move || {
            let (set, problems) = RuleSet::compile(&rules);
            let problems = problems.into_iter().map(|problem| format!("rule {}: {}", problem.rule, problem.why));
            Compiled {
                version,
                rules: set,
                problems: unreadable.into_iter().chain(problems).collect(),
                list: rules.into_iter().map(|rule| (rule.id, rule)).collect(),
                dev_hosts: hosts.into_iter().map(|host| host.hostname).collect(),
                teams: teams.into_iter().map(|row| (row.hostname, row.team_assignment.as_str().to_owned())).collect(),
            }
        });
        let compiled =
            compiling.await.map_err(|_| AdminError::Unavailable("the rules could not be compiled".into()))?;
        let compiled = Arc::new(compiled);
        *self.compiled.lock() = Some(Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// Most rules told about for one event: all that match come first.
const MAX_EXPLAINED: usize = 50;

impl Compiled {
    /// One rule as it is.
    pub(super) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.list.get(&id)
    }

    /// Every rule, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rule> {
        self.list.values()
    }

    /// The rule that decides about an event.
    pub(super) fn winner(&self, event: &Event, scratch: &mut Scratch) -> Option<&Rule> {
        self.rules.judge(event, scratch)
    }

    /// Whether the event's host is a development host.
    pub(super) fn environment(&self, event: &Event) -> Environment {
        let is_dev = !self.dev_hosts.is_empty() && self.dev_hosts.contains(&host_key(&event.hostname));
        if is_dev { Environment::Dev } else { Environment::Prod }
    }

    fn judge(&self, event: &Event) -> TestOutcome {
        let host = host_key(&event.hostname);
        let environment = self.environment(event);
        let mut explained: Vec<(usize, Explained)> = self
            .rules
            .explain(event)
            .into_iter()
            .filter_map(|told| self.explained(told))
            .map(|told| (nearness(&told.rule.draft, event), told))
            .collect();
        let considered = explained.len();
        let matching = explained.iter().filter(|(_, told)| told.matched).count();
        explained.sort_by_key(|(near, told)| {
            let draft = &told.rule.draft;
            (!told.matched, if told.matched { 0 } else { usize::MAX - near }, draft.priority, told.rule.id)
        });
        explained.truncate(MAX_EXPLAINED);
        let winner = self.rules.judge(event, &mut Scratch::default()).cloned();
        TestOutcome {
            why: why_won(winner.as_ref(), considered, matching),
            considered,
            matching,
            winner,
            environment,
            host_team: self.teams.get(&host).cloned(),
            explained: explained.into_iter().map(|(_, told)| told).collect(),
        }
    }

    fn explained(&self, told: Explanation) -> Option<Explained> {
        let rule = self.list.get(&told.rule)?.clone();
        Some(Explained { rule, matched: told.matched, why: told.why })
    }
}

/// Why the winner won, as a sentence.
fn why_won(winner: Option<&Rule>, considered: usize, matching: usize) -> String {
    match (winner, matching) {
        (None, _) => format!("none of the {considered} active rules matches"),
        (Some(rule), 0 | 1) => {
            format!("rule {} is the only one of the {considered} active rules that matches", rule.id)
        }
        (Some(rule), _) => format!(
            "{matching} of the {considered} active rules match; rule {} has the lowest priority number among them, {}, \
             and of equal ones the lower rule number wins",
            rule.id, rule.draft.priority
        ),
    }
}

/// How close a rule that does not match comes to an event: words they share, and arcs of the OID.
/// Only for the order in which people see them.
fn nearness(draft: &RuleDraft, event: &Event) -> usize {
    let message = event.message.to_lowercase();
    let words = draft.match_string.as_deref().unwrap_or_default().to_lowercase();
    let shared = words
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() >= 3 && message.contains(word))
        .count();
    let arcs = match (&draft.trap_oid, &event.trap) {
        (Some(prefix), Some(trap)) => {
            prefix.arcs().iter().zip(trap.oid.arcs()).take_while(|(left, right)| left == right).count()
        }
        _ => 0,
    };
    shared * 4 + arcs
}

fn test_event(test: TestMessage) -> Event {
    let source = Source { protocol: Protocol::Internal, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let mut event = Event::new(EventId::from_bytes([0; 16]), crate::model::Timestamp::default(), source);
    event.raw = test.message.into();
    event.message = event.raw.clone();
    event.hostname = test.hostname.into();
    event.severity = test.severity;
    event.trap = test.trap_oid.map(|oid| {
        let version = "2c".to_owned();
        Box::new(Trap { oid, varbinds: Vec::new(), agent: None, uptime: None, version, inform: false })
    });
    event
}

/// A text to match by, from a message: its mnemonic (`%LINK-3-UPDOWN`), else its longest stretch without numbers.
pub fn suggest_match(message: &str) -> String {
    let mnemonic = message
        .split_whitespace()
        .map(|word| word.trim_end_matches(':'))
        .find(|word| word.len() > 4 && word.starts_with('%') && word.matches('-').count() >= 2);
    if let Some(mnemonic) = mnemonic {
        return mnemonic.to_owned();
    }
    let mut best: &str = "";
    let (mut start, mut end) = (None, 0);
    for (at, word) in words(message) {
        if word.contains(|c: char| c.is_ascii_digit() || c.is_control()) {
            start = None;
            continue;
        }
        let from = *start.get_or_insert(at);
        end = end.max(at + word.len());
        if end - from > best.len() {
            best = &message[from..end];
        }
    }
    let best = if best.len() < 6 { message } else { best };
    best.trim().chars().take(120).collect()
}

/// Words with the byte offset they start at.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: &str) {
        assert_eq!(suggest_match(message), expected, "{message}");
    }

    #[test]
    fn a_match_text_leaves_out_what_changes_from_event_to_event() {
        check("%LINK-3-UPDOWN: Interface Gi0/1, changed state to down", "%LINK-3-UPDOWN");
        check("fan 3 failed in power supply bay 2", "failed in power supply bay");
        check("4711", "4711");
        check("", "");
    }

    #[test]
    fn a_rule_that_shares_words_with_the_event_is_nearer() {
        let event = test_event(TestMessage { message: "link to core down".into(), ..TestMessage::default() });
        let draft = |text: &str| {
            let input = super::super::RuleInput {
                match_string: text.into(),
                prod_handling: "Ignore".into(),
                team_assignment: "NETO".into(),
                ..Default::default()
            };
            input.check().expect("valid")
        };
        assert!(nearness(&draft("core link up"), &event) > nearness(&draft("fan failed"), &event));
    }
}
