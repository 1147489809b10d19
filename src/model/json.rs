//! Events and alerts as people and receivers see them: SPEC.md's member names, absent values null.

use serde_json::{Map, Value, json};

use super::{Alert, Cause, Event, SdElement, Trap};

/// An event as the API shows it.
pub fn event_json(event: &Event) -> Value {
    let mut body = bare_json(event);
    body["trace_id"] = event.trace_id().to_string().into();
    body
}

/// The same without what receivers are told in another way: the trace, which is a header to them.
fn bare_json(event: &Event) -> Value {
    let trap = event.trap.as_ref();
    json!({
        "id": event.id.to_string(),
        "correlation_id": event.correlation(),
        "received_at": event.received_at.to_string(),
        "source": {"protocol": event.source.protocol.name(), "peer": event.source.peer.to_string()},
        "timestamp": event.timestamp.map(|time| time.to_string()),
        "hostname": event.hostname,
        "message": event.message,
        "severity": event.severity.map(super::Severity::number),
        "facility": event.facility,
        "app_name": event.app_name,
        "proc_id": event.proc_id,
        "msg_id": event.msg_id,
        "structured_data": structured_data_json(&event.structured_data),
        "trap_oid": trap.map(|trap| trap.oid.to_string()),
        "varbinds": trap.map(|trap| varbinds_json(trap)),
        "snmp": trap.map(|trap| json!({
            "version": trap.version,
            "inform": trap.inform,
            "agent_address": trap.agent.map(|agent| agent.to_string()),
            "uptime": trap.uptime,
        })),
        "fields": event.fields.as_deref().map(|text| {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }),
        "raw": event.raw,
        "flags": event.flags.iter().map(|flag| flag.name()).collect::<Vec<_>>(),
    })
}

/// An alert as receivers get it in full: the event, and why it is an alert.
pub fn alert_json(alert: &Alert) -> Value {
    let mut body = bare_json(&alert.event);
    if let Value::Object(members) = &mut body {
        members.insert("alert_key".into(), alert.key().into());
        members.insert("environment".into(), alert.environment.name().into());
        members.insert("handling".into(), alert.handling.as_str().into());
        members.insert("team".into(), alert.team.as_str().into());
        match &alert.cause {
            Cause::Rule(rule) => {
                members.insert("rule_id".into(), rule.0.into());
            }
            Cause::Unmatched { signature, count, window_seconds } => {
                members.insert(
                    "unhandled".into(),
                    json!({"signature": signature, "count": count, "window_seconds": window_seconds}),
                );
            }
        }
    }
    body
}

/// `{"id": {"name": "value"}}`; a repeated name has a list of its values.
fn structured_data_json(elements: &[SdElement]) -> Value {
    if elements.is_empty() {
        return Value::Null;
    }
    let mut all = Map::new();
    for element in elements {
        let entry = all.entry(element.id.clone()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(params) = entry else { continue };
        for (name, value) in &element.params {
            match params.get_mut(name) {
                None => {
                    params.insert(name.clone(), Value::String(value.clone()));
                }
                Some(Value::Array(values)) => values.push(Value::String(value.clone())),
                Some(first) => *first = Value::Array(vec![first.take(), Value::String(value.clone())]),
            }
        }
    }
    Value::Object(all)
}

fn varbinds_json(trap: &Trap) -> Value {
    trap.varbinds
        .iter()
        .map(|varbind| {
            json!({
                "oid": varbind.oid.to_string(),
                "type": varbind.kind.name(),
                "value": varbind.value,
                "name": varbind.name,
            })
        })
        .collect()
}
