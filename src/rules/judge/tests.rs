//! Judging compared with the plainest way of doing it, on rules and messages made to collide.

use proptest::prelude::*;

use super::*;
use crate::model::{EventIds, Handling, MatchType, Oid, Protocol, RuleDraft, RuleId, Source, Team, Timestamp, Trap};

fn event(message: &str, severity: Option<u8>, oid: Option<&str>) -> Event {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() };
    let mut event = Event::new(EventIds::new(1).next(now), now, source);
    event.message = message.into();
    event.severity = severity.and_then(Severity::new);
    event.trap = oid.map(|oid| {
        let (oid, version) = (oid.parse().expect("an oid"), "2c".into());
        Box::new(Trap { oid, varbinds: Vec::new(), agent: None, uptime: None, version, inform: false })
    });
    event
}

fn rule(id: i64, priority: i32, match_type: MatchType, text: Option<&str>, oid: Option<&str>) -> Rule {
    let draft = RuleDraft {
        match_string: text.map(str::to_owned),
        trap_oid: oid.map(|oid| oid.parse().expect("an oid")),
        syslog_severity: None,
        match_type,
        priority,
        prod_handling: Handling::PageOnly,
        dev_handling: Handling::Other("Ignore".into()),
        team_assignment: Team::new("NETO").expect("a team"),
        is_active: true,
    };
    Rule { id: RuleId(id), draft }
}

/// Rule by rule, with nothing shared but what "ignoring case" means.
fn judge_plainly(rules: &[Rule], event: &Event) -> Option<RuleId> {
    let mut matching: Vec<&Rule> = rules.iter().filter(|rule| matches_plainly(&rule.draft, event)).collect();
    matching.sort_by_key(|rule| (rule.draft.priority, rule.id));
    matching.first().map(|rule| rule.id)
}

fn matches_plainly(draft: &RuleDraft, event: &Event) -> bool {
    let text_holds = draft.match_string.as_ref().is_none_or(|text| {
        let pattern = if draft.match_type == MatchType::Regex { text.clone() } else { regex::escape(text) };
        let regex = regex::RegexBuilder::new(&pattern).case_insensitive(true).build().expect("a valid expression");
        regex.is_match(&event.message)
    });
    let oid_holds = draft.trap_oid.as_ref().is_none_or(|prefix: &Oid| {
        event.trap.as_ref().is_some_and(|trap| format!("{}.", trap.oid).starts_with(&format!("{prefix}.")))
    });
    draft.is_active
        && draft.syslog_severity.is_none_or(|wanted| event.severity == Some(wanted))
        && text_holds
        && oid_holds
}

fn text_strategy() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("link"),
        Just("LINK down"),
        Just("down"),
        Just("own"),
        Just("n"),
        Just("K"),
        Just("\u{212a}"),
        Just("ſ"),
        Just("s"),
        Just("Straße"),
        Just("STRASSE"),
        Just("ΣΊΣΥΦΟΣ"),
        Just("σίσυφος"),
        Just("İ"),
        Just("ı"),
        Just("i"),
        Just("接口"),
        Just(" "),
        Just("%FAN-3-FAILED"),
        Just("fan"),
        Just("failed"),
        Just("."),
        Just("42"),
        Just("é"),
        Just("\n"),
        Just("Ǆ"),
        Just("ǅ"),
    ];
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn pattern_strategy() -> impl Strategy<Value = String> {
    let tail = prop_oneof![
        Just(""),
        Just("*"),
        Just(".*down"),
        Just("$"),
        Just(r"\b"),
        Just("?"),
        Just(r"\d+"),
        Just("|fan"),
        Just("[^a]"),
        Just("{2}"),
        Just("(?-i:Down)"),
        Just("[a-c&&B-D]"),
        Just(r"\p{Lu}"),
        Just(r"(?:k|ſ)+"),
        Just("[K-N]own"),
    ];
    let head =
        prop_oneof![Just(""), Just("^"), Just(r"\b"), Just(".*"), Just("(?s)."), Just("x?"), Just("(?:up|link) ")];
    (head, text_strategy(), tail).prop_map(|(head, text, tail)| format!("{head}(?:{}){tail}", regex::escape(&text)))
}

const OIDS: [&str; 5] = ["1.3.6.1", "1.3.6.1.4.1.9", "1.3.6.1.4.1.99", "1.3.6.1.4.1.9.9.41", "1.3.6.1.6.3.1.1.5.3"];

fn draft_strategy() -> impl Strategy<Value = RuleDraft> {
    let condition = prop_oneof![
        4 => text_strategy().prop_map(|text| (MatchType::Contains, Some(text), None)),
        4 => pattern_strategy().prop_map(|pattern| (MatchType::Regex, Some(pattern), None)),
        1 => prop::sample::select(&OIDS[..]).prop_map(|oid| (MatchType::OidPrefix, None, Some(oid))),
        1 => (text_strategy(), prop::sample::select(&OIDS[..]))
            .prop_map(|(text, oid)| (MatchType::OidPrefix, Some(text), Some(oid))),
        1 => (pattern_strategy(), prop::sample::select(&OIDS[..]))
            .prop_map(|(pattern, oid)| (MatchType::Regex, Some(pattern), Some(oid))),
    ];
    (condition, -2..3_i32, prop::option::weighted(0.2, 0..8_u8), prop::bool::weighted(0.9)).prop_map(
        |((match_type, text, oid), priority, severity, is_active)| {
            let mut draft = rule(0, priority, match_type, text.as_deref(), oid).draft;
            draft.syslog_severity = severity.and_then(Severity::new);
            draft.is_active = is_active;
            draft
        },
    )
}

fn event_strategy() -> impl Strategy<Value = Event> {
    let oid = prop::option::weighted(0.3, prop::sample::select(&OIDS[..]));
    (prop::collection::vec(text_strategy(), 0..4), prop::option::of(0..8_u8), oid)
        .prop_map(|(texts, severity, oid)| event(&texts.concat(), severity, oid))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn judging_is_the_same_as_comparing_rule_by_rule(
        drafts in prop::collection::vec(draft_strategy(), 0..10),
        events in prop::collection::vec(event_strategy(), 1..10),
        sampled in 0..10_usize,
    ) {
        let rules: Vec<Rule> =
            (1..).zip(drafts).map(|(id, draft)| Rule { id: RuleId(id), draft }).collect();
        let mut sample = Sample::default();
        events.iter().take(sampled).for_each(|event| sample.add(&event.message));
        // One set is made after another, and they share what is in use while judging, as in the appliance.
        let (before, _) = RuleSet::compile(&rules[..rules.len() / 2]);
        let (set, problems) = before.recompile(&rules, &sample);
        prop_assert_eq!(problems, Vec::new());
        let mut scratch = Scratch::default();
        for event in &events {
            before.judge(event, &mut scratch);
            let judged = set.judge(event, &mut scratch).map(|rule| rule.id);
            prop_assert_eq!(judged, judge_plainly(&rules, event), "{:?}", &event.message);
            let explained = set.explain(event).into_iter().find(|explanation| explanation.matched);
            prop_assert_eq!(judged, explained.map(|explanation| explanation.rule));
        }
    }
}

fn check(rules: &[Rule], event: &Event, expected: Option<i64>) {
    let (set, problems) = RuleSet::compile(rules);
    assert_eq!(problems, []);
    assert_eq!(set.judge(event, &mut Scratch::default()).map(|rule| rule.id.0), expected, "{}", event.message);
}

#[test]
fn the_lowest_priority_wins_and_among_equals_the_lowest_id() {
    let contains = |id, priority, text| rule(id, priority, MatchType::Contains, Some(text), None);
    let rules = [contains(1, 20, "down"), contains(2, 10, "link"), contains(3, 10, "link down")];
    check(&rules, &event("Link down", None, None), Some(2));
    check(&rules, &event("power down", None, None), Some(1));
    check(&rules, &event("power up", None, None), None);
}

#[test]
fn texts_are_told_apart_wherever_they_stand_and_whatever_they_share() {
    let texts: Vec<String> = (0..1_000)
        .map(|number| ["fan", "power supply"][number % 2].to_owned() + &format!(" failed code {number:05}"))
        .chain((3..60).map(|length| "temperature of module in slot 7 exceeds the upper threshold"[..length].to_owned()))
        .collect();
    let rules: Vec<Rule> =
        (1..).zip(&texts).map(|(id, text)| rule(id, 1, MatchType::Contains, Some(text), None)).collect();
    let mut sample = Sample::default();
    (0..1_000).for_each(|number| sample.add(&format!("FAN failed code {:05}", number * 7)));
    let mut scratch = Scratch::default();
    for set in [RuleSet::compile(&rules).0, RuleSet::default().recompile(&rules, &sample).0] {
        for (number, text) in texts.iter().enumerate() {
            let event = event(&format!("{}{}!", &"........"[number % 8..], text.to_uppercase()), None, None);
            let expected = texts.iter().position(|other| text.contains(other)).expect("itself");
            assert_eq!(set.judge(&event, &mut scratch).map(|rule| rule.id.0), Some(expected as i64 + 1), "{text}");
        }
        assert!(set.judge(&event("fan failed code 01000 tem", None, None), &mut scratch).is_some());
        assert_eq!(set.judge(&event("fan failed code 0100 te", None, None), &mut scratch), None);
    }
}

#[test]
fn an_oid_prefix_ends_at_an_arc() {
    let rules = [rule(1, 1, MatchType::OidPrefix, None, Some("1.3.6.1.4.1.9"))];
    check(&rules, &event("", None, Some("1.3.6.1.4.1.9.9.41")), Some(1));
    check(&rules, &event("", None, Some("1.3.6.1.4.1.9")), Some(1));
    check(&rules, &event("", None, Some("1.3.6.1.4.1.99")), None);
    check(&rules, &event("1.3.6.1.4.1.9", None, None), None);
}

#[test]
fn a_severity_on_a_rule_must_equal_the_events() {
    let mut strict = rule(1, 1, MatchType::Contains, Some("fan"), None);
    strict.draft.syslog_severity = Severity::new(3);
    let rules = [strict, rule(2, 2, MatchType::Contains, Some("fan"), None)];
    check(&rules, &event("fan", Some(3), None), Some(1));
    check(&rules, &event("fan", Some(2), None), Some(2));
    check(&rules, &event("fan", None, None), Some(2));
}

#[test]
fn a_long_text_is_compared_whole() {
    let long = "temperature of module in slot exceeds the upper threshold of the chassis by far";
    let rules = [rule(1, 1, MatchType::Contains, Some(long), None)];
    check(&rules, &event(&long.to_uppercase(), None, None), Some(1));
    check(&rules, &event(&long[1..], None, None), None);
    check(&rules, &event(&long[..long.len() - 1], None, None), None);
}

#[test]
fn a_bad_rule_is_told_and_the_others_serve() {
    let rules = [
        rule(1, 1, MatchType::Regex, Some("link ("), None),
        rule(2, 2, MatchType::Contains, Some("link"), None),
        rule(3, 3, MatchType::Regex, None, None),
    ];
    let (set, problems) = RuleSet::compile(&rules);
    assert_eq!(problems.iter().map(|problem| problem.rule.0).collect::<Vec<_>>(), [1, 3]);
    assert!(problems[0].why.contains("position 6"), "{}", problems[0].why);
    let judged = set.judge(&event("link (", None, None), &mut Scratch::default());
    assert_eq!(judged.map(|rule| rule.id.0), Some(2));
    assert_eq!(set.len(), 1);
}

#[test]
fn rules_without_a_telling_literal_are_named() {
    let rules =
        [rule(1, 1, MatchType::Regex, Some(r"\d+"), None), rule(2, 2, MatchType::Regex, Some("overheated"), None)];
    let (set, _) = RuleSet::compile(&rules);
    assert_eq!(set.costly().map(|rule| rule.id.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn an_explanation_names_the_condition_that_fails() {
    let mut strict = rule(4, 1, MatchType::OidPrefix, Some("fan"), Some("1.3.6.1.4.1.9"));
    strict.draft.syslog_severity = Severity::new(3);
    let (set, _) = RuleSet::compile(&[strict]);
    let why = |event: &Event| set.explain_rule(RuleId(4), event).map(|explanation| explanation.why).unwrap_or_default();
    assert_eq!(why(&event("fan", Some(4), None)), "the severity is warning, the rule wants error");
    assert_eq!(why(&event("fan", Some(3), None)), "the event is no trap, the rule wants one below 1.3.6.1.4.1.9");
    assert_eq!(why(&event("x", Some(3), Some("1.3.6.1.4.1.9.1"))), "the message does not contain `fan`");
    assert_eq!(
        why(&event("FAN", Some(3), Some("1.3.6.1.4.1.9.1"))),
        "the severity is error and trap 1.3.6.1.4.1.9.1 is 1.3.6.1.4.1.9 or below it and the message contains `fan`"
    );
    assert_eq!(set.explain_rule(RuleId(5), &event("fan", None, None)), None);
}
