//! Many changes of `config.db` in one transaction.

use async_trait::async_trait;
use rusqlite::{ToSql, Transaction};

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use super::connect::Fault;
use super::inventory::{DEV_HOSTS, TEAMS, checked_host, put_team};
use super::rulebook::{self, RULES};
use super::settings::{self, SETTINGS};
use super::targets::{self, TARGETS};
use crate::model::{RuleDraft, RuleId, Team, Timestamp, host_key};
use crate::store::{Change, ConfigEdit, ConfigEdits, DeviceTeam, StoreError, StoreResult, rule_tag, team_tag};

#[async_trait]
impl ConfigEdits for ConfigDb {
    async fn apply(&self, edits: Vec<ConfigEdit>, change: &Change) -> StoreResult<Vec<RuleId>> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let mut added = Vec::new();
            for edit in edits {
                match edit {
                    ConfigEdit::AddRule(draft) => added.push(add_rule(transaction, now, &change, &draft)?),
                    other => carry_out(transaction, now, &change, other)?,
                }
            }
            Ok(added)
        })
        .await
    }
}

fn add_rule(
    transaction: &Transaction<'_>,
    now: Timestamp,
    change: &Change,
    draft: &RuleDraft,
) -> Result<RuleId, Fault> {
    rulebook::validate(draft)?;
    let id = rulebook::insert(transaction, draft)?;
    let new = row_values(transaction, RULES, &id)?;
    log_change(transaction, now, change, &Entry { table: RULES, record_id: &id.to_string(), old: None, new })?;
    Ok(RuleId(id))
}

fn expect_rule(transaction: &Transaction<'_>, id: RuleId, tags: &[String]) -> Result<(), Fault> {
    let rule = rulebook::find(transaction, id)?;
    if tags.is_empty() {
        return Ok(());
    }
    let tag = rule_tag(&rule.map_err(StoreError::Invalid)?);
    expect("rule", id.to_string(), tag, tags)
}

fn expect_team(transaction: &Transaction<'_>, host: &str, tags: &[String]) -> Result<(), Fault> {
    let hostname = host_key(host);
    let values = row_values(transaction, TEAMS, &hostname)?;
    let team = values.as_ref().and_then(|row| row["team_assignment"].as_str()).and_then(|team| Team::new(team).ok());
    let Some(team_assignment) = team else {
        return Err(StoreError::NotFound { what: "device team", key: hostname }.into());
    };
    let tag = team_tag(&DeviceTeam { hostname: hostname.clone(), team_assignment });
    if tags.is_empty() { Ok(()) } else { expect("device team", hostname, tag, tags) }
}

fn expect(what: &'static str, key: String, tag: String, tags: &[String]) -> Result<(), Fault> {
    if tags.contains(&tag) { Ok(()) } else { Err(StoreError::Stale { what, key, tag }.into()) }
}

/// Carries out one change and logs it, if it is one.
fn carry_out(transaction: &Transaction<'_>, now: Timestamp, change: &Change, edit: ConfigEdit) -> Result<(), Fault> {
    let row = |table: Table, key: &dyn ToSql, id: String| Row {
        transaction,
        now,
        change,
        table,
        key_id: id,
        old: row_values(transaction, table, key),
    };
    match edit {
        ConfigEdit::AddRule(draft) => add_rule(transaction, now, change, &draft).map(|_| ()),
        ConfigEdit::ExpectRule(id, tags) => expect_rule(transaction, id, &tags),
        ConfigEdit::ExpectTeam(host, tags) => expect_team(transaction, &host, &tags),
        ConfigEdit::ReplaceRule(rule) => {
            rulebook::validate(&rule.draft)?;
            let row = row(RULES, &rule.id.0, rule.id.to_string());
            rulebook::replace(transaction, &rule)?;
            row.log(&rule.id.0)
        }
        ConfigEdit::RemoveRule(id) => {
            let row = row(RULES, &id.0, id.to_string());
            transaction.execute("DELETE FROM alert_rules WHERE id = ?1", [id.0])?;
            row.log(&id.0)
        }
        ConfigEdit::AddDevHost(host) => {
            let host = checked_host(&host)?;
            let row = row(DEV_HOSTS, &host, host.clone());
            transaction.execute("INSERT OR IGNORE INTO development_hosts VALUES (?1)", [&host])?;
            row.log(&host)
        }
        ConfigEdit::RemoveDevHost(host) => {
            let host = host_key(&host);
            let row = row(DEV_HOSTS, &host, host.clone());
            transaction.execute("DELETE FROM development_hosts WHERE hostname = ?1", [&host])?;
            row.log(&host)
        }
        ConfigEdit::PutTeam(team) => {
            let team = DeviceTeam { hostname: checked_host(&team.hostname)?, ..team };
            let row = row(TEAMS, &team.hostname, team.hostname.clone());
            put_team(transaction, &team)?;
            row.log(&team.hostname)
        }
        ConfigEdit::RemoveTeam(host) => {
            let host = host_key(&host);
            let row = row(TEAMS, &host, host.clone());
            transaction.execute("DELETE FROM device_teams WHERE hostname = ?1", [&host])?;
            row.log(&host)
        }
        ConfigEdit::PutSetting(key, value) => {
            let row = row(SETTINGS, &key, key.clone());
            settings::put(transaction, &key, value.as_deref())?;
            row.log(&key)
        }
        ConfigEdit::PutTarget(name, target) => {
            let row = row(TARGETS, &name, name.clone());
            targets::put(transaction, &name, target.as_ref())?;
            row.log(&name)
        }
    }
}

/// A row as it was before a change.
struct Row<'a> {
    transaction: &'a Transaction<'a>,
    now: Timestamp,
    change: &'a Change,
    table: Table,
    key_id: String,
    old: Result<Option<serde_json::Value>, Fault>,
}

impl Row<'_> {
    /// Logs what became of it, if that is something else.
    fn log(self, key: &dyn ToSql) -> Result<(), Fault> {
        let old = self.old?;
        let new = row_values(self.transaction, self.table, key)?;
        if old == new {
            return Ok(());
        }
        log_change(
            self.transaction,
            self.now,
            self.change,
            &Entry { table: self.table, record_id: &self.key_id, old, new },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{ChangeLog, ChangeQuery, HostQuery, Inventory};

    fn team(hostname: &str, team: &str) -> ConfigEdit {
        let team_assignment = Team::new(team).expect("a team");
        ConfigEdit::PutTeam(DeviceTeam { hostname: hostname.to_owned(), team_assignment })
    }

    #[tokio::test]
    async fn all_changes_are_made_and_logged_or_none_and_what_is_so_already_is_no_change() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ConfigDb::open(&dir.path().join("config.db"), Clock::system()).expect("opens");
        let change = Change::new("alice", "c-9");
        let edits = vec![
            ConfigEdit::AddDevHost("LAB1".into()),
            team("sw1", "ACCESS"),
            ConfigEdit::PutSetting("unhandled_threshold".into(), Some("7".into())),
        ];
        store.apply(edits.clone(), &change).await.expect("applied");
        store.apply(edits, &change).await.expect("applied again");
        let query = ChangeQuery { limit: 100, ..ChangeQuery::default() };
        let lines = store.changes(&query).await.expect("lines");
        assert_eq!(lines.len(), 3, "the second time nothing changed");
        assert!(lines.iter().all(|line| line.correlation_id == "c-9"));
        let wrong = vec![ConfigEdit::RemoveDevHost("lab1".into()), ConfigEdit::AddDevHost("not a host".into())];
        store.apply(wrong, &change).await.expect_err("the second of them cannot be");
        assert_eq!(store.dev_hosts(&HostQuery::default()).await.expect("hosts").len(), 1, "none of them was made");
        assert_eq!(store.changes(&query).await.expect("lines").len(), 3);
    }

    #[tokio::test]
    async fn what_was_decided_on_something_else_changes_nothing_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ConfigDb::open(&dir.path().join("config.db"), Clock::system()).expect("opens");
        let change = Change::new("alice", "c-9");
        store.apply(vec![team("sw1", "ACCESS")], &change).await.expect("applied");
        let seen = team_tag(&store.device_teams(&HostQuery::default()).await.expect("teams")[0]);
        let expecting = |tags: Vec<String>, to: &str| vec![ConfigEdit::ExpectTeam("SW1".into(), tags), team("sw1", to)];
        store.apply(expecting(vec![seen.clone()], "CORE"), &change).await.expect("it was so");
        let mut late = vec![ConfigEdit::AddDevHost("lab1".into())];
        late.extend(expecting(vec![seen], "EDGE"));
        let refused = store.apply(late, &change).await.expect_err("it is so no more");
        let now = store.device_teams(&HostQuery::default()).await.expect("teams");
        assert!(matches!(refused, StoreError::Stale { what: "device team", tag, .. } if tag == team_tag(&now[0])));
        assert_eq!(
            (now[0].team_assignment.as_str(), store.dev_hosts(&HostQuery::default()).await.expect("hosts").len()),
            ("CORE", 0)
        );
        let gone = vec![ConfigEdit::ExpectRule(RuleId(7), Vec::new()), ConfigEdit::RemoveRule(RuleId(7))];
        assert!(matches!(store.apply(gone, &change).await, Err(StoreError::NotFound { what: "rule", .. })));
    }
}
