//! What retention goes by.

use crate::model::Team;

/// How long things are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether the appliance runs retention by itself.
    pub enabled: bool,
    /// The hour of local time at which it does, 0 to 23.
    pub hour: u32,
    /// Whole days an event stays in the audit after its own.
    pub event_days: i64,
    /// Whole days an archive is kept after its own.
    pub archive_days: i64,
    /// Whole days a line of the change log is kept after its own.
    pub config_audit_days: i64,
    /// Bytes the archive may have; 0 for no limit.
    pub archive_max_bytes: u64,
    /// Bytes of rows the audit may have; 0 for no limit.
    pub audit_max_bytes: u64,
    /// Bytes of free disk below which no archive is written.
    pub min_free_bytes: u64,
    /// The team of notices about caps and failures.
    pub team: Team,
}

impl Settings {
    /// The defaults, for this team.
    pub const fn for_team(team: Team) -> Self {
        Self {
            enabled: true,
            hour: 2,
            event_days: 90,
            archive_days: 2_555,
            config_audit_days: 2_555,
            archive_max_bytes: 0,
            audit_max_bytes: 0,
            min_free_bytes: 256 << 20,
            team,
        }
    }
}
