//! What the API grants its callers: read from the configuration, checked, and changed while it runs. Plain data.

use std::time::Duration;

use super::values::{ConfigError, Values};

/// What the API grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Requests a minute of one key or user; 0 for no limit.
    pub per_caller: u32,
    /// Requests a minute from one address; 0 for no limit.
    pub per_address: u32,
    /// How long one request may be worked on.
    pub request_timeout: Duration,
    /// Origins whose pages may read answers.
    pub cors_origins: Vec<String>,
}

/// Reads it.
pub(super) fn read(values: &Values) -> Result<ApiSettings, ConfigError> {
    let rate = |name: &'static str| u32::try_from(values.number("dynamic", name)).unwrap_or(u32::MAX);
    let cors_origins: Vec<String> = values.list("http", "cors_origins");
    if let Some(wrong) = cors_origins.iter().find(|origin| !is_origin(origin)) {
        let shown: String = wrong.chars().take(60).collect();
        return Err(ConfigError(format!(
            "`cors_origins` in [http] holds `{shown}`, but must be a list of origins such as `https://noc.example`: scheme, \
             host and port if it is not the usual one; `*` is not taken"
        )));
    }
    Ok(ApiSettings {
        per_caller: rate("api_rate_limit_per_minute"),
        per_address: rate("api_address_rate_limit_per_minute"),
        request_timeout: Duration::from_secs(values.number("http", "request_timeout_seconds")),
        cors_origins,
    })
}

/// Whether a text is an origin as browsers send it: nothing behind the port.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_are_taken_for_origins() {
        for (text, expected) in [
            ("https://noc.example", true),
            ("http://localhost:3000", true),
            ("https://[2001:db8::1]:8443", true),
            ("*", false),
            ("null", false),
            ("noc.example", false),
            ("https://noc.example/", false),
            ("https://", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text}");
        }
    }
}
