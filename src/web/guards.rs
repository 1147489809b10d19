//! What stands before every route of the API, in every version: who asks from elsewhere (CORS), how often (by address
//! and by key), for how long, in which form, and that nothing is done twice (idempotency). Each part has its own file;
//! this one has their order.
//!
//! From the outside in: CORS, so that a page elsewhere can read a refusal too; the limit by address, which costs the
//! least; compression; the time limit; the key or session; the limit by key; the form; the idempotency key. Everything
//! here is bounded. What the limits count is kept in memory only and begins anew after a crash; what was answered to
//! which idempotency key is kept by the store.

mod cors;
mod idempotency;
mod limits;
mod shape;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::compression::CompressionLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::fault::{Fault, wrong_method};
use super::{Web, auth};

/// What the guards remember.
#[derive(Debug, Default)]
pub(super) struct Guards {
    addresses: limits::Limiter<std::net::IpAddr>,
    callers: limits::Limiter<String>,
    parameters: OnceLock<shape::Parameters>,
}

/// Puts the guards before the routes of one version of the API.
pub(super) fn behind(routes: OpenApiRouter<Web>, web: &Web) -> OpenApiRouter<Web> {
    routes
        .layer(from_fn_with_state(web.clone(), idempotency::once))
        .layer(from_fn_with_state(web.clone(), shape::check))
        .layer(from_fn_with_state(web.clone(), limits::by_caller))
        .layer(from_fn_with_state(web.clone(), auth::api_guard))
}

/// Puts the guards that need not know who asks before all versions of the API.
pub(super) fn outer(routes: Router<Web>, web: &Web) -> Router<Web> {
    routes
        // Before the layers, so that they see a method that an address does not know: OPTIONS is one.
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(web.clone(), in_time))
        // Pages are not compressed: they hold a token beside what was typed, and the length of a compressed answer would
        // tell about it (BREACH). Answers of the API hold neither token nor cookie.
        .layer(CompressionLayer::new().gzip(true))
        .layer(from_fn_with_state(web.clone(), limits::by_address))
        .layer(from_fn_with_state(web.clone(), cors::allow))
}

/// A request that is worked on for too long is given up. What it had begun to change is changed as a whole or not at all:
/// the stores see to that.
async fn in_time(State(web): State<Web>, request: Request, next: Next) -> Response {
    let limit = web.admin.api_settings().request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => too_slow(limit).into_response(),
    }
}

fn too_slow(limit: Duration) -> Fault {
    let mut fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, "the appliance cannot do this in time");
    fault.detail = Some(format!(
        "it was given up after {} s (http.request_timeout_seconds); what it asked to change may be changed: look",
        limit.as_secs()
    ));
    fault.retry_after = Some(5);
    fault
}

impl Guards {
    /// Guards that remember nothing yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Learns from the description which parameters each operation takes.
    pub(super) fn know(&self, described: &OpenApi) {
        self.parameters.get_or_init(|| shape::Parameters::of(described));
    }
}
