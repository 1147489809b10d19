//! API keys that nobody configured: made at first start and kept in `DIR/secrets.toml`, readable by the owner only.
//!
//! A key that is configured (file or environment) is used as it is and not written anywhere. Keys are random 256-bit
//! numbers; they are shown once, when they are made.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::ConfigError;
use crate::secret::SecretPair;

/// File in the data directory that holds the keys made at first start.
pub const SECRETS_FILE: &str = "secrets.toml";

/// The keys of `secrets.toml`, and which of them were made just now.
#[derive(Clone, Default)]
pub struct KeptSecrets {
    /// The ingest API key.
    pub ingest_api_key: String,
    /// The admin API key.
    pub admin_api_key: String,
    /// The table `[secrets]`: keys for targets, by name.
    pub named: BTreeMap<String, String>,
    /// Whether they were made by this call and should be shown once.
    pub fresh: bool,
}

impl std::fmt::Debug for KeptSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptSecrets").field("fresh", &self.fresh).finish_non_exhaustive()
    }
}

/// Reads the kept keys, making the file when it is missing.
pub fn load_or_create(data_dir: &Path) -> Result<KeptSecrets, ConfigError> {
    let path = data_dir.join(SECRETS_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(&path),
        Err(error) => Err(ConfigError(format!("cannot read `{}`: {error}", path.display()))),
    }
}

/// The admin key that was made at the first start, if there is one; makes nothing.
pub fn kept_admin_key(data_dir: &Path) -> Result<String, ConfigError> {
    let path = data_dir.join(SECRETS_FILE);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| ConfigError(format!("cannot read `{}`: {error}", path.display())))?;
    Ok(parse(&path, &text)?.admin_api_key)
}

fn parse(path: &Path, text: &str) -> Result<KeptSecrets, ConfigError> {
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode()).unwrap_or(0);
    if mode & 0o077 != 0 {
        return Err(ConfigError(format!(
            "`{}` can be read by others (mode {:o}); run `chmod 600` on it",
            path.display(),
            mode & 0o777
        )));
    }
    let table: toml::Table = text.parse().map_err(|_| {
        ConfigError(format!("`{}` is not valid TOML; mend it, or remove it to have new keys made", path.display()))
    })?;
    let get = |name: &str| table.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let named = match table.get("secrets").map(toml::Value::as_table) {
        None => BTreeMap::new(),
        Some(named) => texts(named).ok_or_else(|| {
            ConfigError(format!("`{}`: [secrets] must hold lines such as chat = \"...\"", path.display()))
        })?,
    };
    Ok(KeptSecrets { ingest_api_key: get("ingest_api_key"), admin_api_key: get("admin_api_key"), named, fresh: false })
}

fn texts(table: Option<&toml::Table>) -> Option<BTreeMap<String, String>> {
    table?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn create(path: &Path) -> Result<KeptSecrets, ConfigError> {
    let secrets = KeptSecrets {
        ingest_api_key: random_key()?,
        admin_api_key: random_key()?,
        named: BTreeMap::new(),
        fresh: true,
    };
    let text = format!(
        "# API keys made at first start. To rotate one, set the new key as MUTTD_..._API_KEY_NEXT, change the clients, then write it here.\n\
         ingest_api_key = \"{}\"\nadmin_api_key = \"{}\"\n",
        secrets.ingest_api_key, secrets.admin_api_key
    );
    let written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| ConfigError(format!("cannot write `{}`: {error}", path.display())))?;
    Ok(secrets)
}

/// The directory in which systemd puts credentials (`LoadCredential=`), one file each.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Larger files are no keys.
const MAX_SECRET: u64 = 64 << 10;

/// How the environment is asked.
type Variable<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Keys for targets, found by the name that the configuration gives them: the environment variable
/// `MUTTD_SECRET_<NAME>`, then a systemd credential of that name, then `[secrets]` in `secrets.toml`. With `_next` behind
/// the name it is the key that is tried when the first is refused.
#[derive(Default)]
pub struct NamedSecrets<'a> {
    kept: BTreeMap<String, String>,
    variable: Option<Box<Variable<'a>>>,
}

impl<'a> NamedSecrets<'a> {
    /// Looks into `kept` and asks `variable` for the environment.
    pub fn new(kept: BTreeMap<String, String>, variable: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self { kept, variable: Some(Box::new(variable)) }
    }

    /// The pair of this name; the error says where it is looked for.
    pub fn find(&self, name: &str) -> Result<SecretPair, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            return Err("a secret is named by 1 to 64 lower-case letters, digits, `-` or `_`".to_owned());
        }
        let current = self.one(name)?.ok_or_else(|| {
            format!(
                "the secret `{name}` is not set; write it into [secrets] of {SECRETS_FILE} in the data directory, or set {}",
                variable_name(name)
            )
        })?;
        let next = self.one(&format!("{name}_next"))?.unwrap_or_default();
        Ok(SecretPair::new(name, current).with_next(next))
    }

    fn one(&self, name: &str) -> Result<Option<String>, String> {
        let variable = |name: &str| self.variable.as_ref().and_then(|variable| variable(name));
        let mut found = variable(&variable_name(name));
        if found.is_none()
            && let Some(directory) = variable(CREDENTIALS)
        {
            found = credential(&Path::new(&directory).join(name))?;
        }
        let found = found.or_else(|| self.kept.get(name).cloned());
        Ok(found.map(|secret| secret.trim().to_owned()).filter(|secret| !secret.is_empty()))
    }
}

fn variable_name(secret: &str) -> String {
    format!("MUTTD_SECRET_{}", secret.to_ascii_uppercase().replace('-', "_"))
}

fn credential(path: &Path) -> Result<Option<String>, String> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_SECRET => {}
        Ok(_) => return Err(format!("`{}` is no file of a key", path.display())),
        Err(_) => return Ok(None),
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

/// A random key of 256 bits as 64 hexadecimal digits.
fn random_key() -> Result<String, ConfigError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| ConfigError(format!("the system gives no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_for_the_owner_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = load_or_create(dir.path()).expect("keys");
        let second = load_or_create(dir.path()).expect("the same keys");
        assert!(first.fresh && !second.fresh);
        assert_eq!(first.ingest_api_key, second.ingest_api_key);
        assert_eq!(first.admin_api_key.len(), 64);
        assert_ne!(first.admin_api_key, first.ingest_api_key);
        let path = dir.path().join(SECRETS_FILE);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = load_or_create(dir.path()).expect_err("a readable file is refused");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
