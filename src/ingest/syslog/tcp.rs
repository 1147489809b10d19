//! Syslog over TCP (RFC 6587): accepts connections and lets [`Streams`] serve each on a task of its own.
//!
//! The number of connections is bounded; one more than allowed is closed at once. Failing accepts (no file descriptors)
//! are tried again after a pause and never end the listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::stream::Streams;
use crate::ingest::ListenerContext;
use crate::model::Protocol;
use crate::net::{BindError, Transport, bind_tcp};
use crate::telemetry::{ListenerHandle, ListenerState};

/// The listener's name on the board and in metrics.
const NAME: &str = "syslog_tcp";

/// Pause after a failed accept: descriptors become free within moments, or an operator must help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds `address` and serves syslog connections until the context's stop token is cancelled; the task ends when the
/// last connection's events are committed. Must be called within a tokio runtime.
pub fn start_tcp(context: &ListenerContext, address: SocketAddr) -> Result<JoinHandle<()>, BindError> {
    match bind(address) {
        Ok((listener, local)) => {
            let handle = context.board.register(NAME, ListenerState::Listening(local));
            tracing::info!(listener.address = %local, "Syslog over TCP is listening on {local}");
            Ok(tokio::spawn(accept(listener, context.clone(), handle)))
        }
        Err(error) => {
            context.board.register(NAME, ListenerState::Failed(error.explain()));
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

async fn accept(listener: TcpListener, context: ListenerContext, handle: ListenerHandle) {
    let streams = Arc::new(Streams::new(context.clone(), Protocol::SyslogTcp));
    let mut connections = JoinSet::new();
    let mut noted = Noted::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    noted.failing = false;
                    handle.count_received(1);
                    admit(stream, peer, &context, &streams, &mut connections, &mut noted);
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
            () = context.stop.cancelled() => break,
        }
    }
    // The port is free from here on; connections see the stop token themselves.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    context: &ListenerContext,
    streams: &Arc<Streams>,
    connections: &mut JoinSet<()>,
    noted: &mut Noted,
) {
    let limit = context.settings.get().max_connections;
    let full = connections.len() >= limit;
    if full && !noted.full {
        tracing::warn!(
            limit,
            peer.address = %peer,
            "All {limit} syslog connections are in use: {peer} and others are refused until one ends"
        );
    }
    // Connections that come and go at the limit are not worth a line each.
    noted.full = full || (noted.full && connections.len() * 10 > limit * 9);
    if full {
        return;
    }
    let streams = Arc::clone(streams);
    connections.spawn(async move { streams.serve(stream, peer.ip()).await });
}
