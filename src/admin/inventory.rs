//! Development hosts and device teams: list and change. Hosts are compared and kept as
//! [`crate::model::host_key`] makes them, so that `Core1.` and `core1` are one host.

use super::{Actor, Admin, AdminError};
use crate::model::{Team, host_key};
use crate::store::{ConfigEdit, DevHost, DeviceTeam, HostQuery};

/// Longest host name in bytes (RFC 1035 section 2.3.4).
const MAX_HOSTNAME: usize = 255;

/// Some hosts of one of the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPage<T> {
    /// By name.
    pub rows: Vec<T>,
    /// Hosts in the list, whatever was asked for.
    pub total: u64,
    /// Where to go on, as [`HostQuery::after`]; `None` at the end.
    pub next: Option<String>,
}

/// The query as the store is asked: in the form names are kept in, and one host more, to see whether there are any.
fn asked(query: &HostQuery) -> HostQuery {
    HostQuery {
        part: query.part.as_deref().map(str::to_ascii_lowercase),
        limit: query.limit.map(|limit| limit.saturating_add(1)),
        ..query.clone()
    }
}

fn page<T>(query: &HostQuery, mut rows: Vec<T>, total: u64, name: impl Fn(&T) -> &String) -> HostPage<T> {
    let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(|row| name(row).clone()) } else { None };
    HostPage { rows, total, next }
}

impl Admin {
    /// Every development host.
    pub async fn dev_hosts(&self) -> Result<Vec<DevHost>, AdminError> {
        Ok(self.parts.stores.inventory.dev_hosts(&HostQuery::default()).await?)
    }

    /// Some development hosts, by name.
    pub async fn dev_hosts_page(&self, query: &HostQuery) -> Result<HostPage<DevHost>, AdminError> {
        let inventory = &self.parts.stores.inventory;
        let rows = inventory.dev_hosts(&asked(query)).await?;
        Ok(page(query, rows, inventory.count_dev_hosts().await?, |row| &row.hostname))
    }

    /// Whether a host is a development host.
    pub async fn dev_host(&self, hostname: &str) -> Result<DevHost, AdminError> {
        let key = host_key(hostname);
        let found = self.parts.stores.inventory.dev_hosts(&HostQuery::one(&key)).await?;
        found.into_iter().next().ok_or(AdminError::NotFound { what: "development host", key })
    }

    /// Lists a host as development host.
    pub async fn add_dev_host(
        &self,
        hostname: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<DevHost, AdminError> {
        let host = checked_host(hostname)?;
        let added = self.parts.stores.inventory.add_dev_host(&host, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(added)
    }

    /// Takes a host off the list of development hosts.
    pub async fn remove_dev_host(&self, hostname: &str, actor: &Actor, reason: Option<&str>) -> Result<(), AdminError> {
        self.parts.stores.inventory.remove_dev_host(&host_key(hostname), &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(())
    }

    /// Every host with a team.
    pub async fn device_teams(&self) -> Result<Vec<DeviceTeam>, AdminError> {
        Ok(self.parts.stores.inventory.device_teams(&HostQuery::default()).await?)
    }

    /// Some hosts with a team, by name.
    pub async fn device_teams_page(&self, query: &HostQuery) -> Result<HostPage<DeviceTeam>, AdminError> {
        let inventory = &self.parts.stores.inventory;
        let rows = inventory.device_teams(&asked(query)).await?;
        Ok(page(query, rows, inventory.count_device_teams().await?, |row| &row.hostname))
    }

    /// A host's team.
    pub async fn device_team(&self, hostname: &str) -> Result<DeviceTeam, AdminError> {
        let key = host_key(hostname);
        let found = self.parts.stores.inventory.device_teams(&HostQuery::one(&key)).await?;
        found.into_iter().next().ok_or(AdminError::NotFound { what: "device team", key })
    }

    /// Gives a host without one its team.
    pub async fn add_device_team(
        &self,
        hostname: &str,
        team: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<DeviceTeam, AdminError> {
        let row = DeviceTeam { hostname: checked_host(hostname)?, team_assignment: checked_team(team)? };
        let added = self.parts.stores.inventory.add_device_team(row, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(added)
    }

    /// Gives a host another team; with `expected` only if its row has one of these tags.
    pub async fn update_device_team(
        &self,
        hostname: &str,
        team: &str,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<DeviceTeam, AdminError> {
        let row = DeviceTeam { hostname: host_key(hostname), team_assignment: checked_team(team)? };
        let expects = ConfigEdit::ExpectTeam(row.hostname.clone(), expected.unwrap_or_default());
        let edits = vec![expects, ConfigEdit::PutTeam(row.clone())];
        self.parts.stores.edits.apply(edits, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(row)
    }

    /// Forgets a host's team; with `expected` only if its row has one of these tags.
    pub async fn remove_device_team(
        &self,
        hostname: &str,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        let host = host_key(hostname);
        let expects = ConfigEdit::ExpectTeam(host.clone(), expected.unwrap_or_default());
        let edits = vec![expects, ConfigEdit::RemoveTeam(host)];
        self.parts.stores.edits.apply(edits, &actor.change(reason)?).await?;
        self.parts.changed.notify_one();
        Ok(())
    }
}

pub(super) fn checked_team(text: &str) -> Result<Team, AdminError> {
    Team::new(text).map_err(|error| AdminError::name("team_assignment", &error))
}

pub(super) fn checked_host(text: &str) -> Result<String, AdminError> {
    let host = host_key(text);
    let invalid = |why: &str| Err(AdminError::invalid("hostname", why));
    if host.is_empty() {
        return invalid("it is empty; give the host name as it appears in events");
    }
    if host.len() > MAX_HOSTNAME {
        return invalid("it is longer than 255 bytes");
    }
    if host.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return invalid("it contains blanks or control characters");
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(checked_host(text).ok().as_deref(), expected, "{text:?}");
    }

    #[test]
    fn hosts_are_kept_in_the_form_they_are_compared_in() {
        check(" Core1.Example.NET. ", Some("core1.example.net"));
        check("10.0.0.1", Some("10.0.0.1"));
        check("", None);
        check(" . ", None);
        check("two words", None);
        check("nul\0", None);
        check(&"x".repeat(256), None);
    }
}
