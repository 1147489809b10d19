//! Reads archive files: the index, single frames for searches, and the whole of a file to verify it or to work on its lines.
//!
//! Writes nothing. Lengths that a damaged file claims are bounded before memory is asked for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::index::{Frame, Index, MAGIC, MAX_INDEX, TAIL, hex};
use super::record::Record;
use super::writer::FileFacts;

/// Largest frame accepted, packed or unpacked: one event of the largest size that ingest takes, and room.
const MAX_FRAME: u64 = 512 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The disk says so: it may pass.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The content is not what it was: it will not pass.
    #[error("{0}")]
    Damaged(String),
}

fn damaged(why: impl Into<String>) -> ReadFault {
    ReadFault::Damaged(why.into())
}

/// An archive file that is read.
#[derive(Debug)]
pub struct Reader {
    file: File,
    length: u64,
    /// What is in it.
    pub index: Index,
}

impl Reader {
    /// Opens a file and reads its index.
    pub fn open(path: &Path) -> Result<Self, ReadFault> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut tail = [0; TAIL];
        let at = length.checked_sub(TAIL as u64).ok_or_else(|| damaged("it is too short to be an archive"))?;
        file.read_exact_at(&mut tail, at)?;
        if tail[4..] != MAGIC {
            return Err(damaged("it does not end as an archive does: it is cut off or was altered"));
        }
        let packed = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        let start = at.checked_sub(u64::from(packed)).filter(|_| packed as usize <= MAX_INDEX);
        let start = start.ok_or_else(|| damaged("its index has an impossible length"))?;
        let mut bytes = vec![0; packed as usize];
        file.read_exact_at(&mut bytes, start)?;
        let plain =
            zstd::bulk::decompress(&bytes, MAX_INDEX).map_err(|error| damaged(format!("its index: {error}")))?;
        let index = serde_json::from_slice(&plain).map_err(|error| damaged(format!("its index: {error}")))?;
        Ok(Self { file, length, index })
    }

    fn packed(&self, frame: &Frame) -> Result<Vec<u8>, ReadFault> {
        let end = frame.at.checked_add(frame.bytes).filter(|end| *end <= self.length && frame.bytes <= MAX_FRAME);
        end.ok_or_else(|| damaged("its index names a frame that is not in it"))?;
        let mut packed = vec![0; usize::try_from(frame.bytes).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut packed, frame.at)?;
        Ok(packed)
    }

    /// The lines of a frame.
    pub fn lines(&self, frame: &Frame) -> Result<String, ReadFault> {
        unpack(frame, &self.packed(frame)?)
    }

    /// The records of a frame.
    pub fn records(&self, frame: &Frame) -> Result<Vec<Record>, ReadFault> {
        read_lines(&self.lines(frame)?)
    }

    /// Whether the file says of itself what `facts` say of it. A file that somebody wrote can say what it likes.
    pub(super) fn claims(&self, facts: &FileFacts) -> bool {
        let index = &self.index;
        (self.length, index.day, index.schema, index.rows, index.notes, &index.content_sha256)
            == (facts.bytes, facts.day, facts.schema, facts.rows, facts.notes, &facts.content_sha256)
    }

    /// Hands every record to `each`, frame by frame, until it says stop. Ends with a fault if the lines were not those of
    /// `facts`, so that what was altered is not taken over into another file.
    pub(super) fn each<E: From<ReadFault>>(
        &self,
        facts: &FileFacts,
        mut each: impl FnMut(Vec<Record>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut content_hash = Sha256::new();
        for frame in &self.index.frames {
            let lines = self.lines(frame)?;
            content_hash.update(lines.as_bytes());
            each(read_lines(&lines)?)?;
        }
        if hex(&content_hash.finalize()) == facts.content_sha256 {
            return Ok(());
        }
        Err(damaged("its content is not what the manifest says").into())
    }
}

fn unpack(frame: &Frame, packed: &[u8]) -> Result<String, ReadFault> {
    if frame.plain > MAX_FRAME {
        return Err(damaged("its index names a frame of an impossible size"));
    }
    let size = usize::try_from(frame.plain).unwrap_or(usize::MAX);
    let plain = zstd::bulk::decompress(packed, size).map_err(|error| damaged(format!("a frame: {error}")))?;
    String::from_utf8(plain).map_err(|_| damaged("a frame is not UTF-8"))
}

fn read_lines(text: &str) -> Result<Vec<Record>, ReadFault> {
    text.lines().map(|line| Record::read(line).map_err(|why| damaged(format!("a line: {why}")))).collect()
}

/// Reads the whole of a file and compares everything with everything: each byte with the hash of the file, each line with the
/// hash of the content and with its day, the numbers with the index. Says what the file is. `each` is given the records
/// on the way; `go_on` is asked after each frame, for who must not read at full speed.
pub fn read_back(
    path: &Path,
    name: &str,
    mut each: impl FnMut(&[Record]) -> io::Result<()>,
) -> Result<FileFacts, ReadFault> {
    let reader = Reader::open(path)?;
    let (mut file_hash, mut content_hash) = (Sha256::new(), Sha256::new());
    let (mut at, mut rows, mut notes) = (0, 0, 0);
    let mut ids = None;
    for frame in &reader.index.frames {
        if frame.at != at {
            return Err(damaged("its frames do not follow each other"));
        }
        let packed = reader.packed(frame)?;
        file_hash.update(&packed);
        at += frame.bytes;
        let lines = unpack(frame, &packed)?;
        content_hash.update(lines.as_bytes());
        let records = read_lines(&lines)?;
        if records.len() as u64 != frame.lines {
            return Err(damaged("a frame holds another number of lines than its index says"));
        }
        for record in &records {
            let id = record.id();
            if record.day() != reader.index.day {
                return Err(damaged(format!("event `{id}` is not of {}", reader.index.day)));
            }
            match record {
                Record::Notes(..) => notes += 1,
                Record::Event(..) | Record::Damaged(_) => rows += 1,
            }
            let (least, greatest) = ids.get_or_insert((id, id));
            (*least, *greatest) = ((*least).min(id), (*greatest).max(id));
        }
        each(&records)?;
    }
    let mut rest = vec![0; usize::try_from(reader.length.saturating_sub(at)).unwrap_or(usize::MAX)];
    if rest.len() > MAX_INDEX {
        return Err(damaged("its index has an impossible length"));
    }
    reader.file.read_exact_at(&mut rest, at)?;
    file_hash.update(&rest);
    let content_sha256 = hex(&content_hash.finalize());
    let index = &reader.index;
    if (rows, notes, &content_sha256) != (index.rows, index.notes, &index.content_sha256) {
        return Err(damaged("its content is not what its index says"));
    }
    let nil = crate::model::EventId::from_bytes([0; 16]);
    let (first, last) = ids.unwrap_or((nil, nil));
    Ok(FileFacts {
        name: name.to_owned(),
        day: index.day,
        schema: index.schema,
        rows,
        notes,
        first: first.to_string(),
        last: last.to_string(),
        bytes: reader.length,
        sha256: hex(&file_hash.finalize()),
        content_sha256,
    })
}

/// Has the system forget what it holds of a file in memory, so that what is read next comes from the disk. Only advice: where
/// it is not taken, the memory's content is compared.
pub(super) fn forget_cached(path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let file = File::open(path)?;
    // SAFETY: the descriptor belongs to `file`, which lives over the call; the call takes no pointers.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    Ok(())
}
