//! A value that fits a schema, for the page's examples. Pure.

use serde_json::{Map, Value, json};

/// How deep schemas are followed: none of ours nests deeper.
const DEPTH: usize = 6;

/// A small value that fits `schema`: its example if it has one, the required members of an object.
pub(super) fn sample(document: &Value, schema: &Value) -> Value {
    within(document, schema, DEPTH)
}

fn within(document: &Value, schema: &Value, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return document.pointer(pointer).map_or(Value::Null, |schema| within(document, schema, depth));
    }
    if let Some(example) = schema.get("example").or_else(|| schema["examples"].get(0)).or_else(|| schema["enum"].get(0))
    {
        return example.clone();
    }
    if let Some(first) = schema["oneOf"].get(0).or_else(|| schema["anyOf"].get(0)) {
        return within(document, first, depth);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("object") => object(document, schema, depth),
        Some("array") => json!([within(document, &schema["items"], depth)]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(true),
        Some("string") if schema["format"] == "date-time" => json!("2027-01-01T00:00:00Z"),
        Some("string") => json!("..."),
        _ => Value::Null,
    }
}

fn object(document: &Value, schema: &Value, depth: usize) -> Value {
    let is_required = |name: &String| {
        schema["required"].as_array().is_some_and(|all| all.iter().any(|required| required == name.as_str()))
    };
    let members = schema["properties"].as_object().into_iter().flat_map(Map::iter);
    let shown = members.filter(|(name, schema)| is_required(name) || schema.get("example").is_some());
    Value::Object(shown.map(|(name, schema)| (name.clone(), within(document, schema, depth))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_required_members_and_those_with_an_example() {
        let document = json!({"components": {"schemas": {"Role": {"enum": ["viewer", "admin"]}}}});
        let schema = json!({
            "type": "object",
            "required": ["name", "role", "places"],
            "properties": {
                "name": {"type": "string"},
                "role": {"$ref": "#/components/schemas/Role"},
                "places": {"type": "array", "items": {"type": "integer", "minimum": 3}},
                "note": {"type": ["string", "null"], "example": "n"},
                "more": {"type": "string"},
            },
        });
        assert_eq!(sample(&document, &schema), json!({"name": "...", "role": "viewer", "places": [3], "note": "n"}));
        let endless = json!({"components": {"schemas": {"A": {"$ref": "#/components/schemas/A"}}}});
        assert_eq!(sample(&endless, &json!({"$ref": "#/components/schemas/A"})), Value::Null);
    }
}
