//! The change log as a hash chain: so that a line which was edited, inserted, removed, moved or cut off shows.
//!
//! Each line carries the SHA-256 of all its columns and of the line before it ([`line`]). The end of the chain is sealed
//! in the same transaction as the line, with a key that lies outside of the database, and anchored in a file beside it
//! ([`seal`]), so that missing lines at the end and a chain that was calculated anew show too. What this proves and what
//! it cannot is said in ADR-015.
//!
//! Nothing here ever alters a line that is chained, except [`reseal`], which keeps a copy; [`cut`] removes the oldest ones. After a crash the anchor may be one
//! transaction behind the seal, which is no fault; it catches up with the next start or change.

mod cut;
mod line;
mod reseal;
mod seal;
mod verify;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

pub(super) use cut::cut;
pub(super) use line::{hex, link, marks};
pub(super) use reseal::reseal;
pub use seal::TrailKey;
pub(super) use seal::{Keeper, advance};
pub(super) use verify::{sealed_head, verify};

use super::connect::{name_of, open_reader};
use crate::clock::Clock;
use crate::store::{StoreResult, TrailHead, TrailReport};

/// The columns of a line that are chained, in the order in which they are.
pub(super) const COLUMNS: [&str; 12] = [
    "id",
    "changed_at",
    "changed_by",
    "operation",
    "table_name",
    "record_id",
    "old_values",
    "new_values",
    "reason",
    "correlation_id",
    "changed_via",
    "changed_from",
];

/// The values of [`COLUMNS`] of one line.
pub(super) type Values<'a> = [ValueRef<'a>; COLUMNS.len()];

/// Where key, anchor and evidence of a database lie.
pub(super) fn folder_of(database: &Path) -> PathBuf {
    database.with_file_name("trail")
}

/// Verifies the change log of a database that this process does not serve; the appliance may be running.
/// Blocks for as long as reading takes.
pub fn verify_file(database: &Path, against: &[TrailHead], clock: &Clock) -> StoreResult<TrailReport> {
    let found = open_reader(database).and_then(|connection| verify(&connection, &folder_of(database), against, clock));
    found.map_err(|fault| fault.of(&name_of(database)))
}

/// The sealed end of the change log of such a database.
pub fn head_of_file(database: &Path) -> StoreResult<TrailHead> {
    let found = open_reader(database).and_then(|connection: Connection| sealed_head(&connection));
    found.map_err(|fault| fault.of(&name_of(database)))
}

#[cfg(test)]
mod tests;
