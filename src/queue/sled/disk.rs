//! What the queues ask of the file system: free space, durable directory entries, the lock, the ballast.
//! Knows nothing of records. After a crash the lock is free again, because the kernel holds it, not the file.

use std::ffi::CString;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Bytes that an ordinary user may still write to the file system of `path`.
pub(in crate::queue) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a C string that outlives the call, `answer` is memory of the right type and size.
    let result = unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the memory was zeroed, which is a valid value of this plain C struct, and then filled by the kernel.
    let answer = unsafe { answer.assume_init() };
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

/// Makes the entries of a directory durable.
pub(in crate::queue) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a directory, owner only, and makes its entry durable.
pub(in crate::queue) fn create_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Takes the lock of a directory. A process that is just stopping gets a second to let go.
pub(in crate::queue) fn lock_dir(dir: &Path) -> io::Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(dir.join("lock"))?;
    for _ in 0..50 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        format!("another process uses {}; stop it or choose another data directory", dir.display()),
    ))
}

/// Whether a process uses the queues in this directory.
pub fn is_in_use(queues: &Path) -> bool {
    let lock = File::options().write(true).open(queues.join("events").join("lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// A file that only takes room, and gives it up when a full disk would keep the queues from opening.
pub(in crate::queue) struct Ballast<'a> {
    dir: &'a Path,
    bytes: u64,
}

impl<'a> Ballast<'a> {
    /// Of this many bytes in this directory.
    pub(in crate::queue) fn new(dir: &'a Path, bytes: u64) -> Self {
        Self { dir, bytes }
    }

    /// Gives the room up if the disk has less than that free.
    pub(in crate::queue) fn drop_if_needed(&self) -> io::Result<()> {
        let file = self.dir.join("ballast");
        if file.exists() && free_bytes(self.dir)? < self.bytes {
            std::fs::remove_file(file)?;
            tracing::warn!("The disk of {} is full: the ballast was dropped to open the queues", self.dir.display());
        }
        Ok(())
    }

    /// Takes the room if the disk has twice as much and `reserve` to spare; otherwise leaves it for another start.
    pub(in crate::queue) fn take_if_possible(&self, reserve: u64) -> io::Result<()> {
        let path = self.dir.join("ballast");
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        if size == self.bytes || free_bytes(self.dir)? < reserve.saturating_add(self.bytes.saturating_mul(2)) {
            return Ok(());
        }
        let file = File::options().create(true).write(true).truncate(true).open(path)?;
        allocate(&file, self.bytes)
    }
}

/// Reserves blocks for a file, so that it is not merely long.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for writing and stays open during the call, which touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
