//! Style sheet, script and icon, inside the program. Their addresses carry a hash of their content, so browsers keep
//! them for good and get new ones after an upgrade.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::Web;
use super::fault::{Fault, unknown_path};

const CSS: &[u8] = include_bytes!("../../static/muttd.css");
const JS: &[u8] = include_bytes!("../../static/muttd.js");
const ICON: &[u8] = include_bytes!("../../static/favicon.svg");

/// A year: as long as caches may be told (RFC 9111 has no limit, browsers cap there).
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The addresses of the files.
#[derive(Debug)]
pub(super) struct Assets {
    hash: String,
    /// The style sheet.
    pub css: String,
    /// The script.
    pub js: String,
    /// The icon.
    pub icon: String,
}

impl Assets {
    /// Hashes the files.
    pub fn new() -> Self {
        let mut hasher = Sha256::new();
        for file in [CSS, JS, ICON] {
            hasher.update(file);
        }
        let hash: String = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let address = |name: &str| format!("/static/{hash}/{name}");
        Self { css: address("muttd.css"), js: address("muttd.js"), icon: address("favicon.svg"), hash }
    }
}

/// The files' routes; they need no login.
pub(super) fn router() -> Router<Web> {
    Router::new().route("/static/{hash}/{name}", get(file)).route("/favicon.ico", get(icon))
}

async fn file(
    State(web): State<Web>,
    headers: HeaderMap,
    path: Option<Path<(String, String)>>,
) -> Result<Response, Fault> {
    let Some(Path((hash, name))) = path else { return Err(unknown_path().await) };
    let (kind, content) = match name.as_str() {
        "muttd.css" => ("text/css; charset=utf-8", CSS),
        "muttd.js" => ("text/javascript; charset=utf-8", JS),
        "favicon.svg" => ("image/svg+xml", ICON),
        _ => return Err(unknown_path().await),
    };
    // An address from before an upgrade: what it names is gone, and the new file must not be cached under it.
    if hash != web.assets.hash {
        return Err(unknown_path().await);
    }
    let tag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|sent| sent.as_bytes() == tag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { content.into_response() };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, FOREVER);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

async fn icon() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"))], ICON).into_response()
}
