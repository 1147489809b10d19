//! Dynamic settings in version 1.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::super::Web;
use super::super::super::auth::Caller;
use super::super::super::fault::{Answer, Fault};
use super::super::super::input::{Fields, JsonBody, Segment};
use super::super::settings::value_of;
use super::OldPaging;
use super::audit::{OldChange, OldPages};
use crate::admin::ChangeQuery;

/// The dynamic keys and their values.
#[derive(Debug, Serialize)]
pub(super) struct Config {
    config: Map<String, Value>,
}

/// What a changed setting is answered with.
#[derive(Debug, Serialize)]
pub(super) struct Updated {
    status: &'static str,
    key: String,
    value: Value,
    old_value: Value,
    new_value: Value,
}

/// Changes of settings, a page of them.
#[derive(Debug, Serialize)]
pub(super) struct History {
    history: Vec<OldChange>,
    pagination: OldPages,
}

/// `GET /config`.
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Config>> {
    let settings = web.admin.settings().settings;
    let dynamic = settings.into_iter().filter(|setting| setting.key.is_dynamic());
    Ok(Json(Config { config: dynamic.map(|setting| (setting.key.name.to_owned(), setting.value)).collect() }))
}

/// `PUT /config/{key}`.
pub(super) async fn set(
    State(web): State<Web>,
    caller: Caller,
    Segment(key): Segment,
    body: JsonBody,
) -> Answer<Json<Updated>> {
    if !body.members()?.contains_key("value") {
        return Err(Fault::bad_request("Missing 'value' in request body"));
    }
    let value = value_of(&body)?;
    let changed = web.admin.set_setting(&key, &value, None, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(Updated {
        status: "updated",
        key: changed.after.key.name.to_owned(),
        value: changed.after.value.clone(),
        old_value: changed.before.value,
        new_value: changed.after.value,
    }))
}

/// `GET /config/history`.
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
        pagination: OldPages::of(paging, found.total),
    }))
}
