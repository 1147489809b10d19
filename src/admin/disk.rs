//! How much room there is: free bytes of the file system, and bytes under the data directory. Reads only; every call
//! here blocks and belongs on a blocking thread.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most files looked at when adding up a directory: a bound for a directory nobody expected.
const MAX_FILES: usize = 100_000;

/// Room on the file system that holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes this process may still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Bytes under one entry of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataUsage {
    /// The entry's name.
    pub name: String,
    /// Its bytes, everything below included.
    pub bytes: u64,
}

/// Room on the file system that holds `path`.
pub(super) fn space(path: &Path) -> Option<DiskSpace> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a NUL-terminated string that lives over the call, and `stat` points to writable memory of the
    // size of `statvfs`; the call keeps neither pointer.
    let answer = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if answer != 0 {
        return None;
    }
    // SAFETY: all-zero bytes are a valid `statvfs` (it holds integers only), and the call has filled it in.
    let stat = unsafe { stat.assume_init() };
    let unit = stat.f_frsize;
    Some(DiskSpace { free: stat.f_bavail.saturating_mul(unit), total: stat.f_blocks.saturating_mul(unit) })
}

/// Bytes this process may still write to the file system that holds `path`, if they can be told.
pub fn free_bytes(path: &Path) -> Option<u64> {
    space(path).map(|space| space.free)
}

/// Bytes under each entry of `dir`, largest first. What cannot be read counts as nothing.
pub(super) fn usage(dir: &Path) -> Vec<DataUsage> {
    let mut left = MAX_FILES;
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut usage: Vec<DataUsage> = entries
        .filter_map(Result::ok)
        .map(|entry| DataUsage {
            name: entry.file_name().to_string_lossy().into_owned(),
            bytes: bytes_below(&entry.path(), &mut left),
        })
        .collect();
    usage.sort_by(|left, right| right.bytes.cmp(&left.bytes).then_with(|| left.name.cmp(&right.name)));
    usage
}

fn bytes_below(path: &Path, left: &mut usize) -> u64 {
    let mut total = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        // Symbolic links are not followed: they could lead in a circle or out of the directory.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
            waiting.extend(entries.map(|entry| entry.path()).take(*left));
        } else {
            total += metadata.len();
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_added_up_below_each_entry() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("queue/deep")).expect("made");
        fs::write(dir.path().join("queue/deep/a"), [0; 300]).expect("written");
        fs::write(dir.path().join("config.db"), [0; 20]).expect("written");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("queue/loop")).expect("linked");
        let usage = usage(dir.path());
        assert_eq!(usage[0].name, "queue");
        assert!(usage[0].bytes >= 300 && usage[0].bytes < 300 + 4_096);
        assert_eq!((usage[1].name.as_str(), usage[1].bytes), ("config.db", 20));
    }

    #[test]
    fn a_file_system_has_no_more_free_than_it_has_at_all() {
        let space = space(Path::new("/")).expect("the root exists");
        assert!(space.free <= space.total && space.total > 0);
        assert_eq!(super::space(Path::new("/does/not/exist")), None);
    }
}
