//! What can go wrong with a store, told so that the caller knows what to do.

/// The result of every store call.
pub type StoreResult<T> = Result<T, StoreError>;

/// A store call that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No such row.
    #[error("{what} `{key}` does not exist")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// The row exists already.
    #[error("{what} `{key}` exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// It was decided on what is no longer so: look again.
    #[error("{what} `{key}` was changed meanwhile")]
    Stale {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
        /// The tag of what is there now.
        tag: String,
    },
    /// It cannot be done to what is there; the caller can change that first.
    #[error("{0}")]
    Conflict(String),
    /// The value cannot be stored as it is; the fault is the caller's.
    #[error("{0}")]
    Invalid(String),
    /// The disk is full, failing or the file is damaged: try again later, alarm someone.
    #[error("store `{store}` failed: {why}")]
    Unavailable {
        /// Which file or database.
        store: String,
        /// What the system said.
        why: String,
    },
}
