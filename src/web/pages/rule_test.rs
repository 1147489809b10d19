//! The test box: paste a message, see which rule wins and why. Nothing is stored.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::visible;
use super::events::{ExplainedView, explained_view};
use super::views::{RuleRow, severity_choices};
use super::{Frame, Trouble, shown, shown_again};
use crate::admin::{AdminError, TestMessage, TestOutcome};
use crate::model::{Oid, Severity};

/// What came of a test.
struct Outcome {
    winner: Option<RuleRow>,
    handling: String,
    forwarded: bool,
    environment: &'static str,
    host_team: Option<String>,
    explained: Vec<ExplainedView>,
}

#[derive(Template)]
#[template(path = "rule_test.html")]
struct TestPage {
    frame: Frame,
    message: String,
    hostname: String,
    severity: String,
    trap_oid: String,
    severities: Vec<(String, String)>,
    outcome: Option<Outcome>,
    trouble: Trouble,
}

impl TestPage {
    fn new(frame: Frame, fields: &Fields) -> Self {
        Self {
            frame,
            message: fields.exact("message"),
            hostname: fields.text("hostname"),
            severity: fields.text("severity"),
            trap_oid: fields.text("trap_oid"),
            severities: severity_choices(),
            outcome: None,
            trouble: Trouble::default(),
        }
    }
}

/// `GET /rules/test`.
pub(super) async fn form(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&TestPage::new(Frame::new(&web, &by, "test"), &fields))
}

/// `POST /rules/test`.
pub(super) async fn run(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let mut page = TestPage::new(Frame::new(&web, &posted.by, "test"), &posted.fields);
    let outcome = match message(&page) {
        Ok(message) => web.admin.test_message(message).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(outcome) => {
            page.outcome = Some(outcome_view(&outcome));
            shown(&page)
        }
        Err(error) => {
            page.trouble = error.into();
            let status = page.trouble.status;
            shown_again(&page, status)
        }
    }
}

fn message(page: &TestPage) -> Result<TestMessage, AdminError> {
    let severity = match page.severity.as_str() {
        "" => None,
        text => {
            let severity = text.parse::<Severity>();
            Some(severity.map_err(|error| AdminError::invalid("severity", error.to_string()))?)
        }
    };
    let trap_oid = match page.trap_oid.as_str() {
        "" => None,
        text => {
            let oid = text.parse::<Oid>();
            Some(oid.map_err(|error| AdminError::invalid("trap_oid", error.to_string()))?)
        }
    };
    // A text area ends lines with CR LF and often with one line break too many; neither was in the message.
    let message = page.message.replace("\r\n", "\n").trim_end().to_owned();
    Ok(TestMessage { message, hostname: page.hostname.clone(), severity, trap_oid })
}

fn outcome_view(outcome: &TestOutcome) -> Outcome {
    let winner = outcome.winner.as_ref();
    let handling = winner.map(|rule| rule.draft.handling(outcome.environment));
    let winner_id = winner.map(|rule| rule.id.0);
    Outcome {
        winner: winner.map(RuleRow::new),
        handling: handling.map(|handling| visible(handling.as_str())).unwrap_or_default(),
        forwarded: handling.is_some_and(crate::model::Handling::is_forwarded),
        environment: outcome.environment.name(),
        host_team: outcome.host_team.as_deref().map(visible),
        explained: outcome.explained.iter().map(|told| explained_view(told, winner_id)).collect(),
    }
}
