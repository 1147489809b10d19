//! A target as the configuration defines it, and the moment it becomes one that can be spoken to.

use std::fmt;
use std::sync::Arc;

use super::guard::Guard;
use super::http::Http;
use super::kind::{RawOptions, TargetKind, TargetParts};
use super::{DeliveryError, SecretPair, Secrets, Settings, Target};
use crate::clock::Clock;
use crate::model::TargetName;

/// One `[[targets]]` of the configuration, checked.
#[derive(Clone, PartialEq)]
pub struct TargetConfig {
    /// Its name.
    pub name: TargetName,
    /// What kind of receiver it is.
    pub kind: &'static TargetKind,
    /// The options of its kind.
    pub options: RawOptions,
    /// The key that proves who we are.
    pub secret: Option<SecretPair>,
    /// Further secrets that the options name.
    pub secrets: Secrets,
    /// Addresses it may be at.
    pub guard: Guard,
    /// Pace and patience.
    pub settings: Settings,
}

impl fmt::Debug for TargetConfig {
    /// Without the options: an address in them may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetConfig")
            .field("name", &self.name)
            .field("kind", &self.kind.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A target ready to be spoken to; it is replaced as a whole when its configuration changes.
#[derive(Clone)]
pub struct Wiring {
    /// The receiver.
    pub target: Arc<dyn Target>,
    /// The key for it.
    pub secret: Option<SecretPair>,
    /// Pace and patience.
    pub settings: Settings,
}

impl Wiring {
    /// Whether it can be spoken to; if not, what is missing, for people. Alerts wait meanwhile.
    pub fn ready(&self) -> Result<(), String> {
        self.target.ready()?;
        match &self.secret {
            Some(pair) if pair.keys().next().is_none() => {
                Err(format!("its secret `{}` is not known yet: Vault did not answer since the start", pair.name))
            }
            _ => Ok(()),
        }
    }

    /// Asks whether the receiver is there and takes one of our keys; the error is for people.
    pub async fn probe(&self) -> Result<(), String> {
        self.ready()?;
        let mut outcome = None;
        for key in self.secret.iter().flat_map(SecretPair::keys) {
            outcome = Some(self.target.probe(Some(key)).await);
            if !matches!(outcome, Some(Err(DeliveryError::Credentials { .. }))) {
                break;
            }
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.target.probe(None).await,
        };
        outcome.map_err(|error| error.to_string())
    }
}

impl TargetConfig {
    /// Makes the target; the error is for people.
    pub fn wire(&self, clock: &Clock) -> Result<Wiring, String> {
        let settings = self.settings.clone();
        let parts = TargetParts {
            name: self.name.clone(),
            http: Http::new(self.guard.clone(), settings.timeout, clock.clone())?,
            guard: self.guard.clone(),
            timeout: settings.timeout,
            secrets: self.secrets.clone(),
            clock: clock.clone(),
        };
        let target = self.kind.prepare(self.options.clone())?.build(parts)?;
        // A further secret that is not known yet holds it up as its own does.
        let awaited = self.secrets.iter().find(|pair| pair.keys().next().is_none());
        Ok(Wiring { target, secret: awaited.or(self.secret.as_ref()).cloned(), settings })
    }
}
