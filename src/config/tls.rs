//! TLS of the listeners, as it is configured: which listener speaks it, with which files, and that nothing is served in
//! clear to others by accident. Reads no file itself; that is [`crate::net::tls`]'s work.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::values::Values;
use crate::net::tls::{ClientCertificates, PairFiles, TlsListener, TlsPlan, TlsSettings};

/// The plan for every listener that can speak TLS.
pub(super) fn read(values: &Values, data_dir: &Path) -> Result<TlsPlan, ConfigError> {
    let listeners = [
        (TlsListener::Web, "http", values.text("http", "tls") == "on"),
        (TlsListener::Ingest, "ingest", values.text("ingest", "tls") == "on"),
        (TlsListener::Syslog, "syslog", values.address("syslog", "tls_listen").is_some()),
    ];
    let listeners = listeners.map(|(listener, section, enabled)| Ok((listener, settings(values, section, enabled)?)));
    let plan = TlsPlan {
        data_dir: data_dir.to_owned(),
        names: values.list("tls", "names"),
        listeners: listeners.into_iter().collect::<Result<_, ConfigError>>()?,
    };
    for (section, enabled) in [("http", values.text("http", "tls")), ("ingest", values.text("ingest", "tls"))] {
        if enabled == "off" && !values.truth(section, "allow_plain") {
            refuse_plain(section, values.address(section, "listen"))?;
        }
    }
    Ok(plan)
}

/// Keys, passwords and events would be readable on the way.
fn refuse_plain(section: &str, address: Option<SocketAddr>) -> Result<(), ConfigError> {
    let Some(address) = address.filter(|address| !address.ip().to_canonical().is_loopback()) else { return Ok(()) };
    let upper = section.to_ascii_uppercase();
    Err(ConfigError(format!(
        "`listen` in [{section}] is {address}, which others reach, and `tls` is off: keys and passwords would travel in \
         clear. Switch TLS on (`tls = \"on\"` in [{section}], or MUTTD_{upper}_TLS=on), or listen on 127.0.0.1 and let a \
         proxy encrypt, or allow it (`allow_plain = true`, or MUTTD_{upper}_ALLOW_PLAIN=true)"
    )))
}

fn settings(values: &Values, section: &'static str, enabled: bool) -> Result<TlsSettings, ConfigError> {
    let files = match pair(values, section, "tls_cert", "tls_key")? {
        Some(own) => Some(own),
        None => pair(values, "tls", "cert", "key")?,
    };
    let clients = match values.text(section, "client_certificates").as_str() {
        "optional" => ClientCertificates::Optional,
        "required" => ClientCertificates::Required,
        _ => ClientCertificates::Off,
    };
    let client_ca = Some(values.text("tls", "client_ca")).filter(|file| !file.is_empty()).map(PathBuf::from);
    if enabled && clients != ClientCertificates::Off && client_ca.is_none() {
        return Err(ConfigError(format!(
            "`client_certificates` in [{section}] is {}, but `client_ca` in [tls] does not say who signs them",
            clients.name()
        )));
    }
    Ok(TlsSettings { enabled, files, clients, client_ca })
}

fn pair(
    values: &Values,
    section: &'static str,
    certificate: &'static str,
    key: &'static str,
) -> Result<Option<PairFiles>, ConfigError> {
    let (named, its_key) = (values.text(section, certificate), values.text(section, key));
    match (named.is_empty(), its_key.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(PairFiles { certificate: named.into(), key: its_key.into() })),
        _ => Err(ConfigError(format!("`{certificate}` and `{key}` in [{section}] belong together: give both or none"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(env: &[(&str, &str)]) -> Result<TlsPlan, ConfigError> {
        let variable = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        read(&Values::read(None, variable)?, Path::new("/data"))
    }

    #[test]
    fn nothing_is_served_in_clear_to_others_by_accident() {
        let check = |env: &[(&str, &str)], fault: Option<&str>| match (plan(env), fault) {
            (Ok(_), None) => {}
            (Err(error), Some(section)) => {
                for part in [section, "TLS=on", "127.0.0.1", "ALLOW_PLAIN=true"] {
                    assert!(error.to_string().contains(part), "{error}");
                }
            }
            (outcome, _) => panic!("{env:?}: {outcome:?}"),
        };
        check(&[], None);
        check(&[("MUTTD_HTTP_LISTEN", "[::1]:8090")], None);
        check(&[("MUTTD_HTTP_LISTEN", ":8090")], Some("[http]"));
        check(&[("MUTTD_INGEST_LISTEN", "192.0.2.7:8080")], Some("[ingest]"));
        check(&[("MUTTD_INGEST_LISTEN", ":8080"), ("MUTTD_INGEST_TLS", "on")], None);
        check(&[("MUTTD_HTTP_LISTEN", ":8090"), ("MUTTD_HTTP_ALLOW_PLAIN", "true")], None);
        check(&[("MUTTD_HTTP_LISTEN", "")], None);
    }

    #[test]
    fn a_listener_has_its_own_certificate_or_the_shared_one_or_one_made_here() {
        let shared = [("MUTTD_TLS_CERT", "/c"), ("MUTTD_TLS_KEY", "/k")];
        let own = [("MUTTD_SYSLOG_TLS_CERT", "/own.c"), ("MUTTD_SYSLOG_TLS_KEY", "/own.k")];
        let files = |plan: &TlsPlan, listener| plan.of(listener).and_then(|settings| settings.files.clone());
        let pair = |certificate: &str, key: &str| PairFiles { certificate: certificate.into(), key: key.into() };
        assert_eq!(files(&plan(&[]).expect("valid"), TlsListener::Web), None);
        let both = plan(&[shared, own].concat()).expect("valid");
        assert_eq!(files(&both, TlsListener::Web), Some(pair("/c", "/k")));
        assert_eq!(files(&both, TlsListener::Syslog), Some(pair("/own.c", "/own.k")));
        assert!(plan(&shared[..1]).expect_err("half a pair").to_string().contains("belong together"));
        let required = [("MUTTD_HTTP_TLS", "on"), ("MUTTD_HTTP_CLIENT_CERTIFICATES", "required")];
        assert!(plan(&required).expect_err("no authority").to_string().contains("client_ca"));
    }
}
