//! Delivery targets kept at run time, at rest. What a definition may say is not known here.

/// The table of kept targets, in the change log.
pub const TARGETS_TABLE: &str = "delivery_targets";

/// A target that is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTarget {
    /// Its name.
    pub name: String,
    /// Its kind, for people who look at the table.
    pub kind: String,
    /// What stands below `[[targets]]` in a file, as it was written.
    pub definition: String,
    /// Whether it is spoken to.
    pub enabled: bool,
}
