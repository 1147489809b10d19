//! How many datagrams the kernel dropped for want of room in a socket's receive buffer, from `/proc/net/udp`.
//!
//! Reading it needs no privilege; where it cannot be read (no /proc) drops are not counted, and nothing else changes.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// The socket's inode, by which its line is found.
pub(super) fn inode_of(socket: &impl AsRawFd) -> Option<u64> {
    fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok().map(|metadata| metadata.ino())
}

/// Datagrams dropped since the socket was opened. Reads files: not for async threads.
pub(super) fn dropped(inode: u64) -> Option<u64> {
    ["/proc/net/udp", "/proc/net/udp6"].into_iter().find_map(|path| find(&fs::read_to_string(path).ok()?, inode))
}

/// The `drops` column (13th) of the line whose `inode` column (10th) matches.
fn find(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(9);
        let is_ours = columns.next()?.parse() == Ok(inode);
        if is_ours { columns.nth(2)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_line_is_found_by_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            1: 00000000:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 111 2 0000000000000000 5\n\
            2: 00000000:00A2 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 222 2 0000000000000000 77\n";
        assert_eq!((find(table, 111), find(table, 222), find(table, 333)), (Some(5), Some(77), None));
        assert_eq!(find("", 1), None);
        assert_eq!(find("head\n1 2 3\n", 1), None);
    }

    #[test]
    fn the_kernel_counts_what_a_small_buffer_cannot_hold() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket2::SockRef::from(&receiver).set_recv_buffer_size(4_096).expect("an option");
        let inode = inode_of(&receiver).expect("/proc is there");
        assert_eq!(dropped(inode), Some(0));
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        for _ in 0..100 {
            sender.send_to(&[0; 1_000], receiver.local_addr().expect("bound")).expect("sent");
        }
        assert!(dropped(inode).is_some_and(|drops| drops > 0));
    }
}
