//! The one mapping from what went wrong to a status: a problem document (RFC 9457) for programs, a page for people.
//!
//! A handler answers with a [`Fault`]; [`super::envelope`] renders it, because only it knows whether a person or a
//! program asked and under which correlation id. Faults made by libraries are rendered the same way.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::assets::Assets;
use super::text::visible;
use crate::admin::{AdminError, ItemFault};
use crate::net::problem;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The status.
    pub status: StatusCode,
    /// One sentence.
    pub error: String,
    /// What would be right, or what the cause is.
    pub detail: Option<String>,
    /// The member or parameter at fault.
    pub field: Option<Box<str>>,
    /// When to try again, in seconds.
    pub retry_after: Option<u64>,
    /// The tag of what is there now, of which the request thought otherwise.
    pub tag: Option<Box<str>>,
    /// What is wrong with which items of a list.
    pub items: Box<[ItemFault]>,
}

/// The result of a handler.
pub(super) type Answer<T> = Result<T, Fault>;

impl Fault {
    /// A fault with a sentence only.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            detail: None,
            field: None,
            retry_after: None,
            tag: None,
            items: Box::default(),
        }
    }

    /// 400: a member or parameter is at fault.
    pub fn field(field: &str, why: impl Into<String>) -> Self {
        let mut fault = Self::new(StatusCode::BAD_REQUEST, format!("`{field}` is not valid"));
        fault.detail = Some(why.into());
        fault.field = Some(field.into());
        fault
    }

    /// 400: the request as a whole is at fault.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// 403: not from one of our own pages.
    pub fn forged() -> Self {
        let mut fault = Self::new(StatusCode::FORBIDDEN, "the request does not come from a page of this appliance");
        fault.detail = Some("go back, reload the page and send the form again".to_owned());
        fault
    }

    /// What a bare status means, for answers that libraries made.
    fn from_status(status: StatusCode) -> Self {
        let error = match status {
            StatusCode::NOT_FOUND => "there is nothing at this address",
            StatusCode::METHOD_NOT_ALLOWED => "this address does not know that method",
            StatusCode::PAYLOAD_TOO_LARGE => "the body is too large; at most 1 MiB is taken",
            StatusCode::REQUEST_TIMEOUT => "the request took too long",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "the body is of a type that is not taken here",
            status if status.is_client_error() => "the request is not understood",
            _ => "something went wrong inside the appliance; its log says what",
        };
        Self::new(status, error)
    }

    /// The form for programs.
    fn to_problem(&self, correlation_id: &str) -> Response {
        let (detail, field) = (self.detail.as_deref(), self.field.as_deref());
        let mut members = problem::members(self.status, &self.error, detail, field, correlation_id);
        if !self.items.is_empty() {
            let told = |fault: &ItemFault| json!({"index": fault.index, "field": fault.field, "error": fault.why});
            members.insert("errors".to_owned(), self.items.iter().map(told).collect());
        }
        problem::response(self.status, members)
    }
}

impl From<AdminError> for Fault {
    fn from(error: AdminError) -> Self {
        let sentence = error.to_string();
        match error {
            AdminError::NotFound { .. } | AdminError::NoSetting { .. } => Self::new(StatusCode::NOT_FOUND, sentence),
            AdminError::Exists { .. } | AdminError::Outdated(_) | AdminError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, sentence)
            }
            AdminError::Items(items) => {
                let mut fault = Self::bad_request(sentence);
                fault.items = items.into();
                fault
            }
            AdminError::Stale { tag, .. } => {
                let mut fault = Self::new(StatusCode::PRECONDITION_FAILED, sentence);
                fault.tag = Some(tag.into());
                fault
            }
            AdminError::Invalid { field: Some(field), why } => Self::field(&field, why),
            AdminError::Invalid { field: None, .. } => Self::bad_request(sentence),
            AdminError::BadLogin => Self::new(StatusCode::UNAUTHORIZED, sentence),
            AdminError::BadSetupToken | AdminError::NotLetIn(_) => Self::new(StatusCode::FORBIDDEN, sentence),
            AdminError::TooManyTries { after } => {
                let mut fault = Self::new(StatusCode::TOO_MANY_REQUESTS, sentence);
                fault.retry_after = Some(after.as_secs().max(1));
                fault
            }
            AdminError::Unavailable(_) => {
                tracing::warn!(error = %sentence, "an operator's request could not be carried out");
                let mut fault = Self::new(StatusCode::SERVICE_UNAVAILABLE, "the appliance cannot do this now");
                fault.detail = Some(sentence);
                fault.retry_after = Some(5);
                fault
            }
        }
    }
}

/// Carries the fault to [`render`]; the body is made there.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The answer to an address that nothing serves.
pub(super) async fn unknown_path() -> Fault {
    Fault::from_status(StatusCode::NOT_FOUND)
}

/// The answer to a method that an address does not know.
pub(super) async fn wrong_method() -> Fault {
    Fault::from_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// Who reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A person with a browser.
    Person,
    /// A program.
    Program,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    assets: &'a Assets,
    status: u16,
    title: &'a str,
    error: String,
    detail: Option<String>,
    correlation_id: &'a str,
}

/// Gives a failed answer its body; other answers pass as they are.
pub(super) fn render(response: Response, reader: Reader, correlation_id: &str, assets: &Assets) -> Response {
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    let fault = parts.extensions.remove::<Fault>();
    // A page that shows its form again with what was wrong is an answer of its own.
    let has_own_page = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().starts_with(b"text/html") || kind.as_bytes().starts_with(b"application/json")
    });
    if !(status.is_client_error() || status.is_server_error()) || (fault.is_none() && has_own_page) {
        return Response::from_parts(parts, body);
    }
    let fault = fault.unwrap_or_else(|| Fault::from_status(status));
    let mut rendered = match reader {
        Reader::Program => fault.to_problem(correlation_id),
        Reader::Person => {
            let title = status.canonical_reason().unwrap_or("Error");
            // The name of what was asked for may stand in it, as it was sent.
            let (error, detail) = (visible(&fault.error), fault.detail.as_deref().map(visible));
            let page = ErrorPage { assets, status: status.as_u16(), title, error, detail, correlation_id };
            (status, Html(page.render().unwrap_or_else(|_| title.to_owned()))).into_response()
        }
    };
    if let Some(seconds) = fault.retry_after {
        rendered.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(tag) = fault.tag.as_ref().and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok()) {
        rendered.headers_mut().insert(header::ETAG, tag);
    }
    // What was said on the way here stays said: methods that are allowed, limits, who may read it.
    for (name, value) in &parts.headers {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE && !rendered.headers().contains_key(name) {
            rendered.headers_mut().insert(name.clone(), value.clone());
        }
    }
    rendered
}
