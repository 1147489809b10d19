//! A stand-in for Moogsoft that takes every alert at once and counts, so that the measured server has someone to talk to.
//!
//! It keeps nothing but a number and listens on loopback only.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::cli::send::http::Whole;

/// The receiver; dropping it closes its connections.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    alerts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen for alerts")?;
        let address = listener.local_addr().context("cannot tell the receiver's address")?;
        let alerts = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(serve(listener, Arc::clone(&alerts)));
        Ok(Self { address, alerts, task })
    }

    /// Where it takes alerts.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Requests answered so far.
    pub fn alerts(&self) -> u64 {
        self.alerts.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, alerts: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    // A failed accept means that this process is out of files; the server under test will show it as failed requests.
    while let Ok((stream, _)) = listener.accept().await {
        let alerts = Arc::clone(&alerts);
        let service = service_fn(move |request: Request<Incoming>| answer(request, Arc::clone(&alerts)));
        connections
            .spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, alerts: Arc<AtomicU64>) -> Result<Response<Whole>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
    alerts.fetch_add(1, Ordering::Relaxed);
    Ok(Response::new(Whole::new(Bytes::from_static(b"{}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::http::{Client, Endpoint};
    use hyper::Method;
    use std::time::Duration;

    #[tokio::test]
    async fn each_alert_is_answered_and_counted() {
        let receiver = Receiver::start().await.expect("started");
        let endpoint = Endpoint::parse(&receiver.url(), "/").expect("an address");
        let mut client = Client::new(&endpoint.address, Duration::from_secs(10));
        for count in 1..=3 {
            let answer =
                client.request(Method::POST, &endpoint.path, &[], "{\"a\":1}".into()).await.expect("an answer");
            assert_eq!((answer.status.as_u16(), receiver.alerts()), (200, count));
        }
    }
}
