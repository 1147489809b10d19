//! Raw values: defaults, overlaid by the TOML file, by the environment, by the settings kept in the store, each checked
//! against its key. Knows where each value comes from and writes nothing. A kept setting that cannot be used is left out
//! and remembered as [`Ignored`]: it must not keep the process from starting.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use super::keys::{DYNAMIC, KEYS, Key, Kind, find};
use crate::model::Team;
use crate::secret::Secret;
use crate::store::KeptTarget;
use crate::telemetry::logs;

/// A configuration that cannot be used; every message names the key, where it was set and what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The one part of the file that is no section of keys.
const TARGETS: &str = "targets";

/// Longest value of one key, in characters: the longest log filter or list is far shorter.
const MAX_VALUE: usize = 4_096;

/// Stands for a value that is shown nowhere.
const HIDDEN: &str = "********";

/// A checked raw value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Integer(i64),
    Truth(bool),
    /// What is shown nowhere.
    Hidden(Secret),
}

impl Value {
    /// As it would be written in the environment.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
            Self::Integer(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Hidden(secret) if secret.is_empty() => String::new(),
            Self::Hidden(_) => HIDDEN.to_owned(),
        }
    }

    /// As a program reads it.
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::List(items) => items.clone().into(),
            Self::Integer(number) => (*number).into(),
            Self::Truth(truth) => (*truth).into(),
            Self::Hidden(_) => serde_json::Value::Null,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is built in.
    Default,
    /// The TOML file.
    File,
    /// This environment variable.
    Environment(&'static str),
    /// Set at run time and kept in the store.
    Store,
}

impl Origin {
    /// Its name, for programs and for badges.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment(_) => "environment",
            Self::Store => "store",
        }
    }
}

/// A setting kept in the store that is not in force, because this version or the rest of the configuration does not
/// allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The key, as it was kept.
    pub key: String,
    /// The value, as it was kept.
    pub value: String,
    /// Why it cannot be used.
    pub why: String,
}

/// Two values that contradict each other.
struct Conflict {
    keys: [&'static str; 2],
    why: String,
}

/// A value for every key.
#[derive(Clone)]
pub struct Values {
    /// Defaults, file and environment.
    base: BTreeMap<(&'static str, &'static str), (Value, Origin)>,
    /// Settings kept in the store, by the name of a dynamic key.
    kept: BTreeMap<&'static str, Value>,
    /// What is kept and cannot be used.
    ignored: Vec<Ignored>,
    /// `[[targets]]`, as they stand in the file.
    targets: Vec<toml::Table>,
    /// Targets kept in the store, by name.
    kept_targets: Vec<KeptTarget>,
}

impl fmt::Debug for Values {
    /// Without the values: communities and addresses of webhooks are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

impl Values {
    /// Reads the file, if there is one, and the environment through `variable`.
    pub fn read(file: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut values = Self {
            base: BTreeMap::new(),
            kept: BTreeMap::new(),
            ignored: Vec::new(),
            targets: Vec::new(),
            kept_targets: Vec::new(),
        };
        for key in KEYS {
            values.put(key, from_text(key, key.default, "its default")?, Origin::Default);
        }
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError(format!("cannot read the configuration file `{}`: {error}", path.display()))
            })?;
            values.overlay_file(&text, &path.display().to_string())?;
        }
        for key in KEYS {
            let own = variable(key.env).map(|text| (key.env, text));
            // Only the key's own variable may say "nothing" by being empty.
            let foreign = || {
                let set = |name: &'static str| variable(name).map(|text| (name, text));
                key.aliases.iter().filter_map(|name| set(name)).find(|(_, text)| !text.trim().is_empty())
            };
            if let Some((name, text)) = own.or_else(foreign) {
                values.put(key, from_text(key, &text, name)?, Origin::Environment(name));
            }
        }
        Ok(values)
    }

    /// Lays the settings kept in the store over the others, in place of those that were there. What cannot be used is
    /// left out; an error is left only when file and environment contradict themselves.
    pub fn keep(&mut self, kept: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        self.kept.clear();
        self.ignored.clear();
        for (name, text) in kept {
            let parsed = find(DYNAMIC, name)
                .ok_or_else(|| "this version has no such key".to_owned())
                .and_then(|key| Ok((key, parse(key, text)?)));
            match parsed {
                Ok((key, value)) => {
                    self.kept.insert(key.name, value);
                }
                Err(why) => self.ignore(name, text, why),
            }
        }
        while let Some(conflict) = self.conflict() {
            let named: Vec<&'static str> =
                conflict.keys.into_iter().filter(|name| self.kept.contains_key(name)).collect();
            if named.is_empty() {
                return Err(ConfigError(conflict.why));
            }
            for name in named {
                if let Some(value) = self.kept.remove(name) {
                    self.ignore(name, &value.text(), conflict.why.clone());
                }
            }
        }
        Ok(())
    }

    /// Sets keys at run time, or with `None` has them come from environment, file and default again. The error names the
    /// key, its value and what it may be; nothing is changed then.
    pub fn set<'a>(
        &mut self,
        settings: impl IntoIterator<Item = (&'static Key, Option<&'a str>)>,
    ) -> Result<(), ConfigError> {
        let mut changed = self.clone();
        for (key, text) in settings {
            if !key.is_dynamic() {
                let (id, section) = (key.id(), key.section);
                return Err(ConfigError(format!(
                    "`{id}` cannot be set at run time; write it into [{section}] of the configuration file and send SIGHUP"
                )));
            }
            match text {
                Some(text) => {
                    let value = parse(key, text).map_err(|why| ConfigError(format!("`{}` {why}", key.id())))?;
                    changed.kept.insert(key.name, value);
                }
                None => {
                    changed.kept.remove(key.name);
                }
            }
            changed.forget_ignored(key.name);
        }
        match changed.conflict() {
            Some(conflict) => Err(ConfigError(conflict.why)),
            None => {
                *self = changed;
                Ok(())
            }
        }
    }

    /// No longer speaks of a kept setting that cannot be used.
    pub(super) fn forget_ignored(&mut self, name: &str) {
        self.ignored.retain(|ignored| ignored.key != name);
    }

    /// The value in force, and where it comes from.
    pub(super) fn current(&self, key: &'static Key) -> (Value, Origin) {
        let kept = self.kept.get(key.name).filter(|_| key.is_dynamic());
        kept.map_or_else(|| self.beneath(key), |value| (value.clone(), Origin::Store))
    }

    /// The value that environment, file or default have, whatever is kept.
    pub(super) fn beneath(&self, key: &'static Key) -> (Value, Origin) {
        let found = self.base.get(&(key.section, key.name)).cloned();
        found.unwrap_or_else(|| (default_of(key), Origin::Default))
    }

    /// What is kept and not in force.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// Puts the targets kept in the store in the place of those that were there.
    pub fn keep_targets(&mut self, kept: Vec<KeptTarget>) {
        self.kept_targets = kept;
    }

    /// The targets kept in the store.
    pub fn kept_targets(&self) -> &[KeptTarget] {
        &self.kept_targets
    }

    /// The tables of `[[targets]]`.
    pub fn targets(&self) -> &[toml::Table] {
        &self.targets
    }

    /// A secret, and whether a variable of the environment holds it.
    pub fn secret(&self, section: &'static str, name: &'static str) -> (Secret, bool) {
        match self.base.get(&(section, name)) {
            Some((Value::Hidden(secret), origin)) => (secret.clone(), matches!(origin, Origin::Environment(_))),
            _ => (Secret::default(), false),
        }
    }

    /// A text; empty when not set.
    pub fn text(&self, section: &'static str, name: &'static str) -> String {
        match self.get(section, name) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// A list.
    pub fn list(&self, section: &'static str, name: &'static str) -> Vec<String> {
        match self.get(section, name) {
            Some(Value::List(list)) => list.clone(),
            _ => Vec::new(),
        }
    }

    /// A number that is not negative.
    pub fn number(&self, section: &'static str, name: &'static str) -> u64 {
        match self.get(section, name) {
            Some(Value::Integer(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        }
    }

    /// Yes or no.
    pub fn truth(&self, section: &'static str, name: &'static str) -> bool {
        matches!(self.get(section, name), Some(Value::Truth(true)))
    }

    /// A share in per cent as a fraction: 0.999 for 99.9. The text is moved by two places, since 99.9 divided by 100 is not
    /// the number nearest to 0.999.
    pub fn share(&self, section: &'static str, name: &'static str) -> f64 {
        format!("{}e-2", self.text(section, name)).parse().unwrap_or(0.0)
    }

    /// A number with decimals, such as seconds.
    pub fn seconds(&self, section: &'static str, name: &'static str) -> f64 {
        self.text(section, name).parse().unwrap_or(0.0)
    }

    /// An address to listen on; `None` when switched off.
    pub fn address(&self, section: &'static str, name: &'static str) -> Option<SocketAddr> {
        parse_address(&self.text(section, name)).ok().flatten()
    }

    fn get(&self, section: &'static str, name: &'static str) -> Option<&Value> {
        let kept = self.kept.get(name).filter(|_| section == DYNAMIC);
        kept.or_else(|| self.base.get(&(section, name)).map(|(value, _)| value))
    }

    fn put(&mut self, key: &Key, value: Value, origin: Origin) {
        self.base.insert((key.section, key.name), (value, origin));
    }

    fn ignore(&mut self, key: &str, value: &str, why: String) {
        let shorten = |text: &str| text.chars().take(200).collect();
        self.ignored.push(Ignored { key: shorten(key), value: shorten(value), why });
    }

    /// The first two values that contradict each other, if any do.
    fn conflict(&self) -> Option<Conflict> {
        let number = |name| self.number(DYNAMIC, name);
        let [warn, shed] = ["alerter_queue_warn_threshold", "alerter_queue_shed_threshold"];
        if number(warn) > number(shed) {
            let why = format!(
                "`{warn}` is {0} and `{shed}` is {1}, but the warning must come first: make `{warn}` at most {1}, or `{shed}` \
                 at least {0}",
                number(warn),
                number(shed)
            );
            return Some(Conflict { keys: [warn, shed], why });
        }
        let [base, cap] = ["moog_retry_base_ms", "moog_retry_cap_seconds"];
        if number(base) > number(cap).saturating_mul(1_000) {
            let why = format!(
                "`{base}` is {} milliseconds and `{cap}` is {} seconds, but the first wait must not be longer than the longest",
                number(base),
                number(cap)
            );
            return Some(Conflict { keys: [base, cap], why });
        }
        None
    }

    fn overlay_file(&mut self, text: &str, file: &str) -> Result<(), ConfigError> {
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // Without the line itself, as the error would print it: a key may stand there.
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            ConfigError(format!("`{file}` is not valid TOML: {} in line {line}", error.message().replace('\n', ", ")))
        })?;
        self.targets = take_targets(&mut table, file)?;
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
                self.put(key, from_toml(key, value, file)?, Origin::File);
            }
        }
        Ok(())
    }
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

/// The built-in value of a key; that every one is valid is checked by a test.
pub(super) fn default_of(key: &Key) -> Value {
    parse(key, key.default).unwrap_or_else(|_| Value::Text(key.default.to_owned()))
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
        (Kind::Truth, toml::Value::Boolean(truth)) => Ok(Value::Truth(*truth)),
        (Kind::Percent, toml::Value::Float(share)) => from_text(key, &share.to_string(), file),
        (Kind::Percent, toml::Value::Integer(share)) => from_text(key, &share.to_string(), file),
        (Kind::Address, toml::Value::Integer(port)) => from_text(key, &port.to_string(), file),
        (_, toml::Value::String(text)) => from_text(key, text, file),
        (Kind::Truth, _) => wrong("true or false"),
        _ => wrong("a text in quotes"),
    }
}

fn from_text(key: &Key, text: &str, origin: &str) -> Result<Value, ConfigError> {
    parse(key, text).map_err(|why| ConfigError(format!("`{}` in [{}] (set by {origin}) {why}", key.name, key.section)))
}

/// The value that `text` stands for; else what it may be, to be put behind the key's name.
fn parse(key: &Key, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let shown: String = text.chars().take(60).collect();
    if text.chars().count() > MAX_VALUE {
        return Err(format!("is longer than {MAX_VALUE} characters"));
    }
    let secret = matches!(key.kind, Kind::Secret);
    if !secret && text.chars().any(char::is_control) {
        return Err("contains control characters".to_owned());
    }
    match key.kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Secret => Ok(Value::Hidden(Secret::new(text))),
        Kind::List => {
            Ok(Value::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(String::from).collect()))
        }
        Kind::Integer { min, max } => match text.replace('_', "").parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => Err(format!("is `{shown}`, but must be a whole number from {min} to {max}")),
        },
        Kind::Address => parse_address(text).map(|_| Value::Text(text.to_owned())),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) => Err(format!("is `{shown}`, but must be one of {}", words.join(", "))),
        Kind::Truth => match text {
            "true" => Ok(Value::Truth(true)),
            "false" => Ok(Value::Truth(false)),
            _ => Err(format!("is `{shown}`, but must be true or false")),
        },
        Kind::Percent => match text.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 100.0 => Ok(Value::Text(share.to_string())),
            _ => Err(format!("is `{shown}`, but must be a share in per cent, above 0 and below 100")),
        },
        Kind::Team => {
            let team =
                Team::new(text).map_err(|error| format!("is `{shown}`, but must be the name of a team: {error}"))?;
            Ok(Value::Text(team.as_str().to_owned()))
        }
        // At run time an empty one means that file and environment decide.
        Kind::LogFilter if text.is_empty() && key.is_dynamic() => Ok(Value::Text(String::new())),
        Kind::LogFilter => match logs::check(text) {
            Ok(()) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(format!("cannot be used: {error}")),
        },
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
        check("", &[("MOOG_RATE_LIMIT", "fast")], &["MOOG_RATE_LIMIT", "from 0 to"]);
        check("", &[("MUTTD_LOG", "info,=")], &["MUTTD_LOG", "log filter"]);
        check("[dynamic]\nremediation_enabled = 1", &[], &["remediation_enabled", "true or false"]);
        check("not toml", &[], &["not valid TOML", "in line 1"]);
        let error = with_file("[moog]\n\napi_key = se cret", &[]).expect_err("no text").to_string();
        assert!(error.contains("in line 3") && !error.contains("cret"), "{error}");
    }

    fn kept(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn origin(values: &Values, name: &str) -> (String, Origin) {
        let (value, origin) = values.current(find(DYNAMIC, name).expect("a key"));
        (value.text(), origin)
    }

    #[test]
    fn each_source_wins_over_the_one_before() {
        let name = "unhandled_threshold";
        let file = "[dynamic]\nunhandled_threshold = 2";
        let old = ("UNHANDLED_THRESHOLD", "3");
        let own = ("MUTTD_DYNAMIC_UNHANDLED_THRESHOLD", "4");
        let check = |file: &str, env: &[(&str, &str)], store: &[(&str, &str)], expected: (&str, Origin)| {
            let mut values = with_file(file, env).expect("valid");
            values.keep(&kept(store)).expect("valid");
            assert_eq!(origin(&values, name), (expected.0.to_owned(), expected.1));
            assert_eq!(values.number(DYNAMIC, name).to_string(), expected.0);
        };
        check("", &[], &[], ("100", Origin::Default));
        check(file, &[], &[], ("2", Origin::File));
        check(file, &[old], &[], ("3", Origin::Environment(old.0)));
        check(file, &[("UNHANDLED_THRESHOLD", " ")], &[], ("2", Origin::File));
        check(file, &[old, own], &[], ("4", Origin::Environment(own.0)));
        check(file, &[old, own], &[(name, "5")], ("5", Origin::Store));
    }

    #[test]
    fn a_kept_setting_that_cannot_be_used_is_ignored_and_told() {
        let check = |file: &str, store: &[(&str, &str)], expected: &[(&str, &str)]| {
            let mut values = with_file(file, &[]).expect("valid");
            values.keep(&kept(store)).expect("the start goes on");
            let ignored: Vec<_> = values.ignored().iter().map(|ignored| ignored.key.as_str()).collect();
            assert_eq!(ignored, expected.iter().map(|(key, _)| *key).collect::<Vec<_>>());
            for (ignored, (_, why)) in values.ignored().iter().zip(expected) {
                assert!(ignored.why.contains(why), "{ignored:?}");
            }
        };
        check("", &[("unhandled_threshold", "7")], &[]);
        check("", &[("unhandled_threshold", "0")], &[("unhandled_threshold", "from 1 to")]);
        check("", &[("listen", "1")], &[("listen", "no such key")]);
        let shed = "[dynamic]\nalerter_queue_shed_threshold = 20000";
        let (warn, high) = ("alerter_queue_warn_threshold", "30000");
        check(shed, &[(warn, high)], &[(warn, "the warning must come first")]);
        check(shed, &[(warn, high), ("alerter_queue_shed_threshold", "40000")], &[]);
        let mut values = with_file("[dynamic]\nalerter_queue_shed_threshold = 5", &[]).expect("each is in range");
        let error = values.keep(&kept(&[])).expect_err("file and default contradict each other").to_string();
        assert!(error.contains("at most 5") && error.contains("at least 10000"), "{error}");
    }

    #[test]
    fn a_value_that_cannot_be_set_changes_nothing_and_says_why() {
        let mut values = with_file("", &[]).expect("valid");
        let mut check = |id: &str, text: &str, expected: &str| {
            let key = super::super::keys::find_id(id).expect("a key");
            let error = values.set([(key, Some(text))]).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
            assert_ne!(values.current(key).1, Origin::Store);
        };
        check("moog_rate_limit", "-1", "`moog_rate_limit` is `-1`, but must be a whole number from 0 to 1000000");
        check("moog_rate_limit", "", "is ``, but must be a whole number");
        check("audit", "some", "one of matched, all, sample");
        check("remediation_enabled", "yes", "must be true or false");
        check("unhandled_default_team", " ", "name of a team");
        check("alerter_queue_warn_threshold", "1000001", "`alerter_queue_shed_threshold` is 1000000");
        check("moog_retry_cap_seconds", "0", "from 1 to");
        check("log.level", "debug", "configuration file");
        check("unhandled_default_team", "a\u{7}b", "control characters");
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
