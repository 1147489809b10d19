//! The API: JSON objects under `/api/v2` and the older shapes under `/api/v1`, for scripts and other systems. Every route
//! wants a key or a session.
//!
//! # How an endpoint is added
//!
//! Router and description (OpenAPI, [`super::openapi`]) are made of the same lines, so that neither can be forgotten:
//!
//! * The handler carries `#[utoipa::path(get, path = "/things/{name}", params(...), request_body = ..., responses(...))]`.
//!   The first line of its doc comment is the summary, the rest the description; both are read by operators.
//! * The module's `routes()` adds it with `routes!(list, create)`, one line a path, and [`v2`] takes the module in as a
//!   `section`, whose tag begins each operation's id.
//! * What it takes is a struct with `Deserialize, ToSchema` and `#[serde(deny_unknown_fields)]`, read by `JsonBody::read`;
//!   bounds stand in `#[schema(...)]`. The member `reason` is `JsonBody`'s; the description adds it to every body.
//! * What it answers is a struct with `Serialize, ToSchema`: its schema has its members and no others. Times are `String`s
//!   with `#[schema(format = DateTime)]`. Only data that really are free are a `Value`.
//! * Query parameters are listed in `params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "..."))`
//!   with the bounds that the handler has; a test asks every operation which parameters and members it knows.
//! * `responses` names the successes, and those of 404, 409, 412, ... that are particular to it, without a body: problems get
//!   theirs in `openapi::common`, as do 400, 401, 403, 429, 503 (all), 404 (paths with a name in them), 408, 413, 415 (those
//!   with a body), and every operation the right it needs from [`super::rights`], its security and its common headers.

mod archives;
mod changes;
mod dead_letters;
mod event_stream;
mod events;
mod inventory;
mod keys;
mod letter_view;
mod logs;
mod partitions;
mod retention;
mod rule_bulk;
mod rule_trials;
mod rules;
mod secrets;
mod settings;
mod slo;
mod status;
mod system;
mod target_view;
mod targets;
mod transfer;
mod users;
pub(super) mod v1;

pub(super) use changes::{line as change_line, query as change_query};
pub(super) use dead_letters::{filter as letter_filter, queue as letter_queue};
pub(super) use events::{event_id, query};
pub(super) use inventory::host_query;
pub(super) use logs::filter as log_filter;
pub(super) use status::hour_label;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::fault::{Answer, unknown_path};
use super::input::Fields;
use super::text::url_encode;
use super::{Web, guards};

/// Both versions, each behind the guard, and their description.
pub(super) fn router(web: Web) -> OpenApiRouter<Web> {
    OpenApiRouter::new().nest("/api/v2", v2(web.clone())).nest("/api/v1", v1::router(web))
}

/// The routes of a module as one section of the description: `tag` names it, and with it begins the id of each operation.
fn section(tag: &str, routes: OpenApiRouter<Web>) -> OpenApiRouter<Web> {
    let mut routes = routes;
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let name = operation.operation_id.take().unwrap_or_default();
            operation.operation_id = Some(format!("{}.{name}", tag.to_ascii_lowercase().replace(' ', "_")));
            operation.tags = Some(vec![tag.to_owned()]);
        }
    }
    routes
}

fn v2(web: Web) -> OpenApiRouter<Web> {
    let routes = OpenApiRouter::new()
        .merge(section("Settings", settings::routes()))
        .merge(section("Change trail", changes::routes()))
        .merge(section("Retention", retention::routes()))
        .merge(section("Archives", archives::routes()))
        .merge(section("Partitions", partitions::routes()))
        .merge(section("Rules", rules::routes()))
        .merge(section("Hosts and teams", inventory::routes()))
        .merge(section("Events", events::routes()))
        .merge(section("State", status::routes()))
        .merge(section("Secrets", secrets::routes()))
        .merge(section("Targets", targets::routes()))
        .merge(section("Dead letters", dead_letters::routes()))
        .merge(section("Configuration as code", transfer::routes()))
        .merge(section("Users", users::routes()))
        .merge(section("API keys", keys::routes()))
        .merge(section("Service levels", slo::routes()))
        .merge(section("Log", logs::routes()))
        .merge(section("System", system::routes()))
        .fallback(unknown_path);
    guards::behind(routes, &web)
}

/// 201 with the address of what was made.
fn created(collection: &str, key: &str, body: impl Serialize) -> Response {
    let mut response = (StatusCode::CREATED, axum::Json(body)).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/api/v2/{collection}/{}", url_encode(key))) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// The tag of every list of rules, hosts and teams: it differs after each change of one of them, and after each start,
/// because a restored database counts from where it was.
async fn ruling_tag(web: &Web) -> Answer<String> {
    let version = web.admin.ruling_version().await?;
    Ok(format!("{:x}-{version:x}", web.admin.started_at().as_millis()))
}

/// Where a list is.
#[derive(Serialize, ToSchema)]
struct Pagination {
    /// The page, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<usize>,
    /// Rows a page.
    limit: usize,
    /// Rows in all, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// Pages in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
}

/// Page and rows a page, from a query.
struct Paging {
    page: usize,
    limit: usize,
}

impl Paging {
    /// Pages from 1, 1 to 1,000 rows each.
    fn of(fields: &Fields, default_limit: usize) -> Result<Self, super::fault::Fault> {
        let page = fields.number("page", 1, 1, 1_000_000)?;
        let limit = fields.number("limit", default_limit, 1, 1_000)?;
        Ok(Self { page, limit })
    }

    /// What is said about the pages when their number is known.
    fn pages(&self, total: u64) -> Pagination {
        let pages = total.div_ceil(u64::try_from(self.limit).unwrap_or(1));
        Pagination { page: Some(self.page), limit: self.limit, total: Some(total), pages: Some(pages) }
    }

    /// What is said where a cursor goes through them.
    const fn without_pages(&self, total: u64) -> Pagination {
        Pagination { page: None, limit: self.limit, total: Some(total), pages: None }
    }
}
