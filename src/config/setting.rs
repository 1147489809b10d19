//! One key with its value in force and where that comes from, as people and programs are shown it. Values that are shown
//! nowhere are left out here already, so that no caller can forget it.

use serde_json::Value as Json;

use super::keys::{KEYS, Key};
use super::values::{Origin, Values, default_of};
use super::{ConfigError, Ignored, Sources};

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// The value, as it would be written in the environment; empty if it is shown nowhere.
    pub text: String,
    /// The value, as a program reads it; null if it is shown nowhere.
    pub value: Json,
    /// The built-in value.
    pub default: Json,
    /// Whether there is a value that is not empty.
    pub is_set: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// The value and its origin after a reset; only for one that is kept in the store.
    pub beneath: Option<(String, Origin)>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.section, self.name) == (other.section, other.name)
    }
}

/// Every key with its value, in the order of the table.
pub(super) fn all(values: &Values) -> Vec<Setting> {
    KEYS.iter().map(|key| one(values, key)).collect()
}

/// One key with its value.
pub(super) fn one(values: &Values, key: &'static Key) -> Setting {
    let (value, origin) = values.current(key);
    let is_set = !value.text().is_empty();
    let (text, json) = if key.masked { (String::new(), Json::Null) } else { (value.text(), value.json()) };
    let beneath = (origin == Origin::Store).then(|| {
        let (value, origin) = values.beneath(key);
        (value.text(), origin)
    });
    let default = if key.masked { Json::Null } else { default_of(key).json() };
    Setting { key, text, value: json, default, is_set, origin, beneath }
}

/// The settings that a process with these sources would start with, for when none runs; reads only.
pub fn settings_of(sources: &Sources) -> Result<(Vec<Setting>, Vec<Ignored>), ConfigError> {
    let values = sources.values()?;
    Ok((all(&values), values.ignored().to_vec()))
}
