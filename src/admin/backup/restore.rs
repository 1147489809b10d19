//! Reading a backup: verifying it, and putting it into a data directory that no process uses. The archive is unpacked beside
//! its place and checked as a whole, hash by hash and link by link of the change log, before anything is moved; what is
//! replaced is kept. A crash in between leaves the old files or, in the folder of what was replaced, all of them.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::{FORMAT, MANIFEST, Manifest, archive, digest};
use crate::admin::{AdminError, verify_in};
use crate::clock::Clock;
use crate::queue::is_in_use;

/// Longest manifest, in bytes: some thousand files.
const MAX_MANIFEST: u64 = 4 << 20;

/// Entries of a data directory that a backup can hold, the outermost part of their paths.
const KNOWN: [&str; 4] = ["store", "muttd.toml", "secrets.toml", "tls"];

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was in the archive.
    pub manifest: Manifest,
    /// Where that is which was there before, if there was something.
    pub replaced: Option<PathBuf>,
}

/// Reads a whole backup and compares it with its manifest and the change log with its chain. Blocks.
pub fn verify_backup(file: &Path, clock: &Clock) -> Result<Manifest, AdminError> {
    let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let workshop = Workshop::new(beside)?;
    unpack(file, &workshop.0, clock)
}

/// Puts a backup into a data directory. What is there already is only replaced with `force`, and kept beside. Blocks.
pub fn restore(file: &Path, data: &Path, force: bool, clock: &Clock) -> Result<Restored, AdminError> {
    if is_in_use(&data.join("queues")) {
        let why = format!("a process uses the data directory `{}`; stop it first", data.display());
        return Err(AdminError::Conflict(why));
    }
    let there: Vec<&str> = KNOWN.into_iter().filter(|name| data.join(name).exists()).collect();
    if data.join("store/config.db").exists() && !force {
        let why = format!("the data directory `{}` holds a configuration; --force replaces it", data.display());
        return Err(AdminError::Conflict(why));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| failed(data, &error))?;
    let workshop = Workshop::new(data)?;
    let manifest = unpack(file, &workshop.0, clock)?;
    let now = clock.now().to_utc().format("%Y%m%dT%H%M%SZ");
    let replaced = data.join(format!("replaced-{now}"));
    let mut kept = false;
    let mut keep = |path: &str| -> io::Result<()> {
        let old = data.join(path);
        if old.exists() {
            let place = replaced.join(path);
            fs::create_dir_all(place.parent().unwrap_or(&replaced))?;
            fs::rename(&old, place)?;
            kept = true;
        }
        Ok(())
    };
    let moved = (|| {
        if !there.is_empty() {
            for path in ["store/config.db", "store/config.db-wal", "store/config.db-shm", "store/trail"] {
                keep(path)?;
            }
        }
        for file in &manifest.files {
            keep(&file.path)?;
            let place = data.join(&file.path);
            fs::create_dir_all(place.parent().unwrap_or(data))?;
            fs::rename(workshop.0.join(&file.path), place)?;
        }
        own_as(data)
    })();
    moved.map_err(|error: io::Error| failed(data, &error))?;
    Ok(Restored { manifest, replaced: kept.then_some(replaced) })
}

/// A folder for unpacking that is removed in the end.
struct Workshop(PathBuf);

impl Workshop {
    fn new(beside: &Path) -> Result<Self, AdminError> {
        let mut random = [0_u8; 6];
        getrandom::fill(&mut random).map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = beside.join(format!(".muttd-restore-{name}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, &error))?;
        Ok(Self(folder))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed is found by its name.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Unpacks an archive into an empty folder and checks all of it.
fn unpack(file: &Path, folder: &Path, clock: &Clock) -> Result<Manifest, AdminError> {
    let manifest = unpack_files(file, folder).map_err(|error| AdminError::Invalid {
        field: None,
        why: format!("`{}` is no whole backup: {error}", file.display()),
    })?;
    let report = verify_in(folder, &[], clock)?;
    if !report.is_whole() {
        let why = report.faults.first().map(|fault| fault.why.clone()).unwrap_or_default();
        let why = format!("the change log in `{}` is not as it was written: {why}", file.display());
        return Err(AdminError::Invalid { field: None, why });
    }
    Ok(manifest)
}

fn unpack_files(file: &Path, folder: &Path) -> io::Result<Manifest> {
    let mut from = io::BufReader::new(flate2::read::GzDecoder::new(fs::File::open(file)?));
    let first = archive::next(&mut from)?.filter(|(name, size)| name == MANIFEST && *size <= MAX_MANIFEST);
    let (_, size) = first.ok_or_else(|| io::Error::other("it does not begin with a manifest"))?;
    let mut text = Vec::new();
    from.by_ref().take(size).read_to_end(&mut text)?;
    skip(&mut from, archive::padding(size))?;
    let manifest: Manifest = serde_json::from_slice(&text)?;
    if manifest.format != FORMAT {
        return Err(io::Error::other(format!("its format {} is not one of this version", manifest.format)));
    }
    for wanted in &manifest.files {
        let found = archive::next(&mut from)?;
        if found.as_ref() != Some(&(wanted.path.clone(), wanted.size)) || !is_harmless(&wanted.path) {
            return Err(io::Error::other("its files are not those of its manifest"));
        }
        let place = folder.join(&wanted.path);
        fs::create_dir_all(place.parent().unwrap_or(folder))?;
        let mut into = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
        io::copy(&mut from.by_ref().take(wanted.size), &mut into)?;
        into.sync_all()?;
        skip(&mut from, archive::padding(wanted.size))?;
        if digest(&mut fs::File::open(&place)?)? != (wanted.size, wanted.sha256.clone()) {
            return Err(io::Error::other(format!("`{}` is not as it was written", wanted.path)));
        }
    }
    if archive::next(&mut from)?.is_some() {
        return Err(io::Error::other("it holds files that its manifest does not name"));
    }
    // To the end, so that the checksum of the compressed stream is compared too.
    io::copy(&mut from, &mut io::sink())?;
    Ok(manifest)
}

fn skip(from: &mut impl io::Read, bytes: u64) -> io::Result<()> {
    io::copy(&mut from.take(bytes), &mut io::sink()).map(|_| ())
}

/// A path below one of the known entries, without steps up.
fn is_harmless(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let first = matches!(parts.next(), Some(Component::Normal(name)) if KNOWN.iter().any(|known| name == *known));
    first && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Root restores for an appliance that runs as a user of its own: its files belong to whom the data directory belongs to.
fn own_as(data: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(data)?;
    let mut open: Vec<PathBuf> = KNOWN.iter().map(|name| data.join(name)).filter(|path| path.exists()).collect();
    while let Some(path) = open.pop() {
        std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
        // Links are not followed: they may lead anywhere.
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}

fn failed(place: &Path, error: &io::Error) -> AdminError {
    AdminError::Unavailable(format!("`{}`: {error}", place.display()))
}
