//! How records lie in a generation: keys, values, checksums. Pure; no I/O.
//!
//! Every record is a run of keys `sequence (8 bytes, big endian) | part (2 bytes, big endian)`:
//!
//! * part 0, only in work queues and only once the record was released: its [`Retry`];
//! * parts 1 and up: a header (version, items, length, CRC-32 over sequence, items and payload) and the payload, cut into
//!   pieces. sled keeps up to 17 values in a leaf and rewrites leaves whole; a leaf above a quarter of a segment would
//!   become a file of its own that sled neither syncs nor removes. With the pieces of a [`Shape`] that cannot happen.
//!
//! One more key, [`TOTALS_KEY`], holds the generation's [`Totals`]; it is written in the same atomic batch as what it
//! counts. An unknown version byte makes a record damaged, never a crash.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::queue::backend::{Depth, Record, Seq};

/// Sorts behind every record: sequences never get this high.
pub(super) const TOTALS_KEY: &[u8] = b"\xfftotals";

/// Format of a record's header and payload.
const RECORD_VERSION: u8 = 1;

/// Version, items, payload length, checksum.
const HEADER_BYTES: usize = 1 + 4 + 4 + 4;

/// Sizes of a generation's pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Bytes of a sled segment.
    pub(super) segment: usize,
    /// Bytes of one value at most: 26 of them (17 in a leaf that is about to split, and as much again for keys and
    /// whatever else) fit into a quarter of a segment.
    pub(super) piece: usize,
    /// Bytes sled may cache; it takes that for a hint.
    pub(super) cache: u64,
    /// Generations open at once: the newest, the one that is read, and where records come out of order some more.
    pub(super) most_open: usize,
}

impl Shape {
    /// For records that are whole batches. Opening writes one segment anew, so it should not be larger than needed.
    pub(super) const LOG: Self = Self { segment: 8 << 20, piece: 64 << 10, cache: 16 << 20, most_open: 2 };
    /// For records that are single items.
    pub(super) const WORK: Self = Self { segment: 4 << 20, piece: 32 << 10, cache: 8 << 20, most_open: 4 };

    /// Payload bytes that may be appended to a generation between two syncs. sled uses a segment again once what was in
    /// it was written elsewhere and one whole segment was filled after that; it takes written for durable. Appending
    /// writes about five times the payload, so an eighth of a segment is synced long before that.
    pub(super) const fn most_appended(self) -> usize {
        self.segment / 8
    }

    /// Bytes that removals and retries may cause to be written between two syncs, for the same reason.
    pub(super) const fn most_settled(self) -> usize {
        self.segment / 4
    }
}

/// Bytes that settling a record of this size may cause to be written: its whole leaf, and the change itself.
pub(super) const fn settle_weight(bytes: usize) -> usize {
    17 * bytes + 512
}

/// What a generation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// The sequence after its last one.
    pub(super) next: Seq,
    /// What it holds: everything ever appended where records are not removed one by one, otherwise what is left.
    pub(super) holds: Depth,
    /// Payload bytes ever written to it.
    pub(super) written: u64,
    /// Items ever written to it.
    pub(super) written_items: u64,
}

impl Totals {
    /// Of a generation that begins at `first` and holds nothing.
    pub(super) fn empty(first: Seq) -> Self {
        Self { next: first, holds: Depth::default(), written: 0, written_items: 0 }
    }

    /// Counts an appended record in.
    pub(super) fn append(&mut self, record: &Record) {
        self.next += 1;
        self.holds.add(record);
        self.written += record.payload.len() as u64;
        self.written_items += u64::from(record.items);
    }
}

/// When and for the how manieth time a released record is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retry {
    /// How often it was handed out.
    pub(super) attempt: u32,
    /// Due time in microseconds of the wall clock.
    pub(super) due_micros: i64,
    /// The delay that was asked for, in microseconds: a wall clock that jumps back cannot make it longer than this.
    pub(super) delay_micros: i64,
}

/// A record as it was found.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) seq: Seq,
    /// Only of released records of work queues.
    pub(super) retry: Option<Retry>,
    /// Items and payload, or what is wrong and the bytes.
    pub(super) body: Result<Record, Damaged>,
}

/// A record that is not what was written.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) why: String,
    pub(super) bytes: Vec<u8>,
}

/// The key of a record's part.
pub(super) fn key(seq: Seq, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Sequence and part of a key; `None` for keys of other kinds.
pub(super) fn parse_key(key: &[u8]) -> Option<(Seq, u16)> {
    let (seq, part) = key.split_first_chunk::<8>()?;
    let part: [u8; 2] = part.try_into().ok()?;
    Some((Seq::from_be_bytes(*seq), u16::from_be_bytes(part)))
}

/// The values of parts 1 and up.
pub(super) fn encode(seq: Seq, record: &Record, piece: usize) -> Vec<Vec<u8>> {
    let payload = &record.payload;
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let first = payload.len().min(piece - HEADER_BYTES);
    let mut head = Vec::with_capacity(HEADER_BYTES + first);
    head.push(RECORD_VERSION);
    head.extend_from_slice(&record.items.to_le_bytes());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&checksum(seq, record.items, payload).to_le_bytes());
    head.extend_from_slice(&payload[..first]);
    let mut parts = vec![head];
    parts.extend(payload[first..].chunks(piece).map(<[u8]>::to_vec));
    parts
}

/// Reads what [`encode`] wrote, all parts joined.
fn decode(seq: Seq, bytes: Vec<u8>) -> Result<Record, Damaged> {
    match check(seq, &bytes) {
        Ok(items) => {
            let mut payload = bytes;
            payload.drain(..HEADER_BYTES);
            Ok(Record { items, payload })
        }
        Err(why) => Err(Damaged { why, bytes }),
    }
}

fn check(seq: Seq, bytes: &[u8]) -> Result<u32, String> {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("it is cut off after {} bytes", bytes.len()));
    };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[0] != RECORD_VERSION {
        return Err(format!("its format {} is unknown to this version", header[0]));
    }
    let (items, length, crc) = (word(1), word(5), word(9));
    if payload.len() != length as usize {
        return Err(format!("{} of {length} bytes are there", payload.len()));
    }
    if checksum(seq, items, payload) != crc {
        return Err("its checksum does not match".to_owned());
    }
    Ok(items)
}

fn checksum(seq: Seq, items: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(&items.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Puts a checksum before the encoding of a small value.
pub(super) fn encode_small<T: Serialize>(value: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(value).expect("plain data in memory always encodes");
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads what [`encode_small`] wrote; `None` if it is anything else.
pub(super) fn decode_small<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (crc, body) = bytes.split_first_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// Joins keys and values, in key order, into records.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    current: Option<(Seq, Option<Retry>, Vec<u8>)>,
}

impl Assembler {
    /// Takes the next key; returns the record before it when that is complete.
    pub(super) fn take(&mut self, seq: Seq, part: u16, value: &[u8]) -> Option<Stored> {
        let done =
            if self.current.as_ref().is_some_and(|(current, ..)| *current != seq) { self.finish() } else { None };
        let (_, retry, bytes) = self.current.get_or_insert((seq, None, Vec::new()));
        match part {
            // A damaged retry only makes the record due at once, with its count begun anew.
            0 => *retry = decode_small(value),
            _ => bytes.extend_from_slice(value),
        }
        done
    }

    /// The last record.
    pub(super) fn finish(&mut self) -> Option<Stored> {
        let (seq, retry, bytes) = self.current.take()?;
        Some(Stored { seq, retry, body: decode(seq, bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(parts: &[Vec<u8>], seq: Seq) -> Stored {
        let mut assembler = Assembler::default();
        for (part, value) in parts.iter().enumerate() {
            assert!(assembler.take(seq, u16::try_from(part + 1).unwrap(), value).is_none());
        }
        assembler.finish().unwrap()
    }

    #[test]
    fn a_record_of_any_size_comes_back_as_it_was() {
        let piece = Shape::WORK.piece;
        for size in [0, 1, piece - HEADER_BYTES - 1, piece - HEADER_BYTES, piece - HEADER_BYTES + 1, 5 * piece] {
            let record = Record { items: 3, payload: (0..size).map(|at| at as u8).collect() };
            let parts = encode(9, &record, piece);
            assert!(parts.iter().all(|part| part.len() <= piece), "{size}");
            assert_eq!(join(&parts, 9).body.unwrap(), record, "{size}");
        }
    }

    #[test]
    fn the_largest_leaf_stays_below_a_quarter_of_a_segment() {
        for shape in [Shape::LOG, Shape::WORK] {
            assert!(26 * (shape.piece + 64) < shape.segment / 4);
            assert!(Record::MAX_BYTES / shape.piece < usize::from(u16::MAX));
        }
    }

    #[test]
    fn every_changed_bit_and_every_missing_part_is_noticed() {
        let record = Record { items: 7, payload: b"some payload".to_vec() };
        let parts = encode(1, &record, Shape::LOG.piece);
        for bit in 0..parts[0].len() * 8 {
            let mut flipped = parts.clone();
            flipped[0][bit / 8] ^= 1 << (bit % 8);
            assert!(join(&flipped, 1).body.is_err(), "bit {bit}");
        }
        assert!(join(&parts, 2).body.is_err(), "a record under another sequence");
        let long = encode(1, &Record { items: 1, payload: vec![5; 200_000] }, Shape::LOG.piece);
        assert!(join(&long[..2], 1).body.is_err());
    }

    #[test]
    fn keys_sort_by_sequence_then_part_and_before_the_totals() {
        let keys = [key(1, 0), key(1, 1), key(1, 300), key(2, 0), key(1 << 40, 7)];
        assert!(keys.is_sorted());
        assert!(keys[4].as_slice() < TOTALS_KEY);
        assert_eq!(parse_key(&keys[2]), Some((1, 300)));
        assert_eq!(parse_key(TOTALS_KEY), None);
    }
}
