//! Templates for the bodies of webhooks.
//!
//! A template is written by whoever writes the configuration; alerts are only its data. It is compiled, and tried with
//! made-up alerts, when the configuration is read, so that a slip is told with its line before any alert is lost to it.
//! What a template may cost is bounded: its length, its steps, and the bytes that it makes. It can include no files.

use std::io::{self, Write};

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};

/// Bytes of a template.
const LONGEST: usize = 64 << 10;
/// Steps of one rendering: a list of a hundred alerts with twenty members each takes about a tenth of it.
const STEPS: u64 = 200_000;
/// Bytes of one rendering.
const MOST_BYTES: usize = 1 << 20;
/// The only template there is.
const NAME: &str = "body";

/// How values are made fit for the text around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// Values are written as JSON, texts with their quotes.
    Json,
    /// Characters with a meaning in HTML and XML are escaped.
    Html,
    /// Values are written as they are.
    Plain,
}

impl Escape {
    /// What fits a content type.
    pub(super) fn of(content_type: &str) -> Self {
        let kind = content_type.to_ascii_lowercase();
        if kind.contains("json") {
            Self::Json
        } else if kind.contains("html") || kind.contains("xml") {
            Self::Html
        } else {
            Self::Plain
        }
    }
}

/// A compiled template.
pub(super) struct Template(Environment<'static>);

impl Template {
    /// Compiles it; the error names the line.
    pub(super) fn compile(source: &str, escape: Escape) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("a template may have {LONGEST} bytes at most"));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(STEPS));
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::Json => AutoEscape::Json,
            Escape::Html => AutoEscape::Html,
            Escape::Plain => AutoEscape::None,
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| in_words(&error))?;
        Ok(Self(environment))
    }

    /// Fills it in; the error names the line.
    pub(super) fn render(&self, data: &serde_json::Value) -> Result<String, String> {
        let template = self.0.get_template(NAME).map_err(|error| in_words(&error))?;
        let mut out = Bounded { bytes: Vec::new(), full: false };
        let rendered = template.render_captured_to(Value::from(Serde(data)), &mut out).map(drop);
        if out.full {
            return Err(format!("it makes more than {MOST_BYTES} bytes"));
        }
        rendered.map_err(|error| in_words(&error))?;
        String::from_utf8(out.bytes).map_err(|_| "it makes bytes that are no text".to_owned())
    }
}

fn in_words(error: &Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    match error.detail() {
        Some(detail) => format!("{line}{}: {detail}", error.kind()),
        None => format!("{line}{}", error.kind()),
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MOST_BYTES {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(source: &str, escape: Escape, expected: &str) {
        let template = Template::compile(source, escape).expect("a template");
        let data = json!({"host": "a\"<b>", "none": null, "list": [1, 2]});
        assert_eq!(template.render(&data).expect("a text"), expected, "{source}");
    }

    fn fails(source: &str, word: &str) {
        let error = match Template::compile(source, Escape::Plain) {
            Ok(template) => template.render(&json!({"host": "a"})).expect_err("no text"),
            Err(error) => error,
        };
        assert!(error.contains(word), "{word} is not in: {error}");
    }

    #[test]
    fn values_fit_into_the_text_around_them() {
        check("{\"h\": {{ host }}}", Escape::Json, "{\"h\": \"a\\\"<b>\"}");
        check("{{ none }} {{ list }}", Escape::Json, "null [1,2]");
        check("<p>{{ host }}</p>", Escape::Html, "<p>a&quot;&lt;b&gt;</p>");
        check("{{ host }}", Escape::Plain, "a\"<b>");
    }

    #[test]
    fn content_types_choose_the_escape() {
        let check = |kind, escape| assert_eq!(Escape::of(kind), escape);
        check("application/json; charset=utf-8", Escape::Json);
        check("application/vnd.api+JSON", Escape::Json);
        check("text/html", Escape::Html);
        check("application/xml", Escape::Html);
        check("text/plain", Escape::Plain);
    }

    #[test]
    fn faults_name_their_line() {
        fails("one\ntwo {{ host", "line 2");
        fails("one\n\n{{ hots }}", "line 3");
        fails("{% include 'x' %}", "line 1");
    }

    #[test]
    fn a_template_cannot_run_away() {
        fails("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "fuel");
        let long = format!("{{% for a in range(50) %}}{}{{% endfor %}}", "x".repeat(60_000));
        fails(&long, "more than 1048576 bytes");
        fails(&"x".repeat(LONGEST + 1), "at most");
    }
}
