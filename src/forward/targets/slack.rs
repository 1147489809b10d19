//! Slack's incoming webhooks, and Mattermost's, which take nearly the same.
//!
//! The webhook's address is the key: it comes from `secret`, or from `url` where nobody minds that it can be read.
//! Success is the word `ok` in the body, not the status: a portal in between answers 200 as well. Several alerts
//! become one message, a list with counts. Text from devices can neither mention people nor make links.

use std::sync::Arc;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, check_webhook};
use super::text::{
    Grade, Group, clip_escaped, grouped, headline, left_out, markdown, one_line, particulars, readable, summary,
    web_colour, worst,
};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{FailureReason, KindOptions, Target, TargetParts};
use crate::model::Alert;

/// Alerts in one message; more than the outbox hands over at once.
pub(super) const MOST: usize = 100;
/// Lines of a list, so that it stays readable on a telephone.
pub(super) const LINES: usize = 20;
/// UTF-16 units of a line in a list.
pub(super) const LINE: usize = 140;
/// UTF-16 units of a block's text: Slack's limit of a section; Mattermost has room for more.
const BLOCK: usize = 3_000;
/// UTF-16 units of a title and of the small print.
const TITLE: usize = 300;

/// What the configuration says of a Slack webhook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlackOptions {
    /// The webhook; empty if `secret` is the webhook.
    #[serde(default)]
    url: String,
}

impl KindOptions for SlackOptions {
    fn check(&self) -> Result<(), String> {
        check_webhook(&self.url)
    }

    fn needs_secret(&self) -> bool {
        self.url.is_empty()
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        Ok(posting::target(parts, Place::new(&self.url, "")?, Slack))
    }
}

struct Slack;

impl Format for Slack {
    fn most(&self) -> usize {
        MOST
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&slack_body(call.alerts)))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }
}

/// What the configuration says of a Mattermost webhook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct MattermostOptions {
    /// The webhook; empty if `secret` is the webhook.
    url: String,
    /// Another channel than the webhook's own.
    channel: String,
    /// The name that messages are under.
    username: String,
    /// The picture beside them.
    icon_url: String,
}

impl KindOptions for MattermostOptions {
    fn check(&self) -> Result<(), String> {
        check_webhook(&self.url)?;
        for (name, value) in [("channel", &self.channel), ("username", &self.username), ("icon_url", &self.icon_url)] {
            if value.chars().count() > 200 || value.chars().any(char::is_control) {
                return Err(format!("`{name}`: use at most 200 characters and no control characters"));
            }
        }
        Ok(())
    }

    fn needs_secret(&self) -> bool {
        self.url.is_empty()
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = Place::new(&self.url, "")?;
        Ok(posting::target(parts, place, Mattermost(self)))
    }
}

struct Mattermost(MattermostOptions);

impl Format for Mattermost {
    fn most(&self) -> usize {
        MOST
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&mattermost_body(call.alerts, &self.0)))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        judge(answer)
    }
}

/// The three texts of a chat message before they are escaped: title, body, small print.
pub(super) struct Message {
    pub(super) grade: Grade,
    pub(super) title: String,
    pub(super) body: String,
    pub(super) small: String,
}

/// One alert in full, several as a list.
pub(super) fn message(alerts: &[Alert]) -> Message {
    match alerts {
        [alert] => Message {
            grade: Grade::of(&alert.event),
            title: one_line(&format!("{}: {}", Grade::of(&alert.event).name(), &*alert.event.hostname)),
            body: readable(&alert.event.message),
            small: particulars(alert),
        },
        alerts => {
            let groups = grouped(alerts);
            let mut lines: Vec<String> = groups.iter().take(LINES).map(list_line).collect();
            lines.extend(left_out(&groups, LINES));
            let small = alerts.last().map(|alert| format!("the latest: {}", headline(alert))).unwrap_or_default();
            Message { grade: worst(alerts), title: summary(alerts), body: lines.join("\n"), small }
        }
    }
}

fn list_line(group: &Group<'_>) -> String {
    let line = format!("{}: {}", Grade::of(&group.alert.event).name(), group.headline());
    clip_escaped(&line, LINE, |c, out| out.push(c))
}

fn slack_body(alerts: &[Alert]) -> Value {
    let message = message(alerts);
    let text = |text: &str, most| clip_escaped(text, most, slack);
    // `verbatim`: what looks like an address or a name stays text.
    let block = |text: String| json!({"type": "mrkdwn", "text": text, "verbatim": true});
    let title = text(&message.title, TITLE);
    json!({
        "text": title,
        "attachments": [{
            "color": web_colour(message.grade),
            "fallback": title,
            "blocks": [
                {"type": "section", "text": block(text(&message.body, BLOCK))},
                {"type": "context", "elements": [block(text(&message.small, TITLE))]},
            ],
        }],
    })
}

/// Slack's three characters with a meaning; mentions and links are made of `<`.
fn slack(character: char, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        other => out.push(other),
    }
}

fn mattermost_body(alerts: &[Alert], options: &MattermostOptions) -> Value {
    let message = message(alerts);
    let text = |text: &str, most| clip_escaped(text, most, mattermost);
    let title = text(&message.title, TITLE);
    let mut body = json!({
        "text": title,
        "attachments": [{
            "color": web_colour(message.grade),
            "fallback": title,
            "text": text(&message.body, BLOCK),
            "footer": text(&message.small, TITLE),
        }],
    });
    for (name, value) in
        [("channel", &options.channel), ("username", &options.username), ("icon_url", &options.icon_url)]
    {
        if !value.is_empty() {
            body[name] = json!(value);
        }
    }
    body
}

/// Markdown, and an invisible blank behind `@`, so that nobody is called by a log line.
fn mattermost(character: char, out: &mut String) {
    markdown(character, out);
    if character == '@' {
        out.push('\u{200b}');
    }
}

/// The meaning of an answer. Addresses that are gone (404, 410) are refused keys: the alerts wait for another one.
fn judge(answer: &Answer) -> Verdict {
    match answer.status {
        404 | 410 => Verdict::Credentials,
        204 => Verdict::Ok,
        200..=299 => said_ok(answer),
        _ => classify(answer),
    }
}

fn said_ok(answer: &Answer) -> Verdict {
    if answer.body.trim().eq_ignore_ascii_case("ok") {
        return Verdict::Ok;
    }
    let json = answer.json().unwrap_or_default();
    let said = json.get("ok").or_else(|| json.get("success")).and_then(Value::as_bool);
    match said {
        Some(true) => Verdict::Ok,
        Some(false) => Verdict::Refused { why: "the answer says that it was not taken".to_owned() },
        // Somebody else answered: a portal, a proxy. That passes.
        None => Verdict::Retry { reason: FailureReason::ServerError, after: answer.retry_after },
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{another, answer, huge, options, plainly_refused, refused, retry, sample};
    use super::*;

    #[test]
    fn one_alert_for_slack() {
        assert_eq!(
            slack_body(&[sample()]),
            json!({
                "text": "error: core-sw-1",
                "attachments": [{
                    "color": "#d93f0b",
                    "fallback": "error: core-sw-1",
                    "blocks": [
                        {"type": "section", "text": {
                            "type": "mrkdwn", "verbatim": true,
                            "text": "Link &lt;Te1/1&gt; \"down\" &amp; @all *flaps*",
                        }},
                        {"type": "context", "elements": [{
                            "type": "mrkdwn", "verbatim": true,
                            "text": "error · NETO · Page_only · rule 7 · 2026-03-01T12:00:00Z",
                        }]},
                    ],
                }],
            })
        );
    }

    #[test]
    fn several_alerts_are_a_list_with_counts() {
        let alerts = [sample(), another("sw2", "fan <1> failed", 1), sample()];
        let body = slack_body(&alerts);
        assert_eq!(body["text"], "3 alerts from 2 hosts");
        assert_eq!(
            body["attachments"][0]["blocks"][0]["text"]["text"],
            "critical: sw2: fan &lt;1&gt; failed\n\
             error: 2 × core-sw-1: Link &lt;Te1/1&gt; \"down\" &amp; @all *flaps*"
        );
    }

    #[test]
    fn a_long_list_ends_with_what_it_leaves_out() {
        let alerts: Vec<Alert> = (0..100).map(|n| another(&format!("sw{n}"), "x", 3)).collect();
        let message = message(&alerts);
        assert_eq!(message.body.lines().count(), LINES + 1);
        assert!(message.body.ends_with("… and 80 more"), "{}", message.body);
    }

    #[test]
    fn one_alert_for_mattermost() {
        let settings = options::<MattermostOptions>(json!({"channel": "noc", "username": "mutt"})).expect("options");
        assert_eq!(
            mattermost_body(&[sample()], &settings),
            json!({
                "text": "error: core-sw-1",
                "attachments": [{
                    "color": "#d93f0b",
                    "fallback": "error: core-sw-1",
                    "text": "Link \\<Te1/1\\> \"down\" & @\u{200b}all \\*flaps\\*",
                    "footer": "error · NETO · Page\\_only · rule 7 · 2026-03-01T12:00:00Z",
                }],
                "channel": "noc",
                "username": "mutt",
            })
        );
    }

    #[test]
    fn no_text_is_longer_than_slack_takes() {
        let body = slack_body(&[huge()]);
        let text = body["attachments"][0]["blocks"][0]["text"]["text"].as_str().expect("a text");
        assert!(text.encode_utf16().count() <= BLOCK && text.ends_with('…'));
        assert!(!text.contains("&…") && !text.contains("&l…"), "an escape was torn");
    }

    #[test]
    fn only_ok_is_success() {
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(judge(&answer(status, body)), *expected, "{body}");
        check(200, "ok", &Verdict::Ok);
        check(200, "{\"success\":true}", &Verdict::Ok);
        check(200, "<html>please log in</html>", &retry(FailureReason::ServerError));
        check(200, "", &retry(FailureReason::ServerError));
        check(200, "{\"ok\":false}", &Verdict::Refused { why: "the answer says that it was not taken".into() });
        check(400, "invalid_payload", &plainly_refused());
        check(403, "invalid_token", &Verdict::Credentials);
        check(404, "no_service", &Verdict::Credentials);
        check(410, "channel_is_archived", &Verdict::Credentials);
        check(429, "rate_limited", &retry(FailureReason::RateLimited));
        check(500, "rollup_error", &retry(FailureReason::ServerError));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<SlackOptions>(json!({"url": "hooks.slack.com"}), "`url`");
        refused::<SlackOptions>(json!({"chanel": "x"}), "chanel");
        refused::<MattermostOptions>(json!({"username": "a\nb"}), "`username`");
        assert!(options::<SlackOptions>(json!({})).expect("options").needs_secret());
    }
}
