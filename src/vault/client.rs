//! Vault's HTTP API, as far as it is needed: AppRole login, renewal of one's own token, reading a KV version 2 secret.
//! Answers are bounded and checked; errors say what to do and repeat nothing of an answer. Keeps no state.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Certificate, Client, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{SecretId, Settings};
use crate::net::tls;
use crate::secret::Secret;

/// A KV secret has at most 1 MiB with Vault's own storage; an answer has little more.
const MAX_ANSWER: usize = 2 << 20;
/// More members are a mistake.
const MAX_MEMBERS: usize = 1_000;
/// Longest pause taken from `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A token, and how long it lives from now on.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: Secret,
    pub(super) lease: Duration,
    pub(super) renewable: bool,
}

/// One version of the secret.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) values: BTreeMap<String, Secret>,
}

/// Why there is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VaultError {
    /// Log in again: the token is refused, or its policy does not allow the path.
    #[error("it refuses the token (403); does the role's policy allow to read the secret?")]
    Denied,
    /// Wait: it is not ready or asks for patience.
    #[error("{why}")]
    Later { why: String, after: Option<Duration> },
    /// A person has to correct something; it is tried again all the same.
    #[error("{0}")]
    Wrong(String),
}

/// The client.
pub(super) struct VaultClient {
    client: Client,
    settings: Settings,
}

impl VaultClient {
    /// Checks the settings; connects to nothing.
    pub(super) fn new(settings: Settings) -> Result<Self, String> {
        check_address(&settings.address)?;
        tls::use_ring();
        let builder =
            Client::builder().timeout(settings.timeout).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let builder = match &settings.ca_file {
            _ if settings.address.starts_with("http://") => builder.tls_certs_only([]),
            None => builder,
            Some(file) => {
                let pem = std::fs::read(file).map_err(|error| format!("`ca_file` {}: {error}", file.display()))?;
                let certificates = Certificate::from_pem_bundle(&pem);
                builder.tls_certs_only(
                    certificates.map_err(|_| format!("`ca_file` {}: it holds no PEM certificates", file.display()))?,
                )
            }
        };
        let client = builder.build().map_err(|error| format!("no HTTP client can be made: {error}"))?;
        Ok(Self { client, settings })
    }

    /// Gets a token for the role.
    pub(super) async fn login(&self) -> Result<Token, VaultError> {
        let secret_id = match &self.settings.secret_id {
            SecretId::Value(secret) => secret.clone(),
            SecretId::File(path) => {
                let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new);
                let text =
                    text.map_err(|error| VaultError::Wrong(format!("`secret_id_file` {}: {error}", path.display())))?;
                Secret::new(text.trim())
            }
        };
        let body = json!({"role_id": self.settings.role_id, "secret_id": secret_id.reveal()});
        let body = Zeroizing::new(body.to_string());
        let request = self.client.post(self.url(&format!("auth/{}/login", self.settings.approle_mount)));
        let answer = self.answer(request.body(body.as_bytes().to_vec())).await.map_err(|error| match error {
            VaultError::Denied => {
                VaultError::Wrong("it refuses the login (403); are role_id and secret_id right?".into())
            }
            other => other,
        })?;
        token(&answer)
    }

    /// Has the token live longer.
    pub(super) async fn renew(&self, value: &Secret) -> Result<Token, VaultError> {
        let request = self.client.post(self.url("auth/token/renew-self")).body("{}");
        token(&self.answer(with_token(request, value)?).await?)
    }

    /// Reads the secret.
    pub(super) async fn read(&self, value: &Secret) -> Result<Version, VaultError> {
        let request = self.client.get(self.url(&format!("{}/data/{}", self.settings.mount, self.settings.path)));
        version(&self.answer(with_token(request, value)?).await?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.settings.address.trim_end_matches('/'))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, VaultError> {
        let mut request = request.header("X-Vault-Request", "true").header(header::CONTENT_TYPE, "application/json");
        if !self.settings.namespace.is_empty() {
            request = request.header("X-Vault-Namespace", &self.settings.namespace);
        }
        let unreachable = |error: reqwest::Error| {
            let what = if error.is_timeout() { "it does not answer in time" } else { "it cannot be reached" };
            VaultError::Later { why: format!("{what}: {}", causes(&error)), after: None }
        };
        let mut answer = request.send().await.map_err(unreachable)?;
        check_status(answer.status(), answer.headers())?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(VaultError::Wrong(format!("its answer is longer than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body)
            .map_err(|_| VaultError::Wrong("its answer is not JSON; is this Vault?".to_owned()))
    }
}

/// The innermost cause; the outer ones repeat the address.
fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Plain HTTP is for a Vault agent on this machine only: role, token and secrets travel in it.
fn check_address(address: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(address);
    let url = url.map_err(|_| format!("`address` is `{address}`, but must be as https://vault.example:8200"))?;
    let local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if local => Ok(()),
        "http" => {
            Err("`address` must begin with https://; only Vault on this machine may be spoken to in clear".into())
        }
        _ => Err(format!("`address` is `{address}`, but must begin with https://")),
    }
}

fn with_token(request: RequestBuilder, token: &Secret) -> Result<RequestBuilder, VaultError> {
    let mut value = header::HeaderValue::from_str(token.reveal())
        .map_err(|_| VaultError::Wrong("its token cannot be sent; is this Vault?".to_owned()))?;
    value.set_sensitive(true);
    Ok(request.header("X-Vault-Token", value))
}

fn check_status(status: StatusCode, headers: &header::HeaderMap) -> Result<(), VaultError> {
    let after = || {
        let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
    };
    let later = |why: String| Err(VaultError::Later { why, after: after() });
    match status.as_u16() {
        200..=299 => Ok(()),
        400 => Err(VaultError::Wrong("it does not take the request (400); are role_id and secret_id right?".into())),
        403 => Err(VaultError::Denied),
        404 => Err(VaultError::Wrong(
            "there is no such secret (404); are mount and path right, and is the engine KV version 2?".into(),
        )),
        429 => later("too many requests for it (429)".to_owned()),
        503 => later("it is sealed or in maintenance (503)".to_owned()),
        500..=599 => later(format!("it is not well ({})", status.as_u16())),
        300..=399 => Err(VaultError::Wrong(format!(
            "it sends us elsewhere ({}); give the address of a node that answers itself",
            status.as_u16()
        ))),
        other => Err(VaultError::Wrong(format!("it answers {other}"))),
    }
}

fn token(answer: &Value) -> Result<Token, VaultError> {
    let auth = &answer["auth"];
    let (value, lease) = (auth["client_token"].as_str().unwrap_or_default(), auth["lease_duration"].as_u64());
    let renewable = auth["renewable"].as_bool().unwrap_or(false);
    match lease {
        Some(lease) if !value.is_empty() => {
            Ok(Token { value: Secret::new(value), lease: Duration::from_secs(lease), renewable })
        }
        _ => Err(VaultError::Wrong("its answer holds no token; is this Vault?".to_owned())),
    }
}

fn version(answer: &Value) -> Result<Version, VaultError> {
    let wrong = |why: String| Err(VaultError::Wrong(why));
    let (Some(number), Some(members)) =
        (answer["data"]["metadata"]["version"].as_u64(), answer["data"]["data"].as_object())
    else {
        return wrong("its answer holds no version of a secret; is the engine KV version 2?".to_owned());
    };
    if members.len() > MAX_MEMBERS {
        return wrong(format!("the secret has more than {MAX_MEMBERS} members"));
    }
    let mut values = BTreeMap::new();
    for (name, value) in members {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 80 || !name.chars().all(allowed) {
            return wrong("a member's name is not made of 1 to 80 lower-case letters, digits, `-` and `_`".to_owned());
        }
        let Some(text) = value.as_str() else { return wrong(format!("the member `{name}` is no text")) };
        values.insert(name.clone(), Secret::new(text));
    }
    Ok(Version { number, values })
}
