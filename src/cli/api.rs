//! Commands that ask a running appliance: where it is, the key that opens its API, and one call. Keeps nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::send::http::{Client, Endpoint};
use crate::config::kept_admin_key;

/// Longer than anything the API does, a test of a slow target included.
const PATIENCE: Duration = Duration::from_secs(620);

/// Where the appliance is, and the key for it.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Address of the web UI and API.
    #[arg(long, value_name = "URL", env = "MUTTD_URL", default_value = "http://127.0.0.1:8090")]
    url: String,
    /// Admin API key; without it the one kept in the data directory.
    #[arg(long, value_name = "KEY", env = "MUTTD_ADMIN_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Data directory of the appliance, for the key made at its first start.
    #[arg(long, value_name = "DIR", env = "MUTTD_DATA")]
    data: Option<PathBuf>,
    /// Print the API's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The API of a running appliance.
pub struct Api {
    client: Client,
    key: String,
}

impl Api {
    /// Connects with the first call.
    pub fn new(args: &ApiArgs) -> anyhow::Result<Self> {
        let endpoint = Endpoint::parse(&args.url, "/")?;
        let kept = || args.data.as_deref().map(kept_admin_key).transpose().map(Option::flatten);
        let key = match args.key.clone().filter(|key| !key.is_empty()) {
            Some(key) => key,
            None => {
                kept()?.context("no key: give --key or MUTTD_ADMIN_API_KEY, or --data DIR to use the one kept there")?
            }
        };
        Ok(Self { client: Client::new(&endpoint.address, PATIENCE), key })
    }

    /// One call of `/api/v2`; the error is what the appliance says is wrong.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        reason: &str,
    ) -> anyhow::Result<Value> {
        let mut headers = vec![("x-api-key", self.key.as_str())];
        if !reason.is_empty() {
            headers.push(("x-change-reason", reason));
        }
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let answer = self.client.request(method, &format!("/api/v2{path}"), &headers, bytes).await?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !answer.status.is_success() {
            let text = |name: &str| value[name].as_str().unwrap_or_default();
            match (text("error"), text("detail")) {
                ("", _) => bail!("the appliance answered {}", answer.status),
                (error, "") => bail!("{error}"),
                (error, detail) => bail!("{error}: {detail}"),
            }
        }
        Ok(value)
    }
}
