//! Settings over the API: every key with its value and origin, changing the dynamic ones, history and going back. Values
//! that are shown nowhere do not reach this file.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, Segment};
use super::super::text::url_encode;
use super::changes::change_json;
use crate::admin::{Changed, Setting, ignored_json, setting_json, setting_text};

/// Lines of history in one answer, unless asked otherwise.
const HISTORY: usize = 50;

/// `GET /config`.
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Value>> {
    let all = web.admin.settings();
    Ok(Json(json!({
        "total": all.settings.len(),
        "settings": all.settings.iter().map(setting_json).collect::<Vec<_>>(),
        "ignored": all.ignored.iter().map(ignored_json).collect::<Vec<_>>(),
    })))
}

/// `GET /config/{key}`.
pub(super) async fn show(State(web): State<Web>, Segment(key): Segment) -> Answer<Response> {
    let setting = web.admin.setting(&key)?;
    Ok(tagged(&setting, setting_json(&setting)))
}

/// `PUT /config/{key}`.
pub(super) async fn set(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<Response> {
    body.only(&["value", "expected"])?;
    let value = value_of(&body)?;
    let expected = expected(&headers, Some(&body))?;
    let reason = body.reason.as_deref();
    let changed = web.admin.set_setting(&key, &value, expected.as_deref(), &caller.0, reason).await?;
    Ok(changed_answer(&changed))
}

/// `DELETE /config/{key}`: back to environment, file or default.
pub(super) async fn reset(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    headers: HeaderMap,
    Reason(reason): Reason,
) -> Answer<Response> {
    if web.admin.settings().ignored.iter().any(|ignored| ignored.key == key) && web.admin.setting(&key).is_err() {
        web.admin.forget_setting(&key, &caller.0, reason.as_deref()).await?;
        return Ok(Json(json!({"key": key, "forgotten": true})).into_response());
    }
    let expected = expected(&headers, None)?;
    let changed = web.admin.reset_setting(&key, expected.as_deref(), &caller.0, reason.as_deref()).await?;
    Ok(changed_answer(&changed))
}

/// `POST /config/{key}/revert`: back to what it was before a change.
pub(super) async fn revert(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<Response> {
    body.only(&["change", "expected"])?;
    let change = body.members()?.get("change").and_then(Value::as_i64);
    let change = change.ok_or_else(|| Fault::field("change", "it is not the number of a change in the history"))?;
    let expected = expected(&headers, Some(&body))?;
    let reason = body.reason.as_deref();
    let changed = web.admin.revert_setting(&key, change, expected.as_deref(), &caller.0, reason).await?;
    Ok(changed_answer(&changed))
}

/// `GET /config/history`.
pub(super) async fn history(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&["key", "before", "limit"])?;
    let before = fields.parsed("before", "a line's number", |text| text.parse().ok())?;
    let limit = fields.number("limit", HISTORY, 1, 1_000)?;
    let found = web.admin.settings_history(fields.get("key"), before, limit).await?;
    Ok(Json(json!({
        "total": found.total,
        "changes": found.rows.iter().map(change_json).collect::<Vec<_>>(),
        "next": found.next,
    })))
}

/// The value of a body, as it would be written in the environment.
pub(super) fn value_of(body: &JsonBody) -> Answer<String> {
    let value = body.members()?.get("value").ok_or_else(|| Fault::field("value", "it is missing"))?;
    let wanted = "it must be a number, a text or true or false; DELETE has the setting come from file or default again";
    setting_text(value).ok_or_else(|| Fault::field("value", wanted))
}

/// The value that the sender believes to be in force: the body's `expected`, else the tag in `If-Match`.
fn expected(headers: &HeaderMap, body: Option<&JsonBody>) -> Answer<Option<String>> {
    if let Some(expected) = body.map(JsonBody::members).transpose()?.and_then(|members| members.get("expected")) {
        let text =
            setting_text(expected).ok_or_else(|| Fault::field("expected", "it is not the value of a setting"))?;
        return Ok(Some(text));
    }
    let Some(tag) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let tag = tag.to_str().unwrap_or_default().trim();
    if tag == "*" {
        return Ok(None);
    }
    let text = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(url_decode);
    let text = text.ok_or_else(|| Fault::field("If-Match", "it is not an ETag of this setting, such as \"100\""))?;
    Ok(Some(text))
}

/// Undoes [`url_encode`]; `None` for what it never makes.
fn url_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn changed_answer(changed: &Changed) -> Response {
    let mut body = setting_json(&changed.after);
    body["previous"] = json!({"value": changed.before.value, "origin": changed.before.origin.name()});
    tagged(&changed.after, body)
}

/// With the value as the answer's tag, for `If-Match`.
fn tagged(setting: &Setting, body: Value) -> Response {
    let mut response = Json(body).into_response();
    if !setting.key.masked
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", url_encode(&setting.text)))
    {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_the_value_whatever_is_in_it() {
        for text in ["100", "", "info,muttd::forward=debug", "a \"b\" %c", "\u{e9}"] {
            assert_eq!(url_decode(&url_encode(text)).as_deref(), Some(text));
        }
        assert_eq!(url_decode("%4"), None);
        assert_eq!(url_decode("%zz"), None);
    }
}
