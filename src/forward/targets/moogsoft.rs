//! Moogsoft: one alert is one POST of one JSON object to a webhook, with `Authorization: Bearer`.
//!
//! Severity: Moogsoft counts upwards from 0 clear over 1 indeterminate, 2 warning, 3 minor, 4 major to 5 critical.
//! Syslog's emergency, alert and critical become critical, error major, warning minor, notice warning, and
//! informational and debug indeterminate; nothing becomes clear, since no event says that an earlier one is over.
//! An event without a severity is a warning: a rule wanted it forwarded, so it is no mere information.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::forward::answer::{Answer, classify};
use crate::forward::http::{Http, parse_url, public_address};
use crate::forward::{DeliveryError, KindOptions, Receipt, Secret, Target, TargetParts};
use crate::model::{Alert, Cause, Event, Severity, TargetName, alert_json};

/// What Moogsoft's warning is.
const WARNING: u8 = 2;

/// What the configuration says of a Moogsoft webhook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Where alerts are posted; while it is empty they wait.
    url: String,
    /// Where this appliance stands, for the receiver's `agent_location`.
    #[serde(default)]
    agent_location: String,
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        if self.url.trim().is_empty() {
            return Ok(());
        }
        parse_url(&self.url).map(|_| ()).map_err(|why| format!("`url`: {why}"))
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        Ok(Arc::new(Moogsoft {
            name: parts.name,
            http: parts.http,
            address: public_address(&self.url),
            url: parse_url(&self.url).ok(),
            agent_location: self.agent_location,
        }))
    }
}

/// A Moogsoft webhook.
struct Moogsoft {
    name: TargetName,
    http: Http,
    address: String,
    /// `None` until it is configured.
    url: Option<Url>,
    agent_location: String,
}

impl Moogsoft {
    async fn send(
        &self,
        method: Method,
        key: Option<&Secret>,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, DeliveryError> {
        let url =
            self.url.as_ref().ok_or_else(|| DeliveryError::retry(crate::forward::FailureReason::Internal, NO_URL))?;
        let mut request = with(self.http.request(method, url));
        if let Some(key) = key {
            request = request.bearer_auth(key.reveal());
        }
        self.http.send(request).await
    }
}

const NO_URL: &str = "no URL configured";

#[async_trait]
impl Target for Moogsoft {
    fn name(&self) -> &TargetName {
        &self.name
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn ready(&self) -> Result<(), String> {
        if self.url.is_some() { Ok(()) } else { Err(NO_URL.to_owned()) }
    }

    async fn deliver(&self, alerts: &[Alert], key: Option<&Secret>) -> Result<Receipt, DeliveryError> {
        let [alert] = alerts else { return Err(DeliveryError::refused("one alert is one request")) };
        let body = payload(alert, &self.agent_location);
        let answer = self.send(Method::POST, key, |request| request.json(&body)).await?;
        classify(&answer).settle(&answer)
    }

    async fn probe(&self, key: Option<&Secret>) -> Result<(), DeliveryError> {
        let answer = self.send(Method::HEAD, key, |request| request).await?;
        match classify(&answer).settle(&answer) {
            // A webhook that answers "not by HEAD" (405, 404) is there all the same.
            Ok(_) | Err(DeliveryError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
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
        "type": kind(alert),
        "severity": severity(event.severity),
        "description": event.message,
        // Seconds since the epoch, as text: the form that the vendor's examples have.
        "agent_time": event.event_time().as_seconds().to_string(),
        "custom_info": alert_json(alert),
    })
}

/// What kind of event it is: the most specific name the sender gave it.
fn kind(alert: &Alert) -> String {
    let event: &Event = &alert.event;
    match (&alert.cause, &event.trap) {
        (Cause::Unmatched { .. }, _) => "unhandled".to_owned(),
        (_, Some(trap)) => trap.oid.to_string(),
        _ => {
            let name = event.msg_id.as_deref().or(event.app_name.as_deref());
            name.unwrap_or(event.source.protocol.name()).to_owned()
        }
    }
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
}
