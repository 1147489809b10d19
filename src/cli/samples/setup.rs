//! The rules, development hosts and teams that make sense of the sample messages.
//!
//! Plain data; who installs it decides where it goes.

use crate::model::{Handling, MatchType, Oid, RuleDraft, Team};

/// What a demonstration starts with.
#[derive(Debug, Clone)]
pub struct SampleSetup {
    /// Rules, most urgent first.
    pub rules: Vec<RuleDraft>,
    /// Hosts whose events take the `dev` handling.
    pub dev_hosts: Vec<String>,
    /// Hosts and the teams that look after them.
    pub teams: Vec<(String, Team)>,
}

/// One rule as a line of a table.
struct Line {
    priority: i32,
    match_type: MatchType,
    /// Text or regular expression; for `oid_prefix` the OID.
    pattern: &'static str,
    prod: Handling,
    dev: &'static str,
    team: &'static str,
}

/// The sample rules, development hosts and teams.
pub fn sample_setup() -> SampleSetup {
    let teams = [
        ("core-sw-01", "NETWORK"),
        ("core-sw-02", "NETWORK"),
        ("edge-rtr-ams", "NETWORK"),
        ("edge-rtr-fra", "NETWORK"),
        ("fw-dmz-01", "SECURITY"),
        ("nas-01", "STORAGE"),
        ("app-db-01", "SERVERS"),
        ("app-web-03", "SERVERS"),
    ];
    SampleSetup {
        rules: lines().into_iter().filter_map(draft).collect(),
        dev_hosts: ["lab-sw-09", "lab-web-01"].map(str::to_owned).to_vec(),
        teams: teams.into_iter().filter_map(|(host, team)| Some((host.to_owned(), Team::new(team).ok()?))).collect(),
    }
}

fn lines() -> Vec<Line> {
    use Handling::{PageAndTicket, PageOnly, TicketOnly};
    use MatchType::{Contains, OidPrefix, Regex};
    let ignore = || Handling::Other("Ignore".to_owned());
    let line = |priority, match_type, pattern, prod, dev, team| Line { priority, match_type, pattern, prod, dev, team };
    vec![
        line(10, OidPrefix, "1.3.6.1.2.1.33.2", PageAndTicket, "Ticket_only", "FACILITIES"),
        line(20, Regex, r"%BGP-5-ADJCHANGE: neighbor \S+ Down", PageAndTicket, "Ignore", "NETWORK"),
        line(30, Contains, "out of memory: killed process", PageOnly, "Ignore", "SERVERS"),
        line(40, Contains, "%LINK-3-UPDOWN", TicketOnly, "Ignore", "NETWORK"),
        line(50, OidPrefix, "1.3.6.1.6.3.1.1.5.3", TicketOnly, "Ignore", "NETWORK"),
        line(60, Regex, r"volume \S+ is 9\d% full", TicketOnly, "Ignore", "STORAGE"),
        line(70, Regex, r"failed password for (invalid user )?\S+ from", TicketOnly, "Ignore", "SECURITY"),
        line(80, OidPrefix, "1.3.6.1.4.1.9.9.43.2", ignore(), "Ignore", "NETWORK"),
        line(90, Contains, "session opened for user", ignore(), "Ignore", "SERVERS"),
    ]
}

/// A table line as a draft; the tests prove that each one is valid.
fn draft(line: Line) -> Option<RuleDraft> {
    let by_oid = line.match_type == MatchType::OidPrefix;
    let trap_oid = if by_oid { Some(line.pattern.parse::<Oid>().ok()?) } else { None };
    Some(RuleDraft {
        match_string: (!by_oid).then(|| line.pattern.to_owned()),
        trap_oid,
        syslog_severity: None,
        match_type: line.match_type,
        priority: line.priority,
        prod_handling: line.prod,
        dev_handling: Handling::new(line.dev).ok()?,
        team_assignment: Team::new(line.team).ok()?,
        is_active: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_table_is_lost() {
        let setup = sample_setup();
        assert_eq!(setup.rules.len(), lines().len());
        assert_eq!(setup.teams.len(), 8);
    }
}
