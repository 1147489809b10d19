//! The embedded queue: generations of sled, one writer thread, a cursor.
//!
//! sled is a tree, not a queue, and alone it would neither give space back nor survive a power cut. So a queue is a row
//! of *generations*: sled directories that hold a run of sequences each, are written with a sync before anything is
//! acknowledged, and are deleted as a whole once drained. On top of them there are two ways to remember what is done:
//!
//! * a **log** ([`SledBackend::open_log`]), consumed in order: a small file says how far, nothing is removed one by one.
//!   After a power cut that file may be older than the truth; records are then repeated;
//! * a **work queue** ([`SledBackend::open_work`]): each record is removed when it is acked, and one that is released
//!   carries its attempts and due time, so that a waiting retry survives a restart.
//!
//! ```text
//! <queue>/lock                    held while open: two processes never share a queue
//! <queue>/cursor                  what was handed out, two slots
//! <queue>/00000000000000000001/   a generation, named by its first sequence: sled's files, `totals` when at rest
//! <queue>/quarantine/             generations and records that could not be read, for people to look at
//! ```
//!
//! A crash at any moment leaves every acknowledged record in place: see [`commit`] for writes, [`cursor`] for what is
//! forgotten, [`shelf`] for the directories. Memory does not follow the backlog: see [`state`].
//!
//! What it does not do: hand out more than 4,096 records at once (further leases wait until some are settled), or, in a
//! work queue, fresh ones while 131,072 are delayed.

mod backend;
mod commit;
mod core;
mod cursor;
pub(super) mod disk;
mod generation;
mod layout;
mod shelf;
mod state;

pub use backend::SledBackend;
pub use disk::is_in_use;

#[cfg(test)]
mod tests;
