//! Lines for systemd's journal by its native protocol (systemd's JOURNAL_NATIVE_PROTOCOL document): one datagram a line,
//! each field by its name, so that `journalctl MUTTD_EVENT_ID=...` finds it.
//!
//! A line is bounded far below what a datagram of a Unix socket holds, so nothing ever needs a memory file. Sending
//! never waits: a journal that does not take a line, because it restarts or is too busy, gets it on standard error, which
//! systemd connects to it as well. Keeps nothing.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::line::LogLine;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// What stands before the names of our own fields: names without it are the journal's.
const PREFIX: &str = "MUTTD_";

/// A way to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The system's journal; fails where there is none.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Not connected: a journal that restarts has a new socket at the same place.
        socket.send_to(b"", path)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Hands a line over.
    pub(super) fn write(&self, line: &LogLine) {
        if self.socket.send_to(&datagram(line), &self.path).is_err() {
            // The number in brackets is the priority (sd-daemon(3)).
            drop(writeln!(io::stderr().lock(), "<{}>{}", line.level.priority(), line.message.replace('\n', " ")));
        }
    }
}

/// Whether standard error is the journal's: systemd names the device and inode of the stream it connected.
pub(super) fn is_stderr_the_journals(named: Option<&str>) -> bool {
    let Some((device, inode)) = named.and_then(|text| text.split_once(':')) else { return false };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(facts) = std::fs::File::from(stderr).metadata() else { return false };
    use std::os::unix::fs::MetadataExt as _;
    device.parse() == Ok(facts.dev()) && inode.parse() == Ok(facts.ino())
}

/// The line's form.
fn datagram(line: &LogLine) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + line.message.len());
    put(&mut bytes, "MESSAGE", &line.message);
    put(&mut bytes, "PRIORITY", &line.level.priority().to_string());
    put(&mut bytes, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    put(&mut bytes, "TARGET", &line.module);
    for (name, value) in &line.fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(&mut bytes, &field_name(name), &text);
    }
    bytes
}

/// `NAME=value`, or for a value of several lines its length (64 bits, little endian) and its bytes.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

/// Capital letters, digits and underscores, 64 bytes at most: the journal drops fields of other names.
fn field_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(name.chars().map(fit)).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::telemetry::logs::LogLevel;

    fn line(message: &str) -> LogLine {
        LogLine {
            id: 1,
            at: Timestamp::default(),
            level: LogLevel::Warn,
            module: "muttd::forward".into(),
            message: message.to_owned(),
            fields: vec![("event.id".into(), "e1".into()), ("attempt".into(), 2.into())],
        }
    }

    #[test]
    fn the_journal_gets_each_field_by_its_name() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("socket");
        let listening = UnixDatagram::bind(&path).expect("a socket");
        let journal = Journal::at(&path).expect("it listens");
        let receive = || {
            let mut bytes = vec![0; 1 << 16];
            let length = listening.recv(&mut bytes).expect("a datagram");
            bytes.truncate(length);
            bytes
        };
        assert!(receive().is_empty(), "the journal disregards an empty datagram");
        journal.write(&line("it broke"));
        assert_eq!(
            String::from_utf8(receive()).expect("text"),
            "MESSAGE=it broke\nPRIORITY=4\nSYSLOG_IDENTIFIER=muttd\nTARGET=muttd::forward\nMUTTD_EVENT_ID=e1\n\
             MUTTD_ATTEMPT=2\n"
        );
        journal.write(&line("two\nlines"));
        assert!(receive().starts_with(b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=4\n"));
        drop(listening);
        std::fs::remove_file(&path).expect("removed");
        journal.write(&line("to standard error, and no panic"));
        assert!(Journal::at(&path).is_err());
    }

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journals() {
        use std::os::unix::fs::MetadataExt as _;
        assert!(!is_stderr_the_journals(None));
        assert!(!is_stderr_the_journals(Some("nonsense")));
        assert!(!is_stderr_the_journals(Some("1:1")));
        let own = std::fs::metadata("/proc/self/fd/2").expect("standard error");
        assert!(is_stderr_the_journals(Some(&format!("{}:{}", own.dev(), own.ino()))));
    }
}
