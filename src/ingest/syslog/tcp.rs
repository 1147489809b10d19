//! Syslog over TCP (RFC 6587) and over TLS (RFC 5425): accepts connections, brings those that want TLS through their
//! handshake, and lets [`Streams`] serve each on a task of its own.
//!
//! The number of connections is bounded; one more than allowed is closed at once. Failing accepts (no file descriptors)
//! are tried again after a pause and never end the listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::stream::Streams;
use crate::ingest::ListenerContext;
use crate::model::Protocol;
use crate::net::tls::{Door, Secured};
use crate::net::{BindError, Transport, bind_tcp};
use crate::telemetry::{ListenerHandle, ListenerState};

/// Pause after a failed accept: descriptors become free within moments, or an operator must help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One of the two listeners.
#[derive(Clone)]
struct Kind {
    /// Its name on the board and in metrics.
    name: &'static str,
    protocol: Protocol,
    door: Door,
}

/// Binds `address` and serves syslog connections until the context's release token is cancelled; the task ends when
/// the last connection does and its events are committed. Must be called within a tokio runtime.
pub fn start_tcp(context: &ListenerContext, address: SocketAddr) -> Result<JoinHandle<()>, BindError> {
    let name = "syslog_tcp";
    start(context, address, Kind { name, protocol: Protocol::SyslogTcp, door: Door::open(name) })
}

/// The same for connections that come in through `door` by TLS.
pub fn start_tls(context: &ListenerContext, address: SocketAddr, door: Door) -> Result<JoinHandle<()>, BindError> {
    start(context, address, Kind { name: "syslog_tls", protocol: Protocol::SyslogTls, door })
}

fn start(context: &ListenerContext, address: SocketAddr, kind: Kind) -> Result<JoinHandle<()>, BindError> {
    match bind(address) {
        Ok((listener, local)) => {
            let handle = context.board.register(kind.name, ListenerState::Listening(local));
            tracing::info!(listener = kind.name, listener.address = %local, "Syslog is listening on {local}");
            Ok(tokio::spawn(accept(listener, context.clone(), kind, handle)))
        }
        Err(error) => {
            context.board.register(kind.name, ListenerState::Failed(error.explain()));
            Err(error)
        }
    }
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let listener = bind_tcp(address)?;
    let bound = TcpListener::from_std(listener).and_then(|listener| {
        let local = listener.local_addr()?;
        Ok((listener, local))
    });
    bound.map_err(|source| BindError::System { transport: Transport::Tcp, address, source })
}

/// What was logged last, so that only changes are logged.
#[derive(Default)]
struct Noted {
    full: bool,
    failing: bool,
}

async fn accept(listener: TcpListener, context: ListenerContext, kind: Kind, handle: ListenerHandle) {
    let streams = Arc::new(Streams::new(context.clone(), kind.protocol));
    let mut connections = JoinSet::new();
    let mut noted = Noted::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    noted.failing = false;
                    handle.count_received(1);
                    if has_room(peer, &context, connections.len(), &mut noted) {
                        connections.spawn(serve(stream, peer, kind.door.clone(), Arc::clone(&streams), context.stop.clone()));
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut noted.failing, true) {
                        tracing::error!(
                            connections = connections.len(),
                            "Syslog connections cannot be accepted, trying again: {error}"
                        );
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!("A syslog connection's task failed: {error}");
                }
            }
            () = context.release.cancelled() => break,
        }
    }
    // The port is free from here on; connections go on until they end or see the stop token.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whether one more connection may be served besides `open` ones; the beginning of a shortage is logged.
fn has_room(peer: SocketAddr, context: &ListenerContext, open: usize, noted: &mut Noted) -> bool {
    let limit = context.settings.get().max_connections;
    let full = open >= limit;
    if full && !noted.full {
        tracing::warn!(
            limit,
            peer.address = %peer,
            "All {limit} syslog connections are in use: {peer} and others are refused until one ends"
        );
    }
    // Connections that come and go at the limit are not worth a line each.
    noted.full = full || (noted.full && open * 10 > limit * 9);
    !full
}

/// One connection from its handshake to its end.
async fn serve(stream: TcpStream, peer: SocketAddr, door: Door, streams: Arc<Streams>, stop: CancellationToken) {
    let passed = tokio::select! {
        // First, so that a plain connection is read even if the stop came with it.
        biased;
        passed = door.pass(stream, peer) => passed,
        () = stop.cancelled() => None,
    };
    match passed {
        Some(Secured::Plain(stream)) => streams.serve(stream, peer.ip()).await,
        Some(Secured::Tls(stream)) => streams.serve(stream, peer.ip()).await,
        None => {}
    }
}
