//! Which process holds a port: reads `/proc`, as `ss -p` does. Only used to explain a failed bind, so it never fails
//! itself; what it cannot find out it says in words. It keeps nothing.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Transport;

/// `st` column of /proc/net/tcp for a listening socket (TCP_LISTEN).
const LISTENING: &str = "0A";

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This process itself: two listeners are configured for one port.
    Ourselves {
        /// Its process id.
        pid: u32,
    },
    /// This process.
    Process {
        /// The program's name.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// A process that we may not look into.
    AnotherUser {
        /// The user id it runs as.
        uid: u32,
    },
    /// A process that cannot be seen from here, as one in another container.
    Unseen,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ourselves { pid } => {
                write!(f, "another listener of this very process (process {pid}): two listeners share one port")
            }
            Self::Process { name, pid } => write!(f, "`{name}` (process {pid})"),
            Self::AnotherUser { uid } => write!(f, "another user's process (user id {uid}; run as root to see which)"),
            Self::Unseen => f.write_str("a process that is not visible from here (perhaps in a container)"),
        }
    }
}

/// A line of /proc/net/{udp,tcp}{,6}.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SocketLine {
    address: SocketAddr,
    listening: bool,
    uid: u32,
    inode: u64,
}

/// Finds the process whose socket stands in the way of binding `address`.
pub(super) fn find_holder(transport: Transport, address: SocketAddr) -> Holder {
    let tables = match transport {
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let contents = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let mut lines: Vec<SocketLine> = contents
        .iter()
        .flat_map(|table| table.lines().filter_map(parse_line))
        .filter(|line| line.inode != 0 && overlaps(line.address, address))
        .collect();
    // A listener is the likelier culprit than a connection that happens to use the port.
    lines.sort_by_key(|line| !line.listening);
    let Some(first) = lines.first() else { return Holder::Unseen };
    let uid = first.uid;
    lines.iter().find_map(|line| process_of(line.inode)).unwrap_or(Holder::AnotherUser { uid })
}

/// Whether two sockets bound to these addresses would collide; an unspecified address covers all.
fn overlaps(held: SocketAddr, wanted: SocketAddr) -> bool {
    let (held_ip, wanted_ip) = (held.ip().to_canonical(), wanted.ip().to_canonical());
    held.port() == wanted.port() && (held_ip.is_unspecified() || wanted_ip.is_unspecified() || held_ip == wanted_ip)
}

/// Columns: sl local_address rem_address st queues timer retrnsmt uid timeout inode ...
fn parse_line(line: &str) -> Option<SocketLine> {
    let mut columns = line.split_ascii_whitespace();
    let address = parse_address(columns.nth(1)?)?;
    let listening = columns.nth(1)? == LISTENING;
    let uid = columns.nth(3)?.parse().ok()?;
    let inode = columns.nth(1)?.parse().ok()?;
    Some(SocketLine { address, listening, uid, inode })
}

/// The kernel prints an address as 32-bit words in the machine's byte order, and the port in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    if !ip.is_ascii() || !(ip.len() == 8 || ip.len() == 32) {
        return None;
    }
    for (index, word) in bytes.chunks_exact_mut(4).enumerate().take(ip.len() / 8) {
        let value = u32::from_str_radix(ip.get(index * 8..index * 8 + 8)?, 16).ok()?;
        word.copy_from_slice(&value.to_ne_bytes());
    }
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        _ => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    Some(SocketAddr::new(ip, port))
}

/// Looks for the process that has the socket open; folders of other users' processes cannot be read and are passed over.
fn process_of(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let mut pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid: u32 = pids.find(|pid| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        })
    })?;
    if pid == std::process::id() {
        return Some(Holder::Ourselves { pid });
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder::Process { name: name.trim().to_owned(), pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_tables_are_read() {
        let check = |line: &str, address: &str, listening: bool, uid: u32, inode: u64| {
            let address = address.parse().expect("an address");
            assert_eq!(parse_line(line), Some(SocketLine { address, listening, uid, inode }), "{line}");
        };
        check(
            "  12: 0100007F:158A 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 34567 2 0 0",
            "127.0.0.1:5514",
            false,
            101,
            34_567,
        );
        check(
            "   0: 00000000000000000000000000000000:0202 00000000000000000000000000000000:0000 0A 00000000:00000000 \
             00:00000000 00000000     0        0 99 1 0 100 0 0 10 0",
            "[::]:514",
            true,
            0,
            99,
        );
        assert_eq!(
            parse_line("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"),
            None
        );
        assert_eq!(parse_line("  1: 0100:158A 0:0 07 0 0 0 0 0 1"), None);
    }

    #[test]
    fn a_wildcard_collides_with_every_address_of_the_port() {
        for (held, wanted, collide) in [
            ("127.0.0.1:514", "127.0.0.1:514", true),
            ("127.0.0.1:514", "127.0.0.1:515", false),
            ("127.0.0.1:514", "127.0.0.2:514", false),
            ("[::]:514", "127.0.0.1:514", true),
            ("127.0.0.1:514", "0.0.0.0:514", true),
            ("[::ffff:127.0.0.1]:514", "127.0.0.1:514", true),
        ] {
            let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
            assert_eq!(overlaps(parse(held), parse(wanted)), collide, "{held} {wanted}");
        }
    }
}
