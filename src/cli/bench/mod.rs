//! `muttd bench`: measures this build on this machine, from the socket to the audit row.
//!
//! It starts the same binary as a child on free loopback ports and a folder of its own, gives it rules through its API,
//! sends with the code of `muttd send`, and reads the child's own counters, its CPU time and its memory from outside.
//! Sender and server share the machine, so a figure is a lower bound. Nothing of an existing installation is touched;
//! child and folder are removed at the end, also when it is interrupted.

mod args;
mod figures;
mod measure;
mod report;
mod run;
mod server;

pub use self::args::{BenchArgs, Input};
pub use self::report::{BenchReport, Measurement};
pub use self::run::run;
