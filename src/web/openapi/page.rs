//! `/api/docs`: the description as a page for people, rendered from the document itself. Complete without script; nothing
//! on it comes from elsewhere. Pure.

use askama::Template;
use serde_json::{Map, Value};

use super::super::assets::Assets;
use super::common::METHODS;
use super::sample::sample;
use crate::net::problem::{self, Problem};

/// The page.
#[derive(Template)]
#[template(path = "api_docs.html")]
pub(super) struct DocsPage<'a> {
    assets: &'a Assets,
    version: &'a str,
    about: Prose,
    sections: Vec<Section>,
    schemas: Vec<SchemaView>,
    problems: Vec<&'static Problem>,
}

/// Text in which backticks mark code.
struct Prose(Vec<Part>);

struct Part {
    text: String,
    is_code: bool,
}

/// The operations of one tag.
struct Section {
    name: String,
    anchor: String,
    operations: Vec<OperationView>,
}

struct OperationView {
    id: String,
    method: String,
    path: String,
    summary: String,
    about: Option<Prose>,
    deprecated: bool,
    /// Who may: right, least role and scope of a key.
    needs: Option<[String; 3]>,
    parameters: Vec<Row>,
    bodies: Vec<Kind>,
    answers: Vec<AnswerView>,
    curl: String,
}

struct AnswerView {
    status: String,
    about: Prose,
    kinds: Vec<Kind>,
    headers: String,
}

/// A parameter or a member.
struct Row {
    name: String,
    place: String,
    kind: Kind,
    required: bool,
    about: Prose,
}

/// What something is, with a link to its schema if it has a name.
struct Kind {
    before: String,
    schema: Option<String>,
    after: String,
}

struct SchemaView {
    name: String,
    about: Prose,
    kind: Kind,
    members: Vec<Row>,
}

impl<'a> DocsPage<'a> {
    /// The page of a finished document.
    pub(super) fn new(document: &'a Value, assets: &'a Assets) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        for (path, item) in members(&document["paths"]) {
            for method in METHODS {
                let Some(operation) = item.get(method) else { continue };
                let tag = operation["tags"][0].as_str().unwrap_or("Others");
                let view = OperationView::new(document, path, method, operation);
                match sections.iter_mut().find(|section| section.name == tag) {
                    Some(section) => section.operations.push(view),
                    None => sections.push(Section {
                        name: tag.to_owned(),
                        anchor: tag.to_lowercase().replace(' ', "-"),
                        operations: vec![view],
                    }),
                }
            }
        }
        let schemas = members(&document["components"]["schemas"]);
        Self {
            assets,
            version: text(&document["info"]["version"]),
            about: Prose::of(&document["info"]["description"]),
            sections,
            schemas: schemas.map(|(name, schema)| SchemaView::new(name, schema)).collect(),
            problems: problem::all().collect(),
        }
    }
}

impl OperationView {
    fn new(document: &Value, path: &str, method: &str, operation: &Value) -> Self {
        let needs = operation["x-muttd-right"].as_str().map(|right| {
            [
                right.to_owned(),
                text(&operation["x-muttd-role"]).to_owned(),
                text(&operation["x-muttd-scope"]).to_owned(),
            ]
        });
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let about = operation.get("description").map(Prose::of);
        Self {
            id: text(&operation["operationId"]).to_owned(),
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: text(&operation["summary"]).to_owned(),
            about: about.filter(|prose| !prose.0.is_empty()),
            deprecated: operation["deprecated"] == true,
            needs,
            parameters: parameters.map(|parameter| Row::parameter(resolved(document, parameter))).collect(),
            bodies: contents(&operation["requestBody"]),
            answers: members(&operation["responses"]).map(|(status, answer)| AnswerView::new(status, answer)).collect(),
            curl: curl(document, path, method, operation),
        }
    }
}

impl AnswerView {
    fn new(status: &str, answer: &Value) -> Self {
        let common = ["X-API-Version", "X-Correlation-ID"];
        let headers: Vec<&str> =
            members(&answer["headers"]).map(|(name, _)| name.as_str()).filter(|name| !common.contains(name)).collect();
        Self {
            status: status.to_owned(),
            about: Prose::of(&answer["description"]),
            kinds: contents(answer),
            headers: headers.join(", "),
        }
    }
}

impl Row {
    fn parameter(parameter: &Value) -> Self {
        Self {
            name: text(&parameter["name"]).to_owned(),
            place: text(&parameter["in"]).to_owned(),
            kind: Kind::of(&parameter["schema"]),
            required: parameter["required"] == true,
            about: Prose::of(&parameter["description"]),
        }
    }
}

impl SchemaView {
    fn new(name: &str, schema: &Value) -> Self {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let member = |(name, schema): (&String, &Value)| Row {
            name: name.clone(),
            place: String::new(),
            kind: Kind::of(schema),
            required: required.contains(&name.as_str()),
            about: Prose::of(&schema["description"]),
        };
        Self {
            name: name.to_owned(),
            about: Prose::of(&schema["description"]),
            kind: Kind::of(schema),
            members: members(&schema["properties"]).map(member).collect(),
        }
    }
}

impl Kind {
    fn plain(before: impl Into<String>) -> Self {
        Self { before: before.into(), schema: None, after: String::new() }
    }

    /// In words: the type, its bounds, the words it may be.
    fn of(schema: &Value) -> Self {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().map(str::to_owned);
            return Self { before: String::new(), schema: name, after: String::new() };
        }
        if let Some(either) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            return Self::either(either);
        }
        let mut words = match &schema["type"] {
            Value::String(one) => one.clone(),
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ if schema.get("enum").is_some() || schema.get("const").is_some() => String::new(),
            _ => "anything".to_owned(),
        };
        if schema.get("items").is_some() {
            let items = Self::of(&schema["items"]);
            let before = format!("{words} of {}", items.before);
            return Self { before: before.replace("array", "list"), ..items };
        }
        if let Some(all) = schema["enum"].as_array() {
            words = all.iter().map(word).collect::<Vec<_>>().join(", ");
        } else if let Some(one) = schema.get("const") {
            words = word(one);
        }
        words.push_str(&bounds(schema));
        Self::plain(words)
    }

    /// One of several; the one with a name is linked.
    fn either(all: &[Value]) -> Self {
        let kinds: Vec<Self> = all.iter().map(Self::of).collect();
        let words: Vec<String> =
            kinds.iter().map(|kind| format!("{}{}", kind.before, kind.schema.as_deref().unwrap_or_default())).collect();
        match kinds.into_iter().find(|kind| kind.schema.is_some()) {
            Some(kind) if words.len() == 2 && words.iter().any(|word| word == "null") => {
                Self { after: " or null".to_owned(), ..kind }
            }
            _ => Self::plain(words.join(" or ")),
        }
    }
}

fn bounds(schema: &Value) -> String {
    let mut told = Vec::new();
    if let Some(format) = schema["format"].as_str() {
        told.push(format.to_owned());
    }
    let range = |least: &str, most: &str, unit: &str| match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    told.extend(range("minimum", "maximum", ""));
    told.extend(range("minLength", "maxLength", " characters"));
    told.extend(schema["pattern"].as_str().map(|pattern| format!("fits {pattern}")));
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}

impl Prose {
    fn of(value: &Value) -> Self {
        let parts = text(value).split('`').enumerate().filter(|(_, text)| !text.is_empty());
        Self(parts.map(|(index, text)| Part { text: text.to_owned(), is_code: index % 2 == 1 }).collect())
    }
}

/// What a body or an answer may be, by content type.
fn contents(of: &Value) -> Vec<Kind> {
    let one = |(media, content): (&String, &Value)| {
        let kind = Kind::of(&content["schema"]);
        Kind { before: format!("{media}: {}", kind.before), ..kind }
    };
    members(&of["content"]).map(one).collect()
}

/// A line that can be pasted into a shell.
fn curl(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let mut line = String::from("curl");
    if method != "get" {
        line.push_str(&format!(" -X {}", method.to_uppercase()));
    }
    if operation["security"].as_array().is_some_and(|ways| !ways.is_empty()) {
        line.push_str(" -H \"X-API-KEY: $KEY\"");
    }
    if let Some(body) = operation["requestBody"]["content"].get("application/json") {
        let example = body.get("example").cloned().unwrap_or_else(|| sample(document, &body["schema"]));
        line.push_str(&format!(
            " -H 'Content-Type: application/json' -d '{}'",
            example.to_string().replace('\'', "'\\''")
        ));
    }
    let port = if path.ends_with("/ingest") { "8080" } else { "8090" };
    let shown = path.replace(['{', '}'], "");
    format!("{line} http://localhost:{port}{}", if path.contains('{') { shown } else { path.to_owned() })
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
