//! The configuration as one document over the API.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Reason};
use crate::admin::{ImportOptions, Operation, PlannedChange};
use crate::config::transfer;

/// Largest document taken, in bytes: ten thousand rules with long texts fit.
pub(super) const LIMIT: DefaultBodyLimit = DefaultBodyLimit::max(16 << 20);

/// `GET /export`: rules, hosts, teams, settings and targets; `format=toml` for the commented file.
pub(super) async fn export(State(web): State<Web>, fields: Fields) -> Answer<Response> {
    fields.only(&["format"])?;
    let as_toml = match fields.get("format") {
        None | Some("json") => false,
        Some("toml") => true,
        Some(_) => return Err(Fault::field("format", "it is neither json nor toml")),
    };
    let document = web.admin.export().await?;
    if !as_toml {
        return Ok(Json(document).into_response());
    }
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/toml"));
    Ok(([kind], transfer::to_toml(&document)).into_response())
}

/// `POST /import`: makes the configuration what the body says, TOML or JSON; `dry_run=true` only shows what would be done.
pub(super) async fn import(
    State(web): State<Web>,
    caller: Caller,
    fields: Fields,
    Reason(reason): Reason,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Value>> {
    fields.only(&["dry_run", "prune"])?;
    let truth = |name: &str| -> Answer<bool> {
        Ok(fields.parsed(name, "true or false", |text| text.parse().ok())?.unwrap_or(false))
    };
    let options = ImportOptions { prune: truth("prune")?, dry_run: truth("dry_run")? };
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the document is too large; at most 16 MiB is taken")
        }
        status => Fault::new(status, "the body could not be read"),
    })?;
    let text = str::from_utf8(&bytes).map_err(|_| Fault::bad_request("the document is not UTF-8"))?;
    let document = transfer::read(text).map_err(|error| Fault::field("document", error.0))?;
    let changes = web.admin.import(&document, options, &caller.0, reason.as_deref()).await?;
    let count = |operation: Operation| changes.iter().filter(|change| change.operation == operation).count();
    Ok(Json(json!({
        "dry_run": options.dry_run,
        "created": count(Operation::Create),
        "updated": count(Operation::Update),
        "deleted": count(Operation::Delete),
        "changes": changes.iter().map(change_json).collect::<Vec<_>>(),
    })))
}

fn change_json(change: &PlannedChange) -> Value {
    json!({
        "operation": change.operation.name(),
        "table_name": change.table,
        "record_id": change.record,
        "old_values": change.old,
        "new_values": change.new,
    })
}
