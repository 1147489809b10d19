//! Prometheus Alertmanager, API v2.
//!
//! The labels are an alert's identity there, so they hold names only: never the message, a time or a counter. Those
//! are annotations. An event says nothing about its end, so each alert ends by itself after `resolve_after_seconds`
//! unless it comes again. One alert is one request: Alertmanager answers 400 when it refused one of several and stored
//! the others, and then nobody could tell which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::posting::{self, Call, Format, Place, Probe, authorized, check_base};
use super::text::{Grade, cause_of, clip, clip_key, headline, kind_of, readable, short_hash};
use crate::forward::{KindOptions, Target, TargetParts};
use crate::model::{Alert, Cause, Timestamp};

/// UTF-16 units of an annotation: what a notification can show, and far below what Alertmanager takes.
const ANNOTATION: usize = 8_192;
/// Bytes of a label's value.
const LABEL: usize = 512;
/// Labels of our own making that the configuration must not set.
const OWN: [&str; 8] =
    ["alertname", "instance", "severity", "team", "environment", "handling", "rule_id", "signature_id"];

/// What the configuration says of an Alertmanager.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Its address, without `/api/v2/alerts`.
    url: String,
    /// For HTTP Basic, with `secret` as the password; with `secret` alone it is a bearer token.
    user: String,
    /// Labels that every alert gets.
    labels: BTreeMap<String, String>,
    /// When an alert that did not come again is over.
    resolve_after_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { url: String::new(), user: String::new(), labels: BTreeMap::new(), resolve_after_seconds: 3_600 }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)?;
        if !(60..=604_800).contains(&self.resolve_after_seconds) {
            return Err("`resolve_after_seconds` must be 60 to 604800".to_owned());
        }
        if self.labels.len() > 20 {
            return Err("`labels` may hold 20 labels at most".to_owned());
        }
        self.labels.iter().try_for_each(|(name, value)| check_label(name, value))
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = Place::new(&self.url, "/api/v2/alerts")?;
        let resolve_after = Duration::from_secs(self.resolve_after_seconds);
        let format = Alertmanager { user: self.user, labels: self.labels, resolve_after };
        Ok(posting::target(parts, place, format))
    }
}

fn check_label(name: &str, value: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("`labels`: `{name}` is no label name; use letters, digits and `_`"));
    }
    if OWN.contains(&name) {
        return Err(format!("`labels`: `{name}` is set by muttd; choose another name"));
    }
    if value.is_empty() || value.chars().count() > LABEL {
        return Err(format!("`labels`: the value of `{name}` must have 1 to {LABEL} characters"));
    }
    Ok(())
}

struct Alertmanager {
    user: String,
    labels: BTreeMap<String, String>,
    resolve_after: Duration,
}

impl Format for Alertmanager {
    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        Ok(authorized(request, &self.user, key))
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&json!([self.alert(call.alert, call.now)])))
    }

    fn probe(&self) -> Probe {
        Probe::Below("/api/v2/alerts", "/-/healthy")
    }
}

impl Alertmanager {
    fn alert(&self, alert: &Alert, now: Timestamp) -> Value {
        // Our own clock: a device's may be in the future, and an alert that ends before it starts is refused.
        let starts = alert.event.received_at;
        let ends = now.max(starts).plus(self.resolve_after);
        json!({
            "labels": self.labels(alert),
            "annotations": {
                "summary": clip(&headline(alert), 500),
                "description": clip(&readable(&alert.event.message), ANNOTATION),
                "cause": cause_of(alert),
                "event_id": alert.event.id.to_string(),
                "event_time": alert.event.event_time().to_string(),
                "type": clip(&kind_of(alert), LABEL),
            },
            "startsAt": starts.to_string(),
            "endsAt": ends.to_string(),
        })
    }

    fn labels(&self, alert: &Alert) -> Map<String, Value> {
        let mut labels: Map<String, Value> =
            self.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let mut put = |name: &str, value: &str| labels.insert(name.to_owned(), json!(clip_key(value, LABEL)));
        put("instance", &alert.event.hostname);
        put("severity", Grade::of(&alert.event).name());
        put("team", alert.team.as_str());
        put("environment", alert.environment.name());
        put("handling", alert.handling.as_str());
        match &alert.cause {
            Cause::Rule(rule) => {
                put("alertname", "MuttRule");
                put("rule_id", &rule.to_string());
            }
            // The signature is text; its hash tells one from another.
            Cause::Unmatched { signature, .. } => {
                put("alertname", "MuttUnhandled");
                put("signature_id", &short_hash(&[signature]));
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, RECEIVED, another, huge, options, refused, sample, unhandled};
    use super::*;

    fn format() -> Alertmanager {
        let labels = BTreeMap::from([("site".to_owned(), "berlin".to_owned())]);
        Alertmanager { user: String::new(), labels, resolve_after: Duration::from_secs(3_600) }
    }

    #[test]
    fn one_alert_has_names_as_labels_and_text_as_annotations() {
        assert_eq!(
            format().alert(&sample(), RECEIVED.plus(Duration::from_secs(60))),
            json!({
                "labels": {
                    "site": "berlin",
                    "instance": "core-sw-1",
                    "severity": "error",
                    "team": "NETO",
                    "environment": "prod",
                    "handling": "Page_only",
                    "alertname": "MuttRule",
                    "rule_id": "7",
                },
                "annotations": {
                    "summary": "core-sw-1: Link <Te1/1> \"down\" & @all *flaps*",
                    "description": "Link <Te1/1> \"down\" & @all *flaps*",
                    "cause": "rule 7",
                    "event_id": ID,
                    "event_time": "2026-03-01T12:00:00Z",
                    "type": "LINK-3-UPDOWN",
                },
                "startsAt": "2026-03-01T12:00:00Z",
                "endsAt": "2026-03-01T13:01:00Z",
            })
        );
    }

    #[test]
    fn repeats_have_the_same_labels_whatever_their_text_and_time() {
        let mut later = another("core-sw-1", "Link <Te1/2> down 17 times", 3);
        later.event.received_at = RECEIVED.plus(Duration::from_secs(99));
        assert_eq!(format().labels(&sample()), format().labels(&later));
        assert_ne!(format().labels(&sample()), format().labels(&another("sw2", "x", 3)));
        let labels = format().labels(&unhandled());
        assert_eq!(labels["alertname"], "MuttUnhandled");
        assert_eq!(labels["signature_id"].as_str().map(str::len), Some(16));
    }

    #[test]
    fn an_alert_never_ends_before_it_starts() {
        let alert = format().alert(&sample(), Timestamp::from_millis(0));
        assert_eq!(alert["endsAt"], "2026-03-01T13:00:00Z");
    }

    #[test]
    fn annotations_are_bounded() {
        let alert = format().alert(&huge(), RECEIVED);
        let text = alert["annotations"]["description"].as_str().expect("a text");
        assert!(text.encode_utf16().count() <= ANNOTATION && text.ends_with('…'));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({}), "`url`");
        refused::<Options>(json!({"url": "http://am:9093", "labels": {"a-b": "x"}}), "`a-b`");
        refused::<Options>(json!({"url": "http://am:9093", "labels": {"team": "x"}}), "`team`");
        refused::<Options>(json!({"url": "http://am:9093", "labels": {"site": ""}}), "`site`");
        refused::<Options>(json!({"url": "http://am:9093", "resolve_after_seconds": 5}), "`resolve_after_seconds`");
        assert!(options::<Options>(json!({"url": "http://am:9093", "user": "mutt"})).is_ok());
    }
}
