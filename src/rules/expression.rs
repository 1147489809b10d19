//! A regular expression with bounds on what it may take: memory when compiled, memory while it runs, nested groups.
//!
//! Literals have been looked for before an expression runs (see [`super::literal`]), so the engine is set up for little
//! memory: it has no search for prefixes of its own, no one-pass automaton and no table made in advance. An expression
//! such as `volume \S+ is 9\d% full` takes 10 KiB instead of 80, and 20 KiB more of states once it has run. Those are
//! kept for the next message as long as all expressions together stay within [`KEPT_BYTES`], whatever messages come.
//!
//! Matching is linear in the message for every expression; there is no backtracking. A panic while it runs costs
//! nothing but the states, which are built anew.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use regex_automata::Input;
use regex_automata::meta::{self, BuildError, Cache};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

/// Bytes that one compiled expression may take. `\w{1000}` with Unicode needs more and is refused.
const REGEX_BYTES: usize = 1 << 20;
/// Bytes of states that one expression may build while it runs; beyond, it forgets and builds them anew.
const REGEX_CACHE_BYTES: usize = 1 << 20;
/// Groups within groups; the parser recurses.
const REGEX_NESTING: u32 = 50;
/// Bytes of states that all expressions together may keep between messages.
const KEPT_BYTES: usize = 16 << 20;

/// What the states kept by all expressions of one family take, in bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<AtomicUsize>);

impl Kept {
    /// Takes the change of one expression into account; whether all is within the bound.
    fn change(&self, before: usize, now: usize) -> bool {
        let all = self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed).wrapping_add(now.wrapping_sub(before));
        all <= KEPT_BYTES
    }
}

/// A compiled expression and the states it has built so far.
#[derive(Debug)]
pub(super) struct Expression {
    regex: meta::Regex,
    /// One set of states: a single thread judges at a time. Whoever finds it in use makes a set for the moment.
    states: Mutex<States>,
    kept: Kept,
}

#[derive(Debug, Default)]
struct States {
    cache: Option<Box<Cache>>,
    /// What it took when it was last counted.
    bytes: usize,
}

/// Parses an expression within the limits; the error tells the position of the fault in characters from 1.
pub(super) fn parse(pattern: &str) -> Result<Hir, String> {
    let mut parser = ParserBuilder::new().case_insensitive(true).nest_limit(REGEX_NESTING).build();
    parser.parse(pattern).map_err(|error| parse_fault(pattern, &error))
}

impl Expression {
    /// Compiles a parsed expression.
    pub(super) fn new(hir: &Hir, kept: &Kept) -> Result<Self, String> {
        let config = meta::Config::new()
            .nfa_size_limit(Some(REGEX_BYTES))
            .hybrid_cache_capacity(REGEX_CACHE_BYTES)
            .auto_prefilter(false)
            .onepass(false)
            .backtrack(false)
            .dfa(false);
        let regex =
            meta::Regex::builder().configure(config).build_from_hir(hir).map_err(|error| build_fault(&error))?;
        Ok(Self { regex, states: Mutex::default(), kept: kept.clone() })
    }

    /// Bytes it takes before it has run.
    pub(super) fn bytes(&self) -> usize {
        self.regex.memory_usage()
    }

    /// Whether it matches anywhere in the text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let input = Input::new(text).earliest(true);
        let mut states = match self.states.try_lock() {
            Ok(states) => states,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return self.regex.search_half_with(&mut self.regex.create_cache(), &input).is_some();
            }
        };
        // Taken out, so that a panic leaves no half-made states behind.
        let mut cache = states.cache.take().unwrap_or_else(|| Box::new(self.regex.create_cache()));
        let found = self.regex.search_half_with(&mut cache, &input).is_some();
        let bytes = cache.memory_usage();
        if self.kept.change(states.bytes, bytes) {
            *states = States { cache: Some(cache), bytes };
        } else {
            self.kept.change(bytes, 0);
            states.bytes = 0;
        }
        found
    }
}

impl Drop for Expression {
    fn drop(&mut self) {
        let states = self.states.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.kept.change(states.bytes, 0);
    }
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

fn build_fault(error: &BuildError) -> String {
    match error.size_limit() {
        Some(limit) => format!(
            "the regular expression would need more than {limit} bytes when compiled; use smaller repetitions, such as \
             `[0-9]{{1,5}}` for `\\d{{1,500}}`"
        ),
        None => format!("not a regular expression: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(pattern: &str, kept: &Kept) -> Expression {
        Expression::new(&parse(pattern).expect(pattern), kept).expect(pattern)
    }

    #[test]
    fn states_are_kept_within_the_bound_and_given_back() {
        let kept = Kept::default();
        let count = || kept.0.load(Ordering::Relaxed);
        let first = expression(r"volume \S+ is 9\d% full", &kept);
        assert!(first.is_match("Volume nas1 is 97% full"));
        assert!(count() > 0);
        // Others have taken all there is: nothing is kept, and the answer is the same.
        kept.change(0, KEPT_BYTES);
        assert!(first.is_match("Volume nas1 is 97% full"));
        assert_eq!(count(), KEPT_BYTES);
        kept.change(KEPT_BYTES, 0);
        assert!(!first.is_match("Volume nas1 is 87% full"));
        assert!(count() > 0);
        drop(first);
        assert_eq!(count(), 0);
    }

    #[test]
    fn an_expression_in_use_elsewhere_still_answers() {
        let expression = expression("fan [0-9]+", &Kept::default());
        let elsewhere = expression.states.lock().expect("a lock");
        assert!(expression.is_match("FAN 3"));
        assert!(!expression.is_match("fan"));
        drop(elsewhere);
    }
}
