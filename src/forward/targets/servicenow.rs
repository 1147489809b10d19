//! ServiceNow Event Management: records of the table `em_event`.
//!
//! By the inbound JSONv2 service (several records a request) or by the table API (one). The user needs the role
//! `evt_mgmt_integration`. Repeats fall together by `message_key`.

use std::sync::Arc;

use chrono::SecondsFormat;
use reqwest::RequestBuilder;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, Probe, authorized, check_base};
use super::text::{clip, clip_key, kind_of, readable};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{KindOptions, Target, TargetParts};
use crate::model::{Alert, Event, Severity, Timestamp, alert_json};

/// Records in one request.
const MOST: usize = 50;
/// Characters of the columns: names, key, description, and the JSON of the event.
const NAME: usize = 100;
const KEY: usize = 1_024;
const DESCRIPTION: usize = 4_000;
const INFO: usize = 4_000;

/// Which of the two services is used.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Api {
    /// `/em_event.do?JSONv2&sysparm_action=insertMultiple`.
    Jsonv2,
    /// `/api/now/table/em_event`.
    Table,
}

/// What the configuration says of a ServiceNow instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// The instance: `https://NAME.service-now.com`.
    url: String,
    /// Which service takes the records.
    api: Api,
    /// For HTTP Basic, with `secret` as the password; with `secret` alone it is an OAuth token.
    user: String,
    /// The column `source`.
    source: String,
    /// The column `event_class`.
    event_class: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            api: Api::Jsonv2,
            user: String::new(),
            source: "MUTT".to_owned(),
            event_class: "muttd".to_owned(),
        }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)?;
        for (name, value) in [("source", &self.source), ("event_class", &self.event_class)] {
            if !(1..=NAME).contains(&value.chars().count()) || value.chars().any(char::is_control) {
                return Err(format!("`{name}` must have 1 to {NAME} characters and no control characters"));
            }
        }
        Ok(())
    }

    fn needs_secret(&self) -> bool {
        true
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = match self.api {
            Api::Table => Place::new(&self.url, "/api/now/table/em_event")?,
            Api::Jsonv2 => {
                let mut url = posting::below(&self.url, "/em_event.do")?;
                url.set_query(Some("JSONv2&sysparm_action=insertMultiple"));
                Place::Fixed(url)
            }
        };
        Ok(posting::target(parts, place, ServiceNow(self)))
    }
}

struct ServiceNow(Options);

impl Format for ServiceNow {
    fn most(&self) -> usize {
        match self.0.api {
            Api::Jsonv2 => MOST,
            Api::Table => 1,
        }
    }

    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        Ok(authorized(request, &self.0.user, key))
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        let body = match self.0.api {
            Api::Jsonv2 => {
                json!({"records": call.alerts.iter().map(|alert| record(alert, &self.0)).collect::<Vec<_>>()})
            }
            Api::Table => record(call.alert, &self.0),
        };
        Ok(request.header(ACCEPT, "application/json").json(&body))
    }

    fn probe(&self) -> Probe {
        Probe::HeadWithKey
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }
}

fn record(alert: &Alert, options: &Options) -> Value {
    let event = &alert.event;
    let kind = kind_of(alert);
    json!({
        "source": options.source,
        "event_class": options.event_class,
        "node": clip(&event.hostname, NAME),
        "resource": clip(event.app_name.as_deref().unwrap_or(&kind), NAME),
        "metric_name": clip(&kind, NAME),
        "type": clip(event.source.protocol.name(), NAME),
        "message_key": clip_key(&alert.key(), KEY),
        "severity": severity(event).to_string(),
        "time_of_event": calendar(event.event_time()),
        "description": clip(&readable(&event.message), DESCRIPTION),
        "additional_info": additional_info(alert),
    })
}

/// 1 critical, 2 major, 3 minor, 4 warning, 5 OK; 0 would clear the alert. No severity is a warning.
fn severity(event: &Event) -> u8 {
    match event.severity.map(Severity::number) {
        Some(0..=2) => 1,
        Some(3) => 2,
        Some(4) => 3,
        Some(5) | None => 4,
        Some(_) => 5,
    }
}

/// UTC as the column wants it: `yyyy-MM-dd HH:mm:ss`.
fn calendar(time: Timestamp) -> String {
    let text = time.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true);
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

/// A text that holds JSON. Cut JSON would be none, so an event that is too large is named only.
fn additional_info(alert: &Alert) -> String {
    let whole = alert_json(alert).to_string();
    if whole.encode_utf16().count() <= INFO {
        return whole;
    }
    let named = json!({
        "id": alert.event.id.to_string(),
        "team": alert.team.as_str(),
        "handling": alert.handling.as_str(),
        "environment": alert.environment.name(),
        "truncated": "the event is too large; muttd has the whole of it",
    });
    named.to_string()
}

/// JSONv2 answers 200 and says for each record how it went.
fn judge(answer: &Answer) -> Verdict {
    let verdict = classify(answer);
    if verdict != Verdict::Ok {
        return verdict;
    }
    let Some(body) = answer.json() else { return verdict };
    let failed = body.get("error").is_some_and(|error| !error.is_null() && error != "")
        || body.get("records").and_then(Value::as_array).is_some_and(|records| {
            records.iter().any(|record| record.get("__status").is_some_and(|status| status == "failure"))
        });
    if failed {
        Verdict::Refused { why: "the answer names a record that was not inserted".to_owned() }
    } else {
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ID, answer, huge, options, refused, retry, sample, unhandled};
    use super::*;
    use crate::forward::FailureReason;

    fn instance() -> Options {
        options(json!({"url": "https://acme.service-now.com", "user": "mutt"})).expect("options")
    }

    #[test]
    fn one_alert_is_one_record() {
        let mut record = record(&sample(), &instance());
        let info = record["additional_info"].take();
        let info: Value = serde_json::from_str(info.as_str().expect("a text")).expect("JSON within the text");
        assert_eq!(info["id"], ID);
        assert_eq!(
            record,
            json!({
                "source": "MUTT",
                "event_class": "muttd",
                "node": "core-sw-1",
                "resource": "LINK-3-UPDOWN",
                "metric_name": "LINK-3-UPDOWN",
                "type": "syslog_udp",
                "message_key": "core-sw-1:rule:7",
                "severity": "2",
                "time_of_event": "2026-03-01 12:00:00",
                "description": "Link <Te1/1> \"down\" & @all *flaps*",
                "additional_info": null,
            })
        );
    }

    #[test]
    fn columns_are_not_longer_than_they_may_be() {
        let record = record(&huge(), &instance());
        let units = |name: &str| record[name].as_str().expect("a text").encode_utf16().count();
        assert!(units("description") <= DESCRIPTION && units("additional_info") <= INFO);
        let info: Value = serde_json::from_str(record["additional_info"].as_str().expect("a text")).expect("JSON");
        assert!(info["truncated"].is_string());
        assert_eq!(super::record(&unhandled(), &instance())["metric_name"], "unhandled");
    }

    #[test]
    fn nothing_is_cleared_by_its_severity() {
        let check = |number: Option<u8>, expected| {
            let mut alert = sample();
            alert.event.severity = number.and_then(Severity::new);
            assert_eq!(severity(&alert.event), expected, "{number:?}");
        };
        for (number, expected) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 5)] {
            check(Some(number), expected);
        }
        check(None, 4);
    }

    #[test]
    fn answers_are_told_apart() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        let failed = Verdict::Refused { why: "the answer names a record that was not inserted".into() };
        check(201, r#"{"result":{"sys_id":"x"}}"#, &Verdict::Ok);
        check(200, r#"{"records":[{"__status":"success"}]}"#, &Verdict::Ok);
        check(200, r#"{"records":[{"__status":"success"},{"__status":"failure"}]}"#, &failed);
        check(200, r#"{"error":"no such table","records":[]}"#, &failed);
        check(401, "{}", &Verdict::Credentials);
        check(429, "{}", &retry(FailureReason::RateLimited));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({}), "`url`");
        refused::<Options>(json!({"url": "https://a.service-now.com", "source": ""}), "`source`");
        refused::<Options>(json!({"url": "https://a.service-now.com", "api": "soap"}), "soap");
    }
}
