//! Settings over the API: every key with its value and origin, changing the dynamic ones, history and going back. Values
//! that are shown nowhere do not reach this file.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::conditional::{tag_of, tagged, tagged_json, unchanged};
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, Segment};
use super::super::text::url_encode;
use super::changes::ChangeLine;
use crate::admin::{AdminError, IgnoredSetting, Setting, SettingView, setting_text};

/// Lines of history in one answer, unless asked otherwise.
const HISTORY: usize = 50;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(history))
        .routes(routes!(show, set, reset))
        .routes(routes!(revert))
}

/// Every setting.
#[derive(Serialize, ToSchema)]
struct SettingList {
    total: usize,
    settings: Vec<SettingView>,
    /// What is kept in the store and not in force, such as keys of another version of the program.
    ignored: Vec<IgnoredSetting>,
}

/// A new value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSetting {
    /// The value: a text, a number, or true or false.
    #[schema(schema_with = value_schema)]
    pub value: Value,
    /// The value that the sender believes to be in force; 409 if it is another. The header `If-Match` says the same.
    #[schema(schema_with = expected_schema)]
    expected: Option<Value>,
}

/// Which change is to be undone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RevertSetting {
    /// The number of a line in the history of this key.
    change: i64,
    /// The value that the sender believes to be in force.
    #[schema(schema_with = expected_schema)]
    expected: Option<Value>,
}

/// A kept setting that was forgotten.
#[derive(Serialize, ToSchema)]
struct Forgotten {
    key: String,
    forgotten: bool,
}

/// Changes of settings, newest first.
#[derive(Serialize, ToSchema)]
struct SettingHistory {
    /// How many there are in all.
    total: u64,
    changes: Vec<ChangeLine>,
    /// What `before` must be for the ones that follow; null at the end.
    next: Option<i64>,
}

pub(super) fn value_schema() -> impl Into<RefOr<Schema>> {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Number, Type::Boolean]))
}

fn expected_schema() -> impl Into<RefOr<Schema>> {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Number, Type::Boolean, Type::Null]))
}

/// All settings with value and origin
///
/// Every key, those that only the configuration file can change included. Values of secrets are shown nowhere.
#[utoipa::path(
    get,
    path = "/config",
    params(("If-None-Match" = Option<String>, Header, description = "The tag of the list that the reader has")),
    responses(
        (status = 200, body = SettingList, headers(("ETag" = String, description = "The list's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn list(State(web): State<Web>, headers: HeaderMap) -> Response {
    let all = web.admin.settings();
    let body = SettingList {
        total: all.settings.len(),
        settings: all.settings.iter().map(SettingView::from).collect(),
        ignored: all.ignored.iter().map(IgnoredSetting::from).collect(),
    };
    tagged_json(&headers, &body)
}

/// One setting
///
/// The header `ETag` begins with its value, for `If-Match`.
#[utoipa::path(
    get,
    path = "/config/{key}",
    params(
        ("key" = String, Path, description = "The key's name, for one of the configuration file with its section: `tls.cert`"),
        ("If-None-Match" = Option<String>, Header, description = "The tag of the setting that the reader has"),
    ),
    responses(
        (status = 200, body = SettingView, headers(("ETag" = Option<String>, description = "The value in force, and a tag of the rest"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn show(State(web): State<Web>, headers: HeaderMap, Segment(key): Segment) -> Answer<Response> {
    let setting = web.admin.setting(&key)?;
    let same = setting_tag(&setting).and_then(|tag| unchanged(&headers, &tag));
    Ok(same.unwrap_or_else(|| with_tag(&setting, &SettingView::from(&setting))))
}

/// Changes a setting
///
/// It is in force everywhere when this answers. A value out of its range changes nothing.
#[utoipa::path(
    put,
    path = "/config/{key}",
    params(
        ("key" = String, Path, description = "The key's name"),
        ("If-Match" = Option<String>, Header, pattern = "^([*]|\"[A-Za-z0-9._~-]*(;[0-9a-f]{16})?\")$", description = "The tag of the value that the sender believes to be in force"),
    ),
    request_body = SetSetting,
    responses(
        (status = 200, body = SettingView, headers(("ETag" = Option<String>, description = "The value in force, and a tag of the rest"))),
        (status = 409, description = "`expected` is not the value in force"),
        (status = 412, description = "The tag is not that of the value in force"),
    )
)]
async fn set(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<Response> {
    let wanted: SetSetting = body.read()?;
    let value = value_of(&wanted.value)?;
    let expected = expected(&headers, wanted.expected.as_ref())?;
    let reason = body.reason.as_deref();
    let changed = web.admin.set_setting(&key, &value, expected.as_deref(), &caller.0, reason).await;
    let changed = changed.map_err(|error| outdated(&web, &key, &headers, error))?;
    Ok(with_tag(&changed.after, &SettingView::from(&changed)))
}

/// Resets a setting
///
/// It comes from environment, file or default again. A kept setting that no key of this version is made for is forgotten.
#[utoipa::path(
    delete,
    path = "/config/{key}",
    params(
        ("key" = String, Path, description = "The key's name"),
        ("If-Match" = Option<String>, Header, pattern = "^([*]|\"[A-Za-z0-9._~-]*(;[0-9a-f]{16})?\")$", description = "The tag of the value that the sender believes to be in force"),
    ),
    responses(
        (status = 200, description = "What is in force now, or that a kept setting was forgotten", content(
            (SettingView = "application/json"),
        )),
        (status = 409, description = "`expected` is not the value in force"),
        (status = 412, description = "The tag is not that of the value in force"),
    )
)]
async fn reset(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    headers: HeaderMap,
    Reason(reason): Reason,
) -> Answer<Response> {
    if web.admin.settings().ignored.iter().any(|ignored| ignored.key == key) && web.admin.setting(&key).is_err() {
        web.admin.forget_setting(&key, &caller.0, reason.as_deref()).await?;
        return Ok(Json(Forgotten { key, forgotten: true }).into_response());
    }
    let expected = expected(&headers, None)?;
    let changed = web.admin.reset_setting(&key, expected.as_deref(), &caller.0, reason.as_deref()).await;
    let changed = changed.map_err(|error| outdated(&web, &key, &headers, error))?;
    Ok(with_tag(&changed.after, &SettingView::from(&changed)))
}

/// Undoes a change of a setting
///
/// The key gets the value that it had before that change.
#[utoipa::path(
    post,
    path = "/config/{key}/revert",
    params(
        ("key" = String, Path, description = "The key's name"),
        ("If-Match" = Option<String>, Header, pattern = "^([*]|\"[A-Za-z0-9._~-]*(;[0-9a-f]{16})?\")$", description = "The tag of the value that the sender believes to be in force"),
    ),
    request_body = RevertSetting,
    responses(
        (status = 200, body = SettingView, headers(("ETag" = Option<String>, description = "The value in force, and a tag of the rest"))),
        (status = 409, description = "`expected` is not the value in force"),
        (status = 412, description = "The tag is not that of the value in force"),
    )
)]
async fn revert(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<Response> {
    let wanted: RevertSetting = body.read()?;
    let expected = expected(&headers, wanted.expected.as_ref())?;
    let reason = body.reason.as_deref();
    let changed = web.admin.revert_setting(&key, wanted.change, expected.as_deref(), &caller.0, reason).await;
    let changed = changed.map_err(|error| outdated(&web, &key, &headers, error))?;
    Ok(with_tag(&changed.after, &SettingView::from(&changed)))
}

/// Changes of settings
///
/// Newest first: of one key, or of all.
#[utoipa::path(
    get,
    path = "/config/history",
    params(
        ("key" = Option<String>, Query, description = "Of this key only"),
        ("before" = Option<i64>, Query, description = "Those before this line's number"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many; 50 unless said"),
        ("If-None-Match" = Option<String>, Header, description = "The tag of the list that the reader has"),
    ),
    responses(
        (status = 200, body = SettingHistory, headers(("ETag" = String, description = "The list's tag"))),
        (status = 304, description = "The reader has it already"),
        (status = 404, description = "There is no such key"),
    )
)]
async fn history(State(web): State<Web>, headers: HeaderMap, fields: Fields) -> Answer<Response> {
    fields.only(&["key", "before", "limit"])?;
    let before = fields.parsed("before", "a line's number", |text| text.parse().ok())?;
    let limit = fields.number("limit", HISTORY, 1, 1_000)?;
    let found = web.admin.settings_history(fields.get("key"), before, limit).await?;
    let changes = found.rows.iter().map(ChangeLine::from).collect();
    Ok(tagged_json(&headers, &SettingHistory { total: found.total, changes, next: found.next }))
}

/// 412 with the tag of the value in force, where the request spoke of it by a tag; 409 where it named the value.
fn outdated(web: &Web, key: &str, headers: &HeaderMap, error: AdminError) -> Fault {
    let is_outdated = matches!(error, AdminError::Outdated(_));
    let mut fault = Fault::from(error);
    if is_outdated && headers.contains_key(header::IF_MATCH) {
        fault.status = StatusCode::PRECONDITION_FAILED;
        let setting = web.admin.setting(key).ok();
        fault.tag = setting.and_then(|setting| setting_tag(&setting)).map(Into::into);
    }
    fault
}

/// The value of a body, as it would be written in the environment.
pub(super) fn value_of(value: &Value) -> Answer<String> {
    let wanted = "it must be a number, a text or true or false; DELETE has the setting come from file or default again";
    setting_text(value).ok_or_else(|| Fault::field("value", wanted))
}

/// The value that the sender believes to be in force: the body's `expected`, else the tag in `If-Match`.
fn expected(headers: &HeaderMap, body: Option<&Value>) -> Answer<Option<String>> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let mut fault = Fault::new(StatusCode::PRECONDITION_FAILED, "the setting is there already");
        fault.detail = Some("a change that depends on what is there has If-Match".to_owned());
        return Err(fault);
    }
    if let Some(expected) = body {
        let text =
            setting_text(expected).ok_or_else(|| Fault::field("expected", "it is not the value of a setting"))?;
        return Ok(Some(text));
    }
    let Some(tag) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let tag = tag.to_str().unwrap_or_default().trim();
    if tag == "*" {
        return Ok(None);
    }
    let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let text = tag.and_then(|tag| url_decode(tag.split_once(';').map_or(tag, |(value, _)| value)));
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

/// The value, which is what a change can depend on, and a tag of everything that is told of the setting: its origin may
/// change while its value does not. None for a value that is shown nowhere.
fn setting_tag(setting: &Setting) -> Option<String> {
    let told = || tag_of(&SettingView::from(setting));
    // What is encoded holds no semicolon.
    (!setting.key.masked).then(|| format!("{};{}", url_encode(&setting.text), told()))
}

/// With the setting's tag, for `If-Match` and `If-None-Match`.
fn with_tag(setting: &Setting, body: &SettingView) -> Response {
    match setting_tag(setting) {
        Some(tag) => tagged(&tag, Json(body)),
        None => Json(body).into_response(),
    }
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
