//! Everything a decision depends on, as one snapshot, and the decision itself.

use std::collections::{HashMap, HashSet};

use super::{RuleSet, Scratch};
use crate::model::{Decision, Environment, Event, Matched, Team, host_key};

/// Rules and hosts in force. Replaced as a whole, so that no event is judged by half a change.
#[derive(Debug, Default)]
pub struct Ruling {
    /// The rules.
    pub rules: RuleSet,
    /// Development hosts, as [`host_key`] makes them.
    pub dev_hosts: HashSet<String>,
    /// Teams of hosts, which are as [`host_key`] makes them.
    pub teams: HashMap<String, Team>,
}

impl Ruling {
    /// What is to be done with the event: the winning rule's handling for the host's environment, and its team.
    pub fn decide(&self, event: &Event, scratch: &mut Scratch) -> Decision {
        let environment = self.environment(&event.hostname);
        let matched = self.rules.judge(event, scratch).map(|rule| Matched {
            rule: rule.id,
            handling: rule.draft.handling(environment).clone(),
            team: rule.draft.team_assignment.clone(),
        });
        Decision { environment, matched }
    }

    /// Whether the host is a development host.
    pub fn environment(&self, host: &str) -> Environment {
        // Most sites list none; then the host's name need not be copied.
        if !self.dev_hosts.is_empty() && self.dev_hosts.contains(&host_key(host)) {
            Environment::Dev
        } else {
            Environment::Prod
        }
    }

    /// The team that looks after the host.
    pub fn team_of(&self, host: &str) -> Option<&Team> {
        self.teams.get(&host_key(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventIds, Handling, MatchType, Protocol, Rule, RuleDraft, RuleId, Source, Timestamp};

    fn ruling() -> Ruling {
        let rule = Rule {
            id: RuleId(7),
            draft: RuleDraft {
                match_string: Some("link down".into()),
                trap_oid: None,
                syslog_severity: None,
                match_type: MatchType::Contains,
                priority: 10,
                prod_handling: Handling::PageAndTicket,
                dev_handling: Handling::Other("Ignore".into()),
                team_assignment: Team::new("CORE").expect("a team"),
                is_active: true,
            },
        };
        let (rules, problems) = RuleSet::compile(&[rule]);
        assert_eq!(problems, []);
        let dev_hosts = HashSet::from(["lab-sw1".to_owned()]);
        let teams = HashMap::from([("edge1.example".to_owned(), Team::new("EDGE").expect("a team"))]);
        Ruling { rules, dev_hosts, teams }
    }

    fn check(host: &str, message: &str, expected: Option<(Environment, bool)>) {
        let peer = std::net::IpAddr::from([192, 0, 2, 1]);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let source = Source { protocol: Protocol::SyslogUdp, peer };
        let mut event = Event::new(EventIds::new(1).next(now), now, source);
        event.hostname = host.into();
        event.message = message.into();
        let decision = ruling().decide(&event, &mut Scratch::default());
        let seen = decision.matched.is_some().then(|| (decision.environment, decision.forwarded()));
        assert_eq!(seen, expected, "{host}: {message}");
    }

    #[test]
    fn the_environment_chooses_the_handling() {
        check("sw1", "LINK DOWN", Some((Environment::Prod, true)));
        check("LAB-SW1.", "link down", Some((Environment::Dev, false)));
        check("sw1", "link up", None);
    }

    #[test]
    fn a_host_is_found_whatever_its_case() {
        assert_eq!(ruling().team_of("EDGE1.example.").map(Team::as_str), Some("EDGE"));
        assert_eq!(ruling().team_of("edge2"), None);
    }
}
