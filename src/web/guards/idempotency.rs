//! `Idempotency-Key` on every POST of the API: a client that got no answer sends the same request with the same key again,
//! and it is done once.
//!
//! What is promised: for 24 hours, to one caller, the answer of a POST that succeeded is given again (marked
//! `Idempotency-Replayed: true`) instead of doing it again. The same key with another request is 422; while the first is
//! still under way, 409. A request that failed changed nothing and frees its key. A request that was begun is carried out
//! to its end even if its client goes away, so that its answer is there when the client comes back.
//!
//! What is not: answers are kept in memory, bounded in number and bytes (the oldest go first), and gone after a restart.
//! Answers that show a secret this once, and large ones, are not kept: a repeat is then told with 409 that it was done.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::Fault;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Answers kept at once, and the bytes of their bodies.
const MAX_ANSWERS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// Largest answer kept; creating things is answered with some hundred bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Longest key, in characters.
const MAX_KEY: usize = 255;

/// Largest body that is read to be compared: the largest that any route takes.
const MAX_BODY: usize = 16 << 20;

/// Paths whose answers show a secret this once.
const SHOW_SECRETS: [&str; 3] = ["/keys", "/users", "/secrets"];

/// A caller and the key it sent.
type Id = (String, String);

type Fingerprint = [u8; 32];

/// The answers kept.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Id, Entry>,
    /// Ids in the order in which their answers came.
    order: VecDeque<(Instant, Id)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    request: Fingerprint,
    state: Step,
}

#[derive(Debug)]
enum Step {
    UnderWay,
    /// `None` if the answer is not kept.
    Done(Option<Answer>),
}

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Answers a repeat, or has the request carried out once.
pub(super) async fn once(State(web): State<Web>, caller: Caller, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(&KEY) {
        return next.run(request).await;
    }
    let (id, request, fingerprint) = match read(&caller, request).await {
        Ok(read) => read,
        Err(fault) => return fault.into_response(),
    };
    match web.guards.answers.begin(&id, fingerprint, Instant::now()) {
        Ok(None) => {}
        Ok(Some(answer)) => return answer.again(),
        Err(fault) => return fault.into_response(),
    }
    let shows_secret = SHOW_SECRETS.iter().any(|part| request.uri().path().contains(part));
    // A task of its own ends even when the client does not wait for it.
    let task = tokio::spawn(async move {
        // Frees the key if the handler panics.
        let mut under_way = UnderWay { web: &web, id: Some(id) };
        let response = next.run(request).await;
        under_way.ended(response, shows_secret).await
    });
    task.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The request, whole, and what it is known by.
async fn read(caller: &Caller, request: Request) -> Result<(Id, Request, Fingerprint), Fault> {
    let key = request.headers().get(&KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().trim();
    if !(1..=MAX_KEY).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::field("Idempotency-Key", format!("it is not 1 to {MAX_KEY} visible ASCII characters")));
    }
    let id = (caller.0.name.clone(), key.to_owned());
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await;
    let body = body.map_err(|_| Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off"))?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let mut hasher = Sha256::new();
    hasher.update(uri.to_string().as_bytes());
    hasher.update([0]);
    hasher.update(parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes));
    hasher.update([0]);
    hasher.update(&body);
    let fingerprint = hasher.finalize().into();
    Ok((id, Request::from_parts(parts, Body::from(body)), fingerprint))
}

impl Answers {
    /// Begins a request, or tells what became of the same one earlier.
    fn begin(&self, id: &Id, request: Fingerprint, now: Instant) -> Result<Option<Answer>, Fault> {
        let mut kept = self.0.lock();
        kept.forget_old(now);
        let Some(entry) = kept.entries.get(id) else {
            if kept.entries.len() >= MAX_ANSWERS && !kept.forget_oldest() {
                let mut fault =
                    Fault::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests with keys are under way");
                fault.retry_after = Some(5);
                return Err(fault);
            }
            kept.entries.insert(id.clone(), Entry { request, state: Step::UnderWay });
            return Ok(None);
        };
        if entry.request != request {
            let mut fault =
                Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was used for another request");
            fault.detail = Some("take a new key for each thing to be done".to_owned());
            return Err(fault);
        }
        match &entry.state {
            Step::Done(Some(answer)) => Ok(Some(answer.clone())),
            Step::Done(None) => {
                let mut fault = Fault::new(StatusCode::CONFLICT, "this was done already, and its answer is not kept");
                fault.detail =
                    Some("answers that show a secret, or are large, are given once; look at what is there".to_owned());
                Err(fault)
            }
            Step::UnderWay => {
                let mut fault = Fault::new(StatusCode::CONFLICT, "the same request is under way");
                fault.retry_after = Some(1);
                Err(fault)
            }
        }
    }

    fn end(&self, id: Id, answer: Option<Answer>, now: Instant) {
        let mut kept = self.0.lock();
        let bytes = answer.as_ref().map_or(0, |answer| answer.body.len());
        while kept.bytes + bytes > MAX_BYTES && kept.forget_oldest() {}
        kept.bytes += bytes;
        if let Some(entry) = kept.entries.get_mut(&id) {
            entry.state = Step::Done(answer);
        }
        kept.order.push_back((now, id));
    }

    fn free(&self, id: &Id) {
        self.0.lock().entries.remove(id);
    }
}

impl Kept {
    fn forget_old(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= KEPT) {
            self.forget_oldest();
        }
    }

    /// Whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, id)) = self.order.pop_front() else { return false };
        if let Some(Entry { state: Step::Done(Some(answer)), .. }) = self.entries.remove(&id) {
            self.bytes -= answer.body.len();
        }
        true
    }
}

impl Answer {
    fn again(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// A request that is being carried out.
struct UnderWay<'a> {
    web: &'a Web,
    id: Option<Id>,
}

impl UnderWay<'_> {
    /// Keeps the answer if it is one of success; the answer itself goes on.
    async fn ended(&mut self, response: Response, shows_secret: bool) -> Response {
        let answers = &self.web.guards.answers;
        if !response.status().is_success() {
            return response;
        }
        let Some(id) = self.id.take() else { return response };
        let fits = response.body().size_hint().exact().is_some_and(|length| length <= MAX_ANSWER as u64);
        if shows_secret || !fits {
            answers.end(id, None, Instant::now());
            return response;
        }
        let (parts, body) = response.into_parts();
        match to_bytes(body, MAX_ANSWER).await {
            Ok(body) => {
                let answer = Answer { status: parts.status, headers: parts.headers.clone(), body: body.clone() };
                answers.end(id, Some(answer), Instant::now());
                Response::from_parts(parts, Body::from(body))
            }
            Err(_) => {
                answers.end(id, None, Instant::now());
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.web.guards.answers.free(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: &str) -> Id {
        ("alice".to_owned(), key.to_owned())
    }

    fn answer(bytes: usize) -> Option<Answer> {
        let body = Bytes::from(vec![b'x'; bytes]);
        Some(Answer { status: StatusCode::CREATED, headers: HeaderMap::new(), body })
    }

    fn status(outcome: Result<Option<Answer>, Fault>) -> u16 {
        match outcome {
            Ok(None) => 0,
            Ok(Some(answer)) => answer.status.as_u16(),
            Err(fault) => fault.status.as_u16(),
        }
    }

    #[test]
    fn a_key_is_one_request_of_one_caller_for_a_day() {
        let (answers, now) = (Answers::default(), Instant::now());
        assert_eq!(status(answers.begin(&id("k"), [1; 32], now)), 0, "it is begun");
        assert_eq!(status(answers.begin(&id("k"), [1; 32], now)), 409, "it is under way");
        answers.end(id("k"), answer(3), now);
        assert_eq!(status(answers.begin(&id("k"), [1; 32], now)), 201, "it is told again");
        assert_eq!(status(answers.begin(&id("k"), [2; 32], now)), 422, "it is another request");
        let bob = ("bob".to_owned(), "k".to_owned());
        assert_eq!(status(answers.begin(&bob, [2; 32], now)), 0, "another caller has keys of its own");
        answers.free(&bob);
        assert_eq!(status(answers.begin(&bob, [3; 32], now)), 0, "what failed may be tried again");
        answers.end(bob.clone(), None, now);
        assert_eq!(status(answers.begin(&bob, [3; 32], now)), 409, "what is not kept is not done again");
        assert_eq!(status(answers.begin(&id("k"), [2; 32], now + KEPT)), 0, "a day is over");
    }

    #[test]
    fn answers_are_bounded_in_number_and_bytes_and_the_oldest_go_first() {
        let (answers, now) = (Answers::default(), Instant::now());
        for number in 0..MAX_ANSWERS + 5 {
            let id = id(&number.to_string());
            assert_eq!(status(answers.begin(&id, [1; 32], now)), 0);
            answers.end(id, answer(10), now);
        }
        assert_eq!(answers.0.lock().entries.len(), MAX_ANSWERS);
        assert_eq!(status(answers.begin(&id("4"), [2; 32], now)), 0, "the oldest are gone");
        assert_eq!(status(answers.begin(&id("9"), [1; 32], now)), 201);
        for number in 0..MAX_BYTES / MAX_ANSWER + 9 {
            let id = id(&format!("large-{number}"));
            drop(answers.begin(&id, [1; 32], now));
            answers.end(id, answer(MAX_ANSWER), now);
        }
        assert!(answers.0.lock().bytes <= MAX_BYTES);
    }
}
