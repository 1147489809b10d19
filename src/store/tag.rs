//! Tags of rows: a short text that differs when the row differs, by which a change can say what it was decided on. Pure.

use sha2::{Digest, Sha256};

use super::{DeviceTeam, KeptTarget};
use crate::model::Rule;

/// The tag of a rule.
pub fn rule_tag(rule: &Rule) -> String {
    tag(&format!("{rule:?}"))
}

/// The tag of a host's team.
pub fn team_tag(row: &DeviceTeam) -> String {
    tag(&format!("{row:?}"))
}

/// The tag of a kept target.
pub fn target_tag(target: &KeptTarget) -> String {
    tag(&format!("{target:?}"))
}

/// 64 bits of a hash: two states of one row that were mixed up would need some billion changes. What Debug prints has
/// every member in it; a version that prints otherwise only makes people look again once.
fn tag(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Team;

    #[test]
    fn a_tag_differs_when_any_member_does() {
        let row = |host: &str, team: &str| DeviceTeam {
            hostname: host.into(),
            team_assignment: Team::new(team).expect("a team"),
        };
        assert_eq!(team_tag(&row("a", "X")), team_tag(&row("a", "X")));
        assert_ne!(team_tag(&row("a", "X")), team_tag(&row("a", "Y")));
        assert_ne!(team_tag(&row("a", "X")), team_tag(&row("b", "X")));
        assert_eq!(team_tag(&row("a", "X")).len(), 16);
    }
}
