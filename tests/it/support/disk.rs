//! File systems of a test's own: a small one in memory that can be filled. Unmounted when dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of its own in memory, unmounted when dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// One of so many MiB; `None`, with the reason on the terminal, where mounting is not allowed.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary directory");
        let size = format!("size={megabytes}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "muttd-test"]).arg(folder.path()).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                println!("NOT RUN: no file system could be mounted here: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => panic!("`mount` could not be started: {error}"),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast-of-the-test")
    }

    /// Takes every free byte.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("the file can be made");
        for size in [1 << 20, 4 << 10] {
            let block = vec![1_u8; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    /// Takes every free byte but so many.
    pub fn fill_but(&self, left: u64) {
        self.fill();
        let file = File::options().write(true).open(self.ballast()).expect("the file is there");
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(left)).expect("it can be cut");
    }

    /// Gives back what was taken.
    pub fn empty(&self) {
        fs::remove_file(self.ballast()).expect("the file can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.path().display());
        }
    }
}
