//! Secrets from HashiCorp Vault: a version 2 KV secret, read with a token that AppRole gives.
//!
//! One task logs in, keeps the token alive, logs in again when it is revoked or at its end, and reads the secret every
//! `poll`. What it read last stays in force through outages; it is kept in memory only, so a start while Vault is away
//! begins without it. Nothing is ever written to Vault or to disk. Without the feature `vault` only the settings are here,
//! and a start with them is refused.

#[cfg(feature = "vault")]
mod client;
#[cfg(feature = "vault")]
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::live::Live;
use crate::model::Timestamp;
use crate::secret::Secret;

/// How Vault is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its address, as `https://vault.example:8200`.
    pub address: String,
    /// Where the AppRole method is mounted.
    pub approle_mount: String,
    /// The role.
    pub role_id: String,
    /// What proves the role.
    pub secret_id: SecretId,
    /// Where the KV engine is mounted.
    pub mount: String,
    /// The secret in it.
    pub path: String,
    /// Vault's namespace; empty for none.
    pub namespace: String,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Time from one look at the secret to the next.
    pub poll: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long a start waits for the first answer.
    pub start_wait: Duration,
    /// Whether a start without an answer is refused.
    pub required: bool,
}

/// Where the secret id comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretId {
    /// It was given.
    Value(Secret),
    /// It is read from this file at each login, so that it can be exchanged.
    File(PathBuf),
}

/// What Vault holds.
#[derive(Debug, Clone, Default)]
pub struct VaultState {
    /// The members of the secret, by name.
    pub values: Arc<BTreeMap<String, Secret>>,
    /// Whether they are known: `false` until the first answer.
    pub answered: bool,
}

/// How the way to Vault is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaultStatus {
    /// Where it is.
    pub address: String,
    /// When it answered last as it should.
    pub last_success: Option<Timestamp>,
    /// What went wrong since, and when it began.
    pub trouble: Option<(Timestamp, String)>,
    /// The version of the secret that is in force.
    pub version: Option<u64>,
}

/// The task's reading side; clones see the same.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Changes when the members do.
    pub secrets: Live<VaultState>,
    /// Changes with every answer.
    pub status: Live<VaultStatus>,
}

/// Why a start with Vault is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The program was built without it.
    #[error(
        "[vault] is configured, but this build has no Vault client; use one built with `--features vault`, or remove \
         [vault]"
    )]
    NotBuilt,
    /// The settings cannot be used.
    #[error("[vault]: {0}")]
    Settings(String),
    /// `required` is set and there was no answer in time.
    #[error("Vault did not answer within {} s, and [vault] has required = \"true\": {why}", waited.as_secs())]
    NoAnswer {
        /// For how long it was waited.
        waited: Duration,
        /// The last failure.
        why: String,
    },
}

/// Starts the task and waits for the first answer as long as the settings say.
#[cfg(feature = "vault")]
pub async fn start(settings: Settings, clock: Clock, stop: CancellationToken) -> Result<Vault, StartError> {
    let (wait, required) = (settings.start_wait, settings.required);
    let vault = session::start(settings, clock, stop).map_err(StartError::Settings)?;
    let mut secrets = vault.secrets.clone();
    // An answer between the look and the waiting is one of the changes that are waited for.
    let answered = async {
        while !secrets.get().answered {
            secrets.changed().await;
        }
    };
    if tokio::time::timeout(wait, answered).await.is_ok() {
        return Ok(vault);
    }
    let why =
        vault.status.get().trouble.as_ref().map_or_else(|| "nothing came back".to_owned(), |(_, why)| why.clone());
    if required {
        return Err(StartError::NoAnswer { waited: wait, why });
    }
    tracing::error!(
        "Vault did not answer within {} s; the start goes on without its secrets, and alerts for targets that need them \
         wait: {why}",
        wait.as_secs()
    );
    Ok(vault)
}

/// Refuses: there is no client in this build.
#[cfg(not(feature = "vault"))]
#[expect(clippy::unused_async, reason = "the same signature as with the feature")]
pub async fn start(_: Settings, _: Clock, _: CancellationToken) -> Result<Vault, StartError> {
    Err(StartError::NotBuilt)
}
