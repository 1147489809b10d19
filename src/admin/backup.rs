//! Backups: one archive (tar, gzip) of what cannot be made again: rules, hosts, teams, settings, targets, users, keys and the
//! change log with the keys of its chain; on request the secrets and the event audit. What is in the queues is not in it:
//! it is work under way, not configuration.
//!
//! The configuration database and the chain's anchor are copied while nothing is written, so they fit each other. The copy
//! is made beside the data first and removed when the archive was sent, or by the next backup if the process died. An
//! archive begins with a manifest that has every file's size and SHA-256. Restoring reads the whole archive and verifies
//! it before it touches anything, and keeps what it replaces.

mod archive;
mod restore;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use restore::{Restored, restore, verify_backup};

use super::status::VERSION;
use super::{Actor, Admin, AdminError};
use crate::model::Timestamp;
use crate::store::{Action, copy_database};

/// The folder in which a backup is put together, below the data directory.
const WORKSHOP: &str = "backup.tmp";

/// The first file of an archive.
const MANIFEST: &str = "manifest.json";

/// The form of the archive.
const FORMAT: u32 = 1;

/// What goes into a backup besides what always does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupOptions {
    /// `secrets.toml` and the appliance's own TLS key.
    pub secrets: bool,
    /// The event audit.
    pub audit: bool,
}

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The version of the program that made it.
    pub version: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Whether secrets are in it.
    pub secrets: bool,
    /// Whether the event audit is in it.
    pub audit: bool,
    /// Every other file, in the archive's order.
    pub files: Vec<ManifestFile>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its path below the data directory.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of them, in hexadecimal.
    pub sha256: String,
}

/// A backup that is put together and waits to be written; dropping it removes the copy.
#[derive(Debug)]
pub struct Backup {
    manifest: Manifest,
    workshop: PathBuf,
    created: Timestamp,
    /// Only one is made at a time.
    _turn: tokio::sync::OwnedSemaphorePermit,
}

impl Admin {
    /// Puts a backup together; a line in the change log says who took it.
    pub async fn backup(
        &self,
        options: BackupOptions,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Backup, AdminError> {
        let busy = |_| AdminError::Conflict("another backup is under way; try again when it is done".into());
        let turn = std::sync::Arc::clone(&self.backups).try_acquire_owned().map_err(busy)?;
        let new = serde_json::json!({"secrets": options.secrets, "audit": options.audit});
        let action = Action { kind: "backups", record_id: "backup".into(), old: None, new: Some(new) };
        self.parts.stores.changes.note_action(action, &actor.change(reason)?).await?;
        let (data, created) = (self.parts.data_dir.clone(), self.parts.clock.now());
        let workshop = data.join(WORKSHOP);
        let made = workshop.clone();
        blocking(move || make_workshop(&made)).await?;
        self.parts.stores.changes.snapshot(workshop.join("store")).await?;
        let folder = workshop.clone();
        let manifest = blocking(move || {
            gather(&data, &folder, options)?;
            describe(&folder, options, created)
        });
        match manifest.await {
            Ok(manifest) => Ok(Backup { manifest, workshop, created, _turn: turn }),
            Err(error) => {
                drop(fs::remove_dir_all(&workshop));
                Err(error)
            }
        }
    }
}

impl Backup {
    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A name for the file: `muttd-backup-20260301T120000Z.tar.gz`.
    pub fn file_name(&self) -> String {
        format!("muttd-backup-{}.tar.gz", self.created.to_utc().format("%Y%m%dT%H%M%SZ"))
    }

    /// Writes the archive. Blocks.
    pub fn write(self, into: impl Write) -> io::Result<()> {
        let packed = flate2::write::GzEncoder::new(into, flate2::Compression::fast());
        let mut tar = archive::Writer::new(packed, self.created.as_seconds());
        tar.append(MANIFEST, &mut serde_json::to_vec_pretty(&self.manifest)?.as_slice())?;
        for file in &self.manifest.files {
            let mut from = fs::File::open(self.workshop.join(&file.path))?;
            tar.append_sized(&file.path, file.size, &mut from)?;
        }
        tar.finish()?.finish()?.flush()
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        // What is left is removed by the next backup.
        drop(fs::remove_dir_all(&self.workshop));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, AdminError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
    done.map_err(|error| AdminError::Unavailable(format!("the backup cannot be made: {error}")))
}

fn make_workshop(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join("store"))
}

/// Copies what is no part of the configuration database.
fn gather(data: &Path, workshop: &Path, options: BackupOptions) -> io::Result<()> {
    copy_if_there(data, workshop, "muttd.toml")?;
    if options.secrets {
        copy_if_there(data, workshop, "secrets.toml")?;
        copy_files(&data.join("tls"), &workshop.join("tls"))?;
    }
    let (from, to) = (data.join("store/audit"), workshop.join("store/audit"));
    if options.audit && from.is_dir() {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "db")
                && let Some(name) = path.file_name()
            {
                copy_database(&path, &to.join(name)).map_err(io::Error::other)?;
            }
        }
    }
    Ok(())
}

fn copy_if_there(from: &Path, to: &Path, name: &str) -> io::Result<()> {
    match fs::copy(from.join(name), to.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies the files of a folder, if it is there; not what lies in folders below.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn describe(workshop: &Path, options: BackupOptions, created: Timestamp) -> io::Result<Manifest> {
    let mut paths = Vec::new();
    list(workshop, "", &mut paths)?;
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let place = workshop.join(&path);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600))?;
        let (size, sha256) = digest(&mut fs::File::open(&place)?)?;
        files.push(ManifestFile { path, size, sha256 });
    }
    let BackupOptions { secrets, audit } = options;
    Ok(Manifest { format: FORMAT, version: VERSION.to_owned(), created_at: created.to_string(), secrets, audit, files })
}

/// Paths of files below `folder`, with `/`.
fn list(folder: &Path, prefix: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// Bytes and SHA-256 of what is left to read.
fn digest(from: &mut impl io::Read) -> io::Result<(u64, String)> {
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 << 10]);
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::RuleInput;
    use crate::admin::testing::TestAdmin;
    use crate::clock::Clock;

    #[tokio::test]
    async fn a_backup_is_verified_and_restored_and_damage_is_found() {
        let house = TestAdmin::new().await;
        let actor = Actor::new("alice", "c-1");
        let rule = RuleInput {
            match_string: "down".into(),
            prod_handling: "Page_only".into(),
            team_assignment: "NETO".into(),
            is_active: true,
            ..RuleInput::default()
        };
        house.admin.create_rule(rule.check().expect("valid"), &actor, None).await.expect("made");
        let options = BackupOptions { audit: true, ..BackupOptions::default() };
        let backup = house.admin.backup(options, &actor, Some("CHG-1")).await.expect("made");
        assert!(house.admin.backup(options, &actor, None).await.is_err(), "one at a time");
        let workshop = backup.workshop.clone();
        let mut archive = Vec::new();
        backup.write(&mut archive).expect("written");
        assert!(!workshop.exists(), "nothing is left");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("backup.tar.gz");
        fs::write(&file, &archive).expect("written");
        let manifest = verify_backup(&file, &Clock::system()).expect("whole");
        assert!(manifest.files.iter().any(|file| file.path == "store/trail/chain.key"), "{manifest:?}");
        assert!(!manifest.files.iter().any(|file| file.path == "secrets.toml"));
        let data = dir.path().join("data");
        let restored = restore(&file, &data, false, &Clock::system()).expect("restored");
        assert_eq!(restored.replaced, None);
        assert!(data.join("store/config.db").exists());
        let refused = restore(&file, &data, false, &Clock::system()).expect_err("there is something");
        assert!(refused.to_string().contains("--force"), "{refused}");
        let again = restore(&file, &data, true, &Clock::system()).expect("restored");
        assert!(again.replaced.expect("kept").join("store/config.db").exists());
        // A single byte of the compressed stream may be the code of something that does not occur, and mean nothing.
        let middle = archive.len() / 2;
        archive[middle..middle + 64].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(&file, &archive).expect("written");
        assert!(verify_backup(&file, &Clock::system()).is_err());
        assert!(restore(&file, &dir.path().join("other"), false, &Clock::system()).is_err());
        assert!(!dir.path().join("other/store").exists(), "a damaged archive touches nothing");
    }
}
