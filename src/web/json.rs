//! Reading JSON so that nothing of it is passed over in silence: a member that is there twice is told with its place,
//! because parsers differ in which of the two counts (RFC 8259 section 4), and whoever reviewed the request may have read
//! the other one. Pure; depth is bounded by the parser.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Longest part of a member's name that is shown, in characters.
const SHOWN: usize = 60;

/// The value of a text in which no object has a member twice.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Unambiguous.deserialize(&mut parser)?;
    parser.end()?;
    Ok(value)
}

/// Makes values of whatever is there.
#[derive(Clone, Copy)]
struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                let shown: String = name.chars().take(SHOWN).collect();
                return Err(A::Error::custom(format!("the member `{shown}` is there twice")));
            }
            let value = members.next_value_seed(self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unambiguous_is_read_as_it_stands() {
        for text in [
            "null",
            "-7",
            "18446744073709551615",
            "1.5e3",
            "\"a\\u00e4\\n\"",
            "[true, [], {}]",
            "{\"b\": {\"a\": 1}, \"a\": [{\"a\": 1}, {\"a\": 2}]}",
        ] {
            let expected: Value = serde_json::from_str(text).expect("JSON");
            let read = parse(text.as_bytes()).expect("JSON");
            assert_eq!((read.to_string(), read), (expected.to_string(), expected), "{text}");
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_told_with_its_place() {
        let check = |text: &str, why: &str| {
            let error = parse(text.as_bytes()).expect_err("refused").to_string();
            assert!(error.starts_with(why), "{text}: {error}");
        };
        check("{\"a\": 1,\n \"a\": 2}", "the member `a` is there twice at line 2 column");
        check("[{\"b\": {\"a\": 1, \"\\u0061\": 1}}]", "the member `a` is there twice at line 1");
        check("{} {}", "trailing characters");
        check(&"[".repeat(200), "recursion limit exceeded");
        check("{\"a\": NaN}", "expected");
    }
}
