//! The configuration as one file: what an export holds, and what an import would change and changes.
//!
//! An import is looked at as a whole: every fault is named by its place, and with one of them nothing is changed. Then it
//! is one transaction, each change with its line in the change log and all with the same correlation id.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use super::inventory::{checked_host, checked_team};
use super::{Actor, Admin, AdminError, RuleInput, rule_json};
use crate::config::keys::{Key, find_id, nearest};
use crate::config::{NotChanged, TargetEdit, TargetOrigin, Wish, read_definition, transfer};
use crate::model::{Rule, RuleDraft, RuleId, Team};
use crate::store::{ConfigEdit, DeviceTeam, KeptTarget, Operation};

/// Faults told at once.
const MAX_FAULTS: usize = 20;

/// What an import would do, or did, to one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedChange {
    /// The table, as in the change log.
    pub table: &'static str,
    /// Which one; empty for a rule that has no number yet.
    pub record: String,
    /// What is done.
    pub operation: Operation,
    /// Before.
    pub old: Option<Value>,
    /// After.
    pub new: Option<Value>,
}

/// How an import is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// What is there and not in the file goes, in those parts that the file has.
    pub prune: bool,
    /// Only shows what would be done.
    pub dry_run: bool,
}

/// Everything an import does.
#[derive(Default)]
struct Plan {
    changes: Vec<PlannedChange>,
    wishes: Vec<Wish>,
    targets: Vec<TargetEdit>,
    edits: Vec<ConfigEdit>,
    faults: Vec<String>,
}

impl Plan {
    fn change(&mut self, table: &'static str, record: &str, old: Option<Value>, new: Option<Value>) {
        let operation = match (&old, &new) {
            (None, _) => Operation::Create,
            (Some(_), Some(_)) => Operation::Update,
            (Some(_), None) => Operation::Delete,
        };
        self.changes.push(PlannedChange { table, record: record.to_owned(), operation, old, new });
    }

    fn fault(&mut self, place: &str, why: impl std::fmt::Display) {
        self.faults.push(format!("{place}: {why}"));
    }
}

impl Admin {
    /// The configuration as a document, in an order that does not change by itself.
    pub async fn export(&self) -> Result<Value, AdminError> {
        let rules = self.parts.stores.rules.list().await?.0;
        let mut rules: Vec<&Rule> = rules.iter().collect();
        rules.sort_by_key(|rule| rule.id);
        let teams = self.device_teams().await?;
        let teams: Map<String, Value> =
            teams.into_iter().map(|row| (row.hostname, row.team_assignment.as_str().into())).collect();
        let config = self.parts.keeper.current();
        let kept = config.kept_targets().iter().map(|target| {
            json!({"name": target.name, "enabled": target.enabled, "definition": format!("{}\n", target.definition)})
        });
        Ok(json!({
            "format": transfer::FORMAT,
            "dev_hosts": self.dev_hosts().await?.into_iter().map(|host| host.hostname).collect::<Vec<_>>(),
            "teams": teams,
            "settings": self.kept_settings(),
            "rules": rules.into_iter().map(rule_json).collect::<Vec<_>>(),
            "targets": kept.collect::<Vec<_>>(),
        }))
    }

    /// Makes the configuration what the document says, or shows what would be changed.
    pub async fn import(
        &self,
        document: &Value,
        options: ImportOptions,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Vec<PlannedChange>, AdminError> {
        let change = actor.change(reason)?;
        let mut plan = Plan::default();
        self.plan_rules(&mut plan, document, options.prune).await?;
        self.plan_dev_hosts(&mut plan, document, options.prune).await?;
        self.plan_teams(&mut plan, document, options.prune).await?;
        self.plan_settings(&mut plan, document, options.prune);
        self.plan_targets(&mut plan, document, options.prune);
        if plan.faults.is_empty()
            && let Err(error) = self.parts.keeper.check(plan.wishes.clone(), plan.targets.clone()).await
        {
            plan.fault("settings and targets", error);
        }
        if !plan.faults.is_empty() {
            return Err(refused(&plan.faults));
        }
        if options.dry_run || plan.changes.is_empty() {
            return Ok(plan.changes);
        }
        let done = self.parts.keeper.import(plan.wishes, plan.targets, plan.edits, change).await;
        done.map_err(|error| match error {
            NotChanged::Invalid(why) => AdminError::invalid("document", why),
            other => other.into(),
        })?;
        self.parts.changed.notify_one();
        Ok(plan.changes)
    }

    /// Settings that are kept in the store, as programs read them.
    fn kept_settings(&self) -> Map<String, Value> {
        let settings = self.settings().settings.into_iter().filter(|setting| setting.beneath.is_some());
        settings.map(|setting| (setting.key.name.to_owned(), setting.value)).collect()
    }

    async fn plan_rules(&self, plan: &mut Plan, document: &Value, prune: bool) -> Result<(), AdminError> {
        let Some(entries) = list(plan, document, "rules") else { return Ok(()) };
        let current = self.parts.stores.rules.list().await?.0;
        let wanted: Vec<(Option<i64>, RuleDraft)> =
            entries.iter().enumerate().filter_map(|(index, entry)| rule_of(plan, index, entry)).collect();
        let mut claimed: HashSet<RuleId> = HashSet::new();
        let mut open = Vec::new();
        // What is there already, whatever its number, first: so a file may come from another appliance.
        for (id, draft) in wanted {
            let same = |rule: &&Rule| rule.draft == draft && !claimed.contains(&rule.id);
            let by_number = current.iter().filter(same).find(|rule| Some(rule.id.0) == id);
            match by_number.or_else(|| current.iter().find(same)) {
                Some(rule) => {
                    claimed.insert(rule.id);
                }
                None => open.push((id, draft)),
            }
        }
        for (id, draft) in open {
            match current.iter().find(|rule| Some(rule.id.0) == id && !claimed.contains(&rule.id)) {
                Some(rule) => {
                    claimed.insert(rule.id);
                    let new = Rule { id: rule.id, draft };
                    let values = (Some(rule_json(rule)), Some(rule_json(&new)));
                    plan.change("alert_rules", &rule.id.to_string(), values.0, values.1);
                    plan.edits.push(ConfigEdit::ReplaceRule(new));
                }
                None => {
                    let mut new = rule_json(&Rule { id: RuleId(0), draft: draft.clone() });
                    new["id"] = Value::Null;
                    plan.change("alert_rules", "", None, Some(new));
                    plan.edits.push(ConfigEdit::AddRule(draft));
                }
            }
        }
        for rule in current.iter().filter(|rule| prune && !claimed.contains(&rule.id)) {
            plan.change("alert_rules", &rule.id.to_string(), Some(rule_json(rule)), None);
            plan.edits.push(ConfigEdit::RemoveRule(rule.id));
        }
        Ok(())
    }

    async fn plan_dev_hosts(&self, plan: &mut Plan, document: &Value, prune: bool) -> Result<(), AdminError> {
        let Some(entries) = list(plan, document, "dev_hosts") else { return Ok(()) };
        let current: BTreeSet<String> = self.dev_hosts().await?.into_iter().map(|host| host.hostname).collect();
        let mut wanted = BTreeSet::new();
        for (index, entry) in entries.iter().enumerate() {
            match entry.as_str().map(checked_host) {
                Some(Ok(host)) => drop(wanted.insert(host)),
                Some(Err(why)) => plan.fault(&format!("dev_hosts[{index}]"), why),
                None => plan.fault(&format!("dev_hosts[{index}]"), "it is not a text"),
            }
        }
        for host in wanted.difference(&current) {
            plan.change("development_hosts", host, None, Some(json!({"hostname": host})));
            plan.edits.push(ConfigEdit::AddDevHost(host.clone()));
        }
        for host in current.difference(&wanted).filter(|_| prune) {
            plan.change("development_hosts", host, Some(json!({"hostname": host})), None);
            plan.edits.push(ConfigEdit::RemoveDevHost(host.clone()));
        }
        Ok(())
    }

    async fn plan_teams(&self, plan: &mut Plan, document: &Value, prune: bool) -> Result<(), AdminError> {
        let Some(entries) = object(plan, document, "teams") else { return Ok(()) };
        let rows = self.device_teams().await?.into_iter();
        let current: BTreeMap<String, Team> = rows.map(|row| (row.hostname, row.team_assignment)).collect();
        let row = |host: &str, team: &Team| Some(json!({"hostname": host, "team_assignment": team.as_str()}));
        let mut wanted = BTreeSet::new();
        for (name, entry) in entries {
            let place = format!("teams.{}", shortened(name));
            let team =
                entry.as_str().map_or_else(|| Err(AdminError::invalid("team", "it is not a text")), checked_team);
            match (checked_host(name), team) {
                (Ok(host), Ok(team)) => {
                    if current.get(&host) != Some(&team) {
                        let old = current.get(&host).and_then(|team| row(&host, team));
                        plan.change("device_teams", &host, old, row(&host, &team));
                        let team = DeviceTeam { hostname: host.clone(), team_assignment: team };
                        plan.edits.push(ConfigEdit::PutTeam(team));
                    }
                    wanted.insert(host);
                }
                (Err(why), _) | (_, Err(why)) => plan.fault(&place, why),
            }
        }
        for (host, team) in current.iter().filter(|(host, _)| prune && !wanted.contains(*host)) {
            plan.change("device_teams", host, row(host, team), None);
            plan.edits.push(ConfigEdit::RemoveTeam(host.clone()));
        }
        Ok(())
    }

    fn plan_settings(&self, plan: &mut Plan, document: &Value, prune: bool) {
        let Some(entries) = object(plan, document, "settings") else { return };
        let current = self.kept_settings();
        let row = |key: &str, value: &Value| Some(json!({"key": key, "value": value}));
        for (name, value) in entries {
            let place = format!("settings.{}", shortened(name));
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    plan.fault(&place, "it must be a number, a text or true or false");
                    continue;
                }
            };
            let Some(key) = find_id(name).filter(|key| key.is_dynamic()) else {
                let near = nearest(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                plan.fault(&place, format!("there is no such setting that can be changed at run time{near}"));
                continue;
            };
            if current.get(key.name) != Some(value) {
                let old = current.get(key.name).and_then(|old| row(key.name, old));
                plan.change("dynamic_config", key.name, old, row(key.name, value));
                plan.wishes.push(wish(key, Some(text)));
            }
        }
        for (name, value) in current.iter().filter(|(name, _)| prune && !entries.contains_key(*name)) {
            if let Some(key) = find_id(name) {
                plan.change("dynamic_config", name, row(name, value), None);
                plan.wishes.push(wish(key, None));
            }
        }
    }

    fn plan_targets(&self, plan: &mut Plan, document: &Value, prune: bool) {
        let Some(entries) = list(plan, document, "targets") else { return };
        let config = self.parts.keeper.current();
        let row = |target: &KeptTarget| {
            let KeptTarget { name, kind, definition, enabled } = target;
            Some(json!({"name": name, "kind": kind, "definition": definition, "enabled": enabled}))
        };
        let mut wanted = BTreeSet::new();
        for (index, entry) in entries.iter().enumerate() {
            let place = format!("targets[{index}]");
            let target = match target_of(entry) {
                Ok(target) => target,
                Err(why) => {
                    plan.fault(&place, why);
                    continue;
                }
            };
            let old = config.kept_targets().iter().find(|kept| kept.name == target.name);
            if old.is_none() && config.target_origin(&target.name) == Some(TargetOrigin::File) {
                plan.fault(&place, format!("`{}` is defined in the configuration file", target.name));
            } else if !wanted.insert(target.name.clone()) {
                plan.fault(&place, format!("`{}` is there twice", target.name));
            } else if old != Some(&target) {
                plan.change("delivery_targets", &target.name, old.and_then(row), row(&target));
                plan.targets.push(TargetEdit::Keep(target));
            }
        }
        for kept in config.kept_targets().iter().filter(|kept| prune && !wanted.contains(&kept.name)) {
            plan.change("delivery_targets", &kept.name, row(kept), None);
            plan.targets.push(TargetEdit::Forget(kept.name.clone()));
        }
    }
}

fn list<'a>(plan: &mut Plan, document: &'a Value, part: &str) -> Option<&'a Vec<Value>> {
    let found = document.get(part)?;
    if !found.is_array() {
        plan.fault(part, "it is not a list");
    }
    found.as_array()
}

fn object<'a>(plan: &mut Plan, document: &'a Value, part: &str) -> Option<&'a Map<String, Value>> {
    let found = document.get(part)?;
    if !found.is_object() {
        plan.fault(part, "it is not a table");
    }
    found.as_object()
}

/// The number that a rule is given in the file, and the rule.
fn rule_of(plan: &mut Plan, index: usize, entry: &Value) -> Option<(Option<i64>, RuleDraft)> {
    let place = format!("rules[{index}]");
    let Some(members) = entry.as_object() else {
        plan.fault(&place, "it is not a table");
        return None;
    };
    let mut members = members.clone();
    let id = match members.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::Number(id)) if id.is_i64() => id.as_i64(),
        Some(_) => {
            plan.fault(&place, "`id` is not a whole number");
            return None;
        }
    };
    match RuleInput::from_json(&members).and_then(|input| input.check()) {
        Ok(draft) => Some((id, draft)),
        Err(AdminError::Invalid { field: Some(field), why }) => {
            plan.fault(&format!("{place}.{field}"), why);
            None
        }
        Err(error) => {
            plan.fault(&place, error);
            None
        }
    }
}

fn target_of(entry: &Value) -> Result<KeptTarget, String> {
    let members = entry.as_object().ok_or("it is not a table")?;
    if let Some(unknown) = members.keys().find(|name| !["name", "enabled", "definition"].contains(&name.as_str())) {
        return Err(format!("`{}` is no member; known are name, enabled, definition", shortened(unknown)));
    }
    let definition = entry["definition"].as_str().ok_or("`definition` is missing or not a text")?;
    let enabled = match members.get("enabled") {
        None => true,
        Some(enabled) => enabled.as_bool().ok_or("`enabled` is neither true nor false")?,
    };
    let target = read_definition(definition, enabled).map_err(|error| error.0)?;
    match members.get("name") {
        Some(name) if name.as_str() != Some(&target.name) => {
            Err(format!("`name` and the name in its definition, `{}`, differ", target.name))
        }
        _ => Ok(target),
    }
}

const fn wish(key: &'static Key, value: Option<String>) -> Wish {
    Wish { key, value, expected: None }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn refused(faults: &[String]) -> AdminError {
    let mut why = faults.iter().take(MAX_FAULTS).cloned().collect::<Vec<_>>().join("; ");
    if faults.len() > MAX_FAULTS {
        why.push_str(&format!("; and {} more", faults.len() - MAX_FAULTS));
    }
    AdminError::invalid("document", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;

    const APPLY: ImportOptions = ImportOptions { prune: false, dry_run: false };
    const PRUNE: ImportOptions = ImportOptions { prune: true, dry_run: false };

    fn actor() -> Actor {
        Actor::new("alice", "c-1")
    }

    fn rule(text: &str) -> Value {
        json!({"match_string": text, "prod_handling": "Page_only", "team_assignment": "NETO"})
    }

    fn document() -> Value {
        json!({
            "format": 1,
            "dev_hosts": ["Lab1"],
            "teams": {"sw1": "ACCESS"},
            "settings": {"unhandled_threshold": 7},
            "rules": [rule("down"), rule("up")],
            "targets": [{"name": "hook", "definition": "name = \"hook\"\nkind = \"webhook\"\nurl = \"https://hook.example/x\"\n"}],
        })
    }

    async fn import(house: &TestAdmin, document: &Value, options: ImportOptions) -> Result<usize, AdminError> {
        Ok(house.admin.import(document, options, &actor(), Some("CHG-1")).await?.len())
    }

    #[tokio::test]
    async fn an_import_is_shown_made_and_changes_nothing_the_second_time() {
        let house = TestAdmin::new().await;
        let look = ImportOptions { dry_run: true, ..APPLY };
        assert_eq!(import(&house, &document(), look).await.expect("valid"), 6);
        assert!(house.admin.rules().await.expect("rules").rules.is_empty(), "it was only shown");
        assert_eq!(import(&house, &document(), APPLY).await.expect("valid"), 6);
        assert_eq!(import(&house, &document(), PRUNE).await.expect("valid"), 0);
        let exported = house.admin.export().await.expect("exported");
        assert_eq!(exported["settings"], json!({"unhandled_threshold": 7}));
        assert_eq!(exported["dev_hosts"], json!(["lab1"]));
        assert_eq!(import(&house, &exported, PRUNE).await.expect("valid"), 0, "an export is what is there");
        let text = transfer::to_toml(&exported);
        assert_eq!(transfer::read(&text).expect("readable"), without_null(&exported), "{text}");
    }

    /// TOML has no null.
    fn without_null(document: &Value) -> Value {
        match document {
            Value::Object(members) => members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_null(value)))
                .collect(),
            Value::Array(items) => items.iter().map(without_null).collect(),
            other => other.clone(),
        }
    }

    #[tokio::test]
    async fn rules_are_found_by_content_then_by_number_and_only_prune_removes() {
        let house = TestAdmin::new().await;
        import(&house, &document(), APPLY).await.expect("valid");
        let mut changed = rule("up again");
        changed["id"] = json!(2);
        let wanted = json!({"format": 1, "rules": [rule("down"), changed]});
        let plan = house.admin.import(&wanted, APPLY, &actor(), None).await.expect("valid");
        assert_eq!((plan.len(), plan[0].operation, plan[0].record.as_str()), (1, Operation::Update, "2"));
        assert_eq!(import(&house, &json!({"format": 1, "rules": []}), APPLY).await.expect("valid"), 0);
        assert_eq!(import(&house, &json!({"format": 1, "rules": []}), PRUNE).await.expect("valid"), 2);
        assert_eq!(house.admin.dev_hosts().await.expect("hosts").len(), 1, "a part that is not there is not touched");
        let bare = json!({"format": 1, "settings": {}, "targets": [], "teams": {}, "dev_hosts": []});
        assert_eq!(import(&house, &bare, PRUNE).await.expect("valid"), 4);
    }

    #[tokio::test]
    async fn one_fault_refuses_all_and_each_is_named_by_its_place() {
        let house = TestAdmin::new().await;
        let wrong = json!({
            "format": 1,
            "dev_hosts": ["a b"],
            "teams": {"sw1": ""},
            "settings": {"unhandled_treshold": 7},
            "rules": [rule("down"), {"match_string": "(", "match_type": "regex", "prod_handling": "Page_only", "team_assignment": "NETO"}],
            "targets": [{"definition": "name = \"x\""}, {"definition": "kind = "}],
        });
        let error = house.admin.import(&wrong, APPLY, &actor(), None).await.expect_err("refused").to_string();
        for place in
            ["dev_hosts[0]", "teams.sw1", "did you mean `unhandled_threshold`", "rules[1].match_string", "targets[1]"]
        {
            assert!(error.contains(place), "{error}");
        }
        let late = json!({"format": 1, "rules": [rule("down")], "settings": {"unhandled_threshold": 0}});
        let error = house.admin.import(&late, APPLY, &actor(), None).await.expect_err("refused").to_string();
        assert!(error.contains("from 1 to"), "{error}");
        assert!(house.admin.rules().await.expect("rules").rules.is_empty(), "nothing was changed");
    }
}
