//! Literals that must occur in whatever a regular expression matches, for the index that finds candidates.
//!
//! Pure functions over the parsed expression. A literal set is *required* if every match contains at least one of its
//! members; the best set is the one that is rarest in the site's traffic ([`super::rarity`]), because each of its occurrences
//! costs a run of the expression. All literals are folded, see [`super::fold`].

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

use super::fold::fold_char;
use super::rarity::{Rarity, score};

/// Literals in one set, at most: more of them are as good as none.
const MAX_LITERALS: usize = 64;
/// Characters of a class that are folded one by one; larger classes are taken as "any character".
const MAX_CLASS: usize = 40;
/// Places of an expression at which literals are looked for; an expression has at most 1,024 bytes.
const MAX_PLACES: usize = 128;
/// Bytes of a literal taken from an expression, at most.
const MAX_LITERAL_BYTES: usize = 48;
/// A literal with a lower score may occur in so many messages that looking for it saves little.
const MIN_SCORE: u32 = 12;
/// Looking for such a literal nevertheless costs next to nothing if it is as long as this.
const MIN_LITERAL_BYTES: usize = 4;
/// A further literal that is shorter is found in most messages.
const MIN_FURTHER_BYTES: usize = 3;

/// A set without which an expression cannot match.
#[derive(Debug)]
pub(super) struct Required {
    /// Folded.
    pub(super) literals: Vec<Vec<u8>>,
    /// Whether it is rare enough for the expression not to be tried all the time.
    pub(super) telling: bool,
    /// Another literal, folded, that must occur, too, before it is worth while to try the expression.
    pub(super) also: Option<Vec<u8>>,
}

/// The required set of a parsed (case-insensitive) expression; `None` if it has none that is worth looking for.
pub(super) fn required(hir: &Hir, rarity: &Rarity) -> Option<Required> {
    let hir = folded(hir);
    let set = Finder { rarity }.best(&hir)?;
    let telling = set.score >= MIN_SCORE;
    let long = set.literals.iter().all(|literal| literal.len() >= MIN_LITERAL_BYTES);
    (telling || long).then(|| Required { also: also(&hir, &set, rarity), literals: set.literals, telling })
}

/// The rarest of the literals that every match of a folded expression contains and that are not part of the set.
fn also(hir: &Hir, set: &Set, rarity: &Rarity) -> Option<Vec<u8>> {
    let mut fixed = Vec::new();
    collect_fixed(hir, &mut fixed);
    let known = |literal: &[u8]| set.literals.iter().any(|other| memchr::memmem::find(other, literal).is_some());
    fixed.retain(|literal| literal.len() >= MIN_FURTHER_BYTES && !known(literal));
    let rarest = fixed.into_iter().map(|literal| (rarity.of(literal), literal)).min_by(|a, b| a.0.total_cmp(&b.0));
    rarest.map(|(_, literal)| literal.to_vec())
}

fn collect_fixed<'a>(hir: &'a Hir, fixed: &mut Vec<&'a [u8]>) {
    match hir.kind() {
        HirKind::Literal(literal) => fixed.push(&literal.0),
        HirKind::Concat(parts) => parts.iter().for_each(|part| collect_fixed(part, fixed)),
        HirKind::Repetition(repetition) if repetition.min > 0 => collect_fixed(&repetition.sub, fixed),
        _ => {}
    }
}

/// A required set.
struct Set {
    literals: Vec<Vec<u8>>,
    /// How telling it is whatever the traffic, so that a rule is not called costly on one day and not on the next.
    score: u32,
    /// How often one of its members is to be expected in a message.
    expected: f64,
}

/// Looks for the best set.
struct Finder<'a> {
    rarity: &'a Rarity,
}

impl Finder<'_> {
    fn set(&self, literals: Vec<Vec<u8>>) -> Option<Set> {
        if literals.is_empty() || literals.len() > MAX_LITERALS {
            return None;
        }
        let worst = literals.iter().map(|literal| score(literal)).min()?;
        // Many alternatives occur more often together: each doubling takes as much as a common byte gives.
        let score = worst.saturating_sub(2 * literals.len().ilog2());
        let expected = literals.iter().map(|literal| self.rarity.of(literal)).sum();
        Some(Set { literals, score, expected })
    }

    /// The best required set of a folded expression.
    fn best(&self, hir: &Hir) -> Option<Set> {
        let whole = better(self.extracted(hir, ExtractKind::Prefix), self.extracted(hir, ExtractKind::Suffix));
        let inner = match hir.kind() {
            HirKind::Capture(capture) => self.best(&capture.sub),
            HirKind::Repetition(repetition) if repetition.min > 0 => self.best(&repetition.sub),
            HirKind::Concat(parts) => self.best_of_concat(parts),
            HirKind::Alternation(branches) => self.best_of_alternation(branches),
            _ => None,
        };
        better(whole, inner)
    }

    /// Every match goes through every part, so the best of any part will do, and so will literals that start at any
    /// part.
    fn best_of_concat(&self, parts: &[Hir]) -> Option<Set> {
        let mut found = None;
        for start in 0..parts.len().min(MAX_PLACES) {
            found = better(found, self.best(&parts[start]));
            if start > 0 {
                let rest = Hir::concat(parts[start..].to_vec());
                found = better(found, self.extracted(&rest, ExtractKind::Prefix));
            }
        }
        found
    }

    /// Every match goes through one branch, so each must give its set.
    fn best_of_alternation(&self, branches: &[Hir]) -> Option<Set> {
        let mut literals = Vec::new();
        for branch in branches {
            literals.extend(self.best(branch)?.literals);
            if literals.len() > MAX_LITERALS {
                return None;
            }
        }
        literals.sort();
        literals.dedup();
        self.set(literals)
    }

    fn extracted(&self, hir: &Hir, kind: ExtractKind) -> Option<Set> {
        let mut extractor = Extractor::new();
        extractor.kind(kind).limit_total(MAX_LITERALS).limit_literal_len(MAX_LITERAL_BYTES);
        let mut sequence = extractor.extract(hir);
        // A literal that begins with another one of the set is found wherever that one is.
        sequence.minimize_by_preference();
        let literals = sequence.literals()?.iter().map(|literal| literal.as_bytes().to_vec());
        self.set(literals.collect())
    }
}

/// The set that is expected less often, among those that are worth looking for; the first one if they are equal.
fn better(a: Option<Set>, b: Option<Set>) -> Option<Set> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let order = |set: &Set| (set.score < MIN_SCORE, set.expected);
            Some(if order(&b) < order(&a) { b } else { a })
        }
        (a, b) => a.or(b),
    }
}

/// The same expression over folded text: every string it matches, folded, is matched by the result.
fn folded(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => Hir::literal(text.chars().map(fold_char).collect::<String>().into_bytes()),
            Err(_) => any_character(),
        },
        HirKind::Class(class) => folded_class(class),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(folded(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Capture(capture) => folded(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(folded).collect()),
        HirKind::Alternation(branches) => Hir::alternation(branches.iter().map(folded).collect()),
    }
}

fn folded_class(class: &Class) -> Hir {
    let Some(characters) = few_characters(class) else { return any_character() };
    let ranges = characters.into_iter().map(fold_char).map(|c| ClassUnicodeRange::new(c, c));
    // A class of one character becomes a literal, and neighbouring literals become one.
    Hir::class(Class::Unicode(ClassUnicode::new(ranges)))
}

/// The members of a small class; `None` if there are too many to name.
fn few_characters(class: &Class) -> Option<Vec<char>> {
    let mut characters = Vec::new();
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class.ranges().iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) if class.is_ascii() => {
            class.ranges().iter().map(|range| (char::from(range.start()), char::from(range.end()))).collect()
        }
        Class::Bytes(_) => return None,
    };
    for (start, end) in ranges {
        characters.extend((start..=end).take(MAX_CLASS + 1));
        if characters.len() > MAX_CLASS {
            return None;
        }
    }
    Some(characters)
}

fn any_character() -> Hir {
    Hir::dot(regex_syntax::hir::Dot::AnyChar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Sample;

    fn check(pattern: &str, expected: Option<&[&str]>) {
        check_with(&[], pattern, expected);
    }

    fn check_with(messages: &[&str], pattern: &str, expected: Option<&[&str]>) {
        let mut sample = Sample::default();
        messages.iter().for_each(|message| sample.add(message));
        let hir = regex_syntax::ParserBuilder::new().case_insensitive(true).build().parse(pattern).expect(pattern);
        let found = required(&hir, &Rarity::new(&sample)).filter(|required| required.telling).map(|required| {
            let mut literals: Vec<String> =
                required.literals.into_iter().map(|literal| String::from_utf8(literal).expect("text")).collect();
            literals.sort();
            literals
        });
        let expected: Option<Vec<String>> = expected.map(|set| set.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn a_literal_is_found_wherever_it_stands() {
        check("BGP-NOTIFY", Some(&["bgp-notify"]));
        check(r"\d+ .*BGP-NOTIFY", Some(&["bgp-notify"]));
        check(r"^fan \d+ (stalled|overheated)", Some(&[" overheated", " stalled"]));
        check("(?:power supply )?quux lost", Some(&["quux lost"]));
        check(r"(?i)ΣΦΆΛΜΑ", Some(&["σφάλμα"]));
    }

    #[test]
    fn what_may_be_absent_or_matches_nearly_everything_is_no_literal() {
        for pattern in ["a*", "(?:overheated)?", r"\w+", "x|overheated", ".*", "", "^$", "e", "to"] {
            check(pattern, None);
        }
    }

    fn check_also(pattern: &str, expected: Option<&str>) {
        let hir = regex_syntax::ParserBuilder::new().case_insensitive(true).build().parse(pattern).expect(pattern);
        let also = required(&hir, &Rarity::new(&Sample::default())).and_then(|required| required.also);
        assert_eq!(also.as_deref(), expected.map(str::as_bytes), "{pattern}");
    }

    #[test]
    fn a_further_literal_is_one_that_no_match_can_do_without() {
        check_also(r"overheated \w+ FAN-9 \d+", Some(" fan-9 "));
        check_also(r"overheated (?:\d+ qux)+", Some(" qux"));
        check_also(r"overheated (?:\d+ qux)*", None);
        check_also(r"overheated \d+ (?:fan|psu)", None);
        check_also(r"overheated \d+ .", None);
    }

    #[test]
    fn of_several_literals_the_one_that_traffic_has_least_is_taken() {
        let pattern = r"quux-error \S+ overheated \d+ zork";
        check_with(&["QUUX-ERROR a", "quux-error b"], pattern, Some(&[" overheated "]));
        check_with(&["x overheated x"], pattern, Some(&["quux-error "]));
    }
}
