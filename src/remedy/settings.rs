//! What the remediation may be told.

use std::time::Duration;

use crate::model::Team;

/// Intervals and bounds; each field names its key in the dynamic configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `remediation_enabled`: whether it runs by itself; on request it always does.
    pub enabled: bool,
    /// `remediation_interval`: from the end of one run to the next.
    pub interval: Duration,
    /// `remediation_batch_size`: letters put back in one run, at most.
    pub batch_size: usize,
    /// `max_poison_retries`: a letter that was put back so often and died again is not put back any more.
    pub max_poison_retries: u32,
    /// `health_probe_ttl`: how long the answer of a target to a probe counts.
    pub health_probe_ttl: Duration,
    /// `unhandled_default_team`: whom the report about poison messages goes to.
    pub team: Team,
}

impl Settings {
    /// The defaults, with the team that reports go to.
    pub fn for_team(team: Team) -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(300),
            batch_size: 1_000,
            max_poison_retries: 3,
            health_probe_ttl: Duration::from_secs(60),
            team,
        }
    }
}
