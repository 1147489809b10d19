//! Keeps the memory of the process to itself: no core file holds a key, and no other process of the same user reads or
//! traces it. The kernel forgets both settings with the process.

use std::io;

/// Forbids core files and, by `prctl(2)`, dumps and tracing of this process. An error names what the kernel refused; the
/// process can go on without it.
pub fn keep_memory_private() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a whole `rlimit` that outlives the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (not_dumpable, unused): (libc::c_ulong, libc::c_ulong) = (0, 0);
    // SAFETY: PR_SET_DUMPABLE takes one number and touches no memory of ours; the others must be zero.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, not_dumpable, unused, unused, unused) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
