//! Sends what gets an answer: events posted over HTTP, and SNMP informs. Each connection has one question under way.
//!
//! A message counts as accepted only when the answer says so. Nothing is sent twice: what got no answer is counted as
//! unanswered, because whether it arrived is not known.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tokio::net::UdpSocket;

use super::exchange::{Exchange, Reply};
use super::http::Endpoint;
use super::snmp::{FIRST_REQUEST_ID, read_response};
use super::socket::Part;
use crate::net::tls::Connector;

/// Errors in a row after which a connection gives up: the receiver is gone.
const GIVE_UP_AFTER: u32 = 20;
/// Pause after a failed exchange, so that a receiver that restarts is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How events are posted.
#[derive(Debug, Clone)]
pub struct PostOptions {
    /// Where.
    pub endpoint: Endpoint,
    /// The key for `X-API-KEY`.
    pub api_key: Option<Arc<str>>,
    /// Events in one request, at least 1; with 1 each is posted as an object, else as an array.
    pub batch: u32,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// How to come into TLS, if the receiver wants it.
    pub tls: Option<Connector>,
    /// How long to wait for an answer.
    pub timeout: Duration,
}

/// Content encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// gzip at level 1: what a busy sender uses.
    Gzip,
}

/// Posts this part's events.
pub async fn post(options: &PostOptions, mut part: Part) -> std::io::Result<()> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend((options.encoding == Encoding::Gzip).then_some(("content-encoding", "gzip")));
    headers.extend(options.api_key.as_deref().map(|key| ("x-api-key", key)));
    let mut exchange = Exchange::new(&options.endpoint.address, &options.endpoint.path, &headers, options.timeout)
        .over(options.tls.clone());
    let mut number = part.index;
    let mut failures = 0;
    let mut body = Vec::new();
    // A request waits until its batch is full, so that a low rate still makes whole batches.
    let spread = u64::from(options.batch - 1) * part.of;
    while let Some(due) = due(&part, number, number.saturating_add(spread)).await {
        let count = gather(&mut part, &mut number, due, options.batch, &mut body);
        let length = body.len() as u64;
        if options.encoding == Encoding::Gzip {
            body = gzip(&body)?;
        }
        let asked = Instant::now();
        part.tally.add_sent(count, length);
        match exchange.post(&body).await {
            Ok(reply) => {
                failures = 0;
                let (accepted, refused) = outcome(reply, count);
                if refused > 0 {
                    part.tally.add_error(refusal(reply));
                }
                part.tally.add_answer(Some(reply.status), asked.elapsed(), accepted, refused);
            }
            Err(error) => {
                part.tally.add_unanswered(count);
                part.tally.add_error(chain(&error));
                failures += 1;
                if failures >= GIVE_UP_AFTER {
                    break;
                }
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    part.note_end(number);
    Ok(())
}

/// Waits until message `last` is due and answers how many are due by then; `None` ends the run before `number`.
async fn due(part: &Part, number: u64, last: u64) -> Option<u64> {
    let now = Instant::now();
    if part.schedule.is_over(number, now) || part.stop.is_cancelled() {
        return None;
    }
    let wait = part.schedule.wait(part.schedule.within(last), now);
    if !wait.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = part.stop.cancelled() => return None,
        }
    }
    let now = Instant::now();
    (!part.schedule.is_over(number, now)).then(|| part.schedule.due(now).max(number + 1))
}

/// Makes `body` of up to `batch` due events; answers how many.
fn gather(part: &mut Part, number: &mut u64, due: u64, batch: u32, body: &mut Vec<u8>) -> u64 {
    body.clear();
    if batch == 1 {
        part.feed.put(*number, body);
        *number += part.of;
        return 1;
    }
    let mut count = 0;
    while *number < due && count < u64::from(batch) {
        body.push(if count == 0 { b'[' } else { b',' });
        part.feed.put(*number, body);
        *number += part.of;
        count += 1;
    }
    body.push(b']');
    count
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// How many of `count` events an answer accepted and refused. A batch's answer counts them itself.
fn outcome(reply: Reply<'_>, count: u64) -> (u64, u64) {
    if !(200..300).contains(&reply.status) {
        return (0, count);
    }
    let body: Value = serde_json::from_slice(reply.body).unwrap_or(Value::Null);
    let number = |member: &str| match &body[member] {
        Value::Array(list) => Some(list.len() as u64),
        other => other.as_u64(),
    };
    match (number("accepted"), number("rejected")) {
        (Some(accepted), _) => (accepted.min(count), count.saturating_sub(accepted)),
        (None, Some(rejected)) => (count.saturating_sub(rejected), rejected.min(count)),
        (None, None) => (count, 0),
    }
}

/// The status and the start of what the receiver said.
fn refusal(reply: Reply<'_>) -> String {
    const KEPT: usize = 200;
    let said: String = String::from_utf8_lossy(reply.body).chars().filter(|c| !c.is_control()).take(KEPT).collect();
    format!("status {}: {said}", reply.status)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Sends this part's informs, each after the answer to the one before.
pub async fn inform(to: SocketAddr, timeout: Duration, mut part: Part) -> std::io::Result<()> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    let mut message = Vec::with_capacity(2_048);
    let mut number = part.index;
    while due(&part, number, number).await.is_some() {
        message.clear();
        let id = FIRST_REQUEST_ID + u32::try_from(number % u64::from(FIRST_REQUEST_ID)).unwrap_or(0);
        if let Some(at) = part.feed.put(number, &mut message) {
            message[at..at + 4].copy_from_slice(&id.to_be_bytes());
        }
        let asked = Instant::now();
        let answer = async {
            socket.send(&message).await?;
            response(&socket, id).await
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(accepted)) => {
                part.tally.add_answer(None, asked.elapsed(), u64::from(accepted), u64::from(!accepted));
            }
            Ok(Err(error)) => {
                part.tally.add_unanswered(1);
                part.tally.add_error(chain(&error));
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
            Err(_) => part.tally.add_unanswered(1),
        }
        part.tally.add_sent(1, message.len() as u64);
        number += part.of;
    }
    part.note_end(number);
    Ok(())
}

/// Waits for the response with this request id; late answers to earlier informs are passed over.
async fn response(socket: &UdpSocket, id: u32) -> std::io::Result<bool> {
    let mut datagram = [0; 2_048];
    loop {
        let length = socket.recv(&mut datagram).await?;
        if let Some((answered, accepted)) = read_response(&datagram[..length])
            && answered == id
        {
            return Ok(accepted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_about_what_it_took() {
        let check = |status, body: &'static str, count, expected| {
            let reply = Reply { status, body: body.as_bytes() };
            assert_eq!(outcome(reply, count), expected, "{status} {body}");
        };
        check(200, r#"{"status":"queued"}"#, 1, (1, 0));
        check(200, r#"{"accepted":7,"rejected":3}"#, 10, (7, 3));
        check(200, r#"{"accepted":7,"rejected":[{"index":1}]}"#, 8, (7, 1));
        check(200, r#"{"rejected":[{"index":1}]}"#, 8, (7, 1));
        check(200, "not json", 5, (5, 0));
        check(503, r#"{"accepted":5}"#, 5, (0, 5));
    }

    #[test]
    fn a_body_compresses_to_gzip_that_gives_it_back() {
        let packed = gzip(b"[1,2,3]").expect("packs");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).expect("unpacks");
        assert_eq!(text, "[1,2,3]");
    }
}
