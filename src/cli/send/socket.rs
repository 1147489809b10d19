//! Sends syslog over UDP, TCP and TLS and traps over UDP, each connection on a thread of its own with plain blocking calls:
//! that is what reaches several hundred thousand messages a second.
//!
//! UDP tells a sender nothing but a closed port (as an ICMP error on a later call), TCP nothing but a reset, so what is
//! counted here was handed to the network, not received.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::many;
use super::pool::Pool;
use super::schedule::Schedule;
use super::tally::Tally;
use crate::net::tls::Connector;

/// Datagrams between two looks at the clock and the counters.
const UDP_CHUNK: u64 = many::MOST as u64;
/// Bytes gathered for one write to a TCP connection: beyond, a call costs no less a byte.
const TCP_CHUNK: usize = 128 * 1024;
/// Bytes of datagrams handed to the kernel with one call: well below a send buffer of the usual 208 KiB, so that the
/// call is never cut short by large ones.
const UDP_CHUNK_BYTES: usize = 96 * 1024;
/// The longest a thread sleeps before it looks whether it should stop.
const LONGEST_NAP: Duration = Duration::from_millis(50);
/// The shortest sleep: waking for each message would cost more than sending it.
const SHORTEST_NAP: Duration = Duration::from_micros(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the peer may take to close a TCP connection after we did.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a datagram is offered to a full send buffer, a millisecond apart.
const FULL_BUFFER_TRIES: u32 = 1_000;

/// One connection's part of a run: every `of`-th message from `index` on.
#[derive(Debug)]
pub struct Part {
    /// The first message's number.
    pub index: u64,
    /// Connections in all.
    pub of: u64,
    /// Makes the messages.
    pub feed: Feed,
    /// When each is due.
    pub schedule: Schedule,
    /// Where it is counted.
    pub tally: Arc<Tally>,
    /// Ends the run early.
    pub stop: CancellationToken,
}

/// How messages are told apart in a stream (RFC 6587 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A line feed ends a message.
    LineFeed,
    /// The message's length and a blank precede it.
    OctetCounted,
}

impl Part {
    /// Sleeps until message `number` is due and answers how many are due by then; `None` ends the run.
    fn due(&self, number: u64) -> Option<u64> {
        loop {
            let now = Instant::now();
            if self.schedule.is_over(number, now) || self.stop.is_cancelled() {
                return None;
            }
            let due = self.schedule.due(now);
            if number < due {
                return Some(due);
            }
            std::thread::sleep(self.schedule.wait(number, now).clamp(SHORTEST_NAP, LONGEST_NAP));
        }
    }

    /// How many messages of this part have a number from `number` to below `due`.
    fn until(&self, number: u64, due: u64) -> u64 {
        due.saturating_sub(number).div_ceil(self.of)
    }

    /// Notes that this part sent all its messages below `number`, the next one's.
    pub fn note_end(&self, number: u64) {
        self.tally.note_connection(self.index, (number - self.index) / self.of);
    }
}

/// Sends one datagram a message.
pub fn send_udp(to: SocketAddr, part: Part) -> std::io::Result<()> {
    let socket = connected_udp(to)?;
    let plain = |message: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(message);
        0
    };
    let Some(mut pool) = part.feed.pool(part.index, part.of, plain) else { return send_udp_singly(&socket, part) };
    let mut sender = many::Sender::new();
    let mut number = part.index;
    while let Some(due) = part.due(number) {
        let slice = pool.take(part.until(number, due).min(UDP_CHUNK), UDP_CHUNK_BYTES);
        let (mut done, mut tries) = (0, 0);
        while done < slice.len() {
            match sender.send(&socket, slice.messages().skip(done)) {
                Ok(sent) => done += sent,
                Err(error) => note_send_error(error, &mut tries, &part.tally)?,
            }
        }
        part.tally.add_sent(slice.len() as u64, slice.bytes.len() as u64);
        number += slice.len() as u64 * part.of;
    }
    part.note_end(number);
    Ok(())
}

/// The same for messages that are made afresh.
fn send_udp_singly(socket: &UdpSocket, mut part: Part) -> std::io::Result<()> {
    let mut message = Vec::with_capacity(2_048);
    let mut number = part.index;
    while let Some(due) = part.due(number) {
        let (mut sent, mut bytes) = (0, 0);
        while number < due && sent < UDP_CHUNK {
            message.clear();
            part.feed.put(number, &mut message);
            let mut tries = 0;
            while let Err(error) = socket.send(&message) {
                note_send_error(error, &mut tries, &part.tally)?;
            }
            sent += 1;
            bytes += message.len() as u64;
            number += part.of;
        }
        part.tally.add_sent(sent, bytes);
    }
    part.note_end(number);
    Ok(())
}

/// A UDP socket bound to any port and connected to `to`, so that ICMP errors come back to it.
fn connected_udp(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket)
}

/// Decides whether a datagram is offered once more.
fn note_send_error(error: std::io::Error, tries: &mut u32, tally: &Tally) -> std::io::Result<()> {
    match error.kind() {
        // The error belongs to a datagram sent before; this one has not been sent yet.
        ErrorKind::ConnectionRefused => {
            tally.add_refused(1);
            tally.add_error("the port is closed: the peer's system turned datagrams away".into());
            Ok(())
        }
        ErrorKind::Interrupted => Ok(()),
        _ if error.raw_os_error() == Some(libc::ENOBUFS) && *tries < FULL_BUFFER_TRIES => {
            *tries += 1;
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        _ => Err(error),
    }
}

/// Sends a stream of framed messages, then closes and waits for the peer to close too.
pub fn send_tcp(to: SocketAddr, framing: Framing, mut part: Part) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    // A peer that reads slowly makes a write wait; with a time-out the thread can be stopped meanwhile.
    stream.set_write_timeout(Some(LONGEST_NAP))?;
    let complete = match part.feed.pool(part.index, part.of, |message, out| frame(framing, message, out)) {
        Some(pool) => write_pool(&mut stream, pool, &part)?,
        None => write_fresh(&mut stream, framing, &mut part)?,
    };
    if !complete {
        part.tally.add_error("stopped while the peer was not reading; the last write is incomplete".into());
        return Ok(());
    }
    stream.shutdown(Shutdown::Write)?;
    await_close(&mut stream)
}

/// Sends a stream of octet counted messages inside TLS, then closes and waits for the peer to close too.
pub fn send_tls(to: SocketAddr, host: &str, tls: &Connector, mut part: Part) -> std::io::Result<()> {
    let stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    let mut stream = tls.secure_blocking(host, stream)?;
    // The handshake before the first message, within a time of its own.
    stream.flush()?;
    stream.sock.set_write_timeout(Some(LONGEST_NAP))?;
    let framing = Framing::OctetCounted;
    let complete = match part.feed.pool(part.index, part.of, |message, out| frame(framing, message, out)) {
        Some(pool) => write_pool(&mut stream, pool, &part)?,
        None => write_fresh(&mut stream, framing, &mut part)?,
    };
    if !complete {
        part.tally.add_error("stopped while the peer was not reading; the last write is incomplete".into());
        return Ok(());
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)?;
    await_close(&mut stream.sock)
}

/// Writes laid out messages until the run is over; false if it was stopped amid a write.
fn write_pool(stream: &mut impl Write, mut pool: Pool, part: &Part) -> std::io::Result<bool> {
    let mut number = part.index;
    while let Some(due) = part.due(number) {
        let slice = pool.take(part.until(number, due), TCP_CHUNK);
        if !write_all(stream, slice.bytes, part)? {
            return Ok(false);
        }
        part.tally.add_sent(slice.len() as u64, slice.bytes.len() as u64);
        number += slice.len() as u64 * part.of;
    }
    part.note_end(number);
    Ok(true)
}

/// The same for messages that are made afresh.
fn write_fresh(stream: &mut impl Write, framing: Framing, part: &mut Part) -> std::io::Result<bool> {
    let mut buffer = Vec::with_capacity(TCP_CHUNK * 2);
    let mut message = Vec::with_capacity(2_048);
    let mut number = part.index;
    while let Some(due) = part.due(number) {
        buffer.clear();
        let mut sent = 0;
        while number < due && buffer.len() < TCP_CHUNK {
            message.clear();
            part.feed.put(number, &mut message);
            frame(framing, &message, &mut buffer);
            sent += 1;
            number += part.of;
        }
        if !write_all(stream, &buffer, part)? {
            return Ok(false);
        }
        part.tally.add_sent(sent, buffer.len() as u64);
    }
    part.note_end(number);
    Ok(true)
}

/// Appends a message with its framing; answers where in it the message begins.
fn frame(framing: Framing, message: &[u8], buffer: &mut Vec<u8>) -> usize {
    match framing {
        Framing::LineFeed => {
            buffer.extend_from_slice(message);
            buffer.push(b'\n');
            0
        }
        Framing::OctetCounted => {
            let count = message.len().to_string();
            buffer.extend_from_slice(count.as_bytes());
            buffer.push(b' ');
            buffer.extend_from_slice(message);
            count.len() + 1
        }
    }
}

/// False if the run was stopped before everything was written.
fn write_all(stream: &mut impl Write, mut rest: &[u8], part: &Part) -> std::io::Result<bool> {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if part.stop.is_cancelled() {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads until the peer closes: a reset means that it did not take everything. A peer that keeps its side open is fine.
fn await_close(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(CLOSE_TIMEOUT))?;
    let mut scrap = [0; 1_024];
    loop {
        match stream.read(&mut scrap) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::feed::{Origin, Shape};
    use std::net::TcpListener;

    fn part(count: u64, rate: Option<f64>) -> (Part, Arc<Tally>) {
        let origin = Origin::Lines(vec!["<13>one".into(), "<14>two words".into()]);
        let tally = Arc::new(Tally::default());
        let part = Part {
            index: 0,
            of: 1,
            feed: Feed::new(&origin, &Shape::Syslog, None).expect("a feed"),
            schedule: Schedule::new(rate, count, None),
            tally: Arc::clone(&tally),
            stop: CancellationToken::new(),
        };
        (part, tally)
    }

    #[test]
    fn each_message_is_one_datagram() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let (part, tally) = part(3, Some(10_000.0));
        send_udp(receiver.local_addr().expect("an address"), part).expect("sent");
        let mut buffer = [0; 100];
        for expected in ["<13>one", "<14>two words", "<13>one"] {
            let length = receiver.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        let report = tally.report(String::new(), Some(3), Duration::from_secs(1));
        assert_eq!((report.sent, report.bytes), (3, 27));
    }

    #[test]
    fn a_closed_port_is_counted_as_refusal() {
        let closed = UdpSocket::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
        let (part, tally) = part(10, None);
        send_udp(closed, part).expect("sent");
        assert!(!tally.report(String::new(), Some(10), Duration::from_secs(1)).is_clean());
    }

    /// Sends three messages over TCP and compares the stream.
    fn check_stream(framing: Framing, expected: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let to = listener.local_addr().expect("an address");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            listener.accept().expect("a connection").0.read_to_string(&mut text).expect("text");
            text
        });
        let (part, tally) = part(3, None);
        send_tcp(to, framing, part).expect("sent");
        assert_eq!(reader.join().expect("the reader"), expected);
        let report = tally.report(String::new(), Some(3), Duration::from_secs(1));
        assert!(report.is_clean() && report.bytes == expected.len() as u64, "{report}");
    }

    #[test]
    fn a_stream_is_framed_as_asked() {
        check_stream(Framing::LineFeed, "<13>one\n<14>two words\n<13>one\n");
        check_stream(Framing::OctetCounted, "7 <13>one13 <14>two words7 <13>one");
    }

    #[test]
    fn a_run_that_is_stopped_leaves_a_peer_that_does_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let (part, tally) = part(u64::MAX, None);
        let stop = part.stop.clone();
        let to = listener.local_addr().expect("an address");
        let sender = std::thread::spawn(move || send_tcp(to, Framing::LineFeed, part));
        let peer = listener.accept().expect("a connection");
        stop.cancel();
        sender.join().expect("the sender ends").expect("without an error of its own");
        drop(peer);
        assert!(tally.report(String::new(), None, Duration::from_secs(1)).sent < u64::MAX);
    }
}
