//! Streams of server-sent events (the HTML standard's `text/event-stream`): how many there are at once, what keeps them
//! alive, and when they end.
//!
//! A stream holds no buffer of its own: its source is asked for the next frame when the reader has taken the one before,
//! so a slow reader costs nothing and the source tells it what it missed. A peer that takes nothing at all is cut off by
//! the listener. Each stream ends after [`LONGEST`], so that a right that was taken away ends too, and with the server;
//! browsers come again by themselves, with the id of the last frame in `Last-Event-ID`. Nothing is kept: a crash ends
//! the streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use crate::telemetry::metrics::WEB_STREAMS;

/// Streams at once, of all kinds together: each holds a connection, of which the listener has 1,024.
const MOST: usize = 64;

/// A line without meaning is sent after so long without a frame: proxies close what is silent for 30 to 60 s, and a peer
/// that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream's life. Who opens the next one is checked anew.
const LONGEST: Duration = Duration::from_secs(600);

/// Keeps nginx from holding frames back.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The places for streams; clones share them.
#[derive(Clone)]
pub(super) struct Streams {
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

/// A place for one stream, given back when the stream ends.
pub(super) struct Place {
    held: Held,
    stop: CancellationToken,
}

/// Counts the stream for as long as it is there.
struct Held {
    _permit: OwnedSemaphorePermit,
}

impl Held {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!(WEB_STREAMS).increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::gauge!(WEB_STREAMS).decrement(1.0);
    }
}

impl Streams {
    /// Streams that end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), stop }
    }

    /// A place, or 503 when all are taken.
    pub fn place(&self) -> Result<Place, Fault> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let mut fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams are open");
            fault.detail = Some(format!("at most {MOST} at once; close one, or ask without a stream"));
            fault.retry_after = Some(HEARTBEAT.as_secs());
            fault
        })?;
        Ok(Place { held: Held::new(permit), stop: self.stop.clone() })
    }
}

impl Place {
    /// Sends what `frames` brings until it ends, the server stops or the stream's life is over.
    pub fn serve(self, frames: impl Stream<Item = Event> + Send + 'static) -> Response {
        let Self { held, stop } = self;
        let over = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LONGEST) => {}
            }
        };
        let frames = frames.take_until(Box::pin(over)).map(move |frame| {
            // The place is held for as long as the stream is.
            let _ = &held;
            Ok::<_, Infallible>(frame)
        });
        let mut response = Sse::new(frames).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
        response.headers_mut().insert(NO_BUFFERING, HeaderValue::from_static("no"));
        response
    }
}

/// The id of the last frame that a reader who comes again has seen.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok().map(str::trim).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use futures_util::stream;

    fn one_and_silence() -> impl Stream<Item = Event> + Send + 'static {
        stream::once(async { Event::default().id("7").data("first") }).chain(stream::pending())
    }

    async fn read(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_server_and_gives_its_place_back() {
        let stop = CancellationToken::new();
        let streams = Streams::new(stop.clone());
        let response = streams.place().expect("a place").serve(one_and_silence());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(streams.places.available_permits(), MOST - 1);
        stop.cancel();
        read(response).await;
        assert_eq!(streams.places.available_permits(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_beats_and_ends_after_its_life() {
        let streams = Streams::new(CancellationToken::new());
        let text = read(streams.place().expect("a place").serve(one_and_silence())).await;
        assert!(text.starts_with("id: 7\ndata: first\n\n"), "{text}");
        let beats = text.lines().filter(|line| line.starts_with(':')).count();
        assert!((30..=40).contains(&beats), "{beats}");
    }

    #[tokio::test]
    async fn more_streams_than_places_are_refused_for_now() {
        let streams = Streams::new(CancellationToken::new());
        let held: Vec<Place> = (0..MOST).map(|_| streams.place().expect("a place")).collect();
        let fault = streams.place().err().expect("no place is left");
        assert_eq!((fault.status, fault.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(15)));
        drop(held);
        assert!(streams.place().is_ok());
    }

    #[test]
    fn the_last_id_seen_is_read_from_the_request() {
        let check = |sent: &'static str, expected: Option<&str>| {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static("last-event-id"), HeaderValue::from_static(sent))]);
            assert_eq!(last_event_id(&headers), expected);
        };
        check("17", Some("17"));
        check(" ", None);
        assert_eq!(last_event_id(&HeaderMap::new()), None);
    }
}
