//! `muttd bench`: measures this build on this machine, from the socket to the audit row.
//!
//! It starts the same binary as a child on free loopback ports and a folder of its own, gives it rules through its API,
//! sends with the code of `muttd send`, and reads the child's own counters, its CPU time and its memory from outside. When
//! the child has ended, its audit is compared with what was sent. Sender and server share the machine, so a figure is a
//! lower bound. Single stages are measured in this process. Nothing of an existing installation is touched; child and
//! folders are removed at the end, also when it is interrupted.

mod archive;
mod args;
mod backlog;
mod figures;
mod flood;
mod ledger;
mod lists;
mod measure;
mod report;
mod rows;
mod run;
mod server;
mod source;
mod stages;
mod table;

pub use self::args::{BenchArgs, Input, Stage};
pub use self::report::{BenchReport, Measurement};
pub use self::run::run;
