//! One link of the chain: how a line becomes a hash, and its columns become marks. Pure.
//!
//! The encoding is canonical and typed, so that no two different lines have the same bytes: a column is its type, its
//! length where it has one, and its bytes. The hash covers a name and version, the link of the line before, and every
//! column. The marks are eight bytes of hash a column: they prove nothing, they tell which column differs.

use ring::digest::{Context, SHA256, digest};
use rusqlite::types::ValueRef;

use super::{COLUMNS, Values};

/// Bytes of a link.
pub(in super::super) const HASH_BYTES: usize = 32;

/// A link of the chain.
pub(in super::super) type Hash = [u8; HASH_BYTES];

/// Says what is hashed and how; a change of the columns or of the encoding is a new version.
const DOMAIN: &[u8] = b"muttd config_audit_log 1\n";

/// The version byte before the marks.
const MARKS_VERSION: u8 = 1;

/// Bytes of a column's mark.
const MARK_BYTES: usize = 8;

/// The link of a line after `previous`; the first line comes after 32 zero bytes.
pub(in super::super) fn link(previous: &Hash, values: &Values<'_>) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(previous);
    let mut bytes = Vec::new();
    for value in values {
        bytes.clear();
        encode(*value, &mut bytes);
        context.update(&bytes);
    }
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The marks of a line's columns.
pub(in super::super) fn marks(values: &Values<'_>) -> Vec<u8> {
    let mut marks = vec![MARKS_VERSION];
    let mut bytes = Vec::new();
    for (column, value) in COLUMNS.iter().zip(values) {
        bytes.clear();
        bytes.extend_from_slice(column.as_bytes());
        bytes.push(0);
        encode(*value, &mut bytes);
        marks.extend_from_slice(&digest(&SHA256, &bytes).as_ref()[..MARK_BYTES]);
    }
    marks
}

/// The columns whose marks differ; `None` if what was kept are no marks of this version.
pub(super) fn differing(kept: &[u8], now: &[u8]) -> Option<Vec<&'static str>> {
    if kept.len() != now.len() || kept.first() != Some(&MARKS_VERSION) {
        return None;
    }
    let pairs = kept[1..].chunks(MARK_BYTES).zip(now[1..].chunks(MARK_BYTES));
    let columns = COLUMNS.iter().zip(pairs).filter(|(_, (kept, now))| kept != now).map(|(column, _)| *column);
    Some(columns.collect())
}

fn encode(value: ValueRef<'_>, bytes: &mut Vec<u8>) {
    let (kind, content): (u8, &[u8]) = match value {
        ValueRef::Null => return bytes.push(0),
        ValueRef::Integer(number) => {
            bytes.push(1);
            return bytes.extend_from_slice(&number.to_be_bytes());
        }
        ValueRef::Real(number) => {
            bytes.push(2);
            return bytes.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    bytes.push(kind);
    bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
    bytes.extend_from_slice(content);
}

/// Bytes in hexadecimal.
pub(in super::super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A link from its hexadecimal form.
pub(super) fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; HASH_BYTES];
    if text.len() != 2 * HASH_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Values<'static> {
        let mut values = [ValueRef::Null; COLUMNS.len()];
        values[0] = ValueRef::Integer(7);
        values[2] = ValueRef::Text(b"anna");
        values[3] = ValueRef::Text(b"UPDATE");
        values
    }

    #[test]
    fn lines_that_differ_in_type_place_or_length_have_other_links() {
        let link_of = |index: usize, value| {
            let mut values = sample();
            values[index] = value;
            link(&[0; HASH_BYTES], &values)
        };
        let mut links = vec![link(&[0; HASH_BYTES], &sample()), link(&[1; HASH_BYTES], &sample())];
        links.push(link_of(0, ValueRef::Text(b"7")));
        links.push(link_of(0, ValueRef::Real(7.0)));
        links.push(link_of(2, ValueRef::Blob(b"anna")));
        links.push(link_of(2, ValueRef::Text(b"annaU")));
        links.push(link_of(8, ValueRef::Text(b"")));
        links.push(link_of(9, ValueRef::Text(b"")));
        let distinct: std::collections::BTreeSet<_> = links.iter().collect();
        assert_eq!(distinct.len(), links.len());
    }

    #[test]
    fn marks_name_the_column() {
        let before = marks(&sample());
        let mut values = sample();
        values[2] = ValueRef::Text(b"Anna");
        values[8] = ValueRef::Text(b"why");
        assert_eq!(differing(&before, &marks(&values)), Some(vec!["changed_by", "reason"]));
        assert_eq!(differing(&before[1..], &marks(&values)), None);
        assert_eq!(unhex(&hex(&[0xa5; HASH_BYTES])), Some([0xa5; HASH_BYTES]));
        assert_eq!(unhex("zz"), None);
    }
}
