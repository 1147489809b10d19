//! The manifest: everything that was ever done to the archive, one JSON line each, appended and synced, never altered.
//!
//! Each line carries the SHA-256 of itself and of the line before it, and an HMAC under the key that seals the change log
//! (ADR-015). Number and hash of the last line are anchored in a file elsewhere, so that lines that were cut off show. What
//! files there are and what state they are in is nothing but the sum of the lines.
//!
//! After a crash the anchor may be one line behind; half a line at the end was never answered for and is cut off. A manifest
//! that does not fit itself, its keys or its anchor is in *doubt*: it can be read, and nothing is removed by it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::index::hex;
use super::name::FileName;
use super::point;
use super::writer::FileFacts;
use crate::model::{Day, Timestamp};
use crate::store::sqlite::TrailKey as Key;

/// The manifest's name in the archive's folder.
pub(super) const MANIFEST: &str = "manifest.ndjson";
/// The anchor's name beside that of the change log.
const ANCHOR: &str = "manifest.json";
/// Says what is hashed and how.
const DOMAIN: &str = "muttd archive manifest 1";

/// Why a file was deleted or rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is older than archives are kept.
    Expired,
    /// The archive had more bytes than it may.
    Cap,
    /// A host's data was erased.
    Erased,
}

impl Reason {
    /// The word in metrics, logs and the change log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cap => "cap",
            Self::Erased => "erased",
        }
    }
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Act {
    /// A day's events were written into a file and read back. They are still in the audit.
    Archived {
        /// The file.
        file: FileFacts,
    },
    /// The events of a file are in the audit no more.
    Settled {
        /// The file.
        name: String,
        /// Rows that were removed.
        removed: u64,
    },
    /// Events were taken out of a file: a new one stands in its place.
    Rewritten {
        /// The old file.
        name: String,
        /// The new file; none if nothing was left.
        file: Option<FileFacts>,
        /// Why.
        reason: Reason,
        /// Events that were taken out.
        removed: u64,
    },
    /// A file was deleted with all that was in it.
    Deleted {
        /// The file.
        name: String,
        /// Why.
        reason: Reason,
        /// Events in it.
        rows: u64,
    },
    /// The events of a file were put into the audit again.
    Restored {
        /// The file.
        name: String,
        /// Until when, in microseconds since 1970.
        until: i64,
        /// Who asked for it.
        by: String,
    },
    /// The copies of a restored file were removed from the audit.
    Returned {
        /// The file.
        name: String,
        /// Rows that were removed.
        removed: u64,
    },
    /// A person accepted a manifest that was in doubt.
    Accepted {
        /// What was wrong.
        doubt: String,
        /// Who accepted it.
        by: String,
        /// The copy of the manifest as it was found.
        evidence: String,
    },
}

/// A line as it lies in the file; `act` is hashed as it was written.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    n: u64,
    at: String,
    #[serde(borrow)]
    act: &'a RawValue,
    prev: String,
    hash: String,
    mac: String,
}

/// A line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub n: u64,
    /// When.
    pub at: Timestamp,
    /// What was done.
    pub act: Act,
    /// Its hash.
    pub hash: String,
}

/// What state a file is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// What it is.
    pub facts: FileFacts,
    /// When it was written.
    pub at: Timestamp,
    /// Whether its events are in the audit no more (a restored copy aside).
    pub settled: bool,
    /// Until when a copy of its events is in the audit.
    pub restored_until: Option<Timestamp>,
}

/// The sum of the lines.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Number of lines.
    pub entries: u64,
    /// Hash of the last.
    pub head: String,
    /// The files there are, oldest day first.
    pub files: BTreeMap<FileName, FileState>,
    /// The highest number given to a file of a day, so that no name is used twice.
    numbers: BTreeMap<Day, u32>,
}

impl State {
    /// The name for the next file of `day`.
    pub fn next_name(&self, day: Day) -> FileName {
        FileName { day, number: self.numbers.get(&day).map_or(1, |number| number + 1) }
    }

    /// Whether a file of that name was ever written: if it is not among the files, it is no more.
    pub(super) fn knew(&self, name: FileName) -> bool {
        self.numbers.get(&name.day).is_some_and(|number| name.number <= *number)
    }

    fn add(&mut self, facts: &FileFacts, at: Timestamp, settled: bool) {
        let Ok(name) = facts.name.parse::<FileName>() else { return };
        let number = self.numbers.entry(name.day).or_default();
        *number = (*number).max(name.number);
        self.files.insert(name, FileState { facts: facts.clone(), at, settled, restored_until: None });
    }

    fn remove(&mut self, name: &str) {
        let Ok(name) = name.parse::<FileName>() else { return };
        self.files.remove(&name);
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut FileState)) {
        if let Some(file) = name.parse().ok().and_then(|name: FileName| self.files.get_mut(&name)) {
            change(file);
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match &entry.act {
            Act::Archived { file } => self.add(file, entry.at, false),
            Act::Settled { name, .. } => self.change(name, |file| file.settled = true),
            Act::Rewritten { name, file, .. } => {
                self.remove(name);
                if let Some(file) = file {
                    self.add(file, entry.at, true);
                }
            }
            Act::Deleted { name, .. } => self.remove(name),
            Act::Restored { name, until, .. } => {
                self.change(name, |file| file.restored_until = Some(Timestamp::from_micros(*until)));
            }
            Act::Returned { name, .. } => self.change(name, |file| file.restored_until = None),
            Act::Accepted { .. } => {}
        }
        self.entries = entry.n;
        self.head.clone_from(&entry.hash);
    }
}

/// The anchor's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    entries: u64,
    hash: String,
    mac: String,
}

/// The manifest of one archive.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    anchor: PathBuf,
    key: Key,
    /// Bytes of whole lines.
    length: u64,
    /// The sum of the lines.
    pub state: State,
    /// What is wrong with it; nothing is removed while something is.
    pub doubt: Option<String>,
}

impl Manifest {
    /// Reads the manifest in `folder`; none there is an empty one. `key` also says where the anchor lies.
    pub(super) fn open(folder: &Path, key: Key) -> io::Result<Self> {
        let (path, anchor) = (folder.join(MANIFEST), key.folder().join(ANCHOR));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut manifest = Self { path, anchor, key, length: 0, state: State::default(), doubt: None };
        let anchored = manifest.read_anchor();
        let mut met = matches!(&anchored, Ok(None)) || matches!(&anchored, Ok(Some(anchor)) if anchor.entries == 0);
        let walked = manifest.walk(&text, |entry| {
            met |= matches!(&anchored, Ok(Some(anchor)) if anchor.entries == entry.n && anchor.hash == entry.hash);
        });
        manifest.length = walked.whole;
        manifest.doubt = match (walked.fault, anchored) {
            (Some(fault), _) => Some(fault),
            (None, Err(why)) => Some(why),
            (None, Ok(None)) if manifest.state.entries > 1 => Some("its anchor is missing".to_owned()),
            (None, Ok(Some(anchor))) if !met => Some(format!(
                "its anchor says {} lines that end in another hash, and there are {}: lines were cut off or altered",
                anchor.entries, manifest.state.entries
            )),
            (None, Ok(_)) => None,
        };
        if manifest.doubt.is_none() {
            if manifest.length < text.len() as u64 {
                // Half a line that a crash left: nobody was answered for it.
                OpenOptions::new().write(true).open(&manifest.path)?.set_len(manifest.length)?;
            }
            manifest.put_anchor()?;
        }
        Ok(manifest)
    }

    /// Reads the file again and compares it with what is known of it: somebody may have altered it since it was opened.
    pub(super) fn look(&mut self) -> io::Result<()> {
        if self.doubt.is_some() {
            return Ok(());
        }
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found?,
        };
        let mut reader = self.blank();
        let fault = reader.walk(&text, |_| ()).fault;
        let is_known = reader.state.head == self.state.head && text.len() as u64 == self.length;
        self.doubt = match fault {
            Some(fault) => Some(fault),
            None if is_known => None,
            None => Some(format!(
                "there were {} lines of {} bytes, and now there are {} of {}: it was altered while the appliance ran",
                self.state.entries,
                self.length,
                reader.state.entries,
                text.len()
            )),
        };
        if let Some(doubt) = &self.doubt {
            tracing::error!(
                "The manifest of the archive is in doubt: {doubt}; nothing is archived or deleted until it is accepted, see RETENTION.md"
            );
        }
        Ok(())
    }

    /// Every line, oldest first, read anew.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let text = fs::read(&self.path)?;
        let mut entries = Vec::new();
        let mut reader = Self { state: State::default(), ..self.blank() };
        reader.walk(&text, |entry| entries.push(entry.clone()));
        Ok(entries)
    }

    fn blank(&self) -> Self {
        Self {
            path: self.path.clone(),
            anchor: self.anchor.clone(),
            key: self.key.clone(),
            length: 0,
            state: State::default(),
            doubt: None,
        }
    }

    fn walk(&mut self, text: &[u8], mut each: impl FnMut(&Entry)) -> Walked {
        let mut whole = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = line.ends_with(b"\n");
            let read = std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(|line| self.read(line));
            match read {
                Ok(entry) if is_whole => {
                    self.state.apply(&entry);
                    each(&entry);
                    whole += line.len() as u64;
                }
                // A crash can only leave the last line unfinished.
                _ if !is_whole => break,
                Ok(_) => {}
                Err(why) => {
                    return Walked { whole, fault: Some(format!("line {}: {why}", self.state.entries + 1)) };
                }
            }
        }
        Walked { whole, fault: None }
    }

    fn read(&self, text: &str) -> Result<Entry, String> {
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if line.n != self.state.entries + 1 || line.prev != self.state.head {
            return Err("it does not follow the line before it".to_owned());
        }
        if line.hash != link(line.n, &line.at, &line.prev, line.act.get()) {
            return Err("it was altered".to_owned());
        }
        if !self.key.verifies(line.hash.as_bytes(), &line.mac) {
            return Err("it was not written by this appliance".to_owned());
        }
        let at = Timestamp::parse_rfc3339(&line.at).ok_or("its time cannot be read")?;
        let act = serde_json::from_str(line.act.get()).map_err(|error| error.to_string())?;
        Ok(Entry { n: line.n, at, act, hash: line.hash })
    }

    /// Appends a line; it is on stable storage when this returns.
    pub(super) fn append(&mut self, at: Timestamp, act: Act) -> io::Result<Entry> {
        if let Some(doubt) = &self.doubt {
            return Err(io::Error::other(format!("the manifest of the archive is in doubt: {doubt}")));
        }
        let (n, prev) = (self.state.entries + 1, self.state.head.clone());
        let text = serde_json::value::to_raw_value(&act)?;
        let when = at.to_string();
        let hash = link(n, &when, &prev, text.get());
        let mac = self.key.mac(hash.as_bytes()).ok_or_else(|| io::Error::other("the key of the seal is missing"))?;
        let line = Line { n, at: when, act: &text, prev, hash: hash.clone(), mac };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let fresh = self.length == 0;
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_all()) {
            // Half a line would stand in the way of the next one. If this fails too, the next start cuts it off.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        if fresh && let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        point("manifest line written");
        self.length += bytes.len() as u64;
        let entry = Entry { n, at, act, hash };
        self.state.apply(&entry);
        self.put_anchor()?;
        Ok(entry)
    }

    fn read_anchor(&self) -> Result<Option<Anchor>, String> {
        let text = match fs::read_to_string(&self.anchor) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its anchor cannot be read: {error}")),
        };
        let strange = || "its anchor was not written by this appliance".to_owned();
        let anchor: Anchor = serde_json::from_str(&text).map_err(|_| strange())?;
        let is_ours = self.key.verifies(&anchor_bytes(anchor.entries, &anchor.hash), &anchor.mac);
        if is_ours { Ok(Some(anchor)) } else { Err(strange()) }
    }

    fn put_anchor(&self) -> io::Result<()> {
        let (entries, hash) = (self.state.entries, self.state.head.clone());
        let Some(mac) = self.key.mac(&anchor_bytes(entries, &hash)) else { return Ok(()) };
        let anchor = Anchor { entries, hash, mac };
        let text = serde_json::to_vec(&anchor)?;
        if fs::read(&self.anchor).is_ok_and(|there| there == text) {
            return Ok(());
        }
        super::write_whole(&self.anchor, &text)
    }

    /// Puts a copy of the manifest aside and begins a new one with what `files` are there.
    pub(super) fn begin_anew(
        &mut self,
        at: Timestamp,
        by: &str,
        files: Vec<FileFacts>,
        evidence: String,
    ) -> io::Result<()> {
        let doubt = self.doubt.clone().unwrap_or_default();
        if self.path.exists() {
            fs::rename(&self.path, self.path.with_file_name(&evidence))?;
        }
        let numbers = std::mem::take(&mut self.state.numbers);
        *self = self.blank();
        self.state.numbers = numbers;
        self.append(at, Act::Accepted { doubt, by: by.to_owned(), evidence })?;
        for file in files {
            // What of it was removed from the audit is not known any more; removing it again does no harm.
            self.append(at, Act::Archived { file })?;
        }
        Ok(())
    }
}

/// How far a walk came.
struct Walked {
    whole: u64,
    fault: Option<String>,
}

fn link(n: u64, at: &str, prev: &str, act: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{DOMAIN}\n{n}\n{at}\n{prev}\n{act}"));
    hex(&hasher.finalize())
}

fn anchor_bytes(entries: u64, hash: &str) -> Vec<u8> {
    format!("{DOMAIN} anchor\n{entries}\n{hash}\n").into_bytes()
}
