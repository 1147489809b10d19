//! Discord's webhooks: one embed a message.
//!
//! The webhook's address is the key. Mentions are off and Markdown is escaped, so text from devices stays text.

use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, check_webhook};
use super::slack::{MOST, Message, message};
use super::text::{clip, clip_escaped, markdown};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{FailureReason, KindOptions, Target, TargetParts};
use crate::model::Alert;

/// UTF-16 units of an embed's title, description and footer; the three together must stay below 6,000.
const TITLE: usize = 256;
const DESCRIPTION: usize = 4_096;
const FOOTER: usize = 1_024;
/// A wish beyond a day is a fault of the receiver.
const LONGEST_WISH: f64 = 86_400.0;

/// What the configuration says of a Discord webhook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct Options {
    /// The webhook; empty if `secret` is the webhook.
    url: String,
    /// The name that messages are under; the webhook's own if empty.
    username: String,
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_webhook(&self.url)?;
        if self.username.chars().count() > 80 || self.username.chars().any(char::is_control) {
            return Err("`username`: use at most 80 characters and no control characters".to_owned());
        }
        Ok(())
    }

    fn needs_secret(&self) -> bool {
        self.url.is_empty()
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = Place::new(&self.url, "")?;
        Ok(posting::target(parts, place, Discord { username: self.username }))
    }
}

struct Discord {
    username: String,
}

impl Format for Discord {
    fn most(&self) -> usize {
        MOST
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&body(call.alerts, &self.username)))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }
}

fn body(alerts: &[Alert], username: &str) -> Value {
    let Message { grade, title, body, small } = message(alerts);
    let mut body = json!({
        "embeds": [{
            "title": clip_escaped(&title, TITLE, markdown),
            "description": clip_escaped(&body, DESCRIPTION, markdown),
            "color": grade.colour(),
            // A footer knows no Markdown.
            "footer": {"text": clip(&small, FOOTER)},
        }],
        "allowed_mentions": {"parse": []},
    });
    if !username.is_empty() {
        body["username"] = json!(username);
    }
    body
}

/// A rate limit's wait is in the body, in seconds with a fraction; a webhook that is gone (404) is a refused key.
fn judge(answer: &Answer) -> Verdict {
    match answer.status {
        404 => Verdict::Credentials,
        429 => {
            let wish = answer.json().and_then(|body| body.get("retry_after")?.as_f64());
            let wish = wish.filter(|seconds| (0.0..=LONGEST_WISH).contains(seconds)).map(Duration::from_secs_f64);
            Verdict::Retry { reason: FailureReason::RateLimited, after: wish.or(answer.retry_after) }
        }
        _ => classify(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{answer, huge, plainly_refused, refused, retry, retry_after, sample};
    use super::*;

    #[test]
    fn one_alert_is_one_embed() {
        assert_eq!(
            body(&[sample()], "mutt"),
            json!({
                "embeds": [{
                    "title": "error: core-sw-1",
                    "description": "Link \\<Te1/1\\> \"down\" & @all \\*flaps\\*",
                    "color": 0x00D9_3F0B,
                    "footer": {"text": "error · NETO · Page_only · rule 7 · 2026-03-01T12:00:00Z"},
                }],
                "allowed_mentions": {"parse": []},
                "username": "mutt",
            })
        );
    }

    #[test]
    fn an_embed_stays_within_its_limits() {
        let body = body(&[huge()], "");
        let units = |text: &Value| text.as_str().expect("a text").encode_utf16().count();
        let embed = &body["embeds"][0];
        assert!(units(&embed["title"]) <= 256 && units(&embed["description"]) <= 4_096);
        assert!(units(&embed["title"]) + units(&embed["description"]) + units(&embed["footer"]["text"]) <= 6_000);
        assert!(body.get("username").is_none());
    }

    #[test]
    fn answers_are_told_apart() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        check(204, "", &Verdict::Ok);
        let limited = r#"{"message": "You are being rate limited.", "retry_after": 0.376, "global": false}"#;
        check(429, limited, &retry_after(FailureReason::RateLimited, Duration::from_millis(376)));
        check(429, r#"{"retry_after": 1e300}"#, &retry(FailureReason::RateLimited));
        check(429, "<html>", &retry(FailureReason::RateLimited));
        check(404, r#"{"message": "Unknown Webhook", "code": 10015}"#, &Verdict::Credentials);
        check(400, "{}", &plainly_refused());
        check(502, "", &retry(FailureReason::ServerError));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({"username": "x".repeat(81)}), "`username`");
        refused::<Options>(json!({"avatar": "x"}), "avatar");
    }
}
