//! Traffic for a demonstration: sample messages over every input at a steady rate, until stopped.
//!
//! It stands in for a site's devices and behaves like them: what cannot be sent is counted and forgotten, and the next
//! message is tried again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::http::{Client, Endpoint};
use super::snmp::{Notification, SnmpVersion, TrapMessage, Wrapping};
use crate::cli::samples::{Random, Sample, SampleStream};

/// How long the ingest API and a TCP peer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the demonstration sends to.
#[derive(Debug, Clone)]
pub struct DemoTargets {
    /// Syslog over UDP.
    pub syslog_udp: SocketAddr,
    /// Syslog over TCP.
    pub syslog_tcp: SocketAddr,
    /// SNMP traps.
    pub snmp: SocketAddr,
    /// The ingest API as `http://host:port`, with or without a path.
    pub ingest_http: String,
    /// Its key.
    pub api_key: String,
    /// The SNMP community.
    pub community: String,
}

/// What has been sent so far, by kind.
#[derive(Debug, Default)]
pub struct DemoTraffic {
    /// Syslog datagrams.
    pub syslog_udp: AtomicU64,
    /// Syslog messages over TCP.
    pub syslog_tcp: AtomicU64,
    /// Traps.
    pub snmp: AtomicU64,
    /// Events posted and accepted.
    pub http: AtomicU64,
    /// Messages that could not be sent or were refused.
    pub failed: AtomicU64,
}

impl DemoTraffic {
    /// Messages sent over all inputs.
    pub fn total(&self) -> u64 {
        let all = [&self.syslog_udp, &self.syslog_tcp, &self.snmp, &self.http];
        all.into_iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

/// Sends about `per_second` samples a second until `stop`, counting in `traffic`. An error is returned only if no socket
/// could be opened or the ingest address cannot be used.
pub async fn run_traffic(
    targets: DemoTargets,
    per_second: f64,
    traffic: Arc<DemoTraffic>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut sender = Sender::new(targets, traffic).await?;
    let mut samples = SampleStream::new(sender.random.next());
    // 10,000 a second is far beyond what a demonstration shows; the floor is one in 100 seconds.
    let pause = Duration::from_secs_f64(1.0 / per_second.clamp(0.01, 10_000.0));
    let mut tick = tokio::time::interval(pause);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        if let Some(sample) = samples.next() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sender.send(sample) => {}
            }
        }
    }
}

struct Sender {
    targets: DemoTargets,
    traffic: Arc<DemoTraffic>,
    udp: UdpSocket,
    tcp: Option<TcpStream>,
    http: Client,
    path: String,
    wrappings: [Wrapping; 2],
    random: Random,
    /// Whether the last message failed: only changes are logged.
    failing: bool,
}

impl Sender {
    async fn new(targets: DemoTargets, traffic: Arc<DemoTraffic>) -> anyhow::Result<Self> {
        let endpoint = Endpoint::parse(&targets.ingest_http, "/api/v2/ingest")?;
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let wrappings = [SnmpVersion::V1, SnmpVersion::V2c].map(|version| Wrapping {
            version,
            notification: Notification::Trap,
            community: targets.community.clone(),
        });
        let http = Client::new(&endpoint.address, TIMEOUT);
        // A new seed for each start, so that a second demonstration does not repeat the first.
        let random = Random::new(u64::from(std::process::id()));
        Ok(Self { targets, traffic, udp, tcp: None, http, path: endpoint.path, wrappings, random, failing: false })
    }

    async fn send(&mut self, sample: Sample) {
        let outcome = match sample {
            Sample::Syslog(line) if self.random.below(2) == 0 => self.syslog_udp(&line).await,
            Sample::Syslog(line) => self.syslog_tcp(&line).await,
            Sample::Trap(trap) => self.trap(&trap).await,
            Sample::Json(event) => self.http(event.to_string()).await,
        };
        match (&outcome, self.failing) {
            (Err(error), false) => warn!("demonstration traffic does not get through: {error:#}"),
            (Ok(()), true) => info!("demonstration traffic gets through again"),
            _ => {}
        }
        self.failing = outcome.is_err();
        if self.failing {
            self.traffic.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn syslog_udp(&self, line: &str) -> anyhow::Result<()> {
        self.udp.send_to(line.as_bytes(), self.targets.syslog_udp).await?;
        self.traffic.syslog_udp.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn syslog_tcp(&mut self, line: &str) -> anyhow::Result<()> {
        let mut stream = match self.tcp.take() {
            Some(stream) => stream,
            None => tokio::time::timeout(TIMEOUT, TcpStream::connect(self.targets.syslog_tcp)).await??,
        };
        tokio::time::timeout(TIMEOUT, stream.write_all(format!("{line}\n").as_bytes())).await??;
        self.tcp = Some(stream);
        self.traffic.syslog_tcp.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn trap(&mut self, trap: &TrapMessage) -> anyhow::Result<()> {
        let request_id = self.random.below(u32::MAX);
        let encoded = trap.encode(self.random.pick(&self.wrappings), request_id)?;
        self.udp.send_to(&encoded.bytes, self.targets.snmp).await?;
        self.traffic.snmp.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn http(&mut self, event: String) -> anyhow::Result<()> {
        let headers = [("content-type", "application/json"), ("x-api-key", self.targets.api_key.as_str())];
        let answer = self.http.request(Method::POST, &self.path, &headers, Bytes::from(event)).await?;
        anyhow::ensure!(answer.status.is_success(), "the ingest API answers {}", answer.status);
        self.traffic.http.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn every_input_gets_traffic_until_it_is_stopped() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let snmp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let http = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let targets = DemoTargets {
            syslog_udp: udp.local_addr().expect("an address"),
            syslog_tcp: tcp.local_addr().expect("an address"),
            snmp: snmp.local_addr().expect("an address"),
            ingest_http: format!("http://{}", http.local_addr().expect("an address")),
            api_key: "key".into(),
            community: "public".into(),
        };
        let (traffic, stop) = (Arc::new(DemoTraffic::default()), CancellationToken::new());
        let running = tokio::spawn(run_traffic(targets, 10_000.0, Arc::clone(&traffic), stop.clone()));
        let mut buffer = [0; 2_048];
        let length = udp.recv(&mut buffer).await.expect("a datagram");
        assert_eq!(buffer[..length][0], b'<');
        let length = snmp.recv(&mut buffer).await.expect("a trap");
        assert_eq!(buffer[..length][0], 0x30);
        let length = tcp.accept().await.expect("a connection").0.read(&mut buffer).await.expect("a line");
        assert!(buffer[..length].contains(&b'\n'));
        let (mut request, _) = http.accept().await.expect("a connection");
        let length = request.read(&mut buffer).await.expect("a request");
        let text = String::from_utf8_lossy(&buffer[..length]);
        assert!(text.starts_with("POST /api/v2/ingest HTTP/1.1") && text.contains("x-api-key: key"), "{text}");
        stop.cancel();
        running.await.expect("the task").expect("no error");
        assert!(traffic.total() > 0);
    }
}
