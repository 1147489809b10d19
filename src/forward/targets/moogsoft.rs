//! Moogsoft: one alert is one POST of one JSON object to a webhook, with `Authorization: Bearer`,
//! or with HTTP Basic where `user` is set.
//!
//! Severity: Moogsoft counts upwards from 0 clear over 1 indeterminate, 2 warning, 3 minor, 4 major to 5 critical.
//! Syslog's emergency, alert and critical become critical, error major, warning minor, notice warning, and
//! informational and debug indeterminate; nothing becomes clear, since no event says that an earlier one is over.
//! An event without a severity is a warning: a rule wanted it forwarded, so it is no mere information.

use std::sync::Arc;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, Probe, authorized};
use super::text::kind_of;
use crate::forward::http::parse_url;
use crate::forward::{KindOptions, Target, TargetParts};
use crate::model::{Alert, Severity, alert_json};

/// What Moogsoft's warning is.
const WARNING: u8 = 2;

/// What stands around the event.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "snake_case")]
enum Envelope {
    /// Nothing: the event is the body. The webhook of versions 7 to 9.
    #[default]
    Object,
    /// `{"events": [..]}`, as the webhook of 6.2 wants it.
    Events,
}

/// What the configuration says of a Moogsoft webhook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Where alerts are posted; while it is empty they wait.
    url: String,
    /// Where this appliance stands, for the receiver's `agent_location`.
    #[serde(default)]
    agent_location: String,
    /// For HTTP Basic, with `secret` as the password; with `secret` alone it is a bearer token.
    #[serde(default)]
    user: String,
    /// What stands around the event.
    #[serde(default)]
    envelope: Envelope,
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        if self.user.contains(':') || self.user.chars().any(char::is_control) {
            return Err("`user` must hold no colon and no control characters".to_owned());
        }
        if self.url.trim().is_empty() {
            return Ok(());
        }
        parse_url(&self.url).map(|_| ()).map_err(|why| format!("`url`: {why}"))
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = if self.url.trim().is_empty() { Place::Unset } else { Place::new(&self.url, "")? };
        Ok(posting::target(parts, place, Moogsoft(self)))
    }
}

struct Moogsoft(Options);

impl Format for Moogsoft {
    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        Ok(authorized(request, &self.0.user, key))
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&body(call.alert, &self.0)))
    }

    fn probe(&self) -> Probe {
        Probe::HeadWithKey
    }
}

fn body(alert: &Alert, options: &Options) -> Value {
    let event = payload(alert, &options.agent_location);
    match options.envelope {
        Envelope::Object => event,
        Envelope::Events => json!({"events": [event]}),
    }
}

/// The event as Moogsoft's webhook takes it.
fn payload(alert: &Alert, agent_location: &str) -> Value {
    let event = &alert.event;
    json!({
        "signature": alert.key(),
        "source_id": event.hostname,
        "external_id": event.correlation(),
        "manager": "MUTT",
        "source": event.hostname,
        "class": alert.team.as_str(),
        "agent": "muttd",
        "agent_location": agent_location,
        "type": kind_of(alert),
        "severity": severity(event.severity),
        "description": event.message,
        // Seconds since the epoch, as text: the form that the vendor's examples have.
        "agent_time": event.event_time().as_seconds().to_string(),
        "custom_info": alert_json(alert),
    })
}

fn severity(severity: Option<Severity>) -> u8 {
    match severity.map(Severity::number) {
        Some(0..=2) => 5,
        Some(3) => 4,
        Some(4) => 3,
        Some(5) => 2,
        Some(_) => 1,
        None => WARNING,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{options, refused, sample};
    use super::*;
    use crate::forward::tests::alert;

    #[test]
    fn severities_are_turned_round() {
        let check = |number: Option<u8>, expected| assert_eq!(severity(number.and_then(Severity::new)), expected);
        for (number, expected) in [(0, 5), (1, 5), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1), (7, 1)] {
            check(Some(number), expected);
        }
        check(None, 2);
    }

    #[test]
    fn the_payload_has_every_member_that_moogsoft_reads() {
        let mut alert = alert("link down");
        alert.event.correlation_id = Some("abc".into());
        alert.event.severity = Severity::new(3);
        alert.event.app_name = Some("LINK-3-UPDOWN".into());
        let mut body = payload(&alert, "Rack 4");
        let custom = body.as_object_mut().and_then(|members| members.remove("custom_info")).expect("custom_info");
        assert_eq!(
            body,
            json!({
                "signature": "sw1:rule:7", "source_id": "sw1", "external_id": "abc", "manager": "MUTT",
                "source": "sw1", "class": "NETO", "agent": "muttd", "agent_location": "Rack 4",
                "type": "LINK-3-UPDOWN", "severity": 4, "description": "link down", "agent_time": "1800000000",
            })
        );
        assert_eq!((&custom["id"], &custom["rule_id"]), (&json!(alert.event.id.to_string()), &json!(7)));
    }

    #[test]
    fn the_correlation_id_is_the_events_own_id_if_none_was_sent() {
        let alert = alert("link down");
        assert_eq!(payload(&alert, "")["external_id"], json!(alert.event.id.to_string()));
        assert_eq!(payload(&alert, "")["type"], "syslog_udp");
    }
    #[test]
    fn an_envelope_stands_around_the_event_if_wanted() {
        let wrapped: Options = options(json!({"url": "http://moog.example/x", "envelope": "events"})).expect("options");
        let body = body(&sample(), &wrapped);
        assert_eq!(body["events"][0]["signature"], "core-sw-1:rule:7");
        assert_eq!(body.as_object().map(|members| members.len()), Some(1));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({"url": "moogsoft"}), "`url`");
        refused::<Options>(json!({"url": "", "user": "a:b"}), "`user`");
        refused::<Options>(json!({"url": "", "envelope": "array"}), "array");
        assert!(options::<Options>(json!({"url": ""})).is_ok(), "alerts wait until there is an address");
    }
}
