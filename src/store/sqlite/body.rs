//! How an event and its decision lie in an audit row: a format byte, then the compact form, compressed when that helps.
//! The checksum is kept beside it, because SQLite does not notice a flipped bit inside a value.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::model::Judged;

/// Format byte: the compact form of a `Judged`. (1 and 2 were used before the first release.)
const PLAIN: u8 = 3;
/// Format byte: length (u32, little endian), then an lz4 block of the same.
const LZ4: u8 = 4;
/// Bytes of a row from which on it is compressed: traps and JSON with many members.
const WORTH_PACKING: usize = 1 << 10;
/// Largest event accepted when reading, so that a damaged length cannot ask for all memory.
const MAX_DECODED: usize = 64 << 20;

/// Encodes rows one after the other, with the buffers of the last.
#[derive(Default)]
pub(super) struct Encoder {
    plain: Vec<u8>,
    packed: Vec<u8>,
    table: CompressTable,
}

impl Encoder {
    /// The body of one row, valid until the next call. Short rows stay as they are: what they hold does not repeat, and
    /// the compressor's table alone costs more than the rest of the row.
    pub(super) fn encode(&mut self, judged: &Judged) -> Result<&[u8], String> {
        self.plain.clear();
        self.plain.push(PLAIN);
        judged.write(&mut self.plain);
        if self.plain.len() < WORTH_PACKING {
            return Ok(&self.plain);
        }
        let plain = &self.plain[1..];
        self.packed.resize(5 + get_maximum_output_size(plain.len()), 0);
        self.packed[0] = LZ4;
        self.packed[1..5].copy_from_slice(&u32::try_from(plain.len()).map_err(|_| "it is too large")?.to_le_bytes());
        let packed = compress_into_with_table(plain, &mut self.packed[5..], &mut self.table);
        match packed {
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
        [PLAIN, plain @ ..] => Judged::read(plain).map_err(str::to_owned),
        [LZ4, a, b, c, d, block @ ..] => {
            let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
            if length > MAX_DECODED {
                return Err(format!("it claims {length} bytes"));
            }
            let plain = lz4_flex::block::decompress(block, length).map_err(|error| error.to_string())?;
            Judged::read(&plain).map_err(str::to_owned)
        }
        [format, ..] => Err(format!("its format {format} is unknown to this version")),
        [] => Err("it is empty".into()),
    }
}
