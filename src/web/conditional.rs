//! Conditional requests (RFC 9110 section 13): a change that is made only if nobody else changed the thing meanwhile, and a
//! list that is not sent again if it is still the same. Pure.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::fault::Fault;

/// Tags looked at in one header; more are no client's.
const MAX_TAGS: usize = 32;

/// A tag that nothing has: it is none of a strong tag's form.
const NOTHING: &str = "W/";

/// What `If-Match` asks for: the tags of which one must be the thing's. `None` when anything will do: without the header,
/// and with `*`, because a change of something that is not there fails anyhow.
pub(super) struct IfMatch(pub Option<Vec<String>>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        if let Some(value) = sent(&parts.headers, &header::IF_NONE_MATCH)? {
            // Whoever wants to make something that is not there yet changes nothing that is (section 13.1.2).
            return match value.trim() {
                "*" => Ok(Self(Some(vec![NOTHING.to_owned()]))),
                _ => Err(Fault::field("If-None-Match", "of a change it can only be *; use If-Match")),
            };
        }
        let Some(value) = sent(&parts.headers, &header::IF_MATCH)? else { return Ok(Self(None)) };
        if value.trim() == "*" {
            return Ok(Self(None));
        }
        // Weak tags never match here (section 13.1.1), so they stand for something that is not there.
        let tags =
            tags(&value).ok_or_else(|| Fault::field("If-Match", "it is not a list of ETags, such as \"4f1a\""))?;
        Ok(Self(Some(tags.into_iter().map(|(_, tag)| tag).collect())))
    }
}

fn sent(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Fault> {
    let mut joined = String::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Fault::field(name.as_str(), "it is not text"))?;
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(text);
    }
    Ok((!joined.is_empty()).then_some(joined))
}

/// The tags of a list, and whether each is weak; of weak ones the text is made one that nothing has.
fn tags(list: &str) -> Option<Vec<(bool, String)>> {
    let mut found = Vec::new();
    let mut rest = list.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() && found.len() < MAX_TAGS {
        let (weak, after) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
        let (tag, after) = after.strip_prefix('"')?.split_once('"')?;
        found.push((weak, tag.to_owned()));
        rest = after.trim_start_matches([' ', ',', '\t']);
    }
    let found: Vec<(bool, String)> =
        found.into_iter().map(|(weak, tag)| (weak, if weak { format!("W/{tag}") } else { tag })).collect();
    (!found.is_empty()).then_some(found)
}

/// The tag of a body that has no version of its own: 64 bits of its hash.
pub(super) fn tag_of(body: &impl Serialize) -> String {
    let text = serde_json::to_vec(body).unwrap_or_default();
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A body of JSON with the tag of what is in it, or 304.
pub(super) fn tagged_json(headers: &HeaderMap, body: &impl Serialize) -> Response {
    let tag = tag_of(body);
    unchanged(headers, &tag).unwrap_or_else(|| tagged(&tag, Json(body)))
}

/// An answer with its tag.
pub(super) fn tagged(tag: &str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    mark(response.headers_mut(), tag);
    response
}

/// 304 if the reader has it already (section 13.1.2), by what it sent as `If-None-Match`; 412 if it wants only what is not
/// there any more (section 13.1.1), by `If-Match`.
pub(super) fn unchanged(headers: &HeaderMap, tag: &str) -> Option<Response> {
    if let Ok(Some(value)) = sent(headers, &header::IF_MATCH)
        && value.trim() != "*"
        && !tags(&value).is_some_and(|tags| tags.iter().any(|(_, wanted)| wanted == tag))
    {
        let mut fault = Fault::new(StatusCode::PRECONDITION_FAILED, "it is not what If-Match says any more");
        fault.tag = Some(tag.into());
        return Some(fault.into_response());
    }
    let value = sent(headers, &header::IF_NONE_MATCH).ok()??;
    // The weak comparison: a copy that is as good will do.
    let same = |(_, has): &(bool, String)| has.strip_prefix("W/").unwrap_or(has) == tag;
    let has_it = value.trim() == "*" || tags(&value).is_some_and(|tags| tags.iter().any(same));
    has_it.then(|| tagged(tag, StatusCode::NOT_MODIFIED))
}

fn mark(headers: &mut HeaderMap, tag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        headers.insert(header::ETAG, value);
        // It may be kept, by the reader alone, and is asked about each time.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn expected(sent: &str) -> Result<Option<Vec<String>>, Fault> {
        let request = axum::http::Request::builder().header(header::IF_MATCH, sent).body(()).expect("a request");
        let (mut parts, ()) = request.into_parts();
        IfMatch::from_request_parts(&mut parts, &()).await.map(|found| found.0)
    }

    #[tokio::test]
    async fn tags_are_read_as_the_standard_writes_them() {
        let check = async |sent: &str, wanted: Option<&[&str]>| {
            let wanted = wanted.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
            assert_eq!(expected(sent).await, Ok(wanted), "{sent}");
        };
        check("\"a1\"", Some(&["a1"])).await;
        check("\"a1\", \"b2\" ,W/\"c3\"", Some(&["a1", "b2", "W/c3"])).await;
        check("*", None).await;
        for wrong in ["a1", "\"a1", "seven, \"a\"", ","] {
            assert!(expected(wrong).await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn whoever_wants_to_make_something_new_changes_nothing() {
        let check = async |sent: &str, wanted: Option<Option<Vec<String>>>| {
            let request =
                axum::http::Request::builder().header(header::IF_NONE_MATCH, sent).body(()).expect("a request");
            let (mut parts, ()) = request.into_parts();
            let found = IfMatch::from_request_parts(&mut parts, &()).await.ok().map(|found| found.0);
            assert_eq!(found, wanted, "{sent}");
        };
        check("*", Some(Some(vec![NOTHING.to_owned()]))).await;
        check("\"a1\"", None).await;
    }

    #[test]
    fn a_reader_who_wants_what_is_gone_is_told() {
        let check = |sent: &'static str, gone: bool| {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static(sent))]);
            let status = unchanged(&headers, "a1").map(|answer| answer.status());
            assert_eq!(status, gone.then_some(StatusCode::PRECONDITION_FAILED), "{sent}");
        };
        check("\"b\", \"a1\"", false);
        check("*", false);
        check("\"b\"", true);
        check("W/\"a1\"", true);
    }

    #[test]
    fn a_reader_who_has_it_is_not_sent_it_again() {
        let check = |sent: &'static str, same: bool| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(sent))]);
            let answer = unchanged(&headers, "a1");
            assert_eq!(answer.is_some(), same, "{sent}");
            assert!(answer.is_none_or(|answer| answer.status() == StatusCode::NOT_MODIFIED));
        };
        check("\"a1\"", true);
        check("W/\"a1\"", true);
        check("\"b\", \"a1\"", true);
        check("*", true);
        check("\"b\"", false);
        check("nonsense", false);
        assert!(unchanged(&HeaderMap::new(), "a1").is_none());
    }
}
