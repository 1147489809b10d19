//! Notices that a file of secrets changed, by its metadata: no content is read for it, and nothing is kept.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::file::path_in;

/// Files of a credentials directory that are looked at; there are a handful.
const MOST_FILES: usize = 256;

/// How the files of secrets looked at one moment: for each its inode, size and times of change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Option<[i64; 6]>>);

impl Fingerprint {
    /// Looks at `secrets.toml` of a data directory and at systemd's credentials.
    pub fn take(data_dir: &Path) -> Self {
        let credentials = std::env::var_os(super::CREDENTIALS).map(PathBuf::from);
        let entries = credentials.and_then(|directory| std::fs::read_dir(directory).ok());
        let mut files: Vec<PathBuf> =
            entries.into_iter().flatten().flatten().take(MOST_FILES).map(|entry| entry.path()).collect();
        files.push(path_in(data_dir));
        Self(files.into_iter().map(|file| (file.clone(), look(&file))).collect())
    }
}

/// The time of change counts besides that of modification: it moves with the mode.
fn look(file: &Path) -> Option<[i64; 6]> {
    let meta = std::fs::metadata(file).ok()?;
    let unsigned = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Some([unsigned(meta.ino()), unsigned(meta.len()), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_new_content_a_new_mode_and_a_removal_are_noticed() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = path_in(folder.path());
        let mut seen = vec![Fingerprint::take(folder.path())];
        std::fs::write(&path, "a").expect("written");
        seen.push(Fingerprint::take(folder.path()));
        assert_eq!(seen[1], Fingerprint::take(folder.path()), "nothing happened");
        std::fs::write(&path, "ab").expect("written");
        seen.push(Fingerprint::take(folder.path()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("chmod");
        seen.push(Fingerprint::take(folder.path()));
        std::fs::remove_file(&path).expect("removed");
        seen.push(Fingerprint::take(folder.path()));
        for pair in seen.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        assert_eq!(seen[0], seen[4]);
    }
}
