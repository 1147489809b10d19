//! The compact form in which queues and stores keep events.
//!
//! Some events: their number, the lengths of heads and texts, the heads, the texts (numbers are little endian). What arrived
//! is written once; host, message and other parts that lie in it are positions in the head. All texts stand together,
//! so that reading a batch back takes one allocation for the texts of all its events.
//!
//! A head: 32 bits that say what there is, id, receive time, [time stamp], severity, facility, peer, length of what
//! arrived, position and length of each part, length of each text of its own, [flags], [structured data], [trap],
//! [trace context]; the last four are postcard with their length in front. Lengths and positions are LEB128. The form has no version of its
//! own: whoever keeps it writes a format byte before it and a checksum beside it. Damage is an error, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Decision, Event, EventId, Judged, Protocol, Severity, Source, Text, Timestamp};

/// Bytes before the heads.
const PREFIX: usize = 12;
/// A severity or facility that is absent.
const NONE: u8 = 0xff;
/// Bytes that an event takes at least, so that a damaged count cannot ask for all memory.
const LEAST_HEAD: usize = 4 + 16 + 8 + 2 + 4 + 1;

const PROTOCOL: u32 = 0b111;
const PEER_V6: u32 = 1 << 3;
const TIMESTAMP: u32 = 1 << 4;
const FLAGS: u32 = 1 << 5;
const STRUCTURED: u32 = 1 << 6;
const TRAP: u32 = 1 << 7;
/// From here on two bits for each of [`texts`].
const TEXTS: u32 = 8;
const PART: u32 = 1;
const OWN: u32 = 2;
/// Behind the bits of ten texts, so that three more find room. What was written before there were traces has it unset.
const TRACE: u32 = 1 << 28;

/// The texts of an event beside what arrived, in the order of their bits.
fn texts(event: &Event) -> [Option<&Text>; 7] {
    [
        Some(&event.hostname),
        Some(&event.message),
        event.app_name.as_ref(),
        event.proc_id.as_ref(),
        event.msg_id.as_ref(),
        event.correlation_id.as_ref(),
        event.fields.as_ref(),
    ]
}

/// Appends the form of `events` to `out`.
pub fn write_events<'a>(events: impl Iterator<Item = &'a Event> + Clone, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    let mut count = 0_u32;
    for event in events.clone() {
        write_head(event, out);
        count = count.saturating_add(1);
    }
    let heads = u32::try_from(out.len() - start - PREFIX).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&count.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&heads.to_le_bytes());
    let texts_at = out.len();
    for event in events {
        out.extend_from_slice(event.raw.as_bytes());
        for text in texts(event).into_iter().flatten().filter(|text| text.place_in(&event.raw).is_none()) {
            out.extend_from_slice(text.as_bytes());
        }
    }
    let length = u32::try_from(out.len() - texts_at).unwrap_or(u32::MAX);
    out[start + 8..start + PREFIX].copy_from_slice(&length.to_le_bytes());
}

fn write_head(event: &Event, out: &mut Vec<u8>) {
    let bits_at = out.len();
    let mut bits = Protocol::ALL.iter().position(|other| *other == event.source.protocol).unwrap_or(0) as u32;
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(event.id.as_bytes());
    out.extend_from_slice(&event.received_at.as_micros().to_le_bytes());
    if let Some(timestamp) = event.timestamp {
        bits |= TIMESTAMP;
        out.extend_from_slice(&timestamp.as_micros().to_le_bytes());
    }
    out.push(event.severity.map_or(NONE, Severity::number));
    out.push(event.facility.unwrap_or(NONE));
    match event.source.peer {
        IpAddr::V4(peer) => out.extend_from_slice(&peer.octets()),
        IpAddr::V6(peer) => {
            bits |= PEER_V6;
            out.extend_from_slice(&peer.octets());
        }
    }
    write_length(event.raw.len(), out);
    for (index, text) in (0..).zip(texts(event)) {
        let Some(text) = text else { continue };
        let kind = match text.place_in(&event.raw) {
            Some(range) => {
                write_length(range.start as usize, out);
                PART
            }
            None => OWN,
        };
        write_length(text.len(), out);
        bits |= kind << (TEXTS + 2 * index);
    }
    if !event.flags.is_empty() {
        bits |= FLAGS;
        write_postcard(&event.flags, out);
    }
    if !event.structured_data.is_empty() {
        bits |= STRUCTURED;
        write_postcard(&event.structured_data, out);
    }
    if let Some(trap) = &event.trap {
        bits |= TRAP;
        write_postcard(&**trap, out);
    }
    if let Some(trace) = &event.trace {
        bits |= TRACE;
        write_postcard(&**trace, out);
    }
    out[bits_at..bits_at + 4].copy_from_slice(&bits.to_le_bytes());
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_postcard<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Plain data in memory always encodes; were it not so, reading would say that it is damaged.
    let bytes = postcard::to_stdvec(value).unwrap_or_default();
    write_length(bytes.len(), out);
    out.extend_from_slice(&bytes);
}

/// Reads the events of the form at the start of `bytes` and answers what follows it, or what is wrong.
pub fn read_events<'a>(bytes: &'a [u8], events: &mut Vec<Event>) -> Result<&'a [u8], &'static str> {
    let mut prefix = Reader(bytes);
    let (count, heads, texts) = (prefix.u32()? as usize, prefix.u32()? as usize, prefix.u32()? as usize);
    let (heads, rest) = prefix.0.split_at_checked(heads).ok_or("the heads are cut off")?;
    let (texts, rest) = rest.split_at_checked(texts).ok_or("the texts are cut off")?;
    if count > heads.len() / LEAST_HEAD {
        return Err("it claims more events than it has room for");
    }
    let texts = Text::from(std::str::from_utf8(texts).map_err(|_| "the texts are not UTF-8")?);
    let mut texts = Texts { whole: texts, at: 0 };
    let mut heads = Reader(heads);
    events.reserve(count);
    for _ in 0..count {
        events.push(read_head(&mut heads, &mut texts)?);
    }
    let complete = heads.0.is_empty() && texts.at as usize == texts.whole.len();
    if complete { Ok(rest) } else { Err("there is more than its events") }
}

fn read_head(head: &mut Reader<'_>, texts: &mut Texts) -> Result<Event, &'static str> {
    let bits = head.u32()?;
    let id = EventId::from_bytes(head.array()?);
    let received_at = Timestamp::from_micros(i64::from_le_bytes(head.array()?));
    let timestamp = match bits & TIMESTAMP {
        0 => None,
        _ => Some(Timestamp::from_micros(i64::from_le_bytes(head.array()?))),
    };
    let [severity, facility] = head.array()?;
    let protocol = *Protocol::ALL.get((bits & PROTOCOL) as usize).ok_or("its protocol is unknown")?;
    let peer = match bits & PEER_V6 {
        0 => IpAddr::V4(Ipv4Addr::from(head.array::<4>()?)),
        _ => IpAddr::V6(Ipv6Addr::from(head.array::<16>()?)),
    };
    let mut event = Event::new(id, received_at, Source { protocol, peer });
    event.timestamp = timestamp;
    event.severity = Severity::new(severity);
    event.facility = (facility != NONE).then_some(facility);
    event.raw = texts.take(head.length()?)?;
    let mut index = TEXTS;
    let mut text = |head: &mut Reader<'_>| {
        let kind = bits >> index & 0b11;
        index += 2;
        match kind {
            PART => {
                let start = head.length()?;
                let end = start.checked_add(head.length()?).ok_or("a length is too large")?;
                event.raw.at(start..end).map(Some).ok_or("a part lies outside of what arrived")
            }
            OWN => texts.take(head.length()?).map(Some),
            _ => Ok(None),
        }
    };
    event.hostname = text(head)?.unwrap_or_default();
    event.message = text(head)?.unwrap_or_default();
    event.app_name = text(head)?;
    event.proc_id = text(head)?;
    event.msg_id = text(head)?;
    event.correlation_id = text(head)?;
    event.fields = text(head)?;
    if bits & FLAGS != 0 {
        event.flags = head.postcard()?;
    }
    if bits & STRUCTURED != 0 {
        event.structured_data = head.postcard()?;
    }
    if bits & TRAP != 0 {
        event.trap = Some(Box::new(head.postcard()?));
    }
    if bits & TRACE != 0 {
        event.trace = Some(Box::new(head.postcard()?));
    }
    Ok(event)
}

/// The texts of all events and how far they were given out.
struct Texts {
    whole: Text,
    at: u32,
}

impl Texts {
    fn take(&mut self, length: u32) -> Result<Text, &'static str> {
        if length == 0 {
            return Ok(Text::default());
        }
        let end = self.at.checked_add(length).ok_or("a length is too large")?;
        let text = self.whole.at(self.at..end).ok_or("the texts are cut off")?;
        self.at = end;
        Ok(text)
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<u32, &'static str> {
        let mut length = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            length |=
                bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits).ok_or("a length is too large")?;
            if byte < 0x80 {
                return Ok(length);
            }
        }
        Err("a length is too large")
    }

    fn postcard<T: Deserialize<'a>>(&mut self) -> Result<T, &'static str> {
        let length = self.length()? as usize;
        postcard::from_bytes(self.take(length)?).map_err(|_| "flags, structured data, a trap or a trace are damaged")
    }
}

impl Judged {
    /// Appends the compact form: the decision (postcard), then the event.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Appending plain data to a vector has no way to fail; without its decision the record would not be read back.
        if let Ok(written) = postcard::to_extend(&self.decision, std::mem::take(out)) {
            *out = written;
            write_events(std::iter::once(&self.event), out);
        }
    }

    /// Reads what [`Judged::write`] wrote; the error says what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let (decision, rest) = postcard::take_from_bytes::<Decision>(bytes).map_err(|_| "the decision is damaged")?;
        Ok(Self { decision, event: one_event(rest)? })
    }
}

fn one_event(bytes: &[u8]) -> Result<Event, &'static str> {
    let mut events = Vec::new();
    let rest = read_events(bytes, &mut events)?;
    let event = events.pop().ok_or("it holds no event")?;
    if events.is_empty() && rest.is_empty() { Ok(event) } else { Err("it holds more than one event") }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.raw.len() + 96);
        write_events(std::iter::once(self), &mut bytes);
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl Visitor<'_> for One {
            type Value = Event;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("the compact form of one event")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Event, E> {
                one_event(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flag, SdElement, TraceContext, Trap};

    fn event_of(raw: &str) -> Event {
        let at = Timestamp::from_micros(1_800_000_000_000_000);
        let source = Source { protocol: Protocol::SyslogUdp, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let mut event = Event::new(EventId::from_bytes([7; 16]), at, source);
        event.raw = raw.into();
        event
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Event>, &'static str> {
        let mut events = Vec::new();
        let rest = read_events(bytes, &mut events)?;
        if rest.is_empty() { Ok(events) } else { Err("more follows") }
    }

    /// An event with parts of what arrived.
    fn parted() -> Event {
        let mut event = event_of("<13>sw1 sshd: a rather long message about an ünterface that went down");
        event.hostname = event.raw.part(&event.raw[4..7]);
        event.app_name = Some(event.raw.part(&event.raw[8..12]));
        event.message = event.raw.part(&event.raw[14..]);
        event.correlation_id = Some("from elsewhere".into());
        event.severity = Severity::new(3);
        event.flags = vec![Flag::Truncated, Flag::NoPri];
        event
    }

    /// An event with everything else.
    fn full() -> Event {
        let mut event = event_of("");
        event.source = Source { protocol: Protocol::SnmpTrap, peer: IpAddr::V6(Ipv6Addr::LOCALHOST) };
        event.timestamp = Some(Timestamp::from_micros(-5));
        event.hostname = "sw1".into();
        event.message = "x".repeat(300).into();
        event.fields = Some("{}".into());
        event.facility = Some(23);
        event.structured_data = vec![SdElement { id: "a@1".into(), params: vec![("n".into(), "v".into())] }];
        let oid = "1.3.6.1.4.1.9".parse().expect("an OID");
        let version = "2c".to_owned();
        let trap = Trap { oid, varbinds: Vec::new(), agent: None, uptime: Some(7), version, inform: true };
        event.trap = Some(Box::new(trap));
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        event.trace = TraceContext::parse(traceparent, Some("vendor=1")).map(Box::new);
        event
    }

    #[test]
    fn events_come_back_as_they_were_and_parts_are_written_once() {
        let events = [parted(), full(), event_of(""), parted()];
        let mut bytes = b"before".to_vec();
        write_events(events.iter(), &mut bytes);
        let back = read_all(&bytes[6..]).expect("readable");
        assert_eq!(back, events);
        assert!(back[0].message.place_in(&back[0].raw).is_some());
        let alone = postcard::to_stdvec(&events[0]).expect("encodes");
        assert!(alone.len() < events[0].raw.len() + 80, "{} bytes", alone.len());
        for event in events {
            let alone = postcard::to_stdvec(&event).expect("encodes");
            assert_eq!(postcard::from_bytes::<Event>(&alone).expect("decodes"), event);
        }
    }

    #[test]
    fn what_was_written_before_there_were_traces_is_read_as_it_was() {
        // One event `x` of 192.0.2.1, as the version before wrote it.
        let mut bytes = vec![1, 0, 0, 0, 37, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend((1_u32 << TEXTS << 2).to_le_bytes());
        bytes.extend([7; 16]);
        bytes.extend(5_i64.to_le_bytes());
        bytes.extend([NONE, NONE, 192, 0, 2, 1, 1, 0, 1, b'x']);
        bytes[4] = u8::try_from(bytes.len() - PREFIX - 1).expect("short");
        let [event] = <[Event; 1]>::try_from(read_all(&bytes).expect("readable")).expect("one event");
        assert_eq!((&*event.message, event.trace.as_ref(), event.trace_id().as_bytes()), ("x", None, &[7; 16]));
    }

    #[test]
    fn no_events_are_a_form_too() {
        let mut bytes = Vec::new();
        write_events([].iter(), &mut bytes);
        assert_eq!(read_all(&bytes), Ok(Vec::new()));
    }

    #[test]
    fn damage_is_an_error_or_another_event_but_no_panic() {
        let mut bytes = Vec::new();
        write_events([parted(), full()].iter(), &mut bytes);
        for length in 0..bytes.len() {
            assert!(read_all(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert!(read_all(&[&bytes[..], b"x"].concat()).is_err());
        let mut refused = 0;
        for at in 0..bytes.len() {
            for value in [0, 1, 2, 6, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                refused += usize::from(read_all(&damaged).is_err());
            }
        }
        assert!(refused > bytes.len());
    }
}
