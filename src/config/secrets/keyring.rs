//! Every secret with its values, where they come from and since when: what pages and commands are told of, and what is
//! compared when the sources are read again. Prints no value and keeps nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{SECRETS_FILE, variable_name};
use crate::model::Timestamp;
use crate::secret::{SecretPair, Slot};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the environment.
    Environment,
    /// A systemd credential.
    Credential,
    /// HashiCorp Vault.
    Vault,
    /// `muttd.toml`.
    ConfigFile,
    /// `secrets.toml`.
    SecretsFile,
}

impl SecretSource {
    /// Its name, for programs and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Credential => "credential",
            Self::Vault => "vault",
            Self::ConfigFile => "muttd.toml",
            Self::SecretsFile => "secrets.toml",
        }
    }

    /// How a member is named there. Variables have neither small letters nor `-`, so `-` and `_` are one in them.
    pub(super) fn key(self, member: &str) -> Cow<'_, str> {
        match self {
            Self::Environment => Cow::Owned(member.replace('-', "_")),
            _ => Cow::Borrowed(member),
        }
    }

    /// What a person has to do to change the value of a secret that comes from there.
    pub fn where_to_change(self, secret: &str, slot: Slot) -> String {
        let ending = match slot {
            Slot::Current => "",
            Slot::Next => "_next",
        };
        match self {
            Self::Environment => {
                format!("change {}{} and start the appliance again", variable_name(secret), ending.to_ascii_uppercase())
            }
            Self::Credential => format!("change the systemd credential `{secret}{ending}` and start the service again"),
            Self::Vault => format!("change `{secret}{ending}` in Vault; it is read again by itself"),
            Self::ConfigFile => {
                "remove it from muttd.toml and send SIGHUP; it can be kept in secrets.toml then".to_owned()
            }
            Self::SecretsFile => format!("change `{secret}{ending}` in {SECRETS_FILE}"),
        }
    }
}

/// One secret as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSecret {
    /// Its values.
    pub pair: SecretPair,
    /// Where CURRENT comes from; `None` if there is none.
    pub current: Option<SecretSource>,
    /// Where NEXT comes from; `None` if there is none.
    pub next: Option<SecretSource>,
    /// Since when CURRENT is what it is, if that is known.
    pub since: Option<Timestamp>,
    /// Since when NEXT is set, if that is known.
    pub next_since: Option<Timestamp>,
    /// When NEXT becomes CURRENT by itself.
    pub promote_at: Option<Timestamp>,
    /// That moment has come: what the source calls NEXT is CURRENT.
    pub promoted: bool,
    /// Vault may hold it and did not answer yet.
    pub awaited: bool,
    /// The targets that use it.
    pub users: Vec<String>,
}

impl HeldSecret {
    /// Which places are set and from where, for the change log; no value, nor anything made of one.
    pub fn outline(&self) -> Value {
        let source = |source: Option<SecretSource>| source.map(SecretSource::name);
        let mut outline = json!({"current": source(self.current), "next": source(self.next)});
        if let Some(at) = self.promote_at.filter(|_| !self.promoted) {
            outline["promote_at"] = json!(at.to_string());
        }
        outline
    }

    /// Whether the values of both places are the same; where they come from does not matter.
    fn same_values(&self, other: &Self) -> bool {
        let to_come = |held: &Self| held.promote_at.filter(|_| !held.promoted);
        self.pair == other.pair && to_come(self) == to_come(other)
    }
}

/// All secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(BTreeMap<String, HeldSecret>);

impl Keyring {
    pub(super) const fn new(held: BTreeMap<String, HeldSecret>) -> Self {
        Self(held)
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<&HeldSecret> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeldSecret)> {
        self.0.iter().map(|(name, held)| (name.as_str(), held))
    }

    /// When the next NEXT becomes CURRENT by itself.
    pub fn next_promotion(&self) -> Option<Timestamp> {
        self.0.values().filter(|held| !held.promoted).filter_map(|held| held.promote_at).min()
    }

    /// Secrets whose NEXT is CURRENT because its time came, while `secrets.toml` still holds it as NEXT.
    pub fn to_promote(&self) -> impl Iterator<Item = &str> {
        let due = self.0.iter().filter(|(_, held)| held.promoted && held.current == Some(SecretSource::SecretsFile));
        due.map(|(name, _)| name.as_str())
    }

    /// Names of secrets whose values differ from those of `earlier`, with both states.
    pub fn changes<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = (&'a str, Option<&'a HeldSecret>, Option<&'a HeldSecret>)> {
        let mut names: Vec<&str> = self.0.keys().chain(earlier.0.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| (name, earlier.get(name), self.get(name))).filter(|(_, before, after)| {
            match (before, after) {
                (Some(before), Some(after)) => !before.same_values(after),
                (Some(one), None) | (None, Some(one)) => one.pair.keys().next().is_some(),
                (None, None) => false,
            }
        })
    }
}
