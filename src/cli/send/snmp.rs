//! Writes SNMP v1 traps, v2c traps and v2c informs in BER, and reads the answer to an inform.
//!
//! It encodes only what a sender of notifications needs and never decodes what strangers send, apart from one look for
//! the request id in a response. It holds no state, so a crash costs nothing.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::model::Oid;

/// Standard traps lie below this OID (RFC 3418, snmpTraps): coldStart is .1, linkDown .3.
const STANDARD_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
const SYS_UPTIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// v1's generic-trap number for a trap of the vendor's own (RFC 1157 section 4.1.6).
const ENTERPRISE_SPECIFIC: i64 = 6;

const TAG_INTEGER: u8 = 0x02;
const TAG_OCTETS: u8 = 0x04;
const TAG_NULL: u8 = 0x05;
const TAG_OID: u8 = 0x06;
const TAG_SEQUENCE: u8 = 0x30;
const TAG_IP_ADDRESS: u8 = 0x40;
const TAG_COUNTER32: u8 = 0x41;
const TAG_GAUGE32: u8 = 0x42;
const TAG_TIME_TICKS: u8 = 0x43;
const TAG_OPAQUE: u8 = 0x44;
const TAG_COUNTER64: u8 = 0x46;
const TAG_RESPONSE: u8 = 0xa2;
const TAG_V1_TRAP: u8 = 0xa4;
const TAG_INFORM: u8 = 0xa6;
const TAG_V2_TRAP: u8 = 0xa7;

/// Request ids are at least this, so that each takes four bytes and can be replaced in a finished message.
pub const FIRST_REQUEST_ID: u32 = 0x1000_0000;

/// What is wrong with a notification that cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrapError {
    /// BER packs the first two arcs into one number, which only some values allow.
    #[error("oid `{0}` cannot be sent: it needs two arcs or more, the first 0 to 2, the second below 40 under 0 and 1")]
    Oid(String),
    /// v1 has no such type (RFC 3584 section 3).
    #[error("a v1 trap cannot carry Counter64; send it as version 2c")]
    Counter64InV1,
    /// A v1 inform does not exist.
    #[error("informs need version 2c")]
    InformInV1,
    /// The JSON form of a notification has a member that cannot be used.
    #[error("trap not valid, {field}: {why}")]
    Json {
        /// The member.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

/// The version a notification is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SnmpVersion {
    /// SNMPv1 (RFC 1157).
    #[value(name = "1")]
    V1,
    /// SNMPv2c (RFC 3416).
    #[value(name = "2c")]
    V2c,
}

/// Whether the receiver has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification {
    /// Sent and forgotten.
    Trap,
    /// Answered once the receiver keeps it.
    Inform,
}

/// One variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrapValue {
    /// INTEGER.
    Integer(i32),
    /// OCTET STRING.
    Octets(Vec<u8>),
    /// OBJECT IDENTIFIER.
    ObjectId(Oid),
    /// IpAddress.
    IpAddress(Ipv4Addr),
    /// Counter32.
    Counter32(u32),
    /// Gauge32.
    Gauge32(u32),
    /// TimeTicks, hundredths of a second.
    TimeTicks(u32),
    /// Counter64.
    Counter64(u64),
    /// Opaque.
    Opaque(Vec<u8>),
    /// NULL.
    Null,
}

impl TrapValue {
    /// An OCTET STRING from text.
    pub fn text(text: &str) -> Self {
        Self::Octets(text.as_bytes().to_vec())
    }
}

/// A notification, whatever version carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrapMessage {
    /// The notification's OID as in v2c.
    pub oid: Oid,
    /// The device's address, which only v1 carries.
    pub agent: Ipv4Addr,
    /// Hundredths of a second since the device started.
    pub uptime: u32,
    /// Its variables, in order.
    pub varbinds: Vec<(Oid, TrapValue)>,
}

/// How a notification is wrapped.
#[derive(Debug, Clone)]
pub struct Wrapping {
    /// The version.
    pub version: SnmpVersion,
    /// Trap or inform.
    pub notification: Notification,
    /// The community; it acts as a password and is never printed.
    pub community: String,
}

/// An encoded message.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// Where the four bytes of the request id lie; v1 traps have none.
    pub request_id_at: Option<usize>,
}

impl TrapMessage {
    /// Reads the JSON form: `trap_oid`, `varbinds[] {oid, type, value}` as events show them, and optionally
    /// `uptime` (hundredths of a second) and `agent_address`.
    pub fn from_json(value: &Value) -> Result<Self, TrapError> {
        let fault = |field, why: &str| TrapError::Json { field, why: why.to_owned() };
        let oid = value.get("trap_oid").and_then(Value::as_str).ok_or_else(|| fault("trap_oid", "it is missing"))?;
        let agent = match value.get("agent_address").and_then(Value::as_str) {
            Some(text) => text.parse().map_err(|_| fault("agent_address", "it is not an IPv4 address"))?,
            None => Ipv4Addr::UNSPECIFIED,
        };
        let uptime = value.get("uptime").and_then(Value::as_u64).unwrap_or(0);
        let list = value.get("varbinds").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        Ok(Self {
            oid: json_oid("trap_oid", oid)?,
            agent,
            uptime: u32::try_from(uptime).unwrap_or(u32::MAX),
            varbinds: list.iter().map(json_varbind).collect::<Result<_, _>>()?,
        })
    }

    /// Encodes the notification; `request_id` below [`FIRST_REQUEST_ID`] is raised to it.
    pub fn encode(&self, wrapping: &Wrapping, request_id: u32) -> Result<Encoded, TrapError> {
        match (wrapping.version, wrapping.notification) {
            (SnmpVersion::V1, Notification::Inform) => Err(TrapError::InformInV1),
            (SnmpVersion::V1, Notification::Trap) => self.encode_v1(&wrapping.community),
            (SnmpVersion::V2c, notification) => self.encode_v2c(&wrapping.community, notification, request_id),
        }
    }

    fn encode_v1(&self, community: &str) -> Result<Encoded, TrapError> {
        if self.varbinds.iter().any(|(_, value)| matches!(value, TrapValue::Counter64(_))) {
            return Err(TrapError::Counter64InV1);
        }
        let (enterprise, generic, specific) = self.v1_identity()?;
        let mut pdu = Vec::with_capacity(256);
        put_oid(&mut pdu, &enterprise)?;
        put(&mut pdu, TAG_IP_ADDRESS, &self.agent.octets());
        put_signed(&mut pdu, TAG_INTEGER, generic);
        put_signed(&mut pdu, TAG_INTEGER, specific);
        put_unsigned(&mut pdu, TAG_TIME_TICKS, u64::from(self.uptime));
        let mut list = Vec::with_capacity(256);
        for (oid, value) in &self.varbinds {
            put_varbind(&mut list, oid, value)?;
        }
        put(&mut pdu, TAG_SEQUENCE, &list);
        Ok(Encoded { bytes: message(0, community, TAG_V1_TRAP, &pdu), request_id_at: None })
    }

    /// Enterprise, generic and specific number as RFC 3584 section 3.2 derives them.
    fn v1_identity(&self) -> Result<(Oid, i64, i64), TrapError> {
        let arcs = self.oid.arcs();
        let Some((&last, parent)) = arcs.split_last() else { return Err(TrapError::Oid(self.oid.to_string())) };
        if parent == STANDARD_TRAPS && (1..=6).contains(&last) {
            return Ok((Oid::new(STANDARD_TRAPS.to_vec()), i64::from(last) - 1, 0));
        }
        let enterprise = if parent.last() == Some(&0) { &parent[..parent.len() - 1] } else { parent };
        // specific-trap is a signed INTEGER; larger sub-identifiers do not occur in MIBs that had v1 in mind.
        let specific = i64::from(i32::try_from(last).unwrap_or(i32::MAX));
        Ok((Oid::new(enterprise.to_vec()), ENTERPRISE_SPECIFIC, specific))
    }

    fn encode_v2c(&self, community: &str, notification: Notification, id: u32) -> Result<Encoded, TrapError> {
        let id = id.clamp(FIRST_REQUEST_ID, i32::MAX.unsigned_abs());
        let mut list = Vec::with_capacity(256);
        put_varbind(&mut list, &Oid::new(SYS_UPTIME.to_vec()), &TrapValue::TimeTicks(self.uptime))?;
        put_varbind(&mut list, &Oid::new(SNMP_TRAP_OID.to_vec()), &TrapValue::ObjectId(self.oid.clone()))?;
        for (oid, value) in &self.varbinds {
            put_varbind(&mut list, oid, value)?;
        }
        let mut pdu = Vec::with_capacity(list.len() + 16);
        put_signed(&mut pdu, TAG_INTEGER, i64::from(id));
        put_signed(&mut pdu, TAG_INTEGER, 0);
        put_signed(&mut pdu, TAG_INTEGER, 0);
        put(&mut pdu, TAG_SEQUENCE, &list);
        let tag = if notification == Notification::Inform { TAG_INFORM } else { TAG_V2_TRAP };
        let bytes = message(1, community, tag, &pdu);
        // The PDU ends the message and starts with tag, length 4 and the four bytes of the id.
        let request_id_at = Some(bytes.len() - pdu.len() + 2);
        Ok(Encoded { bytes, request_id_at })
    }
}

/// The request id of a response PDU (RFC 3416 section 4.2.7) and whether its error status is noError; `None` if the
/// datagram is anything else.
pub fn read_response(datagram: &[u8]) -> Option<(u32, bool)> {
    let (tag, message, _) = take(datagram)?;
    let (_, _version, rest) = take((tag == TAG_SEQUENCE).then_some(message)?)?;
    let (_, _community, rest) = take(rest)?;
    let (tag, pdu, _) = take(rest)?;
    let (id_tag, id, rest) = take((tag == TAG_RESPONSE).then_some(pdu)?)?;
    let (_, status, _) = take(rest)?;
    let id: [u8; 4] = id.try_into().ok()?;
    (id_tag == TAG_INTEGER).then(|| (u32::from_be_bytes(id), status.iter().all(|byte| *byte == 0)))
}

/// Splits off one element: its tag, its content, what follows.
fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn message(version: i64, community: &str, pdu_tag: u8, pdu: &[u8]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(pdu.len() + community.len() + 16);
    put_signed(&mut inner, TAG_INTEGER, version);
    put(&mut inner, TAG_OCTETS, community.as_bytes());
    put(&mut inner, pdu_tag, pdu);
    let mut bytes = Vec::with_capacity(inner.len() + 8);
    put(&mut bytes, TAG_SEQUENCE, &inner);
    bytes
}

fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    // X.690 section 8.1.3: up to 127 in one byte, else a count of length bytes and the length.
    match u8::try_from(content.len()) {
        Ok(short @ 0..0x80) => out.push(short),
        _ => {
            let digits = content.len().to_be_bytes();
            let digits = &digits[digits.iter().position(|byte| *byte != 0).unwrap_or(digits.len() - 1)..];
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
}

fn put_signed(out: &mut Vec<u8>, tag: u8, value: i64) {
    let bytes = value.to_be_bytes();
    // X.690 section 8.3.2: the first nine bits must differ, so leading bytes that only repeat the sign are cut.
    let redundant =
        |at: &usize| (bytes[*at] == 0 && bytes[at + 1] < 0x80) || (bytes[*at] == 0xff && bytes[at + 1] >= 0x80);
    let start = (0..7).take_while(redundant).count();
    put(out, tag, &bytes[start..]);
}

fn put_unsigned(out: &mut Vec<u8>, tag: u8, value: u64) {
    let mut bytes = [0; 9];
    bytes[1..].copy_from_slice(&value.to_be_bytes());
    let start = (0..8).take_while(|at| bytes[*at] == 0 && bytes[at + 1] < 0x80).count();
    put(out, tag, &bytes[start..]);
}

fn put_oid(out: &mut Vec<u8>, oid: &Oid) -> Result<(), TrapError> {
    let [first, second, rest @ ..] = oid.arcs() else { return Err(TrapError::Oid(oid.to_string())) };
    if *first > 2 || (*first < 2 && *second >= 40) {
        return Err(TrapError::Oid(oid.to_string()));
    }
    let mut content = Vec::with_capacity(rest.len() * 2 + 2);
    put_arc(&mut content, u64::from(*first) * 40 + u64::from(*second));
    for arc in rest {
        put_arc(&mut content, u64::from(*arc));
    }
    put(out, TAG_OID, &content);
    Ok(())
}

/// Seven bits a byte, the highest bit set on all but the last (X.690 section 8.19.2).
fn put_arc(out: &mut Vec<u8>, arc: u64) {
    let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        out.push(u8::try_from(arc >> (7 * group) & 0x7f).unwrap_or(0) | more);
    }
}

fn put_varbind(out: &mut Vec<u8>, oid: &Oid, value: &TrapValue) -> Result<(), TrapError> {
    let mut pair = Vec::with_capacity(64);
    put_oid(&mut pair, oid)?;
    match value {
        TrapValue::Integer(number) => put_signed(&mut pair, TAG_INTEGER, i64::from(*number)),
        TrapValue::Octets(bytes) => put(&mut pair, TAG_OCTETS, bytes),
        TrapValue::ObjectId(oid) => put_oid(&mut pair, oid)?,
        TrapValue::IpAddress(address) => put(&mut pair, TAG_IP_ADDRESS, &address.octets()),
        TrapValue::Counter32(number) => put_unsigned(&mut pair, TAG_COUNTER32, u64::from(*number)),
        TrapValue::Gauge32(number) => put_unsigned(&mut pair, TAG_GAUGE32, u64::from(*number)),
        TrapValue::TimeTicks(number) => put_unsigned(&mut pair, TAG_TIME_TICKS, u64::from(*number)),
        TrapValue::Counter64(number) => put_unsigned(&mut pair, TAG_COUNTER64, *number),
        TrapValue::Opaque(bytes) => put(&mut pair, TAG_OPAQUE, bytes),
        TrapValue::Null => put(&mut pair, TAG_NULL, &[]),
    }
    put(out, TAG_SEQUENCE, &pair);
    Ok(())
}

fn json_oid(field: &'static str, text: &str) -> Result<Oid, TrapError> {
    text.parse().map_err(|error: crate::model::InvalidOid| TrapError::Json { field, why: error.to_string() })
}

fn json_varbind(value: &Value) -> Result<(Oid, TrapValue), TrapError> {
    let fault = |why: String| TrapError::Json { field: "varbinds", why };
    let member = |name| value.get(name).and_then(Value::as_str);
    let oid = json_oid("varbinds", member("oid").ok_or_else(|| fault("an entry has no oid".into()))?)?;
    let kind = member("type").unwrap_or("OCTET STRING");
    let text = match value.get("value") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let wrong = || fault(format!("`{text}` is no {kind}"));
    let value = match kind {
        "INTEGER" => TrapValue::Integer(text.parse().map_err(|_| wrong())?),
        "OCTET STRING" => TrapValue::Octets(octets(&text)),
        "OBJECT IDENTIFIER" => TrapValue::ObjectId(json_oid("varbinds", &text)?),
        "IpAddress" => TrapValue::IpAddress(text.parse().map_err(|_| wrong())?),
        "Counter32" => TrapValue::Counter32(text.parse().map_err(|_| wrong())?),
        "Gauge32" => TrapValue::Gauge32(text.parse().map_err(|_| wrong())?),
        "TimeTicks" => TrapValue::TimeTicks(text.parse().map_err(|_| wrong())?),
        "Counter64" => TrapValue::Counter64(text.parse().map_err(|_| wrong())?),
        "Opaque" => TrapValue::Opaque(octets(&text)),
        "NULL" => TrapValue::Null,
        _ => return Err(fault(format!("type `{kind}` is not known; use INTEGER, OCTET STRING, IpAddress and so on"))),
    };
    Ok((oid, value))
}

/// `hex:0a1b` is read as bytes, anything else as its text.
fn octets(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("hex:").filter(|digits| digits.is_ascii() && digits.len() % 2 == 0);
    let bytes = digits.and_then(|digits| {
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
            .collect::<Option<Vec<u8>>>()
    });
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn oid(text: &str) -> Oid {
        text.parse().expect("a valid oid")
    }

    fn link_down() -> TrapMessage {
        TrapMessage {
            oid: oid("1.3.6.1.6.3.1.1.5.3"),
            agent: Ipv4Addr::new(10, 0, 0, 1),
            uptime: 4_711,
            varbinds: vec![(oid("1.3.6.1.2.1.2.2.1.1.2"), TrapValue::Integer(2))],
        }
    }

    fn wrapping(version: SnmpVersion, notification: Notification) -> Wrapping {
        Wrapping { version, notification, community: "public".into() }
    }

    /// Encodes and compares with what `snmptrap` of net-snmp 5.9.3 put on the wire for the same notification.
    #[track_caller]
    fn check(trap: &TrapMessage, version: SnmpVersion, notification: Notification, id: u32, expected: &str) {
        let encoded = trap.encode(&wrapping(version, notification), id).expect("encodes");
        assert_eq!(hex(&encoded.bytes), expected);
        if let Some(at) = encoded.request_id_at {
            assert_eq!(encoded.bytes[at..at + 4], id.to_be_bytes());
        }
    }

    #[test]
    fn notifications_are_the_bytes_that_net_snmp_sends() {
        check(
            &link_down(),
            SnmpVersion::V1,
            Notification::Trap,
            0,
            "303a02010004067075626c6963a42d06082b0601060301010540040a000001020102020100430212673011300f060a2b06010201\
             0202010102020102",
        );
        check(
            &link_down(),
            SnmpVersion::V2c,
            Notification::Trap,
            0x5147_e6fe,
            "305502010104067075626c6963a74802045147e6fe020100020100303a300e06082b06010201010300430212673017060a2b0601\
             0603010104010006092b0601060301010503300f060a2b060102010202010102020102",
        );
        check(
            &link_down(),
            SnmpVersion::V2c,
            Notification::Inform,
            0x5147_e6fe,
            "305502010104067075626c6963a64802045147e6fe020100020100303a300e06082b06010201010300430212673017060a2b0601\
             0603010104010006092b0601060301010503300f060a2b060102010202010102020102",
        );
    }

    #[test]
    fn every_type_is_the_bytes_that_net_snmp_sends() {
        let values = [
            TrapValue::Integer(-129),
            TrapValue::Gauge32(u32::MAX),
            TrapValue::Counter32(128),
            TrapValue::Counter64(u64::MAX),
            TrapValue::text(&"x".repeat(130)),
            TrapValue::IpAddress(Ipv4Addr::new(192, 0, 2, 1)),
            TrapValue::ObjectId(oid("1.3.6.1.2.1")),
            TrapValue::TimeTicks(0),
            TrapValue::Octets(vec![0, 0xff]),
            TrapValue::Null,
        ];
        let base = oid("1.3.6.1.4.1.8072.9999.9999");
        let trap = TrapMessage {
            oid: oid("1.3.6.1.4.1.4294967295.0.17"),
            agent: Ipv4Addr::UNSPECIFIED,
            uptime: u32::MAX,
            varbinds: (1..).zip(values).map(|(arc, value)| (base.child(&[arc]), value)).collect(),
        };
        let expected = [
            "308201a402010104067075626c6963a7820195020472d3d18502010002010030820185",
            "301106082b06010201010300430500ffffffff",
            "301a060a2b060106030101040100060c2b060104018fffffff7f0011",
            "3012060c2b06010401bf08ce0fce0f010202ff7f",
            "3015060c2b06010401bf08ce0fce0f02420500ffffffff",
            "3012060c2b06010401bf08ce0fce0f0341020080",
            "3019060c2b06010401bf08ce0fce0f04460900ffffffffffffffff",
            &format!("308193060c2b06010401bf08ce0fce0f05048182{}", "78".repeat(130)),
            "3014060c2b06010401bf08ce0fce0f064004c0000201",
            "3015060c2b06010401bf08ce0fce0f0706052b06010201",
            "3011060c2b06010401bf08ce0fce0f08430100",
            "3012060c2b06010401bf08ce0fce0f09040200ff",
            "3010060c2b06010401bf08ce0fce0f0a0500",
        ]
        .concat();
        check(&trap, SnmpVersion::V2c, Notification::Trap, 0x72d3_d185, &expected);
    }

    #[test]
    fn an_enterprise_trap_becomes_v1_by_its_last_arc() {
        for (text, enterprise, generic, specific) in [
            ("1.3.6.1.6.3.1.1.5.1", "1.3.6.1.6.3.1.1.5", 0, 0),
            ("1.3.6.1.4.1.9.9.43.2.0.1", "1.3.6.1.4.1.9.9.43.2", 6, 1),
            ("1.3.6.1.4.1.9.9.43.2.7", "1.3.6.1.4.1.9.9.43.2", 6, 7),
        ] {
            let trap = TrapMessage { oid: oid(text), ..link_down() };
            assert_eq!(trap.v1_identity(), Ok((oid(enterprise), generic, specific)), "{text}");
        }
    }

    #[test]
    fn what_a_version_cannot_carry_is_refused() {
        let counter = TrapMessage { varbinds: vec![(oid("1.3.6"), TrapValue::Counter64(1))], ..link_down() };
        let v1 = wrapping(SnmpVersion::V1, Notification::Trap);
        assert_eq!(counter.encode(&v1, 0).err(), Some(TrapError::Counter64InV1));
        let inform = wrapping(SnmpVersion::V1, Notification::Inform);
        assert_eq!(link_down().encode(&inform, 0).err(), Some(TrapError::InformInV1));
        let short = TrapMessage { oid: oid("3.50"), ..link_down() };
        let v2 = wrapping(SnmpVersion::V2c, Notification::Trap);
        assert_eq!(short.encode(&v2, 0).err(), Some(TrapError::Oid("3.50".into())));
    }

    #[test]
    fn a_response_gives_its_request_id_and_anything_else_none() {
        let wrapping = wrapping(SnmpVersion::V2c, Notification::Inform);
        let mut answer = link_down().encode(&wrapping, 0x1000_0007).expect("encodes").bytes;
        assert_eq!(read_response(&answer), None, "an inform is no response");
        let tag = answer.iter().position(|byte| *byte == TAG_INFORM).expect("the PDU's tag");
        answer[tag] = TAG_RESPONSE;
        assert_eq!(read_response(&answer), Some((0x1000_0007, true)));
        for cut in 0..20 {
            assert_eq!(read_response(&answer[..cut]), None);
        }
    }

    #[test]
    fn the_json_form_is_the_one_events_have() {
        let json = serde_json::json!({
            "trap_oid": "1.3.6.1.6.3.1.1.5.3", "uptime": 4711, "agent_address": "10.0.0.1",
            "varbinds": [{"oid": "1.3.6.1.2.1.2.2.1.1.2", "type": "INTEGER", "value": 2}],
        });
        assert_eq!(TrapMessage::from_json(&json), Ok(link_down()));
        let json = serde_json::json!({"trap_oid": "1.3.6.1", "varbinds": [
            {"oid": "1.3.6.2", "type": "Counter64", "value": "18446744073709551615"},
            {"oid": "1.3.6.3", "value": "hex:00ff"}, {"oid": "1.3.6.4", "type": "OCTET STRING", "value": "hex:zz"},
        ]});
        let values: Vec<_> =
            TrapMessage::from_json(&json).expect("valid").varbinds.into_iter().map(|(_, v)| v).collect();
        let expected = [TrapValue::Counter64(u64::MAX), TrapValue::Octets(vec![0, 0xff]), TrapValue::text("hex:zz")];
        assert_eq!(values, expected);
        for broken in [
            serde_json::json!({}),
            serde_json::json!({"trap_oid": "x"}),
            serde_json::json!({"trap_oid": "1.3", "varbinds": [{"oid": "1.3.6", "type": "Float", "value": 1}]}),
            serde_json::json!({"trap_oid": "1.3", "varbinds": [{"oid": "1.3.6", "type": "INTEGER", "value": "x"}]}),
        ] {
            assert!(matches!(TrapMessage::from_json(&broken), Err(TrapError::Json { .. })), "{broken}");
        }
    }
}
