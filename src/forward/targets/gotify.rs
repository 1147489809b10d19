//! Gotify: notifications from a server of one's own. `secret` is the application's token.
//!
//! The text is declared plain, so nothing needs escaping.

use std::sync::Arc;

use reqwest::RequestBuilder;
use reqwest::header::HeaderName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, Place, Probe, check_base, with_secret_header};
use super::slack::{MOST, Message, message};
use super::text::{Grade, clip};
use crate::forward::{KindOptions, Target, TargetParts};
use crate::model::Alert;

/// UTF-16 units of a message: the server names no limit, a telephone has one.
const BODY: usize = 4_096;
const TITLE: usize = 250;

/// What the configuration says of a Gotify server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The server, without `/message`.
    url: String,
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_base(&self.url)
    }

    fn needs_secret(&self) -> bool {
        true
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        Ok(posting::target(parts, Place::new(&self.url, "/message")?, Gotify))
    }
}

struct Gotify;

impl Format for Gotify {
    fn most(&self) -> usize {
        MOST
    }

    fn authorize(&self, request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        with_secret_header(request, HeaderName::from_static("x-gotify-key"), key)
    }

    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        Ok(request.json(&body(call.alerts)))
    }

    fn probe(&self) -> Probe {
        Probe::Below("/message", "/health")
    }
}

fn body(alerts: &[Alert]) -> Value {
    let Message { grade, title, body, small } = message(alerts);
    json!({
        "title": clip(&title, TITLE),
        "message": format!("{}\n{}", clip(&body, BODY), clip(&small, TITLE)),
        "priority": priority(grade),
        "extras": {"client::display": {"contentType": "text/plain"}},
    })
}

/// From 8 on a telephone rings, from 4 it makes a sound.
const fn priority(grade: Grade) -> u8 {
    match grade {
        Grade::Critical => 10,
        Grade::Error => 8,
        Grade::Warning => 5,
        Grade::Info => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{huge, refused, sample};
    use super::*;

    #[test]
    fn one_alert_is_one_notification() {
        assert_eq!(
            body(&[sample()]),
            json!({
                "title": "error: core-sw-1",
                "message": "Link <Te1/1> \"down\" & @all *flaps*\nerror · NETO · Page_only · rule 7 · 2026-03-01T12:00:00Z",
                "priority": 8,
                "extras": {"client::display": {"contentType": "text/plain"}},
            })
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        let body = body(&[huge()]);
        assert!(body["message"].as_str().is_some_and(|text| text.encode_utf16().count() <= BODY + TITLE + 1));
    }

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({}), "url");
        refused::<Options>(json!({"url": "gotify.example"}), "`url`");
        refused::<Options>(json!({"url": "https://gotify.example", "token": "x"}), "token");
    }
}
