//! From rules as people write them to rules that can be compared with events.
//!
//! Every rule is bounded when it is compiled, and so are all of them together, so that no rule can take the memory or
//! the time of the others. What goes over is left out and named; the others serve.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use memchr::memmem::Finder;

use super::expression::{Expression, Kept, parse};
use super::fold::fold_text;
use super::index::{Index, Posting};
use super::literal::{self, Required};
use super::rarity::{Rarity, Sample};
use crate::model::{Condition, InvalidRule, MatchType, Oid, Rule, RuleDraft, RuleId};

/// A rule that is left out because it cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleProblem {
    /// Which.
    pub rule: RuleId,
    /// Why, for people.
    pub why: String,
}

/// Checks a rule before it is saved: its members, and that its regular expression can be compiled within the limits.
/// The error tells the position of the fault.
pub fn check_draft(draft: &RuleDraft) -> Result<(), InvalidRule> {
    draft.validate()?;
    for condition in draft.conditions() {
        if let Condition::Regex(pattern) = condition {
            let hir = parse(&pattern).map_err(|why| InvalidRule::new("match_string", why))?;
            Expression::new(&hir, &Kept::default()).map_err(|why| InvalidRule::new("match_string", why))?;
        }
    }
    Ok(())
}

/// What all rules may take together; the rules that matter least are left out first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Active rules.
    pub(super) rules: usize,
    /// Bytes of texts to find.
    pub(super) text_bytes: usize,
    /// Bytes of compiled expressions.
    pub(super) regex_bytes: usize,
}

impl Limits {
    /// Five times the rules of the largest site known, within some 150 MB at the very worst.
    pub(super) const USUAL: Self = Self { rules: 50_000, text_bytes: 8 << 20, regex_bytes: 64 << 20 };
}

/// A rule ready for comparison; every part that is present must hold.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rule: Rule,
    pub(super) text: TextTest,
    /// Prefix of the trap's OID.
    pub(super) oid: Option<Oid>,
}

/// A text that is ready to be looked for.
type Needle = Box<Finder<'static>>;

fn needle(text: &[u8]) -> Needle {
    Box::new(Finder::new(text).into_owned())
}

/// What is asked of the message.
#[derive(Debug)]
pub(super) enum TextTest {
    /// Nothing.
    None,
    /// To contain the rule's text, which the index holds.
    Indexed,
    /// To contain this, folded.
    Contains(Needle),
    /// To match, for which this has to occur, folded, if there is something.
    Regex(Arc<Expression>, Option<Needle>),
}

/// How the candidates for a rule are found.
#[derive(Debug)]
enum Entry {
    /// By one of these literals in the folded message.
    Literals(Required),
    /// By this literal, and the occurrence is all the proof that is needed apart from the severity.
    Proof(Vec<u8>),
    /// By the trap's OID.
    Oid(Oid),
    /// It is compared with every event that no better rule has matched.
    Always,
}

/// What a rule set is made of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// By precedence.
    pub(super) rules: Vec<Compiled>,
    pub(super) index: Index,
    /// For each OID prefix the rules that wait for it, by rank.
    pub(super) by_oid: HashMap<Box<[u32]>, Vec<Posting>>,
    /// Ranks of rules without a usable literal.
    pub(super) always: Vec<u32>,
    /// Ranks of those, and of rules whose literals say little.
    pub(super) costly: Vec<u32>,
    /// Compiled expressions by pattern, for those who compile the next set.
    pub(super) expressions: HashMap<Box<str>, Arc<Expression>>,
    pub(super) kept: Kept,
}

/// Compiles the active rules, with literals chosen by `sample`; expressions that `previous` has are not compiled again.
pub(super) fn compile(rules: &[Rule], sample: &Sample, previous: &Parts, limits: Limits) -> (Parts, Vec<RuleProblem>) {
    let mut active: Vec<&Rule> = rules.iter().filter(|rule| rule.draft.is_active).collect();
    active.sort_by_key(|rule| (rule.draft.priority, rule.id));
    let rarity = Rarity::new(sample);
    let parts = Parts { kept: previous.kept.clone(), ..Parts::default() };
    let mut compiler =
        Compiler { parts, previous, rarity: &rarity, limits, waiting: BTreeMap::new(), text_bytes: 0, regex_bytes: 0 };
    let mut problems = Vec::new();
    for rule in active {
        if let Err(why) = compiler.add(rule) {
            problems.push(RuleProblem { rule: rule.id, why });
        }
    }
    let Compiler { mut parts, waiting, .. } = compiler;
    parts.index = Index::new(waiting, &rarity);
    (parts, problems)
}

struct Compiler<'a> {
    parts: Parts,
    previous: &'a Parts,
    rarity: &'a Rarity,
    limits: Limits,
    /// Ordered, so that the same rules give the same index.
    waiting: BTreeMap<Box<[u8]>, Vec<Posting>>,
    text_bytes: usize,
    regex_bytes: usize,
}

impl Compiler<'_> {
    /// Adds the next rule by precedence; the error is for people.
    fn add(&mut self, rule: &Rule) -> Result<(), String> {
        rule.draft.validate().map_err(|error| error.to_string())?;
        if self.parts.rules.len() >= self.limits.rules {
            return Err(format!(
                "there are more than {} active rules; remove or deactivate those that are not needed",
                self.limits.rules
            ));
        }
        let text_bytes = self.text_bytes + rule.draft.match_string.as_ref().map_or(0, String::len);
        if text_bytes > self.limits.text_bytes {
            return Err(format!(
                "the texts of all rules together take more than {} bytes; shorten or remove some",
                self.limits.text_bytes
            ));
        }
        let (compiled, entry) = self.compiled(rule)?;
        let rank = u32::try_from(self.parts.rules.len()).map_err(|_| "there are too many rules".to_owned())?;
        self.text_bytes = text_bytes;
        self.enter(rank, entry, &compiled);
        self.parts.rules.push(compiled);
        Ok(())
    }

    fn compiled(&mut self, rule: &Rule) -> Result<(Compiled, Entry), String> {
        let draft = &rule.draft;
        let (mut text, mut entry) = (TextTest::None, Entry::Always);
        match (&draft.match_string, draft.match_type) {
            (None, _) => {}
            (Some(pattern), MatchType::Regex) => {
                let hir = parse(pattern)?;
                let expression = self.expression(pattern, &hir)?;
                let mut required = literal::required(&hir, self.rarity);
                let also = required.as_mut().and_then(|required| required.also.take());
                text = TextTest::Regex(expression, also.map(|also| needle(&also)));
                if draft.trap_oid.is_none() {
                    entry = required.map_or(Entry::Always, Entry::Literals);
                }
            }
            (Some(wanted), _) if draft.trap_oid.is_some() => text = TextTest::Contains(needle(&fold_text(wanted))),
            (Some(wanted), _) => {
                text = TextTest::Indexed;
                entry = Entry::Proof(fold_text(wanted));
            }
        }
        if let Some(oid) = &draft.trap_oid {
            // Few events are traps, so the OID is the quickest way to tell that a rule does not match.
            entry = Entry::Oid(oid.clone());
        }
        Ok((Compiled { rule: rule.clone(), text, oid: draft.trap_oid.clone() }, entry))
    }

    fn expression(&mut self, pattern: &str, hir: &regex_syntax::hir::Hir) -> Result<Arc<Expression>, String> {
        if let Some(known) = self.parts.expressions.get(pattern) {
            return Ok(Arc::clone(known));
        }
        let expression = match self.previous.expressions.get(pattern) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Expression::new(hir, &self.parts.kept)?),
        };
        if self.regex_bytes + expression.bytes() > self.limits.regex_bytes {
            return Err(format!(
                "the regular expressions of all rules together would need more than {} bytes when compiled; simplify or \
                 remove some",
                self.limits.regex_bytes
            ));
        }
        self.regex_bytes += expression.bytes();
        self.parts.expressions.insert(pattern.into(), Arc::clone(&expression));
        Ok(expression)
    }

    fn enter(&mut self, rank: u32, entry: Entry, compiled: &Compiled) {
        let posting = |proof| Posting { rank, severity: compiled.rule.draft.syslog_severity, proof };
        match entry {
            Entry::Literals(Required { literals, telling, .. }) => {
                if !telling {
                    self.parts.costly.push(rank);
                }
                for literal in literals {
                    self.waiting.entry(literal.into()).or_default().push(posting(false));
                }
            }
            Entry::Proof(needle) => self.waiting.entry(needle.into()).or_default().push(posting(true)),
            Entry::Oid(oid) => {
                let proof = matches!(compiled.text, TextTest::None);
                self.parts.by_oid.entry(oid.arcs().into()).or_default().push(posting(proof));
            }
            Entry::Always => {
                self.parts.always.push(rank);
                self.parts.costly.push(rank);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Handling, Team};

    fn regex_draft(pattern: &str) -> RuleDraft {
        RuleDraft {
            match_string: Some(pattern.to_owned()),
            trap_oid: None,
            syslog_severity: None,
            match_type: MatchType::Regex,
            priority: 1,
            prod_handling: Handling::PageOnly,
            dev_handling: Handling::Other("Ignore".into()),
            team_assignment: Team::new("NETO").expect("a team"),
            is_active: true,
        }
    }

    fn check(pattern: &str, parts: &[&str]) {
        let error = check_draft(&regex_draft(pattern)).expect_err(pattern);
        assert_eq!(error.field, "match_string");
        for part in parts {
            assert!(error.why.contains(part), "{pattern}: {}", error.why);
        }
    }

    #[test]
    fn a_faulty_expression_is_refused_with_the_position_of_the_fault() {
        check("link (up|down", &["position 6", "(up|down"]);
        check("schön[z-a]", &["position 7"]);
        check("a{2,1}", &["position 2"]);
        check("ab\\", &["position 3"]);
        check(r"(?P<x>a)(?P<x>b)", &["position 13", "duplicate"]);
        check(r"x\p{Nonsense}", &["position 2"]);
        check(&"(".repeat(51), &["position"]);
    }

    #[test]
    fn an_expression_that_would_take_too_much_is_refused() {
        check(r"\w{1000}", &["more than 1048576 bytes"]);
        check(&format!("{}a{}", "(".repeat(60), ")".repeat(60)), &["nest"]);
        check(r"(?:(?:(?:a{100}){100}){100}){100}", &["bytes"]);
    }

    #[test]
    fn usual_expressions_are_taken() {
        for pattern in [r"%\w+-[0-3]-\w+:", "link (up|down)", r"\bBGP\b.*Idle", "^ÜBER", "a*"] {
            assert_eq!(check_draft(&regex_draft(pattern)), Ok(()), "{pattern}");
        }
    }

    fn check_limits(limits: Limits, expected: &[(i64, &str)]) {
        let texts = ["first text", "second text", r"third \d+ text", r"fourth \d+ text"];
        let rules: Vec<Rule> = (1..)
            .zip(texts)
            .map(|(id, text)| Rule { id: RuleId(id), draft: RuleDraft { priority: 9, ..regex_draft(text) } })
            .collect();
        let (parts, problems) = compile(&rules, &Sample::default(), &Parts::default(), limits);
        assert_eq!(parts.rules.len() + problems.len(), rules.len());
        for (problem, (rule, why)) in problems.iter().zip(expected) {
            assert_eq!(problem.rule.0, *rule);
            assert!(problem.why.contains(why), "{}", problem.why);
        }
        assert_eq!(problems.len(), expected.len());
    }

    #[test]
    fn what_goes_over_the_limits_of_all_rules_is_named() {
        check_limits(Limits::USUAL, &[]);
        check_limits(Limits { rules: 2, ..Limits::USUAL }, &[(3, "more than 2 active rules"), (4, "more than 2")]);
        check_limits(Limits { text_bytes: 40, ..Limits::USUAL }, &[(4, "more than 40 bytes")]);
        let all = [(1, "more than 1 bytes"), (2, "compiled"), (3, "compiled"), (4, "compiled")];
        check_limits(Limits { regex_bytes: 1, ..Limits::USUAL }, &all);
    }

    #[test]
    fn expressions_are_compiled_once_for_all_sets() {
        let rule = |id| Rule { id: RuleId(id), draft: regex_draft("link (up|down)") };
        let first = compile(&[rule(1), rule(2)], &Sample::default(), &Parts::default(), Limits::USUAL).0;
        let second = compile(&[rule(3)], &Sample::default(), &first, Limits::USUAL).0;
        assert_eq!(first.expressions.len(), 1);
        assert!(Arc::ptr_eq(&first.expressions["link (up|down)"], &second.expressions["link (up|down)"]));
    }
}
