//! Who acts, and how that gets into the change log. Holds no state.

use std::net::IpAddr;

use super::AdminError;
use crate::store::{Change, Origin, Via};

/// Longest reason kept, in characters: a sentence or a ticket's number, not a document.
pub const MAX_REASON: usize = 500;

/// Who does something: a user of the pages, an API key or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The name in the change log.
    pub name: String,
    /// The request it comes with.
    pub correlation_id: String,
    origin: Origin,
}

impl Actor {
    /// An actor and the request it comes with.
    pub fn new(name: impl Into<String>, correlation_id: impl Into<String>) -> Self {
        Self { name: name.into(), correlation_id: correlation_id.into(), origin: Origin::default() }
    }

    /// The same actor, known to come by this door from this address.
    #[must_use]
    pub fn coming(mut self, via: Via, peer: IpAddr) -> Self {
        self.origin = Origin { via, peer: Some(peer) };
        self
    }

    /// What a store is told with a change; a blank reason is none.
    pub(super) fn change(&self, reason: Option<&str>) -> Result<Change, AdminError> {
        if reason.is_some_and(|reason| reason.chars().count() > MAX_REASON) {
            return Err(AdminError::invalid("reason", format!("it is longer than {MAX_REASON} characters")));
        }
        let reason = reason.and_then(legible).map(|reason| reason.replace(char::is_control, " "));
        Ok(Change { by: self.name.clone(), reason, correlation_id: self.correlation_id.clone(), origin: self.origin })
    }
}

/// A text without what cannot be seen around it; `None` if nothing is left.
pub(super) fn legible(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    (!text.is_empty()).then_some(text)
}

/// The reason of what cannot be taken back, which nobody may do without saying why; `wanted` asks for it.
pub(super) fn stated<'a>(reason: Option<&'a str>, wanted: &str) -> Result<&'a str, AdminError> {
    reason.and_then(legible).ok_or_else(|| AdminError::invalid("reason", wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_taken_back_wants_a_reason_that_can_be_read() {
        assert_eq!(stated(Some(" INC-7\n"), "say why").expect("stated"), "INC-7");
        for blank in [None, Some(""), Some(" \u{85}\0")] {
            let refused = stated(blank, "say why").expect_err("blank").to_string();
            assert!(refused.contains("say why"), "{refused}");
        }
    }

    #[test]
    fn a_blank_reason_is_none_and_a_long_one_is_refused() {
        let actor = Actor::new("alice", "c-1");
        assert_eq!(actor.change(Some("  ")).expect("valid").reason, None);
        assert_eq!(actor.change(Some("\u{85}\0 ")).expect("valid").reason, None);
        assert_eq!(actor.change(Some("\u{e4}")).expect("valid").reason.as_deref(), Some("\u{e4}"));
        assert_eq!(actor.change(Some(" INC-7\nx ")).expect("valid").reason.as_deref(), Some("INC-7 x"));
        let refused = actor.change(Some(&"x".repeat(MAX_REASON + 1)));
        assert!(matches!(refused, Err(AdminError::Invalid { field: Some(field), .. }) if field == "reason"));
    }
}
