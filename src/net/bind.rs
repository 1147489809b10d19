//! Binding sockets so that a failure tells the operator what to do.
//!
//! A port that is taken is the commonest reason why a fresh installation does not start, so [`BindError`] names the
//! process that holds it. Nothing here keeps state: a crash leaves nothing behind, and sockets close with the process.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::holder::{self, Holder};

/// Connections the kernel completes on its own before they are accepted; beyond it new ones are retried by the sender.
const BACKLOG: i32 = 1_024;

/// What is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Why a socket could not be bound, and so what the operator should change.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket has the port: stop its owner or choose another port.
    #[error(
        "cannot listen on {transport} {address}: the port is held by {holder}; stop that process or configure another port"
    )]
    InUse {
        /// UDP or TCP.
        transport: Transport,
        /// What was asked for.
        address: SocketAddr,
        /// Who has it.
        holder: Holder,
    },
    /// Ports below 1024 need a capability: grant it or use a higher port.
    #[error(
        "cannot listen on {transport} {address}: ports below 1024 need the capability CAP_NET_BIND_SERVICE; \
         start it with the packaged systemd unit, which grants it, or use port {instead}"
    )]
    NotPermitted {
        /// UDP or TCP.
        transport: Transport,
        /// What was asked for.
        address: SocketAddr,
        /// A port that needs no privilege.
        instead: u16,
    },
    /// The address is not one of this machine's: correct it.
    #[error(
        "cannot listen on {transport} {address}: no interface of this machine has that address; \
         use one of its own, or 0.0.0.0 (all of IPv4) or [::] (all)"
    )]
    NotOurs {
        /// UDP or TCP.
        transport: Transport,
        /// What was asked for.
        address: SocketAddr,
    },
    /// Anything else the system says.
    #[error("cannot listen on {transport} {address}")]
    System {
        /// UDP or TCP.
        transport: Transport,
        /// What was asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl BindError {
    fn new(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                Self::InUse { transport, address, holder: holder::find_holder(transport, address) }
            }
            io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => {
                Self::NotPermitted { transport, address, instead: unprivileged(address.port()) }
            }
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { transport, address },
            _ => Self::System { transport, address, source },
        }
    }

    /// The whole reason in one line, the system's own words included: for boards and pages, which show no error chain.
    pub fn explain(&self) -> String {
        match self {
            Self::System { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// The port customarily used in place of a privileged one.
const fn unprivileged(port: u16) -> u16 {
    match port {
        162 => 1_162,
        514 => 5_514,
        601 => 5_601,
        80 => 8_080,
        443 => 8_443,
        other => 8_000 + other,
    }
}

/// Binds a blocking UDP socket and asks for a receive buffer of `receive_buffer_bytes`.
///
/// Returns what the kernel granted, in the same measure: without CAP_NET_ADMIN it is at most `net.core.rmem_max`. A
/// smaller buffer than wanted is no error, since a listener that may lose bursts is better than none.
pub fn bind_udp(address: SocketAddr, receive_buffer_bytes: usize) -> Result<(UdpSocket, usize), BindError> {
    let failed = |source| BindError::new(Transport::Udp, address, source);
    let socket = open(address, Type::DGRAM, Protocol::UDP).map_err(failed)?;
    request_receive_buffer(&socket, receive_buffer_bytes);
    socket.bind(&address.into()).map_err(failed)?;
    // socket(7): the kernel doubles the value for its bookkeeping and reports the double.
    let granted = socket.recv_buffer_size().map_err(failed)? / 2;
    Ok((socket.into(), granted))
}

/// Asks for a receive buffer of another size while a socket is in use; what is in it stays. Returns what the kernel
/// granted, 0 if it does not say.
pub fn resize_receive_buffer<S: AsFd>(socket: &S, receive_buffer_bytes: usize) -> usize {
    let socket = socket2::SockRef::from(socket);
    request_receive_buffer(&socket, receive_buffer_bytes);
    socket.recv_buffer_size().unwrap_or(0) / 2
}

/// Binds a listening TCP socket, non-blocking as tokio wants it. SO_REUSEADDR lets a restart take its port back while
/// old connections still linger in TIME_WAIT; it does not let two processes listen on one port.
pub fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::new(Transport::Tcp, address, source);
    let socket = open(address, Type::STREAM, Protocol::TCP).map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if let IpAddr::V6(ip) = address.ip()
        && ip.is_unspecified()
    {
        // `[::]` means every address of both families, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// SO_RCVBUFFORCE passes the limit of `net.core.rmem_max` with CAP_NET_ADMIN; SO_RCVBUF stops at it without an error.
fn request_receive_buffer(socket: &Socket, bytes: usize) {
    let size = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the pointer and length describe one live
    // `c_int`, which the kernel only reads.
    let forced = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            std::ptr::from_ref(&size).cast(),
            length,
        )
    };
    if forced != 0 {
        // The caller reads back what was granted; a refusal here only means the system's default stays.
        drop(socket.set_recv_buffer_size(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_udp_socket_reports_the_buffer_it_was_granted() {
        let (socket, granted) = bind_udp(loopback(0), 128 << 10).expect("port 0 is free");
        assert_ne!(socket.local_addr().expect("bound").port(), 0);
        // rmem_max is at least 208 KiB on every Linux, so this much is always granted in full.
        assert_eq!(granted, 128 << 10);
        assert_eq!(resize_receive_buffer(&socket, 64 << 10), 64 << 10);
    }

    #[test]
    fn a_taken_port_names_the_process_that_holds_it() {
        let (udp, _) = bind_udp(loopback(0), 1 << 16).expect("port 0 is free");
        let tcp = bind_tcp(loopback(0)).expect("port 0 is free");
        let taken_udp = udp.local_addr().expect("bound");
        let taken_tcp = tcp.local_addr().expect("bound");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], taken_tcp.port()));
        let dual = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, taken_tcp.port()));
        let mut errors = vec![bind_udp(taken_udp, 1).map(drop).expect_err("taken")];
        errors.extend([taken_tcp, everywhere, dual].map(|address| bind_tcp(address).map(drop).expect_err("taken")));
        for error in errors {
            let text = error.to_string();
            let pid = format!("process {}", std::process::id());
            assert!(text.contains(&pid), "{text}");
            assert!(text.contains("another port"), "{text}");
        }
    }

    #[test]
    fn a_foreign_address_is_told_from_a_taken_port() {
        // 192.0.2.0/24 is reserved for documentation (RFC 5737): no machine has it.
        let error = bind_tcp(SocketAddr::from(([192, 0, 2, 1], 0))).expect_err("not ours");
        assert!(matches!(error, BindError::NotOurs { .. }), "{error}");
    }

    #[test]
    fn a_refused_low_port_suggests_the_customary_high_one() {
        for (port, instead) in [(514, "5514"), (162, "1162"), (80, "8080"), (515, "8515")] {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            let text = BindError::new(Transport::Udp, loopback(port), source).to_string();
            assert!(text.contains("CAP_NET_BIND_SERVICE") && text.contains(instead), "{text}");
        }
    }
}
