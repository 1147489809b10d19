//! How an event and its decision lie in an audit row: a format byte, then postcard, compressed when that helps.
//! The checksum is kept beside it, because SQLite does not notice a flipped bit inside a value.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::model::Judged;

/// Format byte: postcard of a `Judged`.
const PLAIN: u8 = 1;
/// Format byte: length (u32, little endian), then an lz4 block of the same.
const LZ4: u8 = 2;
/// Largest event accepted when reading, so that a damaged length cannot ask for all memory.
const MAX_DECODED: usize = 64 << 20;

/// Encodes rows one after the other, with the buffers of the last.
pub(super) struct Encoder {
    plain: Vec<u8>,
    packed: Vec<u8>,
    table: CompressTable,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { plain: Vec::new(), packed: Vec::new(), table: CompressTable::default() }
    }

    /// The body of one row, valid until the next call.
    pub(super) fn encode(&mut self, judged: &Judged) -> Result<&[u8], String> {
        let mut buffer = std::mem::take(&mut self.plain);
        buffer.clear();
        buffer.push(PLAIN);
        self.plain = postcard::to_extend(judged, buffer).map_err(|error| error.to_string())?;
        let plain = &self.plain[1..];
        self.packed.resize(5 + get_maximum_output_size(plain.len()), 0);
        self.packed[0] = LZ4;
        self.packed[1..5].copy_from_slice(&u32::try_from(plain.len()).map_err(|_| "it is too large")?.to_le_bytes());
        let packed = compress_into_with_table(plain, &mut self.packed[5..], &mut self.table);
        match packed {
            // The raw line and the message repeat each other, so this nearly always wins.
            Ok(length) if length + 5 < self.plain.len() => Ok(&self.packed[..5 + length]),
            _ => Ok(&self.plain),
        }
    }
}

/// The event of a row's body, or why it cannot be read.
pub(super) fn decode(body: &[u8], crc: u32) -> Result<Judged, String> {
    if crc32fast::hash(body) != crc {
        return Err("its checksum is wrong".into());
    }
    match body {
        [PLAIN, plain @ ..] => postcard::from_bytes(plain).map_err(|error| error.to_string()),
        [LZ4, a, b, c, d, block @ ..] => {
            let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
            if length > MAX_DECODED {
                return Err(format!("it claims {length} bytes"));
            }
            let plain = lz4_flex::block::decompress(block, length).map_err(|error| error.to_string())?;
            postcard::from_bytes(&plain).map_err(|error| error.to_string())
        }
        [format, ..] => Err(format!("its format {format} is unknown to this version")),
        [] => Err("it is empty".into()),
    }
}
