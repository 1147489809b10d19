//! What must be searchable and outlive us.
//!
//! Three stores, each with its own promise:
//!
//! * the **audit** ([`AuditLog`]): one row for each event that a rule matched (or for all, or a sample), durable when
//!   [`AuditLog::record`] returns, idempotent by event id, in monthly files;
//! * the **recent store** ([`Recent`]): every event for some days, compressed and scanned, allowed to lose its last
//!   moments in a crash because the queue does not;
//! * the **configuration** ([`RuleBook`], [`Inventory`], [`Accounts`], [`ChangeLog`]): each change and its line in the
//!   change log are one transaction;
//!
//! and the counters of unhandled events ([`Unhandled`]), durable when [`Unhandled::count`] returns.

mod accounts;
mod audit;
mod change;
mod error;
mod inventory;
mod query;
mod recent;
mod rulebook;
pub mod sqlite;
mod unhandled;

use std::sync::Arc;

pub use accounts::{Accounts, Session, User};
pub use audit::AuditLog;
pub use change::{Change, ChangeLog, ChangeQuery, ChangeRow, Operation};
pub use error::{StoreError, StoreResult};
pub use inventory::{DevHost, DeviceTeam, Inventory};
pub use query::{EventPage, EventQuery};
pub use recent::{Recent, RecentSettings};
pub use rulebook::RuleBook;
pub use unhandled::{Overrun, Sighting, Unhandled, UnhandledBatch, UnhandledPolicy};

/// Every store of one node.
#[derive(Clone)]
pub struct Stores {
    /// Matched events and what became of them.
    pub audit: Arc<dyn AuditLog>,
    /// Every event of the last days.
    pub recent: Arc<Recent>,
    /// Alert rules.
    pub rules: Arc<dyn RuleBook>,
    /// Development hosts and device teams.
    pub inventory: Arc<dyn Inventory>,
    /// Users and sessions.
    pub accounts: Arc<dyn Accounts>,
    /// Who changed what.
    pub changes: Arc<dyn ChangeLog>,
    /// Counters of unhandled events.
    pub unhandled: Arc<dyn Unhandled>,
}
