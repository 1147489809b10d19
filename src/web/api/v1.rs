//! The paths of version 1 that MUTT 2.x had for settings, the change log and service levels, with their plain shapes; every
//! answer says that they are deprecated and names what follows them.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, put};
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;

use super::super::auth::Caller;
use super::super::fault::{Answer, unknown_path};
use super::super::input::{Fields, JsonBody, Segment};
use super::super::{Web, auth};
use super::changes::{self, ChangeLine};
use super::settings::{SetSetting, value_of};
use super::{Paging, section};
use crate::admin::ChangeQuery;
use crate::net::api_version::mark_deprecated;

/// The routes, behind the guard.
pub(super) fn router(web: Web) -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .merge(section("Version 1", changes::routes_v1()))
        .route("/config", get(config))
        .route("/config/history", get(history))
        .route("/config/{key}", put(set))
        .route("/slo", get(super::slo::components))
        .route("/slo/status", get(super::slo::status))
        .fallback(unknown_path)
        .layer(from_fn_with_state(web, auth::api_guard))
        .layer(from_fn(deprecated))
}

/// Every path here is followed by the same one in version 2.
async fn deprecated(request: Request, next: Next) -> Response {
    // Nested routers are given the rest of the path only.
    let successor = format!("</api/v2{}>; rel=\"successor-version\"", request.uri().path());
    let mut response = next.run(request).await;
    if let Ok(successor) = HeaderValue::from_str(&successor) {
        mark_deprecated(response.headers_mut(), successor);
    }
    response
}

/// `GET /config`: the dynamic keys and their values.
async fn config(State(web): State<Web>) -> Answer<Json<Value>> {
    let settings = web.admin.settings().settings;
    let dynamic = settings.into_iter().filter(|setting| setting.key.is_dynamic());
    let values: Map<String, Value> = dynamic.map(|setting| (setting.key.name.to_owned(), setting.value)).collect();
    Ok(Json(json!({"config": values})))
}

/// `PUT /config/{key}`.
async fn set(State(web): State<Web>, caller: Caller, Segment(key): Segment, body: JsonBody) -> Answer<Json<Value>> {
    body.only(&["value"])?;
    let value = value_of(&body.read::<SetSetting>()?.value)?;
    let changed = web.admin.set_setting(&key, &value, None, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(json!({
        "status": "updated",
        "key": changed.after.key.name,
        "value": changed.after.value,
        "old_value": changed.before.value,
        "new_value": changed.after.value,
    })))
}

/// `GET /config/history`: changes of settings, page by page.
async fn history(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&["key", "page", "limit"])?;
    let paging = Paging::of(&fields, 50)?;
    let query = ChangeQuery {
        table_name: Some("dynamic_config".to_owned()),
        record_id: fields.get("key").map(str::to_owned),
        ..ChangeQuery::default()
    };
    let found = web.admin.changes_page(&query, paging.page, paging.limit).await?;
    Ok(Json(json!({
        "history": found.rows.iter().map(ChangeLine::from).collect::<Vec<_>>(),
        "pagination": paging.json(found.total),
    })))
}
