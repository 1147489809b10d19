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

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, put};
use serde::Serialize;

use super::super::fault::{Fault, unknown_path, wrong_method};
use super::super::input::Fields;
use super::super::{Web, auth};
use super::status;
use crate::admin::AdminError;

/// The header of a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Most rows of a page.
const MAX_LIMIT: usize = 200;

/// Rows of a page that asks for no number.
const DEFAULT_LIMIT: usize = 50;

/// The routes, behind the guard.
pub(in super::super) fn router(web: Web) -> Router<Web> {
    Router::new()
        .route("/metrics", get(status::metrics))
        .route("/version", get(status::version))
        .route("/rules", get(rules::list).post(rules::create))
        .route("/rules/{id}", get(rules::show).put(rules::change).delete(rules::remove))
        .route("/audit-logs", get(audit::events))
        .route("/config-audit", get(audit::changes))
        .route("/audit/config", get(audit::changes))
        .route("/dev-hosts", get(inventory::dev_hosts).post(inventory::add_dev_host))
        .route("/dev-hosts/{hostname}", delete(inventory::remove_dev_host))
        .route("/teams", get(inventory::teams).post(inventory::add_team))
        .route("/teams/{hostname}", put(inventory::change_team).delete(inventory::remove_team))
        .route("/config", get(settings::list))
        .route("/config/history", get(settings::history))
        .route("/config/{key}", put(settings::set))
        .route("/slo", get(super::slo::components))
        .route("/slo/status", get(super::slo::status))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(web, auth::api_guard))
        .layer(from_fn(as_before))
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

/// What a change is answered with.
#[derive(Debug, Serialize)]
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
