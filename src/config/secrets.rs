//! API keys that nobody configured: made at first start and kept in `DIR/secrets.toml`, readable by the owner only.
//!
//! A key that is configured (file or environment) is used as it is and not written anywhere. Keys are random 256-bit
//! numbers; they are shown once, when they are made.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::ConfigError;

/// File in the data directory that holds the keys made at first start.
pub const SECRETS_FILE: &str = "secrets.toml";

/// The keys of `secrets.toml`, and which of them were made just now.
#[derive(Default)]
pub struct KeptSecrets {
    /// The ingest API key.
    pub ingest_api_key: String,
    /// The admin API key.
    pub admin_api_key: String,
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
    Ok(KeptSecrets { ingest_api_key: get("ingest_api_key"), admin_api_key: get("admin_api_key"), fresh: false })
}

fn create(path: &Path) -> Result<KeptSecrets, ConfigError> {
    let secrets = KeptSecrets { ingest_api_key: random_key()?, admin_api_key: random_key()?, fresh: true };
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
