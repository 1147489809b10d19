//! SNMP traps and informs, v1 and v2c, as events.
//!
//! The way of a datagram: [`listen`] reads it, [`message`] decodes it (BER, by [`ber`]), the community is compared,
//! [`event`] maps it (v1 by RFC 3584 section 3.1), and the intake takes it. A trap is offered: as with every datagram a
//! crash may lose it before it is committed. An inform is answered only once its event is on stable storage; until then
//! its sender repeats it, and [`informs`] keeps a repetition from becoming a second event.
//!
//! What it never does: answer or name a wrong community, log a community, or let a datagram allocate more than a small
//! multiple of its own size.

mod ber;
mod community;
mod drops;
mod event;
mod informs;
mod listen;
#[cfg(test)]
mod listener_tests;
mod message;
pub mod names;

pub use listen::start;
