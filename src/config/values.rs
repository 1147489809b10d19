//! Raw values: defaults, overlaid by the TOML file, overlaid by the environment, each checked against its key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::keys::{KEYS, Key, Kind, find};

/// A configuration that cannot be used; every message names the key, where it was set and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The one part of the file that is no section of keys.
const TARGETS: &str = "targets";

/// A checked raw value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<String>),
    Integer(i64),
}

/// A value for every key.
#[derive(Debug, Clone)]
pub struct Values {
    keyed: BTreeMap<(&'static str, &'static str), Value>,
    /// `[[targets]]`, as they stand in the file.
    targets: Vec<toml::Table>,
}

impl Values {
    /// Reads the file, if there is one, and the environment through `variable`.
    pub fn read(file: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        let mut targets = Vec::new();
        for key in KEYS {
            values.insert((key.section, key.name), from_text(key, key.default, "its default")?);
        }
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError(format!("cannot read the configuration file `{}`: {error}", path.display()))
            })?;
            targets = overlay_file(&mut values, &text, &path.display().to_string())?;
        }
        for key in KEYS {
            if let Some(text) = variable(key.env) {
                values.insert((key.section, key.name), from_text(key, &text, key.env)?);
            }
        }
        Ok(Self { keyed: values, targets })
    }

    /// The tables of `[[targets]]`.
    pub fn targets(&self) -> &[toml::Table] {
        &self.targets
    }

    /// A text or secret; empty when not set.
    pub fn text(&self, section: &'static str, name: &'static str) -> String {
        match self.keyed.get(&(section, name)) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// A list.
    pub fn list(&self, section: &'static str, name: &'static str) -> Vec<String> {
        match self.keyed.get(&(section, name)) {
            Some(Value::List(list)) => list.clone(),
            _ => Vec::new(),
        }
    }

    /// A number that is not negative.
    pub fn number(&self, section: &'static str, name: &'static str) -> u64 {
        match self.keyed.get(&(section, name)) {
            Some(Value::Integer(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        }
    }

    /// An address to listen on; `None` when switched off.
    pub fn address(&self, section: &'static str, name: &'static str) -> Option<SocketAddr> {
        parse_address(&self.text(section, name)).ok().flatten()
    }
}

fn overlay_file(
    values: &mut BTreeMap<(&'static str, &'static str), Value>,
    text: &str,
    file: &str,
) -> Result<Vec<toml::Table>, ConfigError> {
    let mut table: toml::Table =
        text.parse().map_err(|error| ConfigError(format!("`{file}` is not valid TOML: {error}")))?;
    let targets = take_targets(&mut table, file)?;
    for (section, content) in &table {
        if KEYS.iter().all(|key| key.section != section) {
            return Err(ConfigError(format!("`{file}`: unknown section [{section}]; there are {}", sections())));
        }
        let Some(content) = content.as_table() else {
            return Err(ConfigError(format!(
                "`{file}`: `{section}` stands outside any section; see docs/CONFIG.md for the sections"
            )));
        };
        for (name, value) in content {
            let Some(key) = find(section, name) else {
                return Err(ConfigError(format!(
                    "`{file}`: unknown key `{name}` in [{section}]; {}",
                    suggestion(section, name)
                )));
            };
            values.insert((key.section, key.name), from_toml(key, value, file)?);
        }
    }
    Ok(targets)
}

/// `[[targets]]`, which is read as a whole.
fn take_targets(table: &mut toml::Table, file: &str) -> Result<Vec<toml::Table>, ConfigError> {
    let wrong = || ConfigError(format!("`{file}`: each target stands below a line of its own, `[[targets]]`"));
    let Some(targets) = table.remove(TARGETS) else { return Ok(Vec::new()) };
    let toml::Value::Array(targets) = targets else { return Err(wrong()) };
    let tables: Option<Vec<toml::Table>> = targets
        .into_iter()
        .map(|target| match target {
            toml::Value::Table(table) => Some(table),
            _ => None,
        })
        .collect();
    tables.ok_or_else(wrong)
}

/// The names of all sections.
fn sections() -> String {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections.push(TARGETS);
    sections.join(", ")
}

/// What the writer may have meant.
fn suggestion(section: &str, name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("it belongs into [{}]", key.section);
    }
    let names: Vec<&str> = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
    format!("this section has {}", names.join(", "))
}

fn from_toml(key: &Key, value: &toml::Value, file: &str) -> Result<Value, ConfigError> {
    let wrong =
        |wanted: &str| Err(ConfigError(format!("`{file}`: `{}` in [{}] must be {wanted}", key.name, key.section)));
    match (key.kind, value) {
        (Kind::Integer { .. }, toml::Value::Integer(number)) => from_text(key, &number.to_string(), file),
        (Kind::Integer { min, max }, _) => wrong(&format!("a whole number from {min} to {max}")),
        (Kind::List, toml::Value::Array(items)) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(String::from)).collect();
            texts.map(Value::List).map_or_else(|| wrong("a list of texts"), Ok)
        }
        (Kind::List, _) => wrong("a list of texts, such as [\"a\", \"b\"]"),
        (Kind::Address, toml::Value::Integer(port)) => from_text(key, &port.to_string(), file),
        (_, toml::Value::String(text)) => from_text(key, text, file),
        _ => wrong("a text in quotes"),
    }
}

fn from_text(key: &Key, text: &str, origin: &str) -> Result<Value, ConfigError> {
    let wrong = |why: String| Err(ConfigError(format!("`{}` in [{}] (set by {origin}) {why}", key.name, key.section)));
    let text = text.trim();
    match key.kind {
        Kind::Text | Kind::Secret => Ok(Value::Text(text.to_owned())),
        Kind::List => {
            Ok(Value::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(String::from).collect()))
        }
        Kind::Integer { min, max } => match text.replace('_', "").parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => wrong(format!("is `{text}`, but must be a whole number from {min} to {max}")),
        },
        Kind::Address => match parse_address(text) {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(why) => wrong(why),
        },
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) => wrong(format!("is `{text}`, but must be one of {}", words.join(", "))),
    }
}

/// `HOST:PORT`, `:PORT` and `PORT`; a host name is looked up by no one: give an address.
fn parse_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() || text == "off" {
        return Ok(None);
    }
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None if text.bytes().all(|b| b.is_ascii_digit()) => format!("0.0.0.0:{text}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    full.parse().map(Some).map_err(|_| {
        format!(
            "is `{text}`, but must be an address to listen on such as 0.0.0.0:5514, [::]:5514 or 5514; empty for off"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, env: &[(&str, &str)]) -> Result<Values, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it can be written");
        Values::read(Some(file.path()), |name| {
            env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let values = with_file("[dynamic]\nunhandled_threshold = 7\n[syslog]\nudp_listen = \"127.0.0.1:1\"\n[snmp]\ncommunities = [\"a\", \"b\"]", &[
            ("MUTTD_SYSLOG_UDP_LISTEN", ":2"),
        ])
        .expect("a valid configuration");
        assert_eq!(values.number("dynamic", "unhandled_threshold"), 7);
        assert_eq!(values.number("dynamic", "unhandled_expiry_seconds"), 86_400);
        assert_eq!(values.address("syslog", "udp_listen"), "0.0.0.0:2".parse().ok());
        assert_eq!(values.list("snmp", "communities"), ["a", "b"]);
    }

    #[test]
    fn faults_name_the_key_and_what_it_may_be() {
        let check = |file: &str, env: &[(&str, &str)], expected: &[&str]| {
            let error = with_file(file, env).expect_err("a fault").to_string();
            for part in expected {
                assert!(error.contains(part), "{error:?} should contain {part:?}");
            }
        };
        check("[dynamic]\nunhandled_treshold = 7", &[], &["unhandled_treshold", "unhandled_threshold"]);
        check("[dynamic]\nudp_listen = \"\"", &[], &["belongs into [syslog]"]);
        check("[nonsense]\na = 1", &[], &["unknown section [nonsense]", "syslog"]);
        check("a = 1", &[], &["unknown section [a]"]);
        check("[dynamic]\nunhandled_threshold = 0", &[], &["unhandled_threshold", "from 1 to"]);
        check("[dynamic]\nunhandled_threshold = \"many\"", &[], &["whole number"]);
        check("", &[("MUTTD_LOG_FORMAT", "xml")], &["MUTTD_LOG_FORMAT", "text, json"]);
        check("", &[("MUTTD_SNMP_LISTEN", "here")], &["MUTTD_SNMP_LISTEN", "0.0.0.0:5514"]);
        check("not toml", &[], &["not valid TOML"]);
    }

    #[test]
    fn an_empty_address_switches_an_input_off() {
        let values = with_file("", &[("MUTTD_SNMP_LISTEN", "")]).expect("a valid configuration");
        assert_eq!(values.address("snmp", "listen"), None);
    }

    #[test]
    fn every_key_has_a_variable_of_its_own_and_a_valid_default() {
        let mut names: Vec<&str> = KEYS.iter().map(|key| key.env).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        Values::read(None, |_| None).expect("valid defaults");
    }
}
