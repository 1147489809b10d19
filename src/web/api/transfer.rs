//! The configuration as one document over the API.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Reason, unread};
use crate::admin::{ImportOptions, Operation, PlannedChange};
use crate::config::transfer;

/// Largest document taken, in bytes: ten thousand rules with long texts fit.
const LIMIT: DefaultBodyLimit = DefaultBodyLimit::max(16 << 20);

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    let import = OpenApiRouter::new().routes(routes!(import)).layer(LIMIT);
    OpenApiRouter::new().routes(routes!(export)).merge(import)
}

/// What an import does.
#[derive(Serialize, ToSchema)]
struct ImportResult {
    /// Whether it only shows what would be done.
    dry_run: bool,
    created: usize,
    updated: usize,
    deleted: usize,
    changes: Vec<ImportChange>,
}

/// One change of an import.
#[derive(Serialize, ToSchema)]
struct ImportChange {
    /// CREATE, UPDATE or DELETE.
    operation: &'static str,
    table_name: &'static str,
    /// Which one; empty for a rule that has no number yet.
    record_id: String,
    /// Before.
    #[schema(value_type = Option<Object>)]
    old_values: Option<Value>,
    /// After.
    #[schema(value_type = Option<Object>)]
    new_values: Option<Value>,
}

/// The configuration as one document
///
/// Rules, hosts, teams, settings and targets; secrets are not in it.
#[utoipa::path(
    get,
    path = "/export",
    params(("format" = Option<String>, Query, description = "`json`, or `toml` for the commented file; JSON unless said",
        pattern = "^(json|toml)?$")),
    responses((status = 200, description = "The document", content(
        (Object = "application/json"), (String = "application/toml"),
    )))
)]
async fn export(State(web): State<Web>, fields: Fields) -> Answer<Response> {
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

/// Makes the configuration what a document says
///
/// All of it in one transaction. The document is what an export gave, as JSON or TOML.
#[utoipa::path(
    post,
    path = "/import",
    params(
        ("dry_run" = Option<bool>, Query, description = "Only shows what would be done"),
        ("prune" = Option<bool>, Query, description = "Removes what the document does not have"),
    ),
    request_body(description = "The document", content(
        (Object = "application/json"), (String = "application/toml"),
    )),
    responses((status = 200, body = ImportResult), (status = 409, description = "It contradicts what is there"))
)]
async fn import(
    State(web): State<Web>,
    caller: Caller,
    fields: Fields,
    Reason(reason): Reason,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<ImportResult>> {
    fields.only(&["dry_run", "prune"])?;
    let truth = |name: &str| -> Answer<bool> {
        Ok(fields.parsed(name, "true or false", |text| text.parse().ok())?.unwrap_or(false))
    };
    let options = ImportOptions { prune: truth("prune")?, dry_run: truth("dry_run")? };
    let bytes = body.map_err(|rejection| unread(&rejection, "the document is too large; at most 16 MiB is taken"))?;
    let text = str::from_utf8(&bytes).map_err(|_| Fault::bad_request("the document is not UTF-8"))?;
    let document = transfer::read(text).map_err(|error| Fault::field("document", error.0))?;
    let changes = web.admin.import(&document, options, &caller.0, reason.as_deref()).await?;
    let count = |operation: Operation| changes.iter().filter(|change| change.operation == operation).count();
    Ok(Json(ImportResult {
        dry_run: options.dry_run,
        created: count(Operation::Create),
        updated: count(Operation::Update),
        deleted: count(Operation::Delete),
        changes: changes.iter().map(ImportChange::from).collect(),
    }))
}

impl From<&PlannedChange> for ImportChange {
    fn from(change: &PlannedChange) -> Self {
        Self {
            operation: change.operation.name(),
            table_name: change.table,
            record_id: change.record.clone(),
            old_values: change.old.clone(),
            new_values: change.new.clone(),
        }
    }
}
