//! TLS of our own listeners: certificates from files or made here, exchanged while connections go on, and handshakes that
//! cannot use up what others need. TLS 1.2 and 1.3 by rustls with ring.
//!
//! [`Certificates`] loads and watches the files, [`Door`] is what a listener lets its connections through. A certificate
//! that cannot be used never replaces one that can. Nothing here logs or shows a key. In a crash nothing is lost: files
//! are read again at the next start, and the certificate made here is kept in the data directory.

mod certificate;
mod client;
mod desk;
mod door;
mod files;
mod own;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use client::{BlockingStream, ClientStream, Connector, Trust};
pub use desk::Certificates;
pub use door::{Door, OverTls, Secured};
pub use files::TlsError;
pub use own::own_certificate_file;

/// Has TLS clients and servers of this process use ring; a later call changes nothing.
pub fn use_ring() {
    // The answer says whether another part of the process was first; either way ring is in place then.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whether the listeners of one process speak TLS, and with which certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPlan {
    /// The data directory; a certificate made here lies in its folder `tls`.
    pub data_dir: PathBuf,
    /// Names and addresses for a certificate made here, besides those of this machine.
    pub names: Vec<String>,
    /// The listeners that can speak TLS.
    pub listeners: Vec<(TlsListener, TlsSettings)>,
}

impl TlsPlan {
    /// What one listener is to do.
    pub fn of(&self, listener: TlsListener) -> Option<&TlsSettings> {
        self.listeners.iter().find(|(name, _)| *name == listener).map(|(_, settings)| settings)
    }
}

/// A listener that can speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsListener {
    /// Web UI and API.
    Web,
    /// HTTP ingest.
    Ingest,
    /// Syslog over TLS.
    Syslog,
}

impl TlsListener {
    /// The listener's name on the board and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Web => "web_http",
            Self::Ingest => "ingest_http",
            Self::Syslog => "syslog_tls",
        }
    }

    /// What is spoken inside TLS (RFC 7301), where clients may ask.
    const fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Self::Web | Self::Ingest => &[b"http/1.1"],
            Self::Syslog => &[],
        }
    }
}

/// How one listener secures its connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Whether it speaks TLS at all.
    pub enabled: bool,
    /// Its certificate and key; `None` for the one that is made here.
    pub files: Option<PairFiles>,
    /// Whether clients show certificates.
    pub clients: ClientCertificates,
    /// Who signs the certificates of clients, as PEM.
    pub client_ca: Option<PathBuf>,
}

/// A certificate with its chain, and its key, both as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, then those that signed it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They may; one that is shown must be valid.
    Optional,
    /// They must.
    Required,
}

impl ClientCertificates {
    /// The word used in the configuration and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}
