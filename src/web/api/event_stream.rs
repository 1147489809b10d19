//! Events as they come, as server-sent events.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::super::Web;
use super::super::fault::{Answer, Fault};
use super::super::input::Fields;
use super::super::sse::last_event_id;
use super::events::{EventFilters, SEARCH_FILTERS, judged_json, query};
use crate::admin::{LiveBatch, LiveEvents};
use crate::model::EventId;

/// Events as they come
///
/// A stream of server-sent events (`text/event-stream`), with the filters of a search. Each frame `event` holds an event as a
/// search has it, with its id as the frame's; a frame `missed` says how many events a reader that is too slow was not shown.
/// A comment is sent every 15 seconds. The stream ends after ten minutes; who comes again with the last frame's id in
/// `Last-Event-ID` is given what came meanwhile, as far as the recent store reaches.
#[utoipa::path(
    get,
    path = "/events/stream",
    params(
        EventFilters,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last frame that was seen"),
    ),
    responses((status = 200, description = "The stream", content_type = "text/event-stream", body = String))
)]
pub(super) async fn stream(State(web): State<Web>, headers: HeaderMap, fields: Fields) -> Answer<Response> {
    fields.only(&SEARCH_FILTERS)?;
    let query = query(&fields, 1)?;
    let last = match last_event_id(&headers) {
        None => None,
        Some(id) => {
            let parsed = id.parse::<EventId>();
            Some(parsed.map_err(|_| Fault::field("Last-Event-ID", "it is no id of a frame of this stream"))?)
        }
    };
    let place = web.streams.place()?;
    let live = web.admin.watch_events(&query, last).await?;
    let batches = stream::unfold(live, |mut live: LiveEvents| async move {
        let batch = live.next().await;
        Some((batch, live))
    });
    Ok(place.serve(batches.flat_map(|batch| stream::iter(frames(batch)))))
}

fn frames(batch: LiveBatch) -> Vec<Event> {
    let events = batch.events.iter().map(|judged| {
        // Event data are JSON, which has no line breaks.
        Event::default().event("event").id(judged.event.id.to_string()).data(judged_json(judged).to_string())
    });
    let missed =
        (batch.missed > 0).then(|| Event::default().event("missed").data(json!({"missed": batch.missed}).to_string()));
    events.chain(missed).collect()
}
