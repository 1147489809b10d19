//! Compiled rules: which rule does an event match, and what follows from it.
//!
//! [`RuleSet`] is made once from the rules of the store and then only read, shared by `Arc` or
//! [`crate::live::Live`]. [`Ruling`] adds the two lists of hosts, so one snapshot holds everything a decision depends
//! on. [`check_draft`] says whether a rule can be compiled, before it is saved.
//!
//! Nothing here does I/O, reads a clock or waits. A rule that cannot be compiled is reported as a [`RuleProblem`] and
//! left out; the others serve. There is no state that a crash could lose.
//!
//! How it is quick: a literal of every `contains` rule, and a set of literals for every regular expression of which one
//! must occur in whatever the expression matches, wait in one index that is searched in one pass over the message. What
//! is found is confirmed in order of priority, and what is worse than the best hit is never looked at. Literals are
//! chosen by a [`Sample`] of the site's traffic. See `docs/adr/ADR-008-rule-index.md`.

mod compile;
mod explain;
mod expression;
mod fold;
mod index;
mod judge;
mod literal;
mod rarity;
mod ruling;
mod window;

pub use compile::{RuleProblem, check_draft};
pub use explain::Explanation;
pub use judge::{Effort, RuleSet, Scratch};
pub use rarity::Sample;
pub use ruling::Ruling;
