//! The service levels: what is asked, what was counted, how fast the error budget is used up.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::text::{count, moment};
use super::{Frame, shown};
use crate::admin::{LevelReport, LevelState, WindowReport};

/// A level as the page shows it.
struct LevelView {
    name: &'static str,
    meaning: &'static str,
    asked: String,
    state: &'static str,
    class: &'static str,
    since: String,
    budget: String,
    windows: Vec<WindowView>,
}

/// A window of it.
struct WindowView {
    name: &'static str,
    good: String,
    counted: String,
    burn: String,
}

#[derive(Template)]
#[template(path = "slo.html")]
struct SloPage {
    frame: Frame,
    levels: Vec<LevelView>,
}

/// `GET /slo`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn) -> Answer<Response> {
    let levels = web.admin.service_levels().iter().map(level_view).collect();
    shown(&SloPage { frame: Frame::new(&web, &by, "slo"), levels })
}

fn level_view(report: &LevelReport) -> LevelView {
    let within = report.threshold.map(|seconds| format!(" within {seconds} s")).unwrap_or_default();
    LevelView {
        name: report.level.name(),
        meaning: report.level.meaning(),
        asked: format!("{} %{within}", trimmed(report.objective * 100.0)),
        state: report.state.name(),
        class: match report.state {
            LevelState::Ok => "ok",
            LevelState::Warning => "calm",
            LevelState::Critical => "hot",
        },
        since: moment(report.since),
        budget: format!("{} %", trimmed(report.budget_left * 100.0)),
        windows: report.windows.iter().map(window_view).collect(),
    }
}

fn window_view(window: &WindowReport) -> WindowView {
    let WindowReport { counts, .. } = window;
    let idle = counts.total == 0;
    WindowView {
        name: window.window.name,
        good: if idle { "-".to_owned() } else { format!("{} %", trimmed((1.0 - window.error_ratio) * 100.0)) },
        counted: if idle {
            "nothing".to_owned()
        } else {
            format!("{} bad of {}", count(counts.bad), count(counts.total))
        },
        burn: format!("{:.2}", window.burn_rate),
    }
}

/// With at most three decimals.
fn trimmed(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
