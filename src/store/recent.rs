//! Every event of the last days (placeholder for its implementation).
/// Bounds of the recent store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentSettings {
    /// Bytes on disk, at most (`recent_max_bytes`).
    pub max_bytes: u64,
    /// Age in days, at most (`recent_max_days`).
    pub max_days: u32,
}
/// Every event of the last days.
pub struct Recent;
