//! Connections for kinds that write bytes and do not speak HTTP: TCP or TLS, to addresses that the guard permits.
//!
//! A few connections are kept for the next write. Nobody holds a lock while the network is waited for: a writer takes
//! a connection out and puts it back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::crypto;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::forward::{DeliveryError, FailureReason, Guard};

/// Reads of what a peer says though nobody asked; a peer that says more than this is not listening.
const MOST_READS: usize = 16;

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    /// In clear.
    Clear,
    /// By TLS.
    Tls,
}

/// Where to connect, and how.
pub(super) struct Line {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) guard: Guard,
    /// For connecting and writing together.
    pub(super) timeout: Duration,
}

/// A way for bytes, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

struct Idle {
    stream: Box<dyn Stream>,
    since: Instant,
}

/// The connections to one server.
pub(super) struct Lines {
    line: Line,
    /// How to encrypt, or why that cannot be.
    tls: Option<Result<(TlsConnector, ServerName<'static>), String>>,
    idle: Mutex<Vec<Idle>>,
    kept: usize,
    trusted: Duration,
}

impl Lines {
    /// Keeps up to `kept` idle connections, each for as long as it is `trusted`.
    pub(super) fn new(line: Line, kept: usize, trusted: Duration) -> Self {
        let tls = match line.security {
            Security::Clear => None,
            Security::Tls => Some(tls(&line.host)),
        };
        Self { line, tls, idle: Mutex::new(Vec::new()), kept, trusted }
    }

    /// Whether a connection can be tried at all; if not, why, for people.
    pub(super) fn ready(&self) -> Result<(), String> {
        match &self.tls {
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Where it is, for people.
    pub(super) fn address(&self, scheme: &str) -> String {
        let host = &self.line.host;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        let security = if self.tls.is_some() { "+tls" } else { "" };
        format!("{scheme}{security}://{host}:{}", self.line.port)
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, DeliveryError> {
        within(self.line.timeout, self.open()).await
    }

    /// Writes everything, over an idle connection if one is alive, else over a new one.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), DeliveryError> {
        within(self.line.timeout, async {
            if let Some(stream) = self.take_alive()
                && let Ok(stream) = write_to(stream, bytes).await
            {
                self.keep(stream);
                return Ok(());
            }
            let stream = self.open().await?;
            let stream = write_to(stream, bytes).await.map_err(|error| broken(&error))?;
            self.keep(stream);
            Ok(())
        })
        .await
    }

    async fn open(&self) -> Result<Box<dyn Stream>, DeliveryError> {
        let addresses = self.line.guard.resolve(&self.line.host, self.line.port).await?;
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| broken(&error))?;
        // Alerts are small and each matters at once.
        stream.set_nodelay(true).map_err(|error| broken(&error))?;
        let (connector, name) = match &self.tls {
            None => return Ok(Box::new(stream)),
            Some(Err(why)) => return Err(DeliveryError::retry(FailureReason::Internal, why)),
            Some(Ok((connector, name))) => (connector, name),
        };
        let stream = connector.connect(name.clone(), stream).await.map_err(|error| broken(&error))?;
        Ok(Box::new(stream))
    }

    /// The connection used last that the peer has not closed.
    fn take_alive(&self) -> Option<Box<dyn Stream>> {
        loop {
            let mut idle = self.idle.lock().pop()?;
            if idle.since.elapsed() < self.trusted && is_alive(&mut idle.stream) {
                return Some(idle.stream);
            }
        }
    }

    fn keep(&self, stream: Box<dyn Stream>) {
        let mut idle = self.idle.lock();
        if idle.len() < self.kept {
            idle.push(Idle { stream, since: Instant::now() });
        }
    }
}

/// Writes, and looks whether the peer was there: one that closed before or meanwhile has not read it.
async fn write_to(mut stream: Box<dyn Stream>, bytes: &[u8]) -> std::io::Result<Box<dyn Stream>> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    if is_alive(&mut stream) { Ok(stream) } else { Err(std::io::ErrorKind::ConnectionReset.into()) }
}

/// Whether the peer has neither closed nor reset; what it says is thrown away.
fn is_alive(stream: &mut Box<dyn Stream>) -> bool {
    let mut heard = [0; 256];
    for _ in 0..MOST_READS {
        match stream.read(&mut heard).now_or_never() {
            None => return true,
            Some(Ok(1..)) => {}
            Some(Ok(0) | Err(_)) => return false,
        }
    }
    false
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, DeliveryError>>,
) -> Result<T, DeliveryError> {
    tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
        Err(DeliveryError::retry(FailureReason::Timeout, format!("nothing happened within {} s", timeout.as_secs())))
    })
}

fn broken(error: &std::io::Error) -> DeliveryError {
    DeliveryError::retry(FailureReason::Connection, error.to_string())
}

/// TLS towards a name, checked against the system's authorities.
fn tls(host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_| format!("`server`: `{host}` cannot be in a certificate"))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = Verifier::new(Arc::clone(&provider))
        .map_err(|error| format!("the system's certificate authorities cannot be used: {error}"))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn lines(port: u16, trusted: Duration) -> Lines {
        let line = Line {
            host: "127.0.0.1".to_owned(),
            port,
            security: Security::Clear,
            guard: Guard::default(),
            timeout: Duration::from_secs(20),
        };
        Lines::new(line, 4, trusted)
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        (listener, port)
    }

    async fn read(stream: &mut TcpStream, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        stream.read_exact(&mut buffer).await.expect("bytes");
        String::from_utf8(buffer).expect("a text")
    }

    #[tokio::test]
    async fn one_connection_serves_many_writes() {
        let (listener, port) = listener().await;
        let lines = lines(port, Duration::from_secs(60));
        lines.write(b"one").await.expect("written");
        lines.write(b"two").await.expect("written");
        let (mut peer, _) = listener.accept().await.expect("a connection");
        assert_eq!(read(&mut peer, 6).await, "onetwo");
        assert_eq!(lines.idle.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_peer_that_went_away_is_noticed_before_the_next_write() {
        let (listener, port) = listener().await;
        let lines = lines(port, Duration::from_secs(60));
        lines.write(b"one").await.expect("written");
        let (mut peer, _) = listener.accept().await.expect("a connection");
        assert_eq!(read(&mut peer, 3).await, "one");
        drop(peer);
        // The end of the connection reaches us when the reactor has seen it.
        loop {
            let mut idle = lines.idle.lock().pop().expect("the connection");
            let alive = is_alive(&mut idle.stream);
            lines.idle.lock().push(idle);
            if !alive {
                break;
            }
            tokio::task::yield_now().await;
        }
        lines.write(b"two").await.expect("written");
        let (mut peer, _) = listener.accept().await.expect("a second connection");
        assert_eq!(read(&mut peer, 3).await, "two");
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_long_is_not_trusted() {
        let (listener, port) = listener().await;
        let lines = lines(port, Duration::ZERO);
        lines.write(b"one").await.expect("written");
        lines.write(b"two").await.expect("written");
        let (mut first, _) = listener.accept().await.expect("a connection");
        let (mut second, _) = listener.accept().await.expect("another");
        assert_eq!((read(&mut first, 3).await, read(&mut second, 3).await), ("one".into(), "two".into()));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told() {
        let (listener, port) = listener().await;
        drop(listener);
        let error = lines(port, Duration::ZERO).write(b"one").await.expect_err("nobody");
        assert_eq!(error.reason(), FailureReason::Connection);
    }

    #[test]
    fn addresses_are_shown_as_urls() {
        let line = |host: &str| Lines {
            line: Line { host: host.to_owned(), ..lines(514, Duration::ZERO).line },
            ..lines(514, Duration::ZERO)
        };
        assert_eq!(line("logs.example").address("syslog"), "syslog://logs.example:514");
        assert_eq!(line("::1").address("syslog"), "syslog://[::1]:514");
    }
}
