//! The measured server: this binary as a child process on free loopback ports, with a data folder of its own.
//!
//! It can be stopped as a service manager would, and started again on the same data. Dropping it kills the child and
//! removes the folder, so an interrupted measurement leaves nothing behind.

use std::fs::{DirBuilder, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hyper::{Method, header};
use serde_json::Value;

use super::figures::Counters;
use crate::cli::send::http::{Answer, Client};

/// A start takes well under a second; a disk that is busy with other work may make it a few.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const START_POLL: Duration = Duration::from_millis(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Rules in one request: some 150 KB, far below the API's limit of 1 MiB.
const RULES_PER_REQUEST: usize = 500;
/// Compiling 10,000 rules takes under a second of CPU.
const RULES_TIMEOUT: Duration = Duration::from_secs(60);
const RULES_POLL: Duration = Duration::from_millis(100);
/// Lines of the child's log that an error shows.
const SHOWN_LOG_LINES: usize = 15;
/// Keys for this child only; it listens on loopback and lives for a minute.
const INGEST_KEY: &str = "bench-ingest-key-0123456789abcdef";
const ADMIN_KEY: &str = "bench-admin-key-0123456789abcdef";
const ADMIN_PASSWORD: &str = "bench-password-0123456789";
/// The promise is 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const STOP_POLL: Duration = Duration::from_millis(10);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// Where the child listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// UI and API.
    pub http: SocketAddr,
    /// Ingest API.
    pub ingest: SocketAddr,
    /// Syslog over UDP.
    pub syslog_udp: SocketAddr,
    /// Syslog over TCP.
    pub syslog_tcp: SocketAddr,
    /// SNMP.
    pub snmp: SocketAddr,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: Folder,
    api: Client,
    receiver: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// From the start of the process until it was ready.
    pub started_in: Duration,
}

impl Server {
    /// Starts a server with its data below `parent` that forwards to `receiver`, and waits until it is ready.
    pub async fn start(parent: &Path, receiver: &str) -> anyhow::Result<Self> {
        let folder = Folder::new(parent)?;
        let addresses = Addresses::free()?;
        let child = launch(&folder, &addresses, receiver)?;
        let api = Client::new(&addresses.http.to_string(), ANSWER_TIMEOUT);
        let receiver = receiver.to_owned();
        let mut server = Self { child, folder, api, addresses, receiver, started_in: Duration::ZERO };
        server.await_ready(Instant::now()).await?;
        Ok(server)
    }

    /// Ends it as a service manager would; its data stay.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = libc::pid_t::try_from(self.child.id()).context("the process id is too large")?;
        // SAFETY: `kill` touches no memory of ours. The child has not been waited for, so the id is still its own.
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot ask the server to end");
        }
        let begun = Instant::now();
        while self.child.try_wait().context("cannot look after the server")?.is_none() {
            ensure!(begun.elapsed() < STOP_TIMEOUT, "the server did not end within {} s", STOP_TIMEOUT.as_secs());
            tokio::time::sleep(STOP_POLL).await;
        }
        Ok(())
    }

    /// Starts it again on the data it left.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.child = launch(&self.folder, &self.addresses, &self.receiver)?;
        self.api = Client::new(&self.addresses.http.to_string(), ANSWER_TIMEOUT);
        self.await_ready(Instant::now()).await
    }

    async fn await_ready(&mut self, begun: Instant) -> anyhow::Result<()> {
        for address in [self.addresses.http, self.addresses.ingest] {
            let mut client = Client::new(&address.to_string(), START_TIMEOUT);
            loop {
                let answer = client.request(Method::GET, "/ready", &[], Bytes::new()).await;
                if answer.is_ok_and(|answer| answer.status.is_success()) {
                    break;
                }
                if let Some(status) = self.child.try_wait().context("cannot look after the server")? {
                    bail!("the server ended with {status} before it was ready; its log:\n{}", self.folder.log_end());
                }
                ensure!(
                    begun.elapsed() < START_TIMEOUT,
                    "the server is not ready after {} s; its log:\n{}",
                    START_TIMEOUT.as_secs(),
                    self.folder.log_end()
                );
                tokio::time::sleep(START_POLL).await;
            }
        }
        self.started_in = begun.elapsed();
        Ok(())
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.data()
    }

    /// The key of its ingest API.
    pub fn ingest_key(&self) -> &'static str {
        INGEST_KEY
    }

    /// The key of its API.
    pub fn admin_key(&self) -> &'static str {
        ADMIN_KEY
    }

    /// Its counters now.
    pub async fn counters(&mut self) -> anyhow::Result<Counters> {
        let answer = self.call(Method::GET, "/metrics", Bytes::new()).await?;
        ensure!(answer.status.is_success(), "the server's metrics answer {}", answer.status);
        Ok(Counters::parse(&String::from_utf8_lossy(&answer.body)))
    }

    /// Saves `rules` through the API and waits until they are in force.
    pub async fn install(&mut self, rules: Vec<Value>) -> anyhow::Result<()> {
        for chunk in rules.chunks(RULES_PER_REQUEST) {
            let body = serde_json::to_vec(chunk).context("cannot write the rules")?;
            let answer = self.call(Method::POST, "/api/v2/rules", body.into()).await?;
            let said = String::from_utf8_lossy(&answer.body);
            let said: String = said.chars().take(300).collect();
            ensure!(answer.status.is_success(), "the server refuses the rules with {}: {said}", answer.status);
        }
        let begun = Instant::now();
        while self.counters().await?.rules < rules.len() as u64 {
            ensure!(begun.elapsed() < RULES_TIMEOUT, "the rules are not in force {} s after", RULES_TIMEOUT.as_secs());
            tokio::time::sleep(RULES_POLL).await;
        }
        Ok(())
    }

    /// The cookie of a session of its first user, for pages.
    pub async fn log_in(&mut self) -> anyhow::Result<String> {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let form = format!("user=admin&password={ADMIN_PASSWORD}");
        let answer = self.api.request(Method::POST, "/login", &headers, form.into()).await;
        let answer = answer.context("the server does not answer a login")?;
        let cookie = answer.headers.get(header::SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let pair = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        pair.with_context(|| format!("the server refuses the login with {}", answer.status))
    }

    async fn call(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let headers = [("x-api-key", ADMIN_KEY), ("content-type", "application/json")];
        let answer = self.api.request(method, path, &headers, body).await;
        answer.with_context(|| format!("the server does not answer; its log:\n{}", self.folder.log_end()))
    }
}

/// This program, without the operator's own settings: they must not reach what is measured.
pub fn own_program() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot tell where this program lies")?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUTTD_")) {
        command.env_remove(name);
    }
    Ok(command)
}

/// Starts the child; it is not ready yet.
fn launch(folder: &Folder, addresses: &Addresses, receiver: &str) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(folder.log());
    let log = log.context("cannot open the child's log")?;
    own_program()?
        .args(["serve", "--data"])
        .arg(folder.data())
        .env("MUTTD_HTTP_LISTEN", addresses.http.to_string())
        .env("MUTTD_INGEST_LISTEN", addresses.ingest.to_string())
        .env("MUTTD_SYSLOG_UDP_LISTEN", addresses.syslog_udp.to_string())
        .env("MUTTD_SYSLOG_TCP_LISTEN", addresses.syslog_tcp.to_string())
        .env("MUTTD_SNMP_LISTEN", addresses.snmp.to_string())
        .env("MUTTD_SNMP_COMMUNITIES", "public")
        .env("MUTTD_INGEST_API_KEY", INGEST_KEY)
        .env("MUTTD_ADMIN_API_KEY", ADMIN_KEY)
        .env("MUTTD_ADMIN_PASSWORD", ADMIN_PASSWORD)
        .env("MUTTD_MOOG_WEBHOOK_URL", receiver)
        .env("MUTTD_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the child's log")?)
        .stderr(log)
        .spawn()
        .context("cannot start the server to measure")
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the child has ended already. The folder goes after it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Addresses {
    /// Ports that were free a moment ago, all held at once so that they differ.
    fn free() -> anyhow::Result<Self> {
        let tcp = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no TCP port is free");
        let udp = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no UDP port is free");
        let (http, ingest, syslog_tcp, syslog_udp, snmp) = (tcp()?, tcp()?, tcp()?, udp()?, udp()?);
        Ok(Self {
            http: http.local_addr()?,
            ingest: ingest.local_addr()?,
            syslog_udp: syslog_udp.local_addr()?,
            syslog_tcp: syslog_tcp.local_addr()?,
            snmp: snmp.local_addr()?,
        })
    }
}

/// The folder of one measurement: `data`, beside it the server's log. It goes when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one below `parent` that nobody else can look into.
    pub fn new(parent: &Path) -> anyhow::Result<Self> {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("muttd-bench-{}-{number}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot create the folder `{}`", path.display()))?;
        Ok(Self { path })
    }

    /// Where the data are.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    fn log(&self) -> PathBuf {
        self.path.join("serve.log")
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("the folder `{}` could not be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_goes_with_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(parent.path()).expect("made");
        let mode = std::fs::metadata(&folder.path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let lines: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        std::fs::write(folder.log(), lines.join("\n")).expect("written");
        assert_eq!(folder.log_end().lines().next(), Some("35"));
        drop(folder);
        assert_eq!(std::fs::read_dir(parent.path()).expect("there").count(), 0);
    }

    #[test]
    fn free_ports_differ() {
        let addresses = Addresses::free().expect("ports");
        assert!(addresses.http != addresses.ingest && addresses.ingest != addresses.syslog_tcp);
        assert_ne!(addresses.syslog_udp, addresses.snmp);
    }
}
