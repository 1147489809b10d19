//! The service levels: what is asked, what was counted, how fast the error budget is used up.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::text::{count, moment, visible};
use super::{Frame, shown};
use crate::admin::{Figures, LevelReport, LevelState, WindowReport};

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
    /// What Prometheus says: the good share and the burn rate.
    theirs: Option<(String, String)>,
}

/// The Prometheus server that is asked.
struct PrometheusView {
    address: String,
    checked: Option<String>,
    trouble: Option<String>,
}

#[derive(Template)]
#[template(path = "slo.html")]
struct SloPage {
    frame: Frame,
    levels: Vec<LevelView>,
    prometheus: Option<PrometheusView>,
}

/// `GET /slo`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn) -> Answer<Response> {
    let asked = web.admin.prometheus_levels();
    let figures = asked.as_ref().and_then(|report| report.figures.as_ref());
    let reports = web.admin.service_levels();
    let levels = reports.iter().enumerate().map(|(place, report)| {
        let theirs = figures.and_then(|(_, figures)| figures.get(place));
        level_view(report, theirs)
    });
    let prometheus = asked.as_ref().map(|report| PrometheusView {
        address: visible(&report.address),
        checked: report.figures.as_ref().map(|(at, _)| moment(*at)),
        trouble: report.trouble.as_deref().map(visible),
    });
    shown(&SloPage { levels: levels.collect(), prometheus, frame: Frame::new(&web, &by, "slo") })
}

fn level_view(report: &LevelReport, theirs: Option<&[Figures; 5]>) -> LevelView {
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
        windows: report
            .windows
            .iter()
            .enumerate()
            .map(|(place, window)| window_view(window, report.objective, theirs.map(|theirs| theirs[place])))
            .collect(),
    }
}

fn window_view(window: &WindowReport, objective: f64, theirs: Option<Figures>) -> WindowView {
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
        theirs: theirs.map(|figures| {
            let ratio = figures.error_ratio();
            let good =
                if figures.total > 0.0 { format!("{} %", trimmed((1.0 - ratio) * 100.0)) } else { "-".to_owned() };
            (good, format!("{:.2}", ratio / (1.0 - objective)))
        }),
    }
}

/// With at most three decimals.
fn trimmed(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
