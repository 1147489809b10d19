//! SNMP messages that notify: v1 traps (RFC 1157 section 4.1.6), v2c traps and informs (RFC 3416 sections 4.2.6, 4.2.7).
//!
//! Pure functions over one datagram; nothing is copied but object identifiers. Any bytes give a message or an error.

use std::net::Ipv4Addr;

use super::ber::{self, BerError, Reader};
use crate::ingest::DropReason;
use crate::model::Oid;

/// PDU tags.
const TRAP_V1: u8 = 0xa4;
const INFORM: u8 = 0xa6;
const TRAP_V2: u8 = 0xa7;
const RESPONSE: u8 = 0xa2;

/// Variables in one message, at most. The smallest takes 7 bytes, so a datagram could hold 9,000; no device sends even a
/// tenth of this.
const MAX_VARBINDS: usize = 2_048;

/// Why a datagram is no notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoMessage {
    #[error("not a valid SNMP message: {0}")]
    Malformed(#[from] BerError),
    #[error("an SNMP version other than 1 and 2c")]
    Version,
    #[error("an SNMP message that is no trap and no inform")]
    NotANotification,
}

impl NoMessage {
    pub(super) const fn reason(self) -> DropReason {
        match self {
            Self::Malformed(_) => DropReason::Malformed,
            Self::Version => DropReason::UnsupportedVersion,
            Self::NotANotification => DropReason::NotANotification,
        }
    }
}

/// A variable as it was sent.
#[derive(Debug)]
pub(super) struct RawVarbind<'a> {
    pub(super) oid: Oid,
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

/// What a v1 trap has in place of a trap OID.
#[derive(Debug)]
pub(super) struct TrapV1 {
    pub(super) enterprise: Oid,
    pub(super) agent: Ipv4Addr,
    pub(super) generic: i64,
    pub(super) specific: i64,
    pub(super) uptime: u32,
}

/// What kind of notification it is.
#[derive(Debug)]
pub(super) enum Kind {
    TrapV1(TrapV1),
    TrapV2,
    /// With the answer to send once it is safe.
    Inform {
        answer: Vec<u8>,
    },
}

/// A notification, not yet known to be from a friend.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) community: &'a [u8],
    pub(super) kind: Kind,
    pub(super) varbinds: Vec<RawVarbind<'a>>,
}

/// Decodes a datagram. Bytes after the message are ignored, as some agents pad theirs.
pub(super) fn decode(datagram: &[u8]) -> Result<Message<'_>, NoMessage> {
    let mut outer = Reader::new(datagram);
    let whole = outer.expect(ber::SEQUENCE)?;
    let mut message = Reader::new(whole);
    let version = ber::signed(message.expect(ber::INTEGER)?)?;
    if !(0..=1).contains(&version) {
        return Err(NoMessage::Version);
    }
    let community = message.expect(ber::OCTET_STRING)?;
    let pdu_bytes = message.remaining();
    let (tag, content) = message.next()?;
    let mut pdu = Reader::new(content);
    match (version, tag) {
        (0, TRAP_V1) => {
            let kind = Kind::TrapV1(trap_v1(&mut pdu)?);
            Ok(Message { community, kind, varbinds: varbinds(&mut pdu)? })
        }
        (1, TRAP_V2 | INFORM) => {
            let numbers = [pdu.expect(ber::INTEGER)?, pdu.expect(ber::INTEGER)?, pdu.expect(ber::INTEGER)?];
            for number in numbers {
                ber::signed(number)?;
            }
            let varbinds = varbinds(&mut pdu)?;
            let kind = if tag == INFORM {
                Kind::Inform { answer: answer(datagram, whole, pdu_bytes, [numbers[1], numbers[2]]) }
            } else {
                Kind::TrapV2
            };
            Ok(Message { community, kind, varbinds })
        }
        _ => Err(NoMessage::NotANotification),
    }
}

fn trap_v1(pdu: &mut Reader<'_>) -> Result<TrapV1, BerError> {
    let enterprise = ber::oid(pdu.expect(ber::OBJECT_IDENTIFIER)?)?;
    let agent = pdu.expect(ber::IP_ADDRESS)?;
    let agent = <[u8; 4]>::try_from(agent).map_err(|_| BerError::OutOfRange)?.into();
    let generic = ber::signed(pdu.expect(ber::INTEGER)?)?;
    let specific = ber::signed(pdu.expect(ber::INTEGER)?)?;
    // A value beyond 32 bits is a sender's mistake that costs nothing but the uptime's meaning.
    let uptime = ber::unsigned(pdu.expect(ber::TIME_TICKS)?)? as u32;
    Ok(TrapV1 { enterprise, agent, generic, specific, uptime })
}

fn varbinds<'a>(pdu: &mut Reader<'a>) -> Result<Vec<RawVarbind<'a>>, BerError> {
    let mut list = Reader::new(pdu.expect(ber::SEQUENCE)?);
    let mut varbinds = Vec::new();
    while !list.is_empty() {
        if varbinds.len() == MAX_VARBINDS {
            return Err(BerError::OutOfRange);
        }
        let mut pair = Reader::new(list.expect(ber::SEQUENCE)?);
        let oid = ber::oid(pair.expect(ber::OBJECT_IDENTIFIER)?)?;
        let (tag, content) = pair.next()?;
        varbinds.push(RawVarbind { oid, tag, content });
    }
    Ok(varbinds)
}

/// The Response to an inform is the inform itself with another PDU tag and no error (RFC 3416 section 4.2.7): the bytes
/// are copied, so that whatever the sender put into its variables comes back unchanged. All slices are parts of
/// `datagram`; `message` is the content of its outermost sequence, `pdu` starts with the PDU's tag.
fn answer(datagram: &[u8], message: &[u8], pdu: &[u8], error_fields: [&[u8]; 2]) -> Vec<u8> {
    let offset = |part: &[u8]| part.as_ptr() as usize - datagram.as_ptr() as usize;
    let mut bytes = datagram[..offset(message) + message.len()].to_vec();
    bytes[offset(pdu)] = RESPONSE;
    for field in error_fields {
        let start = offset(field);
        bytes[start..start + field.len()].fill(0);
    }
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Encodes a value: what tests build their messages from.
    pub(in crate::ingest::snmp) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match content.len() {
            length @ 0..128 => bytes.push(length as u8),
            length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        bytes.extend_from_slice(content);
        bytes
    }

    /// A v2c message with the PDU tag and the variables' bytes.
    pub(in crate::ingest::snmp) fn v2c(tag: u8, community: &str, request: u8, varbinds: &[u8]) -> Vec<u8> {
        let numbers = [tlv(2, &[request]), tlv(2, &[0]), tlv(2, &[0])].concat();
        let pdu = tlv(tag, &[numbers, tlv(0x30, varbinds)].concat());
        tlv(0x30, &[tlv(2, &[1]), tlv(4, community.as_bytes()), pdu].concat())
    }

    /// sysUpTime.0 = 5, snmpTrapOID.0 = linkDown.
    pub(in crate::ingest::snmp) fn link_down() -> Vec<u8> {
        let uptime = [tlv(6, &[0x2b, 6, 1, 2, 1, 1, 3, 0]), tlv(0x43, &[5])].concat();
        let trap_oid = [tlv(6, &[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0]), tlv(6, &[0x2b, 6, 1, 6, 3, 1, 1, 5, 3])].concat();
        [tlv(0x30, &uptime), tlv(0x30, &trap_oid)].concat()
    }

    #[test]
    fn a_notification_is_decoded_with_its_variables() {
        let datagram = v2c(TRAP_V2, "public", 7, &link_down());
        let message = decode(&datagram).expect("valid");
        assert_eq!((message.community, message.varbinds.len()), (&b"public"[..], 2));
        assert!(matches!(message.kind, Kind::TrapV2));
        assert_eq!(message.varbinds[1].tag, ber::OBJECT_IDENTIFIER);
    }

    #[test]
    fn the_answer_to_an_inform_differs_in_its_tag_only() {
        for padding in [0, 200] {
            let value = tlv(0x30, &[tlv(6, &[0x2b, 1]), tlv(4, &vec![b'x'; padding])].concat());
            let varbinds = [link_down(), value].concat();
            let mut datagram = v2c(INFORM, "public", 9, &varbinds);
            let expected = v2c(RESPONSE, "public", 9, &varbinds);
            datagram.extend(b"padding");
            let Kind::Inform { answer } = decode(&datagram).expect("valid").kind else { panic!("an inform") };
            assert_eq!(answer, expected, "padding {padding}");
        }
    }

    #[test]
    fn the_errors_of_an_inform_are_cleared_in_its_answer() {
        let numbers = [tlv(2, &[9]), tlv(2, &[5]), tlv(2, &[1, 2])].concat();
        let pdu = tlv(INFORM, &[numbers, tlv(0x30, &link_down())].concat());
        let datagram = tlv(0x30, &[tlv(2, &[1]), tlv(4, b"public"), pdu].concat());
        let Kind::Inform { answer } = decode(&datagram).expect("valid").kind else { panic!("an inform") };
        assert!(answer.windows(10).any(|bytes| bytes == [2, 1, 9, 2, 1, 0, 2, 2, 0, 0]), "{answer:?}");
    }

    #[test]
    fn what_is_no_notification_is_refused_by_reason() {
        let v3 = tlv(0x30, &tlv(2, &[3]));
        let many = tlv(0x30, &[tlv(6, &[0x2b]), tlv(5, &[])].concat()).repeat(MAX_VARBINDS + 1);
        for (datagram, reason) in [
            (v3, DropReason::UnsupportedVersion),
            (v2c(0xa0, "public", 1, &[]), DropReason::NotANotification),
            (v2c(RESPONSE, "public", 1, &[]), DropReason::NotANotification),
            (v2c(TRAP_V1, "public", 1, &[]), DropReason::NotANotification),
            (v2c(TRAP_V2, "public", 1, &[1, 2]), DropReason::Malformed),
            (v2c(TRAP_V2, "public", 1, &many), DropReason::Malformed),
            (b"<13>syslog".to_vec(), DropReason::Malformed),
            (vec![], DropReason::Malformed),
        ] {
            assert_eq!(decode(&datagram).expect_err("no notification").reason(), reason, "{datagram:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(position in 0_usize..70, byte: u8, length in 0_usize..90) {
            for tag in [TRAP_V2, INFORM] {
                let mut datagram = v2c(tag, "public", 7, &link_down());
                let last = datagram.len() - 1;
                datagram[position.min(last)] = byte;
                datagram.truncate(length);
                let _ = decode(&datagram);
            }
        }
    }
}
