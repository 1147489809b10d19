//! The first page: is the appliance well, what comes in, what went out, what does nobody handle.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::api::hour_label;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::Fields;
use super::super::text::{ago, bytes, count, rate, short_moment, shortened, span, url_encode, visible};
use super::targets::{TargetView, target_view};
use super::views::{EventRow, counted, rule_from};
use super::{Frame, shown};
use crate::admin::{Overrun, Overview, QueueFault};
use crate::model::Timestamp;
use crate::telemetry::metrics::Dropped;
use crate::telemetry::{ListenerState, ListenerStatus};

/// Height of the chart's drawing area, in its own units.
const CHART_HEIGHT: u64 = 100;

/// Width of one hour in the chart, gap included.
const HOUR_WIDTH: usize = 30;

/// Faults of the queues' storage shown; the log has them all.
const SHOWN_FAULTS: usize = 5;

/// One hour of the chart.
struct Bar {
    x: usize,
    y: u64,
    height: u64,
    label: String,
    events: String,
}

pub(super) struct ListenerView {
    pub name: &'static str,
    pub address: Option<String>,
    pub error: Option<String>,
    pub received: String,
    pub drops: Option<String>,
    pub buffer: Option<String>,
}

struct UnhandledView {
    host: String,
    sample: String,
    count: String,
    last_seen: String,
    event: String,
    rule_link: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    now: String,
    now_minute: String,
    now_quarter: String,
    now_hour: String,
    received_hour: String,
    forwarded_hour: String,
    bars: Vec<Bar>,
    peak: String,
    day_total: String,
    queues: Vec<(String, String, String)>,
    queue_faults: Vec<String>,
    listeners: Vec<ListenerView>,
    /// What was not taken: source, reason, events.
    dropped: Vec<DroppedView>,
    /// What to do about the listeners.
    hints: Vec<String>,
    targets: Vec<TargetView>,
    alerts: Vec<EventRow>,
    unhandled: Vec<UnhandledView>,
    rules: String,
    no_rules: bool,
    disk: Option<String>,
    recent: String,
    audit: Option<String>,
    uptime: String,
    /// What does not work, told first.
    problems: Vec<String>,
    warnings: Vec<String>,
}

/// `GET /`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let overview = web.admin.overview().await;
    let now = web.admin.clock().now();
    shown(&page(Frame::new(&web, &by, "overview").after(&fields), overview, now))
}

fn page(frame: Frame, overview: Overview, now: Timestamp) -> OverviewPage {
    let rates = &overview.rates;
    let (bars, peak) = bars(&rates.hours);
    let listeners: Vec<ListenerView> = overview.listeners.iter().map(listener_view).collect();
    OverviewPage {
        frame,
        now: short_moment(now),
        now_minute: rate(rates.last_minute),
        now_quarter: rate(rates.last_15_minutes),
        now_hour: rate(rates.last_hour),
        received_hour: count(rates.received_last_hour),
        forwarded_hour: count(rates.forwarded_last_hour),
        bars,
        peak: count(peak),
        day_total: count(rates.hours.iter().map(|(_, events)| events).sum()),
        queues: overview
            .queues
            .iter()
            .map(|line| (line.name.clone(), count(line.depth.items), bytes(line.depth.bytes)))
            .collect(),
        queue_faults: overview.queue_faults.iter().rev().take(SHOWN_FAULTS).map(fault_line).collect(),
        listeners,
        dropped: dropped_views(&overview.dropped),
        hints: overview.listeners.iter().filter_map(ListenerStatus::hint).collect(),
        targets: overview.targets.iter().map(|target| target_view(target, now)).collect(),
        alerts: overview.last_alerts.iter().map(EventRow::new).collect(),
        unhandled: overview.unhandled.iter().map(|overrun| unhandled_view(overrun, now)).collect(),
        rules: format!("{} active of {}", overview.rules.0, counted_rules(overview.rules.1)),
        no_rules: overview.rules.1 == 0,
        disk: overview.disk.map(|disk| format!("{} free of {}", bytes(disk.free), bytes(disk.total))),
        recent: bytes(overview.recent_bytes),
        audit: overview.audit_rows.map(count),
        uptime: span(overview.uptime),
        problems: problems(&overview),
        warnings: overview.warnings.iter().map(|warning| visible(warning)).collect(),
    }
}

/// What an operator must look at: inputs that do not listen and receivers that do not take alerts.
fn problems(overview: &Overview) -> Vec<String> {
    let listeners = overview.listeners.iter().filter_map(|listener| match &listener.state {
        ListenerState::Listening(_) => None,
        ListenerState::Failed(why) => Some(format!("Nothing is received by {}: {}", listener.name, visible(why))),
    });
    let failing = overview.targets.iter().filter(|target| target.up != Some(true));
    let targets = failing.filter_map(|target| {
        let (_, why) = target.last_error.as_ref()?;
        let shown = visible(&shortened(why, 300));
        Some(format!("Alerts do not reach {}: {shown}. They wait in their queue.", visible(target.name.as_str())))
    });
    listeners.chain(targets).collect()
}

fn fault_line(fault: &QueueFault) -> String {
    let kept = fault.kept_at.as_ref().map(|path| format!(" Kept at {}.", path.display())).unwrap_or_default();
    visible(&format!(
        "{} UTC, queue {}, {}: {}.{kept}",
        short_moment(fault.at),
        fault.queue,
        fault.kind.name(),
        fault.what
    ))
}

fn counted_rules(rules: usize) -> String {
    counted(u64::try_from(rules).unwrap_or(u64::MAX), "rule", "rules")
}

/// The bars of the last 24 hours, scaled to the largest, and that largest.
fn bars(hours: &[(i64, u64)]) -> (Vec<Bar>, u64) {
    let peak = hours.iter().map(|(_, events)| *events).max().unwrap_or(0);
    let bars = hours.iter().enumerate().map(|(position, (hour, events))| {
        // An hour with any event at all shows at least a line.
        let height = events.saturating_mul(CHART_HEIGHT).checked_div(peak).unwrap_or(0);
        let height = if *events > 0 { height.max(1) } else { 0 };
        Bar {
            x: position * HOUR_WIDTH + 2,
            y: CHART_HEIGHT - height,
            height,
            label: hour_label(*hour),
            events: counted(*events, "event", "events"),
        }
    });
    (bars.collect(), peak)
}

pub(super) fn listener_view(listener: &ListenerStatus) -> ListenerView {
    let (address, error) = match &listener.state {
        ListenerState::Listening(address) => (Some(address.to_string()), None),
        ListenerState::Failed(why) => (None, Some(visible(why))),
    };
    ListenerView {
        name: listener.name,
        address,
        error,
        received: count(listener.received),
        drops: (listener.kernel_drops > 0).then(|| count(listener.kernel_drops)),
        buffer: (listener.receive_buffer > 0).then(|| bytes(listener.receive_buffer)),
    }
}

/// Source, reason and number of events that were not taken.
pub(super) type DroppedView = (String, String, String);

pub(super) fn dropped_views(dropped: &[Dropped]) -> Vec<DroppedView> {
    dropped.iter().map(|line| (visible(&line.source), visible(&line.reason), count(line.events))).collect()
}

fn unhandled_view(overrun: &Overrun, now: Timestamp) -> UnhandledView {
    UnhandledView {
        host: visible(&overrun.kind.hostname),
        sample: visible(&shortened(&overrun.sample, 200)),
        count: count(overrun.count),
        last_seen: ago(overrun.at, now),
        event: overrun.last.to_string(),
        rule_link: format!("{}&text={}", rule_from(overrun.last), url_encode(&overrun.sample)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_hour_fills_the_chart_and_the_smallest_still_shows() {
        let (bars, peak) = bars(&[(0, 0), (1, 1), (2, 5_000), (3, 10_000)]);
        assert_eq!(peak, 10_000);
        let heights: Vec<u64> = bars.iter().map(|bar| bar.height).collect();
        assert_eq!(heights, [0, 1, 50, 100]);
        assert!(bars.iter().all(|bar| bar.y + bar.height == CHART_HEIGHT));
    }
}
