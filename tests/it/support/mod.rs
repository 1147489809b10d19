//! What the integration tests share: the program as a child process, a recording receiver, real clients, an HTTP
//! client that can also say wrong things, and waiting without sleeping blindly.

mod disk;
mod faulty;
mod http;
mod metrics;
mod page;
mod pki;
mod receiver;
mod server;
mod tools;
mod wait;

pub use disk::SmallDisk;
pub use faulty::{Faulty, Mode};
pub use http::{Answer, Request, speak};
pub use metrics::Metrics;
pub use page::{Browser, Form, unescape};
pub use pki::Authority;
pub use receiver::{Receiver, Reply};
pub use server::{ADMIN_KEY, COMMUNITY, INGEST_KEY, Ports, Server, ServerBuilder, encode, free_address};
pub use tools::{Tool, hostname, signal};
pub use wait::{PATIENCE, Random, eventually, eventually_within, holds_for};
