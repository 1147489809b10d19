//! Where a request comes from: the sender's address, whether it came over TLS, and whether one of our own pages sent it.
//! Headers that a proxy sets are believed only from this machine. Keeps no state.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{Extensions, HeaderMap};

use crate::net::tls::OverTls;

/// The address that the socket saw; unspecified where the server does not tell.
fn socket_peer(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip().to_canonical())
}

/// Headers by which a proxy says that it passes a request on.
const PROXY_HEADERS: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];

/// The sender's address: what a proxy on this machine says, else what the socket saw. What a proxy says and we do not
/// understand is nobody's address, not that of this machine.
pub(super) fn peer(extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
    let peer = socket_peer(extensions);
    // The last entry of the last line is the one our own proxy added, whether to the list that the client sent or below
    // it; those before it are whatever the client said.
    match headers.get_all("x-forwarded-for").iter().next_back() {
        Some(list) if peer.is_loopback() => {
            let last = list.to_str().ok().and_then(|list| list.rsplit(',').next());
            last.and_then(|last| address(last.trim())).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        }
        _ => peer,
    }
}

/// An address as proxies write it: some add the port, some put brackets around.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

/// Whether the sender is on this machine and no proxy stands between.
pub(super) fn is_local(extensions: &Extensions, headers: &HeaderMap) -> bool {
    socket_peer(extensions).is_loopback() && !PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Whether the browser speaks TLS, to us or to a proxy on this machine.
pub(super) fn is_secure(extensions: &Extensions, headers: &HeaderMap) -> bool {
    extensions.get::<OverTls>().is_some()
        || (socket_peer(extensions).is_loopback()
            && text(headers, "x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https")))
}

/// Whether a request that changes something comes from one of our own pages, as far as the browser tells. Programs
/// that are no browsers tell nothing; their requests are judged by their token alone.
pub(super) fn is_own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = text(headers, "sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    origin.is_some() && origin == host
}

/// The host part of the address the browser used, if it is harmless to show in an example command.
pub(super) fn shown_host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => host.split(':').next()?,
    };
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(harmless)).then_some(name)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn check(pairs: &[(&'static str, &'static str)], expected: bool) {
        assert_eq!(is_own_page(&headers(pairs)), expected, "{pairs:?}");
    }

    #[test]
    fn a_form_on_another_site_is_told_apart() {
        check(&[], true);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("origin", "http://mutt:8090"), ("host", "mutt:8090")], true);
        check(&[("origin", "http://evil"), ("host", "mutt:8090")], false);
        check(&[("origin", "null"), ("host", "mutt:8090")], false);
    }

    #[test]
    fn a_proxy_is_believed_only_on_this_machine() {
        let sent = headers(&[("x-forwarded-for", "1.2.3.4, 203.0.113.9"), ("x-forwarded-proto", "https")]);
        let from = |address: &str| {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo::<SocketAddr>(address.parse().expect("an address")));
            extensions
        };
        let (near, far) = (from("127.0.0.1:9"), from("198.51.100.1:9"));
        assert_eq!(peer(&near, &sent).to_string(), "203.0.113.9");
        assert_eq!(peer(&far, &sent).to_string(), "198.51.100.1");
        let mut lines = headers(&[("x-forwarded-for", "192.0.2.1")]);
        let mut says = |text: &'static str| {
            lines.append("x-forwarded-for", HeaderValue::from_static(text));
            peer(&near, &lines).to_string()
        };
        // What the client sent in a line of its own does not hide what the proxy adds below it.
        assert_eq!(says("203.0.113.9"), "203.0.113.9");
        assert_eq!(says("203.0.113.8:5060"), "203.0.113.8");
        assert_eq!(says("[2001:db8::7]:443"), "2001:db8::7");
        assert_eq!(says("2001:db8::8, [2001:db8::9]"), "2001:db8::9");
        assert_eq!(says("unknown"), "0.0.0.0");
        assert!(is_secure(&near, &sent) && !is_secure(&far, &sent));
        let mut inside = from("198.51.100.1:9");
        inside.insert(OverTls);
        assert!(is_secure(&inside, &HeaderMap::new()));
        assert!(is_local(&near, &HeaderMap::new()) && !is_local(&near, &sent));
        for header in PROXY_HEADERS {
            assert!(!is_local(&near, &headers(&[(header, "127.0.0.1")])), "{header}");
        }
    }
}
