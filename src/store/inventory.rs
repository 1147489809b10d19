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

/// The two lists; every mutation writes its line in the change log in the same transaction. Changing and forgetting teams
/// are [`super::ConfigEdits`]'.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Every development host, by name.
    async fn dev_hosts(&self) -> StoreResult<Vec<DevHost>>;

    /// Lists a host as development host; `Exists` if it is.
    async fn add_dev_host(&self, hostname: &str, change: &Change) -> StoreResult<DevHost>;

    /// Takes a host off the list; `NotFound` if it is not on it.
    async fn remove_dev_host(&self, hostname: &str, change: &Change) -> StoreResult<()>;

    /// Every host with a team, by name.
    async fn device_teams(&self) -> StoreResult<Vec<DeviceTeam>>;

    /// Gives a new host its team; `Exists` if it has one.
    async fn add_device_team(&self, row: DeviceTeam, change: &Change) -> StoreResult<DeviceTeam>;
}
