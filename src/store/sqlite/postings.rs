//! How the audit's index lies in blobs: numbers as varints, positions as a list or as a bitmap, each with a checksum,
//! because SQLite does not notice a flipped bit inside a value. Pure.

/// Bytes of the checksum at a blob's end.
const CRC: usize = 4;
/// Format byte: every position of the run.
const ALL: u8 = 1;
/// Format byte: steps from one position to the next, as varints.
const LIST: u8 = 2;
/// Format byte: a bit for each position, the lowest first.
const BITMAP: u8 = 3;

/// Writes a blob.
#[derive(Debug, Default)]
pub(super) struct Pack(Vec<u8>);

impl Pack {
    /// One byte.
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// A number, seven bits a byte, the low ones first.
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A number that may be below zero: small ones either way stay short.
    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// The blob.
    pub(super) fn sealed(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Reads a blob; whatever is wrong with it gives `None`.
#[derive(Debug)]
pub(super) struct Unpack<'a>(&'a [u8]);

impl<'a> Unpack<'a> {
    /// The content of a blob whose checksum is right.
    pub(super) fn opened(blob: &'a [u8]) -> Option<Self> {
        let (content, crc) = blob.split_last_chunk::<CRC>()?;
        (crc32fast::hash(content) == u32::from_le_bytes(*crc)).then_some(Self(content))
    }

    /// Whether all was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that may be below zero.
    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

/// The blob of ascending positions in a run of `rows`, in the form that is shortest.
pub(super) fn pack(positions: &[u16], rows: usize) -> Vec<u8> {
    let mut pack = Pack::default();
    if positions.len() == rows {
        pack.byte(ALL);
    } else if positions.len() * 8 > rows {
        pack.byte(BITMAP);
        let mut bytes = vec![0_u8; rows.div_ceil(8)];
        for position in positions {
            bytes[usize::from(position / 8)] |= 1 << (position % 8);
        }
        pack.0.extend_from_slice(&bytes);
    } else {
        pack.byte(LIST);
        let mut previous = 0;
        for position in positions {
            pack.number(u64::from(position - previous));
            previous = *position;
        }
    }
    pack.sealed()
}

/// Bits of every position of a run of `rows`.
pub(super) fn all(rows: usize) -> Vec<u64> {
    let mut bits = vec![u64::MAX; rows.div_ceil(64)];
    if let (Some(last), over @ 1..) = (bits.last_mut(), rows % 64) {
        *last = (1 << over) - 1;
    }
    bits
}

/// Leaves only the positions of `blob`; all of them if it cannot be read.
pub(super) fn restrict(bits: &mut [u64], blob: &[u8]) {
    let Some(other) = unpack(blob, bits.len()) else { return };
    for (word, other) in bits.iter_mut().zip(other) {
        *word &= other;
    }
}

fn unpack(blob: &[u8], words: usize) -> Option<Vec<u64>> {
    let mut unpack = Unpack::opened(blob)?;
    let format = unpack.byte()?;
    let mut bits = vec![0_u64; words];
    match format {
        BITMAP => {
            for (word, bytes) in bits.iter_mut().zip(unpack.0.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(whole);
            }
        }
        LIST => {
            let mut position = 0;
            while !unpack.is_empty() {
                position += usize::try_from(unpack.number()?).ok()?;
                *bits.get_mut(position / 64)? |= 1 << (position % 64);
            }
        }
        // Every position: nothing to restrict. So is a form of a later version.
        _ => return None,
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(bits: &[u64]) -> Vec<u16> {
        (0..=u16::MAX)
            .filter(|at| bits.get(usize::from(at / 64)).is_some_and(|word| word >> (at % 64) & 1 == 1))
            .collect()
    }

    #[test]
    fn positions_are_the_same_in_every_form() {
        let check = |wanted: Vec<u16>, rows: usize, longest: usize| {
            let blob = pack(&wanted, rows);
            assert!(blob.len() <= longest, "{} bytes for {} of {rows}", blob.len(), wanted.len());
            let mut bits = all(rows);
            restrict(&mut bits, &blob);
            assert_eq!(positions(&bits), wanted);
            for at in 0..blob.len() {
                let mut flipped = blob.clone();
                flipped[at] ^= 4;
                let mut bits = all(rows);
                restrict(&mut bits, &flipped);
                assert_eq!(positions(&bits).len(), rows, "what cannot be read holds everything");
            }
        };
        check((0..100).collect(), 100, 5);
        check((0..=u16::MAX).collect(), 65_536, 5);
        check(vec![], 64, 5);
        check(vec![0], 1, 5);
        check(vec![63, 64, 65, 127, 128], 1_000, 10);
        check((0..=u16::MAX).step_by(2_000).collect(), 65_536, 75);
        check((0..10_000).filter(|at| at % 3 != 1).collect(), 10_001, 1_260);
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        let signed = [0, 1, -1, 63, -64, 64, 1 << 22, i64::MAX, i64::MIN];
        let mut written = Pack::default();
        for number in signed {
            written.signed(number);
            written.number(number.cast_unsigned());
        }
        let blob = written.sealed();
        let mut read = Unpack::opened(&blob).unwrap();
        for number in signed {
            assert_eq!(read.signed(), Some(number));
            assert_eq!(read.number(), Some(number.cast_unsigned()));
        }
        assert!(read.is_empty());
        assert_eq!(read.number(), None);
        assert!(Unpack::opened(&blob[1..]).is_none());
        assert!(Unpack::opened(&[]).is_none());
    }
}
