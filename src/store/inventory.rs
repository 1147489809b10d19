//! Development hosts and device teams at rest. Hosts are kept as [`crate::model::host_key`] makes them.

use async_trait::async_trait;
use serde::Serialize;

use super::{Change, StoreResult};
use crate::model::Team;

/// A host whose events take the `dev` handling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DevHost {
    /// The host, as [`crate::model::host_key`] makes it.
    pub hostname: String,
}

/// Which team looks after a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceTeam {
    /// The host, as [`crate::model::host_key`] makes it.
    pub hostname: String,
    /// Its team.
    pub team_assignment: Team,
}

/// Which hosts of a list; members that are `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostQuery {
    /// This one.
    pub exactly: Option<String>,
    /// A part of the name.
    pub part: Option<String>,
    /// Only hosts after this one: where the last page ended.
    pub after: Option<String>,
    /// Hosts wanted, at most.
    pub limit: Option<u32>,
}

impl HostQuery {
    /// One host.
    pub fn one(hostname: &str) -> Self {
        Self { exactly: Some(hostname.to_owned()), limit: Some(1), ..Self::default() }
    }
}

/// The two lists; every mutation writes its line in the change log in the same transaction. Changing and forgetting teams
/// are [`super::ConfigEdits`]'.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Development hosts, by name.
    async fn dev_hosts(&self, query: &HostQuery) -> StoreResult<Vec<DevHost>>;

    /// How many there are.
    async fn count_dev_hosts(&self) -> StoreResult<u64>;

    /// Lists a host as development host; `Exists` if it is.
    async fn add_dev_host(&self, hostname: &str, change: &Change) -> StoreResult<DevHost>;

    /// Takes a host off the list; `NotFound` if it is not on it.
    async fn remove_dev_host(&self, hostname: &str, change: &Change) -> StoreResult<()>;

    /// Hosts with a team, by name.
    async fn device_teams(&self, query: &HostQuery) -> StoreResult<Vec<DeviceTeam>>;

    /// How many there are.
    async fn count_device_teams(&self) -> StoreResult<u64>;

    /// Gives a new host its team; `Exists` if it has one.
    async fn add_device_team(&self, row: DeviceTeam, change: &Change) -> StoreResult<DeviceTeam>;
}
