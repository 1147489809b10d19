//! Splunk by its HTTP Event Collector. `secret` is the collector's token.
//!
//! Several events are one request, as JSON objects one behind the other. A success means that Splunk has them in
//! memory; acknowledgements of the indexer are not waited for.

use std::sync::Arc;

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, Probe, check_base, with_secret_header};
use super::text::{Grade, clip, clip_key};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{FailureReason, KindOptions, Target, TargetParts};
use crate::model::{Alert, alert_json};

/// Events in one request: far below the collector's default of 800 KB even if each is large.
const MOST: usize = 50;
/// Bytes of a request above which the events are sent one by one in later requests.
const MOST_BYTES: usize = 800_000;
/// Characters of an indexed field.
const FIELD: usize = 255;
/// Where events are posted below the collector's address.
const PATH: &str = "/services/collector/event";

/// What the configuration says of a collector.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// The collector: `https://HOST:8088`.
    url: String,
    /// The index; the token's own if empty.
    index: String,
    /// The source.
    source: String,
    /// The source type.
    sourcetype: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            index: String::new(),
            source: "muttd".to_owned(),
            sourcetype: "mutt:alert".to_owned(),
        }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)?;
        let index = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if self.index.len() > 80 || !self.index.chars().all(index) {
            return Err("`index` must be at most 80 lower-case letters, digits, `_` or `-`".to_owned());
        }
        for (name, value) in [("source", &self.source), ("sourcetype", &self.sourcetype)] {
            if !(1..=FIELD).contains(&value.chars().count()) || value.chars().any(char::is_control) {
                return Err(format!("`{name}` must have 1 to {FIELD} characters and no control characters"));
            }
        }
        Ok(())
    }

    fn needs_secret(&self) -> bool {
        true
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = Place::new(&self.url, PATH)?;
        Ok(posting::target(parts, place, Splunk(self)))
    }
}

struct Splunk(Options);

impl Format for Splunk {
    fn most(&self) -> usize {
        MOST
    }

    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        with_secret_header(request, AUTHORIZATION, &format!("Splunk {key}"))
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        let body: String = call.alerts.iter().map(|alert| event(alert, &self.0).to_string()).collect();
        if body.len() > MOST_BYTES && call.alerts.len() > 1 {
            // The forwarder sends each alone then.
            return Err(format!("{} events are too large for one request", call.alerts.len()));
        }
        Ok(request.header(CONTENT_TYPE, "application/json").body(body))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }

    fn probe(&self) -> Probe {
        Probe::Below(PATH, "/services/collector/health")
    }
}

fn event(alert: &Alert, options: &Options) -> Value {
    let time = alert.event.event_time().as_millis();
    let mut event = json!({
        // Seconds with the fraction as digits: a float would round.
        "time": format!("{}.{:03}", time.div_euclid(1_000), time.rem_euclid(1_000)),
        "host": clip(&alert.event.hostname, FIELD),
        "source": options.source,
        "sourcetype": options.sourcetype,
        "event": alert_json(alert),
        "fields": {
            "alert_key": clip_key(&alert.key(), FIELD),
            "severity": Grade::of(&alert.event).name(),
            "team": alert.team.as_str(),
            "environment": alert.environment.name(),
        },
    });
    if !options.index.is_empty() {
        event["index"] = json!(options.index);
    }
    event
}

/// The collector's own codes tell more than the status.
fn judge(answer: &Answer) -> Verdict {
    let code = answer.json().and_then(|body| body.get("code")?.as_u64());
    let server_error = Verdict::Retry { reason: FailureReason::ServerError, after: answer.retry_after };
    match (answer.status, code) {
        // 0 success; 200 without it is somebody else's answer.
        (200..=299, Some(0)) => Verdict::Ok,
        (200..=299, _) => server_error,
        // 1 the token is disabled, 2 none was sent, 3 and 4 it is wrong.
        (_, Some(1..=4)) => Verdict::Credentials,
        // 7: the index is not the token's; a matter of configuration, and right for no alert until then.
        (_, Some(7)) => Verdict::Refused { why: "the index does not exist or the token may not use it".to_owned() },
        // 8 internal error, 9 the server is busy.
        (_, Some(8 | 9)) => server_error,
        _ => classify(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, answer, options, plainly_refused, refused, retry, sample};
    use super::*;

    fn collector() -> Options {
        options(json!({"url": "https://splunk.example:8088", "index": "net"})).expect("options")
    }

    #[test]
    fn one_alert_is_one_event() {
        let mut event = event(&sample(), &collector());
        let inner = event["event"].take();
        assert_eq!(inner["id"], ID);
        assert_eq!(
            event,
            json!({
                "time": "1772366400.000",
                "host": "core-sw-1",
                "source": "muttd",
                "sourcetype": "mutt:alert",
                "event": null,
                "fields": {
                    "alert_key": "core-sw-1:rule:7", "severity": "error", "team": "NETO", "environment": "prod",
                },
                "index": "net",
            })
        );
    }

    #[test]
    fn the_codes_decide() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        check(200, r#"{"text":"Success","code":0}"#, &Verdict::Ok);
        check(200, "<html>", &retry(FailureReason::ServerError));
        check(403, r#"{"text":"Token is disabled","code":1}"#, &Verdict::Credentials);
        check(401, r#"{"text":"Token is required","code":2}"#, &Verdict::Credentials);
        check(400, r#"{"text":"Invalid token","code":4}"#, &Verdict::Credentials);
        check(400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#, &plainly_refused());
        check(503, r#"{"text":"Server is busy","code":9}"#, &retry(FailureReason::ServerError));
        check(429, "", &retry(FailureReason::RateLimited));
        let index = Verdict::Refused { why: "the index does not exist or the token may not use it".into() };
        check(400, r#"{"text":"Incorrect index","code":7}"#, &index);
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({}), "`url`");
        refused::<Options>(json!({"url": "https://s:8088", "index": "Net Work"}), "`index`");
        refused::<Options>(json!({"url": "https://s:8088", "sourcetype": "a\nb"}), "`sourcetype`");
        refused::<Options>(json!({"url": "https://s:8088", "token": "x"}), "token");
    }
}
