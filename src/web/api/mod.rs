//! The API, version 2: JSON objects under `/api/v2`, for scripts and other systems. Every route wants a key or a session.

mod changes;
mod dead_letters;
mod events;
mod inventory;
mod keys;
mod rules;
mod secrets;
mod settings;
mod slo;
mod status;
mod targets;
mod transfer;
mod users;
pub(super) mod v1;

pub(super) use changes::query as change_query;
pub(super) use dead_letters::{filter as letter_filter, queue as letter_queue};
pub(super) use events::{event_id, query};
pub(super) use status::hour_label;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use super::fault::{unknown_path, wrong_method};
use super::input::Fields;
use super::text::url_encode;
use super::{Web, auth};

/// The routes, behind the guard.
pub(super) fn router(web: Web) -> Router<Web> {
    Router::new()
        .route("/rules", get(rules::list).post(rules::create))
        .route("/rules/test", post(rules::test))
        .route("/rules/{id}", get(rules::show).put(rules::replace).patch(rules::change).delete(rules::remove))
        .route("/dev-hosts", get(inventory::dev_hosts).post(inventory::add_dev_host))
        .route("/dev-hosts/{hostname}", get(inventory::dev_host).delete(inventory::remove_dev_host))
        .route("/teams", get(inventory::teams).post(inventory::add_team))
        .route("/teams/{hostname}", get(inventory::team).put(inventory::change_team).delete(inventory::remove_team))
        .route("/events", get(events::search))
        .route("/events/{id}", get(events::show))
        .route("/audit-logs", get(events::audit_logs))
        .route("/config-audit", get(changes::config_audit))
        .route("/config", get(settings::list))
        .route("/config/history", get(settings::history))
        .route("/config/{key}", get(settings::show).put(settings::set).delete(settings::reset))
        .route("/config/{key}/revert", post(settings::revert))
        .route("/secrets", get(secrets::list))
        .route("/secrets/{name}", get(secrets::show).put(secrets::set))
        .route("/secrets/{name}/rotate", post(secrets::rotate))
        .route("/secrets/{name}/promote", post(secrets::promote))
        .route("/secrets/{name}/cancel", post(secrets::cancel))
        .route("/audit/config", get(changes::config_audit))
        .route("/export", get(transfer::export))
        .route("/import", post(transfer::import).layer(transfer::LIMIT))
        .route("/config-audit/chain", get(changes::chain))
        .route("/config-audit/chain/verify", post(changes::verify))
        .route("/config-audit/chain/accept", post(changes::accept))
        .route("/targets", get(targets::list).post(targets::add))
        .route("/targets/{name}", get(targets::show).put(targets::change).delete(targets::remove))
        .route("/targets/{name}/test", post(targets::test))
        .route("/targets/{name}/reset", post(targets::reset))
        .route("/outboxes/{name}", delete(targets::discard_outbox))
        .route("/outboxes/{name}/move", post(targets::move_outbox))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/groups", get(dead_letters::groups))
        .route("/dead-letters/replay", post(dead_letters::replay))
        .route("/dead-letters/discard", post(dead_letters::discard))
        .route(
            "/dead-letters/{queue}/{seq}",
            get(dead_letters::show).patch(dead_letters::change).delete(dead_letters::discard_one),
        )
        .route("/dead-letters/{queue}/{seq}/replay", post(dead_letters::replay_one))
        .route("/remediation", get(dead_letters::remediation))
        .route("/remediation/run", post(dead_letters::run))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{name}", get(users::show).patch(users::change).delete(users::remove))
        .route("/users/{name}/password", post(users::reset_password))
        .route("/sessions", get(users::sessions))
        .route("/sessions/{id}", delete(users::end_session))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{name}", get(keys::show).delete(keys::revoke))
        .route("/keys/{name}/rotate", post(keys::rotate))
        .route("/keys/{name}/promote", post(keys::promote))
        .route("/slo", get(slo::show))
        .route("/slo/status", get(slo::status))
        .route("/metrics", get(status::metrics))
        .route("/status", get(status::status))
        .route("/version", get(status::version))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(web, auth::api_guard))
}

/// 201 with the address of what was made.
fn created(collection: &str, key: &str, body: Value) -> Response {
    let mut response = (StatusCode::CREATED, axum::Json(body)).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/api/v2/{collection}/{}", url_encode(key))) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
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
    fn json(&self, total: u64) -> Value {
        let limit = u64::try_from(self.limit).unwrap_or(1);
        json!({"page": self.page, "limit": self.limit, "total": total, "pages": total.div_ceil(limit)})
    }
}
