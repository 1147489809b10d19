//! Reads request bodies into bounded memory: each body is limited, all of them together are limited, and so is what is
//! made of them.
//!
//! What it never does: trust a length that a peer claims, inflate beyond the limit, wait for ever for room. Nothing here
//! is kept: a crash loses bodies that were not answered.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Rejection;

/// Bytes of bodies held at once, as received: eight of the largest with the default limit, a thousand usual batches.
/// No body may be larger, whatever the setting says.
const READING_BYTES: usize = 32 << 20;
/// Bytes of events being made or waiting for the intake at once, by the estimate of [`EXPANSION`].
const WORKING_BYTES: usize = 96 << 20;
/// Bytes of memory a byte of JSON may become. The smallest event with its required members has 43 bytes and takes
/// about 600 (measured with `Event::approximate_bytes`), which is the worst there is.
const EXPANSION: usize = 16;
/// Bodies inflated at once; beyond the number of cores more only cost memory.
const INFLATING: usize = 4;
/// How long a body waits for room among the others before its sender is told to come back.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a refused body that are read and thrown away, so that the answer is not lost in a reset connection.
const DISCARD_BYTES: usize = 16 << 20;
/// Time for that.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Gzip,
}

/// The memory that all requests share.
pub(super) struct Room {
    reading: Arc<Semaphore>,
    working: Arc<Semaphore>,
    inflating: Arc<Semaphore>,
}

/// A body as text, with the room for what is made of it.
pub(super) struct Text {
    pub(super) text: String,
    /// Held until the events are handed over.
    pub(super) working: OwnedSemaphorePermit,
    _reading: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            reading: Arc::new(Semaphore::new(READING_BYTES)),
            working: Arc::new(Semaphore::new(WORKING_BYTES)),
            inflating: Arc::new(Semaphore::new(INFLATING)),
        }
    }

    /// Reads, inflates and checks a body of at most `limit` bytes (before and after).
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body, limit: usize) -> Result<Text, Rejection> {
        let limit = limit.min(READING_BYTES);
        let encoding = encoding(headers)?;
        let mut stream = body.into_data_stream();
        let (bytes, reading) = match self.collect(headers, &mut stream, limit).await {
            Ok(read) => read,
            Err(rejection) => {
                discard_stream(headers, &mut stream).await;
                return Err(rejection);
            }
        };
        let (bytes, inflating) = match encoding {
            Encoding::Plain => (bytes, None),
            Encoding::Gzip => {
                let slot = take(&self.inflating, 1).await?;
                (inflate_off_thread(bytes, limit).await?, Some(slot))
            }
        };
        let working = take(&self.working, bytes.len().saturating_mul(EXPANSION).clamp(1, WORKING_BYTES)).await?;
        drop(inflating);
        Ok(Text { text: utf8(bytes)?, working, _reading: reading })
    }

    /// The bytes and the room they hold.
    async fn collect(
        &self,
        headers: &HeaderMap,
        stream: &mut BodyDataStream,
        limit: usize,
    ) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Rejection> {
        let claimed = claimed_length(headers);
        if claimed.is_some_and(|length| length > limit as u64) {
            return Err(Rejection::TooLarge { limit });
        }
        // The claim only sizes the buffer; the kernel gives memory for what is really written into it.
        let mut bytes = Vec::with_capacity(claimed.and_then(|length| usize::try_from(length).ok()).unwrap_or(0));
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Rejection::unreadable(&error))?;
            if chunk.is_empty() {
                continue;
            }
            if bytes.len() + chunk.len() > limit {
                return Err(Rejection::TooLarge { limit });
            }
            let more = take(&self.reading, chunk.len()).await?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, room))
    }
}

/// Takes `amount` of a shared resource, or tells the sender to come back.
async fn take(semaphore: &Arc<Semaphore>, amount: usize) -> Result<OwnedSemaphorePermit, Rejection> {
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    match tokio::time::timeout(ROOM_WAIT, Arc::clone(semaphore).acquire_many_owned(amount)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(Rejection::Busy),
    }
}

fn claimed_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether we understand the body's type (SPEC: JSON in any dress, text, or nothing said).
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let value = value.to_str().unwrap_or("?");
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["", "text/plain", "text/json", "text/x-ndjson", "application/json"].contains(&kind.as_str())
        || ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]
            .contains(&kind.as_str())
        || (kind.starts_with("application/") && kind.ends_with("+json"));
    if known { Ok(()) } else { Err(Rejection::UnsupportedType) }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Rejection> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Plain) };
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Plain),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        _ => Err(Rejection::UnsupportedEncoding),
    }
}

async fn inflate_off_thread(bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, Rejection> {
    // A task that dies without a result was a bug or the runtime's end; either way the body cannot be read.
    tokio::task::spawn_blocking(move || inflate(&bytes, limit)).await.unwrap_or(Err(Rejection::Busy))
}

/// Inflates gzip, one member or several, to at most `limit` bytes.
fn inflate(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Rejection> {
    let mut inflated = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes).take(limit as u64 + 1);
    match decoder.read_to_end(&mut inflated) {
        Ok(_) if inflated.len() > limit => Err(Rejection::TooLarge { limit }),
        Ok(_) => Ok(inflated),
        Err(_) => Err(Rejection::Malformed("the body is not valid gzip".to_owned())),
    }
}

/// JSON is UTF-8 (RFC 8259 section 8.1); a byte order mark is tolerated and cut.
fn utf8(bytes: Vec<u8>) -> Result<String, Rejection> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        Rejection::Malformed(format!("the body is not UTF-8 at byte {position}"))
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Reads a body nobody wants, within limits, so that its sender gets to see the answer.
pub(super) async fn discard(headers: &HeaderMap, body: Body) {
    discard_stream(headers, &mut body.into_data_stream()).await;
}

async fn discard_stream(headers: &HeaderMap, stream: &mut BodyDataStream) {
    // Whoever asks first is told by the answer itself not to send; one that says it sends more than we discard is
    // better cut off at once.
    if headers.contains_key(header::EXPECT) || claimed_length(headers).is_some_and(|all| all > DISCARD_BYTES as u64) {
        return;
    }
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    };
    // Time over or all read: both are fine, the answer goes out now.
    drop(tokio::time::timeout(DISCARD_TIME, reading).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a header value"))])
    }

    #[test]
    fn gzip_is_inflated_up_to_the_limit_and_not_beyond() {
        assert_eq!(inflate(&gzip(b"abc"), 3).expect("valid"), b"abc");
        let two = [gzip(b"abc"), gzip(b"def")].concat();
        assert_eq!(inflate(&two, 6).expect("two members"), b"abcdef");
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(matches!(inflate(&bomb, 4 << 20), Err(Rejection::TooLarge { .. })));
        assert!(matches!(inflate(b"not gzip", 10), Err(Rejection::Malformed(_))));
        assert!(matches!(inflate(&gzip(b"abc")[..10], 10), Err(Rejection::Malformed(_))));
    }

    #[test]
    fn json_and_text_are_accepted_and_other_types_are_not() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/x-ndjson", true),
            ("application/vnd.kafka.json.v2+json", true),
            ("text/plain", true),
            ("text/xml", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=x", false),
        ] {
            assert_eq!(check_content_type(&headers(header::CONTENT_TYPE, kind)).is_ok(), expected, "{kind}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_ok());
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_whether_it_says_so_or_not() {
        let room = Room::new();
        let said = headers(header::CONTENT_LENGTH, "11");
        for headers in [HeaderMap::new(), said] {
            let result = room.read(&headers, Body::from("01234567890"), 10).await;
            assert!(matches!(result, Err(Rejection::TooLarge { limit: 10 })));
        }
        assert_eq!(room.reading.available_permits(), READING_BYTES, "refused bodies hold no room");
        assert_eq!(
            room.read(&HeaderMap::new(), Body::from("\u{feff}{}"), 10).await.ok().map(|t| t.text),
            Some("{}".into())
        );
        assert!(matches!(room.read(&HeaderMap::new(), Body::from(vec![0xff]), 10).await, Err(Rejection::Malformed(_))));
    }
}
