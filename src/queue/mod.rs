//! Durable hand-over between stages, at least once.
//!
//! The contract every backend keeps, and `tests/it/queue_contract.rs` checks:
//!
//! * **append** returns when the records are on stable storage (power-safe, not merely kill-safe); all of one call or none.
//! * **lease** hands out records oldest first without removing them; a leased record is not handed out again until it is
//!   released or the process restarts. It waits up to `wait` when nothing is due.
//! * **ack** forgets records for good; acks may come in any order. An ack may be lost in a crash, never made up: the
//!   record is then handed out again.
//! * **claim** leases the records that are named, out of order; whoever else leases passes them by. One that is released
//!   is due at once, before those that were never handed out.
//! * **release** gives records back, due again after `delay`; others overtake them meanwhile. The next lease of the
//!   record carries a higher `attempt`.
//! * After a crash every unacked record is due again. A record that was leased when the process died comes back with a
//!   higher `attempt`, so that a record which kills the process is noticed.
//! * **depth** is O(1) and counts items that are appended and not yet acked, leased ones included.
//! * A record that is damaged on disk is set aside and counted; it never stops the queue.
//!
//! A *record* is what is leased and acked; it holds one or more *items*. The event queue keeps whole micro-batches in a
//! record (one compression, one checksum and one key for a thousand events); outboxes and dead letters keep one item a
//! record, because each is retried and answered on its own.

mod backend;
mod codec;
mod fault;
mod hands;
mod memory;
mod options;
mod outboxes;
mod queues;
pub mod sled;
mod typed;

pub use backend::{Backend, Depth, Lease, QueueError, Record, Seq};
pub use codec::{Form, Item, Undecodable, decode_items};
pub use fault::{Fault, FaultKind};
pub use memory::MemoryBackend;
pub use options::QueueOptions;
pub use outboxes::{OutboxMap, Outboxes};
pub use queues::Queues;
pub use sled::is_in_use;
pub use typed::{Leased, Queue};
