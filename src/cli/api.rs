//! A client of the running appliance's API, for commands of operators. Sends the admin key to the address it was given
//! and nowhere else: redirects are not followed. Keeps nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use super::trust::TrustArgs;
use crate::config;
use crate::net::tls;
use crate::secret::Secret;

/// An answer takes no longer: acts on ten thousand letters need some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Streams end by themselves long before; this is for an appliance that vanished.
const STREAM_LIFE: Duration = Duration::from_secs(3_600);

/// A backup with its audit may be gigabytes.
const DOWNLOAD: Duration = Duration::from_secs(3_600);

/// Whether one is there at all shows sooner.
const GREETING: Duration = Duration::from_secs(5);

/// Where the appliance is and what opens it.
#[derive(Debug, Args)]
pub struct ApiArgs {
    /// Address of the API of the running appliance.
    #[arg(long, global = true, value_name = "URL", env = "MUTTD_URL", default_value = "http://127.0.0.1:8090")]
    url: String,
    /// Data directory of the appliance: the admin key is read from its secrets.toml.
    #[arg(long, global = true, value_name = "DIR", env = "MUTTD_DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl ApiArgs {
    /// The appliance's data directory, if it was given.
    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }
}

/// The client.
pub struct Api {
    client: Client,
    url: String,
    key: Secret,
    user: Option<String>,
}

impl Api {
    /// Takes the key from `MUTTD_ADMIN_API_KEY`, else from the data directory; it is never an argument, where others
    /// could see it.
    pub fn new(args: &ApiArgs) -> anyhow::Result<Self> {
        let key = match (std::env::var("MUTTD_ADMIN_API_KEY"), &args.data) {
            (Ok(key), _) if !key.is_empty() => Secret::new(key),
            (_, Some(data)) => config::kept_admin_key(data)?,
            _ => bail!("give the admin key in MUTTD_ADMIN_API_KEY, or the appliance's data directory with --data"),
        };
        tls::use_ring();
        let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy();
        // Without TLS the system's certificates are not read: there may be none.
        let client = if args.url.starts_with("http://") {
            client.tls_certs_only([])
        } else {
            client.tls_backend_preconfigured(args.trust.connector(args.data())?.config())
        };
        let client = client.build().context("no HTTP client can be made")?;
        Ok(Self { client, url: args.url.trim_end_matches('/').to_owned(), key, user: login_name() })
    }

    /// One request below `/api/v2`; an answer that is no success is an error with what the appliance said.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.send(method, path, body, None).await
    }

    /// A request without a body that gives its reason in a header.
    pub async fn ask_with_reason(&self, method: Method, path: &str, reason: Option<&str>) -> anyhow::Result<Value> {
        self.send(method, path, None, reason).await
    }

    /// A request with a body, if there is one, and a reason in a header, if there is one.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        reason: Option<&str>,
    ) -> anyhow::Result<Value> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        if let Some(reason) = reason {
            request = request.header("X-Change-Reason", reason);
        }
        self.answer(request).await
    }

    /// Opens a stream below `/api/v2`; it lasts until the appliance ends it.
    pub async fn stream(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let sent = self.request(Method::GET, path).timeout(STREAM_LIFE).send().await;
        let answer = sent.with_context(|| self.silence())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        Err(refusal(status, &serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Writes the answer to a POST into a new file that only its owner may read. A file that is not whole is removed.
    pub async fn download(&self, path: &str, reason: Option<&str>, file: &Path) -> anyhow::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut request = self.request(Method::POST, path).timeout(DOWNLOAD);
        if let Some(reason) = reason {
            request = request.header("X-Change-Reason", reason);
        }
        let mut answer = request.send().await.with_context(|| self.silence())?;
        let status = answer.status();
        if !status.is_success() {
            let text = answer.text().await.unwrap_or_default();
            return Err(refusal(status, &serde_json::from_str(&text).unwrap_or(Value::Null)));
        }
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let mut into = opened.with_context(|| format!("cannot write `{}`", file.display()))?;
        let written = async {
            while let Some(chunk) = answer.chunk().await.context("the appliance's answer broke off")? {
                into.write_all(&chunk)?;
            }
            into.sync_all()?;
            anyhow::Ok(())
        };
        let written = written.await;
        if written.is_err() {
            drop(std::fs::remove_file(file));
        }
        written
    }

    /// Whether an appliance is there.
    pub async fn answers(&self) -> bool {
        let asked = self.client.get(format!("{}/health", self.url)).timeout(GREETING).send().await;
        asked.is_ok()
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v2{path}", self.url));
        let request = request.header("X-API-KEY", self.key.reveal());
        match &self.user {
            Some(user) => request.header("X-Muttd-User", user),
            None => request,
        }
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let sent = request.send().await;
        let answer = sent.with_context(|| self.silence())?;
        let status = answer.status();
        let text = answer.text().await.context("the appliance's answer broke off")?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() { Ok(value) } else { Err(refusal(status, &value)) }
    }

    fn silence(&self) -> String {
        format!("the appliance at {} does not answer; is it running?", self.url)
    }
}

/// What an answer that is no success says.
fn refusal(status: StatusCode, answer: &Value) -> anyhow::Error {
    let told = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let (error, detail) = (told("error"), told("detail"));
    // A problem without more to say has the same text in both.
    match (error.is_empty(), detail.is_empty() || detail == error) {
        (true, _) => anyhow!("the appliance answered {status}"),
        (false, true) => anyhow!("{error}"),
        (false, false) => anyhow!("{error}: {detail}"),
    }
}

/// Who runs this command, for the change log: the one behind `sudo` if there is one.
fn login_name() -> Option<String> {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    names.into_iter().find(|name| !name.is_empty() && name.is_ascii())
}

/// Percent-encodes everything but letters, digits and `-._~` (RFC 3986 section 2.3).
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_fit_for_an_address() {
        assert_eq!(encode("a b&c/\u{e9}-1.2_~"), "a%20b%26c%2F%C3%A9-1.2_~");
    }
}
