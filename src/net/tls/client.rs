//! TLS towards an appliance, for its commands: trusted are the system's authorities, those of files that were named, and
//! nobody's word only when that is asked for. Keeps nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{TlsError, certificates};

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities, and the certificates in these PEM files.
    System(Vec<PathBuf>),
    /// Everyone: what is sent may be read by whoever sits between. Only because it was asked for.
    Everyone,
}

/// A connection inside TLS.
pub type ClientStream = TlsStream<TcpStream>;
/// The same for a thread that may block.
pub type BlockingStream = StreamOwned<ClientConnection, std::net::TcpStream>;

/// Makes connections inside TLS; clones share the configuration.
#[derive(Debug, Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Reads the files that `trust` names.
    pub fn new(trust: &Trust) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Everyone => Arc::new(Anyone(Arc::clone(&provider))),
            Trust::System(files) => {
                let mut roots = Vec::new();
                for file in files {
                    roots.extend(certificates(file)?);
                }
                let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider));
                Arc::new(verifier.map_err(|error| TlsError::NoTrust { why: error.to_string() })?)
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::NoTrust { why: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The configuration, for an HTTP client that makes its connections itself.
    pub fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.0)
    }

    /// Brings a connection to `host` into TLS.
    pub async fn secure(&self, host: &str, stream: TcpStream) -> io::Result<ClientStream> {
        TlsConnector::from(Arc::clone(&self.0)).connect(name(host)?, stream).await
    }

    /// The same for a thread that may block; the handshake happens with the first bytes.
    pub fn secure_blocking(&self, host: &str, stream: std::net::TcpStream) -> io::Result<BlockingStream> {
        let connection = ClientConnection::new(Arc::clone(&self.0), name(host)?).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

/// The name that the certificate must have: a host or an address, in brackets or not.
fn name(host: &str) -> io::Result<ServerName<'static>> {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Takes every certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
