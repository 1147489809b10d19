//! The HTTP client towards receivers.
//!
//! It follows no redirects (an answer must not choose where alerts go), uses no proxy, connects only to addresses that
//! the [`Guard`] permits, and reads at most 4 KiB of an answer. TLS is rustls with the system's certificates, also
//! those that `SSL_CERT_FILE` names; where the system has none, plain HTTP works and HTTPS fails with a certificate
//! error.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, Method, Request, RequestBuilder, Response, Url, redirect};
use tracing::warn;

use super::answer::{Answer, retry_after};
use super::guard::{ForbiddenAddress, Guard, GuardedNames};
use super::{DeliveryError, FailureReason};
use crate::clock::Clock;

/// Bytes of an answer's body that are kept.
const ANSWER_BYTES: usize = 4 << 10;
/// A receiver on a reachable network accepts a connection well within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed before usual receivers and balancers do it (60 s) in the middle of a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// One target's way to speak HTTP.
#[derive(Clone)]
pub struct Http {
    client: Client,
    guard: Arc<Guard>,
    timeout: Duration,
    clock: Clock,
}

impl Http {
    /// A client with a time-out for whole requests; the error is for people.
    pub fn new(guard: Guard, timeout: Duration, clock: Clock) -> Result<Self, String> {
        let guard = Arc::new(guard);
        Ok(Self { client: new_client(&guard)?, guard, timeout, clock })
    }

    /// The same connections and guard with another time-out.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Begins a request; [`Http::send`] ends it.
    pub fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone()).timeout(self.timeout)
    }

    /// Begins a POST.
    pub fn post(&self, url: &Url) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Sends it and reads the start of the answer. Without an answer it says why, without the URL: its path may be a
    /// secret.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, DeliveryError> {
        let request = request.build().map_err(|error| {
            DeliveryError::retry(
                FailureReason::Internal,
                format!("no request can be made: {}", in_words(&error.without_url())),
            )
        })?;
        self.check_address(&request)?;
        let response = self.client.execute(request).await.map_err(no_answer)?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|text| retry_after(text, self.clock.now()));
        Ok(Answer { status, retry_after: after, body: read_start(response).await })
    }

    /// Names are checked when they are resolved; addresses in the URL never are, so they are checked here.
    fn check_address(&self, request: &Request) -> Result<(), DeliveryError> {
        let host = request.url().host_str().unwrap_or_default();
        let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() else { return Ok(()) };
        self.guard.check(address).map_err(|error| DeliveryError::retry(FailureReason::Forbidden, error.to_string()))
    }
}

fn new_client(guard: &Arc<Guard>) -> Result<Client, String> {
    // The answer says whether another part of the process was first; either way ring is in place then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("muttd/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(GuardedNames(Arc::clone(guard))))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
    };
    builder().build().or_else(|error| {
        warn!(
            error = in_words(&error),
            "the system has no usable certificates; receivers can be reached by plain HTTP only"
        );
        builder().tls_certs_only([]).build().map_err(|error| in_words(&error))
    })
}

/// Whether alerts can be posted to this URL; the error says what would be right.
pub fn check_url(url: &str) -> Result<(), String> {
    parse_url(url).map(|_| ())
}

/// The URL for use. The error does not repeat it: its path may be a secret.
pub(super) fn parse_url(url: &str) -> Result<Url, String> {
    let url = Url::parse(url.trim()).map_err(|error| format!("not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(format!(
            "`{scheme}:` is not supported; give a URL such as https://moogsoft.example/events/webhook_mutt"
        )),
    }
}

/// Scheme, host and port: what may be shown of a URL. Empty if it is none.
pub fn public_address(url: &str) -> String {
    parse_url(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

/// The verdict on a request that got no answer.
fn no_answer(error: reqwest::Error) -> DeliveryError {
    if let Some(forbidden) = forbidden(&error) {
        return DeliveryError::retry(FailureReason::Forbidden, forbidden.to_string());
    }
    let reason = if error.is_timeout() { FailureReason::Timeout } else { FailureReason::Connection };
    DeliveryError::retry(reason, in_words(&error.without_url()))
}

/// The guard's refusal among the causes of an error.
fn forbidden<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ForbiddenAddress> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(forbidden) = error.downcast_ref() {
            return Some(forbidden);
        }
        cause = error.source();
    }
    None
}

/// An error with its causes, in one line.
pub(super) fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The start of the body; a body that breaks off is as good as one that ends.
async fn read_start(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        let check = |url: &str, ok: bool| assert_eq!(check_url(url).is_ok(), ok, "{url}");
        check("http://127.0.0.1:9/events", true);
        check("https://moog.example/events/webhook_x", true);
        check("ftp://moog.example/", false);
        check("moog.example", false);
        check("", false);
        check("file:///etc/passwd", false);
    }

    #[test]
    fn only_scheme_host_and_port_of_a_url_are_shown() {
        assert_eq!(public_address("https://me:pass@moog.example/events/secret?x=y"), "https://moog.example");
        assert_eq!(public_address("http://[::1]:8080/x"), "http://[::1]:8080");
        assert_eq!(public_address("nonsense"), "");
    }

    #[tokio::test]
    async fn a_forbidden_address_is_not_asked() {
        let http = Http::new(Guard::default(), Duration::from_secs(5), Clock::system()).expect("a client");
        for url in ["http://169.254.169.254/s3cret", "http://[fe80::1]/s3cret", "http://0.0.0.0:1/s3cret"] {
            let url = parse_url(url).expect("a URL");
            let error = http.send(http.post(&url)).await.expect_err("forbidden");
            assert_eq!(error.reason(), FailureReason::Forbidden);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
