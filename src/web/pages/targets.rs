//! Delivery targets: how each is, a test, the breaker's reset, and what waits for targets that are gone.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::{ago, bytes, count, moment, shortened, visible};
use super::views::history_of;
use super::{ConfirmPage, Frame, Trouble, done, shown, shown_again};
use crate::admin::{TargetDefinition, TargetLine};
use crate::model::Timestamp;
use crate::telemetry::{BreakerState, TargetStatus};

/// Characters of an answer that are shown.
const SHOWN: usize = 300;

/// A target as the pages show it.
pub(super) struct TargetView {
    pub name: String,
    pub kind: &'static str,
    pub address: String,
    pub state: &'static str,
    pub class: &'static str,
    pub last_success: String,
    pub last_error: Option<String>,
    /// What is special now: left alone until, held until, diverted to.
    pub notes: Vec<String>,
    pub delivered: String,
    pub retried: String,
    pub dead: String,
    pub diverted: String,
    pub trips: String,
    pub waiting: String,
    pub tripped: bool,
}

/// What a test found.
struct TestView {
    target: String,
    taken: bool,
    answer: String,
    took: String,
}

#[derive(Template)]
#[template(path = "targets.html")]
struct TargetsPage {
    frame: Frame,
    targets: Vec<TargetView>,
    /// Name and what waits, in numbers and bytes.
    abandoned: Vec<(String, String, String)>,
    definitions: Vec<DefinitionView>,
    test: Option<TestView>,
    trouble: Trouble,
}

/// How a target is defined.
struct DefinitionView {
    name: String,
    kind: String,
    of_file: bool,
    enabled: bool,
    problem: Option<String>,
    history: String,
}

fn definition_view(target: TargetDefinition) -> DefinitionView {
    DefinitionView {
        history: history_of("delivery_targets", &target.name),
        kind: visible(&target.kind),
        of_file: target.definition.is_none(),
        enabled: target.enabled,
        problem: target.problem.as_deref().map(visible),
        name: target.name,
    }
}

/// `GET /targets`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "targets").after(&fields), None, Trouble::default()))
}

fn page(web: &Web, frame: Frame, test: Option<TestView>, trouble: Trouble) -> TargetsPage {
    let targets = web.admin.target_lines();
    let now = web.admin.clock().now();
    let abandoned = targets.abandoned.iter();
    let abandoned =
        abandoned.map(|line| (line.name.to_string(), count(line.waiting.items), bytes(line.waiting.bytes))).collect();
    let view = |line: &TargetLine| TargetView { waiting: count(line.waiting.items), ..target_view(&line.status, now) };
    let definitions = web.admin.target_definitions().into_iter().map(definition_view).collect();
    TargetsPage { frame, targets: targets.configured.iter().map(view).collect(), abandoned, definitions, test, trouble }
}

/// `POST /targets/test`.
pub(super) async fn test(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let name = posted.fields.text("name");
    let outcome = web.admin.test_target(&name, &posted.by.actor, posted.fields.get("reason")).await;
    let frame = Frame::new(&web, &posted.by, "targets");
    match outcome {
        Ok(report) => {
            let test = TestView {
                target: visible(&name),
                taken: report.taken,
                answer: visible(&shortened(&report.answer, SHOWN)),
                took: format!("{:.1} s", report.took.as_secs_f64()),
            };
            shown(&page(&web, frame, Some(test), Trouble::default()))
        }
        Err(error) => again(&web, frame, error.into()),
    }
}

/// `POST /targets/reset`.
pub(super) async fn reset(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let name = posted.fields.text("name");
    match web.admin.reset_target(&name, &posted.by.actor, posted.fields.get("reason")).await {
        Ok(_) => Ok(done("/targets", "target-reset")),
        Err(error) => again(&web, Frame::new(&web, &posted.by, "targets"), error.into()),
    }
}

/// `POST /outboxes/move`.
pub(super) async fn move_outbox(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (name, to) = (posted.fields.text("name"), posted.fields.text("to"));
    match web.admin.move_outbox(&name, &to, &posted.by.actor, posted.fields.get("reason")).await {
        Ok(_) => Ok(done("/targets", "outbox-moved")),
        Err(error) => again(&web, Frame::new(&web, &posted.by, "targets"), error.into()),
    }
}

fn again(web: &Web, frame: Frame, trouble: Trouble) -> Answer<Response> {
    let status = trouble.status;
    shown_again(&page(web, frame, None, trouble), status)
}

/// `GET /outboxes/discard?name=`.
pub(super) async fn confirm_discard(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&discard_page(&web, Frame::new(&web, &by, "targets"), fields.text("name")))
}

/// `POST /outboxes/discard`.
pub(super) async fn discard_outbox(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let name = posted.fields.text("name");
    let Err(error) = web.admin.discard_outbox(&name, &posted.by.actor, posted.fields.get("reason")).await else {
        return Ok(done("/targets", "outbox-discarded"));
    };
    discard_page(&web, Frame::new(&web, &posted.by, "targets"), name).again(error, &posted.fields)
}

fn discard_page(web: &Web, frame: Frame, name: String) -> ConfirmPage {
    let abandoned = web.admin.target_lines().abandoned;
    let waiting = abandoned.iter().find(|line| line.name.as_str() == name).map_or(0, |line| line.waiting.items);
    ConfirmPage {
        frame,
        title: "Discard the alerts of a target that is not configured".into(),
        consequence: "These alerts are not delivered to anyone. Their events stay in the audit.",
        facts: vec![("Target", visible(&name)), ("Alerts", count(waiting))],
        action: "/outboxes/discard".into(),
        hidden: vec![("name", name)],
        button: "Discard alerts",
        back: "/targets".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    }
}

/// A target as the overview and the page of targets show it.
pub(super) fn target_view(target: &TargetStatus, now: Timestamp) -> TargetView {
    let (state, class) = match (target.breaker, target.up, &target.last_error) {
        (BreakerState::Open, ..) => ("left alone", "bad"),
        (BreakerState::HalfOpen, ..) => ("being tried", "warn"),
        (_, Some(true), _) => ("delivering", "ok"),
        (_, Some(false), _) => ("failing", "bad"),
        (_, None, Some(_)) => ("not ready", "warn"),
        (_, None, None) => ("nothing sent yet", "idle"),
    };
    let error = |(at, why): &(Timestamp, String)| format!("{}: {}", ago(*at, now), visible(&shortened(why, SHOWN)));
    let mut notes = Vec::new();
    if target.breaker != BreakerState::Closed
        && let Some((at, why)) = &target.last_trip
    {
        notes.push(format!("left alone since {} because of: {}", moment(*at), visible(&shortened(why, SHOWN))));
    }
    notes.extend(target.next_probe.map(|at| format!("one alert is tried at {}", moment(at))));
    notes.extend(target.held_until.map(|at| format!("it asked for patience until {}", moment(at))));
    notes.extend(target.diverted_to.as_ref().map(|to| format!("its alerts go to {to} meanwhile")));
    TargetView {
        name: visible(target.name.as_str()),
        kind: target.kind,
        address: visible(&target.address),
        state,
        class,
        last_success: target.last_success.map_or_else(|| "never".to_owned(), |at| ago(at, now)),
        last_error: target.last_error.as_ref().map(error),
        notes,
        delivered: count(target.delivered),
        retried: count(target.retried),
        dead: count(target.dead),
        diverted: count(target.diverted),
        trips: count(target.trips),
        waiting: String::new(),
        tripped: target.breaker != BreakerState::Closed || target.held_until.is_some(),
    }
}
