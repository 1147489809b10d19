//! Whether a request has the form that its address takes, before anything is made of it: parameters that are described,
//! each of them once; a body that is not coded in a way nobody undoes, and not announced larger than is taken.
//!
//! What may stand in a query is read from the description that the appliance serves of itself, so that the two cannot
//! disagree. Version 1 disregards parameters that mean nothing to it, as it always did. Keeps nothing but that table.

use std::collections::HashMap;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use super::super::fault::Fault;
use super::super::input::Fields;
use super::super::{MAX_BODY, Web};

/// Where parameters that mean nothing are refused.
const STRICT: &str = "/api/v2/";

/// The address whose documents may be larger than other bodies, and how large, in bytes: a whole configuration.
const LARGE: (&str, u64) = ("/api/v2/import", 16 << 20);

/// The parameters that each operation takes, by its address and method.
#[derive(Debug, Default)]
pub(super) struct Parameters(HashMap<String, HashMap<Method, Vec<String>>>);

impl Parameters {
    /// Those of a description.
    pub(super) fn of(api: &OpenApi) -> Self {
        let strict = api.paths.paths.iter().filter(|(path, _)| path.starts_with(STRICT));
        Self(strict.map(|(path, item)| (path.clone(), of_item(item))).collect())
    }

    /// Refuses what an operation does not take, and what is there twice: which of the two was meant nobody knows.
    fn check(&self, path: &str, method: &Method, fields: &Fields) -> Result<(), Fault> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let Some(known) = self.0.get(path).and_then(|methods| methods.get(method)) else { return Ok(()) };
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        fields.only(&known)?;
        match known.iter().find(|name| fields.all(name).nth(1).is_some()) {
            Some(name) => Err(Fault::field(name, "it is there more than once; give it once")),
            None => Ok(()),
        }
    }
}

fn of_item(item: &PathItem) -> HashMap<Method, Vec<String>> {
    let operations = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ];
    operations.into_iter().filter_map(|(method, one)| Some((method, in_query(one.as_ref()?)))).collect()
}

fn in_query(operation: &Operation) -> Vec<String> {
    let written = operation.parameters.iter().flatten().filter_map(|one| match one {
        RefOr::T(parameter) => Some(parameter),
        // What all operations share is added later, and stands in headers.
        RefOr::Ref(_) => None,
    });
    written.filter(|one| one.parameter_in == ParameterIn::Query).map(|one| one.name.clone()).collect()
}

/// Lets a request pass that has the form its address takes.
pub(super) async fn check(
    State(web): State<Web>,
    path: Option<MatchedPath>,
    fields: Fields,
    request: Request,
    next: Next,
) -> Response {
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let known = web.guards.parameters.get();
    let checked = known.map_or(Ok(()), |known| known.check(path, request.method(), &fields));
    match checked.and_then(|()| fit(path, request.headers())) {
        Ok(()) => next.run(request).await,
        Err(fault) if fault.status == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            // RFC 9110 section 12.5.3: with a 415 it says which codings would have been taken.
            ([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))], fault).into_response()
        }
        Err(fault) => fault.into_response(),
    }
}

/// Whether a body can be taken, by what its headers say of it.
fn fit(path: &str, headers: &HeaderMap) -> Result<(), Fault> {
    let coded = headers.get_all(header::CONTENT_ENCODING).iter();
    if coded.into_iter().any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
        let mut fault = Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is sent compressed");
        fault.detail = Some("send it as it is, without Content-Encoding; only the ingest port takes gzip".to_owned());
        return Err(fault);
    }
    let announced: Option<u64> =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let most = if path == LARGE.0 { LARGE.1 } else { MAX_BODY as u64 };
    match announced {
        Some(length) if length > most => Err(Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is too large; at most {} MiB is taken", most >> 20),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        let of_events = HashMap::from([(Method::GET, vec!["limit".to_owned()])]);
        let of_users = HashMap::from([(Method::GET, Vec::new())]);
        Parameters(HashMap::from([("/api/v2/events".to_owned(), of_events), ("/api/v2/users".to_owned(), of_users)]))
    }

    #[test]
    fn parameters_are_those_described_each_of_them_once() {
        let check = |path: &str, method: Method, query: &[(&str, &str)], at_fault: Option<&str>| {
            let fields = Fields::from(query);
            let told = parameters().check(path, &method, &fields).err().and_then(|fault| fault.field);
            assert_eq!(told.as_deref(), at_fault, "{path} {query:?}");
        };
        check("/api/v2/events", Method::GET, &[("limit", "1")], None);
        check("/api/v2/events", Method::HEAD, &[("limit", "1"), ("limit", "2")], Some("limit"));
        check("/api/v2/events", Method::GET, &[("limits", "1")], Some("limits"));
        check("/api/v2/users", Method::GET, &[("limit", "1")], Some("limit"));
        check("/api/v2/users", Method::OPTIONS, &[("limit", "1")], None);
        check("/api/v1/rules", Method::GET, &[("limit", "1"), ("limit", "2")], None);
    }

    #[test]
    fn a_body_that_cannot_be_taken_is_refused_by_its_headers() {
        let check = |name: header::HeaderName, value: &'static str, path: &str, expected: u16| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            let status = fit(path, &headers).err().map_or(200, |fault| fault.status.as_u16());
            assert_eq!(status, expected, "{value} {path}");
        };
        check(header::CONTENT_ENCODING, "identity", "/api/v2/rules", 200);
        check(header::CONTENT_ENCODING, "gzip", "/api/v2/rules", 415);
        check(header::CONTENT_ENCODING, "", "/api/v1/rules", 415);
        check(header::CONTENT_LENGTH, "1048576", "/api/v2/rules", 200);
        check(header::CONTENT_LENGTH, "1048577", "/api/v2/rules", 413);
        check(header::CONTENT_LENGTH, "10000000000", "", 413);
        check(header::CONTENT_LENGTH, "1048577", "/api/v2/import", 200);
        check(header::CONTENT_LENGTH, "16777217", "/api/v2/import", 413);
    }
}
