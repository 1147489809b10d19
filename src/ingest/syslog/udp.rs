//! Syslog over UDP (RFC 5426): one datagram is one message.
//!
//! A thread of its own reads many datagrams with one call and hands them to the intake as one batch. When the intake has
//! no room the thread waits and the kernel's receive buffer takes up the slack; what that cannot hold is counted as
//! kernel drops. No datagram and no socket error ends the thread. In a crash, what was received and not yet committed is
//! lost, as UDP allows.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::datagrams::{BATCH, Datagrams, Wait, kernel_drops};
use super::parse::{ParseOptions, parse};
use crate::ingest::ListenerContext;
use crate::model::{Event, Protocol, Source};
use crate::net::{BindError, Transport, bind_udp, resize_receive_buffer};
use crate::telemetry::{ListenerHandle, ListenerState};

/// The listener's name on the board and in metrics.
const NAME: &str = "syslog_udp";

/// How long a read waits, and so how soon the stop token is noticed.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause after a batch that was not full, so that the next one holds more than a single datagram. The receive buffer
/// holds far more than arrives meanwhile.
const GATHER_PAUSE: Duration = Duration::from_micros(500);
/// Pause after a socket error, so that a lasting one does not take a whole core.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Batches still read after the stop: more than the default receive buffer holds, and an end even under steady fire.
const DRAIN_BATCHES: usize = 256;

/// Binds `address` and receives syslog datagrams until the context's release token is cancelled; what is in the socket by
/// then is still taken. Must be called within a tokio runtime.
pub fn start_udp(context: &ListenerContext, address: SocketAddr) -> Result<JoinHandle<()>, BindError> {
    let wanted = context.settings.get().receive_buffer_bytes;
    match bind(address, wanted) {
        Ok((socket, local, granted)) => {
            let handle = context.board.register(NAME, ListenerState::Listening(local));
            handle.set_receive_buffer(u64::try_from(granted).unwrap_or(u64::MAX));
            tracing::info!(
                listener.address = %local,
                buffer_bytes = granted,
                "Syslog over UDP is listening on {local}"
            );
            if granted < wanted {
                tracing::warn!(
                    buffer_bytes = granted,
                    "The kernel granted a receive buffer of {granted} bytes, not {wanted}: bursts may be lost; raise \
                     net.core.rmem_max or grant CAP_NET_ADMIN"
                );
            }
            let (context, runtime) = (context.clone(), Handle::current());
            let receiver = Receiver { socket, context, handle, runtime, wanted, drops: 0 };
            Ok(tokio::task::spawn_blocking(move || receiver.run()))
        }
        Err(error) => {
            context.board.register(NAME, ListenerState::Failed(error.explain()));
            Err(error)
        }
    }
}

fn bind(address: SocketAddr, receive_buffer: usize) -> Result<(UdpSocket, SocketAddr, usize), BindError> {
    let (socket, granted) = bind_udp(address, receive_buffer)?;
    let prepared = socket.set_read_timeout(Some(READ_TIMEOUT)).and_then(|()| socket.local_addr());
    let local = prepared.map_err(|source| BindError::System { transport: Transport::Udp, address, source })?;
    Ok((socket, local, granted))
}

/// The thread's own state.
struct Receiver {
    socket: UdpSocket,
    context: ListenerContext,
    handle: ListenerHandle,
    runtime: Handle,
    /// The receive buffer that was asked for, in bytes.
    wanted: usize,
    /// The kernel's count of drops when it was last looked at.
    drops: u32,
}

impl Receiver {
    fn run(mut self) {
        let mut datagrams = Datagrams::new();
        let mut failing = None;
        while !self.context.release.is_cancelled() {
            match datagrams.receive(&self.socket, Wait::ForOne) {
                Ok(count) => {
                    failing = None;
                    self.hand_over(&datagrams, count);
                    if count < BATCH {
                        std::thread::sleep(GATHER_PAUSE);
                    }
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => {
                    if failing.replace(error.kind()) != Some(error.kind()) {
                        tracing::error!("Syslog datagrams cannot be read, trying again: {error}");
                    }
                    std::thread::sleep(ERROR_PAUSE);
                }
            }
            self.note_drops();
            self.fit_buffer();
        }
        self.drain(&mut datagrams);
        self.note_drops();
    }

    /// Takes what is in the receive buffer when the listener is stopped.
    fn drain(&self, datagrams: &mut Datagrams) {
        for _ in 0..DRAIN_BATCHES {
            match datagrams.receive(&self.socket, Wait::Never) {
                Ok(count) if count > 0 => self.hand_over(datagrams, count),
                _ => return,
            }
        }
    }

    /// Parses a batch and hands it over; waits while the intake has no room.
    fn hand_over(&self, datagrams: &Datagrams, count: usize) {
        let settings = self.context.settings.get();
        let now = self.context.clock.now();
        let options = ParseOptions::new(settings.device_zone, now, settings.max_message_bytes);
        let parsed = datagrams.iter(count).filter_map(|(bytes, peer)| {
            let source = Source { protocol: Protocol::SyslogUdp, peer };
            parse(bytes, Event::new(self.context.ids.next(now), now, source), &options)
        });
        let events: Vec<Event> = parsed.collect();
        self.handle.count_received(u64::try_from(count).unwrap_or(0));
        self.runtime.block_on(self.context.intake.offer(events));
    }

    /// Asks for another receive buffer when the settings want one.
    fn fit_buffer(&mut self) {
        let wanted = self.context.settings.get().receive_buffer_bytes;
        if wanted != std::mem::replace(&mut self.wanted, wanted) {
            self.handle.set_receive_buffer(resize_receive_buffer(&self.socket, wanted) as u64);
        }
    }

    fn note_drops(&mut self) {
        // A kernel without SO_MEMINFO leaves the count at zero; everything else still works.
        let Ok(drops) = kernel_drops(&self.socket) else { return };
        let more = drops.wrapping_sub(std::mem::replace(&mut self.drops, drops));
        if more > 0 {
            self.handle.count_kernel_drops(u64::from(more));
        }
    }
}

/// The read timeout and signals are no errors.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
