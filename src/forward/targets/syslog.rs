//! Syslog relay: alerts as RFC 5424 messages over TCP (RFC 6587, octet counting) or TLS (RFC 5425).
//!
//! Syslog over TCP has no acknowledgement: what was written counts as delivered, though the peer may die with it in its
//! buffers. So a connection is looked at before it is used and again after the write, one that was idle for long is
//! not trusted, and a write that failed is repeated once over a fresh connection. Alerts may come twice, not never,
//! except for what a peer accepted and lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::rfc5424::{self, Shape};
use super::wire::{Line, Lines, Security};
use crate::forward::{DeliveryError, KindOptions, Receipt, Secret, Target, TargetParts};
use crate::model::{Alert, TargetName, parse_facility};

/// Alerts in one write.
const MOST: usize = 100;
/// Connections that are kept while nothing is sent.
const KEPT: usize = 4;
/// How long an idle connection is trusted: firewalls forget quiet ones without a word, many after a few minutes.
const TRUSTED: Duration = Duration::from_secs(60);
/// Bytes of a message: what every receiver must take (RFC 5424 section 6.1), and what a queue of ours could hold.
const SMALLEST: usize = 480;
const LARGEST: usize = 64 << 10;

/// How the bytes travel.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Transport {
    /// In clear.
    Tcp,
    /// Encrypted; the certificate is checked against the system's authorities.
    Tls,
}

/// What a message is made of.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// Written anew by RFC 5424, with what was decided in the structured data.
    Rfc5424,
    /// The line that the device sent; alerts that came otherwise are written anew.
    Original,
}

/// What the configuration says of a syslog receiver.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Its name or address.
    server: String,
    /// Its port; 514 or 6514 if left out.
    port: Option<u16>,
    /// How the bytes travel.
    transport: Transport,
    /// What a message is made of.
    form: Form,
    /// The facility of alerts that brought none.
    facility: String,
    /// The id of our structured data; what stands behind `@` is an enterprise number.
    sd_id: String,
    /// Bytes of one message.
    max_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: String::new(),
            port: None,
            transport: Transport::Tcp,
            form: Form::Rfc5424,
            facility: "local0".to_owned(),
            sd_id: "mutt@32473".to_owned(),
            max_bytes: 8_192,
        }
    }
}

impl KindOptions for Options {
    fn check(&self) -> Result<(), String> {
        check_server(&self.server)?;
        if self.port == Some(0) {
            return Err("`port` must be 1 to 65535".to_owned());
        }
        if parse_facility(&self.facility).is_none() {
            return Err("`facility` must be a name such as local0, or 0 to 23".to_owned());
        }
        if !(1..=32).contains(&self.sd_id.len()) || !self.sd_id.bytes().all(rfc5424::is_sd_name) {
            return Err("`sd_id` must have 1 to 32 printable characters without blank, `=`, `]` and quotes".to_owned());
        }
        if !(SMALLEST..=LARGEST).contains(&self.max_bytes) {
            return Err(format!("`max_bytes` must be {SMALLEST} to {LARGEST}"));
        }
        Ok(())
    }

    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        let (security, usual_port) = match self.transport {
            Transport::Tcp => (Security::Clear, 514),
            Transport::Tls => (Security::Tls, 6_514),
        };
        let line = Line {
            host: self.server,
            port: self.port.unwrap_or(usual_port),
            security,
            guard: parts.guard,
            timeout: parts.timeout,
        };
        let shape = Shape {
            facility: parse_facility(&self.facility).unwrap_or(16),
            sd_id: self.sd_id,
            max_bytes: self.max_bytes,
            keep_original: self.form == Form::Original,
        };
        Ok(Arc::new(Relay { name: parts.name, lines: Lines::new(line, KEPT, TRUSTED), shape }))
    }
}

/// Checks the name or address of a server that is not given as a URL.
pub(super) fn check_server(server: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if !(1..=253).contains(&server.len()) || !server.chars().all(allowed) {
        return Err("`server` must be a host name or an address, without a port".to_owned());
    }
    Ok(())
}

struct Relay {
    name: TargetName,
    lines: Lines,
    shape: Shape,
}

#[async_trait]
impl Target for Relay {
    fn name(&self) -> &TargetName {
        &self.name
    }

    fn address(&self) -> String {
        self.lines.address("syslog")
    }

    fn most(&self) -> usize {
        MOST
    }

    fn ready(&self) -> Result<(), String> {
        self.lines.ready()
    }

    async fn deliver(&self, alerts: &[Alert], _: Option<&Secret>) -> Result<Receipt, DeliveryError> {
        let mut frames = Vec::new();
        for alert in alerts {
            let message = rfc5424::message(alert, &self.shape);
            frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
            frames.extend_from_slice(message.as_bytes());
        }
        self.lines.write(&frames).await?;
        Ok(Receipt::new(format!("written, {} bytes; syslog has no acknowledgement", frames.len())))
    }

    async fn probe(&self, _: Option<&Secret>) -> Result<(), DeliveryError> {
        self.lines.connect().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{options, refused};
    use super::*;

    #[test]
    fn wrong_options_are_named() {
        refused::<Options>(json!({}), "`server`");
        refused::<Options>(json!({"server": "logs.example/x"}), "`server`");
        refused::<Options>(json!({"server": "logs.example", "port": 0}), "`port`");
        refused::<Options>(json!({"server": "logs.example", "facility": "local9"}), "`facility`");
        refused::<Options>(json!({"server": "logs.example", "sd_id": "a b"}), "`sd_id`");
        refused::<Options>(json!({"server": "logs.example", "max_bytes": 100}), "`max_bytes`");
        refused::<Options>(json!({"server": "logs.example", "transport": "udp"}), "udp");
        assert!(options::<Options>(json!({"server": "::1", "transport": "tls", "form": "original"})).is_ok());
    }
}
