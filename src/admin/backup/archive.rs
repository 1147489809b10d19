//! The little of the tar format (POSIX ustar) that backups need: plain files with short names, written and read in order.
//! Reading believes nothing: names are checked by the caller, sizes are bounded by what is really there. Pure streams.

use std::io::{self, Read, Write};

/// Tar's unit.
const BLOCK: usize = 512;

/// Largest file that the header's octal field can tell.
const MAX_SIZE: u64 = (1 << 33) - 1;

/// Writes an archive.
pub(super) struct Writer<W> {
    into: W,
    modified: i64,
}

impl<W: Write> Writer<W> {
    /// Files get this time of modification, in seconds since 1970.
    pub fn new(into: W, modified: i64) -> Self {
        Self { into, modified }
    }

    /// Adds a file of the bytes there are.
    pub fn append(&mut self, name: &str, bytes: &mut &[u8]) -> io::Result<()> {
        self.append_sized(name, bytes.len() as u64, bytes)
    }

    /// Adds a file of exactly `size` bytes.
    pub fn append_sized(&mut self, name: &str, size: u64, from: &mut impl Read) -> io::Result<()> {
        self.into.write_all(&header(name, size, self.modified)?)?;
        let copied = io::copy(&mut from.take(size), &mut self.into)?;
        if copied != size {
            return Err(io::Error::other(format!("`{name}` became shorter while it was read")));
        }
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over > 0 {
            self.into.write_all(&[0; BLOCK][over..])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.into.write_all(&[0; BLOCK * 2])?;
        Ok(self.into)
    }
}

fn header(name: &str, size: u64, modified: i64) -> io::Result<[u8; BLOCK]> {
    if name.len() > 99 || size > MAX_SIZE {
        return Err(io::Error::other(format!("`{name}` does not fit into the archive: its name or it is too long")));
    }
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{:011o}\0", modified.max(0)));
    // The sum is made with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// The next file of an archive: its name and size; `None` at the end. Its bytes follow in `from`, padded by [`padding`].
pub(super) fn next(from: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let mut block = [0_u8; BLOCK];
    from.read_exact(&mut block)?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let damaged = || io::Error::other("a header of the archive is damaged");
    let text = |range: std::ops::Range<usize>| {
        let bytes = block[range].split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(bytes).map(str::trim).map_err(|_| damaged())
    };
    let octal = |range| u64::from_str_radix(text(range)?, 8).map_err(|_| damaged());
    let sum = octal(148..156)?;
    let found: u64 =
        block.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
    if sum != found || &block[257..262] != b"ustar" || block[156] != b'0' {
        return Err(damaged());
    }
    Ok(Some((text(0..100)?.to_owned(), octal(124..136)?)))
}

/// Bytes between the end of a file and the next header.
pub(super) fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_damage_is_told() {
        let mut writer = Writer::new(Vec::new(), 1_700_000_000);
        for (name, size) in [("a.json", 3), ("store/config.db", 512), ("empty", 0)] {
            writer.append(name, &mut vec![b'x'; size].as_slice()).expect("memory");
        }
        let bytes = writer.finish().expect("memory");
        let mut from = bytes.as_slice();
        let mut names = Vec::new();
        while let Some((name, size)) = next(&mut from).expect("whole") {
            io::copy(&mut from.by_ref().take(size + padding(size)), &mut io::sink()).expect("memory");
            names.push((name, size));
        }
        assert_eq!(names, [("a.json".into(), 3), ("store/config.db".into(), 512), ("empty".into(), 0)]);
        let mut damaged = bytes.clone();
        damaged[0] = b'b';
        assert!(next(&mut damaged.as_slice()).is_err());
        assert!(next(&mut &bytes[..100]).is_err());
        assert!(Writer::new(Vec::new(), 0).append(&"x".repeat(100), &mut &b""[..]).is_err());
    }
}
