//! Which rule matches: the lowest priority of those whose conditions all hold, among equals the lowest id.
//!
//! Rules are kept in that order, so a rule's place in the list (its *rank*) says all about its precedence.
//! See `docs/adr/ADR-004-rule-matching.md` for measurements.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, StartKind};

use super::compile::{Compiled, Entry, RuleProblem};
use super::fold::fold_text;
use crate::model::{Event, Rule, Severity};

/// Bytes of literals up to which the automaton is a table (about 200 bytes of memory for each byte of literal, and
/// twice as fast); beyond, it is kept as a sparse one.
const TABLE_LITERAL_BYTES: usize = 48 << 10;

/// A rule to look at when its literal occurred or its OID was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Posting {
    rank: u32,
    /// The severity is all that remains to be compared.
    proof: bool,
}

/// Rules ready to judge events; made once, then only read.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// By precedence.
    pub(super) rules: Vec<Compiled>,
    /// All literals; `None` if there are none.
    automaton: Option<AhoCorasick>,
    /// For each literal the rules that wait for it, by rank.
    by_literal: Vec<Box<[Posting]>>,
    /// For each OID prefix the rules that wait for it, by rank.
    by_oid: HashMap<Box<[u32]>, Vec<Posting>>,
    /// Lengths that occur among the prefixes.
    oid_lengths: Vec<usize>,
    /// Ranks of rules without a usable literal.
    always: Vec<u32>,
}

impl RuleSet {
    /// Compiles the active rules. Those that cannot be compiled are told; the others serve.
    /// 10,000 rules take some tenths of a second: not for an async thread.
    pub fn compile(rules: &[Rule]) -> (Self, Vec<RuleProblem>) {
        let mut active: Vec<&Rule> = rules.iter().filter(|rule| rule.draft.is_active).collect();
        active.sort_by_key(|rule| (rule.draft.priority, rule.id));
        let mut problems = Vec::new();
        let mut builder = Builder::default();
        for rule in active {
            match Compiled::new(rule) {
                Ok((compiled, entry)) => builder.add(compiled, entry),
                Err(why) => problems.push(RuleProblem { rule: rule.id, why }),
            }
        }
        (builder.build(), problems)
    }

    /// How many rules serve.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether no rule serves.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Rules that are compared with every event because nothing in them tells beforehand that they cannot match, such
    /// as regular expressions without four telling characters in a row. Each costs as much as hundreds of others.
    pub fn costly(&self) -> impl Iterator<Item = &Rule> {
        self.always.iter().map(|rank| &self.at(*rank).rule)
    }

    /// The rule that decides about the event.
    pub fn judge(&self, event: &Event) -> Option<&Rule> {
        let text = fold_text(&event.message);
        let mut search = Search { rules: self, event, text: &text, best: u32::MAX, candidates: Vec::new() };
        search.by_literals();
        search.by_oid();
        search.confirm();
        self.rules.get(search.best as usize).map(|compiled| &compiled.rule)
    }

    fn at(&self, rank: u32) -> &Compiled {
        &self.rules[rank as usize]
    }
}

/// One event's way through the rules.
struct Search<'a> {
    rules: &'a RuleSet,
    event: &'a Event,
    /// The message, folded.
    text: &'a str,
    /// The lowest rank known to match.
    best: u32,
    /// Ranks that may match.
    candidates: Vec<u32>,
}

impl<'a> Search<'a> {
    fn by_literals(&mut self) {
        let rules = self.rules;
        let Some(automaton) = &rules.automaton else { return };
        for found in automaton.find_overlapping_iter(self.text) {
            self.look_at(&rules.by_literal[found.pattern().as_usize()]);
        }
    }

    fn by_oid(&mut self) {
        let rules = self.rules;
        let Some(trap) = &self.event.trap else { return };
        let arcs = trap.oid.arcs();
        for length in rules.oid_lengths.iter().filter(|length| **length <= arcs.len()) {
            if let Some(postings) = rules.by_oid.get(&arcs[..*length]) {
                self.look_at(postings);
            }
        }
    }

    fn look_at(&mut self, postings: &[Posting]) {
        for posting in postings {
            if posting.rank >= self.best {
                return;
            }
            if !posting.proof {
                self.candidates.push(posting.rank);
            } else if severity_holds(self.rules.at(posting.rank), self.event.severity) {
                self.best = posting.rank;
            }
        }
    }

    /// Compares the candidates, and the rules that are always candidates, by rank until one holds.
    fn confirm(&mut self) {
        self.candidates.sort_unstable();
        self.candidates.dedup();
        let mut found = self.candidates.iter().copied().peekable();
        let mut always = self.rules.always.iter().copied().peekable();
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
            if holds(self.rules.at(rank), self.event, self.text) {
                self.best = rank;
                return;
            }
        }
    }
}

/// Whether every condition of the rule holds; the cheap ones come first. `text` is the folded message.
pub(super) fn holds(compiled: &Compiled, event: &Event, text: &str) -> bool {
    severity_holds(compiled, event.severity)
        && compiled.oid.as_ref().is_none_or(|oid| event.trap.as_ref().is_some_and(|trap| oid.is_prefix_of(&trap.oid)))
        && compiled
            .needle
            .as_ref()
            .is_none_or(|needle| memchr::memmem::find(text.as_bytes(), needle.as_bytes()).is_some())
        && compiled.regex.as_ref().is_none_or(|regex| regex.is_match(&event.message))
}

fn severity_holds(compiled: &Compiled, severity: Option<Severity>) -> bool {
    compiled.rule.draft.syslog_severity.is_none_or(|wanted| severity == Some(wanted))
}

/// Collects what a [`RuleSet`] is made of.
#[derive(Default)]
struct Builder {
    rules: Vec<Compiled>,
    /// Ordered, so that the same rules give the same automaton.
    literals: BTreeMap<Vec<u8>, Vec<Posting>>,
    by_oid: HashMap<Box<[u32]>, Vec<Posting>>,
    always: Vec<u32>,
}

impl Builder {
    /// Adds the next rule by precedence.
    fn add(&mut self, compiled: Compiled, entry: Entry) {
        let Ok(rank) = u32::try_from(self.rules.len()) else { return };
        match entry {
            Entry::Literals(literals) => {
                for literal in literals {
                    self.literals.entry(literal).or_default().push(Posting { rank, proof: false });
                }
            }
            Entry::Proof(literal) => self.literals.entry(literal).or_default().push(Posting { rank, proof: true }),
            Entry::Oid(oid) => {
                let proof = compiled.needle.is_none() && compiled.regex.is_none();
                self.by_oid.entry(oid.arcs().into()).or_default().push(Posting { rank, proof });
            }
            Entry::Always => self.always.push(rank),
        }
        self.rules.push(compiled);
    }

    fn build(mut self) -> RuleSet {
        let (literals, mut by_literal): (Vec<Vec<u8>>, Vec<Box<[Posting]>>) =
            self.literals.into_iter().map(|(literal, postings)| (literal, postings.into_boxed_slice())).unzip();
        let automaton = build_automaton(&literals);
        if automaton.is_none() {
            // No literals, or more than an automaton can number: comparing each rule is slow and right.
            let ranks = by_literal.drain(..).flatten().map(|posting| posting.rank);
            self.always.extend(ranks);
            self.always.sort_unstable();
            self.always.dedup();
        }
        let mut oid_lengths: Vec<usize> = self.by_oid.keys().map(|prefix| prefix.len()).collect();
        oid_lengths.sort_unstable();
        oid_lengths.dedup();
        let (rules, by_oid, always) = (self.rules, self.by_oid, self.always);
        RuleSet { rules, automaton, by_literal, by_oid, oid_lengths, always }
    }
}

fn build_automaton(literals: &[Vec<u8>]) -> Option<AhoCorasick> {
    if literals.is_empty() {
        return None;
    }
    let bytes: usize = literals.iter().map(Vec::len).sum();
    let kind = if bytes <= TABLE_LITERAL_BYTES { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
    AhoCorasick::builder()
        .kind(Some(kind))
        .match_kind(MatchKind::Standard)
        .start_kind(StartKind::Unanchored)
        .build(literals)
        .ok()
}

#[cfg(test)]
mod tests;
