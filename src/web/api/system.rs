//! The appliance as a whole: how each part is, and backups.

use std::io::{self, Write};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::Answer;
use super::super::input::{Fields, Reason};
use crate::admin::{BackupOptions, HealthPart, HealthState, VERSION};

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(backup))
}

/// How the appliance is.
#[derive(Serialize, ToSchema)]
struct Health {
    /// The worst state: `ok`, `warning` or `failed`.
    status: &'static str,
    /// The program's.
    version: &'static str,
    uptime_seconds: u64,
    /// Each part, the worst first.
    parts: Vec<PartRow>,
}

/// A part of the appliance.
#[derive(Serialize, ToSchema)]
struct PartRow {
    /// Such as `listener.syslog_udp`, `queue.ingest`, `store.config`, `target.moogsoft`, `disk`, `clock`.
    name: String,
    /// `ok`, `warning` or `failed`.
    state: &'static str,
    detail: String,
    /// What is to be done.
    hint: Option<String>,
}

/// How each part is
///
/// Listeners, certificates, stores, queues, targets, disk, clock, the change log and the service levels, with what is to be
/// done. It is 200 whatever it says: `/ready` is for load balancers.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health)))]
async fn health(State(web): State<Web>) -> Json<Health> {
    let parts = web.admin.health().await;
    let row =
        |part: HealthPart| PartRow { name: part.name, state: part.state.name(), detail: part.detail, hint: part.hint };
    Json(Health {
        status: parts.iter().map(|part| part.state).max().unwrap_or(HealthState::Ok).name(),
        version: VERSION,
        uptime_seconds: web.admin.uptime().as_secs(),
        parts: parts.into_iter().map(row).collect(),
    })
}

/// Takes a backup
///
/// One archive (tar, gzip) with rules, hosts, teams, settings, targets, users, keys and the change log with the keys of its
/// chain. `muttd backup verify` checks it, `muttd restore` puts it into a data directory. What waits in queues is not in it.
#[utoipa::path(
    post,
    path = "/backup",
    params(
        ("secrets" = Option<bool>, Query, description = "With `secrets.toml` and the appliance's own TLS key"),
        ("audit" = Option<bool>, Query, description = "With the event audit"),
    ),
    responses(
        (status = 200, description = "The archive", content_type = "application/gzip", body = Vec<u8>),
        (status = 409, description = "Another backup is under way"),
    )
)]
async fn backup(State(web): State<Web>, caller: Caller, Reason(reason): Reason, fields: Fields) -> Answer<Response> {
    fields.only(&["secrets", "audit"])?;
    let truth = |name: &str| fields.parsed(name, "true or false", |text| text.parse().ok());
    let options =
        BackupOptions { secrets: truth("secrets")?.unwrap_or(false), audit: truth("audit")?.unwrap_or(false) };
    let backup = web.admin.backup(options, &caller.0, reason.as_deref()).await?;
    let name = format!("attachment; filename=\"{}\"", backup.file_name());
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { sender, buffer: Vec::with_capacity(CHUNK) };
        if let Err(error) = backup.write(&mut pipe) {
            // The reader gets an answer that breaks off, so it cannot take it for whole.
            drop(pipe.sender.blocking_send(Err(error)));
        }
    });
    // Fused: whoever compresses the answer asks once more after its end.
    let chunks = stream::unfold(receiver, |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
        Some((receiver.recv().await?, receiver))
    })
    .fuse();
    let mut response = Body::from_stream(chunks).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Bytes sent at once, and how many such pieces wait for a slow reader.
const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 4;

/// Writes into the body of an answer; waits while the reader is slow, and fails when it is gone.
struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(full.into())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
