//! What the service levels ask for.

use super::counting::{Level, PerLevel};
use crate::model::Team;

/// Objectives, and the times that count as slow.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Share of good events asked for, above 0 and below 1, in the order of [`Level::ALL`].
    pub objectives: PerLevel<f64>,
    /// An HTTP ingest request that takes longer is bad, in seconds; a bound of the histogram.
    pub ingest_latency: f64,
    /// A delivery that takes longer is bad, in seconds; a bound of the histogram.
    pub forward_latency: f64,
    /// The team of alerts about service levels.
    pub team: Team,
}

impl Settings {
    /// The defaults, for this team.
    pub const fn for_team(team: Team) -> Self {
        Self { objectives: [0.999, 0.99, 0.995, 0.99, 0.999, 0.99], ingest_latency: 0.5, forward_latency: 2.0, team }
    }

    /// What is asked of a level.
    pub const fn objective(&self, level: Level) -> f64 {
        self.objectives[level.index()]
    }

    /// What decides how counters are read.
    pub(super) const fn latencies(&self) -> (f64, f64) {
        (self.ingest_latency, self.forward_latency)
    }
}
