//! The paths of version 1, with the bodies, statuses and messages that scripts of MUTT 2.x know: plain rows, changes that
//! are answered with a sentence, lists by page. Unknown members and parameters are disregarded as they were there, and a
//! number of a page that is none is the default. What is changed goes through the same checks as everywhere.
//!
//! The key may stand in the query (`?api_key=`), as it did there; version 2 takes it in a header only. Every answer says
//! that the path is deprecated and names what follows it: [`crate::net::api_version`] sees to that.

mod audit;
mod inventory;
mod rules;
mod settings;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::fault::{Fault, unknown_path};
use super::super::input::Fields;
use super::super::{Web, guards};
use super::{section, status};
use crate::admin::AdminError;

/// The header of a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Most rows of a page.
const MAX_LIMIT: usize = 200;

/// Rows of a page that asks for no number.
const DEFAULT_LIMIT: usize = 50;

/// The routes, behind the guard.
pub(super) fn router(web: Web) -> OpenApiRouter<Web> {
    let described = OpenApiRouter::new()
        .routes(routes!(status::metrics))
        .routes(routes!(status::version))
        .routes(routes!(rules::list, rules::create))
        .routes(routes!(rules::show, rules::change, rules::remove))
        .routes(routes!(audit::events))
        .routes(routes!(audit::changes))
        .routes(routes!(audit::changes_by_older_name))
        .routes(routes!(inventory::dev_hosts, inventory::add_dev_host))
        .routes(routes!(inventory::remove_dev_host))
        .routes(routes!(inventory::teams, inventory::add_team))
        .routes(routes!(inventory::change_team, inventory::remove_team))
        .routes(routes!(settings::list))
        .routes(routes!(settings::history))
        .routes(routes!(settings::set));
    let routes = OpenApiRouter::new()
        .merge(section("Version 1", described))
        .merge(section("Version 1", super::slo::routes_v1()))
        .fallback(unknown_path);
    guards::behind(routes, &web).layer(from_fn(as_before))
}

/// A key in the query counts like one in the header, and a request without a valid one is refused in the words that
/// clients look for.
async fn as_before(fields: Fields, mut request: Request, next: Next) -> Response {
    if !request.headers().contains_key(&API_KEY)
        && let Some(mut key) = fields.get("api_key").and_then(|key| HeaderValue::from_str(key).ok())
    {
        key.set_sensitive(true);
        request.headers_mut().insert(API_KEY, key);
    }
    let mut response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(fault) = response.extensions_mut().get_mut::<Fault>()
    {
        let why = std::mem::replace(&mut fault.error, "Unauthorized".to_owned());
        fault.detail.get_or_insert(why);
    }
    response
}

/// What a change is answered with in version 1.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// What was done.
    message: &'static str,
}

/// Page and rows a page, within their bounds whatever was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OldPaging {
    page: usize,
    limit: usize,
}

impl OldPaging {
    fn of(fields: &Fields) -> Self {
        let number =
            |name: &str, default: usize| fields.get(name).and_then(|text| text.trim().parse().ok()).unwrap_or(default);
        Self { page: number("page", 1).clamp(1, 1_000_000), limit: number("limit", DEFAULT_LIMIT).clamp(1, MAX_LIMIT) }
    }
}

/// The fault of something that is not there or there already, in the words of version 1.
fn told(error: AdminError, not_found: &'static str, exists: &'static str) -> Fault {
    match error {
        AdminError::NotFound { .. } => Fault::new(StatusCode::NOT_FOUND, not_found),
        AdminError::Exists { .. } => Fault::new(StatusCode::CONFLICT, exists),
        other => other.into(),
    }
}
