//! The embedded databases: `config.db` (rules, hosts, teams, users, settings and their change log), `state.db` (counters of
//! unhandled events), `levels.db` (counts of the service levels), `audit/events-YYYY-MM.db` (one file for each month of
//! events, and `events-YYYY-MM.2.db` and so on when a month outgrows it).
//!
//! Each has one thread that writes it and a few connections that read it, write-ahead logging, and `synchronous=FULL`,
//! so that what was answered survives a power cut. Migrations are numbered; a file of a newer version is refused. A
//! damaged file of the audit, the counters or the levels is set aside and a fresh one takes its place; a damaged `config.db`
//! stops the start, because it is the operators' work.

mod accounts;
mod api_keys;
mod audit;
mod audit_clean;
#[cfg(test)]
mod audit_clean_tests;
mod audit_search;
mod audit_shelf;
#[cfg(test)]
mod audit_tests;
mod audit_write;
mod backup;
mod body;
mod changes;
mod config;
mod connect;
mod counters;
mod edits;
mod facts;
mod holds;
mod index;
mod inventory;
mod levels;
mod months;
mod partition;
mod postings;
mod repeats;
mod rulebook;
mod schema;
mod settings;
mod targets;
mod trail;
mod unhandled;
mod walk;
mod worker;

pub use audit::AuditDb;
pub use backup::copy_database;
pub use config::ConfigDb;
pub use levels::LevelsDb;
pub use settings::kept_settings;
pub use targets::kept_targets;
pub use trail::{TrailKey, head_of_file, verify_file};
pub use unhandled::UnhandledDb;
