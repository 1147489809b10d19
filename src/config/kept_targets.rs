//! Targets that are kept in the store beside those of the file: how a definition is read, and what a change of them makes
//! of the configuration. Reads and writes nothing itself.
//!
//! A kept target that cannot be used - its secret is gone, the file took its name - is left out and told; its alerts wait.
//! It must not keep the process from starting. A change that would lead there is refused.

use super::targets::{MOOGSOFT, Targets};
use super::{Config, ConfigError};
use crate::model::TargetName;
use crate::store::KeptTarget;

/// Longest definition in bytes: a webhook's template with room to spare, and far below what a page or a line of the change
/// log can carry.
const MAX_DEFINITION: usize = 64 << 10;

/// What is to become of one kept target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetEdit {
    /// It is new, or takes the place of the one of its name.
    Keep(KeptTarget),
    /// It goes.
    Forget(String),
}

impl TargetEdit {
    /// The target's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Keep(target) => &target.name,
            Self::Forget(name) => name,
        }
    }
}

/// Where a target is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetOrigin {
    /// In the configuration file, or by `[moog]`.
    File,
    /// In the store.
    Store,
}

/// Reads a definition: what stands below `[[targets]]` in a file, with or without that line. The error is for people.
pub fn read_definition(text: &str, enabled: bool) -> Result<KeptTarget, ConfigError> {
    let table = table_of(text).map_err(ConfigError)?;
    let member = |name: &str| table.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let name = TargetName::new(&member("name")).map_err(|error| ConfigError(format!("`name`: {error}")))?;
    Ok(KeptTarget { name: name.to_string(), kind: member("kind"), definition: text.trim().to_owned(), enabled })
}

/// A definition as a table.
pub(super) fn table_of(text: &str) -> Result<toml::Table, String> {
    if text.len() > MAX_DEFINITION {
        return Err(format!("the definition is longer than {MAX_DEFINITION} bytes"));
    }
    let mut table: toml::Table = text.parse().map_err(|error| format!("the definition is not valid TOML: {error}"))?;
    let Some(listed) = table.remove("targets") else { return Ok(table) };
    match listed {
        toml::Value::Array(mut targets) if targets.len() == 1 && table.is_empty() => match targets.remove(0) {
            toml::Value::Table(target) => Ok(target),
            _ => Err("`targets` is no table; begin with a line `[[targets]]`".to_owned()),
        },
        _ => Err("give one target: what stands below one line `[[targets]]`".to_owned()),
    }
}

impl Config {
    /// Every target that is kept, whether it is in use or not.
    pub fn kept_targets(&self) -> &[KeptTarget] {
        self.raw.values.kept_targets()
    }

    /// Where a target is defined; `None` if it is not.
    pub fn target_origin(&self, name: &str) -> Option<TargetOrigin> {
        if self.kept_targets().iter().any(|kept| kept.name == name) {
            return Some(TargetOrigin::Store);
        }
        self.targets.targets.iter().any(|target| target.name.as_str() == name).then_some(TargetOrigin::File)
    }

    /// The same with some kept targets changed; nothing is read or kept. Refused if one that is to be in use could not be.
    pub(super) fn with_targets(&self, edits: &[TargetEdit]) -> Result<Self, ConfigError> {
        let mut raw = self.raw.clone();
        let mut kept = raw.values.kept_targets().to_vec();
        for edit in edits {
            kept.retain(|target| target.name != edit.name());
            if let TargetEdit::Keep(target) = edit {
                kept.push(target.clone());
            }
        }
        kept.sort_by(|one, other| one.name.cmp(&other.name));
        raw.values.keep_targets(kept);
        let config = raw.assemble()?;
        let before = &self.targets.unusable;
        match config.targets.unusable.iter().find(|(name, why)| before.get(*name) != Some(why)) {
            Some((name, why)) => Err(ConfigError(format!("target `{name}`: {why}"))),
            None => Ok(config),
        }
    }

    /// Tells people of kept targets that are not in use, but for those they know of.
    pub fn tell_unusable(&self, known: Option<&Targets>) {
        for (name, why) in &self.targets.unusable {
            if known.is_none_or(|known| known.unusable.get(name) != Some(why)) {
                tracing::error!(target = name, "A kept target cannot be used; its alerts wait: {why}");
            }
        }
    }
}

/// Whether a name is the one that `[moog]` gives its target.
pub(super) fn is_legacy(name: &str) -> bool {
    name == MOOGSOFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_read_with_and_without_its_heading() {
        let check = |text: &str, expected: Result<(&str, &str), &str>| match (read_definition(text, true), expected) {
            (Ok(kept), Ok((name, kind))) => assert_eq!((kept.name.as_str(), kept.kind.as_str()), (name, kind)),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
        };
        check("name = \"chat\"\nkind = \"slack\"", Ok(("chat", "slack")));
        check(
            "# ours\n[[targets]]\nname = \"chat\"\nkind = \"slack\"\n[targets.route]\nteams = [\"A\"]",
            Ok(("chat", "slack")),
        );
        check("name = \"a\"\n[[targets]]\nname = \"b\"", Err("one target"));
        check("[[targets]]\nname = \"a\"\n[[targets]]\nname = \"b\"", Err("one target"));
        check("name = ", Err("not valid TOML"));
        check("kind = \"slack\"", Err("`name`"));
        check(&format!("name = \"{}\"", "x".repeat(MAX_DEFINITION)), Err("longer than"));
    }
}
