//! Development hosts and device teams in `config.db`.

use async_trait::async_trait;
use rusqlite::{Transaction, params};

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use crate::model::{Team, host_key};
use crate::store::{Change, DevHost, DeviceTeam, Inventory, StoreError, StoreResult};
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

#[async_trait]
impl Inventory for ConfigDb {
    async fn dev_hosts(&self) -> StoreResult<Vec<DevHost>> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT hostname FROM development_hosts ORDER BY hostname")?;
            let rows = statement.query_map([], |row| Ok(DevHost { hostname: row.get(0)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
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

    async fn device_teams(&self) -> StoreResult<Vec<DeviceTeam>> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT hostname, team_assignment FROM device_teams ORDER BY hostname")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
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
