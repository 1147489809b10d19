//! Literals that must occur in whatever a regular expression matches, for the automaton that finds candidates.
//!
//! Pure functions over the parsed expression. A literal set is *required* if every match contains at least one of its
//! members; the best set is the one that is rarest in the messages of devices, because each of its occurrences costs a
//! run of the expression. All literals are folded, see [`super::fold`].

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

use super::fold::fold_char;

/// Literals in one set, at most: more of them are as good as none.
const MAX_LITERALS: usize = 64;
/// Characters of a class that are folded one by one; larger classes are taken as "any character".
const MAX_CLASS: usize = 40;
/// Places of an expression at which literals are looked for; an expression has at most 1,024 bytes.
const MAX_PLACES: usize = 128;
/// Bytes of a literal that the automaton holds, at most; what is longer is confirmed.
pub(super) const MAX_LITERAL_BYTES: usize = 48;
/// A literal with a lower score occurs in so many messages that looking for it saves nothing.
const MIN_SCORE: u32 = 12;

/// Words that messages of network devices are full of (own list): literals that are part of one of them say little.
const COMMON_WORDS: &str = " interface changed state to down up link error failed failure warning critical connection from to for on \
 user login session port authentication accepted closed received packet neighbor process system line protocol \
 configured by console service started stopped timeout address invalid denied permit tcp udp src dst inside outside \
 ethernet gigabitethernet fastethernet tengigabitethernet vlan kernel daemon message server client request status \
 info notice debug the and has been with not is at in of root sshd session opened ";

/// The required set of a parsed (case-insensitive) expression, folded; `None` if it has none that is worth looking for.
pub(super) fn required(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    best(&folded(hir)).filter(|set| set.score >= MIN_SCORE).map(|set| set.literals)
}

/// How telling a literal is: about 4 for a rare byte, 1 for a common one, little if it is part of a common word.
pub(super) fn score(literal: &[u8]) -> u32 {
    let bytes: u32 = literal.iter().map(|byte| byte_score(*byte)).sum();
    let common = memchr::memmem::find(COMMON_WORDS.as_bytes(), literal).is_some();
    if common { bytes / 2 } else { bytes }
}

/// Rarity of a byte in syslog text, coarsely.
const fn byte_score(byte: u8) -> u32 {
    match byte {
        b' ' => 1,
        b'e' | b't' | b'a' | b'i' | b'n' | b'o' | b's' | b'r' | b'0' | b'1' | b'2' | b'.' | b':' => 2,
        b'd' | b'c' | b'l' | b'p' | b'u' | b'f' | b'm' | b'g' | b'h' | b'3'..=b'9' | b'-' | b'/' | b',' => 3,
        _ => 4,
    }
}

/// The most telling part of a literal that is too long for the automaton, cut between characters.
pub(super) fn shortened(literal: &str) -> &str {
    if literal.len() <= MAX_LITERAL_BYTES {
        return literal;
    }
    let windows = (0..=literal.len() - MAX_LITERAL_BYTES).step_by(8).map(|start| {
        let start = literal.ceil_char_boundary(start);
        let end = literal.floor_char_boundary((start + MAX_LITERAL_BYTES).min(literal.len()));
        &literal[start..end]
    });
    windows.max_by_key(|window| score(window.as_bytes())).unwrap_or(literal)
}

/// A required set and how telling its least telling member is.
struct Set {
    literals: Vec<Vec<u8>>,
    score: u32,
}

impl Set {
    fn new(literals: Vec<Vec<u8>>) -> Option<Self> {
        if literals.is_empty() || literals.len() > MAX_LITERALS {
            return None;
        }
        let worst = literals.iter().map(|literal| score(literal)).min()?;
        // Many alternatives occur more often together: each doubling takes as much as a common byte gives.
        let score = worst.saturating_sub(2 * literals.len().ilog2());
        Some(Self { literals, score })
    }
}

fn better(a: Option<Set>, b: Option<Set>) -> Option<Set> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.score > a.score { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The best required set of a folded expression.
fn best(hir: &Hir) -> Option<Set> {
    let whole = better(extracted(hir, ExtractKind::Prefix), extracted(hir, ExtractKind::Suffix));
    let inner = match hir.kind() {
        HirKind::Capture(capture) => best(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => best(&repetition.sub),
        HirKind::Concat(parts) => best_of_concat(parts),
        HirKind::Alternation(branches) => best_of_alternation(branches),
        _ => None,
    };
    better(whole, inner)
}

/// Every match goes through every part, so the best of any part will do, and so will literals that start at any part.
fn best_of_concat(parts: &[Hir]) -> Option<Set> {
    let mut found = None;
    for start in 0..parts.len().min(MAX_PLACES) {
        found = better(found, best(&parts[start]));
        if start > 0 {
            let rest = Hir::concat(parts[start..].to_vec());
            found = better(found, extracted(&rest, ExtractKind::Prefix));
        }
    }
    found
}

/// Every match goes through one branch, so each must give its set.
fn best_of_alternation(branches: &[Hir]) -> Option<Set> {
    let mut literals = Vec::new();
    for branch in branches {
        literals.extend(best(branch)?.literals);
        if literals.len() > MAX_LITERALS {
            return None;
        }
    }
    literals.sort();
    literals.dedup();
    Set::new(literals)
}

fn extracted(hir: &Hir, kind: ExtractKind) -> Option<Set> {
    let mut extractor = Extractor::new();
    extractor.kind(kind).limit_total(MAX_LITERALS).limit_literal_len(MAX_LITERAL_BYTES);
    let mut sequence = extractor.extract(hir);
    // A literal that begins with another one of the set is found wherever that one is.
    sequence.minimize_by_preference();
    let literals = sequence.literals()?.iter().map(|literal| literal.as_bytes().to_vec());
    Set::new(literals.collect())
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

    fn check(pattern: &str, expected: Option<&[&str]>) {
        let hir = regex_syntax::ParserBuilder::new().case_insensitive(true).build().parse(pattern).expect(pattern);
        let found = required(&hir).map(|literals| {
            let mut literals: Vec<String> =
                literals.into_iter().map(|literal| String::from_utf8(literal).expect("text")).collect();
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

    #[test]
    fn a_long_text_is_cut_between_characters_to_its_most_telling_part() {
        let long = format!("{}ÄÖÜ qzxjkw vbnq{}", "e ".repeat(40), "é".repeat(100));
        let part = shortened(&long);
        assert!(part.len() <= MAX_LITERAL_BYTES);
        assert!(part.contains('z') || part.contains('é'), "{part}");
        assert!(long.contains(part));
    }
}
