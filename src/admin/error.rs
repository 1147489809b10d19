//! What can go wrong for an operator, told so that the caller knows whom to blame. Holds no state.

use std::time::Duration;

use crate::model::{InvalidName, InvalidRule};
use crate::queue::QueueError;
use crate::store::StoreError;

/// A request of an operator that was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// There is no such thing; nothing was changed.
    #[error("{what} `{key}` does not exist")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// It is there already; nothing was changed.
    #[error("{what} `{key}` exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// There is no such setting; nothing was changed.
    #[error("there is no setting `{key}`{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    NoSetting {
        /// What was asked for.
        key: String,
        /// A key that is called much the same.
        near: Option<String>,
    },
    /// Whoever it is does not get in.
    #[error("{0}")]
    NotLetIn(String),
    /// It was decided on what is no longer so; nothing was changed.
    #[error("{0}")]
    Outdated(String),
    /// It was decided on a row that is another one by now; nothing was changed.
    #[error("{what} `{key}` was changed meanwhile; look at it and decide again")]
    Stale {
        /// The kind of thing.
        what: &'static str,
        /// Its key.
        key: String,
        /// The tag of what is there now.
        tag: String,
    },
    /// Items of a list are at fault; nothing was changed.
    #[error("{} of the items cannot be carried out; nothing was changed", .0.len())]
    Items(Vec<ItemFault>),
    /// It cannot be done to what is there, or not from here; nothing was changed.
    #[error("{0}")]
    Conflict(String),
    /// The input is at fault; nothing was changed.
    #[error("{why}")]
    Invalid {
        /// The member at fault, as in the API, when there is one.
        field: Option<String>,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Name, password or one-time token is wrong; which of them is not told.
    #[error("the user name or the password is wrong")]
    BadLogin,
    /// The one-time set-up token is wrong, used or too old.
    #[error("this set-up link is not valid any more; make a new one on the appliance with `muttd setup-link`")]
    BadSetupToken,
    /// Try again later.
    #[error("too many failed tries; try again in {} s", after.as_secs().max(1))]
    TooManyTries {
        /// When the next try is looked at.
        after: Duration,
    },
    /// Storage or another part of the program fails; the input was fine.
    #[error("{0}")]
    Unavailable(String),
}

/// What is wrong with one item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFault {
    /// Its place, from 0.
    pub index: usize,
    /// Its member at fault, when there is one.
    pub field: Option<String>,
    /// What is wrong and what would be right.
    pub why: String,
}

impl ItemFault {
    /// An error as the fault of an item.
    pub fn new(index: usize, error: &AdminError) -> Self {
        let field = match error {
            AdminError::Invalid { field, .. } => field.clone(),
            _ => None,
        };
        Self { index, field, why: error.to_string() }
    }
}

impl AdminError {
    /// A fault in the member `field`.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field.into()), why: why.into() }
    }

    /// The same fault, of a member within `place` (`rules[3]`).
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Invalid { field: Some(field), why } => Self::Invalid { field: Some(format!("{place}.{field}")), why },
            Self::Invalid { field: None, why } => Self::Invalid { field: Some(place.to_owned()), why },
            other => other,
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what, key } => Self::NotFound { what, key },
            StoreError::Exists { what, key } => Self::Exists { what, key },
            StoreError::Stale { what, key, tag } => Self::Stale { what, key, tag },
            StoreError::Conflict(why) => Self::Conflict(why),
            StoreError::Invalid(why) => Self::Invalid { field: None, why },
            StoreError::Unavailable { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<QueueError> for AdminError {
    fn from(error: QueueError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<InvalidRule> for AdminError {
    fn from(error: InvalidRule) -> Self {
        Self::invalid(error.field, error.why)
    }
}

impl AdminError {
    /// A name that cannot be used, found in the member `field`.
    pub fn name(field: &'static str, error: &InvalidName) -> Self {
        Self::invalid(field, error.to_string())
    }
}
