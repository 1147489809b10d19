//! Translated traps: the `varbinds` member of a JSON event.
//!
//! Pure functions; `None` means that the member is not a list of variables, and it is then kept among the other fields.

use serde::Deserialize;
use serde_json::Value;

use crate::ingest::snmp::names;
use crate::model::{Oid, VarKind, Varbind};

/// One variable as senders write it.
#[derive(Deserialize)]
struct Sent {
    oid: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    value: Value,
    name: Option<String>,
}

/// The variables in order, or `None` if any of them has no valid OID.
pub(super) fn from_json(text: &str) -> Option<Vec<Varbind>> {
    let sent: Vec<Sent> = serde_json::from_str(text).ok()?;
    sent.into_iter().map(varbind).collect()
}

fn varbind(sent: Sent) -> Option<Varbind> {
    let oid: Oid = sent.oid.parse().ok()?;
    let kind = sent.kind.as_deref().and_then(kind_named).unwrap_or(match sent.value {
        Value::Number(_) => VarKind::Integer,
        Value::Null => VarKind::Null,
        _ => VarKind::OctetString,
    });
    let value = match sent.value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let name = sent.name.or_else(|| names::name_of(&oid));
    Some(Varbind { oid, kind, value, name })
}

/// The kind by the names in use: the standard's, SMIv2's and net-snmp's.
fn kind_named(text: &str) -> Option<VarKind> {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    Some(match plain.as_str() {
        "integer" | "integer32" | "int" => VarKind::Integer,
        "octetstring" | "string" | "displaystring" | "hexstring" => VarKind::OctetString,
        "objectidentifier" | "objectid" | "oid" => VarKind::ObjectIdentifier,
        "ipaddress" => VarKind::IpAddress,
        "counter32" | "counter" => VarKind::Counter32,
        "gauge32" | "gauge" | "unsigned32" | "unsigned" => VarKind::Gauge32,
        "timeticks" => VarKind::TimeTicks,
        "counter64" => VarKind::Counter64,
        "opaque" => VarKind::Opaque,
        "null" => VarKind::Null,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_order_type_and_value() {
        let text = r#"[{"oid":".1.3.6.1.2.1.2.2.1.2.7","type":"STRING","value":"eth7"},
            {"oid":"1.3.6.1.2.1.2.2.1.1.7","value":18446744073709551615,"type":"Counter64"},
            {"oid":"1.2.3","value":null,"name":"mine"}]"#;
        let varbinds = from_json(text).expect("a list of variables");
        let shown: Vec<_> =
            varbinds.iter().map(|v| (v.kind.name(), v.value.as_str(), v.name.as_deref().unwrap_or("-"))).collect();
        assert_eq!(
            shown,
            [
                ("OCTET STRING", "eth7", "ifDescr.7"),
                ("Counter64", "18446744073709551615", "ifIndex.7"),
                ("NULL", "", "mine")
            ]
        );
    }

    #[test]
    fn what_is_no_list_of_variables_is_none() {
        for text in ["{}", r#"[{"oid":"x","value":1}]"#, r#"[{"value":1}]"#, "[1]"] {
            assert!(from_json(text).is_none(), "{text}");
        }
    }
}
