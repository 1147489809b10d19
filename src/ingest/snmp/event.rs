//! A notification becomes an event: v1 by RFC 3584 section 3.1, values as text, a line that a rule can match.
//!
//! Pure functions. Nothing is left out: every variable keeps its place, its type and its full value.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use super::ber::{self, BerError};
use super::message::{Kind, Message, RawVarbind, TrapV1};
use super::names::name_of;
use crate::model::{Event, Flag, Oid, Trap, VarKind, Varbind};

const SYS_UPTIME_0: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID_0: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const SNMP_TRAP_ADDRESS_0: &[u32] = &[1, 3, 6, 1, 6, 3, 18, 1, 3, 0];
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
/// The v1 number for traps that their enterprise defines.
const ENTERPRISE_SPECIFIC: i64 = 6;

/// Fills in what a notification says. `event` has its identity and source already; the sender's address is taken from
/// there where the notification names none.
pub(super) fn fill(event: &mut Event, message: &Message<'_>) -> Result<(), BerError> {
    let mut trap = match &message.kind {
        Kind::TrapV1(header) => trap_v1(header, &message.varbinds)?,
        Kind::TrapV2 => trap_v2(&message.varbinds)?,
        Kind::Inform { .. } => Trap { inform: true, ..trap_v2(&message.varbinds)? },
    };
    trap.agent = trap.agent.or_else(|| trap_address(&message.varbinds));
    event.hostname = match trap.agent {
        Some(agent) => agent.to_string().into(),
        None => {
            event.flags.push(Flag::HostFromPeer);
            event.source.peer.to_string().into()
        }
    };
    event.message = line(&trap).into();
    event.trap = Some(Box::new(trap));
    Ok(())
}

fn trap_v1(header: &TrapV1, varbinds: &[RawVarbind<'_>]) -> Result<Trap, BerError> {
    let number = |value: i64| u32::try_from(value).map_err(|_| BerError::OutOfRange);
    let oid = match header.generic {
        generic @ 0..ENTERPRISE_SPECIFIC => Oid::new(SNMP_TRAPS.to_vec()).child(&[number(generic + 1)?]),
        ENTERPRISE_SPECIFIC => header.enterprise.child(&[0, number(header.specific)?]),
        _ => return Err(BerError::OutOfRange),
    };
    Ok(Trap {
        oid,
        varbinds: varbinds.iter().map(varbind).collect::<Result<_, _>>()?,
        agent: named(header.agent),
        uptime: Some(header.uptime),
        version: "1".to_owned(),
        inform: false,
    })
}

/// sysUpTime.0 and snmpTrapOID.0 come first (RFC 3416 section 4.2.6) and are then not variables of their own. A sender
/// that puts them elsewhere, or leaves them out, is still heard.
fn trap_v2(varbinds: &[RawVarbind<'_>]) -> Result<Trap, BerError> {
    let mut rest = varbinds;
    let mut uptime = None;
    if let [first, after @ ..] = rest
        && first.oid.arcs() == SYS_UPTIME_0
        && first.tag == ber::TIME_TICKS
    {
        uptime = u32::try_from(ber::unsigned(first.content)?).ok();
        rest = after;
    }
    let is_trap_oid =
        |varbind: &RawVarbind<'_>| varbind.oid.arcs() == SNMP_TRAP_OID_0 && varbind.tag == ber::OBJECT_IDENTIFIER;
    let oid = match rest {
        [first, after @ ..] if is_trap_oid(first) => {
            rest = after;
            ber::oid(first.content)?
        }
        _ => match rest.iter().find(|varbind| is_trap_oid(varbind)) {
            Some(elsewhere) => ber::oid(elsewhere.content)?,
            // zeroDotZero (RFC 2578 appendix): the OID that stands for none.
            None => Oid::new(vec![0, 0]),
        },
    };
    let varbinds = rest.iter().map(varbind).collect::<Result<_, _>>()?;
    Ok(Trap { oid, varbinds, agent: None, uptime, version: "2c".to_owned(), inform: false })
}

/// The agent a proxy speaks for (RFC 3584 section 3.1, item 4).
fn trap_address(varbinds: &[RawVarbind<'_>]) -> Option<IpAddr> {
    let varbind = varbinds.iter().find(|varbind| varbind.oid.arcs() == SNMP_TRAP_ADDRESS_0)?;
    let octets = <[u8; 4]>::try_from(varbind.content).ok().filter(|_| varbind.tag == ber::IP_ADDRESS)?;
    named(octets.into())
}

/// 0.0.0.0 says that the agent does not know its own address.
fn named(address: Ipv4Addr) -> Option<IpAddr> {
    (!address.is_unspecified()).then_some(IpAddr::V4(address))
}

fn varbind(raw: &RawVarbind<'_>) -> Result<Varbind, BerError> {
    let (kind, value) = value(raw.tag, raw.content)?;
    Ok(Varbind { name: name_of(&raw.oid), oid: raw.oid.clone(), kind, value })
}

/// A value as text. Opaque and types that SNMP does not have are kept as bytes.
fn value(tag: u8, content: &[u8]) -> Result<(VarKind, String), BerError> {
    let number = |kind| ber::unsigned(content).map(|number| (kind, number.to_string()));
    Ok(match tag {
        ber::INTEGER => (VarKind::Integer, ber::signed(content)?.to_string()),
        ber::OCTET_STRING => (VarKind::OctetString, octets(content)),
        ber::OBJECT_IDENTIFIER => (VarKind::ObjectIdentifier, ber::oid(content)?.to_string()),
        ber::IP_ADDRESS => (VarKind::IpAddress, address(content)),
        ber::COUNTER32 => number(VarKind::Counter32)?,
        ber::GAUGE32 | ber::UINTEGER32 => number(VarKind::Gauge32)?,
        ber::TIME_TICKS => number(VarKind::TimeTicks)?,
        ber::COUNTER64 => number(VarKind::Counter64)?,
        ber::NULL => (VarKind::Null, String::new()),
        tag if ber::EXCEPTIONS.contains(&tag) => (VarKind::Null, String::new()),
        _ => (VarKind::Opaque, hex(content)),
    })
}

/// Text if it is UTF-8 and reads as text. Binary values such as MAC addresses are sometimes UTF-8 by chance; a quarter of
/// control characters gives them away.
fn octets(content: &[u8]) -> String {
    let is_control = |byte: &&u8| **byte < b' ' && !matches!(**byte, b'\t' | b'\n' | b'\r');
    match std::str::from_utf8(content) {
        Ok(text) if content.iter().filter(is_control).count() * 4 <= content.len() => text.to_owned(),
        _ => hex(content),
    }
}

/// Four bytes are an IPv4 address, sixteen an IPv6 one, as some agents send it.
fn address(content: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(content) {
        return Ipv4Addr::from(v4).to_string();
    }
    <[u8; 16]>::try_from(content).map_or_else(|_| hex(content), |v6| IpAddr::from(v6).to_string())
}

fn hex(content: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(4 + content.len() * 2);
    text.push_str("hex:");
    for byte in content {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
    text
}

/// `linkDown: ifIndex.2=2, ifDescr.2=eth0`: names where they are known, so that people and rules can read it.
fn line(trap: &Trap) -> String {
    let values: usize = trap.varbinds.iter().map(|varbind| varbind.value.len() + 32).sum();
    let mut line = String::with_capacity(32 + values);
    line.push_str(&trap_name(&trap.oid).unwrap_or_else(|| trap.oid.to_string()));
    for (index, varbind) in trap.varbinds.iter().enumerate() {
        line.push_str(if index == 0 { ": " } else { ", " });
        // Writing to a String cannot fail.
        let _ = match &varbind.name {
            Some(name) => write!(line, "{name}={}", varbind.value),
            None => write!(line, "{}={}", varbind.oid, varbind.value),
        };
    }
    line
}

/// Traps defined in SMIv1 are registered without the zero that the mapping puts before their number.
fn trap_name(oid: &Oid) -> Option<String> {
    name_of(oid).or_else(|| match oid.arcs() {
        [enterprise @ .., 0, specific] => name_of(&Oid::new(enterprise.to_vec()).child(&[*specific])),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::decode;
    use super::super::message::tests::{link_down, tlv, v2c};
    use super::*;
    use crate::model::{EventIds, Protocol, Source, Timestamp};

    fn event(datagram: &[u8]) -> Event {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let source = Source { protocol: Protocol::SnmpTrap, peer: [192, 0, 2, 9].into() };
        let mut event = Event::new(EventIds::new(1).next(now), now, source);
        fill(&mut event, &decode(datagram).expect("a message")).expect("an event");
        event
    }

    fn v1(agent: [u8; 4], generic: u8, specific: u8, varbinds: &[u8]) -> Vec<u8> {
        let header = [
            tlv(6, &[0x2b, 6, 1, 4, 1, 9]),
            tlv(0x40, &agent),
            tlv(2, &[generic]),
            tlv(2, &[specific]),
            tlv(0x43, &[1, 0]),
            tlv(0x30, varbinds),
        ];
        tlv(0x30, &[tlv(2, &[0]), tlv(4, b"public"), tlv(0xa4, &header.concat())].concat())
    }

    fn pair(oid: &[u8], value: Vec<u8>) -> Vec<u8> {
        tlv(0x30, &[tlv(6, oid), value].concat())
    }

    #[test]
    fn v1_traps_are_mapped_as_rfc_3584_says() {
        for (generic, specific, expected) in [
            (0, 0, "1.3.6.1.6.3.1.1.5.1"),
            (2, 9, "1.3.6.1.6.3.1.1.5.3"),
            (5, 0, "1.3.6.1.6.3.1.1.5.6"),
            (6, 17, "1.3.6.1.4.1.9.0.17"),
        ] {
            let event = event(&v1([10, 0, 0, 1], generic, specific, &[]));
            let trap = event.trap.expect("a trap");
            assert_eq!((trap.oid.to_string().as_str(), trap.version.as_str()), (expected, "1"));
            assert_eq!(
                (event.hostname.as_str(), trap.agent, trap.uptime),
                ("10.0.0.1", Some([10, 0, 0, 1].into()), Some(256))
            );
            assert!(event.flags.is_empty());
        }
    }

    #[test]
    fn the_host_is_the_agent_then_the_trap_address_then_the_peer() {
        let address = pair(&[0x2b, 6, 1, 6, 3, 18, 1, 3, 0], tlv(0x40, &[10, 0, 0, 2]));
        for (datagram, host, is_peer) in [
            (v1([10, 0, 0, 1], 0, 0, &address), "10.0.0.1", false),
            (v1([0, 0, 0, 0], 0, 0, &address), "10.0.0.2", false),
            (v1([0, 0, 0, 0], 0, 0, &[]), "192.0.2.9", true),
            (v2c(0xa7, "public", 1, &[link_down(), address.clone()].concat()), "10.0.0.2", false),
            (v2c(0xa7, "public", 1, &link_down()), "192.0.2.9", true),
        ] {
            let event = event(&datagram);
            assert_eq!((event.hostname.as_str(), event.has(Flag::HostFromPeer)), (host, is_peer));
        }
    }

    #[test]
    fn variables_keep_order_repeats_types_and_values() {
        let oid = [0x2b, 6, 1, 2, 1, 2, 2, 1, 2, 7];
        let values = [
            (tlv(2, &[0xff]), "INTEGER", "-1"),
            (tlv(4, "grün\n".as_bytes()), "OCTET STRING", "grün\n"),
            (tlv(4, &[0xff, 0]), "OCTET STRING", "hex:ff00"),
            (tlv(4, &[0, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e]), "OCTET STRING", "hex:001a2b3c4d5e"),
            (tlv(4, &[]), "OCTET STRING", ""),
            (tlv(6, &[0x2b, 6, 1]), "OBJECT IDENTIFIER", "1.3.6.1"),
            (tlv(0x40, &[192, 0, 2, 5]), "IpAddress", "192.0.2.5"),
            (tlv(0x41, &[0, 0xff, 0xff, 0xff, 0xff]), "Counter32", "4294967295"),
            (tlv(0x42, &[0x80]), "Gauge32", "128"),
            (tlv(0x43, &[1]), "TimeTicks", "1"),
            (tlv(0x46, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "Counter64", "18446744073709551615"),
            (tlv(0x44, &[0x9f, 0x78]), "Opaque", "hex:9f78"),
            (tlv(5, &[]), "NULL", ""),
            (tlv(0x81, &[]), "NULL", ""),
        ];
        let bytes: Vec<u8> = values.iter().flat_map(|(value, _, _)| pair(&oid, value.clone())).collect();
        let trap = event(&v2c(0xa7, "public", 1, &[link_down(), bytes].concat())).trap.expect("a trap");
        let found: Vec<_> = trap.varbinds.iter().map(|varbind| (varbind.kind.name(), varbind.value.as_str())).collect();
        assert_eq!(found, values.iter().map(|(_, kind, value)| (*kind, *value)).collect::<Vec<_>>());
        assert!(trap.varbinds.iter().all(|varbind| varbind.name.as_deref() == Some("ifDescr.7")));
        assert_eq!(
            (trap.oid.to_string().as_str(), trap.uptime, trap.version.as_str()),
            ("1.3.6.1.6.3.1.1.5.3", Some(5), "2c")
        );
    }

    #[test]
    fn the_message_is_a_line_of_names_and_values() {
        let varbinds = [
            link_down(),
            pair(&[0x2b, 6, 1, 2, 1, 2, 2, 1, 2, 2], tlv(4, b"eth0")),
            pair(&[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 5], tlv(2, &[2])),
        ];
        assert_eq!(
            event(&v2c(0xa7, "public", 1, &varbinds.concat())).message,
            "linkDown: ifDescr.2=eth0, 1.3.6.1.4.1.99999.5=2"
        );
        // Defined in SMIv1 as 1.3.6.1.4.1.9.1; the mapping makes 1.3.6.1.4.1.9.0.1 of it.
        assert_eq!(event(&v1([1, 1, 1, 1], 6, 1, &[])).message, "tcpConnectionClose");
        assert_eq!(event(&v1([1, 1, 1, 1], 6, 77, &[])).message, "1.3.6.1.4.1.9.0.77");
    }

    #[test]
    fn a_notification_without_its_trap_oid_in_front_is_still_heard() {
        let eth = pair(&[0x2b, 6, 1, 2, 1, 2, 2, 1, 2, 2], tlv(4, b"eth0"));
        let trap = event(&v2c(0xa6, "public", 1, &eth)).trap.expect("a trap");
        assert_eq!((trap.oid.to_string().as_str(), trap.varbinds.len(), trap.inform), ("0.0", 1, true));
        let trap = event(&v2c(0xa7, "public", 1, &[eth, link_down()].concat())).trap.expect("a trap");
        assert_eq!((trap.oid.to_string().as_str(), trap.varbinds.len()), ("1.3.6.1.6.3.1.1.5.3", 3));
    }
}
