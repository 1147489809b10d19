//! Syslog in every dialect, by datagram and by stream.
//!
//! [`parse`] turns the bytes of one message into an event; [`start_udp`], [`start_tcp`] and [`start_tls`] bring the bytes. Framing and
//! the way of one connection are separate from the socket, so that any stream can carry syslog. A crash loses what was
//! received and not yet committed: over UDP nobody is told, over TCP and TLS the sender's own system has it as sent.

mod cisco;
mod cursor;
mod datagrams;
pub mod frame;
#[cfg(test)]
mod listener_tests;
mod names;
mod parse;
#[cfg(test)]
mod parse_tests;
mod rfc3164;
mod rfc5424;
mod stamp;
mod stream;
mod tcp;
mod udp;

pub use parse::{ParseOptions, parse};
pub use stream::Streams;
pub use tcp::{start_tcp, start_tls};
pub use udp::start_udp;
