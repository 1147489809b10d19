//! What is served outside of the API's routers, described by hand: the ingest port's API and the probes of both ports. The
//! ingest stage is none of ours to import; tests compare both with what is answered. Pure.

use serde_json::{Value, json};

use crate::net::problem::PROBLEM_JSON;

/// Largest batch shown in the schema of an answer: reasons listed, at most.
const ERRORS_LISTED: u32 = 10_000;

/// Adds the paths and their schemas.
pub(super) fn add(document: &mut Value) {
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, deprecated) in [("/ingest", false), ("/api/v2/ingest", false), ("/api/v1/ingest", true)] {
            paths.insert(path.to_owned(), ingest_path(path, deprecated));
        }
        paths.insert("/health".into(), probe("health", "The process is there and answers", health(), None));
        paths.insert(
            "/ready".into(),
            probe("ready", "Every listener is bound and every store answers", ready(), Some(ready())),
        );
        paths.insert("/metrics".into(), metrics());
    }
    let schemas = &mut document["components"]["schemas"];
    super::schemas::add(schemas);
    schemas["SentEvent"] = sent_event();
    schemas["IngestAnswer"] = ingest_answer();
    schemas["ItemError"] = json!({
        "type": "object",
        "description": "Why one event of a batch was not taken",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "Its place in the batch, from 0"},
            "error": {"type": "string"},
        },
        "required": ["index", "error"],
        "additionalProperties": false,
    });
    schemas["IngestProblem"] = ingest_problem();
    schemas["Readiness"] = readiness();
}

fn ingest_path(path: &str, deprecated: bool) -> Value {
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/IngestProblem"}}},
        })
    };
    let name = match path {
        "/ingest" => "ingest.post",
        "/api/v1/ingest" => "ingest.v1.post",
        _ => "ingest.v2.post",
    };
    let versions = json!({"type": "string", "enum": ["v1", "v2", "v2.5"]});
    let mut post = json!({
        "operationId": name,
        "tags": ["Ingest"],
        "summary": "Sends events",
        "description": "One JSON object, a JSON array or lines of JSON, gzip allowed. 200 says that what was accepted is on \
            stable storage. A batch answers 200 if any of its events was taken.",
        "security": [{"ingestKey": []}, {"bearer": []}],
        "x-muttd-scope": "ingest",
        "parameters": [
            {"name": "Accept-Version", "in": "header", "required": false, "schema": versions,
                "description": "The version of the API that the caller was written for; 400 if it is not served"},
        ],
        "requestBody": {
            "required": true,
            "content": {
                "application/json": {"schema": {"oneOf": [
                    {"$ref": "#/components/schemas/SentEvent"},
                    {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/SentEvent"}},
                ]}, "example": {"hostname": "core1", "message": "link down", "timestamp": "2026-03-01T12:00:00Z", "severity": 3}},
                "application/x-ndjson": {"schema": {"type": "string"},
                    "example": "{\"hostname\":\"core1\",\"message\":\"link down\",\"timestamp\":\"2026-03-01T12:00:00Z\"}\n"},
            },
        },
        "responses": {
            "200": {"description": "Accepted and stored",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/IngestAnswer"}}}},
            "400": problem("Not JSON, members missing (named in `missing`), no event of a batch taken, or a version not served"),
            "401": problem("No valid key"),
            "403": problem("The key lacks the scope `ingest`, or may not be used from this network"),
            "408": problem("The body did not arrive in time"),
            "413": problem("The body, or what it unpacks to, is too large"),
            "415": problem("The type or encoding of the body is not taken"),
            "429": problem("The rate limit is reached"),
            "503": problem("The queue is full, or storage fails; with its depth and limit"),
        },
    });
    if deprecated {
        post["deprecated"] = true.into();
    }
    json!({"servers": [{"url": "http://localhost:8080", "description": "The ingest port"}], "post": post})
}

fn sent_event() -> Value {
    json!({
        "type": "object",
        "description": "An event as it is sent. Members of other names are kept as `fields`. Which members are required can be \
            configured (`ingest_required_fields`); these are unless it is.",
        "properties": {
            "hostname": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[A-Za-z0-9._:-]+$"},
            "message": {"type": "string", "minLength": 1, "pattern": "\\S"},
            "timestamp": {"type": "string", "format": "date-time", "description": "The device's own time; epochs are taken too"},
            "severity": {"type": "integer", "minimum": 0, "maximum": 7, "description": "Or its name; also `syslog_severity`"},
            "trap_oid": {"type": "string", "pattern": "^(|1(\\.[0-9]{1,5}){1,20})$"},
        },
        "required": ["hostname", "message", "timestamp"],
        "additionalProperties": true,
    })
}

fn ingest_answer() -> Value {
    json!({
        "type": "object",
        "description": "What was accepted",
        "properties": {
            "status": {"const": "queued"},
            "correlation_id": {"type": "string"},
            "queue_depth": {"type": "integer", "minimum": 0, "description": "Events in the queue"},
            "accepted": {"type": "integer", "minimum": 0, "description": "Of a batch"},
            "rejected": {"type": "integer", "minimum": 0, "description": "Of a batch"},
            "errors": {"type": "array", "maxItems": ERRORS_LISTED, "items": {"$ref": "#/components/schemas/ItemError"}},
        },
        "required": ["status", "correlation_id", "queue_depth"],
        "additionalProperties": false,
    })
}

fn ingest_problem() -> Value {
    let mut schema = super::common::problem_schema();
    schema["description"] = "Why a request with events was not carried out".into();
    let members = &mut schema["properties"];
    members["missing"] =
        json!({"type": "array", "items": {"type": "string"}, "description": "Required members that are missing"});
    for (name, description) in [
        ("accepted", "Events of the batch that were taken: none"),
        ("rejected", "Events of the batch that were not"),
        ("events", "Events in the request"),
        ("limit", "The limit that was reached"),
        ("queue_depth", "Events in the queue"),
    ] {
        members[name] = json!({"type": "integer", "minimum": 0, "description": description});
    }
    members["errors"] =
        json!({"type": "array", "maxItems": ERRORS_LISTED, "items": {"$ref": "#/components/schemas/ItemError"}});
    schema
}

fn health() -> Value {
    json!({
        "type": "object",
        "properties": {
            "status": {"const": "healthy"},
            "service": {"const": "muttd"},
            "version": {"type": "string"},
            "uptime_seconds": {"type": "integer", "minimum": 0},
        },
        "required": ["status", "service", "version", "uptime_seconds"],
        "additionalProperties": false,
    })
}

fn ready() -> Value {
    json!({"$ref": "#/components/schemas/Readiness"})
}

fn readiness() -> Value {
    json!({
        "type": "object",
        "description": "Whether the appliance can do its work",
        "properties": {
            "status": {"enum": ["ready", "not_ready"]},
            "version": {"type": "string"},
            "checks": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "status": {"enum": ["ok", "failed"]},
                    "detail": {"type": ["string", "null"]},
                },
                "required": ["name", "status"],
                "additionalProperties": false,
            }},
        },
        "required": ["status", "version", "checks"],
        "additionalProperties": false,
    })
}

fn probe(name: &str, summary: &str, schema: Value, failing: Option<Value>) -> Value {
    let answer = |description: &str, schema: Value| json!({"description": description, "content": {"application/json": {"schema": schema}}});
    let mut responses = json!({"200": answer("It is so", schema)});
    if let Some(schema) = failing {
        responses["503"] = answer("It is not so; the checks say why", schema);
    }
    json!({"get": {
        "operationId": format!("probes.{name}"),
        "tags": ["Probes"],
        "summary": summary,
        "description": "On both ports, for monitors and load balancers; needs no key.",
        "security": [],
        "responses": responses,
    }})
}

fn metrics() -> Value {
    json!({"get": {
        "operationId": "probes.metrics",
        "tags": ["Probes"],
        "summary": "Metrics for Prometheus",
        "description": "On both ports. Needs no key unless it is configured so.",
        "security": [],
        "responses": {"200": {"description": "The text format", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    }})
}
