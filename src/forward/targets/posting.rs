//! What kinds that speak HTTP have in common: where to post, the key, the probe, and that no secret is in what is kept
//! of an answer. A kind adds its body, its headers and what it knows better about answers.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};

use crate::clock::Clock;
use crate::forward::answer::{Answer, Verdict, classify};
use crate::forward::http::{Http, parse_url, public_address};
use crate::forward::{DeliveryError, FailureReason, Receipt, Secret, Target, TargetParts};
use crate::model::{Alert, TRACEPARENT, TRACESTATE, TargetName, Timestamp};

/// Shortest key that is taken out of answers: anything shorter is no secret and would tear words.
const SHORTEST_SECRET: usize = 8;
/// Shortest part of a path that is taken out of answers: names of APIs are shorter, tokens are longer.
const SHORTEST_TOKEN: usize = 16;
/// What stands in its place.
const REMOVED: &str = "[secret]";
/// Why nothing can be sent without a key.
const NO_KEY: &str = "the secret that `secret` names is empty";
/// Why nothing can be sent yet.
const NO_URL: &str = "no URL configured";

/// What one kind makes of alerts and answers.
pub(super) trait Format: Send + Sync + 'static {
    /// How many alerts fit into one message.
    fn most(&self) -> usize {
        1
    }

    /// The method of a delivery.
    fn method(&self) -> Method {
        Method::POST
    }

    /// Adds what proves who we are, to deliveries and probes; the error says why it cannot be.
    fn authorize(&self, request: RequestBuilder, _key: &str) -> Result<RequestBuilder, String> {
        Ok(request)
    }

    /// Adds headers and the body; the error says why the alerts can never be sent so.
    fn fill(&self, request: RequestBuilder, call: &Call<'_>) -> Result<RequestBuilder, String>;

    /// What an answer means.
    fn judge(&self, answer: &Answer) -> Verdict {
        classify(answer)
    }

    /// How to ask whether the receiver is there.
    fn probe(&self) -> Probe {
        Probe::Head
    }
}

/// What a request is made of.
pub(super) struct Call<'a> {
    /// At least one alert.
    pub(super) alerts: &'a [Alert],
    /// The latest of them.
    pub(super) alert: &'a Alert,
    /// The key; empty if there is none.
    pub(super) key: &'a str,
    /// When it is made.
    pub(super) now: Timestamp,
}

/// A question that hands over nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// HEAD where alerts are posted: whatever is answered, apart from "later", somebody is there.
    Head,
    /// The same, but 401 and 403 count: they are about the key, not about the method.
    HeadWithKey,
    /// GET of the second path in place of the first, at the end of where alerts are posted; it must succeed.
    Below(&'static str, &'static str),
}

/// Where alerts are posted.
pub(super) enum Place {
    /// Always here.
    Fixed(Url),
    /// The key is the address: whoever knows it may post.
    Key,
    /// The key is a part of it, where this text has [`KEY_MARK`].
    WithKey(String),
    /// Not configured yet: alerts wait.
    Unset,
}

/// Where a key goes within a text of the configuration.
pub(super) const KEY_MARK: &str = "${secret}";

impl Place {
    /// From a checked `url` and the path that the kind adds; an empty one means that the key is the address.
    pub(super) fn new(url: &str, path: &str) -> Result<Self, String> {
        if url.trim().is_empty() { Ok(Self::Key) } else { below(url, path).map(Self::Fixed) }
    }

    fn url(&self, key: &str) -> Result<Url, String> {
        match self {
            Self::Fixed(url) => Ok(url.clone()),
            Self::Key if key.is_empty() => Err(NO_KEY.to_owned()),
            Self::Key => parse_url(key).map_err(|why| format!("the secret is no webhook address: {why}")),
            Self::WithKey(text) => parse_url(&text.replace(KEY_MARK, key)),
            Self::Unset => Err(NO_URL.to_owned()),
        }
    }

    fn address(&self) -> String {
        match self {
            Self::Fixed(url) => url.origin().ascii_serialization(),
            Self::Key | Self::Unset => String::new(),
            Self::WithKey(text) => public_address(&text.replace(KEY_MARK, "secret")),
        }
    }
}

/// The path of an API below the address that was configured.
pub(super) fn below(base: &str, path: &str) -> Result<Url, String> {
    let mut url = parse_url(base)?;
    if !path.is_empty() {
        let whole = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
    }
    Ok(url)
}

/// Checks a `url` that may not hold credentials: they would be shown with the configuration.
pub(super) fn check_base(url: &str) -> Result<(), String> {
    let url = parse_url(url).map_err(|why| format!("`url`: {why}"))?;
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    Err("`url` must hold no user and no password; name them with `user` and `secret`".to_owned())
}

/// Checks a `url` that may be left out because the secret is the address.
pub(super) fn check_webhook(url: &str) -> Result<(), String> {
    if url.trim().is_empty() { Ok(()) } else { check_base(url) }
}

/// A header whose value is printed nowhere.
pub(super) fn with_secret_header(
    request: RequestBuilder,
    name: HeaderName,
    value: &str,
) -> Result<RequestBuilder, String> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("the secret holds characters that the header `{name}` cannot carry"))?;
    value.set_sensitive(true);
    Ok(request.header(name, value))
}

/// `Authorization` with the user's name and the key as password, or with the key as a token if there is no user.
pub(super) fn authorized(request: RequestBuilder, user: &str, key: &str) -> RequestBuilder {
    match (user.is_empty(), key.is_empty()) {
        (true, true) => request,
        (true, false) => request.bearer_auth(key),
        (false, _) => request.basic_auth(user, Some(key)),
    }
}

/// A target that posts what its format makes.
pub(super) struct Posting<F> {
    name: TargetName,
    http: Http,
    clock: Clock,
    place: Place,
    format: F,
}

/// Makes the target of a format.
pub(super) fn target(parts: TargetParts, place: Place, format: impl Format) -> Arc<dyn Target> {
    Arc::new(Posting { name: parts.name, http: parts.http, clock: parts.clock, place, format })
}

impl<F: Format> Posting<F> {
    fn url(&self, key: &str) -> Result<Url, DeliveryError> {
        self.place.url(key).map_err(|why| DeliveryError::retry(FailureReason::Internal, why))
    }

    fn begin(&self, method: Method, url: &Url, key: &str) -> Result<RequestBuilder, DeliveryError> {
        let request = self.http.request(method, url);
        self.format.authorize(request, key).map_err(|why| DeliveryError::retry(FailureReason::Internal, why))
    }

    async fn ask(&self, request: RequestBuilder, url: &Url, key: &str) -> Result<Answer, DeliveryError> {
        let mut answer = self.http.send(request).await?;
        answer.body = without_secrets(answer.body, url, key);
        Ok(answer)
    }
}

/// Tells the receiver which trace the alert belongs to (W3C trace context).
fn traced(request: RequestBuilder, alert: &Alert) -> RequestBuilder {
    let Some(trace) = &alert.event.trace else { return request };
    let request = request.header(TRACEPARENT, trace.traceparent());
    if trace.state.is_empty() { request } else { request.header(TRACESTATE, trace.state.as_str()) }
}

/// A receiver may quote the request; what it quotes is kept and shown, the secrets in it are not.
fn without_secrets(mut body: String, url: &Url, key: &str) -> String {
    let long = |shortest: usize| move |text: &&str| text.len() >= shortest;
    let values = url.query().unwrap_or_default().split(['&', '=']);
    let secrets = std::iter::once(key).chain(values).filter(long(SHORTEST_SECRET));
    for secret in secrets.chain(url.path().split('/').filter(long(SHORTEST_TOKEN))) {
        body = body.replace(secret, REMOVED);
    }
    body
}

#[async_trait]
impl<F: Format> Target for Posting<F> {
    fn name(&self) -> &TargetName {
        &self.name
    }

    fn address(&self) -> String {
        self.place.address()
    }

    fn most(&self) -> usize {
        self.format.most()
    }

    fn ready(&self) -> Result<(), String> {
        if matches!(self.place, Place::Unset) { Err(NO_URL.to_owned()) } else { Ok(()) }
    }

    async fn deliver(&self, alerts: &[Alert], key: Option<&Secret>) -> Result<Receipt, DeliveryError> {
        let key = key.map_or("", Secret::reveal);
        let Some(alert) = alerts.last() else { return Ok(Receipt::new("there was nothing to send")) };
        let url = self.url(key)?;
        let request = traced(self.begin(self.format.method(), &url, key)?, alert);
        let call = Call { alerts, alert, key, now: self.clock.now() };
        let request = self.format.fill(request, &call).map_err(DeliveryError::refused)?;
        let answer = self.ask(request, &url, key).await?;
        self.format.judge(&answer).settle(&answer)
    }

    async fn probe(&self, key: Option<&Secret>) -> Result<(), DeliveryError> {
        let key = key.map_or("", Secret::reveal);
        let mut url = self.url(key)?;
        let probe = self.format.probe();
        let method = match probe {
            Probe::Head | Probe::HeadWithKey => Method::HEAD,
            Probe::Below(posted, asked) => {
                let base = url.path().strip_suffix(posted).unwrap_or_default().trim_end_matches('/').to_owned();
                url.set_path(&format!("{base}{asked}"));
                url.set_query(None);
                Method::GET
            }
        };
        let answer = self.ask(self.begin(method, &url, key)?, &url, key).await?;
        match (probe, classify(&answer)) {
            (Probe::Head, Verdict::Credentials) => Ok(()),
            (Probe::Head | Probe::HeadWithKey, Verdict::Ok | Verdict::Refused { .. }) => Ok(()),
            (_, verdict) => verdict.settle(&answer).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_added_below_the_configured_one() {
        let check = |base: &str, expected: &str| {
            assert_eq!(below(base, "/api/v2/alerts").expect("a URL").as_str(), expected);
        };
        check("http://am:9093", "http://am:9093/api/v2/alerts");
        check("http://am:9093/", "http://am:9093/api/v2/alerts");
        check("https://am.example/prefix/", "https://am.example/prefix/api/v2/alerts");
    }

    #[test]
    fn credentials_within_a_url_are_refused_without_being_repeated() {
        let error = check_base("https://me:s3cret@am.example/").expect_err("credentials");
        assert!(error.contains("`url`") && !error.contains("s3cret"), "{error}");
        assert!(check_webhook("").is_ok());
        assert!(check_webhook("ftp://x/").is_err());
    }

    #[test]
    fn what_a_receiver_quotes_of_the_request_holds_no_secret() {
        let url =
            Url::parse("https://hooks.example/services/T0/abcdefghijklmnop?sig=0123456789&api=v1").expect("a URL");
        let body = "no such hook: /services/T0/abcdefghijklmnop?sig=0123456789&api=v1, key topsecret".to_owned();
        assert_eq!(
            without_secrets(body, &url, "topsecret"),
            "no such hook: /services/T0/[secret]?sig=[secret]&api=v1, key [secret]"
        );
    }

    #[test]
    fn an_address_is_shown_without_its_secret() {
        let check = |place: &Place, expected: &str| assert_eq!(place.address(), expected);
        check(&Place::new("https://hooks.example/s3cret", "").expect("a place"), "https://hooks.example");
        check(&Place::Key, "");
        check(&Place::WithKey("https://api.example/bot${secret}/send".into()), "https://api.example");
        let error = Place::Key.url("nonsense").expect_err("no URL");
        assert!(!error.contains("nonsense"), "{error}");
        let url = Place::WithKey("https://api.example/bot${secret}/send".into()).url("k3y").expect("a URL");
        assert_eq!(url.path(), "/botk3y/send");
    }
}
