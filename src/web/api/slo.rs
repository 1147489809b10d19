//! The service levels over the API.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use crate::admin::{Figures, LevelReport, LevelState, WindowReport};

/// The window of 24 hours among those of a report.
const DAY: usize = 3;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(status))
}

/// The routes that version 1 has of this section.
pub(super) fn routes_v1() -> OpenApiRouter<Web> {
    OpenApiRouter::new().routes(routes!(components)).routes(routes!(status_v1))
}

/// All service levels.
#[derive(Serialize, ToSchema)]
struct ServiceLevels {
    /// The worst state of all: `ok`, `warning` or `critical`.
    status: &'static str,
    slos: Vec<ServiceLevel>,
    /// What a Prometheus server says of the same; null if none is asked.
    prometheus: Option<PrometheusLevels>,
}

/// The figures of a Prometheus server.
#[derive(Serialize, ToSchema)]
struct PrometheusLevels {
    /// Where it is.
    address: String,
    /// When it said so; null while it has not answered.
    #[schema(format = DateTime)]
    checked_at: Option<String>,
    /// Why it says nothing now.
    error: Option<String>,
    slos: Vec<PrometheusLevel>,
}

/// What it says of one service level.
#[derive(Serialize, ToSchema)]
struct PrometheusLevel {
    slo: &'static str,
    windows: Vec<PrometheusWindow>,
}

/// What it says of one stretch of time. It extrapolates between its scrapes, so events are no whole numbers.
#[derive(Serialize, ToSchema)]
struct PrometheusWindow {
    /// How long it is, such as `1h`.
    window: &'static str,
    total: f64,
    bad: f64,
    /// Share of good ones.
    availability: f64,
    /// Share of bad ones.
    error_ratio: f64,
    /// That share over the share that the objective allows.
    burn_rate: f64,
}

/// A service level.
#[derive(Serialize, ToSchema)]
struct ServiceLevel {
    slo: &'static str,
    description: &'static str,
    /// `ok`, `warning` or `critical`.
    state: &'static str,
    /// Since when it is in this state.
    #[schema(format = DateTime)]
    since: String,
    /// Share of good events asked for.
    objective: f64,
    /// For levels of time: what is good takes no longer, in seconds.
    threshold_seconds: Option<f64>,
    /// What is left of the error budget of 30 days: 1 all, 0 nothing, negative overdrawn.
    error_budget_remaining: f64,
    windows: Vec<LevelWindow>,
}

/// A service level over one stretch of time.
#[derive(Serialize, ToSchema)]
struct LevelWindow {
    /// How long it is, such as `1h`.
    window: &'static str,
    /// Events counted.
    total: u64,
    /// Bad ones among them.
    bad: u64,
    /// Share of good ones.
    availability: f64,
    /// Share of bad ones.
    error_ratio: f64,
    /// That share over the share that the objective allows.
    burn_rate: f64,
}

/// Which service levels are how.
#[derive(Serialize, ToSchema)]
struct LevelStates {
    /// The worst state of all.
    status: &'static str,
    ok: Vec<&'static str>,
    warning: Vec<&'static str>,
    critical: Vec<&'static str>,
}

/// Service levels as MUTT 2.x told them.
#[derive(Serialize, ToSchema)]
struct Components {
    window_hours: u32,
    components: ComponentPair,
    /// What a Prometheus server says of the same; null if none is asked.
    prometheus: Option<PrometheusLevels>,
}

/// The two components of MUTT 2.x.
#[derive(Serialize, ToSchema)]
struct ComponentPair {
    ingestor: Option<Component>,
    forwarder: Option<Component>,
}

/// A component over 24 hours, with its success alone.
#[derive(Serialize, ToSchema)]
struct Component {
    target: f64,
    availability: f64,
    error_budget_remaining: f64,
    burn_rate: f64,
    /// `ok`, `warn` or `critical`.
    state: &'static str,
    window_hours: u32,
}

/// All service levels with their figures
#[utoipa::path(get, path = "/slo", responses((status = 200, body = ServiceLevels)))]
async fn show(State(web): State<Web>) -> Json<ServiceLevels> {
    let levels = web.admin.service_levels();
    Json(ServiceLevels {
        status: worst(&levels),
        slos: levels.iter().map(ServiceLevel::from).collect(),
        prometheus: prometheus(&web, &levels),
    })
}

/// The worst state, and which levels are how
#[utoipa::path(get, path = "/slo/status", responses((status = 200, body = LevelStates)))]
async fn status(State(web): State<Web>) -> Json<LevelStates> {
    let levels = web.admin.service_levels();
    let named = |state: LevelState| -> Vec<&'static str> {
        levels.iter().filter(|report| report.state == state).map(|report| report.level.name()).collect()
    };
    Json(LevelStates {
        status: worst(&levels),
        ok: named(LevelState::Ok),
        warning: named(LevelState::Warning),
        critical: named(LevelState::Critical),
    })
}

/// The worst state, and which levels are how
#[utoipa::path(get, path = "/slo/status", responses((status = 200, body = LevelStates)))]
async fn status_v1(web: State<Web>) -> Json<LevelStates> {
    status(web).await
}

/// The two components of MUTT 2.x over 24 hours
#[utoipa::path(get, path = "/slo", responses((status = 200, body = Components)))]
async fn components(State(web): State<Web>) -> Json<Components> {
    let levels = web.admin.service_levels();
    let component = |name: &str| levels.iter().find(|report| report.level.name() == name).map(Component::from);
    let components =
        ComponentPair { ingestor: component("ingest_availability"), forwarder: component("forward_success") };
    Json(Components { window_hours: 24, components, prometheus: prometheus(&web, &levels) })
}

impl From<&LevelReport> for Component {
    fn from(report: &LevelReport) -> Self {
        let day = &report.windows[DAY];
        Self {
            target: rounded(report.objective),
            availability: rounded(1.0 - day.error_ratio),
            error_budget_remaining: rounded(1.0 - day.burn_rate),
            burn_rate: rounded(day.burn_rate),
            state: match report.state {
                LevelState::Ok => "ok",
                LevelState::Warning => "warn",
                LevelState::Critical => "critical",
            },
            window_hours: 24,
        }
    }
}

fn prometheus(web: &Web, levels: &[LevelReport]) -> Option<PrometheusLevels> {
    let report = web.admin.prometheus_levels()?;
    let figures = report.figures.iter().flat_map(|(_, figures)| levels.iter().zip(figures));
    let slos = figures.map(|(level, figures)| PrometheusLevel {
        slo: level.level.name(),
        windows: level.windows.iter().zip(figures).map(|(own, theirs)| window(own, level.objective, *theirs)).collect(),
    });
    Some(PrometheusLevels {
        address: report.address.clone(),
        checked_at: report.figures.as_ref().map(|(at, _)| at.to_string()),
        error: report.trouble.clone(),
        slos: slos.collect(),
    })
}

fn window(own: &WindowReport, objective: f64, theirs: Figures) -> PrometheusWindow {
    let ratio = theirs.error_ratio();
    PrometheusWindow {
        window: own.window.name,
        total: rounded(theirs.total),
        bad: rounded(theirs.bad),
        availability: rounded(1.0 - ratio),
        error_ratio: rounded(ratio),
        burn_rate: rounded(ratio / (1.0 - objective)),
    }
}

fn worst(levels: &[LevelReport]) -> &'static str {
    let states = [LevelState::Critical, LevelState::Warning];
    let found = states.into_iter().find(|state| levels.iter().any(|report| report.state == *state));
    found.unwrap_or(LevelState::Ok).name()
}

impl From<&LevelReport> for ServiceLevel {
    fn from(report: &LevelReport) -> Self {
        Self {
            slo: report.level.name(),
            description: report.level.meaning(),
            state: report.state.name(),
            since: report.since.to_string(),
            objective: rounded(report.objective),
            threshold_seconds: report.threshold,
            error_budget_remaining: rounded(report.budget_left),
            windows: report.windows.iter().map(LevelWindow::from).collect(),
        }
    }
}

impl From<&WindowReport> for LevelWindow {
    fn from(window: &WindowReport) -> Self {
        Self {
            window: window.window.name,
            total: window.counts.total,
            bad: window.counts.bad,
            availability: rounded(1.0 - window.error_ratio),
            error_ratio: rounded(window.error_ratio),
            burn_rate: rounded(window.burn_rate),
        }
    }
}

/// To a millionth: what is beyond is no information.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
