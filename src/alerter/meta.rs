//! The meta-alert: too many events of one kind that no rule matched.
//!
//! Pure. Its id is derived from the event that reached the threshold, so making it again after a crash makes the same
//! alert, and its key names host and kind, so that receivers fold repeats.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Ruling, Settings};
use crate::model::{Alert, Cause, Decision, Event, Handling, Judged, Matched, Protocol, RuleId, Severity, Source};
use crate::store::Overrun;

/// The rule number that marks meta-alerts in the audit: no rule made them.
const NO_RULE: RuleId = RuleId(0);
/// Warning: someone should write a rule, nobody needs to be woken.
const SEVERITY: u8 = 4;

/// The alert for a counter that reached its threshold. Always a ticket: whether to page is for a rule to say.
pub(super) fn meta_alert(overrun: &Overrun, ruling: &Ruling, settings: &Settings) -> Alert {
    let kind = &overrun.kind;
    let team = ruling.team_of(&kind.hostname).unwrap_or(&settings.unhandled_default_team);
    let window = settings.unhandled_expiry;
    Alert {
        event: meta_event(overrun, window),
        cause: Cause::Unmatched {
            signature: kind.signature.to_string(),
            count: overrun.count,
            window_seconds: window.as_secs(),
        },
        environment: ruling.environment(&kind.hostname),
        handling: Handling::TicketOnly,
        team: team.clone(),
    }
}

/// The alert as audit and recent store keep it.
pub(super) fn judged(alert: &Alert) -> Judged {
    let matched = Matched { rule: NO_RULE, handling: alert.handling.clone(), team: alert.team.clone() };
    let decision = Decision { environment: alert.environment, matched: Some(matched) };
    Judged { event: alert.event.clone(), decision }
}

fn meta_event(overrun: &Overrun, window: Duration) -> Event {
    let kind = &overrun.kind;
    // No peer: it was made here.
    let source = Source { protocol: Protocol::Internal, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let mut event = Event::new(overrun.last.derived(), overrun.at, source);
    event.timestamp = Some(overrun.at);
    event.hostname = kind.hostname.compact();
    event.severity = Severity::new(SEVERITY);
    event.app_name = Some("muttd".into());
    event.message = format!(
        "{} events of one kind from {} matched no rule within {}: {}",
        overrun.count,
        kind.hostname,
        in_words(window),
        overrun.sample
    )
    .into();
    let fields = serde_json::json!({
        "signature": kind.signature,
        "count": overrun.count,
        "window_seconds": window.as_secs(),
        "window_start": overrun.window_start.to_string(),
        "sample": overrun.sample,
    });
    event.fields = Some(fields.to_string().into());
    event
}

/// A duration as people say it: the largest unit that leaves no rest.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        _ if seconds >= 3_600 && seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        _ if seconds >= 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::fixtures::{NOW, event};
    use crate::model::Team;
    use crate::store::Kind;

    fn overrun(hostname: &str) -> Overrun {
        let last = event(hostname, "Fan 3 failed").id;
        let kind = Kind { hostname: hostname.into(), signature: "Fan <n> failed".into() };
        Overrun { kind, last, at: NOW, sample: "Fan 3 failed".into(), count: 100, window_start: NOW }
    }

    fn ruling() -> Ruling {
        let teams = [("sw1".to_owned(), Team::new("ACCESS").expect("a team"))].into();
        Ruling { teams, ..Ruling::default() }
    }

    #[test]
    fn it_goes_to_the_hosts_team_else_to_the_default_team() {
        let check = |host: &str, team: &str| {
            let alert = meta_alert(&overrun(host), &ruling(), &Settings::default());
            assert_eq!(alert.team.as_str(), team);
        };
        check("SW1", "ACCESS");
        check("sw2", "NETO");
    }

    #[test]
    fn it_tells_count_window_and_sample() {
        let alert = meta_alert(&overrun("sw1"), &ruling(), &Settings::default());
        assert_eq!(alert.event.message, "100 events of one kind from sw1 matched no rule within 24 h: Fan 3 failed");
        assert_eq!(alert.key(), "sw1:unhandled:Fan <n> failed");
        assert!(judged(&alert).decision.forwarded());
        assert_eq!(judged(&alert).decision.rule(), Some(RuleId(0)));
    }

    #[test]
    fn made_again_it_is_the_same() {
        let overrun = overrun("sw1");
        let make = || meta_alert(&overrun, &ruling(), &Settings::default());
        assert_eq!(make(), make());
        assert_ne!(make().event.id, overrun.last);
    }

    #[test]
    fn windows_are_told_in_their_largest_whole_unit() {
        let check = |seconds, expected: &str| assert_eq!(in_words(Duration::from_secs(seconds)), expected);
        check(86_400, "24 h");
        check(5_400, "90 min");
        check(45, "45 s");
        check(3_601, "3601 s");
    }
}
