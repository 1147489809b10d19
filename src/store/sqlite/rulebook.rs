//! Alert rules in `config.db`. A row that somebody edited into nonsense is reported, never served and never in the way.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use super::connect::Fault;
use crate::model::{Handling, MatchType, Oid, Rule, RuleDraft, RuleId, Severity, Team};
use crate::store::{Change, RuleBook, StoreError, StoreResult};

pub(super) const RULES: Table = Table {
    name: "alert_rules",
    key: "id",
    columns: &[
        "id",
        "match_string",
        "trap_oid",
        "syslog_severity",
        "match_type",
        "priority",
        "prod_handling",
        "dev_handling",
        "team_assignment",
        "is_active",
    ],
    truths: &["is_active"],
    rules_decisions: true,
};

const SELECT: &str = "SELECT id, match_string, trap_oid, syslog_severity, match_type, priority, prod_handling, \
                      dev_handling, team_assignment, is_active FROM alert_rules";

#[async_trait]
impl RuleBook for ConfigDb {
    async fn version(&self) -> StoreResult<u64> {
        let version: i64 = self
            .read(|connection| {
                let mut statement = connection.prepare_cached("SELECT value FROM versions WHERE name = 'ruling'")?;
                Ok(statement.query_row([], |row| row.get(0))?)
            })
            .await?;
        Ok(u64::try_from(version).unwrap_or(0))
    }

    async fn list(&self) -> StoreResult<(Vec<Rule>, Vec<String>)> {
        self.read(|connection| {
            let (mut rules, mut unreadable) = (Vec::new(), Vec::new());
            let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY priority, id"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match read_rule(row) {
                    Ok(rule) => rules.push(rule),
                    Err(why) => unreadable.push(why),
                }
            }
            Ok((rules, unreadable))
        })
        .await
    }

    async fn get(&self, id: RuleId) -> StoreResult<Rule> {
        let found = self
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
                Ok(statement.query_row([id.0], |row| Ok(read_rule(row))).optional()?)
            })
            .await?;
        found.ok_or_else(|| missing(id))?.map_err(StoreError::Invalid)
    }

    async fn create(&self, drafts: Vec<RuleDraft>, change: &Change) -> StoreResult<Vec<Rule>> {
        drafts.iter().try_for_each(validate)?;
        let change = change.clone();
        self.write(move |transaction, now| {
            let mut rules = Vec::with_capacity(drafts.len());
            for draft in drafts {
                let id = RuleId(insert(transaction, &draft)?);
                let new = row_values(transaction, RULES, &id.0)?;
                let entry = Entry { table: RULES, record_id: &id.to_string(), old: None, new };
                log_change(transaction, now, &change, &entry)?;
                rules.push(Rule { id, draft });
            }
            Ok(rules)
        })
        .await
    }

    async fn close(&self) -> StoreResult<()> {
        self.finish().await
    }
}

/// A rule as it is within a transaction, or what is wrong with its row.
pub(super) fn find(transaction: &Transaction<'_>, id: RuleId) -> Result<Result<Rule, String>, Fault> {
    let mut statement = transaction.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    let found = statement.query_row([id.0], |row| Ok(read_rule(row))).optional()?;
    found.ok_or_else(|| missing(id).into())
}

fn missing(id: RuleId) -> StoreError {
    StoreError::NotFound { what: "rule", key: id.to_string() }
}

pub(super) fn validate(draft: &RuleDraft) -> StoreResult<()> {
    draft.validate().map_err(|error| StoreError::Invalid(error.to_string()))
}

pub(super) fn insert(transaction: &Transaction<'_>, draft: &RuleDraft) -> Result<i64, Fault> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO alert_rules (match_string, trap_oid, syslog_severity, match_type, priority, prod_handling, \
         dev_handling, team_assignment, is_active) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let id = statement.insert(params![
        draft.match_string,
        draft.trap_oid.as_ref().map(Oid::to_string),
        draft.syslog_severity.map(Severity::number),
        draft.match_type.name(),
        draft.priority,
        draft.prod_handling.as_str(),
        draft.dev_handling.as_str(),
        draft.team_assignment.as_str(),
        draft.is_active,
    ])?;
    Ok(id)
}

pub(super) fn replace(transaction: &Transaction<'_>, rule: &Rule) -> Result<(), Fault> {
    let draft = &rule.draft;
    let mut statement = transaction.prepare_cached(
        "UPDATE alert_rules SET match_string = ?1, trap_oid = ?2, syslog_severity = ?3, match_type = ?4, priority = ?5, \
         prod_handling = ?6, dev_handling = ?7, team_assignment = ?8, is_active = ?9 WHERE id = ?10",
    )?;
    statement.execute(params![
        draft.match_string,
        draft.trap_oid.as_ref().map(Oid::to_string),
        draft.syslog_severity.map(Severity::number),
        draft.match_type.name(),
        draft.priority,
        draft.prod_handling.as_str(),
        draft.dev_handling.as_str(),
        draft.team_assignment.as_str(),
        draft.is_active,
        rule.id.0,
    ])?;
    Ok(())
}

/// A row as a rule, or what is wrong with it, naming the rule and the column.
fn read_rule(row: &Row<'_>) -> Result<Rule, String> {
    let id: i64 = row.get(0).map_err(|error| format!("a rule's id cannot be read: {error}"))?;
    let draft = read_draft(row).map_err(|why| format!("rule {id} cannot be read: {why}; correct or delete it"))?;
    Ok(Rule { id: RuleId(id), draft })
}

fn read_draft(row: &Row<'_>) -> Result<RuleDraft, String> {
    let text = |index: usize| row.get::<_, String>(index).map_err(|error| error.to_string());
    let optional = |index: usize| row.get::<_, Option<String>>(index).map_err(|error| error.to_string());
    let severity = row.get::<_, Option<u8>>(3).map_err(|error| error.to_string())?;
    let syslog_severity = match severity {
        None => None,
        Some(number) => {
            Some(Severity::new(number).ok_or_else(|| format!("syslog_severity {number} is not from 0 to 7"))?)
        }
    };
    let trap_oid = optional(2)?.map(|oid| oid.parse::<Oid>().map_err(|error| error.to_string())).transpose()?;
    let draft = RuleDraft {
        match_string: optional(1)?,
        trap_oid,
        syslog_severity,
        match_type: text(4)?.parse::<MatchType>().map_err(|error| error.to_string())?,
        priority: row.get(5).map_err(|error| error.to_string())?,
        prod_handling: Handling::new(&text(6)?).map_err(|error| error.to_string())?,
        dev_handling: Handling::new(&text(7)?).map_err(|error| error.to_string())?,
        team_assignment: Team::new(&text(8)?).map_err(|error| error.to_string())?,
        is_active: row.get(9).map_err(|error| error.to_string())?,
    };
    draft.validate().map_err(|error| error.to_string())?;
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{ConfigEdit, ConfigEdits};

    #[tokio::test]
    async fn a_rule_that_was_edited_into_nonsense_is_reported_and_the_others_serve() {
        let folder = tempfile::tempdir().unwrap();
        let database = ConfigDb::open(&folder.path().join("config.db"), Clock::system()).unwrap();
        database
            .write(|transaction, _| {
                for (oid, severity, team) in [("1.3.6", "3", "NETO"), ("1.x", "3", "NETO"), ("1.3.6", "9", "NETO"), ("1.3.6", "1", "")] {
                    transaction.execute(
                        "INSERT INTO alert_rules VALUES (NULL, NULL, ?1, ?2, 'oid_prefix', 1, 'Ignore', 'Ignore', ?3, 1)",
                        [oid, severity, team],
                    )?;
                }
                Ok(())
            })
            .await
            .unwrap();
        let (rules, unreadable) = database.list().await.unwrap();
        assert_eq!(rules.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(unreadable.len(), 3);
        assert!(unreadable[0].starts_with("rule 2 cannot be read"), "{unreadable:?}");
        // A broken rule can still be replaced and removed, and its old columns are in the change log.
        let change = Change::new("test", "c");
        let mended = Rule { id: RuleId(2), draft: rules[0].draft.clone() };
        let edits = vec![ConfigEdit::ReplaceRule(mended), ConfigEdit::RemoveRule(RuleId(3))];
        database.apply(edits, &change).await.unwrap();
        assert!(matches!(database.get(RuleId(4)).await, Err(StoreError::Invalid(_))));
        assert_eq!(database.list().await.unwrap().1.len(), 1);
    }
}
