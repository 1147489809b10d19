//! Gathers spans and posts them. A post that fails for now is repeated a few times while further spans gather; then its
//! spans are given up. See the module for what is never done.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::encode::{Resource, rejected, request as request_body};
use crate::live::Live;
use crate::net::outbound;
use crate::telemetry::metrics::TRACE_SPANS;
use crate::telemetry::trace::{self, Span, Tracer};

/// Spans that wait, at most: some seconds of a busy appliance that traces one event in a hundred; about 2 MiB.
const QUEUE: usize = 4_096;
/// Spans in one post, as OpenTelemetry's own exporters send.
const BATCH: usize = 512;
/// A span waits no longer than this for company.
const GATHER: Duration = Duration::from_secs(1);
/// Time for one post.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before a post is repeated.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// The longest pause that a collector may ask for: meanwhile spans are lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// For the last post of a process that ends; the stop as a whole has ten seconds.
const FAREWELL: Duration = Duration::from_millis(1_500);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// The path that the specification adds to a collector's address.
const PATH: &str = "/v1/traces";

/// Starts the task.
pub(super) fn start(
    settings: &Settings,
    sampling: Live<trace::Settings>,
    host: &str,
    stop: CancellationToken,
) -> Result<(Tracer, JoinHandle<()>), String> {
    let client = outbound::client(&settings.endpoint, settings.ca_file.as_deref(), TIMEOUT)
        .map_err(|why| format!("`otlp_endpoint`: {why}"))?;
    let (spans, waiting) = mpsc::channel(QUEUE);
    let sender = Sender {
        headers: headers(settings.headers.reveal())?,
        url: url(&settings.endpoint),
        client,
        resource: Resource { host: host.to_owned() },
        failing: false,
    };
    let task = tokio::spawn(run(sender, waiting, stop));
    Ok((Tracer::to(spans, sampling), task))
}

fn url(endpoint: &str) -> String {
    let base = endpoint.trim().trim_end_matches('/');
    if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") }
}

/// `name=value,name=value`; the error repeats no value.
fn headers(text: &str) -> Result<HeaderMap, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let wrong = "`otlp_headers` must be `name=value,name=value`";
        let (name, value) = pair.split_once('=').ok_or(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong)?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong)?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs.map(header).collect()
}

/// The way to the collector.
struct Sender {
    client: Client,
    url: String,
    headers: HeaderMap,
    resource: Resource,
    /// Whether the last post failed: people are told when that changes.
    failing: bool,
}

/// What became of a post.
enum Posted {
    /// The collector took all but so many spans.
    Taken(u64),
    /// Not now; perhaps no sooner than the time it named.
    Later(String, Option<Duration>),
    /// Never.
    Refused(String),
}

/// The task's life.
async fn run(mut sender: Sender, mut waiting: mpsc::Receiver<Span>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    while gather(&mut waiting, &mut batch, &stop).await {
        if !batch.is_empty() {
            sender.send(&batch, &stop).await;
            batch.clear();
        }
    }
    waiting.close();
    while let Ok(span) = waiting.try_recv() {
        batch.push(span);
    }
    if !batch.is_empty() {
        let count = batch.len() as u64;
        let posted = tokio::time::timeout(FAREWELL, sender.post(&batch)).await;
        match posted {
            Ok(Posted::Taken(rejected)) => count_spans(count - rejected.min(count), rejected),
            _ => count_spans(0, count),
        }
    }
}

/// Waits for spans and for company; `false` when it is time to stop.
async fn gather(waiting: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => return false,
        taken = waiting.recv_many(batch, BATCH) => if taken == 0 { return false },
    }
    let full = async {
        while batch.len() < BATCH {
            if waiting.recv_many(batch, BATCH - batch.len()).await == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => false,
        _ = tokio::time::timeout(GATHER, full) => true,
    }
}

impl Sender {
    /// Posts until the spans are taken or given up.
    async fn send(&mut self, spans: &[Span], stop: &CancellationToken) {
        let count = spans.len() as u64;
        let mut pauses = PAUSES.into_iter();
        loop {
            let (why, after) = match self.post(spans).await {
                Posted::Taken(rejected) => {
                    count_spans(count - rejected.min(count), rejected);
                    return self.well();
                }
                Posted::Later(why, after) => (why, after),
                Posted::Refused(why) => {
                    count_spans(0, count);
                    return self.unwell(&why);
                }
            };
            self.unwell(&why);
            let Some(pause) = pauses.next() else { return count_spans(0, count) };
            tokio::select! {
                () = stop.cancelled() => return count_spans(0, count),
                () = tokio::time::sleep(after.unwrap_or(pause).min(LONGEST_PAUSE)) => {}
            }
        }
    }

    async fn post(&self, spans: &[Span]) -> Posted {
        let request = self.client.post(&self.url).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(request_body(&self.resource, spans));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Posted::Later(outbound::silence(error), None),
        };
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        match status.as_u16() {
            _ if status.is_success() => {
                Posted::Taken(outbound::body(answer, MAX_ANSWER).await.map_or(0, |body| rejected(&body)))
            }
            // What the specification calls retryable.
            429 | 502 | 503 | 504 => Posted::Later(format!("it answers {status}"), after.map(Duration::from_secs)),
            _ => Posted::Refused(format!("it answers {status}")),
        }
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("The collector of traces takes spans again");
        }
    }

    fn unwell(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(error = why, "The collector of traces does not take spans; some will be lost");
        }
    }
}

fn count_spans(exported: u64, lost: u64) {
    metrics::counter!(TRACE_SPANS, "outcome" => "exported").increment(exported);
    metrics::counter!(TRACE_SPANS, "outcome" => "failed").increment(lost);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_to_a_collectors_address() {
        for given in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(url(given), "http://c:4318/v1/traces");
        }
        assert_eq!(url("https://c/tenant/"), "https://c/tenant/v1/traces");
    }

    #[test]
    fn headers_are_pairs_and_a_fault_repeats_no_value() {
        let read = headers("authorization=Bearer a=b, x-tenant = 7,").expect("valid");
        assert_eq!(
            (&read["authorization"], &read["x-tenant"]),
            (&"Bearer a=b".parse().expect("a value"), &"7".parse().expect("a value"))
        );
        assert!(read["authorization"].is_sensitive());
        assert!(headers("").expect("none").is_empty());
        for wrong in ["s3cret", "a b=s3cret", "x=s3cret\u{7}"] {
            let why = headers(wrong).expect_err("wrong");
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
