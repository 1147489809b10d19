//! What a forwarder may be told.

use std::fmt;
use std::time::Duration;

/// A key that proves to the receiver who we are; printed nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a key; an empty one means that none is sent.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Whether there is one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key itself, for the request that needs it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "ApiKey(none)" } else { "ApiKey(..)" })
    }
}

/// Address, key and patience for one target; each field names its key in the dynamic configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `moog_webhook_url`: where alerts are posted. Empty: they wait. It may hold a secret in its path.
    pub url: String,
    /// `moog_api_key`: sent as `Authorization: Bearer`.
    pub api_key: ApiKey,
    /// `moog_agent_location`: where this appliance stands, for the receiver's `agent_location`.
    pub agent_location: String,
    /// `moog_rate_limit`: deliveries per `rate_period`; `None` for no limit.
    pub rate_limit: Option<u32>,
    /// `moog_rate_period`.
    pub rate_period: Duration,
    /// `moog_retry_base`: the longest pause before the second try; it doubles with each further one.
    pub retry_base: Duration,
    /// `moog_retry_cap`: the longest pause of all, unless the receiver asks for more.
    pub retry_cap: Duration,
    /// `moog_max_tries`: tries, the first one included, before an alert is a dead letter.
    pub max_tries: u32,
    /// `moog_timeout`: from connecting to the end of the answer.
    pub timeout: Duration,
    /// `moog_concurrency`: deliveries at once.
    pub concurrency: usize,
}

impl Default for Settings {
    /// SPEC.md's figures; 50 a second is what upstream grants a Moogsoft instance.
    fn default() -> Self {
        Self {
            url: String::new(),
            api_key: ApiKey::default(),
            agent_location: String::new(),
            rate_limit: Some(50),
            rate_period: Duration::from_secs(1),
            retry_base: Duration::from_secs(1),
            retry_cap: Duration::from_secs(60),
            max_tries: 5,
            timeout: Duration::from_secs(10),
            concurrency: 8,
        }
    }
}

impl fmt::Debug for Settings {
    /// Without the URL, whose path may be a secret, and without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address", &super::public_address(&self.url))
            .field("api_key", &self.api_key)
            .field("agent_location", &self.agent_location)
            .field("rate_limit", &self.rate_limit)
            .field("rate_period", &self.rate_period)
            .field("retry_base", &self.retry_base)
            .field("retry_cap", &self.retry_cap)
            .field("max_tries", &self.max_tries)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_key_nor_path_of_the_url_is_printed() {
        let settings = Settings {
            url: "https://me:pass@moog.example:8443/events/webhook_s3cret?token=t0ken".into(),
            api_key: ApiKey::new("k3y"),
            ..Settings::default()
        };
        let printed = format!("{settings:?}");
        assert!(printed.contains("https://moog.example:8443"), "{printed}");
        for secret in ["me:", "pass", "s3cret", "t0ken", "k3y"] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
        }
    }
}
