//! What people are told about retention: caps that come near or bite, and runs that fail. Told once, and again when it is
//! over. Pure, except that it can log itself.

use serde_json::json;

use super::report::{Nearness, Report};
use crate::model::{Alert, Cause, Environment, Event, EventId, Handling, Protocol, Severity, Source, Team, Timestamp};

/// What names this program in events it makes itself.
const APP_NAME: &str = "muttd";

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    subject: String,
    sentence: String,
    severity: u8,
}

impl Notice {
    /// A cap came near, bit, or is far again.
    pub(super) fn of_cap(what: &str, key: &str, nearness: Nearness) -> Self {
        let (severity, sentence) = match nearness {
            Nearness::Far => (6, format!("the {what} is well below its cap again ({key})")),
            Nearness::Near => (
                4,
                format!(
                    "the {what} has used 80 % of its cap ({key}); when it is reached, the oldest events leave the {what} \
                     before their time"
                ),
            ),
            Nearness::Bit => {
                (3, format!("the {what} reached its cap ({key}): the oldest events left the {what} before their time"))
            }
        };
        Self { subject: format!("retention {what} cap"), sentence, severity }
    }

    /// A run failed, or the first one after that went well.
    pub(super) fn of_run(report: &Report) -> Self {
        let subject = "retention run".to_owned();
        match report.faults.iter().chain(&report.damaged).next() {
            None => Self { subject, sentence: "the retention run went well again".to_owned(), severity: 6 },
            Some(first) => {
                let more = report.faults.len() + report.damaged.len() - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                Self { subject, sentence: format!("the retention run failed: {first}{more}"), severity: 3 }
            }
        }
    }

    pub(super) fn log(&self) {
        match self.severity {
            6 => tracing::info!("Retention: {}", self.sentence),
            _ => tracing::warn!("Retention: {}", self.sentence),
        }
    }

    /// The alert. Always a ticket: whether to page is for the receiver to say, by severity.
    pub(super) fn alert(&self, id: EventId, node: &str, team: &Team, now: Timestamp) -> Alert {
        let source = Source { protocol: Protocol::Internal, peer: std::net::Ipv4Addr::LOCALHOST.into() };
        let mut event = Event::new(id, now, source);
        event.timestamp = Some(now);
        event.hostname = node.into();
        event.severity = Severity::new(self.severity);
        event.app_name = Some(APP_NAME.into());
        event.message = self.sentence.as_str().into();
        event.fields = Some(json!({"subject": self.subject}).to_string().as_str().into());
        Alert {
            event,
            cause: Cause::Unmatched { signature: self.subject.clone(), count: 1, window_seconds: 86_400 },
            environment: Environment::Prod,
            handling: Handling::TicketOnly,
            team: team.clone(),
        }
    }
}
