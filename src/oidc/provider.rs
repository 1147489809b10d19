//! What the provider says of itself (OpenID Connect Discovery 1.0) and its keys, asked when needed and kept for an hour.
//! A key that is not known has the keys read again, at most every half minute, so that nobody's made-up tokens make us
//! ask all the time. Kept in memory only.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::encoding::{form, percent};
use super::token::Keys;
use super::{LoginError, Settings};
use crate::net::outbound;

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is known is asked again after so long.
const KEPT: Duration = Duration::from_secs(3_600);
/// Between two readings of the keys.
const KEYS_AGAIN: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const MAX_ANSWER: usize = 1 << 20;

/// The provider.
pub(super) struct Provider {
    client: Client,
    issuer: String,
    known: Mutex<Option<Known>>,
}

struct Known {
    metadata: Metadata,
    keys: std::sync::Arc<Keys>,
    read_at: Instant,
    keys_at: Instant,
}

/// Where its parts are.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub(super) authorization: String,
    token: String,
    keys: String,
    /// The token endpoint wants the client's secret in the body.
    secret_in_body: bool,
}

impl Provider {
    /// Checks the settings; asks nobody.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        check_address(&settings.issuer).map_err(|why| format!("`issuer`: {why}"))?;
        let client = outbound::client(&settings.issuer, settings.ca_file.as_deref(), TIMEOUT)?;
        Ok(Self { client, issuer: settings.issuer.clone(), known: Mutex::new(None) })
    }

    /// Where its parts are.
    pub(super) async fn metadata(&self) -> Result<Metadata, LoginError> {
        let mut known = self.known.lock().await;
        Ok(self.fresh(&mut known).await?.metadata.clone())
    }

    /// Its keys.
    pub(super) async fn keys(&self) -> Result<std::sync::Arc<Keys>, LoginError> {
        let mut known = self.known.lock().await;
        Ok(std::sync::Arc::clone(&self.fresh(&mut known).await?.keys))
    }

    /// Its keys, read again unless that was done a moment ago.
    pub(super) async fn newer_keys(&self) -> Result<std::sync::Arc<Keys>, LoginError> {
        let mut known = self.known.lock().await;
        let known = self.fresh(&mut known).await?;
        if known.keys_at.elapsed() >= KEYS_AGAIN {
            known.keys = std::sync::Arc::new(Keys::read(&self.get(&known.metadata.keys).await?));
            known.keys_at = Instant::now();
        }
        Ok(std::sync::Arc::clone(&known.keys))
    }

    async fn fresh<'k>(&self, known: &'k mut Option<Known>) -> Result<&'k mut Known, LoginError> {
        if known.as_ref().is_none_or(|known| known.read_at.elapsed() >= KEPT) {
            match self.read().await {
                Ok(read) => *known = Some(read),
                // What was known still holds while it is away; it is asked again with the next login.
                Err(error) if known.is_none() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "The login provider cannot be read anew; what it said before counts")
                }
            }
        }
        known.as_mut().ok_or_else(|| LoginError::Provider("nothing is known of it".to_owned()))
    }

    async fn read(&self) -> Result<Known, LoginError> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata = metadata(&self.get(&address).await?, &self.issuer).map_err(LoginError::Provider)?;
        let keys = Keys::read(&self.get(&metadata.keys).await?);
        let now = Instant::now();
        Ok(Known { metadata, keys: std::sync::Arc::new(keys), read_at: now, keys_at: now })
    }

    async fn get(&self, address: &str) -> Result<Value, LoginError> {
        self.json(self.client.get(address)).await
    }

    async fn json(&self, request: reqwest::RequestBuilder) -> Result<Value, LoginError> {
        let answer = request.header("Accept", "application/json").send().await;
        let answer = answer.map_err(|error| LoginError::Provider(outbound::silence(error)))?;
        let status = answer.status();
        let body = outbound::body(answer, MAX_ANSWER).await.map_err(LoginError::Provider)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() && value.is_object() {
            return Ok(value);
        }
        // `error` is one of the codes of RFC 6749 section 5.2; anything longer is not repeated.
        let code = value["error"].as_str().filter(|code| code.len() <= 40).unwrap_or("no JSON");
        Err(LoginError::Provider(format!("it answers {status}: {code}")))
    }

    /// Exchanges a code for an ID token.
    pub(super) async fn exchange(&self, settings: &Settings, code: &str, verifier: &str) -> Result<String, LoginError> {
        let metadata = self.metadata().await?;
        let secret = settings.client_secret.reveal();
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", settings.redirect_url.as_str()),
            ("code_verifier", verifier),
        ];
        let in_body = secret.is_empty() || metadata.secret_in_body;
        if in_body {
            pairs.push(("client_id", &settings.client_id));
        }
        if in_body && !secret.is_empty() {
            pairs.push(("client_secret", secret));
        }
        let request = self.client.post(&metadata.token).header("Content-Type", "application/x-www-form-urlencoded");
        let request = request.body(form(&pairs));
        // RFC 6749 section 2.3.1: both parts are encoded as in a form before they are put together.
        let request =
            if in_body { request } else { request.basic_auth(percent(&settings.client_id), Some(percent(secret))) };
        let answer = self.json(request).await?;
        let token = answer["id_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| LoginError::Provider("it gave no ID token; is `openid` among the scopes?".to_owned()))
    }
}

fn metadata(document: &Value, issuer: &str) -> Result<Metadata, String> {
    if document["issuer"].as_str() != Some(issuer) {
        return Err("its configuration names another issuer than [oidc] does".to_owned());
    }
    let address = |name: &str| -> Result<String, String> {
        let address = document[name].as_str().ok_or_else(|| format!("its configuration has no `{name}`"))?;
        check_address(address).map_err(|why| format!("its `{name}`: {why}"))?;
        Ok(address.to_owned())
    };
    let methods = document["token_endpoint_auth_methods_supported"].as_array();
    // Without the member it is the header (Discovery section 3).
    let takes = |method: &str| methods.is_some_and(|methods| methods.iter().any(|known| known == method));
    Ok(Metadata {
        authorization: address("authorization_endpoint")?,
        token: address("token_endpoint")?,
        keys: address("jwks_uri")?,
        secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
    })
}

/// TLS, but on this machine: whoever could change what a provider says could log in as anybody.
fn check_address(address: &str) -> Result<(), String> {
    outbound::check_address(address)?;
    let host = address.strip_prefix("http://").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    match host {
        None => Ok(()),
        Some(host) if ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| is_at(host, own)) => Ok(()),
        Some(_) => Err("it must be https://, as nothing else protects it on its way".to_owned()),
    }
}

fn is_at(host: &str, own: &str) -> bool {
    host.strip_prefix(own).is_some_and(|port| port.is_empty() || port.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_provider_is_spoken_to_over_tls_or_on_this_machine() {
        let check = |address: &str, ok: bool| assert_eq!(check_address(address).is_ok(), ok, "{address}");
        check("https://login.example/realms/ops", true);
        check("http://127.0.0.1:8080/realm", true);
        check("http://localhost/realm", true);
        check("http://[::1]:9", true);
        check("http://login.example", false);
        check("http://127.0.0.1.evil.example/", false);
        check("http://localhost@evil.example/", false);
        check("ftp://login.example", false);
    }

    #[test]
    fn a_configuration_of_another_issuer_or_with_parts_elsewhere_is_refused() {
        let good = json!({
            "issuer": "https://p", "authorization_endpoint": "https://p/a", "token_endpoint": "https://p/t",
            "jwks_uri": "https://p/k", "token_endpoint_auth_methods_supported": ["client_secret_post"],
        });
        assert!(metadata(&good, "https://p").expect("valid").secret_in_body);
        assert!(metadata(&good, "https://p/").is_err());
        for member in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            let mut bad = good.clone();
            bad[member] = "http://p/x".into();
            assert!(metadata(&bad, "https://p").is_err_and(|why| why.contains(member)), "{member}");
        }
    }
}
