//! The MUTT appliance: one event's way from a socket to the incident system.
//!
//! A datagram reaches `ingest::syslog::udp`; `ingest::syslog::parse` makes an `Event` of it; `ingest::gate` lets it
//! in or sheds it; `ingest::intake` appends a batch to `queues.events`. `alerter::worker` leases the batch,
//! `rules::Ruling::decide` makes a `Decision` of each event,
//! `store::AuditLog::record` writes the rows, `alerter::route` appends an `Alert` to the outboxes of the targets whose
//! routes take it, and only then are the events acked. `forward::worker` leases from its outbox,
//! `forward::{breaker, limit, retry}` decide whether it may speak, a kind from `forward::targets` does. What cannot be
//! delivered becomes a `DeadLetter`; `remedy` brings it back when its target is well again. Everything a
//! person may do to this goes through `admin`, whether by page, API or command line.
//!
//! Four invariants hold everywhere:
//!
//! 1. A stage acks its input only after its output is durable. Every write is keyed by `EventId`, so a repeated
//!    batch changes nothing.
//! 2. Stages never import each other; they meet only in a queue.
//! 3. `rules` has no I/O, no clock, no async. `web` and `cli` have no SQL and no queue calls: they call `admin`.
//! 4. A panic or an I/O error in one record dead-letters that record; it never stops a stage, and a stage never
//!    stops the process.

/// The nouns: plain data with checked constructors.
pub mod model;

/// The wall clock, handed in so that tests can fix it.
pub mod clock;

/// `Live<T>`: current settings as a cheap snapshot.
pub mod live;

/// Binding sockets with errors that say who holds the port, and serving HTTP with bounds.
pub mod net;

/// What we log and count, and where it goes.
pub mod telemetry;

/// Keys, tokens and passwords, which are never printed.
pub mod secret;

/// Secrets from HashiCorp Vault.
pub mod vault;

/// Login by an OpenID Connect provider.
pub mod oidc;

/// Durable hand-over between stages, at least once.
pub mod queue;

/// Roles, scopes and the ring of API keys.
pub mod access;

/// What must be searchable and outlive us.
pub mod store;

/// Compiled rules: pure judgement.
pub mod rules;

/// From sockets into the event queue.
pub mod ingest;

/// From the event queue to audit rows and alerts.
pub mod alerter;

/// From the outboxes to the receivers.
pub mod forward;

/// Dead letters: back into the work once it can succeed, or set aside and told.
pub mod remedy;

/// Work by the clock: the service levels.
pub mod upkeep;

/// Where settings and secrets come from.
pub mod config;

/// What an operator can do; used by pages, API and command line alike.
pub mod admin;

/// Pages and API.
pub mod web;

/// The command line.
pub mod cli;

/// The composition root: build, start in order, stop in reverse.
pub mod app;
