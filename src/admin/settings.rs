//! Settings: every key with its value and origin, changing the dynamic ones, their history and going back in it. What a
//! value may be is the configuration's to say; what is shown nowhere does not get here.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::changes::{ChangePage, MAX_CHANGE_ROWS};
use super::{Actor, Admin, AdminError};
use crate::config::keys::{Key, Kind, find_id, nearest};
use crate::config::{ApiSettings, Changed, Ignored, NotChanged, Origin, Setting, Wish};
use crate::store::{ChangeQuery, ChangeRow, SETTINGS_TABLE};

/// Every setting there is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Each key with its value, in the order of the reference page.
    pub settings: Vec<Setting>,
    /// What is kept and not in force.
    pub ignored: Vec<Ignored>,
}

impl Admin {
    /// Every key with its value and origin.
    pub fn settings(&self) -> Settings {
        let config = self.parts.keeper.current();
        Settings { settings: config.settings(), ignored: config.ignored().to_vec() }
    }

    /// What the API grants its callers now.
    pub fn api_settings(&self) -> ApiSettings {
        self.parts.keeper.current().api.clone()
    }

    /// One key with its value and origin.
    pub fn setting(&self, id: &str) -> Result<Setting, AdminError> {
        Ok(self.parts.keeper.current().setting(known(id)?))
    }

    /// Sets a dynamic key; with `expected` only if that is its value now. Every part of the program goes by the new value
    /// when this returns.
    pub async fn set_setting(
        &self,
        id: &str,
        value: &str,
        expected: Option<&str>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Changed, AdminError> {
        let wish = wish(dynamic(id)?, Some(value), expected);
        self.change_setting(wish, actor, reason).await
    }

    /// Changes several keys, all of them or none: by key the value, or `None` for a reset, and what its value must be now.
    pub async fn set_settings(
        &self,
        settings: &[(&str, Option<&str>, Option<&str>)],
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Vec<Changed>, AdminError> {
        let wishes = settings.iter().map(|(id, value, expected)| Ok(wish(dynamic(id)?, *value, *expected)));
        let wishes = wishes.collect::<Result<Vec<Wish>, AdminError>>()?;
        Ok(self.parts.keeper.set(wishes, actor.change(reason)?).await?)
    }

    /// Has a dynamic key come from environment, file or default again.
    pub async fn reset_setting(
        &self,
        id: &str,
        expected: Option<&str>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Changed, AdminError> {
        let wish = wish(dynamic(id)?, None, expected);
        self.change_setting(wish, actor, reason).await
    }

    /// Forgets a kept setting that is not in force because no such key is known here.
    pub async fn forget_setting(&self, id: &str, actor: &Actor, reason: Option<&str>) -> Result<(), AdminError> {
        if !self.parts.keeper.current().ignored().iter().any(|ignored| ignored.key == id) {
            return Err(unknown(id));
        }
        Ok(self.parts.keeper.forget(id, actor.change(reason)?).await?)
    }

    /// Gives a key the value that it had before a change, by the number of that change's line; if nothing was kept then,
    /// it is reset.
    pub async fn revert_setting(
        &self,
        id: &str,
        before: i64,
        expected: Option<&str>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Changed, AdminError> {
        let key = dynamic(id)?;
        let line = self.setting_change(key, before).await?;
        let value = line.old_values.as_ref().and_then(|row| row["value"].as_str());
        self.change_setting(wish(key, value, expected), actor, reason).await
    }

    /// Changes of settings, newest first: of one key, or of all.
    pub async fn settings_history(
        &self,
        id: Option<&str>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<ChangePage, AdminError> {
        let record_id = id.map(|id| dynamic(id).map(|key| key.name.to_owned())).transpose()?;
        let limit = limit.clamp(1, MAX_CHANGE_ROWS);
        let query = ChangeQuery { record_id, before, limit, ..settings_only() };
        self.changes(&query).await
    }

    /// One change of one key.
    async fn setting_change(&self, key: &Key, id: i64) -> Result<ChangeRow, AdminError> {
        let query = ChangeQuery {
            record_id: Some(key.name.to_owned()),
            before: Some(id.saturating_add(1)),
            limit: 1,
            ..settings_only()
        };
        let found = self.changes(&query).await?.rows.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| AdminError::invalid("change", format!("there is no change {id} of `{}`", key.name)))
    }

    async fn change_setting(&self, wish: Wish, actor: &Actor, reason: Option<&str>) -> Result<Changed, AdminError> {
        let changed = self.parts.keeper.set(vec![wish], actor.change(reason)?).await?;
        changed.into_iter().next().ok_or_else(|| AdminError::Unavailable("the change got lost; look again".into()))
    }
}

fn wish(key: &'static Key, value: Option<&str>, expected: Option<&str>) -> Wish {
    Wish { key, value: value.map(str::to_owned), expected: expected.map(str::to_owned) }
}

/// A setting as the API and the command line tell of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Setting)]
pub struct SettingView {
    /// Its whole name: the section, a point, the name; a dynamic key is its name alone.
    pub key: String,
    /// The table of the configuration file it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// The value in force; null if it is shown nowhere.
    #[schema(schema_with = value_schema)]
    pub value: Value,
    /// Where the value comes from.
    #[schema(example = "default")]
    pub origin: &'static str,
    /// The built-in value.
    #[schema(schema_with = value_schema)]
    pub default: Value,
    /// What kind of value it is.
    #[serde(rename = "type")]
    #[schema(example = "integer")]
    pub kind: &'static str,
    /// What it may be, in words.
    pub range: String,
    /// What its number counts; empty if it is none.
    pub unit: &'static str,
    /// What it means.
    pub description: &'static str,
    /// The parts of the program that go by it.
    pub read_by: &'static str,
    /// Whether a new value acts at once; else after a restart.
    pub live: bool,
    /// Whether it can be changed here.
    pub writable: bool,
    /// Whether its value is shown nowhere.
    pub masked: bool,
    /// Whether there is a value that is not empty.
    pub set: bool,
    /// Its environment variable.
    pub environment: &'static str,
    /// Further environment variables that are read for it.
    pub also: &'static [&'static str],
    /// The least value of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The greatest value of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// The words it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<&'static [&'static str]>,
    /// The environment variable its value comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<&'static str>,
    /// What a reset would bring back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beneath: Option<Beneath>,
    /// What it was before the change that this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// The value a setting has after a reset.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Beneath {
    /// As it would be written in the environment.
    pub value: String,
    /// Where it comes from.
    pub origin: &'static str,
}

/// The value a setting had before a change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Previous {
    /// The value.
    #[schema(schema_with = value_schema)]
    pub value: Value,
    /// Where it came from.
    pub origin: &'static str,
}

/// What a setting can be: a text, a number, a truth, a list of texts, or null where it is not shown.
fn value_schema() -> impl Into<RefOr<Schema>> {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([
        Type::String,
        Type::Number,
        Type::Boolean,
        Type::Array,
        Type::Null,
    ]))
}

impl From<&Setting> for SettingView {
    fn from(setting: &Setting) -> Self {
        let key = setting.key;
        let (min, max) = match key.kind {
            Kind::Integer { min, max } => (Some(min), Some(max)),
            _ => (None, None),
        };
        let beneath = setting.beneath.as_ref();
        Self {
            key: key.id().into_owned(),
            section: key.section,
            name: key.name,
            value: setting.value.clone(),
            origin: setting.origin.name(),
            default: setting.default.clone(),
            kind: key.kind.name(),
            range: key.kind.range().into_owned(),
            unit: key.unit,
            description: key.help,
            read_by: key.reader,
            live: key.live,
            writable: key.is_dynamic(),
            masked: key.masked,
            set: setting.is_set,
            environment: key.env,
            also: key.aliases,
            min,
            max,
            choices: if let Kind::Choice(words) = key.kind { Some(words) } else { None },
            variable: if let Origin::Environment(variable) = setting.origin { Some(variable) } else { None },
            beneath: beneath.map(|(value, origin)| Beneath { value: value.clone(), origin: origin.name() }),
            previous: None,
        }
    }
}

impl From<&Changed> for SettingView {
    fn from(changed: &Changed) -> Self {
        let before = &changed.before;
        let previous = Previous { value: before.value.clone(), origin: before.origin.name() };
        Self { previous: Some(previous), ..Self::from(&changed.after) }
    }
}

/// A kept setting that is not in force, as the API and the command line tell of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct IgnoredSetting {
    /// The key, as it was kept.
    pub key: String,
    /// The value, as it was kept.
    pub value: String,
    /// Why it cannot be used.
    pub why: String,
}

impl From<&Ignored> for IgnoredSetting {
    fn from(ignored: &Ignored) -> Self {
        let Ignored { key, value, why } = ignored.clone();
        Self { key, value, why }
    }
}

/// The text of a value that a program sent; `None` for what no setting can be.
pub fn setting_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(|all| all.join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

fn settings_only() -> ChangeQuery {
    ChangeQuery { table_name: Some(SETTINGS_TABLE.to_owned()), ..ChangeQuery::default() }
}

fn known(id: &str) -> Result<&'static Key, AdminError> {
    find_id(id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> AdminError {
    AdminError::NoSetting { key: id.chars().take(60).collect(), near: nearest(id).map(|near| near.into_owned()) }
}

fn dynamic(id: &str) -> Result<&'static Key, AdminError> {
    let key = known(id)?;
    if key.is_dynamic() {
        return Ok(key);
    }
    Err(AdminError::invalid(
        "key",
        format!(
            "`{}` is not changed at run time; write it into [{}] of the configuration file, or set {}, and send SIGHUP{}",
            key.id(),
            key.section,
            key.env,
            if key.live { "" } else { " or restart" }
        ),
    ))
}

impl From<NotChanged> for AdminError {
    fn from(error: NotChanged) -> Self {
        match error {
            NotChanged::Invalid(why) => Self::invalid("value", why),
            NotChanged::Outdated { .. } => Self::Outdated(error.to_string()),
            NotChanged::Store(error) => error.into(),
            NotChanged::NotReady => Self::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;
    use serde_json::json;

    const KEY: &str = "unhandled_threshold";

    fn actor() -> Actor {
        Actor::new("alice", "c-1")
    }

    #[tokio::test]
    async fn a_setting_goes_back_to_what_it_was_before_any_change() {
        let house = TestAdmin::new().await;
        for value in ["7", "8"] {
            house.admin.set_setting(KEY, value, None, &actor(), Some("CHG-1")).await.expect("valid");
        }
        let lines = house.admin.settings_history(Some(KEY), None, 10).await.expect("lines").rows;
        assert_eq!(lines.len(), 2);
        let changed = house.admin.revert_setting(KEY, lines[0].id, Some("8"), &actor(), None).await.expect("done");
        assert_eq!((changed.before.text.as_str(), changed.after.text.as_str()), ("8", "7"));
        let changed = house.admin.revert_setting(KEY, lines[1].id, None, &actor(), None).await.expect("done");
        assert_eq!((changed.after.text.as_str(), changed.after.origin), ("100", Origin::Default));
        let refused = house.admin.revert_setting("moog_rate_limit", lines[1].id, None, &actor(), None).await;
        assert!(matches!(refused, Err(AdminError::Invalid { .. })), "another key's change: {refused:?}");
    }

    #[tokio::test]
    async fn faults_say_whose_they_are() {
        let house = TestAdmin::new().await;
        let check = async |id: &str, value: &str, expected: Option<&str>| {
            house.admin.set_setting(id, value, expected, &actor(), None).await.expect_err("refused")
        };
        let error = check("unhandled_treshold", "7", None).await;
        assert!(error.to_string().contains("did you mean `unhandled_threshold`"), "{error}");
        let error = check("syslog.udp_listen", "7", None).await;
        assert!(error.to_string().contains("MUTTD_SYSLOG_UDP_LISTEN"), "{error}");
        let error = check(KEY, "none", None).await;
        assert!(matches!(&error, AdminError::Invalid { field: Some(field), .. } if field == "value"), "{error:?}");
        assert!(matches!(check(KEY, "7", Some("99")).await, AdminError::Outdated(_)));
        assert!(house.admin.settings_history(None, None, 10).await.expect("lines").rows.is_empty());
    }

    #[test]
    fn values_are_taken_in_every_form_that_a_program_may_send() {
        for (value, expected) in [
            (json!(7), Some("7")),
            (json!("7"), Some("7")),
            (json!(true), Some("true")),
            (json!(["a", "b"]), Some("a,b")),
            (json!(null), None),
            (json!({"a": 1}), None),
        ] {
            assert_eq!(setting_text(&value).as_deref(), expected, "{value}");
        }
    }
}
