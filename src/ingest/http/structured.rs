//! The `structured_data` member: RFC 5424 text (`[id name="value"]`) or the object the API itself shows.
//!
//! Pure functions; `None` means that it is neither, and the member is then kept among the event's other fields.

use serde_json::Value;

use crate::model::SdElement;

/// Structured data as RFC 5424 section 6.3 writes it; `-` and nothing at all are no elements.
pub(super) fn from_text(text: &str) -> Option<Vec<SdElement>> {
    let mut rest = text.trim();
    let mut elements = Vec::new();
    if rest == "-" {
        return Some(elements);
    }
    while !rest.is_empty() {
        let (element, after) = element(rest)?;
        elements.push(element);
        rest = after.trim_start();
    }
    Some(elements)
}

/// One `[id name="value" ...]` and what follows it.
fn element(text: &str) -> Option<(SdElement, &str)> {
    let inside = text.strip_prefix('[')?;
    let id_end = inside.find([' ', ']'])?;
    let mut element = SdElement { id: inside[..id_end].to_owned(), params: Vec::new() };
    if element.id.is_empty() || element.id.contains(['"', '=']) {
        return None;
    }
    let mut rest = inside[id_end..].trim_start_matches(' ');
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return Some((element, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        element.params.push((name.to_owned(), value));
        rest = after.trim_start_matches(' ');
    }
}

/// The value up to its closing quote, unescaped, and what follows. A backslash before anything but `"`, `\` and `]` is
/// an ordinary character (RFC 5424 section 6.3.3).
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\' | ']')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    None
}

/// `{"id": {"name": "value" or ["value", ...]}}`, as the API shows structured data.
pub(super) fn from_json(text: &str) -> Option<Vec<SdElement>> {
    let Value::Object(all) = serde_json::from_str(text).ok()? else { return None };
    all.into_iter().map(|(id, params)| object_element(id, params)).collect()
}

fn object_element(id: String, params: Value) -> Option<SdElement> {
    let Value::Object(members) = params else { return None };
    let mut params = Vec::with_capacity(members.len());
    for (name, value) in members {
        match value {
            Value::Array(values) => {
                for value in values {
                    params.push((name.clone(), scalar(value)?));
                }
            }
            value => params.push((name, scalar(value)?)),
        }
    }
    Some(SdElement { id, params })
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(elements: Option<Vec<SdElement>>) -> Option<String> {
        let text = |element: SdElement| {
            let params: Vec<String> =
                element.params.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}({})", element.id, params.join(","))
        };
        elements.map(|elements| elements.into_iter().map(text).collect::<Vec<_>>().join(";"))
    }

    #[test]
    fn rfc_5424_text_is_understood() {
        for (text, expected) in [
            ("-", Some("")),
            ("", Some("")),
            (r#"[a@1 x="1" y="2"][b]"#, Some("a@1(x=1,y=2);b()")),
            (r#"[a x="1" x="2"]"#, Some("a(x=1,x=2)")),
            (r#"[a x="q\"b\\c\]d\e"]"#, Some(r#"a(x=q"b\c]d\e)"#)),
            (r#"[a x="1"#, None),
            (r#"[a x=1]"#, None),
            ("[]", None),
            ("text", None),
        ] {
            assert_eq!(shown(from_text(text)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_apis_own_object_is_understood() {
        assert_eq!(shown(from_json(r#"{"a":{"x":"1","y":["2",3]},"b":{}}"#)).as_deref(), Some("a(x=1,y=2,y=3);b()"));
        assert_eq!(from_json(r#"{"a":1}"#), None);
        assert_eq!(from_json(r#"{"a":{"x":{}}}"#), None);
        assert_eq!(from_json("[]"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]a="\\ é]{0,40}"#) {
            let _ = from_text(&text);
        }
    }
}
