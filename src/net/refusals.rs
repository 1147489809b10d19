//! Says why a request was refused that is no HTTP: hyper answers such a request by itself, before any handler sees it, with
//! a status and nothing else. On its way out that answer is exchanged for a problem document (RFC 9457) with the same
//! status, so that whoever sent the request learns what was wrong with it.
//!
//! What it never does: touch an answer of ours (each of them has a correlation id), repeat what was sent, or keep more than
//! one answer of a few hundred bytes. It keeps nothing else; a crash loses only that answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::api_version;
use super::http::{CORRELATION_ID, new_correlation_id};
use super::problem;

/// How the answers begin that may be hyper's: it refuses with 400, 414 and 431.
const BEGINNING: &[u8] = b"HTTP/1.1 4";

/// Longest answer of hyper's own, in bytes: status, `connection`, `content-length` and `date` are some 130.
const LONGEST: usize = 256;

/// A connection on which bare refusals are told in full.
pub(super) struct Explained<S> {
    stream: S,
    /// Largest head of a request, for the text.
    max_header_bytes: usize,
    /// What was put in place of a refusal and is not sent yet.
    waiting: Vec<u8>,
}

impl<S> Explained<S> {
    pub(super) const fn new(stream: S, max_header_bytes: usize) -> Self {
        Self { stream, max_header_bytes, waiting: Vec::new() }
    }
}

impl<S: AsyncWrite + Unpin> Explained<S> {
    /// Sends what waits.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(context))?;
        if let Some(status) = bare_refusal(bytes) {
            self.waiting = explained(status, self.max_header_bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = slices.first().filter(|first| bare_refusal(first).is_some()) {
            return self.poll_write(context, first);
        }
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The status of an answer that says nothing else.
fn bare_refusal(bytes: &[u8]) -> Option<StatusCode> {
    if bytes.len() > LONGEST || !bytes.starts_with(BEGINNING) || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && !head.contains(CORRELATION_ID.as_str());
    let status = StatusCode::from_bytes(bytes.get(9..12)?).ok()?;
    is_bare.then_some(status)
}

fn explained(status: StatusCode, max_header_bytes: usize) -> Vec<u8> {
    let why = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
            format!("the address and the headers together are larger than {max_header_bytes} bytes, or more than 100")
        }
        _ => "the request's first line or its headers are not HTTP/1.1".to_owned(),
    };
    let id = new_correlation_id();
    let body = serde_json::Value::Object(problem::members(status, &why, None, None, &id)).to_string();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::PROBLEM_JSON));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.extend(HeaderValue::from_str(&id).ok().map(|id| (CORRELATION_ID, id)));
    problem::guard(&mut headers);
    // No address was understood, so none of version 1.
    api_version::mark(&mut headers, "");
    let mut answer = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in &headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body.as_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const BARE: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";

    async fn sent(parts: &[&[u8]]) -> String {
        // Narrower than the answer, so that it goes out in pieces.
        let (near, mut far) = tokio::io::duplex(64);
        let reading = tokio::spawn(async move {
            let mut text = String::new();
            far.read_to_string(&mut text).await.expect("text");
            text
        });
        let mut stream = Explained::new(near, 32 << 10);
        for part in parts {
            stream.write_all(part).await.expect("taken");
        }
        stream.shutdown().await.expect("closed");
        drop(stream);
        reading.await.expect("read")
    }

    #[tokio::test]
    async fn a_bare_refusal_is_told_in_full() {
        let text = sent(&[BARE]).await;
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        for name in ["connection: close", "x-api-version: v2.5", "x-content-type-options: nosniff"] {
            assert!(head.contains(name), "{name} in {head}");
        }
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(
            (body["status"].as_u64(), body["title"].as_str()),
            (Some(431), Some("Too many or too long headers"))
        );
    }

    #[tokio::test]
    async fn what_is_ours_passes_as_it_is() {
        let ours = "HTTP/1.1 404 Not Found\r\nx-correlation-id: 1\r\ncontent-length: 0\r\n\r\n";
        let body = "HTTP/1.1 400 in a text\r\n\r\n";
        assert_eq!(sent(&[ours.as_bytes(), body.as_bytes()]).await, format!("{ours}{body}"));
    }
}
