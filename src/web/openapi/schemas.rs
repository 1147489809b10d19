//! Schemas of what the model writes as JSON itself ([`crate::model::event_json`] and its neighbours), for whoever answers
//! with it: `#[schema(value_type = EventJson)]`. Pure.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// An event, as the API and receivers get it in full.
pub(in super::super) enum EventJson {}

/// An alert: an event, and why it is an alert.
pub(in super::super) enum AlertJson {}

fn event_members() -> Value {
    let text = json!({"type": ["string", "null"]});
    let time = json!({"type": ["string", "null"], "format": "date-time"});
    json!({
        "id": {"type": "string", "format": "uuid"},
        "correlation_id": {"type": "string"},
        "received_at": {"type": "string", "format": "date-time"},
        "source": {
            "type": "object",
            "properties": {"protocol": {"type": "string"}, "peer": {"type": "string"}},
            "required": ["protocol", "peer"],
            "additionalProperties": false,
        },
        "timestamp": time,
        "hostname": {"type": "string"},
        "message": {"type": "string"},
        "severity": {"type": ["integer", "null"], "minimum": 0, "maximum": 7},
        "facility": {"type": ["integer", "string", "null"]},
        "app_name": text,
        "proc_id": text,
        "msg_id": text,
        "structured_data": {"type": ["object", "null"], "description": "By element and name; a repeated name has a list"},
        "trap_oid": text,
        "varbinds": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/Varbind"}},
        "snmp": {"type": ["object", "null"]},
        "fields": {"description": "Every further member, as it was sent"},
        "raw": text,
        "flags": {"type": "array", "items": {"type": "string"}},
        "trace_id": {"type": "string", "description": "The trace that tells its way (W3C)"},
    })
}

/// Puts the schemas in the places that the types below hold for them.
pub(super) fn add(schemas: &mut Value) {
    let mut alert = event_members();
    // Receivers are told the trace in a header.
    if let Some(members) = alert.as_object_mut() {
        members.shift_remove("trace_id");
    }
    alert["alert_key"] = json!({"type": "string"});
    alert["environment"] = json!({"type": "string", "enum": ["prod", "dev"]});
    alert["handling"] = json!({"type": "string"});
    alert["team"] = json!({"type": "string"});
    alert["rule_id"] = json!({"type": "integer", "description": "The rule that made it an alert"});
    alert["unhandled"] = json!({
        "type": "object",
        "description": "What came too often and no rule handled",
        "properties": {
            "signature": {"type": "string"},
            "count": {"type": "integer"},
            "window_seconds": {"type": "integer"},
        },
    });
    let mut event = event_members();
    // Receivers of an alert are told the trace by a header.
    event["trace_id"] = json!({"type": "string", "description": "The trace it belongs to: its sender's, else its own"});
    schemas["Event"] = object("An event", event);
    schemas["Alert"] = object("An alert: an event, and why it is one", alert);
    schemas["Varbind"] = json!({
        "type": "object",
        "description": "A variable of a trap",
        "properties": {
            "oid": {"type": "string"},
            "type": {"type": "string"},
            "value": {"type": "string"},
            "name": {"type": ["string", "null"]},
        },
        "required": ["oid", "type", "value", "name"],
    });
}

fn object(description: &str, members: Value) -> Value {
    // Why it is an alert is one of two.
    let is_always = |name: &&String| !["rule_id", "unhandled"].contains(&name.as_str());
    let required: Vec<String> =
        members.as_object().map(|all| all.keys().filter(is_always).cloned().collect()).unwrap_or_default();
    json!({
        "type": "object",
        "description": description,
        "properties": members,
        "required": required,
        "additionalProperties": false,
    })
}

/// The place of a schema that [`add`] fills.
fn place() -> RefOr<Schema> {
    RefOr::T(Schema::default())
}

impl PartialSchema for EventJson {
    fn schema() -> RefOr<Schema> {
        place()
    }
}

impl ToSchema for EventJson {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Event")
    }
}

impl PartialSchema for AlertJson {
    fn schema() -> RefOr<Schema> {
        place()
    }
}

impl ToSchema for AlertJson {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Alert")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, EventIds, Protocol, Source, Timestamp, event_json};

    #[test]
    fn an_event_has_exactly_the_members_of_its_schema() {
        let mut schemas = json!({});
        add(&mut schemas);
        let source = Source { protocol: Protocol::Http, peer: std::net::Ipv4Addr::LOCALHOST.into() };
        let now = Timestamp::from_millis(1_772_366_400_000);
        let event = Event::new(EventIds::new(1).next(now), now, source);
        let Value::Object(event) = event_json(&event) else { panic!("no object") };
        let described: Vec<&String> = schemas["Event"]["properties"].as_object().expect("members").keys().collect();
        assert_eq!(event.keys().collect::<Vec<_>>(), described);
    }
}
