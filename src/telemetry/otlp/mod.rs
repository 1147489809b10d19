//! Spans to a collector by OTLP over HTTP with protobuf bodies (the OTLP 1.x specification).
//!
//! One task gathers what the [`Tracer`] takes and posts it in batches. The queue before it is bounded; what finds no room,
//! and what a collector does not take after some tries, is counted and forgotten: tracing must never hold up what it
//! looks at. A collector that fails is told once, and again when it is well. Without the feature `otlp` only the settings
//! are here. Nothing outlives the process.

#[cfg(feature = "otlp")]
mod encode;
#[cfg(feature = "otlp")]
mod send;

use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::trace::{self, Tracer};
use crate::live::Live;
use crate::secret::Secret;

/// Where spans go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The collector, as `http://collector:4318`; empty for none.
    pub endpoint: String,
    /// Headers for it, as `name=value,name=value`.
    pub headers: Secret,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why spans cannot be exported as the configuration asks.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The program was built without it.
    #[error(
        "telemetry.otlp_endpoint is set, but this build exports no traces; use one built with `--features otlp`, or \
         remove it"
    )]
    NotBuilt,
    /// The settings cannot be used.
    #[error("[telemetry]: {0}")]
    Settings(String),
}

/// Starts the export, if the settings ask for one. `host` is this machine's name. The task ends after `stop`, when it has
/// sent what was there.
pub fn start(
    settings: &Settings,
    sampling: Live<trace::Settings>,
    host: &str,
    stop: CancellationToken,
) -> Result<(Tracer, Option<JoinHandle<()>>), StartError> {
    if settings.endpoint.is_empty() {
        return Ok((Tracer::off(), None));
    }
    export(settings, sampling, host, stop)
}

#[cfg(feature = "otlp")]
fn export(
    settings: &Settings,
    sampling: Live<trace::Settings>,
    host: &str,
    stop: CancellationToken,
) -> Result<(Tracer, Option<JoinHandle<()>>), StartError> {
    let (tracer, task) = send::start(settings, sampling, host, stop).map_err(StartError::Settings)?;
    Ok((tracer, Some(task)))
}

#[cfg(not(feature = "otlp"))]
fn export(
    _settings: &Settings,
    _sampling: Live<trace::Settings>,
    _host: &str,
    _stop: CancellationToken,
) -> Result<(Tracer, Option<JoinHandle<()>>), StartError> {
    Err(StartError::NotBuilt)
}
