//! How often one address and one key may ask. The defaults are far above what a person or a script needs; they keep one
//! that runs wild from taking the appliance from the others.
//!
//! Each has a bucket that holds a minute's worth and fills evenly (the generic cell rate algorithm: one number a bucket).
//! The buckets are bounded in number; those that are full again are forgotten first, and when none is, newcomers share
//! one, so that an attacker with many addresses cannot take memory. A restart fills them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use super::super::Web;
use super::super::auth::Principal;
use super::super::fault::Fault;
use super::super::origin::peer;

/// Buckets at once, about 100 bytes each.
const MAX_BUCKETS: usize = 10_000;

/// What a bucket holds is refilled in this time.
const MINUTE: Duration = Duration::from_secs(60);

/// Buckets by what they are for.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    /// When each bucket will be full again.
    full_at: HashMap<K, Instant>,
    /// The one of those that found no place.
    others: Option<Instant>,
}

/// What a request found in its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    limit: u32,
    remaining: u32,
    /// Until the bucket is full again.
    reset: Duration,
    /// How long to wait, if it was empty.
    wait: Option<Duration>,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self { buckets: Mutex::new(Buckets { full_at: HashMap::new(), others: None }) }
    }
}

impl<K: Hash + Eq> Limiter<K> {
    /// Takes one from the bucket of `key`.
    fn take(&self, key: K, per_minute: u32, now: Instant) -> Found {
        let mut buckets = self.buckets.lock();
        if buckets.full_at.len() >= MAX_BUCKETS && !buckets.full_at.contains_key(&key) {
            buckets.full_at.retain(|_, full_at| *full_at > now);
            if buckets.full_at.len() >= MAX_BUCKETS {
                let (full_at, found) = taken(buckets.others, per_minute, now);
                buckets.others = Some(full_at);
                return found;
            }
        }
        let (full_at, found) = taken(buckets.full_at.get(&key).copied(), per_minute, now);
        buckets.full_at.insert(key, full_at);
        found
    }
}

/// When the bucket will be full again after one more request, and what the request found.
fn taken(full_at: Option<Instant>, per_minute: u32, now: Instant) -> (Instant, Found) {
    let limit = per_minute.max(1);
    let each = MINUTE / limit;
    let before = full_at.unwrap_or(now).max(now);
    let after = before + each;
    let debt = after - now;
    if debt > MINUTE + each / 2 {
        // A minute's worth is used up; nothing is taken, so that waiting helps.
        let found = Found { limit, remaining: 0, reset: before - now, wait: Some(debt - MINUTE) };
        return (before, found);
    }
    let left = MINUTE.saturating_sub(debt).as_nanos() / each.as_nanos().max(1);
    let remaining = u32::try_from(left).unwrap_or(u32::MAX).min(limit - 1);
    (after, Found { limit, remaining, reset: debt, wait: None })
}

/// Refuses an address that asks too often, whoever it says to be: guessing keys is limited by this too.
pub(super) async fn by_address(State(web): State<Web>, request: Request, next: Next) -> Response {
    let per_minute = web.admin.api_settings().per_address;
    if per_minute == 0 {
        return next.run(request).await;
    }
    let peer = peer(request.extensions(), request.headers());
    let found = web.guards.addresses.take(peer, per_minute, Instant::now());
    answered(found, "too many requests from this address", request, next).await
}

/// Refuses a key or user that asks too often.
pub(super) async fn by_caller(State(web): State<Web>, principal: Principal, request: Request, next: Next) -> Response {
    let per_minute = web.admin.api_settings().per_caller;
    if per_minute == 0 {
        return next.run(request).await;
    }
    let found = web.guards.callers.take(principal.0, per_minute, Instant::now());
    answered(found, "too many requests with this key", request, next).await
}

async fn answered(found: Found, refusal: &str, request: Request, next: Next) -> Response {
    let mut response = match found.wait {
        None => next.run(request).await,
        Some(wait) => {
            let mut fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, refusal);
            fault.detail = Some(format!("at most {} a minute, evenly", found.limit));
            fault.retry_after = Some(seconds(wait).max(1));
            fault.into_response()
        }
    };
    mark(response.headers_mut(), found);
    response
}

/// The limit that is closer to its end is told; where both are, the inner one has been written before.
fn mark(headers: &mut HeaderMap, found: Found) {
    const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
    const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
    const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
    let told = headers.get(&REMAINING).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if told.is_some_and(|told| told <= found.remaining) {
        return;
    }
    headers.insert(LIMIT, HeaderValue::from(found.limit));
    headers.insert(REMAINING, HeaderValue::from(found.remaining));
    headers.insert(RESET, HeaderValue::from(seconds(found.reset)));
}

/// Rounded up: who comes a moment early would only be refused again.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_can_come_at_once_and_then_evenly() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for left in (0..60).rev() {
            let found = limiter.take("key", 60, start);
            assert_eq!((found.wait, found.remaining), (None, left));
        }
        let refused = limiter.take("key", 60, start);
        assert_eq!((refused.wait, refused.remaining), (Some(Duration::from_secs(1)), 0));
        assert!(limiter.take("other", 60, start).wait.is_none(), "others have buckets of their own");
        let later = start + Duration::from_secs(1);
        assert!(limiter.take("key", 60, later).wait.is_none(), "refused requests cost nothing");
        assert!(limiter.take("key", 60, later).wait.is_some());
        assert_eq!(limiter.take("key", 60, start + Duration::from_secs(600)).remaining, 59);
    }

    #[test]
    fn the_buckets_are_bounded_and_full_ones_go_first() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for key in 0..MAX_BUCKETS {
            limiter.take(key, 60, start);
        }
        for _ in 0..60 {
            assert!(limiter.take(MAX_BUCKETS + 1, 60, start).wait.is_none());
        }
        assert!(limiter.take(MAX_BUCKETS + 2, 60, start).wait.is_some(), "newcomers share one bucket");
        assert_eq!(limiter.buckets.lock().full_at.len(), MAX_BUCKETS);
        limiter.take(MAX_BUCKETS + 3, 60, start + Duration::from_secs(2));
        assert_eq!(limiter.buckets.lock().full_at.len(), 1, "those that are full again are forgotten");
    }
}
