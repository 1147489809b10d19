//! `muttd send`: sends messages over real sockets at a steady rate and counts what came back.
//!
//! It is a client like any other: it knows nothing of the server's inside, so what it reports is what a device would
//! see. It keeps nothing on disk; a run that is interrupted reports what it did so far.

mod args;
mod exchange;
mod feed;
pub mod http;
mod many;
mod pool;
mod post;
mod run;
mod schedule;
pub mod snmp;
mod socket;
pub mod synthetic;
mod tally;
mod traffic;

pub use self::args::{Generate, SendArgs};
pub use self::feed::{Feed, Marker, Origin, Shape};
pub use self::post::{Encoding, PostOptions};
pub use self::run::{Plan, Transport, execute, run};
pub use self::socket::Framing;
pub use self::tally::{LatencySummary, Report, Tally, grouped};
pub use self::traffic::{DemoTargets, DemoTraffic, run_traffic};
