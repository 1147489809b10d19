//! The one integration binary: every test starts the real program or one of its engines, speaks to it as others will, and
//! reads its answers.
//!
//! `tests/run` installs the clients these tests use. A missing client fails its test: a test that could not run has
//! shown nothing.

mod support;

mod access;
mod api_roles;
mod backup;
mod bad_input;
mod bench;
mod change_trail;
mod config_as_code;
mod dead_letters;
mod delivery_faults;
mod disk_full;
mod docs_in_sync;
mod first_five_minutes;
mod forwarding;
mod kill;
mod layering;
mod live_targets;
mod logs;
mod no_restart;
#[cfg(feature = "oidc")]
mod oidc;
mod overload;
mod page_rights;
mod pages;
mod power_cut;
mod prometheus;
mod queue_contract;
mod queue_model;
mod real_clients;
mod reload;
mod remediation;
mod repeats;
mod retention;
mod retention_faults;
mod retention_pages;
mod routing;
mod secrets;
mod settings;
mod stop_and_ports;
mod store_contract;
mod systemd;
mod target_formats;
mod tls;
#[cfg(feature = "otlp")]
mod tracing;
mod unhandled;
mod upstream_smoke;
#[cfg(feature = "vault")]
mod vault;
