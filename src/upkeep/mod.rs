//! Work by the clock, which no event starts: the service levels are counted and judged.
//!
//! Each job can be done again at any time without harm, takes no input from outside, and never holds up a stage.

pub mod retention;
pub mod slo;
