//! Which addresses may be spoken to.
//!
//! A webhook's address is written by people and resolved by DNS; neither may turn the appliance into a way to the
//! metadata service of a cloud or to whatever listens on the link. Link-local, unspecified, multicast and metadata
//! addresses are refused unless a target's options allow them; loopback and private networks are where receivers of a
//! small site are, and allowed. A name is resolved once for a connection, and the connection goes to the addresses
//! that were checked: a second look-up could answer differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{DeliveryError, FailureReason};

/// Metadata services outside of the link-local ranges: Amazon over IPv6, Alibaba, Azure's host, Oracle.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// An address that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is not spoken to because it is {what}; `allow_link_local` or `allow_addresses` permits it")]
pub struct ForbiddenAddress {
    address: IpAddr,
    what: &'static str,
}

/// What a target may be allowed beyond the usual addresses; the default allows nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Link-local addresses are spoken to.
    pub allow_link_local: bool,
    /// These are spoken to, whatever they are.
    pub allow_addresses: Vec<IpAddr>,
}

impl Guard {
    /// Whether this address may be spoken to.
    pub fn check(&self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        let plain = plain(address);
        let Some(what) = special(plain) else { return Ok(()) };
        let allowed = self.allow_addresses.iter().any(|allowed| [address, plain].contains(allowed))
            || (self.allow_link_local && what == LINK_LOCAL);
        if allowed { Ok(()) } else { Err(ForbiddenAddress { address, what }) }
    }

    /// The addresses of a host that may be spoken to, for kinds that open their own connections: connect to these, do
    /// not resolve again.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DeliveryError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| unreachable_name(&error))?.collect();
        self.permitted(found).map_err(|error| DeliveryError::retry(FailureReason::Forbidden, error.to_string()))
    }

    /// One forbidden address among several condemns none of the others; only forbidden ones are an error.
    fn permitted(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
        let mut first_error = None;
        let mut permitted = Vec::with_capacity(found.len());
        for address in found {
            match self.check(address.ip()) {
                Ok(()) => permitted.push(address),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if permitted.is_empty() => Err(error),
            _ => Ok(permitted),
        }
    }
}

fn unreachable_name(error: &std::io::Error) -> DeliveryError {
    DeliveryError::retry(FailureReason::Connection, format!("the name cannot be resolved: {error}"))
}

const LINK_LOCAL: &str = "link-local";

/// What is special about an address, if anything.
fn special(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("a metadata service");
    }
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("unspecified"),
        IpAddr::V4(v4) if v4.is_link_local() => Some(LINK_LOCAL),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Some("no single host"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80 => Some(LINK_LOCAL),
        IpAddr::V6(v6) if v6.is_multicast() => Some("no single host"),
        _ => None,
    }
}

/// The IPv4 address within an IPv6 one that only wraps it: mapped (RFC 4291 section 2.5.5.2), compatible (2.5.5.1),
/// NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::from([a, b, c, d])
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// The guard as the HTTP client asks it.
pub(super) struct GuardedNames(pub(super) Arc<Guard>);

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            // The port is the connector's to fill in.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted = guard.permitted(found)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, address: &str, allowed: bool) {
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(guard.check(address).is_ok(), allowed, "{address} with {guard:?}");
    }

    #[test]
    fn special_addresses_are_refused_in_every_spelling() {
        let guard = Guard::default();
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            check(&guard, address, false);
        }
        for address in ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "192.0.2.1", "fd00::1", "2001:db8::1"] {
            check(&guard, address, true);
        }
    }

    #[test]
    fn what_is_listed_is_spoken_to() {
        let link = Guard { allow_link_local: true, ..Guard::default() };
        check(&link, "169.254.1.1", true);
        check(&link, "fe80::1", true);
        check(&link, "100.100.100.200", false);
        let listed = Guard { allow_addresses: vec!["169.254.1.1".parse().expect("an address")], ..Guard::default() };
        check(&listed, "169.254.1.1", true);
        check(&listed, "::ffff:169.254.1.1", true);
        check(&listed, "169.254.1.2", false);
    }

    #[tokio::test]
    async fn a_forbidden_name_is_told_with_its_address() {
        let error = Guard::default().resolve("169.254.169.254", 80).await.expect_err("forbidden");
        assert_eq!(error.reason(), FailureReason::Forbidden);
        assert!(error.to_string().contains("169.254.169.254 is not spoken to"), "{error}");
        let found = Guard::default().resolve("[::1]", 80).await.expect("loopback");
        assert_eq!(found, ["[::1]:80".parse().expect("an address")]);
    }
}
