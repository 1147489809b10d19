//! Certificates from files to handshakes: which are used, which are refused, and what happens to connections meanwhile.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::door::Door;
use super::*;
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::telemetry::CertificateBoard;

/// 2026-03-01T12:00:00Z.
const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// A folder of certificates, and the authority that signs them.
struct Site {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    board: CertificateBoard,
    clock: Clock,
}

impl Site {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("written");
        Self { folder, authority, board: CertificateBoard::default(), clock: Clock::fixed(NOON) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Certificate and key for `localhost`, valid in these years, as PEM.
    fn pair(&self, years: (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, certificate: &str, key: &str) {
        put(&self.path("cert.pem"), certificate);
        put(&self.path("key.pem"), key);
    }

    fn settings(&self, clients: ClientCertificates) -> TlsSettings {
        let files = Some(PairFiles { certificate: self.path("cert.pem"), key: self.path("key.pem") });
        TlsSettings { enabled: true, files, clients, client_ca: Some(self.path("ca.pem")) }
    }

    fn plan(&self, settings: TlsSettings) -> TlsPlan {
        let listeners = vec![(TlsListener::Web, settings)];
        TlsPlan { data_dir: self.folder.path().to_owned(), names: vec!["appliance.example".into()], listeners }
    }

    fn open(&self, settings: TlsSettings) -> Certificates {
        Certificates::open(self.plan(settings), self.clock.clone(), self.board.clone())
    }

    /// The fingerprint in use and what is wrong with the next.
    fn told(&self) -> (Option<String>, Option<String>) {
        let status = self.board.status().pop().expect("a line");
        (status.facts.map(|facts| facts.fingerprint), status.problem)
    }
}

fn put(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).expect("written");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::rename(&fresh, path).expect("renamed");
}

/// Echoes what connections through `door` send.
async fn echo(door: Door) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let door = door.clone();
            tokio::spawn(async move {
                let Some(stream) = door.pass(stream, peer).await else { return };
                let (mut reading, mut writing) = tokio::io::split(stream);
                tokio::io::copy(&mut reading, &mut writing).await.ok();
            });
        }
    });
    address
}

/// Connects, trusting `roots`, and says something.
async fn connect(
    address: SocketAddr,
    roots: &str,
    own: Option<&(String, String)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.expect("PEM")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(store);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(|one| one.expect("PEM")).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    say(&mut stream).await?;
    Ok(stream)
}

async fn say(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await?;
    assert_eq!(&heard, b"hello");
    Ok(())
}

#[tokio::test]
async fn a_changed_certificate_is_used_for_new_connections_and_open_ones_stay() {
    let site = Site::new();
    let (first, second) = (site.pair((2020, 2030)), site.pair((2021, 2031)));
    site.write(&first.0, &first.1);
    let certificates = site.open(site.settings(ClientCertificates::Off));
    let address = echo(certificates.door(TlsListener::Web)).await;
    let ca = site.authority.pem();
    let mut old = connect(address, &ca, None).await.expect("the first is served");
    let (before, _) = site.told();
    site.write(&second.0, &second.1);
    certificates.look();
    assert_eq!(site.told().0, before, "files that may still be written are not used");
    certificates.look();
    assert_ne!(site.told().0, before, "files that keep still are");
    say(&mut old).await.expect("the open connection stays");
    let new = connect(address, &ca, None).await.expect("the second is served");
    let shown = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|one| one.to_vec())
    };
    assert_ne!(shown(&old), shown(&new));
    assert_eq!(new.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn what_cannot_be_used_never_replaces_what_can() {
    let site = Site::new();
    let (good, other) = (site.pair((2020, 2030)), site.pair((2020, 2030)));
    let (expired, future) = (site.pair((2020, 2025)), site.pair((2027, 2030)));
    site.write(&good.0, &good.1);
    let certificates = site.open(site.settings(ClientCertificates::Off));
    let (used, problem) = site.told();
    assert!(used.is_some() && problem.is_none());
    let damaged = good.0.replacen("MII", "MIJ", 1);
    for (certificate, key, part) in [
        (good.0.as_str(), other.1.as_str(), "does not belong"),
        (&expired.0, &expired.1, "valid from 2020-01-01T00:00:00Z to 2025"),
        (&future.0, &future.1, "valid from 2027"),
        ("garbage", &good.1, "holds no certificate"),
        (&damaged, &good.1, "cert.pem"),
        (&good.0, "garbage", "no private key"),
        (&good.0, &good.0, "no private key"),
    ] {
        site.write(certificate, key);
        certificates.reload();
        let (still, problem) = site.told();
        assert_eq!(still, used, "{part}");
        assert!(problem.as_ref().is_some_and(|problem| problem.contains(part)), "{part}: {problem:?}");
    }
    fs::remove_file(site.path("key.pem")).expect("removed");
    certificates.reload();
    assert!(site.told().1.is_some_and(|problem| problem.contains("cannot read")));
    site.write(&good.0, &good.1);
    fs::set_permissions(site.path("key.pem"), fs::Permissions::from_mode(0o644)).expect("chmod");
    certificates.reload();
    assert!(site.told().1.is_some_and(|problem| problem.contains("chmod")));
    site.write(&other.0, &other.1);
    certificates.reload();
    let (renewed, problem) = site.told();
    assert!(renewed != used && problem.is_none(), "a good pair mends it: {problem:?}");
}

#[tokio::test]
async fn a_listener_without_a_usable_certificate_lets_nobody_in_until_it_has_one() {
    let site = Site::new();
    let certificates = site.open(site.settings(ClientCertificates::Off));
    let address = echo(certificates.door(TlsListener::Web)).await;
    let ca = site.authority.pem();
    assert!(connect(address, &ca, None).await.is_err());
    assert!(!site.board.status()[0].serves());
    let pair = site.pair((2020, 2030));
    site.write(&pair.0, &pair.1);
    certificates.look();
    certificates.look();
    connect(address, &ca, None).await.expect("mended without a restart");
}

#[tokio::test]
async fn certificates_of_clients_are_checked_as_configured() {
    let site = Site::new();
    let pair = site.pair((2020, 2030));
    site.write(&pair.0, &pair.1);
    let (ca, stranger) = (site.authority.pem(), Site::new().pair((2020, 2030)));
    for (clients, none, signed) in
        [(ClientCertificates::Optional, true, true), (ClientCertificates::Required, false, true)]
    {
        let certificates = site.open(site.settings(clients));
        let address = echo(certificates.door(TlsListener::Web)).await;
        assert_eq!(connect(address, &ca, None).await.is_ok(), none, "{clients:?}");
        assert_eq!(connect(address, &ca, Some(&pair)).await.is_ok(), signed, "{clients:?}");
        assert!(connect(address, &ca, Some(&stranger)).await.is_err(), "{clients:?}");
    }
}

#[tokio::test]
async fn without_files_a_certificate_is_made_once_and_kept() {
    let site = Site::new();
    let own = TlsSettings { enabled: true, ..TlsSettings::default() };
    let certificates = site.open(own.clone());
    let (made, problem) = site.told();
    assert!(made.is_some() && problem.is_none(), "{problem:?}");
    let file = own_certificate_file(site.folder.path());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&file.with_extension("key")), mode(file.parent().expect("a folder"))), (0o600, 0o700));
    let address = echo(certificates.door(TlsListener::Web)).await;
    let trusted = fs::read_to_string(&file).expect("PEM");
    connect(address, &trusted, None).await.expect("clients that have the file trust it");
    site.open(own);
    assert_eq!(site.told().0, made, "a further start uses the same");
}

#[tokio::test]
async fn tls_is_switched_on_and_off_without_a_new_listener() {
    let site = Site::new();
    let certificates = site.open(TlsSettings::default());
    let address = echo(certificates.door(TlsListener::Web)).await;
    let mut plain = TcpStream::connect(address).await.expect("connected");
    plain.write_all(b"hello").await.expect("sent");
    let mut heard = [0; 5];
    plain.read_exact(&mut heard).await.expect("heard in clear");
    certificates.replace(site.plan(site.settings(ClientCertificates::Off)));
    assert!(site.board.status().is_empty(), "without its files TLS is not switched on");
    let pair = site.pair((2020, 2030));
    site.write(&pair.0, &pair.1);
    certificates.replace(site.plan(site.settings(ClientCertificates::Off)));
    connect(address, &site.authority.pem(), None).await.expect("new connections by TLS");
    plain.write_all(b"hello").await.expect("the open one stays as it was");
    plain.read_exact(&mut heard).await.expect("heard in clear");
    certificates.replace(site.plan(TlsSettings::default()));
    assert!(connect(address, &site.authority.pem(), None).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_is_ended() {
    let site = Site::new();
    let certificates = site.open(TlsSettings { enabled: true, ..TlsSettings::default() });
    let address = echo(certificates.door(TlsListener::Web)).await;
    let mut silent = TcpStream::connect(address).await.expect("connected");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("closed by the server");
    assert!(rest.is_empty());
}
