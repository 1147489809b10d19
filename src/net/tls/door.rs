//! What a listener lets its connections through: as they are, or by a TLS handshake.
//!
//! Handshakes cost an attacker nothing and us memory, so they are bounded: in time, and in number for each listener.
//! When all places are taken, the oldest handshake of the address that has most of them under way gives way; one that
//! answers promptly always gets through, however many hang. Failures are counted, and logged once a minute for each peer.
//! It keeps no state over a restart.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::live::Live;
use crate::net::Strangers;
use crate::telemetry::metrics::TLS_HANDSHAKES;

/// Time for one handshake: two round trips around the world take a second, a busy device some more.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Handshakes under way at once on one listener, each with the buffers of a TLS session. A quarter of the connections that
/// a listener has by default, so that those which hang leave room for the others.
const MAX_HANDSHAKES: usize = 256;

/// Marks a request that came over TLS, among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverTls;

/// How connections pass.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// As they are.
    Plain,
    /// By a handshake with this certificate.
    Tls(Arc<ServerConfig>),
    /// Not at all: TLS is wanted and there is no usable certificate.
    Shut,
}

/// A listener's door; clones share it.
#[derive(Clone)]
pub struct Door {
    listener: &'static str,
    way: Live<Way>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    handshakes: Mutex<Handshakes>,
    strangers: Mutex<Strangers>,
}

/// A connection that has passed.
pub enum Secured {
    /// As it came.
    Plain(TcpStream),
    /// Inside TLS; boxed, because its state is large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Door {
    pub(super) fn new(listener: &'static str, way: Live<Way>) -> Self {
        Self { listener, way, shared: Arc::default() }
    }

    /// A door that lets everything pass as it is.
    pub fn open(listener: &'static str) -> Self {
        Self::new(listener, Live::constant(Way::Plain))
    }

    /// Lets a connection through; `None` when it did not make it, which is counted and logged here.
    pub async fn pass(&self, stream: TcpStream, peer: SocketAddr) -> Option<Secured> {
        let config = match self.way.get().as_ref() {
            Way::Plain => return Some(Secured::Plain(stream)),
            Way::Tls(config) => Arc::clone(config),
            Way::Shut => {
                self.failed("no_certificate", peer, "there is no usable certificate");
                return None;
            }
        };
        let place = Place::take(&self.shared, peer.ip().to_canonical());
        let outcome = tokio::select! {
            outcome = timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(config).accept(stream)) => outcome,
            () = place.given_way.cancelled() => {
                self.failed("gave_way", peer, "too many handshakes were under way");
                return None;
            }
        };
        match outcome {
            Ok(Ok(stream)) => {
                metrics::counter!(TLS_HANDSHAKES, "listener" => self.listener, "result" => "ok").increment(1);
                Some(Secured::Tls(Box::new(stream)))
            }
            Ok(Err(error)) if left(&error) => {
                metrics::counter!(TLS_HANDSHAKES, "listener" => self.listener, "result" => "left").increment(1);
                tracing::debug!(listener = self.listener, %peer, "A peer left before its TLS handshake: {error}");
                None
            }
            Ok(Err(error)) => {
                self.failed("failed", peer, &error.to_string());
                None
            }
            Err(_) => {
                self.failed("timeout", peer, "it took too long");
                None
            }
        }
    }

    fn failed(&self, result: &'static str, peer: SocketAddr, why: &str) {
        metrics::counter!(TLS_HANDSHAKES, "listener" => self.listener, "result" => result).increment(1);
        if self.shared.strangers.lock().mention(peer.ip().to_canonical(), Instant::now()) {
            tracing::warn!(listener = self.listener, %peer, "A TLS handshake with {peer} failed: {why}");
        }
    }
}

/// Port scans and health checks open a connection and close it; that is not worth a warning.
fn left(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The handshakes under way on one listener, oldest first.
#[derive(Default)]
struct Handshakes {
    next: u64,
    under_way: Vec<UnderWay>,
}

struct UnderWay {
    number: u64,
    peer: IpAddr,
    give_way: CancellationToken,
}

/// A place among the handshakes, given back when it is dropped.
struct Place<'a> {
    shared: &'a Shared,
    number: u64,
    given_way: CancellationToken,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, peer: IpAddr) -> Self {
        let mut handshakes = shared.handshakes.lock();
        if handshakes.under_way.len() >= MAX_HANDSHAKES {
            handshakes.make_room();
        }
        let (number, given_way) = (handshakes.next, CancellationToken::new());
        handshakes.next += 1;
        handshakes.under_way.push(UnderWay { number, peer, give_way: given_way.clone() });
        Self { shared, number, given_way }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.handshakes.lock().under_way.retain(|one| one.number != self.number);
    }
}

impl Handshakes {
    /// Ends the oldest handshake of the address that has most of them.
    fn make_room(&mut self) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for one in &self.under_way {
            *counts.entry(one.peer).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        if let Some(at) = self.under_way.iter().position(|one| counts.get(&one.peer) == Some(&most)) {
            self.under_way.remove(at).give_way.cancel();
        }
    }
}

impl Secured {
    /// Whether it is inside TLS.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn whoever_has_most_handshakes_under_way_gives_way_first() {
        let shared = Shared::default();
        let honest = Place::take(&shared, peer(1));
        let mut hostile: Vec<Place<'_>> = (1..MAX_HANDSHAKES).map(|_| Place::take(&shared, peer(2))).collect();
        let next = Place::take(&shared, peer(3));
        assert!(hostile[0].given_way.is_cancelled() && !hostile[1].given_way.is_cancelled());
        assert!(!honest.given_way.is_cancelled() && !next.given_way.is_cancelled());
        hostile.extend((0..1_000).map(|_| Place::take(&shared, peer(2))));
        assert!(!honest.given_way.is_cancelled() && !next.given_way.is_cancelled());
        assert_eq!(shared.handshakes.lock().under_way.len(), MAX_HANDSHAKES);
        drop((honest, next, hostile));
        assert!(shared.handshakes.lock().under_way.is_empty());
    }
}
