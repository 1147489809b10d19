//! A frame: some events, compressed together, with enough in its header to know whether it is worth opening.
//!
//! Header (96 bytes, little endian): magic `MRF`, version 3, payload length, plain length, number of events, CRC-32 of
//! the payload, least and greatest event id (16 bytes each, as they sort), least and greatest receive time
//! (microseconds), traits (4 bytes), length and CRC-32 of the filter, 12 bytes of zero for later, CRC-32 of the header
//! before it. After it the filter (see `digest`), then the payload: zstd of records, each a length (u32) and the compact
//! form of a `Judged`. Records have their length in front so that a search can look at the bytes of one without decoding
//! it. Version 2 had zeros where traits and filter are, which means the same: not known, and none.

use super::digest::{Filter, Gatherer, MAX_FILTER, Traits};
use crate::model::{EventId, Judged, Timestamp};

const MAGIC: [u8; 3] = *b"MRF";
const VERSION: u8 = 3;
/// The oldest version that is read.
const OLDEST_VERSION: u8 = 2;
/// Bytes of a header.
pub(super) const HEADER: usize = 96;
/// Largest payload and largest plain content accepted when reading, so that damage cannot ask for all memory.
/// Frames are written at about 512 KiB of events; a single huge event makes a huge frame.
const MAX_BYTES: u32 = 256 << 20;
/// zstd level: -1 takes a third less time than 1 and 14 % more space, see ADR-012.
const LEVEL: i32 = -1;

/// What is known of a frame without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameInfo {
    pub(super) payload: u32,
    pub(super) plain: u32,
    pub(super) count: u32,
    pub(super) crc: u32,
    pub(super) least_id: EventId,
    pub(super) greatest_id: EventId,
    pub(super) least_time: Timestamp,
    pub(super) greatest_time: Timestamp,
    pub(super) traits: Traits,
    /// Bytes of the filter; 0 for none.
    pub(super) filter: u32,
    pub(super) filter_crc: u32,
}

/// A frame that is to be written.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) info: FrameInfo,
    /// The whole of it.
    pub(super) bytes: Vec<u8>,
    /// The keys of its filter.
    pub(super) keys: Vec<u64>,
}

impl FrameInfo {
    /// Bytes of the whole frame.
    pub(super) fn bytes(&self) -> u64 {
        self.payload_at() + u64::from(self.payload)
    }

    /// Where the payload begins, from the beginning of the frame.
    pub(super) fn payload_at(&self) -> u64 {
        HEADER as u64 + u64::from(self.filter)
    }

    /// The header's bytes.
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..3].copy_from_slice(&MAGIC);
        header[3] = VERSION;
        header[4..8].copy_from_slice(&self.payload.to_le_bytes());
        header[8..12].copy_from_slice(&self.plain.to_le_bytes());
        header[12..16].copy_from_slice(&self.count.to_le_bytes());
        header[16..20].copy_from_slice(&self.crc.to_le_bytes());
        header[20..36].copy_from_slice(self.least_id.as_bytes());
        header[36..52].copy_from_slice(self.greatest_id.as_bytes());
        header[52..60].copy_from_slice(&self.least_time.as_micros().to_le_bytes());
        header[60..68].copy_from_slice(&self.greatest_time.as_micros().to_le_bytes());
        header[68..70].copy_from_slice(&self.traits.severities.to_le_bytes());
        (header[70], header[71]) = (self.traits.protocols, self.traits.matched);
        header[72..76].copy_from_slice(&self.filter.to_le_bytes());
        header[76..80].copy_from_slice(&self.filter_crc.to_le_bytes());
        let crc = crc32fast::hash(&header[..92]);
        header[92..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads a header; `None` if it is none, or one of another version.
    pub(super) fn decode(header: &[u8; HEADER]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let is_known = (OLDEST_VERSION..=VERSION).contains(&header[3]);
        if header[..3] != MAGIC || !is_known || u32_at(92) != crc32fast::hash(&header[..92]) {
            return None;
        }
        let info = Self {
            payload: u32_at(4),
            plain: u32_at(8),
            count: u32_at(12),
            crc: u32_at(16),
            least_id: EventId::from_bytes(header[20..36].try_into().ok()?),
            greatest_id: EventId::from_bytes(header[36..52].try_into().ok()?),
            least_time: Timestamp::from_micros(i64::from_le_bytes(header[52..60].try_into().ok()?)),
            greatest_time: Timestamp::from_micros(i64::from_le_bytes(header[60..68].try_into().ok()?)),
            traits: Traits {
                severities: u16::from_le_bytes([header[68], header[69]]),
                protocols: header[70],
                matched: header[71],
            },
            filter: u32_at(72),
            filter_crc: u32_at(76),
        };
        (info.payload <= MAX_BYTES && info.plain <= MAX_BYTES && info.filter <= MAX_FILTER).then_some(info)
    }
}

/// Makes frames one after the other, with the buffers and the compressor of the last.
pub(super) struct Encoder {
    plain: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    gatherer: Gatherer,
}

impl Encoder {
    pub(super) fn new() -> std::io::Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)?;
        Ok(Self { plain: Vec::new(), compressor, gatherer: Gatherer::new() })
    }

    /// The frame of `events`, header included; `None` for no events.
    pub(super) fn encode<'a>(&mut self, events: impl Iterator<Item = &'a Judged>) -> std::io::Result<Option<Packed>> {
        let mut info: Option<FrameInfo> = None;
        self.plain.clear();
        // What an encoding that failed had gathered is not of this frame.
        self.gatherer.take();
        for judged in events {
            let start = self.plain.len();
            self.plain.extend_from_slice(&[0; 4]);
            judged.write(&mut self.plain);
            let length = u32::try_from(self.plain.len() - start - 4).map_err(std::io::Error::other)?;
            self.plain[start..start + 4].copy_from_slice(&length.to_le_bytes());
            widen(&mut info, judged);
            self.gatherer.add(judged);
        }
        let Some(mut info) = info else { return Ok(None) };
        let (traits, keys) = self.gatherer.take();
        let filter = Filter::of(keys.len(), keys.iter().copied());
        let begin = HEADER + filter.as_bytes().len();
        let mut frame = vec![0; begin + zstd::zstd_safe::compress_bound(self.plain.len())];
        frame[HEADER..begin].copy_from_slice(filter.as_bytes());
        let payload = self.compressor.compress_to_buffer(&self.plain, &mut frame[begin..])?;
        frame.truncate(begin + payload);
        info.payload = u32::try_from(payload).map_err(std::io::Error::other)?;
        info.plain = u32::try_from(self.plain.len()).map_err(std::io::Error::other)?;
        if info.payload > MAX_BYTES || info.plain > MAX_BYTES {
            return Err(std::io::Error::other("the events are too large for a frame"));
        }
        info.crc = crc32fast::hash(&frame[begin..]);
        info.traits = traits;
        info.filter = u32::try_from(filter.as_bytes().len()).map_err(std::io::Error::other)?;
        info.filter_crc = crc32fast::hash(filter.as_bytes());
        frame[..HEADER].copy_from_slice(&info.encode());
        // A burst must not keep its buffer for ever.
        self.plain.shrink_to(4 << 20);
        Ok(Some(Packed { info, bytes: frame, keys }))
    }
}

fn widen(info: &mut Option<FrameInfo>, judged: &Judged) {
    let (id, time) = (judged.event.id, judged.event.received_at);
    let info = info.get_or_insert(FrameInfo {
        payload: 0,
        plain: 0,
        count: 0,
        crc: 0,
        least_id: id,
        greatest_id: id,
        least_time: time,
        greatest_time: time,
        traits: Traits::default(),
        filter: 0,
        filter_crc: 0,
    });
    info.count += 1;
    info.least_id = info.least_id.min(id);
    info.greatest_id = info.greatest_id.max(id);
    info.least_time = info.least_time.min(time);
    info.greatest_time = info.greatest_time.max(time);
}

/// The plain content of a frame, or why it cannot be read.
pub(super) fn open_payload(info: &FrameInfo, payload: &[u8]) -> Result<Vec<u8>, String> {
    if crc32fast::hash(payload) != info.crc {
        return Err("its checksum is wrong".to_owned());
    }
    let plain = zstd::bulk::decompress(payload, info.plain as usize).map_err(|error| error.to_string())?;
    if plain.len() == info.plain as usize { Ok(plain) } else { Err("its length is wrong".to_owned()) }
}

/// The filter of a frame; one that admits everything if it has none or is damaged.
pub(super) fn open_filter(info: &FrameInfo, bytes: &[u8]) -> Filter {
    if crc32fast::hash(bytes) == info.filter_crc { Filter::from_bytes(bytes) } else { Filter::default() }
}

/// Where each record lies in a frame's plain content, its length not included. Ends at the first that does not fit.
pub(super) fn records(plain: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = plain.get(at..at + 4)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let start = at + 4;
        let end = start.checked_add(length).filter(|end| *end <= plain.len())?;
        at = end;
        Some(start..end)
    })
}
