//! The last lines of the appliance's own log over the API: page by page, and as a stream. Changes nothing and keeps
//! nothing; what a reader has seen is in its cursor.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::fault::{Answer, Fault};
use super::super::input::Fields;
use super::super::sse::last_event_id;
use crate::telemetry::logs::{LogFilter, LogLevel, LogLine, LogRing};

/// Lines of one answer when no limit is given.
const DEFAULT_LIMIT: usize = 100;

/// Lines taken from the log at once for a stream.
const AT_ONCE: usize = 64;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(follow))
}

/// One line of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogEntry {
    /// Its number since the start of the process.
    id: u64,
    #[schema(format = DateTime)]
    timestamp: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    level: &'static str,
    /// The part of the program that wrote it.
    component: String,
    /// The module that wrote it.
    module: String,
    message: String,
    /// What belongs to the line, by name: `event.id`, `trace_id`, `correlation_id` among others.
    fields: Map<String, Value>,
}

/// Lines of the log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogList {
    logs: Vec<LogEntry>,
    /// The `cursor` of the next request; null at the oldest line there is.
    next_cursor: Option<u64>,
    /// The id of the newest line, where a stream can go on.
    newest: u64,
}

impl LogEntry {
    fn new(line: &LogLine) -> Self {
        Self {
            id: line.id,
            timestamp: line.at.to_string(),
            level: line.level.name(),
            component: line.component().to_owned(),
            module: line.module.clone().into_owned(),
            message: line.message.clone(),
            fields: line.fields.iter().map(|(name, value)| (name.clone().into_owned(), value.clone())).collect(),
        }
    }
}

/// The last lines of the appliance's own log
///
/// Newest first, from memory: they begin anew with each start.
#[utoipa::path(
    get,
    path = "/logs",
    params(
        ("level" = Option<LevelName>, Query, description = "lines that matter at least so much"),
        ("component" = Option<String>, Query, description = "the part of the program, such as `forward`"),
        ("q" = Option<String>, Query, description = "a text in the sentence or the fields, ignoring case"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "lines of one answer; 100 unless given"),
        ("cursor" = Option<u64>, Query, description = "`next_cursor` of an earlier answer"),
    ),
    responses((status = 200, body = LogList)),
)]
async fn list(State(web): State<Web>, fields: Fields) -> Answer<Json<LogList>> {
    fields.only(&["level", "component", "q", "limit", "cursor"])?;
    let (filter, limit) = (filter(&fields)?, fields.number("limit", DEFAULT_LIMIT, 1, 1_000)?);
    let ring = web.admin.logs();
    let newest = ring.newest();
    let page = ring.page(&filter, cursor(&fields)?, limit);
    Ok(Json(LogList {
        logs: page.lines.iter().map(|line| LogEntry::new(line)).collect(),
        next_cursor: page.next,
        newest,
    }))
}

/// New lines of the log as server-sent events
///
/// Each line is a frame `line` with a line of the log as JSON; a frame `missed` says how many went before they could be
/// read. It begins after `cursor` or `Last-Event-ID`, else with the next line, and ends after ten minutes.
#[utoipa::path(
    get,
    path = "/logs/stream",
    params(
        ("level" = Option<LevelName>, Query, description = "lines that matter at least so much"),
        ("component" = Option<String>, Query, description = "the part of the program, such as `forward`"),
        ("q" = Option<String>, Query, description = "a text in the sentence or the fields, ignoring case"),
        ("cursor" = Option<u64>, Query, description = "the id of the last line that was seen"),
    ),
    responses((status = 200, body = String, content_type = "text/event-stream")),
)]
async fn follow(State(web): State<Web>, headers: HeaderMap, fields: Fields) -> Answer<Response> {
    fields.only(&["level", "component", "q", "cursor"])?;
    let (filter, asked) = (filter(&fields)?, cursor(&fields)?);
    let seen = last_event_id(&headers).and_then(|id| id.parse().ok()).or(asked);
    let place = web.streams.place()?;
    let ring = web.admin.logs().clone();
    let cursor = seen.unwrap_or_else(|| ring.newest());
    Ok(place.serve(frames(ring, filter, cursor)))
}

/// How much a line matters.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used: a query is read by `LogLevel::find`")]
enum LevelName {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// The filters, from a query; the page uses the same.
pub(in crate::web) fn filter(fields: &Fields) -> Result<LogFilter, Fault> {
    let some = |name| Some(fields.text(name)).filter(|text| !text.is_empty());
    Ok(LogFilter {
        level: fields.parsed("level", "error, warn, info, debug or trace", LogLevel::find)?,
        component: some("component"),
        text: some("q"),
    })
}

fn cursor(fields: &Fields) -> Result<Option<u64>, Fault> {
    let parse = |text: &str| text.parse().ok().filter(|cursor| i64::try_from(*cursor).is_ok());
    fields.parsed("cursor", "a cursor from an earlier answer", parse)
}

/// What a stream has to say next.
struct Reader {
    ring: LogRing,
    filter: LogFilter,
    cursor: u64,
    changes: watch::Receiver<u64>,
    ready: VecDeque<Event>,
}

fn frames(ring: LogRing, filter: LogFilter, cursor: u64) -> impl Stream<Item = Event> + Send + 'static {
    let reader = Reader { changes: ring.changes(), ring, filter, cursor, ready: VecDeque::new() };
    stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) })
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            // Marked as seen before it is read, so that a line in between wakes us again.
            self.changes.borrow_and_update();
            self.read();
            if self.ready.is_empty() {
                self.changes.changed().await.ok()?;
            }
        }
    }

    fn read(&mut self) {
        let news = self.ring.after(&self.filter, self.cursor, AT_ONCE);
        self.cursor = news.cursor;
        if news.missed > 0 {
            self.ready.push_back(Event::default().event("missed").data(json!({"missed": news.missed}).to_string()));
        }
        self.ready.extend(news.lines.iter().map(frame));
    }
}

fn frame(line: &Arc<LogLine>) -> Event {
    // Plain data always encodes; were it not so, the reader would see an empty line.
    let data = serde_json::to_string(&LogEntry::new(line)).unwrap_or_default();
    Event::default().event("line").id(line.id.to_string()).data(data)
}
