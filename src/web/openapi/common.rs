//! What all operations of the description have in common, added in one place: the right each needs (from the table of
//! [`rights`](super::super::rights)), ways to prove who asks, versions, headers, and the problems any of them may answer with.
//!
//! Works on the document as JSON. Pure: the same routers give the same document.

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::rights::{changes_something, declared};
use crate::access::Right;
use crate::net::api_version::API_VERSION;
use crate::net::problem::{DESCRIBED_AT, PROBLEM_JSON};

/// What stands at the top of the description.
const ABOUT: &str = "The HTTP API of the MUTT appliance. Every request names its caller by an API key in the header \
`X-API-KEY`, or by the session cookie of a browser that is logged in; what changes something by a session carries the \
session's token in `X-CSRF-Token` besides. Errors are problem documents (RFC 9457) with the members `error` and \
`correlation_id` of MUTT 2.x. Every answer names the version of the API in `X-API-Version` and the request's id in \
`X-Correlation-ID`; a request may bring an id of its own there.";

/// What takes something away for good wants to be told why: the operations that refuse to go without a reason.
const REASON_NEEDED: [(&str, &str); 7] = [
    ("/api/v2/dead-letters/{queue}/{seq}", "delete"),
    ("/api/v2/dead-letters/discard", "post"),
    ("/api/v2/outboxes/{name}", "delete"),
    ("/api/v2/config-audit/chain/accept", "post"),
    ("/api/v2/archives/accept", "post"),
    ("/api/v2/holds", "post"),
    ("/api/v2/holds/{id}", "delete"),
];

/// Longest reason, in characters, in the header in bytes; the change trail refuses longer ones.
const LONGEST_REASON: u32 = 500;

/// A character that can be seen: a reason that is needed has one.
const LEGIBLE: &str = r"[^\s\x00-\x1f\x7f-\x9f]";

/// Members of a path that are operations.
pub(super) const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Adds what is common.
pub(super) fn complete(document: &mut Value) {
    document["info"] = json!({
        "title": "MUTT appliance",
        "version": API_VERSION.trim_start_matches('v'),
        "summary": "Receives syslog, SNMP traps and JSON events, decides by rules, forwards the alerts that matter",
        "description": ABOUT,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/", "description": "This appliance, port 8090 unless configured otherwise"}]);
    add_components(document);
    let mut bodies = Vec::new();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method).and_then(Value::as_object_mut) {
                complete_operation(operation, path, method);
                bodies.extend(body_schema(operation).map(|name| (name, needs_reason(path, method))));
            }
        }
    }
    for (name, is_needed) in bodies {
        add_reason(&mut document["components"]["schemas"][name], is_needed);
    }
}

fn needs_reason(path: &str, method: &str) -> bool {
    REASON_NEEDED.contains(&(path, method))
}

/// The named schema of a body that is one of ours to change with: a question, and an event, have no reason.
fn body_schema(operation: &Map<String, Value>) -> Option<String> {
    if operation.get("x-muttd-right")? == Right::Read.name() {
        return None;
    }
    let schema = &operation.get("requestBody")?["content"]["application/json"]["schema"];
    schema["$ref"].as_str()?.rsplit('/').next().map(str::to_owned)
}

/// The member that every body may have besides its own.
fn add_reason(schema: &mut Value, is_needed: bool) {
    if schema["type"] != "object" {
        return;
    }
    let mut reason =
        json!({"type": ["string", "null"], "maxLength": LONGEST_REASON, "description": "Why, for the change trail"});
    if is_needed {
        reason["type"] = "string".into();
        reason["minLength"] = 1.into();
        reason["pattern"] = LEGIBLE.into();
        schema["required"] = match schema["required"].take() {
            Value::Array(mut required) => {
                required.push("reason".into());
                Value::Array(required)
            }
            _ => json!(["reason"]),
        };
    }
    schema["properties"]["reason"] = reason;
    close(schema);
}

/// A parameter without a value is as good as one that is not there, so that a form can send all of its fields.
fn or_blank(schema: &mut Value) {
    let has_form = schema.get("format").is_some() || schema.get("pattern").is_some();
    if has_form || schema["type"].as_str().is_some_and(|kind| matches!(kind, "integer" | "number" | "boolean")) {
        *schema = json!({"anyOf": [schema.take(), {"type": "string", "maxLength": 0}]});
    }
}

/// A parameter or header that is not given is not there; it is never null.
fn without_null(schema: &mut Value) {
    let Some(kind) = schema.get_mut("type") else { return };
    if let Some(types) = kind.as_array_mut() {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            *kind = only.clone();
        }
    }
}

fn add_components(document: &mut Value) {
    let components = &mut document["components"];
    if let Some(schemas) = components["schemas"].as_object_mut() {
        schemas.values_mut().for_each(close);
        schemas.insert("Problem".into(), problem_schema());
    }
    components["securitySchemes"] = json!({
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "A named key with scopes, or the \
            configured admin key, which may do everything"},
        "ingestKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "The configured ingest key, the \
            admin key, or a named key with the scope `ingest`"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "The same key as a bearer token; on the ingest port"},
        "session": {"type": "apiKey", "in": "cookie", "name": "muttd_session", "description": "The cookie of a browser that \
            is logged in; over TLS its name begins with `__Host-`"},
        "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "The session's token, which its \
            pages carry; needed with the cookie for whatever changes something"},
    });
    components["headers"] = json!({
        "X-API-Version": {"description": "The version of the API", "schema": {"type": "string"}},
        "X-Correlation-ID": {"description": "The id of this request in the log and in the change trail",
            "schema": {"type": "string"}},
        "Retry-After": {"description": "When to come again, in seconds", "schema": {"type": "integer", "minimum": 0}},
        "Deprecation": {"description": "`true`: the path belongs to version 1", "schema": {"type": "string"}},
        "Sunset": {"description": "Until when the path is promised to work (RFC 8594)", "schema": {"type": "string"}},
        "Link": {"description": "The path that follows this one, as `successor-version`", "schema": {"type": "string"}},
    });
    components["parameters"] = json!({
        "AcceptVersion": {"name": "Accept-Version", "in": "header", "required": false, "description": "The version of the API \
            that the caller was written for: `v2` or `v2.5`; 400 if it is not served", "schema": {"type": "string",
            "pattern": "^[vV]?0*2(\\.0*[0-5])?$", "examples": ["v2.5"]}},
        "ChangeReason": {"name": "X-Change-Reason", "in": "header", "required": false, "description": "Why, for the change \
            trail; a body's member `reason` wins", "schema": {"type": "string", "maxLength": LONGEST_REASON}},
        "IdempotencyKey": {"name": "Idempotency-Key", "in": "header", "required": false, "description": "The same request with \
            the same key is carried out once within 24 hours, over restarts too; another request with it is 422", "schema": {"type": "string",
            "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}},
        "NeededReason": {"name": "X-Change-Reason", "in": "header", "required": true, "description": "Why, for the change \
            trail", "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_REASON, "pattern": LEGIBLE}},
    });
}

/// A named schema of an object has the members it names and no others, unless it says otherwise itself: what is not
/// described is not promised.
fn close(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".into(), false.into());
    }
}

pub(super) fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "Why a request was not carried out (RFC 9457)",
        "required": ["type", "title", "status", "detail", "error", "correlation_id"],
        "properties": {
            "type": {"type": "string", "description": "The kind of problem; it is described at that address",
                "examples": [format!("{DESCRIBED_AT}validation")]},
            "title": {"type": "string", "description": "The kind in words"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What would be right, or what the cause is"},
            "error": {"type": "string", "description": "What happened, in one sentence"},
            "field": {"type": "string", "description": "The member, parameter or header at fault, where it is one"},
            "correlation_id": {"type": "string", "description": "The request's id, to find it in the log"},
        },
    })
}

fn complete_operation(operation: &mut Map<String, Value>, path: &str, method: &str) {
    let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { return };
    let changes = changes_something(&method);
    let is_api = path.starts_with("/api/v") && !path.ends_with("/ingest");
    if is_api && let Some(right) = declared(path, &method) {
        operation.insert("x-muttd-right".into(), right.name().into());
        operation.insert("x-muttd-role".into(), right.least_role().to_string().into());
        operation.insert("x-muttd-scope".into(), right.scope().name().into());
        let session = if changes { json!({"session": [], "csrf": []}) } else { json!({"session": []}) };
        operation.insert("security".into(), json!([{"apiKey": []}, session]));
        add_parameters(operation, path, right, &method);
    }
    if is_api {
        add_problems(operation, path, &method);
    }
    complete_responses(operation, path.starts_with("/api/v1/"));
}

fn add_parameters(operation: &mut Map<String, Value>, path: &str, right: Right, method: &Method) {
    let has_body = operation.contains_key("requestBody");
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    let Some(parameters) = parameters.as_array_mut() else { return };
    for parameter in parameters.iter_mut() {
        let (in_query, required) = (parameter["in"] == "query", parameter["required"] == true);
        let Some(schema) = parameter.get_mut("schema") else { continue };
        without_null(schema);
        if in_query && !required {
            or_blank(schema);
        }
    }
    if path.starts_with("/api/v2/") {
        parameters.push(json!({"$ref": "#/components/parameters/AcceptVersion"}));
    }
    if is_done_once(path, method) {
        parameters.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
    }
    // What needs no more than to look is only a question, whatever its method; a body that must have a reason has it itself.
    let is_needed = needs_reason(path, &method.as_str().to_lowercase());
    if changes_something(method) && right != Right::Read && !(is_needed && has_body) {
        let which = if is_needed { "NeededReason" } else { "ChangeReason" };
        parameters.push(json!({"$ref": format!("#/components/parameters/{which}")}));
    }
}

/// Whether an operation takes an idempotency key: what needs no more than to look is asked again without harm.
fn is_done_once(path: &str, method: &Method) -> bool {
    method == Method::POST && declared(path, method).is_some_and(|right| !matches!(right, Right::Own | Right::Read))
}

/// The problems that any operation of this form may answer with; those of its own it names itself.
fn add_problems(operation: &mut Map<String, Value>, path: &str, method: &Method) {
    let has_body = operation.contains_key("requestBody");
    let mut statuses = vec![
        (StatusCode::BAD_REQUEST, "A value is not valid, or the version is not served"),
        (StatusCode::UNAUTHORIZED, "No valid key and no session"),
        (StatusCode::FORBIDDEN, "The role or the key's scope does not allow this"),
        (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        (StatusCode::SERVICE_UNAVAILABLE, "Not possible now"),
    ];
    if is_done_once(path, method) {
        statuses.push((
            StatusCode::CONFLICT,
            "The same request, by its Idempotency-Key, is under way, was broken off, or was done and its answer not kept",
        ));
        statuses.push((StatusCode::UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request"));
        statuses.push((StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"));
    }
    if path.contains('{') {
        statuses.push((StatusCode::NOT_FOUND, "There is no such thing"));
    }
    if has_body {
        statuses.push((StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time"));
        statuses.push((StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"));
        statuses.push((StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body's type is not taken"));
    }
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    let Some(responses) = responses.as_object_mut() else { return };
    for (status, description) in statuses {
        responses.entry(status.as_str()).or_insert_with(|| json!({"description": description}));
    }
    responses.sort_keys();
}

/// Gives every answer its headers, and every refusal that has no body of its own a problem document.
fn complete_responses(operation: &mut Map<String, Value>, is_deprecated: bool) {
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, response) in responses {
        let refused = status.starts_with('4') || status.starts_with('5');
        if refused && response.get("content").is_none() {
            response["content"] = json!({PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}});
        }
        let Some(response) = response.as_object_mut() else { continue };
        if response.get("description").is_none_or(|told| told == "") {
            let phrase = StatusCode::from_bytes(status.as_bytes()).ok().and_then(|status| status.canonical_reason());
            response.insert("description".into(), phrase.unwrap_or("Done").into());
        }
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        headers.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|header| {
            header.get_mut("schema").into_iter().for_each(without_null);
        });
        let mut add = |name: &str| headers[name] = json!({"$ref": format!("#/components/headers/{name}")});
        add("X-API-Version");
        add("X-Correlation-ID");
        if matches!(status.as_str(), "429" | "503") {
            add("Retry-After");
        }
        if is_deprecated {
            ["Deprecation", "Sunset", "Link"].into_iter().for_each(add);
        }
    }
    if is_deprecated {
        operation.insert("deprecated".into(), true.into());
    }
}
