//! The HTTP client towards receivers, and what it makes of answers.
//!
//! It follows no redirects (an answer must not choose where alerts go), uses no proxy, and reads at most 4 KiB of an
//! answer. TLS is rustls with the system's certificates, also those that `SSL_CERT_FILE` names; where the system has
//! none, plain HTTP works and HTTPS fails with a certificate error.

use std::error::Error;
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url, redirect};
use tracing::warn;

use super::{DeliveryError, FailureReason};
use crate::model::Timestamp;

/// Bytes of an answer's body that are kept.
const ANSWER_BYTES: usize = 4 << 10;
/// A receiver on a reachable network accepts a connection well within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed before usual receivers and balancers do it (60 s) in the middle of a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a client; the error is for people.
pub(super) fn new_client() -> Result<Client, String> {
    // The answer says whether another part of the process was first; either way ring is in place then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("muttd/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
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

/// The URL for use.
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

/// The verdict on an answer: its text, or what to do.
pub(super) async fn verdict(response: Response, now: Timestamp) -> Result<String, DeliveryError> {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| retry_after(text, now));
    let body = read_start(response).await;
    let answer = if body.is_empty() { status.to_string() } else { format!("{status}: {body}") };
    match status {
        _ if status.is_success() => Ok(answer),
        StatusCode::TOO_MANY_REQUESTS => {
            Err(DeliveryError::Retry { reason: FailureReason::RateLimited, answer, after })
        }
        StatusCode::REQUEST_TIMEOUT => Err(DeliveryError::Retry { reason: FailureReason::ServerError, answer, after }),
        _ if status.is_server_error() => {
            Err(DeliveryError::Retry { reason: FailureReason::ServerError, answer, after })
        }
        _ => Err(DeliveryError::Refused { reason: FailureReason::Rejected, answer }),
    }
}

/// The verdict on a request that got no answer. The URL is taken out: its path may be a secret.
pub(super) fn no_answer(error: reqwest::Error) -> DeliveryError {
    let reason = if error.is_timeout() { FailureReason::Timeout } else { FailureReason::Connection };
    let answer = in_words(&error.without_url());
    DeliveryError::Retry { reason, answer, after: None }
}

/// An error with its causes, in one line.
fn in_words(error: &dyn Error) -> String {
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

/// The start of the body in one line; a body that breaks off is as good as one that ends.
async fn read_start(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - bytes.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Retry-After in seconds or as a date (RFC 9110 section 10.2.3); a date that has passed is no wait at all.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
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
}
