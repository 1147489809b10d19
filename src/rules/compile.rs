//! From rules as people write them to rules that can be compared with events.
//!
//! Every regular expression is bounded when it is compiled, so that no rule can take the memory or the time of the
//! others; matching is linear in the message for every expression (no backtracking).

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

use super::fold::fold_text;
use super::literal;
use crate::model::{Condition, InvalidRule, Oid, Rule, RuleDraft, RuleId};

/// Bytes that one compiled expression may take. `\w{1000}` with Unicode needs more and is refused.
const REGEX_BYTES: usize = 1 << 20;
/// Bytes of states that one expression may keep while it runs; beyond, it forgets and builds them anew.
const REGEX_CACHE_BYTES: usize = 2 << 20;
/// Groups within groups; the parser recurses.
const REGEX_NESTING: u32 = 50;

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
            compile_regex(&pattern).map_err(|why| InvalidRule::new("match_string", why))?;
        }
    }
    Ok(())
}

/// A rule ready for comparison; every part that is present must hold.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rule: Rule,
    /// Folded text that must occur in the folded message.
    pub(super) needle: Option<String>,
    /// Expression that must match the message.
    pub(super) regex: Option<Regex>,
    /// Prefix of the trap's OID.
    pub(super) oid: Option<Oid>,
}

/// How the candidates for a rule are found.
#[derive(Debug)]
pub(super) enum Entry {
    /// By one of these literals in the folded message.
    Literals(Vec<Vec<u8>>),
    /// As `Literals`, and the occurrence is all the proof that is needed apart from the severity.
    Proof(Vec<u8>),
    /// By the trap's OID.
    Oid(Oid),
    /// It is compared with every event that no better rule has matched.
    Always,
}

impl Compiled {
    /// Compiles one rule; the error is for people.
    pub(super) fn new(rule: &Rule) -> Result<(Self, Entry), String> {
        rule.draft.validate().map_err(|error| error.to_string())?;
        let mut compiled = Self { rule: rule.clone(), needle: None, regex: None, oid: None };
        let mut entry = Entry::Always;
        for condition in rule.draft.conditions() {
            match condition {
                Condition::Contains(text) => {
                    let needle = fold_text(&text);
                    entry = text_entry(&needle);
                    compiled.needle = Some(needle);
                }
                Condition::Regex(pattern) => {
                    let (regex, hir) = compile_regex(&pattern)?;
                    entry = literal::required(&hir).map_or(Entry::Always, Entry::Literals);
                    compiled.regex = Some(regex);
                }
                // Few events are traps, so the OID is the quickest way to tell that a rule does not match.
                Condition::OidPrefix(oid) => {
                    entry = Entry::Oid(oid.clone());
                    compiled.oid = Some(oid);
                }
            }
        }
        Ok((compiled, entry))
    }
}

fn text_entry(needle: &str) -> Entry {
    let literal = literal::shortened(needle);
    let bytes = literal.as_bytes().to_vec();
    if literal.len() == needle.len() { Entry::Proof(bytes) } else { Entry::Literals(vec![bytes]) }
}

/// Compiles an expression within the limits; the error tells the position of the fault in characters from 1.
fn compile_regex(pattern: &str) -> Result<(Regex, Hir), String> {
    let hir = ParserBuilder::new()
        .case_insensitive(true)
        .nest_limit(REGEX_NESTING)
        .build()
        .parse(pattern)
        .map_err(|error| parse_fault(pattern, &error))?;
    let regex = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .nest_limit(REGEX_NESTING)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_CACHE_BYTES)
        .build()
        .map_err(|error| build_fault(&error))?;
    Ok((regex, hir))
}

fn parse_fault(pattern: &str, error: &regex_syntax::Error) -> String {
    let (what, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), *error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), *error.span()),
        other => return format!("not a regular expression: {other}"),
    };
    let before = pattern.get(..span.start.offset).unwrap_or(pattern);
    let position = before.chars().count() + 1;
    let rest: String = pattern.get(span.start.offset..).unwrap_or("").chars().take(20).collect();
    if rest.is_empty() {
        return format!("not a regular expression, at its end (position {position}): {what}");
    }
    format!("not a regular expression, at position {position} (`{rest}`): {what}")
}

fn build_fault(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!(
            "the regular expression would need more than {limit} bytes when compiled; use smaller repetitions, such as \
             `[0-9]{{1,5}}` for `\\d{{1,500}}`"
        ),
        other => format!("not a regular expression: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Handling, MatchType, Team};

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
}
