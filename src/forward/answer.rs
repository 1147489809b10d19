//! What an answer means: one classifier for every kind of receiver, with room for what a kind says differently. Pure.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use serde_json::Value;

use super::{DeliveryError, FailureReason, Receipt};
use crate::model::Timestamp;

/// Characters of a body that are shown to people and kept in the event's story.
const SHOWN: usize = 500;

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Retry-After, if it was understood.
    pub retry_after: Option<Duration>,
    /// The start of the body (4 KiB).
    pub body: String,
}

impl Answer {
    /// The status and the start of the body, in one line, for people.
    pub fn text(&self) -> String {
        let status = StatusCode::from_u16(self.status).map_or_else(
            |_| self.status.to_string(),
            |status| status.to_string().replace(" <unknown status code>", ""),
        );
        let body = one_line(&self.body);
        if body.is_empty() { status } else { format!("{status}: {body}") }
    }

    /// The body, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// The start of a text without line breaks and control characters.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// What an answer means for the alerts that were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They were taken.
    Ok,
    /// Not now.
    Retry {
        /// Why: `RateLimited` makes the whole target wait, others this delivery.
        reason: FailureReason,
        /// The receiver's wish.
        after: Option<Duration>,
    },
    /// Never.
    Refused {
        /// What the kind makes of the answer, in words; the answer itself is added. Empty if the answer says it all.
        why: String,
    },
    /// The key was refused.
    Credentials,
}

/// The meaning of an answer by its status: 2xx taken; 401 and 403 the key; 429, 408 and 5xx later; all others,
/// redirects among them, never. A kind that knows better looks at the answer first and calls this for the rest.
pub fn classify(answer: &Answer) -> Verdict {
    let after = answer.retry_after;
    match answer.status {
        200..=299 => Verdict::Ok,
        401 | 403 => Verdict::Credentials,
        429 => Verdict::Retry { reason: FailureReason::RateLimited, after },
        408 | 500..=599 => Verdict::Retry { reason: FailureReason::ServerError, after },
        300..=399 => Verdict::Refused { why: "redirects are not followed".to_owned() },
        _ => Verdict::Refused { why: String::new() },
    }
}

impl Verdict {
    /// The verdict as the forwarder wants it.
    pub fn settle(self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        let text = answer.text();
        match self {
            Self::Ok => Ok(Receipt::new(text)),
            Self::Retry { reason, after } => Err(DeliveryError::Retry { reason, answer: text, after }),
            Self::Refused { why } if why.is_empty() => Err(DeliveryError::refused(text)),
            Self::Refused { why } => Err(DeliveryError::refused(format!("{text} ({why})"))),
            Self::Credentials => Err(DeliveryError::Credentials { answer: text }),
        }
    }
}

/// Retry-After in seconds or as a date (RFC 9110 section 10.2.3); a date that has passed is no wait at all.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some(Timestamp::from_micros(date.timestamp_micros()).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse_rfc3339("2026-03-01T12:00:00Z").expect("a time");
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sun, 01 Mar 2026 12:01:30 GMT", Some(90));
        check("Sun, 01 Mar 2026 11:00:00 GMT", Some(0));
        check("soon", None);
        check("-5", None);
        check("1.5", None);
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, retry_after: Some(Duration::from_secs(7)), body: body.to_owned() }
    }

    #[test]
    fn statuses_are_told_apart() {
        let check = |statuses: &[u16], expected: &Verdict| {
            for status in statuses {
                assert_eq!(classify(&answer(*status, "")), *expected, "{status}");
            }
        };
        let after = Some(Duration::from_secs(7));
        check(&[200, 201, 202, 204], &Verdict::Ok);
        check(&[401, 403], &Verdict::Credentials);
        check(&[429], &Verdict::Retry { reason: FailureReason::RateLimited, after });
        check(&[408, 500, 502, 503, 504, 599], &Verdict::Retry { reason: FailureReason::ServerError, after });
        check(&[301, 302, 308], &Verdict::Refused { why: "redirects are not followed".to_owned() });
        check(&[100, 400, 404, 410, 413, 422, 700], &Verdict::Refused { why: String::new() });
    }

    #[test]
    fn an_answer_is_shown_in_one_bounded_line() {
        let check = |status, body: &str, expected: &str| assert_eq!(answer(status, body).text(), expected);
        check(200, "", "200 OK");
        check(202, "queued\n  well\0", "202 Accepted: queued well");
        check(599, "", "599");
        let long = answer(400, &"ä".repeat(4_000)).text();
        assert!(long.ends_with("ää…") && long.chars().count() < 530, "{long}");
        let refused = Verdict::Refused { why: "too old".into() }.settle(&answer(400, "no"));
        assert_eq!(refused, Err(DeliveryError::refused("400 Bad Request: no (too old)")));
    }
}
