//! Retention over the API: how it stands, a run now, legal holds, erasures. Archives are in `archives`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::Answer;
use super::super::input::{JsonBody, Reason, Segment, body_time};
use crate::admin::{AdminError, Begun, Erasure, Hold, HoldDraft, Nearness, RetentionReport, RetentionStatus};
use crate::model::Timestamp;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(run))
        .routes(routes!(task))
        .routes(routes!(holds, place))
        .routes(routes!(lift))
        .routes(routes!(erasures, erase))
}

/// How retention stands.
#[derive(Serialize, ToSchema)]
struct RetentionState {
    /// Whether the appliance runs retention by itself.
    enabled: bool,
    /// Since when a run is under way; null if none is.
    #[schema(format = DateTime)]
    running_since: Option<String>,
    #[schema(format = DateTime)]
    last_run: Option<String>,
    /// When the next run is due; null if the appliance does not run retention by itself.
    #[schema(format = DateTime)]
    next_run: Option<String>,
    /// What the last run did.
    last_report: RunReport,
    event_retention_days: i64,
    archive_retention_days: i64,
    config_audit_retention_days: i64,
    audit: AuditState,
    archive: ArchiveState,
}

/// What the audit takes.
#[derive(Serialize, ToSchema)]
struct AuditState {
    rows: u64,
    /// Bytes in use, which count against `audit_max_bytes`.
    used_bytes: u64,
    /// Bytes of its files.
    file_bytes: u64,
    /// The day of its oldest event.
    #[schema(format = Date)]
    oldest_day: Option<String>,
    /// `audit_max_bytes`; 0 for no limit.
    max_bytes: u64,
    /// `far`, `near` (80 % are used) or `bit` (events left before their time).
    cap: &'static str,
}

/// What the archive takes.
#[derive(Serialize, ToSchema)]
struct ArchiveState {
    files: u64,
    bytes: u64,
    /// `archive_max_bytes`; 0 for no limit.
    max_bytes: u64,
    /// `far`, `near` (80 % are used) or `bit` (archives were deleted before their time).
    cap: &'static str,
    /// Archives that were not what they should be when they were last read.
    damaged: Vec<String>,
    /// What is wrong with the manifest; while something is, nothing is archived or deleted.
    doubt: Option<String>,
}

/// What a run did, or would do.
#[derive(Serialize, ToSchema)]
pub(super) struct RunReport {
    /// Whether nothing was changed.
    dry_run: bool,
    /// Who asked for it.
    by: String,
    #[schema(format = DateTime)]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// Whether everything went as it should.
    ok: bool,
    /// The first day that stays in the audit by age.
    #[schema(format = Date)]
    keeps_events_from: Option<String>,
    /// The first day that stays in the archive by age.
    #[schema(format = Date)]
    keeps_archives_from: Option<String>,
    /// Files of an interrupted run that were finished with.
    settled: u64,
    /// Days that were archived, oldest first; a thousand at most.
    archived: Vec<ArchivedDay>,
    archived_events: u64,
    archived_bytes: u64,
    /// Archives that were deleted or rewritten, oldest first; a thousand at most.
    deleted: Vec<DeletedArchive>,
    deleted_events: u64,
    /// Restored archives whose time was up.
    returned: Vec<String>,
    /// Erasures that were carried out; in a dry run those that wait.
    erasures: u64,
    /// Empty files of the audit that were deleted.
    dropped: Vec<String>,
    /// Lines that left the change trail.
    change_lines: u64,
    /// Archives that were read and compared.
    verified: u64,
    /// Archives that are not what they were.
    damaged: Vec<String>,
    /// What was put off, and why.
    postponed: Vec<String>,
    /// What went wrong.
    faults: Vec<String>,
}

/// A day that was archived.
#[derive(Serialize, ToSchema)]
struct ArchivedDay {
    #[schema(format = Date)]
    day: String,
    events: u64,
    files: Vec<String>,
    bytes: u64,
}

/// An archive that was deleted or rewritten.
#[derive(Serialize, ToSchema)]
struct DeletedArchive {
    name: String,
    /// `expired` or `cap`.
    reason: String,
    events: u64,
    /// Events that stay because a hold covers them.
    held: u64,
}

/// Something that takes long.
#[derive(Serialize, ToSchema)]
pub(super) struct Running {
    /// Whether it has ended.
    finished: bool,
    /// Its number while it is under way, for `GET /retention/tasks/{task}`; null when it has ended.
    task: Option<u64>,
    /// What it did; null while it is under way.
    report: Option<RunReport>,
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl From<&RetentionReport> for RunReport {
    fn from(report: &RetentionReport) -> Self {
        let report = report.clone();
        Self {
            dry_run: report.dry_run,
            ok: report.is_clean(),
            by: report.by,
            started_at: text(report.started_at),
            finished_at: text(report.finished_at),
            keeps_events_from: report.keeps_events_from.map(|day| day.to_string()),
            keeps_archives_from: report.keeps_archives_from.map(|day| day.to_string()),
            settled: report.settled,
            archived: report
                .archived
                .into_iter()
                .map(|day| ArchivedDay {
                    day: day.day.to_string(),
                    events: day.rows,
                    files: day.files,
                    bytes: day.bytes,
                })
                .collect(),
            archived_events: report.archived_rows,
            archived_bytes: report.archived_bytes,
            deleted: report
                .deleted
                .into_iter()
                .map(|file| DeletedArchive { name: file.name, reason: file.reason, events: file.rows, held: file.held })
                .collect(),
            deleted_events: report.deleted_rows,
            returned: report.returned,
            erasures: report.erasures,
            dropped: report.dropped,
            change_lines: report.change_lines,
            verified: report.verified,
            damaged: report.damaged,
            postponed: report.postponed,
            faults: report.faults,
        }
    }
}

const fn nearness(nearness: Nearness) -> &'static str {
    match nearness {
        Nearness::Far => "far",
        Nearness::Near => "near",
        Nearness::Bit => "bit",
    }
}

impl From<&RetentionStatus> for RetentionState {
    fn from(status: &RetentionStatus) -> Self {
        let settings = &status.settings;
        Self {
            enabled: settings.enabled,
            running_since: text(status.running_since),
            last_run: text(status.last_run),
            next_run: text(status.next_run),
            last_report: (&status.last_report).into(),
            event_retention_days: settings.event_days,
            archive_retention_days: settings.archive_days,
            config_audit_retention_days: settings.config_audit_days,
            audit: AuditState {
                rows: status.audit.rows,
                used_bytes: status.audit.used,
                file_bytes: status.audit.files,
                oldest_day: status.audit.oldest.map(|day| day.to_string()),
                max_bytes: settings.audit_max_bytes,
                cap: nearness(status.audit_cap),
            },
            archive: ArchiveState {
                files: status.archive_files,
                bytes: status.archive_bytes,
                max_bytes: settings.archive_max_bytes,
                cap: nearness(status.archive_cap),
                damaged: status.damaged.clone(),
                doubt: status.doubt.clone(),
            },
        }
    }
}

/// 200 with what was done, or 202 while it is under way.
pub(super) fn answer(begun: &Begun) -> Response {
    match begun {
        Begun::Done(report) => {
            Json(Running { finished: true, task: None, report: Some((&**report).into()) }).into_response()
        }
        Begun::UnderWay { task } => {
            let running = Running { finished: false, task: Some(*task), report: None };
            (StatusCode::ACCEPTED, Json(running)).into_response()
        }
    }
}

/// How something stands that takes long
///
/// A run, a dry run, a verification, a restore: whatever answered 202 with a `task`. The last sixteen are remembered, until the
/// appliance stops. What failed answers as it would have at once.
#[utoipa::path(
    get,
    path = "/retention/tasks/{task}",
    params(("task" = u64, Path, description = "The `task` of the answer 202")),
    responses(
        (status = 200, description = "What it did", body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 404, description = "It is not remembered"),
        (status = 409, description = "It could not be done to what is there"),
    )
)]
async fn task(State(web): State<Web>, Segment(task): Segment) -> Answer<Response> {
    let unknown = || AdminError::NotFound { what: "task of retention", key: task.chars().take(20).collect() };
    Ok(answer(&web.admin.retention_task(task.parse().map_err(|_| unknown())?)?))
}

/// How retention stands
///
/// The last run and the next, how long things are kept, what they take.
#[utoipa::path(get, path = "/retention", responses((status = 200, body = RetentionState)))]
async fn status(State(web): State<Web>) -> Answer<Json<RetentionState>> {
    Ok(Json((&web.admin.retention().await?).into()))
}

/// A run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    /// Only say what a run would do.
    #[serde(default)]
    dry_run: bool,
}

/// Runs retention now
///
/// Answers after twenty seconds even if the run has not ended; it goes on, and `GET /retention/tasks/{task}` tells its end.
#[utoipa::path(
    post,
    path = "/retention/run",
    request_body = RunRequest,
    responses(
        (status = 200, description = "What was done, or would be", body = Running),
        (status = 202, description = "It is under way", body = Running),
        (status = 409, description = "A run is under way already"),
    )
)]
async fn run(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let request: RunRequest = body.read()?;
    let begun = match request.dry_run {
        true => web.admin.plan_retention(&caller.0).await?,
        false => web.admin.run_retention(&caller.0, body.reason.as_deref()).await?,
    };
    Ok(answer(&begun))
}

/// A legal hold: events that must not be deleted.
#[derive(Serialize, ToSchema)]
struct HoldView {
    id: i64,
    /// A case number, or what people call it.
    name: String,
    /// Whose events; null for every host's.
    hostname: Option<String>,
    /// Received at or after.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// Received before.
    #[schema(format = DateTime)]
    to: Option<String>,
    reason: String,
    placed_by: String,
    #[schema(format = DateTime)]
    placed_at: String,
}

impl From<Hold> for HoldView {
    fn from(hold: Hold) -> Self {
        Self {
            id: hold.id,
            name: hold.name,
            hostname: hold.hostname,
            from: text(hold.from),
            to: text(hold.to),
            reason: hold.reason,
            placed_by: hold.placed_by,
            placed_at: hold.placed_at.to_string(),
        }
    }
}

/// Holds in force.
#[derive(Serialize, ToSchema)]
struct HoldList {
    holds: Vec<HoldView>,
}

/// A hold that is to be placed. Without host and times it covers everything.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewHold {
    /// A case number, or what people call it.
    #[schema(min_length = 1, max_length = 500)]
    name: String,
    /// Whose events; without it every host's.
    #[serde(default)]
    #[schema(max_length = 500)]
    hostname: Option<String>,
    /// Received at or after.
    #[serde(default)]
    #[schema(format = DateTime)]
    from: Option<String>,
    /// Received before.
    #[serde(default)]
    #[schema(format = DateTime)]
    to: Option<String>,
}

/// Legal holds in force
#[utoipa::path(get, path = "/holds", responses((status = 200, body = HoldList)))]
async fn holds(State(web): State<Web>) -> Answer<Json<HoldList>> {
    let holds = web.admin.holds().await?;
    Ok(Json(HoldList { holds: holds.into_iter().map(HoldView::from).collect() }))
}

/// Places a legal hold
///
/// What it covers is never deleted until it is lifted, whatever its age and whatever the caps. Needs a reason.
#[utoipa::path(post, path = "/holds", request_body = NewHold, responses((status = 201, body = HoldView)))]
async fn place(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let new: NewHold = body.read()?;
    let draft = HoldDraft {
        name: new.name,
        hostname: new.hostname,
        from: body_time("from", new.from.as_deref().filter(|text| !text.trim().is_empty()))?,
        to: body_time("to", new.to.as_deref().filter(|text| !text.trim().is_empty()))?,
        reason: body.reason.unwrap_or_default(),
    };
    let hold = HoldView::from(web.admin.place_hold(draft, &caller.0).await?);
    Ok((StatusCode::CREATED, Json(hold)).into_response())
}

/// Lifts a legal hold
///
/// What it covered is deleted by the next run if its time is up. Needs a reason, in the header `X-Change-Reason`.
#[utoipa::path(
    delete,
    path = "/holds/{id}",
    params(("id" = i64, Path, description = "The hold's number")),
    responses((status = 204, description = "It was lifted"))
)]
async fn lift(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    let not_found = || AdminError::NotFound { what: "hold", key: id.chars().take(40).collect() };
    let number = id.parse::<i64>().map_err(|_| not_found())?;
    web.admin.lift_hold(number, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A request to erase one host's data.
#[derive(Serialize, ToSchema)]
struct ErasureView {
    id: i64,
    hostname: String,
    reason: String,
    requested_by: String,
    #[schema(format = DateTime)]
    requested_at: String,
    /// Null while it waits or is under way.
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// Rows that left the audit.
    audit_rows: u64,
    /// Events taken out of archives.
    archived_events: u64,
    /// Archives that were rewritten or deleted.
    archive_files: u64,
    /// Events taken out of the store of recent events.
    recent_events: u64,
    /// Counters of unhandled events that were forgotten.
    counters: u64,
}

impl From<Erasure> for ErasureView {
    fn from(erasure: Erasure) -> Self {
        Self {
            id: erasure.id,
            hostname: erasure.hostname,
            reason: erasure.reason,
            requested_by: erasure.requested_by,
            requested_at: erasure.requested_at.to_string(),
            finished_at: text(erasure.finished_at),
            audit_rows: erasure.erased.audit,
            archived_events: erasure.erased.archive,
            archive_files: erasure.erased.files,
            recent_events: erasure.erased.recent,
            counters: erasure.erased.counters,
        }
    }
}

/// Requests to erase.
#[derive(Serialize, ToSchema)]
struct ErasureList {
    erasures: Vec<ErasureView>,
}

/// Whose data is to be erased.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewErasure {
    #[schema(min_length = 1, max_length = 500)]
    hostname: String,
    /// Only say what would be erased.
    #[serde(default)]
    dry_run: bool,
}

/// What would be erased.
#[derive(Serialize, ToSchema)]
struct ErasurePlanView {
    /// Rows of the audit, at least.
    audit_rows: u64,
    /// Archives that may hold events of the host.
    archive_files: u64,
}

/// Requests to erase, newest first
#[utoipa::path(get, path = "/erasures", responses((status = 200, body = ErasureList)))]
async fn erasures(State(web): State<Web>) -> Answer<Json<ErasureList>> {
    let erasures = web.admin.erasures().await?;
    Ok(Json(ErasureList { erasures: erasures.into_iter().map(ErasureView::from).collect() }))
}

/// Erases one host's data
///
/// From the audit, the archives, the recent events and the counters; not from queues, dead letters and backups. Refused while
/// a legal hold may cover it. Needs a reason.
#[utoipa::path(
    post,
    path = "/erasures",
    request_body = NewErasure,
    responses(
        (status = 200, description = "What would be erased", body = ErasurePlanView),
        (status = 202, description = "It was taken down and begun", body = ErasureView),
        (status = 409, description = "A legal hold may cover it"),
    )
)]
async fn erase(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let new: NewErasure = body.read()?;
    if new.dry_run {
        let plan = web.admin.plan_erasure(&new.hostname).await?;
        let view = ErasurePlanView { audit_rows: plan.audit_rows, archive_files: plan.archive_files };
        return Ok(Json(view).into_response());
    }
    let reason = body.reason.unwrap_or_default();
    let erasure = web.admin.erase_host(&new.hostname, &reason, &caller.0).await?;
    Ok((StatusCode::ACCEPTED, Json(ErasureView::from(erasure))).into_response())
}
