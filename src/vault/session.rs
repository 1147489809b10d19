//! The life with Vault: log in, read, renew, and again. What was read last stays in force whatever happens. Failures are
//! told when they begin, when they change and when they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Token, VaultClient, VaultError};
use super::{Settings, Vault, VaultState, VaultStatus};
use crate::clock::Clock;
use crate::live::{LiveSender, live};
use crate::telemetry::metrics::{VAULT_REQUESTS, VAULT_UP};

/// Pause after the first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: an operator who unsealed Vault should not wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A token in use.
struct Held {
    token: Token,
    /// When it is renewed, or replaced if it cannot be: after two thirds of its life.
    due: Instant,
    /// The life it was given at login. When renewals give less than half of that, its maximum is near.
    first_lease: Duration,
    /// Whether it ever read the secret.
    proven: bool,
}

struct Session {
    client: VaultClient,
    clock: Clock,
    poll: Duration,
    held: Option<Held>,
    failures: u32,
    version: Option<u64>,
    secrets: LiveSender<VaultState>,
    status: LiveSender<VaultStatus>,
}

/// Starts the task; it ends with `stop`.
pub(super) fn start(settings: Settings, clock: Clock, stop: CancellationToken) -> Result<Vault, String> {
    let (secrets, read_secrets) = live(VaultState::default());
    let (status, read_status) = live(VaultStatus { address: settings.address.clone(), ..VaultStatus::default() });
    let poll = settings.poll;
    let client = VaultClient::new(settings)?;
    let mut session = Session { client, clock, poll, held: None, failures: 0, version: None, secrets, status };
    tokio::spawn(async move {
        loop {
            let pause = tokio::select! {
                () = stop.cancelled() => return,
                pause = session.step() => pause,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    });
    Ok(Vault { secrets: read_secrets, status: read_status })
}

impl Session {
    /// One round; answers when the next is due.
    async fn step(&mut self) -> Duration {
        match self.look().await {
            Ok(()) => {
                self.failures = 0;
                let due = self.held.as_ref().map(|held| held.due.saturating_duration_since(Instant::now()));
                self.poll.min(due.unwrap_or(self.poll)).max(Duration::from_millis(10))
            }
            Err(error) => {
                self.failed(&error);
                self.failures = self.failures.saturating_add(1);
                match error {
                    VaultError::Later { after: Some(after), .. } => after,
                    _ => pause(self.failures, dice()),
                }
            }
        }
    }

    /// Sees to the token and reads the secret with it.
    async fn look(&mut self) -> Result<(), VaultError> {
        self.keep_token().await?;
        let Some(held) = &mut self.held else { return Ok(()) };
        match self.client.read(&held.token.value).await {
            Ok(version) => {
                held.proven = true;
                self.succeeded(version);
                Ok(())
            }
            // Revoked, or its maximum is over: a new one is asked for at once. One that never worked has the wrong
            // policy, and asking again and again would not help.
            Err(VaultError::Denied) if held.proven => {
                self.held = None;
                tracing::info!("Vault refuses the token it gave; logging in again");
                self.keep_token().await?;
                let Some(held) = &mut self.held else { return Ok(()) };
                let version = self.client.read(&held.token.value).await?;
                held.proven = true;
                self.succeeded(version);
                Ok(())
            }
            Err(error) => {
                if error == VaultError::Denied {
                    self.held = None;
                }
                Err(error)
            }
        }
    }

    /// Has a token that lives.
    async fn keep_token(&mut self) -> Result<(), VaultError> {
        let now = Instant::now();
        if let Some(held) = &mut self.held
            && now >= held.due
        {
            let renewed = if held.token.renewable { self.client.renew(&held.token.value).await.ok() } else { None };
            match renewed {
                Some(token) if token.lease * 2 >= held.first_lease => {
                    held.due = now + token.lease * 2 / 3;
                    held.token = token;
                }
                _ => self.held = None,
            }
        }
        if self.held.is_none() {
            let token = self.client.login().await?;
            let first_lease = token.lease;
            // A lease of zero is one without an end.
            let life = if first_lease.is_zero() { Duration::from_secs(86_400) } else { first_lease };
            self.held = Some(Held { token, due: now + life * 2 / 3, first_lease, proven: false });
        }
        Ok(())
    }

    fn succeeded(&mut self, version: super::client::Version) {
        metrics::counter!(VAULT_REQUESTS, "result" => "success").increment(1);
        metrics::gauge!(VAULT_UP).set(1.0);
        let before = self.status.get();
        if before.trouble.is_some() || before.last_success.is_none() {
            tracing::info!(version = version.number, "Vault answers, and its secrets are read");
        }
        let status = VaultStatus {
            last_success: Some(self.clock.now()),
            trouble: None,
            version: Some(version.number),
            ..(*before).clone()
        };
        self.status.set(status);
        let known = self.secrets.get();
        if self.version != Some(version.number) || *known.values != version.values {
            self.version = Some(version.number);
            self.secrets.set(VaultState { values: Arc::new(version.values), answered: true });
        }
    }

    fn failed(&self, error: &VaultError) {
        metrics::counter!(VAULT_REQUESTS, "result" => "failure").increment(1);
        metrics::gauge!(VAULT_UP).set(0.0);
        let (before, why) = (self.status.get(), error.to_string());
        let since = match &before.trouble {
            Some((_, known)) if *known == why => return,
            Some((since, _)) => *since,
            None => self.clock.now(),
        };
        tracing::warn!("Vault: {why}; the secrets read last stay in force, and it is tried again");
        self.status.set(VaultStatus { trouble: Some((since, why)), ..(*before).clone() });
    }
}

/// How long to wait after so many failures: doubled each time, and by chance between half of that and all of it, so that a
/// fleet does not come back at once. `dice` is from 0 to 255.
fn pause(failures: u32, dice: u8) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    full / 2 + full / 2 * u32::from(dice) / 255
}

/// By chance; in the middle if the system has none.
fn dice() -> u8 {
    let mut byte = [127];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests;
