//! The service levels over the API.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Web;
use crate::admin::{LevelReport, LevelState, WindowReport};

/// The window of 24 hours among those of a report.
const DAY: usize = 3;

/// `GET /slo`: every level with its figures.
pub(super) async fn show(State(web): State<Web>) -> Json<Value> {
    let levels = web.admin.service_levels();
    Json(json!({"status": worst(&levels), "slos": levels.iter().map(level_json).collect::<Vec<_>>()}))
}

/// `GET /slo/status`: the worst state, and which levels are how.
pub(super) async fn status(State(web): State<Web>) -> Json<Value> {
    let levels = web.admin.service_levels();
    let named = |state: LevelState| -> Vec<&str> {
        levels.iter().filter(|report| report.state == state).map(|report| report.level.name()).collect()
    };
    Json(json!({
        "status": worst(&levels),
        "ok": named(LevelState::Ok),
        "warning": named(LevelState::Warning),
        "critical": named(LevelState::Critical),
    }))
}

/// `GET /api/v1/slo`: the two components of MUTT 2.x over 24 hours, with their success alone.
pub(super) async fn components(State(web): State<Web>) -> Json<Value> {
    let levels = web.admin.service_levels();
    let component = |name: &str| {
        let report = levels.iter().find(|report| report.level.name() == name);
        report.map_or(Value::Null, |report| {
            let day = &report.windows[DAY];
            json!({
                "target": rounded(report.objective),
                "availability": rounded(1.0 - day.error_ratio),
                "error_budget_remaining": rounded(1.0 - day.burn_rate),
                "burn_rate": rounded(day.burn_rate),
                "state": match report.state {
                    LevelState::Ok => "ok",
                    LevelState::Warning => "warn",
                    LevelState::Critical => "critical",
                },
                "window_hours": 24,
            })
        })
    };
    Json(json!({
        "window_hours": 24,
        "components": {"ingestor": component("ingest_availability"), "forwarder": component("forward_success")},
    }))
}

fn worst(levels: &[LevelReport]) -> &'static str {
    let states = [LevelState::Critical, LevelState::Warning];
    let found = states.into_iter().find(|state| levels.iter().any(|report| report.state == *state));
    found.unwrap_or(LevelState::Ok).name()
}

fn level_json(report: &LevelReport) -> Value {
    json!({
        "slo": report.level.name(),
        "description": report.level.meaning(),
        "state": report.state.name(),
        "since": report.since.to_string(),
        "objective": rounded(report.objective),
        "threshold_seconds": report.threshold,
        "error_budget_remaining": rounded(report.budget_left),
        "windows": report.windows.iter().map(window_json).collect::<Vec<_>>(),
    })
}

fn window_json(window: &WindowReport) -> Value {
    json!({
        "window": window.window.name,
        "total": window.counts.total,
        "bad": window.counts.bad,
        "availability": rounded(1.0 - window.error_ratio),
        "error_ratio": rounded(window.error_ratio),
        "burn_rate": rounded(window.burn_rate),
    })
}

/// To a millionth: what is beyond is no information.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
