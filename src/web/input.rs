//! Taking requests apart: every fault of a sender becomes a 4xx that names what is wrong. Keeps no state.

use axum::Form;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::auth::SignedIn;
use super::envelope::Correlation;
use super::fault::Fault;
use super::json;
use crate::admin::MAX_REASON;
use crate::model::{Day, Timestamp};
use crate::net::api_version::VERSION_PARAMETER;
use crate::net::http::is_late;

/// Why something is changed, for those who send no body with a `reason`.
pub(super) const CHANGE_REASON: HeaderName = HeaderName::from_static("x-change-reason");

/// Names and values, from a query or a form.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The value of `name`; a blank one is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.trim().is_empty())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` without blanks around it, empty when there is none.
    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().trim().to_owned()
    }

    /// The value of `name` exactly as typed, empty when there is none.
    pub fn exact(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// A value that `parse` understands, or a fault that says what it may be.
    pub fn parsed<T>(&self, name: &str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Fault> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse(text.trim()).map(Some).ok_or_else(|| Fault::field(name, format!("it is not {what}")))
    }

    /// A whole number within bounds.
    pub fn number(&self, name: &str, default: usize, least: usize, most: usize) -> Result<usize, Fault> {
        let what = format!("a whole number from {least} to {most}");
        let parse = |text: &str| text.parse().ok().filter(|number| (least..=most).contains(number));
        Ok(self.parsed(name, &what, parse)?.unwrap_or(default))
    }

    /// A moment: RFC 3339, or a date with or without a time of day, taken as UTC.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Fault> {
        self.parsed(name, "a time such as 2026-03-01T12:00:00Z", parse_time)
    }

    /// A day.
    pub fn day(&self, name: &str) -> Result<Option<Day>, Fault> {
        self.parsed(name, "a day such as 2026-01-31", |text| text.parse().ok())
    }

    /// Refuses names that mean nothing here: a mistyped filter that is ignored would answer with everything.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(60).collect();
                let known = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
                Err(Fault::field(&shown, format!("no such parameter; known are {known}")))
            }
        }
    }
}

/// A moment as people and forms write it.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    // People write a blank between date and time; and a plus sign that was not percent-encoded arrives as one.
    let text = match (text.get(..10), text.get(10..)) {
        (Some(date), Some(rest)) if rest.starts_with(' ') => &format!("{date}T{}", &rest[1..]),
        _ => text,
    };
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&text.replace(' ', "+")))
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}Z")))
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}:00Z")))
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
}

/// A moment that a member of a body says.
pub(super) fn body_time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Fault> {
    let wrong = || Fault::field(field, "it is not a time such as 2026-03-01T12:00:00Z");
    text.map(|text| parse_time(text.trim()).ok_or_else(wrong)).transpose()
}

#[cfg(test)]
impl From<&[(&str, &str)]> for Fields {
    fn from(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(mut pairs) = query.map_err(|_| Fault::bad_request("the query is not understood"))?;
        // What version the request was written for is nothing that a handler looks at.
        pairs.retain(|(name, _)| name != VERSION_PARAMETER);
        Ok(Self(pairs))
    }
}

/// A form that anybody may send: login and set-up.
pub(super) struct OpenForm(pub Fields);

impl<S: Send + Sync> FromRequest<S> for OpenForm {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        match Form::<Vec<(String, String)>>::from_request(request, state).await {
            Ok(Form(pairs)) => Ok(Self(Fields(pairs))),
            Err(rejection) => Err(Fault::new(rejection.status(), "the form is not understood")),
        }
    }
}

/// A form of one of our own pages, sent by whoever is logged in: the token in it has been checked.
pub(super) struct Posted {
    /// Who sent it.
    pub by: SignedIn,
    /// What it holds.
    pub fields: Fields,
}

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let by = SignedIn::from_request_parts(&mut parts, state).await?;
        let OpenForm(fields) = OpenForm::from_request(Request::from_parts(parts, body), state).await?;
        if !by.session.csrf_matches(fields.get("csrf").unwrap_or_default()) {
            return Err(Fault::forged());
        }
        Ok(Self { by, fields })
    }
}

/// The one changing segment of a path.
pub(super) struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text)).map_err(|_| Fault::bad_request("the address is not valid UTF-8"))
    }
}

/// A JSON body, with the reason for the change that it or the header `X-Change-Reason` gives.
pub(super) struct JsonBody {
    /// The body without its `reason`.
    pub value: Value,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind != "application/json" && !kind.ends_with("+json") {
            return Err(Fault::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send JSON, with the header Content-Type: application/json",
            ));
        }
        let from_header = header_reason(request.headers())?;
        let is_old = is_version_1(&request);
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| unread(&rejection, "the body is too large; at most 1 MiB is taken"))?;
        if bytes.trim_ascii().is_empty() {
            return Err(Fault::bad_request("the body is empty; send JSON"));
        }
        // Scripts of MUTT 2.x may say a thing twice: there the last one counted.
        let parsed = if is_old { serde_json::from_slice(&bytes) } else { json::parse(&bytes) };
        let mut value: Value = parsed.map_err(|error| {
            let mut fault = Fault::bad_request("the body is not valid JSON");
            fault.detail = Some(error.to_string());
            fault
        })?;
        let from_body = match value.as_object_mut().and_then(|members| members.shift_remove("reason")) {
            None | Some(Value::Null) => None,
            Some(Value::String(reason)) => Some(reason),
            Some(_) => return Err(Fault::field("reason", "it is not a text")),
        };
        let from_body = from_body.filter(|reason| !reason.trim().is_empty());
        Ok(Self { value, reason: from_body.or(from_header) })
    }
}

fn is_version_1(request: &Request) -> bool {
    let uri = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri(), |original| &original.0);
    uri.path().starts_with("/api/v1/")
}

/// Why a body could not be read.
pub(super) fn unread(rejection: &BytesRejection, too_large: &str) -> Fault {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, too_large),
        _ if is_late(rejection) => Fault::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        status => Fault::new(status, "the body could not be read to its end"),
    }
}

impl JsonBody {
    /// The body as an object.
    pub fn members(&self) -> Result<&Map<String, Value>, Fault> {
        self.value.as_object().ok_or_else(|| Fault::bad_request("the body is not a JSON object"))
    }

    /// The body as `T`, whose members are the only ones taken (`deny_unknown_fields`). What is not as it should be is named
    /// by its place; what was sent is not repeated.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        self.members()?;
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let place = error.path().to_string();
            member_fault(&place, &error.into_inner().to_string())
        })
    }

    /// Refuses members that mean nothing here.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self.members()?.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(60).collect();
                Err(Fault::field(&shown, format!("no such member; known are {}", known.join(", "))))
            }
        }
    }
}

/// Says in our words what serde found at `place`; its own contain the value.
fn member_fault(place: &str, found: &str) -> Fault {
    let within = |name: &str| if place == "." { name.to_owned() } else { format!("{place}.{name}") };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if found.starts_with("missing field") {
        return Fault::field(&within(&quoted(found)), "it is missing");
    }
    if let Some((unknown, known)) = found.strip_prefix("unknown field").and_then(|rest| rest.split_once(", expected")) {
        let name: String = quoted(unknown).chars().take(60).collect();
        // The path of serde ends with the member that is unknown.
        let place = if place == "." || place == name { name } else { place.chars().take(200).collect() };
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return Fault::field(&place, format!("no such member; known are {}", known.join(", ")));
    }
    let expected = match found.rsplit_once("expected ").map_or("", |(_, expected)| expected) {
        "i64" | "i32" | "u64" | "u32" | "u16" | "u8" | "usize" => "a whole number",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" | "" => "an object",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    };
    if place == "." {
        return Fault::bad_request(format!("the body must be {expected}"));
    }
    Fault::field(place, format!("it must be {expected}"))
}

/// The reason for a change without a body.
pub(super) struct Reason(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for Reason {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        Ok(Self(header_reason(&parts.headers)?))
    }
}

fn header_reason(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(reason) = headers.get(CHANGE_REASON) else { return Ok(None) };
    if reason.len() > MAX_REASON {
        return Err(Fault::field("X-Change-Reason", format!("it is longer than {MAX_REASON} bytes")));
    }
    // What is no UTF-8 is Latin-1, as headers were before RFC 7230.
    let reason = std::str::from_utf8(reason.as_bytes())
        .map_or_else(|_| reason.as_bytes().iter().copied().map(char::from).collect(), str::to_owned);
    Ok(Some(reason))
}

impl<S: Sync> FromRequestParts<S> for Correlation {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(String::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse_time(text).map(|time| time.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn times_are_understood_as_people_and_forms_write_them() {
        check("2026-03-01T12:00:00Z", Some("2026-03-01T12:00:00Z"));
        check("2026-03-01T12:00:00+01:00", Some("2026-03-01T11:00:00Z"));
        check("2026-03-01T12:00:00 01:00", Some("2026-03-01T11:00:00Z"));
        check("2026-03-01 12:00", Some("2026-03-01T12:00:00Z"));
        check("2026-03-01 12:00:30.5", Some("2026-03-01T12:00:30.500Z"));
        check("2026-03-01T12:00", Some("2026-03-01T12:00:00Z"));
        check("2026-03-01T12:00:30", Some("2026-03-01T12:00:30Z"));
        check("2026-03-01", Some("2026-03-01T00:00:00Z"));
        check("yesterday", None);
        check("2026-13-01", None);
        assert_eq!(body_time("to", None), Ok(None));
        assert_eq!(body_time("to", Some("2026-03-01")).expect("a time"), parse_time("2026-03-01"));
        assert_eq!(body_time("to", Some("")).expect_err("blank").field.as_deref(), Some("to"));
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        name: String,
        places: Option<Vec<u64>>,
    }

    #[test]
    fn a_body_that_is_not_as_it_should_be_is_told_by_its_place_and_not_repeated() {
        let read = |value: Value| JsonBody { value, reason: None }.read::<Wanted>();
        let check = |value: Value, field: &str, why: &str| {
            let fault = read(value).expect_err("at fault");
            assert_eq!((fault.field.as_deref(), fault.detail.as_deref()), (Some(field), Some(why)));
        };
        check(json!({}), "name", "it is missing");
        check(json!({"name": 4711}), "name", "it must be a text");
        check(json!({"name": "a", "naem": "b"}), "naem", "no such member; known are name, places");
        check(json!({"name": "a", "places": [1, "s3cret"]}), "places[1]", "it must be a whole number");
        assert_eq!(read(json!([])).expect_err("no object").error, "the body is not a JSON object");
        assert_eq!(read(json!({"name": "a", "places": null})), Ok(Wanted { name: "a".into(), places: None }));
    }

    #[test]
    fn blank_fields_are_none_and_unknown_ones_are_named() {
        let fields = Fields(vec![("q".into(), " ".into()), ("limit".into(), "7".into()), ("hots".into(), "x".into())]);
        assert_eq!(fields.get("q"), None);
        assert_eq!(fields.number("limit", 100, 1, 1_000), Ok(7));
        assert!(fields.number("limit", 100, 10, 1_000).is_err());
        assert_eq!(fields.only(&["q", "limit"]).expect_err("unknown").field.as_deref(), Some("hots"));
    }
}
