//! What a verification of the change log found. Plain data; how the chain is made is `sqlite::trail`.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// The end of the change log at some moment: whoever keeps one can prove later that nothing before it was altered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailHead {
    /// Lines up to here.
    pub lines: u64,
    /// The number of the last one.
    pub last_id: i64,
    /// Its link in the chain: SHA-256, in hexadecimal.
    pub hash: String,
}

/// What was done to the log, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tampering {
    /// Columns of a line are not as they were written.
    Edited,
    /// A line stands under another number than it was written with.
    Moved,
    /// A line was not written by the appliance.
    Inserted,
    /// Lines are missing in the middle.
    Removed,
    /// Lines are missing at the end.
    Truncated,
    /// The link of a line was altered.
    Relinked,
    /// A line does not follow the one before it.
    Unlinked,
    /// The seal at the end of the chain is not what the appliance wrote.
    Seal,
    /// The anchor outside of the database does not fit, or is missing.
    Anchor,
    /// A head taken earlier is not in the chain.
    Head,
    /// The triggers that keep the log append-only are gone.
    Guard,
}

impl Tampering {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Moved => "moved",
            Self::Inserted => "inserted",
            Self::Removed => "removed",
            Self::Truncated => "truncated",
            Self::Relinked => "relinked",
            Self::Unlinked => "unlinked",
            Self::Seal => "seal",
            Self::Anchor => "anchor",
            Self::Head => "head",
            Self::Guard => "guard",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrailFault {
    /// What was done.
    pub kind: Tampering,
    /// The line; `None` if no single line is at fault.
    pub id: Option<i64>,
    /// When that line says it was written.
    pub changed_at: Option<Timestamp>,
    /// What differs, in words.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrailReport {
    /// When it ended.
    pub checked_at: Timestamp,
    /// The end of the chain as sealed.
    pub head: TrailHead,
    /// Lines there are, those that were cut off at the beginning included.
    pub lines: u64,
    /// Up to where lines were cut off because they had been kept long enough; `None` if the first is still there.
    pub cut: Option<TrailHead>,
    /// What is wrong, in the order it was found; no more than a hundred.
    pub faults: Vec<TrailFault>,
    /// How much is wrong in all.
    pub found: u64,
}

impl TrailReport {
    /// Whether nothing is wrong.
    pub const fn is_whole(&self) -> bool {
        self.found == 0
    }

    /// What is wrong, in one sentence; empty if nothing is.
    pub fn summary(&self) -> String {
        let Some(first) = self.faults.first() else { return String::new() };
        let line = first.id.map_or_else(String::new, |id| format!("line {id}: "));
        let more = match self.found {
            0 | 1 => String::new(),
            found => format!(" (and {} more)", found - 1),
        };
        format!("{line}{}{more}", first.why)
    }
}
