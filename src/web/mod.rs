//! Pages and API: what browsers and scripts see of the appliance.
//!
//! A handler takes its input apart, calls one function of [`crate::admin`] and renders the answer; it knows no queue and
//! no database. Nothing here keeps state, so a crash loses nothing but the requests under way.

mod api;
mod assets;
mod auth;
mod conditional;
mod envelope;
mod fault;
mod guards;
mod input;
mod json;
mod openapi;
mod origin;
mod pages;
pub mod probes;
mod rights;
#[cfg(test)]
mod rights_tests;
mod spans;
mod sse;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::admin::Admin;
use assets::Assets;
use guards::Guards;
use sse::Streams;

/// Largest body taken, in bytes: ten thousand rules fit.
const MAX_BODY: usize = 1 << 20;

/// How the probes are served.
#[derive(Debug, Clone, Default)]
pub struct WebOptions {
    /// `/metrics` wants an API key from anyone who is not on this machine.
    pub metrics_need_key: bool,
}

/// What every handler is given.
#[derive(Clone)]
struct Web {
    admin: Admin,
    assets: Arc<Assets>,
    streams: Streams,
    guards: Arc<Guards>,
}

/// Pages and API. The server should add `ConnectInfo<SocketAddr>` to each request: delays after failed logins go by it.
/// Streams end when `stop` is cancelled.
pub fn router(admin: Admin, stop: CancellationToken) -> Router {
    let web = Web { admin, assets: Arc::new(Assets::new()), streams: Streams::new(stop), guards: Guards::new() };
    let (api, described) = api::router(web.clone()).split_for_parts();
    web.guards.know(&described);
    let routes = Router::new()
        .merge(pages::router(web.clone()))
        .merge(guards::outer(api, &web))
        .merge(assets::router())
        .fallback(fault::unknown_path)
        .method_not_allowed_fallback(fault::wrong_method)
        .with_state(web.clone())
        .merge(openapi::router(openapi::Description::new(&described, &web.assets)));
    enveloped(routes, web)
}

/// What every answer goes through, whichever router it comes from.
fn enveloped(routes: Router, web: Web) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(web, envelope::wrap))
}
