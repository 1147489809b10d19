//! One message as it came in, whatever protocol carried it.
//!
//! The serde form of these types is the compact one kept in queues and stores (postcard; see `wire` for the event's own).
//! What people see is made by [`super::event_json`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{EventId, InvalidName, Oid, Severity, Text, Timestamp, TraceContext};

/// How an event reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// JSON posted to the ingest API.
    Http,
    /// Syslog, one datagram a message (RFC 5426).
    SyslogUdp,
    /// Syslog over TCP (RFC 6587).
    SyslogTcp,
    /// Syslog over TLS (RFC 5425).
    SyslogTls,
    /// An SNMP trap or inform.
    SnmpTrap,
    /// Made by this program itself, as the meta-alert for unhandled events is.
    Internal,
}

impl Protocol {
    /// Every protocol, in the order they are listed to people.
    pub const ALL: [Self; 6] =
        [Self::Http, Self::SyslogUdp, Self::SyslogTcp, Self::SyslogTls, Self::SnmpTrap, Self::Internal];

    /// The name used in the API, in metrics labels and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::SyslogUdp => "syslog_udp",
            Self::SyslogTcp => "syslog_tcp",
            Self::SyslogTls => "syslog_tls",
            Self::SnmpTrap => "snmp_trap",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| InvalidName {
            kind: "source",
            text: text.chars().take(40).collect(),
            why: "use http, syslog_udp, syslog_tcp, syslog_tls or snmp_trap",
        })
    }
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The protocol it came by.
    pub protocol: Protocol,
    /// The address it came from, as the socket saw it.
    pub peer: IpAddr,
}

/// Something worth knowing about how an event was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flag {
    /// The header was not understood; the whole text is the message.
    Unparsed,
    /// The message carried no valid PRI and was given 13, user.notice.
    NoPri,
    /// Bytes that are not UTF-8 were replaced.
    InvalidUtf8,
    /// The message was longer than the limit and was cut.
    Truncated,
    /// The sender named no host; the peer's address stands in.
    HostFromPeer,
    /// The device's time stamp was not understood.
    BadTimestamp,
    /// Structured data was not understood and is part of the message.
    BadStructuredData,
    /// It was a dead letter and was put back: how often, and when it became one first, in seconds since the epoch.
    /// Small on purpose: a flag should not make the others larger than a word.
    Replayed {
        /// How often.
        times: u16,
        /// When first.
        first_died: u32,
    },
}

impl Flag {
    /// Every flag that says how an event was read.
    pub const ALL: [Self; 7] = [
        Self::Unparsed,
        Self::NoPri,
        Self::InvalidUtf8,
        Self::Truncated,
        Self::HostFromPeer,
        Self::BadTimestamp,
        Self::BadStructuredData,
    ];

    /// The name used in the API and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unparsed => "unparsed",
            Self::NoPri => "no_pri",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::Truncated => "truncated",
            Self::HostFromPeer => "host_from_peer",
            Self::BadTimestamp => "bad_timestamp",
            Self::BadStructuredData => "bad_structured_data",
            Self::Replayed { .. } => "replayed",
        }
    }
}

/// One element of RFC 5424 structured data; a repeated parameter name keeps every value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdElement {
    /// SD-ID.
    pub id: String,
    /// Name and unescaped value, in order.
    pub params: Vec<(String, String)>,
}

/// The type of a varbind's value (RFC 3416 and RFC 1155 names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the standard's own")]
pub enum VarKind {
    Integer,
    OctetString,
    ObjectIdentifier,
    IpAddress,
    Counter32,
    Gauge32,
    TimeTicks,
    Counter64,
    Opaque,
    Null,
}

impl VarKind {
    /// The standard's name, as shown in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::OctetString => "OCTET STRING",
            Self::ObjectIdentifier => "OBJECT IDENTIFIER",
            Self::IpAddress => "IpAddress",
            Self::Counter32 => "Counter32",
            Self::Gauge32 => "Gauge32",
            Self::TimeTicks => "TimeTicks",
            Self::Counter64 => "Counter64",
            Self::Opaque => "Opaque",
            Self::Null => "NULL",
        }
    }
}

/// One variable of a trap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Varbind {
    /// Its object identifier.
    pub oid: Oid,
    /// Its type.
    pub kind: VarKind,
    /// Its value as text: numbers in decimal, octet strings as text or `hex:..` when they are not UTF-8.
    pub value: String,
    /// The object's name, when the table of well-known OIDs has it (`ifDescr.2`).
    pub name: Option<String>,
}

/// What an event has when it came as an SNMP trap or inform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// snmpTrapOID, for v1 made as RFC 3584 section 3.1 says.
    pub oid: Oid,
    /// The variables in the order sent, without sysUpTime.0 and snmpTrapOID.0 at the front of v2 notifications.
    pub varbinds: Vec<Varbind>,
    /// The v1 agent address or snmpTrapAddress.0, when given.
    pub agent: Option<IpAddr>,
    /// sysUpTime in hundredths of a second.
    pub uptime: Option<u32>,
    /// `1`, `2c` or `3`.
    pub version: String,
    /// Whether the sender asked for a confirmation.
    pub inform: bool,
}

/// One message from a device or a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Made at the socket.
    pub id: EventId,
    /// The sender's X-Correlation-ID; `None` means the event's own id.
    pub correlation_id: Option<Text>,
    /// When we received it.
    pub received_at: Timestamp,
    /// Protocol and peer.
    pub source: Source,
    /// The device's own time.
    pub timestamp: Option<Timestamp>,
    /// The host that speaks; the peer's address when the sender named none.
    pub hostname: Text,
    /// The text, unescaped. For a trap: its name and variables in one line.
    pub message: Text,
    /// 0 to 7, when the sender or the protocol gave one.
    pub severity: Option<Severity>,
    /// 0 to 23, for syslog.
    pub facility: Option<u8>,
    /// The program's name (RFC 5424 APP-NAME, RFC 3164 TAG).
    pub app_name: Option<Text>,
    /// The program's process id.
    pub proc_id: Option<Text>,
    /// The type of the message (RFC 5424 MSGID; for Cisco the mnemonic).
    pub msg_id: Option<Text>,
    /// RFC 5424 structured data, in order.
    pub structured_data: Vec<SdElement>,
    /// Present for SNMP.
    pub trap: Option<Box<Trap>>,
    /// Every JSON member without a place of its own, as the text of a JSON object.
    pub fields: Option<Text>,
    /// What arrived, as text; empty for a trap, whose content is all in [`Trap`].
    pub raw: Text,
    /// How it was read.
    pub flags: Vec<Flag>,
    /// The trace that its sender began; see [`Event::trace_id`].
    pub trace: Option<Box<TraceContext>>,
}

impl Event {
    /// An event with only the parts every input has; the parser fills in what it finds.
    pub fn new(id: EventId, received_at: Timestamp, source: Source) -> Self {
        Self {
            id,
            correlation_id: None,
            received_at,
            source,
            timestamp: None,
            hostname: Text::default(),
            message: Text::default(),
            severity: None,
            facility: None,
            app_name: None,
            proc_id: None,
            msg_id: None,
            structured_data: Vec::new(),
            trap: None,
            fields: None,
            raw: Text::default(),
            flags: Vec::new(),
            trace: None,
        }
    }

    /// The correlation id as sent, else the event's id.
    pub fn correlation(&self) -> String {
        self.correlation_id.as_ref().map_or_else(|| self.id.to_string(), ToString::to_string)
    }

    /// The device's time, else the receive time.
    pub fn event_time(&self) -> Timestamp {
        self.timestamp.unwrap_or(self.received_at)
    }

    /// Whether `flag` was set.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Memory this event takes, in bytes, roughly: what byte budgets are charged.
    pub fn approximate_bytes(&self) -> usize {
        let trap = self.trap.as_ref().map_or(0, |trap| trap.varbinds.iter().map(|v| v.value.len() + 96).sum());
        let sd: usize = self
            .structured_data
            .iter()
            .map(|element| element.params.iter().map(|(n, v)| n.len() + v.len() + 48).sum::<usize>() + 48)
            .sum();
        // Parts of what arrived cost nothing more; texts of their own are charged.
        let own = |text: &Text| if text.place_in(&self.raw).is_some() { 0 } else { text.len() };
        size_of::<Self>()
            + self.raw.len()
            + own(&self.hostname)
            + own(&self.message)
            + self.fields.as_ref().map_or(0, own)
            + self.trace.as_ref().map_or(0, |trace| size_of::<TraceContext>() + trace.state.len())
            + trap
            + sd
    }
}
