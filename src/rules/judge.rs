//! Which rule matches: the lowest priority of those whose conditions all hold, among equals the lowest id.
//!
//! Rules are kept in that order, so a rule's place in the list (its *rank*) says all about its precedence.
//! See `docs/adr/ADR-008-rule-index.md` for measurements.

use super::compile::{Compiled, Limits, Parts, RuleProblem, TextTest, compile};
use super::fold::{fold_into, fold_text};
use super::index::{self, Posting};
use super::rarity::Sample;
use crate::model::{Event, Rule, Severity};

/// What running one rule's own conditions costs, counted in comparisons of a literal (some 10 ns).
const CONFIRMING: u64 = 16;

/// Rules ready to judge events; made once, then only read.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(super) parts: Parts,
    /// Lengths that occur among the OID prefixes.
    oid_lengths: Vec<usize>,
}

/// What judging needs besides the rules; used again for the next event, so that judging allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The message, folded and padded.
    text: Vec<u8>,
    /// Ranks that may match.
    candidates: Vec<u32>,
    /// For each literal the round in which it was last found: a message may hold one many times over.
    found: Vec<u32>,
    round: u32,
    effort: Effort,
}

/// How much work looking for literals was: what the choice of literals can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Events judged.
    pub events: u64,
    /// Comparisons of a literal, and 16 for each rule whose own conditions had to be tried because of one.
    pub steps: u64,
}

impl Scratch {
    /// The work done so far.
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    fn begin(&mut self, message: &str, literals: usize) {
        self.text.clear();
        fold_into(message, &mut self.text);
        index::pad(&mut self.text);
        self.candidates.clear();
        if self.found.len() < literals {
            self.found.resize(literals, self.round);
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.found.fill(0);
            self.round = 1;
        }
        self.effort.events += 1;
    }
}

impl RuleSet {
    /// Compiles the active rules without knowing the traffic. Those that cannot be compiled are told; the others serve.
    /// 10,000 rules take some tenths of a second: not for an async thread.
    pub fn compile(rules: &[Rule]) -> (Self, Vec<RuleProblem>) {
        Self::default().recompile(rules, &Sample::default())
    }

    /// Compiles rules for traffic such as the sample. What rules have in common with this set is not done again.
    pub fn recompile(&self, rules: &[Rule], sample: &Sample) -> (Self, Vec<RuleProblem>) {
        let (parts, problems) = compile(rules, sample, &self.parts, Limits::USUAL);
        let mut oid_lengths: Vec<usize> = parts.by_oid.keys().map(|prefix| prefix.len()).collect();
        oid_lengths.sort_unstable();
        oid_lengths.dedup();
        (Self { parts, oid_lengths }, problems)
    }

    /// How many rules serve.
    pub fn len(&self) -> usize {
        self.parts.rules.len()
    }

    /// Whether no rule serves.
    pub fn is_empty(&self) -> bool {
        self.parts.rules.is_empty()
    }

    /// Rules that are compared with every event, or with a great part of them, because little in them tells beforehand
    /// that they cannot match, such as regular expressions without four telling characters in a row. Each may cost as
    /// much as hundreds of others.
    pub fn costly(&self) -> impl Iterator<Item = &Rule> {
        self.parts.costly.iter().map(|rank| &self.at(*rank).rule)
    }

    /// The rule that decides about the event.
    pub fn judge(&self, event: &Event, scratch: &mut Scratch) -> Option<&Rule> {
        scratch.begin(&event.message, self.parts.index.len());
        let mut search = Search { set: self, event, scratch, best: u32::MAX };
        search.by_oid();
        search.by_literals();
        search.confirm();
        let best = search.best;
        self.parts.rules.get(best as usize).map(|compiled| &compiled.rule)
    }

    fn at(&self, rank: u32) -> &Compiled {
        &self.parts.rules[rank as usize]
    }
}

/// One event's way through the rules.
struct Search<'a> {
    set: &'a RuleSet,
    event: &'a Event,
    scratch: &'a mut Scratch,
    /// The lowest rank known to match.
    best: u32,
}

impl Search<'_> {
    fn by_oid(&mut self) {
        let Some(trap) = &self.event.trap else { return };
        let arcs = trap.oid.arcs();
        for length in self.set.oid_lengths.iter().filter(|length| **length <= arcs.len()) {
            if let Some(postings) = self.set.parts.by_oid.get(&arcs[..*length]) {
                look_at(postings, self.event.severity, &mut self.best, &mut self.scratch.candidates);
            }
        }
    }

    fn by_literals(&mut self) {
        let severity = self.event.severity;
        let Scratch { text: padded, candidates, found, round, effort } = &mut *self.scratch;
        let from_oid = candidates.len();
        let compared = self.set.parts.index.search(padded, &mut self.best, |literal, postings, best| {
            let found = &mut found[literal as usize];
            if *found != *round {
                *found = *round;
                look_at(postings, severity, best, candidates);
            }
        });
        effort.steps += compared + CONFIRMING * (candidates.len() - from_oid) as u64;
    }

    /// Compares the candidates, and the rules that are always candidates, by rank until one holds.
    fn confirm(&mut self) {
        let Scratch { text, candidates, .. } = &mut *self.scratch;
        candidates.sort_unstable();
        candidates.dedup();
        let text = index::unpadded(text);
        let mut found = candidates.iter().copied().peekable();
        let mut always = self.set.parts.always.iter().copied().peekable();
        loop {
            let next = match (found.peek(), always.peek()) {
                (Some(a), Some(b)) if a < b => found.next(),
                (_, Some(_)) => always.next(),
                _ => found.next(),
            };
            let Some(rank) = next else { return };
            if rank >= self.best {
                return;
            }
            if holds(self.set.at(rank), self.event, text) {
                self.best = rank;
                return;
            }
        }
    }
}

/// Sorts rules that wait for what was found into proven and possible ones.
fn look_at(postings: &[Posting], severity: Option<Severity>, best: &mut u32, candidates: &mut Vec<u32>) {
    for posting in postings {
        if posting.rank >= *best {
            return;
        }
        if posting.severity.is_some() && posting.severity != severity {
            continue;
        }
        if posting.proof {
            *best = posting.rank;
            return;
        }
        candidates.push(posting.rank);
    }
}

/// Whether every condition of the rule holds; the cheap ones come first. `text` is the folded message.
fn holds(compiled: &Compiled, event: &Event, text: &[u8]) -> bool {
    compiled.rule.draft.syslog_severity.is_none_or(|wanted| event.severity == Some(wanted))
        && compiled.oid.as_ref().is_none_or(|oid| event.trap.as_ref().is_some_and(|trap| oid.is_prefix_of(&trap.oid)))
        && text_holds(compiled, event, text)
}

/// Whether what is asked of the message holds.
pub(super) fn text_holds(compiled: &Compiled, event: &Event, text: &[u8]) -> bool {
    match &compiled.text {
        TextTest::None => true,
        // Judging proves it by the index; this is for explaining only.
        TextTest::Indexed => {
            let wanted = compiled.rule.draft.match_string.as_deref().map(fold_text);
            wanted.is_none_or(|wanted| memchr::memmem::find(text, &wanted).is_some())
        }
        TextTest::Contains(needle) => needle.find(text).is_some(),
        TextTest::Regex(expression, also) => {
            also.as_ref().is_none_or(|also| also.find(text).is_some()) && expression.is_match(&event.message)
        }
    }
}

#[cfg(test)]
mod tests;
