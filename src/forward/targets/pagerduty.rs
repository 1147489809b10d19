//! PagerDuty, Events API v2: each alert is a `trigger`; repeats fall together by `dedup_key`.
//!
//! `secret` is the integration's routing key. An event may have 512,000 bytes; one that is larger goes without its
//! details.

use std::sync::Arc;

use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, check_base};
use super::text::{Grade, clip, clip_key, headline, kind_of};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{KindOptions, Target, TargetParts};
use crate::model::{Alert, alert_json};

/// The service; the European one is `https://events.eu.pagerduty.com/v2/enqueue`.
const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Characters of `dedup_key` and `payload.summary`.
const DEDUP_KEY: usize = 255;
const SUMMARY: usize = 1_024;
/// Characters of the other names: the service keeps no more of them for its filters.
const NAME: usize = 255;
/// Bytes of a request.
const MOST_BYTES: usize = 512_000;

/// What the configuration says of a PagerDuty integration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Where events are posted.
    url: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { url: URL.to_owned() }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)
    }

    fn needs_secret(&self) -> bool {
        true
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        Ok(posting::target(parts, Place::new(&self.url, "")?, PagerDuty))
    }
}

struct PagerDuty;

impl Format for PagerDuty {
    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.header(CONTENT_TYPE, "application/json").body(body(call.alert, call.key)))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }
}

/// The request's text, which fits.
fn body(alert: &Alert, routing_key: &str) -> String {
    let mut event = event(alert, routing_key);
    event["payload"]["custom_details"] = alert_json(alert);
    let whole = event.to_string();
    if whole.len() <= MOST_BYTES {
        return whole;
    }
    event["payload"]["custom_details"] = json!({"truncated": "the event is too large; muttd has the whole of it"});
    event.to_string()
}

fn event(alert: &Alert, routing_key: &str) -> Value {
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": clip_key(&alert.key(), DEDUP_KEY),
        "payload": {
            "summary": clip(&headline(alert), SUMMARY),
            "source": clip(&alert.event.hostname, NAME),
            "severity": Grade::of(&alert.event).name(),
            "timestamp": alert.event.event_time().to_string(),
            "component": clip(&kind_of(alert), NAME),
            "group": alert.team.as_str(),
            "class": clip(&kind_of(alert), NAME),
        },
        "client": "muttd",
    })
}

/// A wrong routing key is a 400 that says so.
fn judge(answer: &Answer) -> Verdict {
    let told = answer.body.to_ascii_lowercase();
    let about_key = ["routing_key", "routing key", "service_key"].iter().any(|word| told.contains(word));
    if answer.status == 400 && about_key { Verdict::Credentials } else { classify(answer) }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, answer, huge, options, plainly_refused, refused, retry, sample, unhandled};
    use super::*;
    use crate::forward::FailureReason;

    fn json_of(alert: &Alert) -> Value {
        serde_json::from_str(&body(alert, "0123456789abcdef0123456789abcdef")).expect("JSON")
    }

    #[test]
    fn one_alert_is_one_trigger() {
        let mut event = json_of(&sample());
        let details = event["payload"]["custom_details"].take();
        assert_eq!(details["id"], ID);
        assert_eq!(
            event,
            json!({
                "routing_key": "0123456789abcdef0123456789abcdef",
                "event_action": "trigger",
                "dedup_key": "core-sw-1:rule:7",
                "payload": {
                    "summary": "core-sw-1: Link <Te1/1> \"down\" & @all *flaps*",
                    "source": "core-sw-1",
                    "severity": "error",
                    "timestamp": "2026-03-01T12:00:00Z",
                    "component": "LINK-3-UPDOWN",
                    "group": "NETO",
                    "class": "LINK-3-UPDOWN",
                    "custom_details": null,
                },
                "client": "muttd",
            })
        );
    }

    #[test]
    fn limits_are_kept() {
        let event = json_of(&unhandled());
        assert!(event["dedup_key"].as_str().is_some_and(|key| key.len() <= 255));
        let body = body(&huge(), "k");
        assert!(body.len() <= MOST_BYTES);
        let event: Value = serde_json::from_str(&body).expect("JSON");
        assert!(event["payload"]["custom_details"]["truncated"].is_string());
        assert!(event["payload"]["summary"].as_str().is_some_and(|text| text.encode_utf16().count() <= SUMMARY));
    }

    #[test]
    fn answers_are_told_apart() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        check(202, r#"{"status":"success","message":"Event processed","dedup_key":"x"}"#, &Verdict::Ok);
        check(400, r#"{"status":"invalid event","errors":["'payload.severity' is invalid"]}"#, &plainly_refused());
        let key =
            r#"{"status":"invalid event","errors":["Length of 'routing_key' is incorrect (should be 32 characters)"]}"#;
        check(400, key, &Verdict::Credentials);
        check(429, "", &retry(FailureReason::RateLimited));
        check(500, "", &retry(FailureReason::ServerError));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({"url": "https://me:pw@x/"}), "`url`");
        refused::<Options>(json!({"routing_key": "x"}), "routing_key");
        assert!(options::<Options>(json!({})).expect("options").needs_secret());
    }
}
