//! The generic webhook: any receiver that takes one HTTP request with a body.
//!
//! The body is a template with the alert as its data; method, headers, the statuses that mean success or "later", a
//! signature and an idempotency key are options. Secrets are named, never written: `${secret}` in the address and in
//! headers is the target's key, `${secret:NAME}` any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::posting::{self, Call, Format, KEY_MARK, Place, check_base, with_secret_header};
use super::template::{Escape, Template};
use super::text::{Grade, headline, kind_of, short_hash};
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::{FailureReason, KindOptions, Secret, Secrets, Target, TargetParts};
use crate::model::{
    Alert, Cause, Environment, Event, EventIds, Handling, Protocol, RuleId, Severity, Source, Team, Timestamp, Trap,
    alert_json,
};

/// Headers in one request.
const MOST_HEADERS: usize = 32;
/// Alerts in one request.
const MOST: usize = 100;
/// Bytes of the compiled pattern for success.
const REGEX_BYTES: usize = 1 << 20;
/// How other secrets are named in headers.
const OTHER_MARK: &str = "${secret:";

/// What the configuration says of a webhook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Where alerts are posted.
    url: String,
    /// POST, PUT or PATCH.
    method: String,
    /// The body's media type; it chooses how values are escaped.
    content_type: String,
    /// Further headers.
    headers: BTreeMap<String, String>,
    /// The body's template; the alert as JSON if left out.
    body: Option<String>,
    /// Alerts in one request.
    batch: usize,
    /// Statuses that mean success; all 2xx if empty.
    success_status: Vec<u16>,
    /// Statuses that mean "later", besides 408, 429 and 5xx.
    retry_status: Vec<u16>,
    /// What the body of a success must match.
    success_body: Option<String>,
    /// The secret that signs the body.
    signature_secret: Option<String>,
    /// The header with the signature.
    signature_header: String,
    /// The header with the alert's id; none if empty.
    idempotency_header: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            headers: BTreeMap::new(),
            body: None,
            batch: 1,
            success_status: Vec::new(),
            retry_status: Vec::new(),
            success_body: None,
            signature_secret: None,
            signature_header: "X-Hub-Signature-256".to_owned(),
            idempotency_header: "Idempotency-Key".to_owned(),
        }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_address(&self.url)?;
        self.method()?;
        HeaderValue::from_str(&self.content_type).map_err(|_| "`content_type` cannot be a header".to_owned())?;
        if !(1..=MOST).contains(&self.batch) {
            return Err(format!("`batch` must be 1 to {MOST}"));
        }
        self.check_headers()?;
        for (name, list) in [("success_status", &self.success_status), ("retry_status", &self.retry_status)] {
            if list.len() > 50 || list.iter().any(|status| !(100..=599).contains(status)) {
                return Err(format!("`{name}` may hold 50 numbers from 100 to 599"));
            }
        }
        self.pattern()?;
        self.template().map(drop)
    }

    fn needs_secret(&self) -> bool {
        self.url.contains(KEY_MARK) || self.headers.values().any(|value| value.contains(KEY_MARK))
    }

    fn secrets(&self) -> Vec<String> {
        let named = self.headers.values().flat_map(|value| pieces(value).unwrap_or_default());
        let named = named.filter_map(|piece| match piece {
            Piece::Other(name) => Some(name),
            Piece::Text(_) | Piece::Key => None,
        });
        let mut names: Vec<String> = named.chain(self.signature_secret.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let place = if self.url.trim() == KEY_MARK {
            Place::Key
        } else if self.url.contains(KEY_MARK) {
            Place::WithKey(self.url.clone())
        } else {
            Place::new(&self.url, "")?
        };
        let format = Webhook::new(&self, &parts.secrets, parts.name.as_str())?;
        Ok(posting::target(parts, place, format))
    }
}

impl Options {
    fn method(&self) -> Result<Method, String> {
        match self.method.as_str() {
            "POST" => Ok(Method::POST),
            "PUT" => Ok(Method::PUT),
            "PATCH" => Ok(Method::PATCH),
            _ => Err("`method` must be POST, PUT or PATCH".to_owned()),
        }
    }

    fn check_headers(&self) -> Result<(), String> {
        if self.headers.len() > MOST_HEADERS {
            return Err(format!("`headers` may hold {MOST_HEADERS} headers at most"));
        }
        self.header_pieces().map(drop)?;
        for (option, name) in
            [("signature_header", &self.signature_header), ("idempotency_header", &self.idempotency_header)]
        {
            if !name.is_empty() && name.parse::<HeaderName>().is_err() {
                return Err(format!("`{option}`: `{name}` is no name of a header"));
            }
        }
        if self.signature_secret.is_some() && self.signature_header.is_empty() {
            return Err("`signature_header` must be given with `signature_secret`".to_owned());
        }
        Ok(())
    }

    fn header_pieces(&self) -> Result<Vec<(HeaderName, Vec<Piece>)>, String> {
        let headers = self.headers.iter().map(|(name, value)| {
            let told = |why: &str| format!("`headers`: `{name}`: {why}");
            let header: HeaderName = name.parse().map_err(|_| told("this is no name of a header"))?;
            HeaderValue::from_str(value).map_err(|_| told("the value holds characters that no header can carry"))?;
            Ok((header, pieces(value).map_err(|why| told(&why))?))
        });
        headers.collect()
    }

    fn pattern(&self) -> Result<Option<Regex>, String> {
        let build = |text: &String| RegexBuilder::new(text).size_limit(REGEX_BYTES).build();
        self.success_body.as_ref().map(build).transpose().map_err(|error| format!("`success_body`: {error}"))
    }

    /// The template, tried with every form of alert there is.
    fn template(&self) -> Result<Template, String> {
        let escape = Escape::of(&self.content_type);
        let usual = match (escape, self.batch) {
            (Escape::Json, 1) => "{{ alert }}",
            (Escape::Json, _) => "{{ alerts }}",
            _ => "{% for alert in alerts %}{{ alert.headline }}\n{% endfor %}",
        };
        let template = Template::compile(self.body.as_deref().unwrap_or(usual), escape).map_err(in_body)?;
        for alert in made_up()? {
            let text = template.render(&data(&[alert], "example")).map_err(in_body)?;
            if escape == Escape::Json {
                check_json(&text).map_err(in_body)?;
            }
        }
        Ok(template)
    }
}

fn in_body(why: String) -> String {
    format!("`body`: {why}")
}

fn check_address(url: &str) -> Result<(), String> {
    if url.trim() == KEY_MARK {
        return Ok(());
    }
    if url.contains(OTHER_MARK) {
        return Err(format!("`url` may hold `{KEY_MARK}` only; other secrets belong into headers"));
    }
    check_base(&url.replace(KEY_MARK, "secret"))
}

fn check_json(text: &str) -> Result<(), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    values.try_for_each(|value| value.map(drop)).map_err(|error| {
        format!(
            "it makes no JSON ({error}); values bring their own quotes, so write {{\"text\": {{{{ alert.message }}}}}}"
        )
    })
}

/// A part of a header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// As it is.
    Text(String),
    /// The target's key.
    Key,
    /// Another secret.
    Other(String),
}

/// Takes `${secret}` and `${secret:NAME}` out of a text.
fn pieces(value: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        pieces.push(Piece::Text(rest[..start].to_owned()));
        let (mark, behind) = rest[start + 2..].split_once('}').ok_or("`${` has no `}`")?;
        pieces.push(match mark.split_once(':') {
            None if mark == "secret" => Piece::Key,
            Some(("secret", name)) if !name.is_empty() => Piece::Other(name.to_owned()),
            _ => return Err(format!("`${{{mark}}}` is neither `{KEY_MARK}` nor `{OTHER_MARK}NAME}}`")),
        });
        rest = behind;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

struct Webhook {
    target: String,
    method: Method,
    content_type: String,
    headers: Vec<(HeaderName, Vec<Piece>)>,
    secrets: Secrets,
    template: Template,
    batch: usize,
    success_status: Vec<u16>,
    retry_status: Vec<u16>,
    success_body: Option<Regex>,
    signature: Option<(HeaderName, hmac::Key)>,
    idempotency: Option<HeaderName>,
}

impl Webhook {
    fn new(options: &Options, secrets: &Secrets, target: &str) -> Result<Self, String> {
        let header = |name: &str| name.parse::<HeaderName>().map_err(|_| format!("`{name}` is no name of a header"));
        let signature = options.signature_secret.as_ref().map(|name| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, other(secrets, name)?.reveal().as_bytes());
            Ok::<_, String>((header(&options.signature_header)?, key))
        });
        let idempotency = Some(options.idempotency_header.as_str()).filter(|name| !name.is_empty());
        Ok(Self {
            target: target.to_owned(),
            method: options.method()?,
            content_type: options.content_type.clone(),
            headers: options.header_pieces()?,
            secrets: secrets.clone(),
            template: options.template()?,
            batch: options.batch,
            success_status: options.success_status.clone(),
            retry_status: options.retry_status.clone(),
            success_body: options.pattern()?,
            signature: signature.transpose()?,
            idempotency: idempotency.map(header).transpose()?,
        })
    }
}

/// CURRENT of another secret.
fn other<'a>(secrets: &'a Secrets, name: &str) -> Result<&'a Secret, String> {
    let pair = secrets.get(name).ok_or_else(|| format!("the secret `{name}` is not set"))?;
    Ok(&pair.current)
}

impl Format for Webhook {
    fn most(&self) -> usize {
        self.batch
    }

    fn method(&self) -> Method {
        self.method.clone()
    }

    fn authorize(&self, mut request: RequestBuilder, key: &str) -> Result<RequestBuilder, String> {
        for (name, pieces) in &self.headers {
            let mut value = String::new();
            for piece in pieces {
                value.push_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Key => key,
                    Piece::Other(secret) => other(&self.secrets, secret)?.reveal(),
                });
            }
            request = with_secret_header(request, name.clone(), &value)?;
        }
        Ok(request)
    }

    fn fill(&self, mut request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String> {
        let body = self.template.render(&data(call.alerts, &self.target)).map_err(in_body)?;
        if let Some((header, key)) = &self.signature {
            request = request.header(header, format!("sha256={}", signature(key, &body)));
        }
        if let Some(header) = &self.idempotency {
            request = request.header(header, idempotency_key(call.alerts));
        }
        // A header of the configuration may have said it already.
        if !self.headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
            request = request.header(CONTENT_TYPE, &self.content_type);
        }
        Ok(request.body(body))
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let later = Verdict::Retry { reason: FailureReason::ServerError, after: answer.retry_after };
        if self.retry_status.contains(&answer.status) {
            return later;
        }
        let succeeded = match self.success_status.as_slice() {
            [] => (200..=299).contains(&answer.status),
            list => list.contains(&answer.status),
        };
        match classify(answer) {
            _ if succeeded => match &self.success_body {
                // Somebody else may have answered, and that passes; it is a dead letter after the last try.
                Some(pattern) if !pattern.is_match(&answer.body) => later,
                _ => Verdict::Ok,
            },
            Verdict::Ok => Verdict::Refused { why: "the status is not among `success_status`".to_owned() },
            verdict => verdict,
        }
    }
}

fn signature(key: &hmac::Key, body: &str) -> String {
    hmac::sign(key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The alert's id, the same with each try; of several alerts a hash over their ids.
fn idempotency_key(alerts: &[Alert]) -> String {
    let ids: Vec<String> = alerts.iter().map(|alert| alert.event.id.to_string()).collect();
    match ids.as_slice() {
        [id] => id.clone(),
        ids => short_hash(&ids.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}

/// What a template sees.
fn data(alerts: &[Alert], target: &str) -> Value {
    let views: Vec<Value> = alerts.iter().map(view).collect();
    json!({"alert": views.last(), "alerts": views, "count": alerts.len(), "target": target})
}

/// The alert with every member that any alert has, so that a template never meets an undefined one.
fn view(alert: &Alert) -> Value {
    let mut view = json!({
        "rule_id": null,
        "unhandled": null,
        "headline": headline(alert),
        "grade": Grade::of(&alert.event).name(),
        "severity_name": alert.event.severity.map(Severity::name),
        "type": kind_of(alert),
        "time": alert.event.event_time().as_seconds(),
    });
    if let (Value::Object(view), Value::Object(alert)) = (&mut view, alert_json(alert)) {
        view.extend(alert);
    }
    view
}

/// One alert of each form: a line of syslog, a trap, and the meta-alert, which has no severity.
fn made_up() -> Result<[Alert; 3], String> {
    let time = Timestamp::from_millis(1_772_366_400_000);
    let ids = EventIds::new(0);
    let team = Team::new("TEAM").map_err(|error| error.to_string())?;
    let alert = |protocol, cause| {
        let mut event = Event::new(ids.next(time), time, Source { protocol, peer: [192, 0, 2, 1].into() });
        event.hostname = "host.example".into();
        event.message = "a \"quoted\" <message>\nof two lines".into();
        let (environment, handling) = (Environment::Prod, Handling::PageOnly);
        Alert { event, cause, environment, handling, team: team.clone() }
    };
    let mut syslog = alert(Protocol::SyslogUdp, Cause::Rule(RuleId(1)));
    syslog.event.severity = Severity::new(3);
    syslog.event.app_name = Some("app".into());
    let mut trap = alert(Protocol::SnmpTrap, Cause::Rule(RuleId(1)));
    let oid = "1.3.6.1.6.3.1.1.5.3".parse().map_err(|error| format!("{error}"))?;
    let version = "2c".to_owned();
    trap.event.trap =
        Some(Box::new(Trap { oid, varbinds: Vec::new(), agent: None, uptime: None, version, inform: false }));
    let cause = Cause::Unmatched { signature: "a <*>".to_owned(), count: 100, window_seconds: 86_400 };
    Ok([syslog, trap, alert(Protocol::Internal, cause)])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use super::super::fixtures::{ID, answer, options, plainly_refused, refused, retry, sample, unhandled};
    use super::*;
    use crate::forward::SecretPair;

    const URL: &str = "https://hooks.example/in";

    fn webhook(value: Value) -> Webhook {
        let options = options::<Options>(value).expect("options");
        let pair = |key: &str| SecretPair::new("a", key);
        let secrets = Secrets::new(Map::from([("sign".to_owned(), pair("s3cret")), ("b".to_owned(), pair("bee"))]));
        Webhook::new(&options, &secrets, "chat").expect("a webhook")
    }

    fn request(webhook: &Webhook, alerts: &[Alert]) -> reqwest::Request {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
        let now = Timestamp::from_millis(0);
        let call = Call { alerts, alert: alerts.last().expect("an alert"), key: "k3y", now };
        let request = webhook.authorize(client.post(URL), "k3y").and_then(|request| webhook.fill(request, &call));
        request.expect("a request").build().expect("a request")
    }

    fn body(request: &reqwest::Request) -> &str {
        let bytes = request.body().and_then(|body| body.as_bytes()).expect("a body");
        std::str::from_utf8(bytes).expect("a text")
    }

    #[test]
    fn the_body_is_the_template_filled_in() {
        let hook = webhook(json!({
            "url": URL,
            "body": "{\"text\": {{ alert.headline }}, \"bad\": {{ alert.grade in ['critical', 'error'] }}, \"to\": {{ target }}}",
            "headers": {"Authorization": "Token ${secret}", "X-B": "${secret:b}!", "X-Site": "berlin"},
            "signature_secret": "sign",
        }));
        let request = request(&hook, &[sample()]);
        let expected = json!({"text": "core-sw-1: Link <Te1/1> \"down\" & @all *flaps*", "bad": true, "to": "chat"});
        assert_eq!(serde_json::from_str::<Value>(body(&request)).expect("JSON"), expected);
        let header = |name: &str| request.headers()[name].to_str().expect("a text").to_owned();
        assert_eq!(header("authorization"), "Token k3y");
        assert_eq!(header("x-b"), "bee!");
        assert_eq!(header("x-site"), "berlin");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("idempotency-key"), ID);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
        assert_eq!(header("x-hub-signature-256"), format!("sha256={}", signature(&key, body(&request))));
        assert!(!format!("{request:?}").contains("k3y"), "{request:?}");
    }

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(&key, "what do ya want for nothing?"), expected);
    }

    #[test]
    fn without_a_template_the_alert_is_sent_as_it_is() {
        let hook = webhook(json!({"url": URL, "idempotency_header": ""}));
        let sent = request(&hook, &[sample()]);
        let value: Value = serde_json::from_str(body(&sent)).expect("JSON");
        assert_eq!((&value["id"], &value["alert_key"]), (&json!(ID), &json!("core-sw-1:rule:7")));
        assert!(sent.headers().get("idempotency-key").is_none());
        let hook = webhook(json!({"url": URL, "batch": 10}));
        let value: Value = serde_json::from_str(body(&request(&hook, &[sample(), unhandled()]))).expect("JSON");
        assert_eq!(value.as_array().map(Vec::len), Some(2));
        let hook = webhook(json!({"url": URL, "content_type": "text/plain"}));
        assert_eq!(body(&request(&hook, &[sample()])), "core-sw-1: Link <Te1/1> \"down\" & @all *flaps*\n");
    }

    #[test]
    fn answers_are_read_as_the_options_say() {
        let hook = webhook(json!({
            "url": URL, "success_status": [200, 409], "retry_status": [404], "success_body": "\"ok\"\\s*:\\s*true",
        }));
        let check =
            |status, body: &str, expected: &Verdict| assert_eq!(hook.judge(&answer(status, body)), *expected, "{body}");
        check(200, r#"{"ok": true}"#, &Verdict::Ok);
        check(409, r#"{"ok": true}"#, &Verdict::Ok);
        check(200, "<html>", &retry(FailureReason::ServerError));
        check(404, "", &retry(FailureReason::ServerError));
        check(400, "", &plainly_refused());
        check(401, "", &Verdict::Credentials);
        check(202, "", &Verdict::Refused { why: "the status is not among `success_status`".into() });
        check(429, "", &retry(FailureReason::RateLimited));
    }

    #[test]
    fn secrets_are_found_where_they_are_named() {
        let read = |value: Value| options::<Options>(value).expect("options");
        let named =
            read(json!({"url": URL, "headers": {"X-A": "${secret:b} ${secret:a}"}, "signature_secret": "sign"}));
        assert_eq!(named.secrets(), ["a", "b", "sign"]);
        assert!(!named.needs_secret());
        assert!(read(json!({"url": "https://api.example/bot${secret}/send"})).needs_secret());
        assert!(read(json!({"url": "${secret}"})).needs_secret());
    }

    #[test]
    fn wrong_options_are_named() {
        let check = |mut value: Value, word: &str| {
            if value.get("url").is_none() {
                value["url"] = json!(URL);
            }
            refused::<Options>(value, word);
        };
        check(json!({"url": ""}), "`url`");
        check(json!({"url": "https://x/${secret:a}"}), "`url`");
        check(json!({"method": "GET"}), "`method`");
        check(json!({"batch": 0}), "`batch`");
        check(json!({"headers": {"a b": "x"}}), "`a b`");
        check(json!({"headers": {"X-A": "a\r\nX-B: c"}}), "`X-A`");
        check(json!({"headers": {"X-A": "${token}"}}), "${token}");
        check(json!({"success_status": [700]}), "`success_status`");
        check(json!({"success_body": "("}), "`success_body`");
        check(json!({"signature_secret": "a", "signature_header": ""}), "`signature_header`");
        check(json!({"body": "{\n\"a\": {{ alert.mesage }}}"}), "line 2");
        check(json!({"body": "{\"a\": \"{{ alert.message }}\"}"}), "values bring their own quotes");
        check(json!({"body": "{{ alert.unhandled.count }}"}), "line 1");
        check(json!({"boddy": "x"}), "boddy");
    }
}
