//! The real clients: `logger`, `snmptrap`, `curl`, `rsyslogd`, `chromium` as child processes.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

/// A client to be run.
pub struct Tool {
    name: &'static str,
    command: Command,
}

impl Tool {
    /// Finds `name`; the test fails, saying how to get it, if it is not installed.
    pub fn new(name: &'static str) -> Self {
        let path = find(name).unwrap_or_else(|| panic!("`{name}` is not installed; run tests/run, which installs it"));
        let mut command = Command::new(path);
        // net-snmp would read MIB files and the machine's own settings; the tests use plain numbers.
        command.env("MIBS", "").env("SNMPCONFPATH", "/nonexistent").env("LC_ALL", "C");
        Self { name, command }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Runs it to its end, whatever that is.
    pub fn output(mut self) -> Output {
        self.command.output().unwrap_or_else(|error| panic!("`{}` could not be started: {error}", self.name))
    }

    /// Runs it to its end, which must be success; returns what it printed.
    pub fn succeed(self) -> String {
        let name = self.name;
        let output = self.output();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{name}` failed ({}): {errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The command, for children that go on running.
    pub fn into_command(self) -> Command {
        self.command
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| PathBuf::from(folder).join(name)).find(|file| file.is_file())
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal(child: &Child, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(child.id()).expect("a process id fits");
    // SAFETY: `kill` touches no memory of ours; the child was not waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the signal could not be sent");
}

/// This machine's name, as `logger` sends it.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the kernel tells its host name");
    name.trim().to_owned()
}
