//! Which alerts a target takes: by team, handling, host, severity, and whether a rule or their number made them. Pure.

use crate::model::{Alert, Cause, Handling, Severity, Team, host_key};

/// Longest pattern of a host name, and most of them in a route.
const MAX_PATTERN: usize = 255;
const MAX_PATTERNS: usize = 1_000;

/// What a target takes; every member that is given must agree. The default takes everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Alerts of these teams, in any case.
    pub teams: Option<Vec<Team>>,
    /// Alerts handled so.
    pub handlings: Option<Vec<Handling>>,
    /// Alerts of hosts that match one of these patterns: `*` is any text, `?` any character, case does not matter.
    pub hosts: Option<Vec<String>>,
    /// Alerts of events with one of these severities; one without a severity matches none.
    pub severities: Option<Vec<Severity>>,
    /// `true`: only alerts about too many unhandled events; `false`: all others.
    pub unhandled: Option<bool>,
    /// Nothing is sent here but what another target's failure leaves.
    pub only_fallback: bool,
}

impl Route {
    /// Whether it can be used; the error names the key.
    pub fn check(&self) -> Result<(), String> {
        let empty = [
            ("teams", self.teams.as_ref().is_some_and(Vec::is_empty)),
            ("handlings", self.handlings.as_ref().is_some_and(Vec::is_empty)),
            ("hosts", self.hosts.as_ref().is_some_and(Vec::is_empty)),
            ("severities", self.severities.as_ref().is_some_and(Vec::is_empty)),
        ];
        if let Some((name, _)) = empty.into_iter().find(|(_, empty)| *empty) {
            return Err(format!(
                "`{name}` in `route` is empty and would take nothing; leave it out, or say `only_fallback = true`"
            ));
        }
        let hosts = self.hosts.as_deref().unwrap_or_default();
        if hosts.len() > MAX_PATTERNS || hosts.iter().any(|pattern| pattern.is_empty() || pattern.len() > MAX_PATTERN) {
            return Err(format!(
                "`hosts` in `route` must be up to {MAX_PATTERNS} patterns of 1 to {MAX_PATTERN} characters"
            ));
        }
        Ok(())
    }

    /// Whether this alert goes to the target.
    pub fn takes(&self, alert: &Alert) -> bool {
        let team = |teams: &Vec<Team>| teams.iter().any(|team| team.as_str().eq_ignore_ascii_case(alert.team.as_str()));
        let host = |patterns: &Vec<String>| {
            let host = host_key(&alert.event.hostname);
            patterns.iter().any(|pattern| matches(&host_key(pattern), &host))
        };
        !self.only_fallback
            && self.teams.as_ref().is_none_or(team)
            && self.handlings.as_ref().is_none_or(|handlings| handlings.contains(&alert.handling))
            && self
                .severities
                .as_ref()
                .is_none_or(|severities| alert.event.severity.is_some_and(|s| severities.contains(&s)))
            && self.unhandled.is_none_or(|wanted| wanted == matches!(alert.cause, Cause::Unmatched { .. }))
            && self.hosts.as_ref().is_none_or(host)
    }
}

/// Whether a text matches a pattern with `*` and `?`. Each step either goes on or returns to the last `*`, so the time
/// is at most the product of both lengths, whatever the pattern.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: one character later.
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((after, from)) = back else { return false };
                back = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::fixtures::event;
    use crate::model::{Environment, RuleId};

    fn alert(host: &str) -> Alert {
        let mut event = event(host, "fan failed");
        event.severity = Severity::new(3);
        Alert {
            event,
            cause: Cause::Rule(RuleId(1)),
            environment: Environment::Prod,
            handling: Handling::PageOnly,
            team: Team::new("NETO").expect("a team"),
        }
    }

    fn check(route: &Route, alert: &Alert, expected: bool) {
        assert_eq!(route.check(), Ok(()));
        assert_eq!(route.takes(alert), expected, "{route:?}");
    }

    #[test]
    fn every_member_that_is_given_must_agree() {
        let alert = alert("Core-SW-1.example");
        let all = Route::default();
        check(&all, &alert, true);
        check(&Route { only_fallback: true, ..all.clone() }, &alert, false);
        let team = |name: &str| Route { teams: Some(vec![Team::new(name).expect("a team")]), ..Route::default() };
        check(&team("neto"), &alert, true);
        check(&team("SRE"), &alert, false);
        let handling = |handling| Route { handlings: Some(vec![handling]), ..team("NETO") };
        check(&handling(Handling::PageOnly), &alert, true);
        check(&handling(Handling::TicketOnly), &alert, false);
        let severity = |number| Route { severities: Severity::new(number).map(|s| vec![s]), ..Route::default() };
        check(&severity(3), &alert, true);
        check(&severity(4), &alert, false);
        let unhandled = |yes| Route { unhandled: Some(yes), ..Route::default() };
        check(&unhandled(false), &alert, true);
        check(&unhandled(true), &alert, false);
        let host = |pattern: &str| Route { hosts: Some(vec!["nowhere".into(), pattern.into()]), ..Route::default() };
        check(&host("core-*"), &alert, true);
        check(&host("edge-*"), &alert, false);
    }

    #[test]
    fn an_alert_without_severity_matches_no_severity() {
        let mut alert = alert("sw1");
        alert.event.severity = None;
        check(&Route { severities: Some(Severity::all().collect()), ..Route::default() }, &alert, false);
    }

    #[test]
    fn a_meta_alert_is_unhandled() {
        let mut alert = alert("sw1");
        alert.cause = Cause::Unmatched { signature: "x".into(), count: 9, window_seconds: 9 };
        check(&Route { unhandled: Some(true), ..Route::default() }, &alert, true);
        check(&Route { unhandled: Some(false), ..Route::default() }, &alert, false);
    }

    #[test]
    fn patterns_of_hosts_match_whole_names() {
        let check = |pattern: &str, host: &str, expected: bool| {
            assert_eq!(matches(pattern, host), expected, "{pattern} on {host}");
        };
        check("sw1", "sw1", true);
        check("sw1", "sw10", false);
        check("sw?", "sw1", true);
        check("sw?", "sw", false);
        check("*", "", true);
        check("*-sw-*", "core-sw-1", true);
        check("*-sw-*", "core-rt-1", false);
        check("a*b*c", "aXbXbXc", true);
        check("a*b*c", "aXbXbX", false);
        check("*.example.net", "sw1.example.net", true);
        check("*a*a*a*a*a*a*a*a*b", &"a".repeat(255), false);
    }

    #[test]
    fn a_route_that_takes_nothing_by_mistake_is_refused() {
        let error = Route { teams: Some(vec![]), ..Route::default() }.check().expect_err("empty");
        assert!(error.contains("teams"), "{error}");
        assert!(Route { hosts: Some(vec![String::new()]), ..Route::default() }.check().is_err());
    }
}
