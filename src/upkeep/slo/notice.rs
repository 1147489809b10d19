//! What people are told when a service level changes its state. Pure.

use serde_json::json;

use super::settings::Settings;
use super::verdict::{LevelReport, State};
use crate::model::{Alert, Cause, Environment, Event, EventId, Handling, Protocol, Severity, Source, Timestamp};

/// What names this program in events it makes itself.
const APP_NAME: &str = "muttd";

/// One sentence for log and alert.
pub(super) fn sentence(report: &LevelReport, before: State) -> String {
    let [five_minutes, hour, ..] = &report.windows;
    format!(
        "service level {} is {} (it was {}): {} of {} went wrong in the last hour, burn rate {:.1} over 1 h and {:.1} \
         over 5 m; {:.1} % of the error budget of 30 days is left, the objective is {} %",
        report.level.name(),
        report.state.name(),
        before.name(),
        hour.counts.bad,
        hour.counts.total,
        hour.burn_rate,
        five_minutes.burn_rate,
        report.budget_left * 100.0,
        round(report.objective * 100.0),
    )
}

/// The alert. Always a ticket: whether to page is for the receiver to say, by severity.
pub(super) fn alert(
    report: &LevelReport,
    sentence: String,
    id: EventId,
    node: &str,
    settings: &Settings,
    now: Timestamp,
) -> Alert {
    let source = Source { protocol: Protocol::Internal, peer: std::net::Ipv4Addr::LOCALHOST.into() };
    let mut event = Event::new(id, now, source);
    event.timestamp = Some(now);
    event.hostname = node.into();
    event.severity = Severity::new(match report.state {
        State::Critical => 2,
        State::Warning => 4,
        State::Ok => 6,
    });
    event.app_name = Some(APP_NAME.into());
    event.message = sentence.as_str().into();
    let fields = json!({
        "slo": report.level.name(),
        "state": report.state.name(),
        "objective": report.objective,
        "budget_left": report.budget_left,
    });
    event.fields = Some(fields.to_string().as_str().into());
    let signature = format!("service level {}", report.level.name());
    Alert {
        event,
        cause: Cause::Unmatched { signature, count: report.windows[1].counts.bad, window_seconds: 3_600 },
        environment: Environment::Prod,
        handling: Handling::TicketOnly,
        team: settings.team.clone(),
    }
}

/// To four decimals: 99.9 and not 99.90000000000001.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
