//! The configuration as one file: how a document of rules, hosts, teams, settings and targets is written as TOML and read
//! from TOML or JSON. Knows the form alone; what the members may say is for others to check. Does no I/O.

use std::fmt::Write as _;

use serde_json::Value;

use super::ConfigError;

/// The form of the document that this program writes and reads.
pub const FORMAT: u64 = 1;

/// The parts of a document. One that is not there is left as it is by an import.
pub const PARTS: [&str; 5] = ["dev_hosts", "teams", "settings", "rules", "targets"];

/// Reads a document: JSON if it begins with a brace, else TOML.
pub fn read(text: &str) -> Result<Value, ConfigError> {
    let document: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| ConfigError(format!("the file is not valid JSON: {error}")))?
    } else {
        toml::from_str(text).map_err(|error| ConfigError(format!("the file is not valid TOML: {error}")))?
    };
    let members = document.as_object().ok_or_else(|| ConfigError("the file holds no document".to_owned()))?;
    if let Some(unknown) = members.keys().find(|name| *name != "format" && !PARTS.contains(&name.as_str())) {
        return Err(ConfigError(format!("`{unknown}` is no part of it; known are format, {}", PARTS.join(", "))));
    }
    match members.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => Ok(document),
        found => {
            let found = found.map_or_else(|| "missing".to_owned(), |found| found.to_string());
            Err(ConfigError(format!("`format` is {found}; this version reads format = {FORMAT}")))
        }
    }
}

/// Writes a document as TOML with comments. The same configuration gives the same text, line by line, so that versions of
/// it can be compared.
pub fn to_toml(document: &Value) -> String {
    let mut text = format!(
        "# Rules, development hosts, teams, settings and targets of an appliance: `muttd import FILE --dry-run` shows what\n\
         # it would change, without --dry-run it changes it. What a part does not name is left as it is, unless --prune is\n\
         # given; a part that is not here at all is never touched. Secrets are not here: targets name them.\n\
         format = {FORMAT}\n\n# Hosts whose events take the dev handling.\ndev_hosts = ["
    );
    let hosts = document["dev_hosts"].as_array().into_iter().flatten();
    let hosts: Vec<String> = hosts.map(|host| format!("\n    {},", scalar(host))).collect();
    text.push_str(&hosts.concat());
    text.push_str(if hosts.is_empty() { "]\n" } else { "\n]\n" });
    text.push_str("\n# The team of each host.\n[teams]\n");
    table(&mut text, &document["teams"]);
    text.push_str(
        "\n# Settings that were changed at run time; all others come from file, environment or default.\n[settings]\n",
    );
    table(&mut text, &document["settings"]);
    text.push_str("\n# Alert rules: the lowest priority wins, then the lowest id.\n");
    for (part, entries) in [("rules", &document["rules"]), ("targets", &document["targets"])] {
        if part == "targets" {
            text.push_str("\n# Targets kept in the store; those of the configuration file are not here.\n");
        }
        for entry in entries.as_array().into_iter().flatten() {
            let _ = writeln!(text, "\n[[{part}]]");
            table(&mut text, entry);
        }
    }
    text
}

/// The members of an object, one a line; TOML has no null, so what is absent is left out.
fn table(text: &mut String, object: &Value) {
    for (name, value) in object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let name = if plain { name.clone() } else { quoted(name) };
        let _ = writeln!(text, "{name} = {}", scalar(value));
    }
}

/// A value; a text of several lines is written as such where TOML's plain form can hold it.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('\n') && !text.contains("'''") && !text.contains('\r') => {
            let odd = text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
            if odd || text.ends_with('\'') { quoted(text) } else { format!("'''\n{text}'''") }
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A basic string: JSON's form is TOML's, but for DEL, which TOML wants escaped too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let document = json!({
            "format": 1,
            "dev_hosts": ["lab1", "lab 2\"x"],
            "teams": {"sw1": "ACCESS", "10.0.0.1": "CORE"},
            "settings": {"unhandled_threshold": 50, "audit": "all", "remediation_enabled": false},
            "rules": [{"id": 1, "match_string": "a\\d 'b' \"c\"\u{1}", "priority": -5, "is_active": true}],
            "targets": [{"name": "t", "enabled": true, "definition": "# ours\nname = \"t\"\n\n"}],
        });
        let text = to_toml(&document);
        assert_eq!(read(&text).expect("it can be read"), document, "{text}");
        assert_eq!(read(&document.to_string()).expect("JSON"), document);
        assert!(text.contains("definition = '''\n# ours\n"), "{text}");
        let empty = json!({"format": 1, "dev_hosts": [], "teams": {}, "settings": {}});
        assert_eq!(read(&to_toml(&empty)).expect("it can be read"), empty);
    }

    #[test]
    fn what_is_no_document_is_told() {
        let check = |text: &str, part: &str| {
            let error = read(text).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        };
        check("{", "not valid JSON");
        check("a =", "not valid TOML");
        check("", "`format` is missing");
        check("format = 2", "`format` is 2");
        check("format = 1\nhosts = []", "`hosts` is no part of it");
    }

    proptest! {
        #[test]
        fn any_text_is_written_so_that_it_is_read_again(text in "(?s).{0,60}") {
            let document = json!({"format": 1, "dev_hosts": [], "teams": {text.clone(): text}, "settings": {}});
            prop_assert_eq!(read(&to_toml(&document)).expect("it can be read"), document);
        }
    }
}
