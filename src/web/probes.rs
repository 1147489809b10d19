//! `/health`, `/ready` and `/metrics`: for monitors, load balancers and Prometheus. They need no key, unless
//! [`WebOptions::metrics_need_key`] says so for `/metrics`. Reading them changes nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::assets::Assets;
use super::auth::key_owner;
use super::fault::{Fault, wrong_method};
use super::guards::Guards;
use super::origin::{is_local, peer};
use super::sse::Streams;
use super::{Web, WebOptions, enveloped};
use crate::access::Right;
use crate::admin::{Admin, Readiness, VERSION};

/// The text format's version, without which Prometheus guesses.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Probes {
    admin: Admin,
    prometheus: PrometheusHandle,
    metrics_need_key: bool,
}

/// The three routes, to be merged into the router of any HTTP port.
pub fn router(admin: Admin, prometheus: PrometheusHandle, options: WebOptions) -> Router {
    let probes = Probes { admin: admin.clone(), prometheus, metrics_need_key: options.metrics_need_key };
    let routes = Router::new()
        .route("/health", get(health).fallback(wrong_method))
        .route("/ready", get(ready).fallback(wrong_method))
        .route("/metrics", get(metrics_text).fallback(wrong_method))
        .with_state(probes);
    enveloped(
        routes,
        Web {
            admin,
            assets: Arc::new(Assets::new()),
            guards: Guards::new(),
            streams: Streams::new(CancellationToken::new()),
        },
    )
}

/// The process is there and answers; says nothing about what it depends on.
async fn health(State(probes): State<Probes>) -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "service": "muttd",
        "version": VERSION,
        "uptime_seconds": probes.admin.uptime().as_secs(),
    }))
}

/// Every listener is bound and every store answers; else 503 with the reasons.
async fn ready(State(probes): State<Probes>) -> Response {
    let readiness = probes.admin.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness_json(&readiness))).into_response()
}

pub(super) fn readiness_json(readiness: &Readiness) -> Value {
    let checks = readiness.checks.iter().map(
        |check| json!({"name": check.name, "status": if check.ok { "ok" } else { "failed" }, "detail": check.detail}),
    );
    json!({
        "status": if readiness.ready { "ready" } else { "not_ready" },
        "version": VERSION,
        "checks": checks.collect::<Vec<_>>(),
    })
}

async fn metrics_text(State(probes): State<Probes>, request: Request) -> Response {
    if probes.metrics_need_key && !is_local(request.extensions(), request.headers()) {
        let peer = peer(request.extensions(), request.headers());
        let missing = || Fault::new(StatusCode::UNAUTHORIZED, "give an API key in the header X-API-KEY");
        let key = request.headers().get("x-api-key").ok_or_else(missing);
        if let Err(fault) = key.and_then(|key| key_owner(&probes.admin, key, Right::Read, peer)) {
            return fault.into_response();
        }
    }
    probes.admin.publish_gauges();
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], probes.prometheus.render()).into_response()
}
