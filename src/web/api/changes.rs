//! The change log over the API: its lines, and whether they are as they were written.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody};
use super::{Pagination, Paging};
use crate::admin::{ChangePage, ChangeQuery, ChangeRow, Operation, TrailFault, TrailHead, TrailReport};
use crate::web::openapi::parameters::{cursor, moment, number, text, words};

/// What restricts, orders and pages the lines.
const PARAMETERS: [&str; 11] =
    ["table_name", "record_id", "user", "operation", "correlation_id", "from", "to", "sort", "page", "limit", "cursor"];

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(config_audit))
        .routes(routes!(audit_config))
        .routes(routes!(chain))
        .routes(routes!(verify))
        .routes(routes!(accept))
}

/// A line of the change trail.
#[derive(Serialize, ToSchema)]
pub(super) struct ChangeLine {
    /// Its number, ascending.
    id: i64,
    #[schema(format = DateTime)]
    changed_at: String,
    /// The user, or the key's name.
    changed_by: String,
    /// CREATE, UPDATE, DELETE, or what was done.
    operation: &'static str,
    /// What kind of thing changed, such as `alert_rules` or `dynamic_config`.
    table_name: String,
    /// Which one.
    record_id: String,
    /// How it was; null for one that was made.
    #[schema(value_type = Option<Object>)]
    old_values: Option<Value>,
    /// How it is; null for one that was removed.
    #[schema(value_type = Option<Object>)]
    new_values: Option<Value>,
    /// Why, in the words of whoever did it.
    reason: Option<String>,
    /// The request it came with.
    correlation_id: String,
    /// By which door: `page`, `api`, `cli`, `appliance`.
    changed_via: Option<String>,
    /// The sender's address.
    changed_from: Option<String>,
    /// The line's link in the hash chain.
    hash: Option<String>,
}

/// Lines of the change trail.
#[derive(Serialize, ToSchema)]
struct ChangeLines {
    changes: Vec<ChangeLine>,
    pagination: Pagination,
    /// What `cursor` must be for the lines that follow; null at the end.
    next_cursor: Option<String>,
}

/// What a verification of the chain found.
#[derive(Serialize, ToSchema)]
pub(super) struct ChainReport {
    /// Whether every line is as it was written; null if none was made yet.
    ok: Option<bool>,
    #[schema(format = DateTime)]
    checked_at: Option<String>,
    /// Lines looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
    /// Faults found in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<u64>,
    /// The first of them.
    faults: Vec<ChainFault>,
    /// Where the trail ends: noted elsewhere, it proves later that nothing was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<ChainHead>,
}

/// The end of the change trail.
#[derive(Serialize, ToSchema)]
struct ChainHead {
    /// Lines up to here.
    lines: u64,
    /// The number of the last one.
    last_id: i64,
    /// Its link: SHA-256, in hexadecimal.
    hash: String,
}

/// A fault in the chain.
#[derive(Serialize, ToSchema)]
struct ChainFault {
    kind: &'static str,
    id: Option<i64>,
    #[schema(format = DateTime)]
    changed_at: Option<String>,
    why: String,
}

/// The change log was accepted as it is.
#[derive(Serialize, ToSchema)]
struct Accepted {
    accepted: bool,
    /// Where the lines as they were found are kept.
    evidence: String,
}

/// A line as JSON, as the API has it.
pub(in crate::web) fn line(row: &ChangeRow) -> Value {
    // Plain data always encodes.
    serde_json::to_value(ChangeLine::from(row)).unwrap_or_default()
}

impl From<&ChangeRow> for ChangeLine {
    fn from(row: &ChangeRow) -> Self {
        let ChangeRow { id, changed_by, table_name, record_id, old_values, new_values, .. } = row.clone();
        Self {
            id,
            changed_at: row.changed_at.to_string(),
            changed_by,
            operation: row.operation.name(),
            table_name,
            record_id,
            old_values,
            new_values,
            reason: row.reason.clone(),
            correlation_id: row.correlation_id.clone(),
            changed_via: row.changed_via.clone(),
            changed_from: row.changed_from.clone(),
            hash: row.hash.clone(),
        }
    }
}

impl ChainReport {
    /// What the last verification found, and where the trail ends.
    pub(super) fn new(report: Option<&TrailReport>, head: Option<&TrailHead>) -> Self {
        let head = head.map(|TrailHead { lines, last_id, hash }| ChainHead {
            lines: *lines,
            last_id: *last_id,
            hash: hash.clone(),
        });
        let Some(report) = report else {
            return Self { ok: None, checked_at: None, lines: None, found: None, faults: Vec::new(), head };
        };
        let fault = |fault: &TrailFault| ChainFault {
            kind: fault.kind.name(),
            id: fault.id,
            changed_at: fault.changed_at.map(|at| at.to_string()),
            why: fault.why.clone(),
        };
        Self {
            ok: Some(report.is_whole()),
            checked_at: Some(report.checked_at.to_string()),
            lines: Some(report.lines),
            found: Some(report.found),
            faults: report.faults.iter().map(fault).collect(),
            head,
        }
    }
}

/// The change trail
///
/// Who changed what, newest first unless `sort=asc`. `cursor` goes on where the answer before ended and costs the same
/// however far that is; `page` counts from the start.
#[utoipa::path(get, path = "/config-audit", params(ChangeFilters), responses((status = 200, body = ChangeLines)))]
async fn config_audit(State(web): State<Web>, fields: Fields) -> Answer<Json<ChangeLines>> {
    fields.only(&PARAMETERS)?;
    let (found, pagination) = lines(&web, &fields).await?;
    let next_cursor = found.next.map(|id| id.to_string());
    Ok(Json(ChangeLines { changes: found.rows.iter().map(ChangeLine::from).collect(), pagination, next_cursor }))
}

/// The change trail, by its older name
#[utoipa::path(get, path = "/audit/config", params(ChangeFilters), responses((status = 200, body = ChangeLines)))]
async fn audit_config(web: State<Web>, fields: Fields) -> Answer<Json<ChangeLines>> {
    config_audit(web, fields).await
}

async fn lines(web: &Web, fields: &Fields) -> Answer<(ChangePage, Pagination)> {
    let paging = Paging::of(fields, 50)?;
    let query = query(fields)?;
    if fields.get("cursor").is_some() {
        if fields.get("page").is_some() {
            return Err(Fault::field("page", "give a page or a cursor, not both"));
        }
        let found = web.admin.changes(&ChangeQuery { limit: paging.limit, ..query }).await?;
        let pagination = paging.without_pages(found.total);
        return Ok((found, pagination));
    }
    let found = web.admin.changes_page(&query, paging.page, paging.limit).await?;
    let pagination = paging.pages(found.total);
    Ok((found, pagination))
}

/// The parameters of the lists above.
pub(super) enum ChangeFilters {}

impl IntoParams for ChangeFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            text("table_name", "Of this kind of thing only, such as `alert_rules`"),
            text("record_id", "Of this one only; give its kind as well"),
            text("user", "By this user or key"),
            words("operation", &["CREATE", "UPDATE", "DELETE"], "Changes of this kind"),
            text("correlation_id", "That came with this request"),
            moment("from", "Not before"),
            moment("to", "Before; it must be after `from`"),
            words("sort", &["asc", "desc"], "Oldest or newest first; newest unless said"),
            number("page", 1, 1_000_000, "Which page; 1 unless said. Not together with `cursor`"),
            number("limit", 1, 1_000, "How many a page; 50 unless said"),
            cursor("Where an earlier answer ended: its `next_cursor`"),
        ]
    }
}

/// The filters of a query, as API and page have them.
pub(in super::super) fn query(fields: &Fields) -> Answer<ChangeQuery> {
    let text = |name: &str| fields.get(name).map(|value| value.trim().to_owned());
    let ascending = fields.parsed("sort", "`asc` or `desc`", |word| match word.to_ascii_lowercase().as_str() {
        "asc" => Some(true),
        "desc" => Some(false),
        _ => None,
    })?;
    let ascending = ascending.unwrap_or(false);
    let cursor = fields.parsed("cursor", "a cursor of an earlier answer", |text| text.parse::<i64>().ok())?;
    let (from, to) = (fields.time("from")?, fields.time("to")?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Fault::field("to", "it is not after `from`"));
    }
    Ok(ChangeQuery {
        table_name: text("table_name"),
        record_id: text("record_id"),
        user: text("user"),
        operation: fields.parsed("operation", "`CREATE`, `UPDATE` or `DELETE`", operation)?,
        correlation_id: text("correlation_id"),
        from,
        to,
        ascending,
        before: cursor.filter(|_| !ascending),
        after: cursor.filter(|_| ascending),
        ..ChangeQuery::default()
    })
}

fn operation(word: &str) -> Option<Operation> {
    let all = [Operation::Create, Operation::Update, Operation::Delete];
    all.into_iter().find(|operation| operation.name().eq_ignore_ascii_case(word))
}

/// Whether the change trail is as it was written
///
/// What the last verification of its hash chain found.
#[utoipa::path(get, path = "/config-audit/chain", responses((status = 200, body = ChainReport)))]
async fn chain(State(web): State<Web>) -> Answer<Json<ChainReport>> {
    let head = web.admin.trail_head().await?;
    Ok(Json(ChainReport::new(web.admin.trail_report().as_deref(), Some(&head))))
}

/// Verifies the change trail
///
/// Every line is read and its hash reckoned anew.
#[utoipa::path(post, path = "/config-audit/chain/verify", responses((status = 200, body = ChainReport)))]
async fn verify(State(web): State<Web>) -> Answer<Json<ChainReport>> {
    let report = web.admin.verify_trail().await?;
    Ok(Json(ChainReport::new(Some(&report), Some(&report.head))))
}

/// Accepts the change trail as it is
///
/// After a fault was looked into: a new chain begins, and what was found is kept as evidence.
#[utoipa::path(
    post,
    path = "/config-audit/chain/accept",
    request_body = Accept,
    responses((status = 200, body = Accepted), (status = 409, description = "There is no fault to accept"))
)]
async fn accept(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<Accepted>> {
    let Accept {} = body.read()?;
    let evidence = web.admin.accept_trail(&caller.0, body.reason.as_deref()).await?;
    Ok(Json(Accepted { accepted: true, evidence }))
}

/// Nothing but the reason.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Accept {}
