//! The files of the audit over the API.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::fault::Answer;
use super::super::input::Fields;
use crate::admin::PartitionInfo;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new().routes(routes!(list))
}

/// One file of the audit.
#[derive(Serialize, ToSchema)]
struct PartitionLine {
    /// The month of its events (UTC), such as `2026-11`.
    month: String,
    /// Which of the month's files, from 1.
    part: u32,
    /// The file's name.
    file: String,
    /// Rows in it.
    rows: u64,
    /// Bytes in use.
    bytes: u64,
    /// When its oldest event was received; null if it has none.
    #[schema(format = DateTime)]
    first_event: Option<String>,
    /// When its newest event was received; null if it has none.
    #[schema(format = DateTime)]
    last_event: Option<String>,
    /// `current`, `full`, `closed`, `ahead`, `future` (it holds events of a month to come: the clock was wrong) or
    /// `damaged`.
    #[schema(pattern = "^(current|full|closed|ahead|future|damaged)$")]
    state: &'static str,
}

/// The files of the audit.
#[derive(Serialize, ToSchema)]
struct Partitions {
    /// Newest first.
    partitions: Vec<PartitionLine>,
    /// Rows in all.
    rows: u64,
    /// Bytes in use in all.
    bytes: u64,
}

/// The files of the audit
///
/// One for each month, and further parts where a month outgrew `partition_max_bytes`.
#[utoipa::path(get, path = "/partitions", responses((status = 200, body = Partitions)))]
async fn list(State(web): State<Web>, fields: Fields) -> Answer<Json<Partitions>> {
    fields.only(&[])?;
    let partitions = web.admin.partitions().await?;
    let (rows, bytes) = partitions.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes));
    Ok(Json(Partitions { partitions: partitions.into_iter().map(line).collect(), rows, bytes }))
}

fn line(info: PartitionInfo) -> PartitionLine {
    PartitionLine {
        month: info.month,
        part: info.part,
        file: info.file,
        rows: info.rows,
        bytes: info.bytes,
        first_event: info.first.map(|at| at.to_string()),
        last_event: info.last.map(|at| at.to_string()),
        state: info.state.name(),
    }
}
