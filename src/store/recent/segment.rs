//! A segment: a file of frames, written at its end only, deleted as a whole.
//!
//! A segment that is full gets a footer (the headers and places of its frames, a filter of what is in it, a CRC, a magic),
//! so that opening it reads one block; one without a footer was being written when the process ended and is scanned: it is cut at the
//! first frame that is not whole. Nothing is synced before the footer: the last seconds may be lost in a power cut.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::digest::{Filter, MAX_FILTER, SegmentKeys};
use super::frame::{FrameInfo, HEADER, Packed, open_filter, open_payload};
use crate::telemetry::metrics::STORE_DAMAGED;

const FOOTER_MAGIC: [u8; 8] = *b"MRSEND02";
/// Footer: for each frame its place (u64) and header, then the filter, its length (u32), number of frames (u32), CRC-32 of
/// all that (u32), magic (8 bytes).
const FOOTER_TAIL: usize = 20;
/// Before there were filters: neither it nor its length.
const OLD_FOOTER_MAGIC: [u8; 8] = *b"MRSEND01";
const OLD_FOOTER_TAIL: usize = 16;
const FOOTER_ENTRY: usize = 8 + HEADER;
/// Frames a footer may name, so that damage cannot ask for all memory.
const MAX_FRAMES: u32 = 1 << 20;

/// A frame and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) at: u64,
    pub(super) info: FrameInfo,
}

/// A segment that is no longer written.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) frames: Arc<[Placed]>,
    /// What may be in it.
    pub(super) filter: Filter,
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) path: PathBuf,
    file: File,
    /// Where the next indexed frame goes.
    pub(super) end: u64,
    /// Where frames that are not indexed yet end: they are written only to survive a crash, and overwritten.
    spilled_end: u64,
    pub(super) frames: Vec<Placed>,
    keys: SegmentKeys,
}

/// What was found in a segment's file.
pub(super) enum Found {
    /// It was finished.
    Sealed(Sealed),
    /// It was being written.
    Active(Active),
}

/// `00000000000000000042.seg`
pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// The number of a segment's file, if it is one.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?.parse().ok()
}

impl Active {
    /// A new, empty segment.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        Self::create_at(&folder.join(file_name(number)))
    }

    /// The same under a name that is given; what lies there from an attempt that failed must be removed before.
    pub(super) fn create_at(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file, end: 0, spilled_end: 0, frames: Vec::new(), keys: SegmentKeys::none_yet() })
    }

    /// Writes a frame that stays; what was spilled before is part of it and is overwritten.
    pub(super) fn append(&mut self, frame: &Packed) -> io::Result<()> {
        self.cut()?;
        if let Err(error) = self.file.write_all_at(&frame.bytes, self.end) {
            // Half a frame would hide the ones after it from the next start.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.frames.push(Placed { at: self.end, info: frame.info });
        self.keys.add(&frame.keys);
        self.end += frame.bytes.len() as u64;
        self.spilled_end = self.end;
        Ok(())
    }

    /// Writes a frame only so that it survives a crash; its events will be part of a later frame.
    pub(super) fn spill(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(frame, self.spilled_end) {
            let _ = self.file.set_len(self.spilled_end);
            return Err(error);
        }
        self.spilled_end += frame.len() as u64;
        Ok(())
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.spilled_end
    }

    fn cut(&mut self) -> io::Result<()> {
        if self.spilled_end > self.end {
            self.file.set_len(self.end)?;
            self.spilled_end = self.end;
        }
        Ok(())
    }

    /// Writes the footer and syncs.
    pub(super) fn seal(mut self) -> io::Result<Sealed> {
        self.cut()?;
        let filter = self.keys.filter();
        let bytes = filter.as_bytes();
        let mut footer = Vec::with_capacity(self.frames.len() * FOOTER_ENTRY + bytes.len() + FOOTER_TAIL);
        for frame in &self.frames {
            footer.extend_from_slice(&frame.at.to_le_bytes());
            footer.extend_from_slice(&frame.info.encode());
        }
        footer.extend_from_slice(bytes);
        footer.extend_from_slice(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes());
        footer.extend_from_slice(&u32::try_from(self.frames.len()).map_err(io::Error::other)?.to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(&footer).to_le_bytes());
        footer.extend_from_slice(&FOOTER_MAGIC);
        self.file.write_all_at(&footer, self.end)?;
        self.file.sync_data()?;
        let bytes = self.end + footer.len() as u64;
        Ok(Sealed { path: self.path, bytes, frames: self.frames.into(), filter })
    }
}

/// Opens a segment's file, cutting off what is not whole.
pub(super) fn open(path: &Path) -> io::Result<Found> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    if let Some((frames, filter)) = read_footer(&file, length)? {
        let sealed = Sealed { path: path.to_owned(), bytes: length, frames: frames.into(), filter };
        return Ok(Found::Sealed(sealed));
    }
    let (frames, end) = scan(&file, length)?;
    if end < length {
        metrics::counter!(STORE_DAMAGED, "store" => "frame").increment(1);
        warn!(
            segment = %path.display(),
            cut_bytes = length - end,
            "the last frame of a recent segment was not whole and was cut off: its events are only missing from searches"
        );
        file.set_len(end)?;
    }
    let keys = if frames.is_empty() { SegmentKeys::none_yet() } else { SegmentKeys::unknown() };
    Ok(Found::Active(Active { path: path.to_owned(), file, end, spilled_end: end, frames, keys }))
}

fn read_footer(file: &File, length: u64) -> io::Result<Option<(Vec<Placed>, Filter)>> {
    let mut tail = [0; FOOTER_TAIL];
    let Some(tail_at) = length.checked_sub(FOOTER_TAIL as u64) else { return Ok(None) };
    file.read_exact_at(&mut tail, tail_at)?;
    let u32_at = |at: usize| u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
    let (filter, count, crc) = (u32_at(0), u32_at(4), u32_at(8));
    let (filter, tail_bytes) = match tail.last_chunk::<8>() {
        Some(&FOOTER_MAGIC) => (filter as usize, FOOTER_TAIL),
        Some(&OLD_FOOTER_MAGIC) => (0, OLD_FOOTER_TAIL),
        _ => return Ok(None),
    };
    let entries = count as usize * FOOTER_ENTRY;
    // CRC and magic are not part of what the CRC is of.
    let bytes = entries + filter + tail_bytes - 12;
    let Some(at) = length.checked_sub(bytes as u64 + 12) else { return Ok(None) };
    if count > MAX_FRAMES || filter > MAX_FILTER as usize {
        return Ok(None);
    }
    let mut footer = vec![0; bytes];
    file.read_exact_at(&mut footer, at)?;
    if crc32fast::hash(&footer) != crc {
        return Ok(None);
    }
    let frames = footer[..entries].chunks_exact(FOOTER_ENTRY).map(|entry| {
        let (place, header) = entry.split_first_chunk::<8>()?;
        Some(Placed { at: u64::from_le_bytes(*place), info: FrameInfo::decode(header.try_into().ok()?)? })
    });
    let frames: Option<Vec<Placed>> = frames.collect();
    Ok(frames.map(|frames| (frames, Filter::from_bytes(&footer[entries..entries + filter]))))
}

/// The whole frames from the beginning on, and where they end. Payloads are checked too: after a power cut a page in
/// the middle may be missing although what follows was written.
fn scan(file: &File, length: u64) -> io::Result<(Vec<Placed>, u64)> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while at + HEADER as u64 <= length {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, at)?;
        let Some(info) = FrameInfo::decode(&header) else { break };
        if at + info.bytes() > length {
            break;
        }
        let mut payload = vec![0; info.payload as usize];
        file.read_exact_at(&mut payload, at + info.payload_at())?;
        if crc32fast::hash(&payload) != info.crc {
            break;
        }
        frames.push(Placed { at, info });
        at += info.bytes();
    }
    Ok((frames, at))
}

/// Reads and unpacks one frame.
pub(super) fn read_frame(file: &File, frame: &Placed) -> Result<Vec<u8>, String> {
    let mut payload = vec![0; frame.info.payload as usize];
    file.read_exact_at(&mut payload, frame.at + frame.info.payload_at()).map_err(|error| error.to_string())?;
    open_payload(&frame.info, &payload)
}

/// Reads the filter of one frame; one that admits everything if there is none, or none that can be read.
pub(super) fn read_filter(file: &File, frame: &Placed) -> Filter {
    let mut bytes = vec![0; frame.info.filter as usize];
    match file.read_exact_at(&mut bytes, frame.at + HEADER as u64) {
        Ok(()) => open_filter(&frame.info, &bytes),
        Err(_) => Filter::default(),
    }
}
