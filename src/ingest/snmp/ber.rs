//! The part of BER (X.690) that SNMP uses: definite lengths, low tag numbers, integers, octets, object identifiers.
//!
//! Values are slices of the datagram; nothing is copied but object identifiers. Lenient where a sloppy sender's meaning
//! is clear (padded lengths and integers), strict where it is not. Never panics, never recurses.

use crate::model::Oid;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BerError {
    #[error("it ends too early")]
    Truncated,
    #[error("it has a length or a tag that SNMP does not use")]
    BadHeader,
    #[error("it has another type than expected")]
    UnexpectedTag,
    #[error("it has a number out of range")]
    OutOfRange,
    #[error("it has a malformed object identifier")]
    BadOid,
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const IP_ADDRESS: u8 = 0x40;
pub(super) const COUNTER32: u8 = 0x41;
pub(super) const GAUGE32: u8 = 0x42;
pub(super) const TIME_TICKS: u8 = 0x43;
pub(super) const COUNTER64: u8 = 0x46;
pub(super) const UINTEGER32: u8 = 0x47;
/// noSuchObject, noSuchInstance and endOfMibView (RFC 3416 section 3): values that say there is none.
pub(super) const EXCEPTIONS: [u8; 3] = [0x80, 0x81, 0x82];

/// Reads values one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes not read yet.
    pub(super) fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// The next value's tag and content.
    pub(super) fn next(&mut self) -> Result<(u8, &'a [u8]), BerError> {
        let (&[tag, first], after) = self.rest.split_first_chunk::<2>().ok_or(BerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(BerError::BadHeader);
        }
        let (length, after) = match first {
            0..=0x7f => (usize::from(first), after),
            // One to four length bytes reach 4 GiB; 0x80 is the indefinite length, which SNMP forbids (RFC 3417 section 8).
            0x81..=0x84 => {
                let (bytes, after) = after.split_at_checked(usize::from(first & 0x7f)).ok_or(BerError::Truncated)?;
                (bytes.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte)), after)
            }
            _ => return Err(BerError::BadHeader),
        };
        let (content, rest) = after.split_at_checked(length).ok_or(BerError::Truncated)?;
        self.rest = rest;
        Ok((tag, content))
    }

    /// The content of the next value, which must have the tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], BerError> {
        match self.next()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(BerError::UnexpectedTag),
        }
    }
}

/// A signed integer of up to 64 bits.
pub(super) fn signed(content: &[u8]) -> Result<i64, BerError> {
    let (&first, _) = content.split_first().ok_or(BerError::OutOfRange)?;
    if content.len() > 8 {
        return Err(BerError::OutOfRange);
    }
    let start: i64 = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(content.iter().fold(start, |number, byte| (number << 8) | i64::from(*byte)))
}

/// An unsigned integer of up to 64 bits. Some agents leave out the zero byte that keeps the first bit from being a sign,
/// so the sign is not looked at: none of SNMP's unsigned types can be negative.
pub(super) fn unsigned(content: &[u8]) -> Result<u64, BerError> {
    let digits = match content {
        [] => return Err(BerError::OutOfRange),
        [0, digits @ ..] if digits.len() == 8 => digits,
        digits if digits.len() <= 8 => digits,
        _ => return Err(BerError::OutOfRange),
    };
    Ok(digits.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// An object identifier. An empty one is 0.0, as net-snmp and others encode it.
pub(super) fn oid(content: &[u8]) -> Result<Oid, BerError> {
    if content.is_empty() {
        return Ok(Oid::new(vec![0, 0]));
    }
    let mut arcs = Vec::with_capacity(content.len() + 1);
    let (mut arc, mut unfinished) = (0_u64, false);
    for byte in content {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        unfinished = byte & 0x80 != 0;
        // X.690 section 8.19.4: the first two arcs share a number, so it may reach 80 above the largest arc.
        if arc > u64::from(u32::MAX) + 80 {
            return Err(BerError::BadOid);
        }
        if unfinished {
            continue;
        }
        if arcs.is_empty() {
            let root = (arc / 40).min(2);
            arcs.push(root as u32);
            arc -= root * 40;
        }
        arcs.push(u32::try_from(arc).map_err(|_| BerError::BadOid)?);
        arc = 0;
    }
    if unfinished || arcs.len() > Oid::MAX_ARCS {
        return Err(BerError::BadOid);
    }
    Ok(Oid::new(arcs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_every_definite_form() {
        for bytes in [&[4, 2, 1, 2][..], &[4, 0x81, 2, 1, 2], &[4, 0x84, 0, 0, 0, 2, 1, 2]] {
            assert_eq!(Reader::new(bytes).next(), Ok((4, &[1_u8, 2][..])), "{bytes:?}");
        }
        for (bytes, error) in [
            (&[][..], BerError::Truncated),
            (&[4], BerError::Truncated),
            (&[4, 3, 1, 2], BerError::Truncated),
            (&[4, 0x82, 1], BerError::Truncated),
            (&[4, 0x84, 0xff, 0xff, 0xff, 0xff, 1], BerError::Truncated),
            (&[4, 0x80, 1, 0, 0], BerError::BadHeader),
            (&[4, 0x85, 0, 0, 0, 0, 1, 7], BerError::BadHeader),
            (&[0x1f, 1, 1], BerError::BadHeader),
        ] {
            assert_eq!(Reader::new(bytes).next(), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn numbers_keep_their_sign_and_every_bit() {
        for (bytes, expected) in
            [(&[0][..], 0), (&[0xff], -1), (&[0x80, 0, 0, 0], i64::from(i32::MIN)), (&[0, 0x80], 128)]
        {
            assert_eq!(signed(bytes), Ok(expected), "{bytes:?}");
        }
        for (bytes, expected) in [(&[0][..], 0), (&[0xff; 4], u64::from(u32::MAX)), (&[0xff; 8], u64::MAX)] {
            assert_eq!(unsigned(bytes), Ok(expected), "{bytes:?}");
        }
        assert_eq!(unsigned(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Ok(u64::MAX));
        assert!(
            unsigned(&[1; 9]).is_err() && signed(&[1; 9]).is_err() && signed(&[]).is_err() && unsigned(&[]).is_err()
        );
    }

    #[test]
    fn object_identifiers_are_read_arc_by_arc() {
        for (bytes, expected) in [
            (&[0x2b, 6, 1][..], "1.3.6.1"),
            (&[0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f], "1.3.4294967295"),
            (&[0x88, 0x37], "2.999"),
            (&[0], "0.0"),
            (&[], "0.0"),
        ] {
            assert_eq!(oid(bytes).map(|oid| oid.to_string()).as_deref(), Ok(expected), "{bytes:?}");
        }
        for bytes in [&[0x2b, 0x80][..], &[0x2b, 0x90, 0x80, 0x80, 0x80, 0], &[1; 200], &[0xff; 40]] {
            assert_eq!(oid(bytes), Err(BerError::BadOid), "{bytes:?}");
        }
    }
}
