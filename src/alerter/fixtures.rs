//! Events and rules for the tests of this stage.

use std::sync::OnceLock;

use crate::model::{Event, EventIds, Handling, MatchType, Protocol, Rule, RuleDraft, RuleId, Source, Team, Timestamp};

/// When test events arrive.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An event with an id of its own.
pub(super) fn event(hostname: &str, message: &str) -> Event {
    static IDS: OnceLock<EventIds> = OnceLock::new();
    let id = IDS.get_or_init(|| EventIds::new(11)).next(NOW);
    let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 7].into() };
    let mut event = Event::new(id, NOW, source);
    event.hostname = hostname.into();
    event.message = message.into();
    event.raw = message.into();
    event
}

/// A rule that pages for messages which contain `text`, or does as `handling` says.
pub(super) fn rule(id: i64, text: &str, handling: &str) -> Rule {
    let draft = RuleDraft {
        match_string: Some(text.to_owned()),
        trap_oid: None,
        syslog_severity: None,
        match_type: MatchType::Contains,
        priority: 10,
        prod_handling: Handling::new(handling).expect("a handling"),
        dev_handling: Handling::Other("Ignore".into()),
        team_assignment: Team::new("CORE").expect("a team"),
        is_active: true,
    };
    Rule { id: RuleId(id), draft }
}
