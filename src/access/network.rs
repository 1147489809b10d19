//! A network that a key may be used from, written as `192.0.2.0/24`, `2001:db8::/32` or a single address. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write one as 192.0.2.0/24, 2001:db8::/32 or as a single address")]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether `address` is in it; an IPv4 address in its IPv6 form counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u32::from(self.bits) == 0 || (network.to_bits() ^ address.to_bits()) >> (32 - u32::from(self.bits)) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                u32::from(self.bits) == 0
                    || (network.to_bits() ^ address.to_bits()) >> (128 - u32::from(self.bits)) == 0
            }
            _ => false,
        }
    }

    /// Reads a list separated by commas or blanks.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidNetwork> {
        text.split([',', ' ', '\n', '\r', '\t']).filter(|word| !word.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.chars().take(60).collect());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(invalid)?,
            None => most,
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_network_only() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), expected, "{network} {address}");
        };
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "192.0.3.0", false);
        check("192.0.2.77/24", "192.0.2.1", true);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("192.0.2.0/24", "::ffff:192.0.2.9", true);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "2001:db8::1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "a", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/", "192.0.2.0/-1", "192.0.2/24"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!(Network::parse_list("10.0.0.0/8, ::1").expect("networks").len(), 2);
        assert!(Network::parse_list("10.0.0.0/8,x").expect_err("x").to_string().contains("`x`"));
    }
}
