//! ntfy: notifications on telephones, from ntfy.sh or from a server of one's own.
//!
//! The title and the text are plain, so nothing needs escaping. A text above 4,096 bytes would become an attachment,
//! so it is cut before.

use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, Probe, authorized, check_base};
use super::slack::{MOST, Message, message};
use super::text::{Grade, clip_bytes};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{FailureReason, KindOptions, Target, TargetParts};
use crate::model::Alert;

/// The public server.
const URL: &str = "https://ntfy.sh";
/// Bytes of a message and of a title.
const MESSAGE: usize = 4_096;
const TITLE: usize = 250;
/// How long to wait when the day's quota is used up (code 42908): asking more often would only count as abuse.
const QUOTA_WAIT: Duration = Duration::from_secs(3_600);

/// What the configuration says of a topic.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// The server.
    url: String,
    /// The topic; on a public server whoever knows it can read it.
    topic: String,
    /// For HTTP Basic, with `secret` as the password; with `secret` alone it is a token.
    user: String,
    /// Tags beside the severity's.
    tags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { url: URL.to_owned(), topic: String::new(), user: String::new(), tags: Vec::new() }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=64).contains(&self.topic.len()) || !self.topic.chars().all(allowed) {
            return Err("`topic` must be 1 to 64 letters, digits, `-` or `_`".to_owned());
        }
        if self.tags.len() > 5 || self.tags.iter().any(|tag| tag.is_empty() || tag.len() > 50) {
            return Err("`tags` may hold 5 tags of 1 to 50 bytes".to_owned());
        }
        Ok(())
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = Place::new(&self.url, "")?;
        Ok(posting::target(parts, place, Ntfy(self)))
    }
}

struct Ntfy(Options);

impl Format for Ntfy {
    fn most(&self) -> usize {
        MOST
    }

    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        Ok(authorized(request, &self.0.user, key))
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&body(call.alerts, &self.0)))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }

    fn probe(&self) -> Probe {
        Probe::Below("", "/v1/health")
    }
}

fn body(alerts: &[Alert], options: &Options) -> Value {
    let Message { grade, title, body, small } = message(alerts);
    let small = clip_bytes(&small, TITLE);
    // The small print stands below the text whatever the text's length.
    let body = clip_bytes(&body, MESSAGE - small.len() - 1);
    let (priority, tag) = urgency(grade);
    let tags: Vec<&str> = std::iter::once(tag).chain(options.tags.iter().map(String::as_str)).collect();
    json!({
        "topic": options.topic,
        "title": clip_bytes(&title, TITLE),
        "message": format!("{body}\n{small}"),
        "priority": priority,
        "tags": tags,
    })
}

/// 5 rings through, 3 is usual, 2 makes no sound. The tags become pictures.
const fn urgency(grade: Grade) -> (u8, &'static str) {
    match grade {
        Grade::Critical => (5, "rotating_light"),
        Grade::Error => (4, "warning"),
        Grade::Warning => (3, "warning"),
        Grade::Info => (2, "information_source"),
    }
}

/// Status 429 is a full bucket (42901), a used-up day (42908) or too many wrong passwords (42909).
fn judge(answer: &Answer) -> Verdict {
    let code = answer.json().and_then(|body| body.get("code")?.as_u64());
    match (answer.status, code) {
        (429, Some(42_908)) => {
            let after = Some(answer.retry_after.unwrap_or(QUOTA_WAIT));
            Verdict::Retry { reason: FailureReason::RateLimited, after }
        }
        (429, Some(42_909)) => Verdict::Credentials,
        _ => classify(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{answer, huge, options, plainly_refused, refused, retry, retry_after, sample};
    use super::*;

    fn topic() -> Options {
        options(json!({"url": "https://ntfy.example", "topic": "noc", "tags": ["berlin"]})).expect("options")
    }

    #[test]
    fn one_alert_is_one_notification() {
        assert_eq!(
            body(&[sample()], &topic()),
            json!({
                "topic": "noc",
                "title": "error: core-sw-1",
                "message": "Link <Te1/1> \"down\" & @all *flaps*\nerror · NETO · Page_only · rule 7 · 2026-03-01T12:00:00Z",
                "priority": 4,
                "tags": ["warning", "berlin"],
            })
        );
    }

    #[test]
    fn a_message_never_becomes_an_attachment() {
        for alerts in [vec![huge()], vec![huge(); 100]] {
            let body = body(&alerts, &topic());
            let message = body["message"].as_str().expect("a text");
            assert!(message.len() <= MESSAGE, "{}", message.len());
            assert_eq!(body["priority"], 5);
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        check(200, r#"{"id":"x","event":"message"}"#, &Verdict::Ok);
        check(400, r#"{"code":40009,"http":400,"error":"invalid request: topic invalid"}"#, &plainly_refused());
        check(403, r#"{"code":40301,"http":403,"error":"forbidden"}"#, &Verdict::Credentials);
        check(429, r#"{"code":42901,"http":429}"#, &retry(FailureReason::RateLimited));
        check(429, r#"{"code":42908,"http":429}"#, &retry_after(FailureReason::RateLimited, QUOTA_WAIT));
        check(429, r#"{"code":42909,"http":429}"#, &Verdict::Credentials);
        check(507, "", &retry(FailureReason::ServerError));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({}), "`topic`");
        refused::<Options>(json!({"topic": "a/b"}), "`topic`");
        refused::<Options>(json!({"topic": "noc", "tags": [""]}), "`tags`");
        refused::<Options>(json!({"topic": "noc", "priority": 3}), "priority");
    }
}
