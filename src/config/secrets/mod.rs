//! Where secrets come from, and which value is in force.
//!
//! A secret has a name and up to four members, whatever the source: `NAME`, `NAME_next`, `NAME_next_since` and
//! `NAME_promote_at` (and `NAME_since`, which only informs). Each member is taken from the first source that has it: the
//! environment, systemd credentials, Vault, `muttd.toml`, `secrets.toml`. From `NAME_promote_at` on NEXT is CURRENT and
//! what was CURRENT does not count any more.
//!
//! Values are never written but into `secrets.toml` by [`edit`], which replaces the file as a whole; a crash leaves the
//! old or the new one. What cannot be read changes nothing.

mod edit;
mod file;
mod keyring;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use edit::{Edit, NotEdited, edit};
pub use file::kept_admin_key;
pub use keyring::{HeldSecret, Keyring, SecretSource};
pub use watch::Fingerprint;

use super::ConfigError;
use super::values::Values;
use crate::model::Timestamp;
use crate::secret::{Secret, SecretPair};
use crate::vault::VaultState;

/// File in the data directory that holds the keys made at first start, and those set by operators.
pub const SECRETS_FILE: &str = "secrets.toml";

/// The directory in which systemd puts credentials (`LoadCredential=`), one file each.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Larger values are no keys.
const MAX_SECRET: usize = 64 << 10;

/// A secret that the appliance itself has, apart from those that targets name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnSecret {
    /// Its name; its environment variable is `MUTTD_` and the name in capitals.
    pub name: &'static str,
    /// The section of `muttd.toml` whose `api_key` it is.
    pub section: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether the appliance makes its values, because it is the one who checks them.
    pub made_here: bool,
}

/// They stand at the top of `secrets.toml`; all others stand in its table `[secrets]`.
pub const OWN_SECRETS: &[OwnSecret] = &[
    OwnSecret { name: "ingest_api_key", section: "ingest", purpose: "opens the ingest API", made_here: true },
    OwnSecret { name: "admin_api_key", section: "admin", purpose: "opens everything", made_here: true },
    OwnSecret { name: "moog_api_key", section: "moog", purpose: "is sent to the webhook of [moog]", made_here: false },
];

/// One of the appliance's own secrets.
pub fn own_secret(name: &str) -> Option<&'static OwnSecret> {
    OWN_SECRETS.iter().find(|own| own.name == name)
}

/// Endings of members that are no values.
const TIMES: [&str; 3] = ["_next_since", "_since", "_promote_at"];
/// The ending of NEXT.
const NEXT: &str = "_next";

/// Refuses names that no secret can have.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err("a secret is named by 1 to 64 lower-case letters, digits, `-` or `_`".to_owned());
    }
    if let Some(ending) = TIMES.iter().chain([&NEXT]).find(|ending| name.ends_with(**ending)) {
        return Err(format!("the name of a secret does not end with `{ending}`: that is a member of another one"));
    }
    Ok(())
}

/// Members that one source holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    values: BTreeMap<String, Secret>,
    times: BTreeMap<String, Timestamp>,
}

impl Members {
    /// Takes a member; blanks around it do not count, and an empty one is none. The error does not tell the value.
    fn insert(&mut self, name: String, text: &str) -> Result<(), String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        if TIMES.iter().any(|ending| name.ends_with(ending)) {
            let time = Timestamp::parse_rfc3339(text);
            let time = time.ok_or_else(|| format!("`{name}` must be a time such as 2026-03-01T12:00:00Z"))?;
            self.times.insert(name, time);
        } else if text.len() > MAX_SECRET {
            return Err(format!("`{name}` is longer than {MAX_SECRET} bytes; that is no key"));
        } else {
            self.values.insert(name, Secret::new(text));
        }
        Ok(())
    }

    /// Values that were known before go on with when they were used.
    fn go_on_from(&mut self, earlier: &Self) {
        for (name, value) in &mut self.values {
            let base = name.strip_suffix(NEXT).unwrap_or(name);
            let known = [base.to_owned(), format!("{base}{NEXT}")];
            if let Some(same) = known.iter().filter_map(|name| earlier.values.get(name)).find(|known| *known == value) {
                *value = same.clone();
            }
        }
    }
}

/// Everything that the sources held when they were read; targets find their secrets here.
#[derive(Debug, Clone, Default)]
pub struct NamedSecrets {
    environment: Members,
    credentials: Members,
    /// `None` if no Vault is configured.
    vault: Option<(Members, Answered)>,
    config_file: Members,
    kept: Members,
    /// Whether `secrets.toml` was made by this reading, so that its keys should be shown once.
    pub(super) fresh: bool,
    read_at: Timestamp,
}

/// Whether Vault has told its secrets since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Yes,
    NotYet,
}

/// Where to look.
pub(super) struct Places<'a> {
    /// The directory of `secrets.toml`.
    pub(super) data_dir: &'a Path,
    /// Variables of the environment, by name.
    pub(super) variables: Vec<(String, String)>,
    /// What `muttd.toml` holds, and further variables of the environment.
    pub(super) values: &'a Values,
    /// What Vault told.
    pub(super) vault: Option<VaultState>,
    /// The moment that decides whether NEXT has become CURRENT.
    pub(super) now: Timestamp,
}

impl NamedSecrets {
    /// Reads every source. Without `earlier`, the reading before this one, a missing `secrets.toml` is made.
    pub(super) fn read(places: Places<'_>, earlier: Option<&Self>) -> Result<Self, ConfigError> {
        let mut found = Self { read_at: places.now, ..Self::default() };
        let wrong = |source: &str, why: String| ConfigError(format!("{source}: {why}"));
        let mut directory = None;
        for (name, text) in &places.variables {
            if name == CREDENTIALS {
                directory = Some(PathBuf::from(text));
            } else if let Some(member) = member_of_variable(name) {
                found.environment.insert(member, text).map_err(|why| wrong(name, why))?;
            }
        }
        if let Some(directory) = directory {
            found.credentials = credentials(&directory).map_err(|why| wrong("systemd credentials", why))?;
        }
        if let Some(state) = places.vault {
            let mut members = Members::default();
            for (name, value) in state.values.iter() {
                members.insert(name.clone(), value.reveal()).map_err(|why| wrong("Vault", why))?;
            }
            found.vault = Some((members, if state.answered { Answered::Yes } else { Answered::NotYet }));
        }
        for own in OWN_SECRETS {
            for (key, ending) in [("api_key", ""), ("api_key_next", NEXT)] {
                let (member, (value, from_variable)) =
                    (format!("{}{ending}", own.name), places.values.secret(own.section, key));
                let (layer, source) = if from_variable {
                    (&mut found.environment, "the environment")
                } else {
                    (&mut found.config_file, "muttd.toml")
                };
                if !layer.values.contains_key(&member) {
                    layer.insert(member, value.reveal()).map_err(|why| wrong(source, why))?;
                }
            }
        }
        (found.kept, found.fresh) = match earlier {
            None => file::load_or_create(places.data_dir)?,
            Some(_) => (file::load(places.data_dir)?, false),
        };
        if let Some(earlier) = earlier {
            found.go_on_from(earlier);
        }
        Ok(found)
    }

    /// These members in `secrets.toml`, and nothing anywhere else.
    #[cfg(test)]
    pub(super) fn kept(members: &[(&str, &str)]) -> Self {
        let mut found = Self::default();
        for (name, text) in members {
            found.kept.insert((*name).to_owned(), text).expect("a value");
        }
        found
    }

    fn go_on_from(&mut self, earlier: &Self) {
        let vault = self.vault.as_mut().map(|(members, _)| members);
        let layers = [&mut self.environment, &mut self.credentials, &mut self.config_file, &mut self.kept];
        for members in layers.into_iter().chain(vault) {
            // A value that moved from one source to another is still the same.
            for (_, known) in earlier.layers() {
                members.go_on_from(known);
            }
        }
    }

    /// The sources in order of precedence.
    fn layers(&self) -> impl Iterator<Item = (SecretSource, &Members)> {
        let vault = self.vault.as_ref().map(|(members, _)| (SecretSource::Vault, members));
        [
            Some((SecretSource::Environment, &self.environment)),
            Some((SecretSource::Credential, &self.credentials)),
            vault,
            Some((SecretSource::ConfigFile, &self.config_file)),
            Some((SecretSource::SecretsFile, &self.kept)),
        ]
        .into_iter()
        .flatten()
    }

    fn value(&self, member: &str) -> Option<(SecretSource, Secret)> {
        self.layers().find_map(|(source, members)| Some((source, members.values.get(&*source.key(member))?.clone())))
    }

    fn time(&self, member: &str) -> Option<Timestamp> {
        self.layers().find_map(|(source, members)| members.times.get(&*source.key(member)).copied())
    }

    /// One secret as it is in force, whether or not it is set.
    pub(super) fn held(&self, name: &str) -> HeldSecret {
        let member = |ending: &str| format!("{name}{ending}");
        let (current, next) = (self.value(name), self.value(&member(NEXT)));
        let mut held = HeldSecret {
            current: current.as_ref().map(|(source, _)| *source),
            next: next.as_ref().map(|(source, _)| *source),
            since: self.time(&member("_since")),
            next_since: self.time(&member("_next_since")),
            promote_at: self.time(&member("_promote_at")).filter(|_| next.is_some()),
            promoted: false,
            awaited: current.is_none() && matches!(self.vault, Some((_, Answered::NotYet))),
            pair: SecretPair::new(name, current.map(|(_, value)| value).unwrap_or_default()),
            users: Vec::new(),
        };
        let next = next.map(|(_, value)| value).unwrap_or_default();
        if held.promote_at.is_some_and(|at| at <= self.read_at) {
            held.pair.current = next;
            held.promoted = true;
            held.since = held.promote_at;
            held.current = held.next.take();
            (held.next_since, held.awaited) = (None, false);
        } else {
            held.pair = held.pair.with_next(next);
        }
        held
    }

    /// The secret of this name for a target; the error says where it is looked for. One that Vault may hold, which did not
    /// answer yet, is empty.
    pub fn find(&self, name: &str) -> Result<SecretPair, String> {
        check_name(name)?;
        if own_secret(name).is_some() {
            return Err(format!("`{name}` is the appliance's own; give the target's secret another name"));
        }
        let held = self.held(name);
        if held.pair.current.is_empty() && !held.awaited {
            return Err(format!(
                "the secret `{name}` is not set; set it with `muttd secrets set {name}`, write it into [secrets] of \
                 {SECRETS_FILE} in the data directory, or set {}",
                variable_name(name)
            ));
        }
        Ok(held.pair)
    }

    /// Ingest and admin key, if they were made by this reading and one of them is in use: a configured key needs no
    /// showing.
    pub(super) fn fresh_keys(&self) -> Option<(Secret, Secret)> {
        let made = |name: &str| self.kept.values.get(name).cloned().unwrap_or_default();
        let in_use = |name: &str| self.held(name).current == Some(SecretSource::SecretsFile);
        let (ingest, admin) = ("ingest_api_key", "admin_api_key");
        (self.fresh && (in_use(ingest) || in_use(admin))).then(|| (made(ingest), made(admin)))
    }

    /// Every secret that is the appliance's own, that a target uses, or that `secrets.toml` or Vault holds. `users` are
    /// the names that targets use.
    pub(super) fn keyring(&self, users: &[(String, String)]) -> Keyring {
        let listed = |members: &Members| -> Vec<String> {
            let bases = members.values.keys().map(|name| name.strip_suffix(NEXT).unwrap_or(name).to_owned());
            bases.filter(|name| check_name(name).is_ok()).collect()
        };
        let mut names: Vec<String> = OWN_SECRETS.iter().map(|own| own.name.to_owned()).collect();
        names.extend(users.iter().map(|(secret, _)| secret.clone()));
        names.extend(listed(&self.kept));
        names.extend(self.vault.iter().flat_map(|(members, _)| listed(members)));
        let held = names.into_iter().map(|name| {
            let of_this = users.iter().filter(|(secret, _)| *secret == name);
            let held = HeldSecret { users: of_this.map(|(_, user)| user.clone()).collect(), ..self.held(&name) };
            (name, held)
        });
        Keyring::new(held.collect())
    }
}

/// The variable of a secret's CURRENT.
pub fn variable_name(secret: &str) -> String {
    let prefix = if own_secret(secret).is_some() { "MUTTD_" } else { "MUTTD_SECRET_" };
    format!("{prefix}{}", secret.to_ascii_uppercase().replace('-', "_"))
}

/// The member that a variable holds, as [`SecretSource::key`] names it.
fn member_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("MUTTD_")?.to_ascii_lowercase();
    if let Some(named) = rest.strip_prefix("secret_") {
        return Some(named.to_owned());
    }
    OWN_SECRETS.iter().any(|own| rest.starts_with(own.name)).then_some(rest)
}

/// The credentials that can be members. Others may lie there for other programs, or hold certificates.
fn credentials(directory: &Path) -> Result<Members, String> {
    let mut members = Members::default();
    let entries =
        std::fs::read_dir(directory).map_err(|error| format!("`{}` cannot be read: {error}", directory.display()))?;
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let fits = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_SECRET as u64);
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if !fits || name.len() > 80 || !name.chars().all(allowed) {
            continue;
        }
        match std::fs::read(entry.path()).map(String::from_utf8) {
            Ok(Ok(text)) => members.insert(name, zeroize::Zeroizing::new(text).as_str())?,
            Ok(Err(_)) => {}
            Err(error) => return Err(format!("`{}` cannot be read: {error}", entry.path().display())),
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests;
