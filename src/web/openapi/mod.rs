//! The API's description of itself: OpenAPI 3.1, made from the routers that serve it ([`super::api`]), so that the two
//! cannot drift apart.
//!
//! It is made once, at the start, and served to everybody: it says what the product can do, nothing about this appliance.

mod common;
mod elsewhere;
mod page;
pub(super) mod parameters;
mod sample;
pub(super) mod schemas;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, Response};
use axum::routing::get;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::openapi::OpenApi;

use super::assets::Assets;
use super::conditional::{tagged, unchanged};
use super::fault::wrong_method;
use page::DocsPage;

/// Browsers and gateways may keep it, if they ask each time whether it is still the same.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// The description as it is served.
pub(super) struct Description {
    text: Bytes,
    page: Bytes,
    tag: String,
}

impl Description {
    /// The description of `api`, with what all operations have in common.
    pub fn new(api: &OpenApi, assets: &Assets) -> Self {
        let document = document(api);
        let text = Bytes::from(document.to_string());
        // Rendering fails only on a value that fails to be shown; ours are texts.
        let page = Bytes::from(DocsPage::new(&document, assets).render().unwrap_or_default());
        let hash: String = Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { text, page, tag: hash }
    }
}

/// The finished document.
pub(super) fn document(api: &OpenApi) -> Value {
    // A value made of maps with text keys always serialises.
    let mut document = serde_json::to_value(api).unwrap_or_default();
    elsewhere::add(&mut document);
    common::complete(&mut document);
    document
}

/// Where the description is served; it needs no key.
pub(super) fn router(description: Description) -> Router {
    Router::new()
        .route("/api/openapi.json", get(json).fallback(wrong_method))
        .route("/api/docs", get(docs).fallback(wrong_method))
        .with_state(Arc::new(description))
}

async fn docs(State(description): State<Arc<Description>>) -> Html<Bytes> {
    Html(description.page.clone())
}

async fn json(State(description): State<Arc<Description>>, headers: HeaderMap) -> Response {
    if let Some(same) = unchanged(&headers, &description.tag) {
        return same;
    }
    let mut response = tagged(&description.tag, description.text.clone());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    response
}
