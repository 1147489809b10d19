//! Microsoft Teams by a workflow ("post to a channel when a webhook request is received"): an adaptive card.
//!
//! The workflow's address is the key. All text is in text runs, which know no formatting, so nothing needs escaping.
//! A workflow belongs to the person who made it and ends with their account: an address that is gone (404, 410) opens
//! the breaker instead of spoiling alerts.

use std::sync::Arc;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, check_webhook};
use super::slack::{MOST, Message, message};
use super::text::{Grade, clip};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{FailureReason, KindOptions, Target, TargetParts};
use crate::model::Alert;

/// UTF-16 units of the body. A message may have 28 KB; a unit is at most 3 bytes, since control characters, which JSON
/// would blow up, are taken out before. The frame needs less than 1 KB.
const BODY: usize = 4_000;
/// UTF-16 units of a title and of the small print.
const TITLE: usize = 250;

/// What the configuration says of a Teams workflow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The workflow; empty if `secret` is the workflow.
    #[serde(default)]
    url: String,
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_webhook(&self.url)
    }

    fn needs_secret(&self) -> bool {
        self.url.is_empty()
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        Ok(posting::target(parts, Place::new(&self.url, "")?, Teams))
    }
}

struct Teams;

impl Format for Teams {
    fn most(&self) -> usize {
        MOST
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&body(call.alerts)))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }
}

fn body(alerts: &[Alert]) -> Value {
    let Message { grade, title, body, small } = message(alerts);
    let run = |text: String, more: Value| {
        let mut run = json!({"type": "TextRun", "text": text});
        if let (Value::Object(run), Value::Object(more)) = (&mut run, more) {
            run.extend(more);
        }
        json!({"type": "RichTextBlock", "inlines": [run]})
    };
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "fallbackText": clip(&title, TITLE),
                "body": [
                    run(clip(&title, TITLE), json!({"weight": "bolder", "size": "medium", "color": colour(grade)})),
                    run(clip(&body, BODY), json!({})),
                    run(clip(&small, TITLE), json!({"isSubtle": true, "size": "small"})),
                ],
            },
        }],
    })
}

/// Colours of adaptive cards have names.
const fn colour(grade: Grade) -> &'static str {
    match grade {
        Grade::Critical | Grade::Error => "attention",
        Grade::Warning => "warning",
        Grade::Info => "default",
    }
}

/// The old connectors answered 200 with an error in words; what stands behind the workflow may do so too.
fn judge(answer: &Answer) -> Verdict {
    match answer.status {
        404 | 410 => Verdict::Credentials,
        200..=299 if answer.body.contains("failed with error") => {
            let limited = answer.body.contains("429");
            let reason = if limited { FailureReason::RateLimited } else { FailureReason::ServerError };
            Verdict::Retry { reason, after: answer.retry_after }
        }
        _ => classify(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{another, answer, huge, plainly_refused, refused, retry, sample};
    use super::*;

    #[test]
    fn one_alert_is_one_card() {
        let run = |text: &str, more: Value| {
            let mut run = json!({"type": "TextRun", "text": text});
            run.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!({"type": "RichTextBlock", "inlines": [run]})
        };
        assert_eq!(
            body(&[sample()]),
            json!({
                "type": "message",
                "attachments": [{
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "contentUrl": null,
                    "content": {
                        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                        "type": "AdaptiveCard",
                        "version": "1.2",
                        "fallbackText": "error: core-sw-1",
                        "body": [
                            run("error: core-sw-1", json!({"weight": "bolder", "size": "medium", "color": "attention"})),
                            run("Link <Te1/1> \"down\" & @all *flaps*", json!({})),
                            run(
                                "error · NETO · Page_only · rule 7 · 2026-03-01T12:00:00Z",
                                json!({"isSubtle": true, "size": "small"}),
                            ),
                        ],
                    },
                }],
            })
        );
    }

    #[test]
    fn a_card_stays_below_28_kilobytes() {
        let check = |alerts: &[Alert]| assert!(body(alerts).to_string().len() <= 28_000);
        check(&[huge()]);
        check(&[another("h", &"\u{1}\"\\\u{feff}é".repeat(100_000), 3)]);
        check(&vec![huge(); 100]);
    }

    #[test]
    fn answers_are_told_apart() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        check(202, "", &Verdict::Ok);
        check(200, "1", &Verdict::Ok);
        let said = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429";
        check(200, said, &retry(FailureReason::RateLimited));
        check(200, "Webhook message delivery failed with error: 502", &retry(FailureReason::ServerError));
        check(404, "WorkflowNotFound", &Verdict::Credentials);
        check(401, "DirectApiAuthorizationRequired", &Verdict::Credentials);
        check(400, "", &plainly_refused());
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({"url": "x"}), "`url`");
        refused::<Options>(json!({"channel": "x"}), "channel");
    }
}
