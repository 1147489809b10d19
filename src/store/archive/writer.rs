//! Writes one archive file: lines gathered into zstd frames, the index last, everything synced.
//!
//! It writes to a name of its own in the folder for unfinished files; the file gets its place only when it was read back and
//! the manifest knows it. What is there after a crash is thrown away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::index::{Frame, Index, Keys, MAGIC, SKIPPABLE, hex};
use super::point;
use super::record::{Record, SCHEMA};
use crate::model::{Day, EventId};

/// Plain bytes of a frame: some two thousand events, unpacked in a few milliseconds.
const FRAME_BYTES: usize = 1 << 20;
/// zstd level: 3 takes 40 % less room than 1 on this content and is still twice as fast as reading the rows.
const LEVEL: i32 = 3;

/// What a finished file is: what the manifest says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its name.
    pub name: String,
    /// The day of its events.
    pub day: Day,
    /// What the members of a line mean.
    pub schema: u32,
    /// Events in it.
    pub rows: u64,
    /// Lines that are only notes.
    pub notes: u64,
    /// The least event id.
    pub first: String,
    /// The greatest event id.
    pub last: String,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// SHA-256 of its lines.
    pub content_sha256: String,
}

/// A file under way.
pub struct Writer {
    path: PathBuf,
    name: String,
    day: Day,
    file: File,
    written: u64,
    file_hash: Sha256,
    content_hash: Sha256,
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    lines: u64,
    keys: Keys,
    frame_ids: Option<(EventId, EventId)>,
    ids: Option<(EventId, EventId)>,
    rows: u64,
    notes: u64,
    frames: Vec<Frame>,
}

impl Writer {
    /// Begins the file `name` in `folder`; what lies there under that name is overwritten.
    pub(super) fn create(folder: &Path, name: &str, day: Day) -> io::Result<Self> {
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        // So that `zstd -t` finds damage too.
        compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        Ok(Self {
            path,
            name: name.to_owned(),
            day,
            file,
            written: 0,
            file_hash: Sha256::new(),
            content_hash: Sha256::new(),
            compressor,
            plain: Vec::with_capacity(FRAME_BYTES + (64 << 10)),
            lines: 0,
            keys: Keys::default(),
            frame_ids: None,
            ids: None,
            rows: 0,
            notes: 0,
            frames: Vec::new(),
        })
    }

    /// Adds a line.
    pub(super) fn push(&mut self, record: &Record) -> io::Result<()> {
        let start = self.plain.len();
        record.write(&mut self.plain).map_err(io::Error::other)?;
        self.content_hash.update(&self.plain[start..]);
        match record {
            Record::Event(judged, _) => {
                self.keys.add(judged);
                self.rows += 1;
            }
            Record::Damaged(_) => self.rows += 1,
            Record::Notes(..) => self.notes += 1,
        }
        self.lines += 1;
        for ids in [&mut self.ids, &mut self.frame_ids] {
            let (least, greatest) = ids.get_or_insert((record.id(), record.id()));
            (*least, *greatest) = ((*least).min(record.id()), (*greatest).max(record.id()));
        }
        if self.plain.len() >= FRAME_BYTES {
            self.end_frame()?;
        }
        Ok(())
    }

    /// Events so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0 && self.notes == 0
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let Some((first, last)) = self.frame_ids.take() else { return Ok(()) };
        let packed = self.compressor.compress(&self.plain)?;
        self.frames.push(Frame {
            at: self.written,
            bytes: packed.len() as u64,
            plain: self.plain.len() as u64,
            lines: std::mem::take(&mut self.lines),
            first: first.to_string(),
            last: last.to_string(),
            digest: std::mem::take(&mut self.keys).digest(),
        });
        self.plain.clear();
        self.append(&packed)?;
        point("frame written");
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file_hash.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index and syncs. What it answers was computed from what it was given, not from what the disk holds:
    /// read it back.
    pub(super) fn finish(mut self) -> io::Result<(PathBuf, FileFacts)> {
        self.end_frame()?;
        let content_sha256 = hex(&self.content_hash.finalize_reset());
        let index = Index {
            day: self.day,
            schema: SCHEMA,
            rows: self.rows,
            notes: self.notes,
            content_sha256: content_sha256.clone(),
            frames: std::mem::take(&mut self.frames),
        };
        let packed = self.compressor.compress(&serde_json::to_vec(&index)?)?;
        let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
        let content = [packed.as_slice(), &length.to_le_bytes(), &MAGIC].concat();
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.append(&SKIPPABLE)?;
        self.append(&size.to_le_bytes())?;
        self.append(&content)?;
        point("index written");
        self.file.sync_all()?;
        let nil = EventId::from_bytes([0; 16]);
        let (first, last) = self.ids.unwrap_or((nil, nil));
        let facts = FileFacts {
            name: self.name,
            day: self.day,
            schema: SCHEMA,
            rows: self.rows,
            notes: self.notes,
            first: first.to_string(),
            last: last.to_string(),
            bytes: self.written,
            sha256: hex(&self.file_hash.finalize()),
            content_sha256,
        };
        Ok((self.path, facts))
    }
}
