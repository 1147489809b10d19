//! How far a queue was handed out and what of that is not acked: a small file of two slots, each with a checksum.
//!
//! Every state that was ever written stays true: what it calls acked was acked. So the file is written without syncing
//! and any older state will do. It survives the end of the process as it is; a power cut may bring back an older state,
//! or none, and then records are handed out again. It is never needed to find records, only to leave some out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{decode_small, encode_small};
use crate::queue::backend::{Depth, Seq};

/// Room for one state: 8,192 records of at most 15 bytes, and some generations.
const SLOT_BYTES: usize = 192 << 10;

/// One state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The higher one counts.
    serial: u64,
    /// Where records are not removed one by one: everything before this and not in `hands` is acked.
    pub(super) position: Seq,
    /// Records that were handed out and not acked, and how often.
    pub(super) hands: Vec<(Seq, u32)>,
    /// By generation that is acked in part: how much of it is acked.
    pub(super) acked: Vec<(Seq, Depth)>,
}

/// The file.
#[derive(Debug)]
pub(super) struct CursorFile {
    file: File,
    serial: u64,
}

impl CursorFile {
    /// Opens or creates the file; returns the newest state that is whole, the empty one if there is none.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Mark)> {
        let file = File::options().create(true).read(true).write(true).truncate(false).open(path)?;
        let newest = (0..2).filter_map(|slot| read_slot(&file, slot)).max_by_key(|mark| mark.serial);
        let mark = newest.unwrap_or_default();
        Ok((Self { file, serial: mark.serial }, mark))
    }

    /// Writes a state into the older slot.
    pub(super) fn write(&mut self, mut mark: Mark) -> io::Result<()> {
        mark.serial = self.serial + 1;
        let body = encode_small(&mark);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if body.len() + 4 > SLOT_BYTES {
            return Err(io::Error::other(format!("a state of {length} bytes does not fit")));
        }
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        self.file.write_all_at(&bytes, (mark.serial % 2) * SLOT_BYTES as u64)?;
        self.serial = mark.serial;
        Ok(())
    }

    /// Makes the last state survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn read_slot(file: &File, slot: u64) -> Option<Mark> {
    let start = slot * SLOT_BYTES as u64;
    let mut length = [0; 4];
    file.read_exact_at(&mut length, start).ok()?;
    let length = u32::from_le_bytes(length) as usize;
    if length + 4 > SLOT_BYTES {
        return None;
    }
    let mut body = vec![0; length];
    file.read_exact_at(&mut body, start + 4).ok()?;
    decode_small(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(position: Seq) -> Mark {
        Mark { position, hands: vec![(position / 2, 3)], ..Mark::default() }
    }

    #[test]
    fn the_newest_whole_state_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let (mut cursor, empty) = CursorFile::open(&path).unwrap();
        assert_eq!(empty, Mark::default());
        for position in 1..=5 {
            cursor.write(mark(position)).unwrap();
            let (_, read) = CursorFile::open(&path).unwrap();
            assert_eq!((read.position, read.hands), (position, vec![(position / 2, 3)]));
        }
    }

    #[test]
    fn a_torn_state_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let (mut cursor, _) = CursorFile::open(&path).unwrap();
        cursor.write(mark(1)).unwrap();
        cursor.write(mark(2)).unwrap();
        // Serial 2 is in slot 0.
        cursor.file.write_all_at(&[0xff], 9).unwrap();
        assert_eq!(CursorFile::open(&path).unwrap().1.position, 1);
        cursor.file.write_all_at(&[0xff; 32], SLOT_BYTES as u64).unwrap();
        assert_eq!(CursorFile::open(&path).unwrap().1, Mark::default());
    }
}
