//! Query parameters of the description, for lists of them that several operations share: one that is given without a value
//! is as good as not given, so that forms can send all of theirs. Pure.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Required, Schema};

/// A text that may be given.
pub(in super::super) fn text(name: &str, description: &str) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String))
}

/// One of a few words.
pub(in super::super) fn words(name: &str, all: &[&str], description: &str) -> Parameter {
    parameter(
        name,
        description,
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(all.iter().copied().chain([""]))),
    )
}

/// A moment (RFC 3339).
pub(in super::super) fn moment(name: &str, description: &str) -> Parameter {
    let time = ObjectBuilder::new().schema_type(Type::String);
    let time = time.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let none = ObjectBuilder::new().schema_type(Type::String).max_length(Some(0));
    parameter(name, description, AnyOfBuilder::new().item(time).item(none))
}

/// A whole number within bounds.
pub(in super::super) fn number(name: &str, least: u32, most: u32, description: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most));
    parameter(name, description, schema)
}

/// A place in a list, as an earlier answer told it.
pub(in super::super) fn cursor(description: &str) -> Parameter {
    parameter("cursor", description, ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{1,18}$")))
}

fn parameter(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(Required::False);
    parameter.description(Some(description)).schema(Some(schema)).build()
}
