//! How a delivery target is, as whoever probes it publishes it. Plain data; keeps nothing, so a crash forgets it and the
//! next probe tells anew.

use super::{TargetName, Timestamp};

/// What the last probe of a target found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The target.
    pub target: TargetName,
    /// Whether it answered as a receiver that takes alerts does.
    pub healthy: bool,
    /// When it was asked; `None` before the first probe.
    pub checked_at: Option<Timestamp>,
    /// Why it is not healthy, for people: no key and no URL in it. Empty while it is healthy.
    pub why: String,
}

impl Health {
    /// Nothing is known yet, which counts as not healthy: nobody sends to a receiver that was never asked.
    pub fn unknown(target: TargetName) -> Self {
        Self { target, healthy: false, checked_at: None, why: "it was not asked yet".to_owned() }
    }

    /// What a probe found at `at`; an error says why the target is not healthy.
    pub fn probed(target: TargetName, at: Timestamp, outcome: Result<(), String>) -> Self {
        Self { target, healthy: outcome.is_ok(), checked_at: Some(at), why: outcome.err().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_healthy_only_after_a_probe_that_succeeded() {
        let name = || TargetName::new("moogsoft").expect("a valid name");
        let at = Timestamp::from_millis(1);
        let told = |health: Health| (health.healthy, health.checked_at, health.why.is_empty());
        assert_eq!(told(Health::unknown(name())), (false, None, false));
        assert_eq!(told(Health::probed(name(), at, Ok(()))), (true, Some(at), true));
        assert_eq!(told(Health::probed(name(), at, Err("503".into()))), (false, Some(at), false));
    }
}
