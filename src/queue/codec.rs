//! How items become a record's payload.
//!
//! Payload: one format byte, then an lz4 block (with its length in front) of the postcard encoding of `Vec<T>`.
//! The backend adds its own checksum around the payload. Records written by an older program are read as long as their
//! format byte is known; anything else is [`Undecodable`] and goes to the dead letters with its bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Format byte: postcard of a sequence, compressed with lz4.
const FORMAT_POSTCARD_LZ4: u8 = 1;

/// Largest decompressed payload accepted, so that a damaged length cannot ask for all memory.
const MAX_DECOMPRESSED: usize = 64 << 20;

/// A record whose bytes are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record cannot be decoded: {why}")]
pub struct Undecodable {
    /// What was wrong.
    pub why: String,
    /// The payload as it was read.
    pub payload: Vec<u8>,
}

/// Encodes items as one payload.
pub fn encode_items<T: Serialize>(items: &[T]) -> Result<Vec<u8>, postcard::Error> {
    let plain = postcard::to_stdvec(items)?;
    let mut payload = Vec::with_capacity(plain.len() / 2 + 16);
    payload.push(FORMAT_POSTCARD_LZ4);
    payload.extend_from_slice(&lz4_flex::compress_prepend_size(&plain));
    Ok(payload)
}

/// The items of a payload.
pub fn decode_items<T: DeserializeOwned>(payload: Vec<u8>) -> Result<Vec<T>, Undecodable> {
    match try_decode(&payload) {
        Ok(items) => Ok(items),
        Err(why) => Err(Undecodable { why, payload }),
    }
}

fn try_decode<T: DeserializeOwned>(payload: &[u8]) -> Result<Vec<T>, String> {
    let [format, rest @ ..] = payload else { return Err("it is empty".into()) };
    if *format != FORMAT_POSTCARD_LZ4 {
        return Err(format!("format {format} is unknown to this version"));
    }
    let (size, block) = lz4_flex::block::uncompressed_size(rest).map_err(|error| error.to_string())?;
    if size > MAX_DECOMPRESSED {
        return Err(format!("it claims to hold {size} bytes, more than {MAX_DECOMPRESSED}"));
    }
    let plain = lz4_flex::decompress(block, size).map_err(|error| error.to_string())?;
    postcard::from_bytes(&plain).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_were() {
        for items in [vec![], vec!["one".to_owned()], vec!["x".repeat(100_000); 20]] {
            let payload = encode_items(&items).unwrap();
            assert_eq!(decode_items::<String>(payload).unwrap(), items);
        }
    }

    #[test]
    fn what_is_not_understood_comes_back_with_its_bytes() {
        let good = encode_items(&["text".to_owned()]).unwrap();
        let unknown = [&[9], &good[1..]].concat();
        let huge = [&[FORMAT_POSTCARD_LZ4][..], &u32::MAX.to_le_bytes(), b"x"].concat();
        for (payload, why) in [
            (vec![], "empty"),
            (unknown, "format 9"),
            (huge, "claims to hold 4294967295 bytes"),
            (good[..good.len() - 1].to_vec(), ""),
            (vec![FORMAT_POSTCARD_LZ4, 1], ""),
        ] {
            let error = decode_items::<String>(payload.clone()).unwrap_err();
            assert!(error.why.contains(why), "{error}");
            assert_eq!(error.payload, payload);
        }
    }
}
