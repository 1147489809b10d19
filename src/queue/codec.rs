//! How items become a record's payload.
//!
//! Payload: one format byte, then an lz4 block (with its length in front) of what [`Item::write`] makes of the items.
//! The backend adds its own checksum around the payload. Records written by an older program are read as long as their
//! format byte is known; anything else is [`Undecodable`] and goes to the dead letters with its bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{Alert, DeadLetter, Event, read_events, write_events};

/// Format byte: items as [`Item`] writes them, compressed with lz4. (1 was used before the first release.)
const FORMAT_LZ4: u8 = 2;

/// Bytes that tell the decompressed length, in front of the lz4 block.
const SIZE_BYTES: usize = 4;

/// Largest decompressed payload accepted, so that a damaged length cannot ask for all memory.
const MAX_DECOMPRESSED: usize = 64 << 20;

/// Plain bytes of several items in one record, at most. What compresses well would otherwise make records that take a
/// hundred times their size when they are read back, sixteen at a time, and could exceed [`MAX_DECOMPRESSED`].
pub(super) const MAX_PLAIN: usize = 1 << 20;

/// A record whose bytes are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record cannot be decoded: {why}")]
pub struct Undecodable {
    /// What was wrong.
    pub why: String,
    /// The payload as it was read.
    pub payload: Vec<u8>,
}

/// What a queue can hold, and how some of it lie in a record. Forms may be put one after the other in one record.
pub trait Item: Sized + Send {
    /// Appends the form of `items` to `out`.
    fn write(items: &[Self], out: &mut Vec<u8>) -> Result<(), String>;

    /// The items of the first form in `bytes` and what follows it, or what is wrong.
    fn read<'a>(bytes: &'a [u8], items: &mut Vec<Self>) -> Result<&'a [u8], String>;
}

/// Some items as [`Item::write`] wrote them, made by whoever brings them so that the queue's own tasks need not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// How many.
    pub items: u32,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

impl Item for Event {
    fn write(items: &[Self], out: &mut Vec<u8>) -> Result<(), String> {
        write_events(items.iter(), out);
        Ok(())
    }

    fn read<'a>(bytes: &'a [u8], items: &mut Vec<Self>) -> Result<&'a [u8], String> {
        read_events(bytes, items).map_err(str::to_owned)
    }
}

impl Item for Alert {
    fn write(items: &[Self], out: &mut Vec<u8>) -> Result<(), String> {
        write_postcard(items, out)
    }

    fn read<'a>(bytes: &'a [u8], items: &mut Vec<Self>) -> Result<&'a [u8], String> {
        read_postcard(bytes, items)
    }
}

impl Item for DeadLetter {
    fn write(items: &[Self], out: &mut Vec<u8>) -> Result<(), String> {
        write_postcard(items, out)
    }

    fn read<'a>(bytes: &'a [u8], items: &mut Vec<Self>) -> Result<&'a [u8], String> {
        read_postcard(bytes, items)
    }
}

fn write_postcard<T: Serialize>(items: &[T], out: &mut Vec<u8>) -> Result<(), String> {
    *out = postcard::to_extend(items, std::mem::take(out)).map_err(|error| error.to_string())?;
    Ok(())
}

fn read_postcard<'a, T: DeserializeOwned>(bytes: &'a [u8], items: &mut Vec<T>) -> Result<&'a [u8], String> {
    let (mut read, rest) = postcard::take_from_bytes::<Vec<T>>(bytes).map_err(|error| error.to_string())?;
    items.append(&mut read);
    Ok(rest)
}

/// Buffers that are used again from record to record: large ones are costly to get from the system each time.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    plain: Vec<u8>,
    packed: Vec<u8>,
}

/// What a buffer may keep from one record to the next, in bytes; far above usual records.
const KEPT_BYTES: usize = 4 << 20;

impl Scratch {
    fn trim(&mut self) {
        for buffer in [&mut self.plain, &mut self.packed] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}

/// Why items do not make one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// They take so many bytes, compressed or plain.
    TooLarge(usize),
    /// They cannot be written.
    Broken(String),
}

/// Encodes items as one payload of at most `limit` bytes.
pub(super) fn encode_with<T: Item>(items: &[T], limit: usize, scratch: &mut Scratch) -> Result<Vec<u8>, Unfit> {
    scratch.plain.clear();
    T::write(items, &mut scratch.plain).map_err(Unfit::Broken)?;
    pack(if items.len() > 1 { MAX_PLAIN } else { MAX_DECOMPRESSED }, limit, scratch)
}

/// Encodes forms as one payload of at most `limit` bytes.
pub(super) fn encode_forms(forms: &[Form], limit: usize, scratch: &mut Scratch) -> Result<Vec<u8>, Unfit> {
    scratch.plain.clear();
    forms.iter().for_each(|form| scratch.plain.extend_from_slice(&form.bytes));
    pack(MAX_DECOMPRESSED, limit, scratch)
}

/// The payload of what is in the scratch.
fn pack(most_plain: usize, limit: usize, scratch: &mut Scratch) -> Result<Vec<u8>, Unfit> {
    let plain = &scratch.plain;
    if plain.len() > most_plain {
        return Err(Unfit::TooLarge(plain.len()));
    }
    let room = lz4_flex::block::get_maximum_output_size(plain.len());
    if scratch.packed.len() < room {
        scratch.packed.resize(room, 0);
    }
    // It fails only for want of room, and there is room for the worst case.
    let packed = lz4_flex::block::compress_into(plain, &mut scratch.packed).unwrap_or(0);
    let size = u32::try_from(plain.len()).map_err(|_| Unfit::TooLarge(plain.len()))?;
    let mut payload = Vec::with_capacity(1 + SIZE_BYTES + packed);
    payload.push(FORMAT_LZ4);
    payload.extend_from_slice(&size.to_le_bytes());
    payload.extend_from_slice(&scratch.packed[..packed]);
    scratch.trim();
    if payload.len() <= limit { Ok(payload) } else { Err(Unfit::TooLarge(payload.len())) }
}

/// The items of a payload that was come by outside of its queue, such as a dead letter's.
pub fn decode_items<T: Item>(payload: Vec<u8>) -> Result<Vec<T>, Undecodable> {
    decode_with(payload, &mut Scratch::default())
}

/// The items of a payload.
pub(super) fn decode_with<T: Item>(payload: Vec<u8>, scratch: &mut Scratch) -> Result<Vec<T>, Undecodable> {
    let decoded = try_decode(&payload, scratch);
    scratch.trim();
    match decoded {
        Ok(items) => Ok(items),
        Err(why) => Err(Undecodable { why, payload }),
    }
}

fn try_decode<T: Item>(payload: &[u8], scratch: &mut Scratch) -> Result<Vec<T>, String> {
    let [format, rest @ ..] = payload else { return Err("it is empty".into()) };
    if *format != FORMAT_LZ4 {
        return Err(format!("format {format} is unknown to this version"));
    }
    let (size, block) = lz4_flex::block::uncompressed_size(rest).map_err(|error| error.to_string())?;
    if size > MAX_DECOMPRESSED {
        return Err(format!("it claims to hold {size} bytes, more than {MAX_DECOMPRESSED}"));
    }
    if scratch.plain.len() < size {
        scratch.plain.resize(size, 0);
    }
    let plain = &mut scratch.plain[..size];
    let length = lz4_flex::block::decompress_into(block, plain).map_err(|error| error.to_string())?;
    let mut rest = &plain[..length];
    let mut items = Vec::new();
    while !rest.is_empty() {
        rest = T::read(rest, &mut items)?;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Item for String {
        fn write(items: &[Self], out: &mut Vec<u8>) -> Result<(), String> {
            write_postcard(items, out)
        }

        fn read<'a>(bytes: &'a [u8], items: &mut Vec<Self>) -> Result<&'a [u8], String> {
            read_postcard(bytes, items)
        }
    }

    #[test]
    fn items_come_back_as_they_were() {
        let mut scratch = Scratch::default();
        for items in [vec![], vec!["one".to_owned()], vec!["x".repeat(100_000); 10]] {
            let payload = encode_with(&items, usize::MAX, &mut scratch).unwrap();
            assert_eq!(decode_with::<String>(payload, &mut scratch).unwrap(), items);
        }
    }

    #[test]
    fn what_compresses_well_is_still_bounded() {
        let mut scratch = Scratch::default();
        let mut fits = |items: &[String]| encode_with(items, usize::MAX, &mut scratch).is_ok();
        let items = vec!["x".repeat(MAX_PLAIN / 4); 5];
        assert!(!fits(&items) && fits(&items[..3]));
        assert!(fits(&["x".repeat(MAX_PLAIN * 2)]), "one item cannot be split");
        assert!(!fits(&["x".repeat(MAX_DECOMPRESSED)]), "it could not be read back");
    }

    #[test]
    fn what_is_not_understood_comes_back_with_its_bytes() {
        let mut scratch = Scratch::default();
        let good = encode_with(&["text".to_owned()], usize::MAX, &mut scratch).unwrap();
        let unknown = [&[9], &good[1..]].concat();
        let huge = [&[FORMAT_LZ4][..], &u32::MAX.to_le_bytes(), b"x"].concat();
        for (payload, why) in [
            (vec![], "empty"),
            (unknown, "format 9"),
            (huge, "claims to hold 4294967295 bytes"),
            (good[..good.len() - 1].to_vec(), ""),
            (vec![FORMAT_LZ4, 1], ""),
        ] {
            let error = decode_with::<String>(payload.clone(), &mut scratch).unwrap_err();
            assert!(error.why.contains(why), "{error}");
            assert_eq!(error.payload, payload);
        }
    }
}
