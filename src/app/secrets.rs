//! Has the secrets read again when one of their sources changed: `secrets.toml` and systemd's credentials are looked at
//! each second, Vault tells by itself, and a NEXT becomes CURRENT at its moment. What cannot be used changes nothing and is
//! told once. Keeps nothing; a crash loses nothing but a look.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::config::{Fingerprint, Keeper};
use crate::live::Live;
use crate::vault::VaultState;

/// Time from one look to the next: a person who exchanged a key should not wonder, and a look costs some microseconds.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after which a source that could not be used is read again even if it looks the same: what was wrong may have been
/// another part of the configuration.
const RETRY_AFTER: u32 = 10;

/// Starts the task; it ends with `stop`.
pub(super) fn watch(admin: Admin, keeper: Keeper, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut watch = Watch::new(admin, keeper);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch.round() => {}
            }
        }
    })
}

struct Watch {
    admin: Admin,
    keeper: Keeper,
    vault: Option<Live<VaultState>>,
    seen: Fingerprint,
    /// The failure that was told, so that it is told once.
    told: Option<String>,
    /// Looks since the last reading that failed.
    looks: u32,
}

impl Watch {
    /// Nothing was seen yet, so the first round reads everything: a source may have changed since the start read it.
    fn new(admin: Admin, keeper: Keeper) -> Self {
        let vault = keeper.current().sources().vault().map(|vault| vault.secrets.clone());
        Self { admin, keeper, vault, seen: Fingerprint::default(), told: None, looks: 0 }
    }

    async fn round(&mut self) {
        let told_by_vault = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = changed(&mut self.vault) => true,
        };
        let seen = self.look().await;
        let due = self.keeper.current().secrets.next_promotion().is_some_and(|at| at <= self.admin.clock().now());
        self.looks = self.looks.saturating_add(1);
        let again = self.admin.secrets_fault().is_some() && self.looks >= RETRY_AFTER;
        let outcome = if told_by_vault || due || again || seen != self.seen {
            (self.seen, self.looks) = (seen, 0);
            self.admin.reread_secrets().await
        } else {
            self.admin.note_secret_changes().await
        };
        let outcome = match outcome {
            Ok(()) => self.admin.finish_promotions().await,
            Err(error) => Err(error),
        };
        let why = outcome.err().map(|error| error.to_string());
        if let Some(why) = &why
            && self.told.as_ref() != Some(why)
        {
            tracing::error!("The secrets stay as they were: {why}");
        }
        // A failure is over when the sources were read as they should; a look without a change says nothing about it.
        if why.is_some() || self.admin.secrets_fault().is_none() {
            self.told = why;
        }
    }

    async fn look(&self) -> Fingerprint {
        let config = self.keeper.current();
        let look = move || Fingerprint::take(&config.data_dir);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// Waits for ever where there is no Vault.
async fn changed(vault: &mut Option<Live<VaultState>>) {
    match vault {
        Some(secrets) => secrets.changed().await,
        None => std::future::pending().await,
    }
}
