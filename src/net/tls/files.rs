//! From PEM files to a configuration that rustls serves with; everything that can be wrong with them is found here.
//!
//! Files are read whole, bounded in size, and never written. What is wrong is told with the file's name and what to do
//! about it, never with its content.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, crypto};

use super::certificate::{fingerprint, validity};
use super::{ClientCertificates, PairFiles, TlsListener, TlsSettings};
use crate::model::Timestamp;

/// Larger files are no certificates: a system's whole list of authorities takes 250 KB.
const MAX_FILE: u64 = 4 << 20;

/// Why certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read: mend its path or its permissions.
    #[error("cannot read `{}`: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file is not what it should be: put another one in its place.
    #[error("`{}` cannot be used: {why}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Key and certificate are not of one pair: exchange both.
    #[error("the key `{}` does not belong to the certificate `{}`; exchange both", key.display(), certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate is not valid now: renew it, or mend this machine's clock.
    #[error("the certificate `{}` is valid from {from} to {to} only; renew it, or mend this machine's clock", file.display())]
    NotNow {
        /// The certificate.
        file: PathBuf,
        /// From when it is valid.
        from: Timestamp,
        /// Until when.
        to: Timestamp,
    },
    /// Nobody can be trusted: install the system's certificates, or name a file.
    #[error("no certificate authority can be used: {why}; install the package ca-certificates or give --ca")]
    NoTrust {
        /// What went wrong.
        why: String,
    },
    /// No certificate could be made: make room or mend the folder, or give one.
    #[error("no certificate could be made as `{}`: {why}; give one with `cert` and `key` under [tls]", file.display())]
    NotMade {
        /// Where it would be.
        file: PathBuf,
        /// What went wrong.
        why: String,
    },
}

impl TlsError {
    fn unusable(file: &Path, why: impl ToString) -> Self {
        Self::Unusable { file: file.to_owned(), why: why.to_string() }
    }
}

/// A certificate that can be served.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) file: PathBuf,
    pub(super) fingerprint: String,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Loaded {
    /// Whether it is valid at `now`.
    pub(super) fn valid_at(&self, now: Timestamp) -> Result<(), TlsError> {
        if now < self.from || now > self.to {
            return Err(TlsError::NotNow { file: self.file.clone(), from: self.from, to: self.to });
        }
        Ok(())
    }
}

/// Reads and checks a listener's certificate, key and authorities. Blocks.
pub(super) fn load(listener: TlsListener, settings: &TlsSettings, pair: &PairFiles) -> Result<Loaded, TlsError> {
    let chain = certificates(&pair.certificate)?;
    let first = chain.first().ok_or_else(|| TlsError::unusable(&pair.certificate, "it holds no certificate"))?;
    let (from, to) =
        validity(first).ok_or_else(|| TlsError::unusable(&pair.certificate, "its first certificate is damaged"))?;
    let fingerprint = fingerprint(first);
    let provider = Arc::new(crypto::ring::default_provider());
    let certified = certified(chain, pair, &provider)?;
    let verifier = verifier(settings, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsError::unusable(&pair.certificate, error))?;
    let mut config =
        builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = listener.protocols().iter().map(|name| name.to_vec()).collect();
    Ok(Loaded { config: Arc::new(config), file: pair.certificate.clone(), fingerprint, from, to })
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    pair: &PairFiles,
    provider: &crypto::CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let text = read(&pair.key)?;
    let mode = fs::metadata(&pair.key).map(|meta| meta.permissions().mode()).unwrap_or(0);
    if mode & 0o007 != 0 {
        return Err(TlsError::unusable(&pair.key, "everyone on this machine can read it; run `chmod o= ` on it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| TlsError::unusable(&pair.key, "it holds no private key in PEM, or one with a password"))?;
    let unusable = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: pair.certificate.clone(), key: pair.key.clone() }
        }
        rustls::Error::InvalidCertificate(error) => {
            TlsError::unusable(&pair.certificate, format!("its first certificate is not valid ({error})"))
        }
        _ => TlsError::unusable(&pair.key, "its key is of a kind that is not served; use RSA, ECDSA or Ed25519"),
    };
    CertifiedKey::from_der(chain, key, provider).map_err(unusable)
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    if settings.clients == ClientCertificates::Off {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let file = settings.client_ca.as_deref().unwrap_or(Path::new(""));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::unusable(file, error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match settings.clients {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map_err(|_| TlsError::unusable(file, "it holds no certificate of an authority"))
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found.map_err(|_| TlsError::unusable(file, "it is not valid PEM"))
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |why: String| TlsError::Unreadable { file: file.to_owned(), why };
    let opened = fs::File::open(file).map_err(|error| unreadable(error.to_string()))?;
    let mut text = Vec::new();
    opened.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(TlsError::unusable(file, format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// What tells one state of some files from another without reading them: a file that was replaced has another inode, one
/// that was written to other times. `None` for a file that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<[i64; 6]>>);

impl Stamp {
    pub(super) fn of(files: &[&Path]) -> Self {
        let stamp = |file: &&Path| {
            let meta = fs::metadata(file).ok()?;
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let inode = number(meta.ino());
            Some([inode, number(meta.size()), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
        };
        Self(files.iter().map(stamp).collect())
    }
}
