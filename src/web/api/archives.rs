//! Archives over the API: what there is, whether it is what it was, searches in place, restores, downloads.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, Segment};
use super::events::judged_json;
use super::retention::{Running, answer};
use crate::admin::{AdminError, ArchiveFilter, FileState, RestoreChoice};
use crate::model::Day;

/// Archives of one answer when no limit is given.
const DEFAULT_LIMIT: usize = 100;
/// Events of one answer when no limit is given.
const DEFAULT_EVENTS: usize = 100;
/// Bytes of a download read at once.
const PIECE: usize = 256 << 10;

/// The filters of a search: those of `GET /events`.
const FILTERS: [&str; 12] = [
    "q",
    "hostname",
    "severity",
    "source",
    "peer",
    "rule_id",
    "matched",
    "from",
    "to",
    "correlation_id",
    "limit",
    "cursor",
];

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(search))
        .routes(routes!(overview, verify_all))
        .routes(routes!(restore))
        .routes(routes!(accept))
        .routes(routes!(show))
        .routes(routes!(verify))
        .routes(routes!(give_back))
        .routes(routes!(download))
}

/// An archive.
#[derive(Serialize, ToSchema)]
struct ArchiveView {
    name: String,
    /// The day of its events, UTC.
    #[schema(format = Date)]
    day: String,
    events: u64,
    /// Lines that are only further notes of receivers.
    notes: u64,
    bytes: u64,
    /// SHA-256 of the file.
    sha256: String,
    /// SHA-256 of its lines.
    content_sha256: String,
    #[schema(format = DateTime)]
    written_at: String,
    /// Whether its events have left the audit.
    settled: bool,
    /// Until when a copy of its events is in the audit.
    #[schema(format = DateTime)]
    restored_until: Option<String>,
}

impl From<FileState> for ArchiveView {
    fn from(file: FileState) -> Self {
        Self {
            name: file.facts.name,
            day: file.facts.day.to_string(),
            events: file.facts.rows,
            notes: file.facts.notes,
            bytes: file.facts.bytes,
            sha256: file.facts.sha256,
            content_sha256: file.facts.content_sha256,
            written_at: file.at.to_string(),
            settled: file.settled,
            restored_until: file.restored_until.map(|until| until.to_string()),
        }
    }
}

/// Archives.
#[derive(Serialize, ToSchema)]
struct ArchiveList {
    archives: Vec<ArchiveView>,
    /// Archives in all that fit the filters.
    total: usize,
    /// What `cursor` must be for those that follow; null at the end.
    next_cursor: Option<String>,
}

/// Archives, newest first
#[utoipa::path(
    get,
    path = "/archives",
    params(
        ("from" = Option<String>, Query, format = Date, description = "Of this day or later"),
        ("to" = Option<String>, Query, format = Date, description = "Of this day or earlier"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many; 100 unless said"),
        ("cursor" = Option<String>, Query, description = "Where an earlier answer ended: its `next_cursor`, an archive's name"),
    ),
    responses((status = 200, body = ArchiveList))
)]
async fn list(State(web): State<Web>, fields: Fields) -> Answer<Json<ArchiveList>> {
    fields.only(&["from", "to", "limit", "cursor"])?;
    let limit = fields.number("limit", DEFAULT_LIMIT, 1, 1_000)?;
    let after = fields.parsed("cursor", "a cursor of an earlier answer", |text| text.parse().ok())?;
    let filter = ArchiveFilter { from: fields.day("from")?, to: fields.day("to")?, after };
    let page = web.admin.archive_page(&filter, limit);
    Ok(Json(ArchiveList {
        archives: page.files.into_iter().map(ArchiveView::from).collect(),
        total: page.total,
        next_cursor: page.next.map(|name| name.to_string()),
    }))
}

/// One archive
#[utoipa::path(
    get,
    path = "/archives/{name}",
    params(("name" = String, Path, description = "Its name: `events-2026-01-31.ndjson.zst`")),
    responses((status = 200, body = ArchiveView))
)]
async fn show(State(web): State<Web>, Segment(name): Segment) -> Answer<Json<ArchiveView>> {
    Ok(Json(web.admin.archive(&name)?.into()))
}

/// Archived events.
#[derive(Serialize, ToSchema)]
struct FoundEvents {
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// What `cursor` must be to go on; null when everything was searched. An answer may have fewer items than asked for and
    /// still have it: a search takes two seconds at most.
    next_cursor: Option<String>,
    /// Archives that may hold further hits and could not be read: damaged or missing.
    left_out: Vec<String>,
}

/// Searches the archives in place
///
/// Newest first, with the filters of `GET /events`. Give `from` and `to`, a host or a rule where you can: only what may
/// hold a hit is unpacked.
#[utoipa::path(
    get,
    path = "/archives/search",
    params(
        ("q" = Option<String>, Query, description = "A part of the message, the raw text or a value; case does not matter"),
        ("hostname" = Option<String>, Query, description = "The host, in full"),
        ("severity" = Option<String>, Query, description = "0 to 7, or a name"),
        ("source" = Option<String>, Query, description = "The protocol it came by"),
        ("peer" = Option<String>, Query, description = "The address it came from"),
        ("rule_id" = Option<i64>, Query, description = "The rule that matched it"),
        ("matched" = Option<bool>, Query, description = "Whether any rule matched it"),
        ("from" = Option<String>, Query, format = DateTime, description = "Received at or after"),
        ("to" = Option<String>, Query, format = DateTime, description = "Received before"),
        ("correlation_id" = Option<String>, Query, description = "The correlation id, in full"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many; 100 unless said"),
        ("cursor" = Option<String>, Query, description = "Where an earlier answer ended: its `next_cursor`"),
    ),
    responses((status = 200, body = FoundEvents))
)]
async fn search(State(web): State<Web>, fields: Fields) -> Answer<Json<FoundEvents>> {
    fields.only(&FILTERS)?;
    let found = web.admin.search_archives(&super::query(&fields, DEFAULT_EVENTS)?).await?;
    Ok(Json(FoundEvents {
        items: found.items.iter().map(judged_json).collect(),
        next_cursor: found.next.map(|id| id.to_string()),
        left_out: found.left_out.iter().map(ToString::to_string).collect(),
    }))
}

/// Something that does not fit.
#[derive(Serialize, ToSchema)]
struct FaultView {
    /// The archive; null if the manifest is at fault.
    name: Option<String>,
    why: String,
}

/// What does not fit between manifest and files.
#[derive(Serialize, ToSchema)]
struct OverviewView {
    ok: bool,
    faults: Vec<FaultView>,
}

/// Whether manifest and files fit
///
/// Looks at the manifest's chain, at names and sizes, not into the files.
#[utoipa::path(get, path = "/archives/verify", responses((status = 200, body = OverviewView)))]
async fn overview(State(web): State<Web>) -> Answer<Json<OverviewView>> {
    let faults = web.admin.archive_overview().await?;
    let faults: Vec<FaultView> =
        faults.into_iter().map(|fault| FaultView { name: fault.name, why: fault.why }).collect();
    Ok(Json(OverviewView { ok: faults.is_empty(), faults }))
}

/// Which archives to read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    /// So many, spread over all; all of them without it.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100000)]
    sample: Option<u32>,
}

/// Reads archives and compares them
///
/// Every byte with the manifest. What is not what it was is listed as `damaged`.
#[utoipa::path(
    post,
    path = "/archives/verify",
    request_body = VerifyRequest,
    responses(
        (status = 200, body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 409, description = "A run is under way"),
    )
)]
async fn verify_all(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let request: VerifyRequest = body.read()?;
    let sample = match request.sample {
        Some(0) => return Err(Fault::field("sample", "it must be 1 or more")),
        Some(sample) if sample > 100_000 => return Err(Fault::field("sample", "it must be 100000 at most")),
        sample => sample.map(|sample| sample as usize),
    };
    Ok(answer(&web.admin.verify_archives(None, sample, &caller.0, body.reason.as_deref()).await?))
}

/// Reads one archive and compares it
#[utoipa::path(
    post,
    path = "/archives/{name}/verify",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 409, description = "A run is under way"),
    )
)]
async fn verify(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Response> {
    Ok(answer(&web.admin.verify_archives(Some(&name), None, &caller.0, reason.as_deref()).await?))
}

/// What to restore: one archive, or the days from `from` to `to`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RestoreRequest {
    /// This archive.
    #[serde(default)]
    name: Option<String>,
    /// Archives of this day and later ones.
    #[serde(default)]
    #[schema(format = Date)]
    from: Option<String>,
    /// Up to this day.
    #[serde(default)]
    #[schema(format = Date)]
    to: Option<String>,
    /// For so many days; then the copies leave the audit again.
    #[schema(minimum = 1, maximum = 366)]
    days: u32,
}

/// Puts archived events back into the audit
///
/// For some days; the archives stay. Done again, it prolongs.
#[utoipa::path(
    post,
    path = "/archives/restore",
    request_body = RestoreRequest,
    responses(
        (status = 200, body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 404, description = "There is no such archive"),
        (status = 409, description = "A run is under way"),
    )
)]
async fn restore(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let request: RestoreRequest = body.read()?;
    let day = |field: &str, text: &str| {
        text.parse::<Day>().map_err(|_| Fault::field(field, "it is not a day such as 2026-01-31"))
    };
    let choice = match (request.name, request.from, request.to) {
        (Some(name), None, None) => RestoreChoice::File(name),
        (None, Some(from), Some(to)) => RestoreChoice::Days(day("from", &from)?, day("to", &to)?),
        _ => return Err(Fault::field("name", "give either `name`, or `from` and `to`")),
    };
    let begun = web.admin.restore_archives(choice, request.days, &caller.0, body.reason.as_deref()).await?;
    Ok(answer(&begun))
}

/// Ends the restore of an archive
///
/// Its copies leave the audit at once; the archive stays.
#[utoipa::path(
    post,
    path = "/archives/{name}/return",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 409, description = "It is not restored, or a run is under way"),
    )
)]
async fn give_back(
    State(web): State<Web>,
    caller: Caller,
    Segment(name): Segment,
    Reason(reason): Reason,
) -> Answer<Response> {
    Ok(answer(&web.admin.return_archive(&name, &caller.0, reason.as_deref()).await?))
}

/// Accepts the archive as it is
///
/// After its manifest came into doubt: keeps a copy of the manifest as evidence and begins a new one with every archive that
/// is whole. Needs a reason.
#[utoipa::path(
    post,
    path = "/archives/accept",
    request_body = AcceptRequest,
    responses(
        (status = 200, body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 409, description = "A run is under way"),
    )
)]
async fn accept(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let AcceptRequest {} = body.read()?;
    Ok(answer(&web.admin.accept_archive(&caller.0, body.reason.as_deref()).await?))
}

/// Nothing but a reason.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptRequest {}

/// Downloads an archive
///
/// `zstdcat` makes lines of JSON of it.
#[utoipa::path(
    get,
    path = "/archives/{name}/file",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file", body = Vec<u8>, content_type = "application/zstd"))
)]
async fn download(State(web): State<Web>, Segment(name): Segment) -> Answer<Response> {
    let path = web.admin.archive_path(&name)?;
    let gone = |error: std::io::Error| AdminError::Unavailable(format!("archive `{name}`: {error}"));
    let file = tokio::fs::File::open(&path).await.map_err(gone)?;
    let length = file.metadata().await.map_err(gone)?.len();
    let pieces = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then_some((piece, file)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zstd"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let shown = format!("attachment; filename=\"{}\"", web.admin.archive(&name)?.facts.name);
    if let Ok(shown) = HeaderValue::from_str(&shown) {
        headers.insert(header::CONTENT_DISPOSITION, shown);
    }
    Ok(response)
}
