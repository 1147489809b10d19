//! Moogsoft Cloud, also sold as Dell APEX AIOps Incident Management: the Events API, one event a request.
//!
//! `secret` is the API key. The service publishes no rate limit, so the target's own is what protects it.

use std::sync::Arc;

use reqwest::RequestBuilder;
use reqwest::header::HeaderName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, check_base, with_secret_header};
use super::text::{clip, clip_key, kind_of, readable};
use crate::forward::{KindOptions, Target, TargetParts};
use crate::model::{Alert, Event, Severity};

/// The service; a custom integration has an address of its own.
const URL: &str = "https://api.moogsoft.ai/v1/integrations/events";
/// Characters of names, of the key and of the description.
const NAME: usize = 255;
const DESCRIPTION: usize = 4_096;

/// What the configuration says of the service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Where events are posted.
    url: String,
    /// The services that are affected.
    service: Vec<String>,
    /// `location.region`; left out if empty.
    region: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { url: URL.to_owned(), service: Vec::new(), region: String::new() }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)?;
        let fits = |text: &String| (1..=NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if self.service.len() > 20 || !self.service.iter().all(fits) {
            return Err(format!("`service` may hold 20 names of 1 to {NAME} characters"));
        }
        if !self.region.is_empty() && !fits(&self.region) {
            return Err(format!("`region` must have at most {NAME} characters and no control characters"));
        }
        Ok(())
    }

    fn needs_secret(&self) -> bool {
        true
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = Place::new(&self.url, "")?;
        Ok(posting::target(parts, place, Cloud(self)))
    }
}

struct Cloud(Options);

impl Format for Cloud {
    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        with_secret_header(request, HeaderName::from_static("apikey"), key)
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&body(call.alert, &self.0)))
    }
}

fn body(alert: &Alert, options: &Options) -> Value {
    let event = &alert.event;
    let mut body = json!({
        "source": clip(&event.hostname, NAME),
        "check": clip(&kind_of(alert), NAME),
        "description": clip(&readable(&event.message), DESCRIPTION),
        "severity": severity(event),
        "time": event.event_time().as_seconds(),
        "manager": "MUTT",
        "manager_id": "muttd",
        "class": alert.team.as_str(),
        "type": event.source.protocol.name(),
        "dedupe_key": clip_key(&alert.key(), NAME),
        "tags": tags(alert),
    });
    if !options.service.is_empty() {
        body["service"] = json!(options.service);
    }
    if !options.region.is_empty() {
        body["location"] = json!({"region": options.region});
    }
    body
}

fn tags(alert: &Alert) -> Value {
    json!({
        "correlation_id": clip(&alert.event.correlation(), NAME),
        "environment": alert.environment.name(),
        "event_id": alert.event.id.to_string(),
        "handling": alert.handling.as_str(),
        "team": alert.team.as_str(),
    })
}

/// The same order as on premises, by name; nothing becomes clear, since no event says that an earlier one is over.
fn severity(event: &Event) -> &'static str {
    match event.severity.map(Severity::number) {
        Some(0..=2) => "Critical",
        Some(3) => "Major",
        Some(4) => "Minor",
        Some(5) | None => "Warning",
        Some(_) => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, huge, options, refused, sample, unhandled};
    use super::*;

    fn service() -> Options {
        options(json!({"service": ["network"], "region": "eu"})).expect("options")
    }

    #[test]
    fn one_alert_is_one_event() {
        assert_eq!(
            body(&sample(), &service()),
            json!({
                "source": "core-sw-1",
                "check": "LINK-3-UPDOWN",
                "description": "Link <Te1/1> \"down\" & @all *flaps*",
                "severity": "Major",
                "time": 1_772_366_400,
                "manager": "MUTT",
                "manager_id": "muttd",
                "class": "NETO",
                "type": "syslog_udp",
                "dedupe_key": "core-sw-1:rule:7",
                "tags": {
                    "correlation_id": ID, "environment": "prod", "event_id": ID, "handling": "Page_only", "team": "NETO",
                },
                "service": ["network"],
                "location": {"region": "eu"},
            })
        );
    }

    #[test]
    fn texts_are_bounded() {
        let body = body(&huge(), &service());
        assert!(body["description"].as_str().is_some_and(|text| text.encode_utf16().count() <= DESCRIPTION));
        let body = super::body(&unhandled(), &service());
        assert!(body["dedupe_key"].as_str().is_some_and(|key| key.len() <= NAME));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({"url": "moogsoft"}), "`url`");
        refused::<Options>(json!({"service": [""]}), "`service`");
        refused::<Options>(json!({"region": "a\u{0}"}), "`region`");
        refused::<Options>(json!({"key": "x"}), "key");
    }
}
