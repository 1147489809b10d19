//! `secrets.toml`: reads it, makes it at the first start, and replaces it as a whole. Others must not be able to read it;
//! errors name lines and members, never values. A crash while it is replaced leaves the old file or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Members, NEXT, OWN_SECRETS, SECRETS_FILE, TIMES, check_name};
use crate::config::ConfigError;
use crate::secret::Secret;

/// Thousands of keys fit; a larger file is a mistake.
const MAX_FILE: u64 = 1 << 20;

/// The file in a data directory.
pub(super) fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(SECRETS_FILE)
}

/// Reads the file, making it when it is missing; says whether it was made.
pub(super) fn load_or_create(data_dir: &Path) -> Result<(Members, bool), ConfigError> {
    match read(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(data_dir)?;
            Ok((load(data_dir)?, true))
        }
        text => Ok((parsed(data_dir, text)?, false)),
    }
}

/// Reads the file.
pub(super) fn load(data_dir: &Path) -> Result<Members, ConfigError> {
    parsed(data_dir, read(data_dir))
}

/// The admin key that the file holds, empty if none; makes nothing.
pub fn kept_admin_key(data_dir: &Path) -> Result<Secret, ConfigError> {
    Ok(load(data_dir)?.values.get("admin_api_key").cloned().unwrap_or_default())
}

/// The text of the file; refused if others can read it.
pub(super) fn read(data_dir: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(path_in(data_dir))?;
    // Of the open file, so that nobody can exchange it between the look and the reading.
    let meta = file.metadata()?;
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !meta.is_file() || meta.len() > MAX_FILE {
        return refused("it is no file of keys".to_owned());
    }
    let mode = meta.permissions().mode();
    if mode & 0o077 != 0 {
        return refused(format!("it can be read by others (mode {:o}); run `chmod 600` on it", mode & 0o777));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1));
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn parsed(data_dir: &Path, text: io::Result<Zeroizing<String>>) -> Result<Members, ConfigError> {
    let path = path_in(data_dir);
    let wrong = |why: String| ConfigError(format!("`{}`: {why}", path.display()));
    let text = text.map_err(|error| wrong(format!("it cannot be used: {error}")))?;
    parse(&text).map_err(wrong)
}

/// The members in a text.
pub(super) fn parse(text: &str) -> Result<Members, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The parser's own message quotes the line, and with it the key.
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
        let line = before.matches('\n').count() + 1;
        format!("line {line} is not valid TOML; a key is written as name = \"...\"")
    })?;
    let mut members = Members::default();
    for (name, value) in &table {
        match value {
            toml::Value::Table(named) if name == "secrets" => {
                for (name, value) in named {
                    let base = TIMES.iter().chain([&NEXT]).find_map(|ending| name.strip_suffix(ending));
                    check_name(base.unwrap_or(name)).map_err(|why| format!("`{name}` in [secrets]: {why}"))?;
                    members.insert(name.clone(), &text_of(name, value)?)?;
                }
            }
            _ if name == "secrets" => return Err("[secrets] must hold lines such as chat = \"...\"".to_owned()),
            _ if is_own(name) => members.insert(name.clone(), &text_of(name, value)?)?,
            _ => {
                return Err(format!(
                    "`{name}` is not known; secrets of targets stand below [secrets], and above it only {}, each also \
                     with `_next` behind it",
                    own_names()
                ));
            }
        }
    }
    Ok(members)
}

fn own_names() -> String {
    OWN_SECRETS.iter().map(|own| own.name).collect::<Vec<_>>().join(", ")
}

fn is_own(member: &str) -> bool {
    OWN_SECRETS.iter().any(|own| {
        member.strip_prefix(own.name).is_some_and(|rest| rest.is_empty() || rest == NEXT || TIMES.contains(&rest))
    })
}

fn text_of(name: &str, value: &toml::Value) -> Result<Zeroizing<String>, String> {
    match value {
        toml::Value::String(text) => Ok(Zeroizing::new(text.clone())),
        toml::Value::Datetime(time) => Ok(Zeroizing::new(time.to_string())),
        _ => Err(format!("`{name}` must be a text in quotes")),
    }
}

fn create(data_dir: &Path) -> Result<(), ConfigError> {
    let wrong = |why: String| ConfigError(format!("cannot make `{}`: {why}", path_in(data_dir).display()));
    let random = || Secret::random().map_err(|error| wrong(format!("the system gives no random numbers: {error}")));
    let (ingest, admin) = (random()?, random()?);
    let text = Zeroizing::new(format!(
        "# Keys made at first start. `muttd secrets rotate NAME` makes the next one; docs/SECRETS.md says how a key is \
         exchanged.\ningest_api_key = \"{}\"\nadmin_api_key = \"{}\"\n",
        ingest.reveal(),
        admin.reveal()
    ));
    replace(data_dir, &text).map_err(|error| wrong(error.to_string()))
}

/// Puts a text in the place of the file: written beside it, synced, renamed.
pub(super) fn replace(data_dir: &Path, text: &str) -> io::Result<()> {
    let path = path_in(data_dir);
    // Where a link leads, so that the link stays.
    let path = fs::canonicalize(&path).unwrap_or(path);
    let folder = path.parent().unwrap_or(data_dir);
    let fresh = path.with_extension("toml.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    // Written by root for an appliance that runs as a user of its own: that user must be able to read it.
    let owner = fs::metadata(&path).or_else(|_| fs::metadata(folder))?;
    let ours = file.metadata()?;
    if (owner.uid(), owner.gid()) != (ours.uid(), ours.gid()) {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(folder)?.sync_all()
}
