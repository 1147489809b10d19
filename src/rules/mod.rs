//! Compiled rules: which rule does an event match, and what follows from it.
//!
//! [`RuleSet`] is made once from the rules of the store and then only read, shared by `Arc` or
//! [`crate::live::Live`]. [`Ruling`] adds the two lists of hosts, so one snapshot holds everything a decision depends
//! on. [`check_draft`] says whether a rule can be compiled, before it is saved.
//!
//! Nothing here does I/O, reads a clock or waits. A rule that cannot be compiled is reported as a [`RuleProblem`] and
//! left out; the others serve. There is no state that a crash could lose.
//!
//! How it is quick: one Aho-Corasick automaton holds a literal of every `contains` rule and a set of literals for every
//! regular expression of which one must occur in whatever the expression matches. One pass over the message finds the
//! candidates; they are confirmed in order of priority, those worse than the best hit never. See
//! `docs/adr/ADR-004-rule-matching.md`.

mod compile;
mod explain;
mod fold;
mod judge;
mod literal;
mod ruling;

pub use compile::{RuleProblem, check_draft};
pub use explain::Explanation;
pub use judge::RuleSet;
pub use ruling::Ruling;
