//! Dynamic settings in version 1.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::super::Web;
use super::super::super::auth::Caller;
use super::super::super::fault::{Answer, Fault};
use super::super::super::input::{Fields, JsonBody, Segment};
use super::super::settings::{value_of, value_schema};
use super::OldPaging;
use super::audit::{OldChange, OldPages, OldPagination};
use crate::admin::ChangeQuery;

/// The dynamic keys and their values.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldConfig)]
pub(super) struct Config {
    /// By key: a text, a number, or true or false.
    #[schema(value_type = Object, additional_properties)]
    config: Map<String, Value>,
}

/// A new value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read member by member")]
pub(super) struct OldValue {
    /// A text, a number, or true or false.
    #[schema(schema_with = value_schema)]
    value: Value,
}

/// What a changed setting is answered with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldSettingUpdated)]
pub(super) struct Updated {
    status: &'static str,
    key: String,
    #[schema(schema_with = value_schema)]
    value: Value,
    #[schema(schema_with = value_schema)]
    old_value: Value,
    #[schema(schema_with = value_schema)]
    new_value: Value,
}

/// Changes of settings, a page of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldSettingHistory)]
pub(super) struct History {
    history: Vec<OldChange>,
    pagination: OldPagination,
}

/// Dynamic settings
#[utoipa::path(get, path = "/config", operation_id = "config", responses((status = 200, body = Config)))]
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Config>> {
    let settings = web.admin.settings().settings;
    let dynamic = settings.into_iter().filter(|setting| setting.key.is_dynamic());
    Ok(Json(Config { config: dynamic.map(|setting| (setting.key.name.to_owned(), setting.value)).collect() }))
}

/// Changes a dynamic setting
#[utoipa::path(
    put,
    path = "/config/{key}",
    params(("key" = String, Path, description = "The key's name")),
    request_body = OldValue,
    responses((status = 200, body = Updated))
)]
pub(super) async fn set(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    body: JsonBody,
) -> Answer<Json<Updated>> {
    if !body.members()?.contains_key("value") {
        return Err(Fault::bad_request("Missing 'value' in request body"));
    }
    let value = value_of(body.members()?.get("value").unwrap_or(&Value::Null))?;
    let changed = web.admin.set_setting(&key, &value, None, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(Updated {
        status: "updated",
        key: changed.after.key.name.to_owned(),
        value: changed.after.value.clone(),
        old_value: changed.before.value,
        new_value: changed.after.value,
    }))
}

/// Changes of settings
#[utoipa::path(
    get,
    path = "/config/history",
    params(OldPages, ("key" = Option<String>, Query, description = "Of this key only")),
    responses((status = 200, body = History))
)]
pub(super) async fn history(State(web): State<Web>, fields: Fields) -> Answer<Json<History>> {
    let paging = OldPaging::of(&fields);
    let query = ChangeQuery {
        table_name: Some("dynamic_config".to_owned()),
        record_id: fields.get("key").map(str::to_owned),
        ..ChangeQuery::default()
    };
    let found = web.admin.changes_page(&query, paging.page, paging.limit).await?;
    Ok(Json(History {
        history: found.rows.iter().map(OldChange::from).collect(),
        pagination: OldPagination::of(paging, found.total),
    }))
}
