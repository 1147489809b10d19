//! HTTP towards services that the configuration names: a tracing collector, a Prometheus server, a login provider.
//!
//! No redirects (an answer must not choose whom we speak to), no proxy, whole requests within a time-out, bodies of bounded
//! length. Addresses come from the configuration file or its environment alone, which only the appliance's administrator
//! writes; nothing that arrives over the network can name one. Keeps nothing but open connections.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Response, Url, redirect};

use super::tls;

/// Checks an address; `why` is for people and does not repeat it, because it may hold a password.
pub fn check_address(address: &str) -> Result<(), String> {
    let url = Url::parse(address.trim()).map_err(|error| format!("it is no address ({error})"))?;
    match url.scheme() {
        "http" | "https" if !url.has_host() => Err("it names no host".to_owned()),
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Err("it must hold no user and no password".to_owned())
        }
        "http" | "https" => Ok(()),
        scheme => Err(format!("`{scheme}:` is not spoken here; use https:// or http://")),
    }
}

/// A client for `address`, which trusts the system's authorities, or only those of `ca_file`.
pub fn client(address: &str, ca_file: Option<&Path>, timeout: Duration) -> Result<Client, String> {
    check_address(address)?;
    tls::use_ring();
    let builder = Client::builder()
        .user_agent(concat!("muttd/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .redirect(redirect::Policy::none())
        .no_proxy();
    let builder = match ca_file {
        // Without TLS the system's certificates are not read: there may be none.
        _ if address.trim().starts_with("http://") => builder.tls_certs_only([]),
        None => builder,
        Some(file) => {
            let pem = std::fs::read(file).map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            let wrong = |_| format!("`{}` holds no PEM certificates", file.display());
            builder.tls_certs_only(certificates.map_err(wrong)?)
        }
    };
    builder.build().map_err(|error| format!("no HTTP client can be made: {}", in_words(&error)))
}

/// The body of an answer, unless it is longer than `most` bytes.
pub async fn body(mut answer: Response, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| in_words(&error.without_url()))? {
        if bytes.len() + chunk.len() > most {
            return Err(format!("its answer has more than {most} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Why there was no answer, in one line and without the address.
pub fn silence(error: reqwest::Error) -> String {
    in_words(&error.without_url())
}

fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_without_credentials_are_spoken_to() {
        let check = |address: &str, ok: bool| assert_eq!(check_address(address).is_ok(), ok, "{address}");
        check("http://127.0.0.1:9090", true);
        check("https://collector.example/v1/traces", true);
        check("https://me:pass@collector.example/", false);
        check("file:///etc/passwd", false);
        check("collector:4318", false);
        check("", false);
    }

    #[test]
    fn authorities_that_cannot_be_read_are_told() {
        let timeout = Duration::from_secs(1);
        let missing = client("https://a.example", Some(Path::new("/nowhere/ca.pem")), timeout);
        assert!(missing.is_err_and(|why| why.contains("/nowhere/ca.pem")));
        assert!(client("http://a.example", None, timeout).is_ok());
    }
}
