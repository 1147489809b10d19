//! Development hosts and device teams in `config.db`.

use async_trait::async_trait;
use rusqlite::{Connection, Row, ToSql, Transaction, params, params_from_iter};

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use super::connect::Fault;
use crate::model::{Team, host_key};
use crate::store::{Change, DevHost, DeviceTeam, HostQuery, Inventory, StoreError, StoreResult};
use tracing::warn;

pub(super) const DEV_HOSTS: Table =
    Table { name: "development_hosts", key: "hostname", columns: &["hostname"], truths: &[], rules_decisions: true };

pub(super) const TEAMS: Table = Table {
    name: "device_teams",
    key: "hostname",
    columns: &["hostname", "team_assignment"],
    truths: &[],
    rules_decisions: true,
};

/// Longest host name, in bytes (RFC 1035 section 2.3.4 has 255 with length bytes).
const MAX_HOST: usize = 255;

/// The statement that reads hosts of one of the lists. Each restriction but the part of a name is a seek in the key.
fn listing(table: Table, query: &HostQuery) -> (String, Vec<Box<dyn ToSql>>) {
    let mut sql = format!("SELECT {} FROM {} WHERE 1", table.columns.join(", "), table.name);
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    for (condition, value) in [
        (" AND hostname = ?", &query.exactly),
        (" AND hostname > ?", &query.after),
        (" AND instr(hostname, ?) > 0", &query.part),
    ] {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(Box::new(value.clone()));
        }
    }
    sql.push_str(" ORDER BY hostname");
    if let Some(limit) = query.limit {
        sql.push_str(" LIMIT ?");
        values.push(Box::new(limit));
    }
    (sql, values)
}

fn count(connection: &Connection, table: Table) -> Result<u64, Fault> {
    let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {}", table.name), [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

#[async_trait]
impl Inventory for ConfigDb {
    async fn dev_hosts(&self, query: &HostQuery) -> StoreResult<Vec<DevHost>> {
        let query = query.clone();
        self.read(move |connection| {
            let (sql, values) = listing(DEV_HOSTS, &query);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| Ok(DevHost { hostname: row.get(0)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn count_dev_hosts(&self) -> StoreResult<u64> {
        self.read(|connection| count(connection, DEV_HOSTS)).await
    }

    async fn add_dev_host(&self, hostname: &str, change: &Change) -> StoreResult<DevHost> {
        let (hostname, change) = (checked_host(hostname)?, change.clone());
        self.write(move |transaction, now| {
            if row_values(transaction, DEV_HOSTS, &hostname)?.is_some() {
                return Err(StoreError::Exists { what: "development host", key: hostname }.into());
            }
            transaction.execute("INSERT INTO development_hosts VALUES (?1)", [&hostname])?;
            let new = row_values(transaction, DEV_HOSTS, &hostname)?;
            log_change(transaction, now, &change, &Entry { table: DEV_HOSTS, record_id: &hostname, old: None, new })?;
            Ok(DevHost { hostname })
        })
        .await
    }

    async fn remove_dev_host(&self, hostname: &str, change: &Change) -> StoreResult<()> {
        let (hostname, change) = (host_key(hostname), change.clone());
        self.write(move |transaction, now| {
            let Some(old) = row_values(transaction, DEV_HOSTS, &hostname)? else {
                return Err(StoreError::NotFound { what: "development host", key: hostname }.into());
            };
            transaction.execute("DELETE FROM development_hosts WHERE hostname = ?1", [&hostname])?;
            let entry = Entry { table: DEV_HOSTS, record_id: &hostname, old: Some(old), new: None };
            log_change(transaction, now, &change, &entry)
        })
        .await
    }

    async fn count_device_teams(&self) -> StoreResult<u64> {
        self.read(|connection| count(connection, TEAMS)).await
    }

    async fn device_teams(&self, query: &HostQuery) -> StoreResult<Vec<DeviceTeam>> {
        let query = query.clone();
        self.read(move |connection| {
            let (sql, values) = listing(TEAMS, &query);
            let mut statement = connection.prepare_cached(&sql)?;
            let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let rows = statement.query_map(params_from_iter(values), read)?;
            let mut teams = Vec::new();
            for row in rows {
                let (hostname, team) = row?;
                match Team::new(&team) {
                    Ok(team_assignment) => teams.push(DeviceTeam { hostname, team_assignment }),
                    Err(error) => {
                        warn!(hostname, reason = %error, "the team of {hostname} cannot be read and is left out")
                    }
                }
            }
            Ok(teams)
        })
        .await
    }

    async fn add_device_team(&self, row: DeviceTeam, change: &Change) -> StoreResult<DeviceTeam> {
        let (hostname, change) = (checked_host(&row.hostname)?, change.clone());
        self.write(move |transaction, now| {
            if row_values(transaction, TEAMS, &hostname)?.is_some() {
                return Err(StoreError::Exists { what: "device team", key: hostname }.into());
            }
            let row = DeviceTeam { hostname, ..row };
            put_team(transaction, &row)?;
            let new = row_values(transaction, TEAMS, &row.hostname)?;
            log_change(transaction, now, &change, &Entry { table: TEAMS, record_id: &row.hostname, old: None, new })?;
            Ok(row)
        })
        .await
    }
}

pub(super) fn put_team(transaction: &Transaction<'_>, row: &DeviceTeam) -> rusqlite::Result<usize> {
    transaction.execute(
        "INSERT INTO device_teams VALUES (?1, ?2) ON CONFLICT (hostname) DO UPDATE SET team_assignment = excluded.team_assignment",
        params![row.hostname, row.team_assignment.as_str()],
    )
}

pub(super) fn checked_host(hostname: &str) -> StoreResult<String> {
    let hostname = host_key(hostname);
    let why = if hostname.is_empty() {
        "it is empty"
    } else if hostname.len() > MAX_HOST {
        "it is longer than 255 bytes"
    } else if hostname.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "it contains blanks or control characters"
    } else {
        return Ok(hostname);
    };
    let shown: String = hostname.chars().take(60).collect();
    Err(StoreError::Invalid(format!("hostname `{}` cannot be used: {why}", shown.escape_debug())))
}
