//! Which outboxes an alert goes to, and in what form.
//!
//! Each target takes what its [`super::Route`] says. What none of them takes goes to the default targets, and an alert
//! is never dropped for want of a target: if none of the named ones has an outbox, the first outbox there is takes it,
//! where it waits until its target is configured.

use std::collections::BTreeMap;

use super::Settings;
use crate::model::{Alert, Cause, Event, Flag, Judged, TargetName, Text};
use crate::queue::Queue;

/// Encoded bytes of an event above which an alert carries a shortened copy; the audit keeps the whole. Half of what a
/// queue record may hold, and more than any receiver takes.
const MAX_EVENT_BYTES: usize = 512 << 10;
/// Bytes of message and of each name kept in a shortened copy.
const SHORT_MESSAGE: usize = 64 << 10;
const SHORT_NAME: usize = 1 << 10;

/// What goes into which outbox, by the settings; outboxes that get nothing are left out.
pub(super) fn deal<'a>(
    outboxes: &'a BTreeMap<TargetName, Queue<Alert>>,
    settings: &Settings,
    alerts: &[Alert],
) -> Vec<(&'a TargetName, &'a Queue<Alert>, Vec<Alert>)> {
    let fallback = default_outboxes(outboxes, settings);
    let mut dealt: Vec<_> = outboxes.iter().map(|(name, outbox)| (name, outbox, Vec::new())).collect();
    for alert in alerts {
        let mut taken = false;
        for (name, _, share) in &mut dealt {
            if settings.routes.get(*name).is_some_and(|route| route.takes(alert)) {
                share.push(alert.clone());
                taken = true;
            }
        }
        if !taken {
            let defaults = dealt.iter_mut().filter(|(name, _, _)| fallback.contains(name));
            defaults.for_each(|(_, _, share)| share.push(alert.clone()));
        }
    }
    dealt.retain(|(_, _, share)| !share.is_empty());
    dealt
}

/// The targets for what no route takes.
fn default_outboxes<'a>(outboxes: &'a BTreeMap<TargetName, Queue<Alert>>, settings: &Settings) -> Vec<&'a TargetName> {
    let named: Vec<_> = outboxes.keys().filter(|name| settings.default_targets.contains(name)).collect();
    if !named.is_empty() {
        return named;
    }
    // Rather a target that is spoken to than what is left of one.
    let routed = outboxes.keys().find(|name| settings.routes.contains_key(*name));
    routed.or_else(|| outboxes.keys().next()).into_iter().collect()
}

/// The alert for an event that is to be forwarded.
pub(super) fn alert(judged: &Judged) -> Option<Alert> {
    let matched = judged.decision.matched.as_ref().filter(|matched| matched.handling.is_forwarded())?;
    Some(Alert {
        event: bounded(&judged.event),
        cause: Cause::Rule(matched.rule),
        environment: judged.decision.environment,
        handling: matched.handling.clone(),
        team: matched.team.clone(),
    })
}

/// A copy that fits into a record of an outbox whatever was sent to us.
fn bounded(event: &Event) -> Event {
    let mut copy = event.clone();
    // What an event went through before it was judged is no replay of its alert.
    copy.forget_replays();
    if fits(&copy) {
        return copy;
    }
    copy.flags.push(Flag::Truncated);
    copy.raw = Text::default();
    if fits(&copy) {
        return copy;
    }
    copy.fields = None;
    copy.structured_data.clear();
    cut(&mut copy.message, SHORT_MESSAGE);
    cut(&mut copy.hostname, SHORT_NAME);
    let names = [&mut copy.app_name, &mut copy.proc_id, &mut copy.msg_id, &mut copy.correlation_id];
    for name in names.into_iter().flatten() {
        cut(name, SHORT_NAME);
    }
    if let Some(trap) = &mut copy.trap {
        trap.varbinds.truncate(100);
        for varbind in &mut trap.varbinds {
            varbind.value.truncate(varbind.value.floor_char_boundary(SHORT_NAME));
        }
    }
    copy
}

fn fits(event: &Event) -> bool {
    postcard::to_stdvec(event).is_ok_and(|bytes| bytes.len() <= MAX_EVENT_BYTES)
}

/// Copied, so that what is cut off does not stay in memory.
fn cut(text: &mut Text, bytes: usize) {
    *text = Text::from(&text[..text.floor_char_boundary(bytes)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::Route;
    use crate::alerter::fixtures::event;

    fn check(change: impl FnOnce(&mut Event), truncated: bool) {
        let mut large = event("sw1", "fan failed");
        change(&mut large);
        let copy = bounded(&large);
        assert!(fits(&copy));
        assert_eq!(copy.has(Flag::Truncated), truncated);
        assert_eq!((copy.id, copy.received_at), (large.id, large.received_at));
    }

    #[test]
    fn an_alert_fits_into_a_record_whatever_the_event_holds() {
        let long = || Text::from("x".repeat(4 << 20));
        check(|_| {}, false);
        check(|event| event.raw = long(), true);
        check(|event| event.message = long(), true);
        check(|event| event.fields = Some(long()), true);
        check(|event| event.app_name = Some(long()), true);
        check(|event| event.correlation_id = Some(long()), true);
    }

    fn judged(host: &str, message: &str) -> Alert {
        Alert {
            event: event(host, message),
            cause: Cause::Rule(crate::model::RuleId(1)),
            environment: crate::model::Environment::Prod,
            handling: crate::model::Handling::PageOnly,
            team: crate::model::Team::new("NETO").expect("a team"),
        }
    }

    fn dealt(outboxes: &[&str], settings: &Settings) -> Vec<(String, Vec<String>)> {
        let queue = |name: &str| Queue::of_singles(name, std::sync::Arc::new(crate::queue::MemoryBackend::new(name)));
        let named = outboxes.iter().map(|name| (TargetName::new(name).expect("a name"), queue(name)));
        let outboxes: BTreeMap<_, _> = named.collect();
        let alerts = [judged("core-1", "a"), judged("edge-1", "b")];
        let hosts = |alerts: Vec<Alert>| alerts.iter().map(|alert| alert.event.hostname.to_string()).collect();
        deal(&outboxes, settings, &alerts)
            .into_iter()
            .map(|(name, _, share)| (name.to_string(), hosts(share)))
            .collect()
    }

    #[test]
    fn what_no_route_takes_goes_to_the_default_and_never_nowhere() {
        let name = |name: &str| TargetName::new(name).expect("a name");
        let core = Route { hosts: Some(vec!["core-*".into()]), ..Route::default() };
        let fallback = Route { only_fallback: true, ..Route::default() };
        let routes = BTreeMap::from([(name("page"), core), (name("spare"), fallback)]);
        let settings = Settings { routes, default_targets: vec![name("mail")], ..Settings::default() };
        let check = |outboxes: &[&str], expected: &[(&str, &[&str])]| {
            let expected: Vec<(String, Vec<String>)> = expected
                .iter()
                .map(|(name, hosts)| ((*name).to_owned(), hosts.iter().map(|host| (*host).to_owned()).collect()))
                .collect();
            assert_eq!(dealt(outboxes, &settings), expected);
        };
        check(&["mail", "page", "spare"], &[("mail", &["edge-1"]), ("page", &["core-1"])]);
        check(&["gone", "page"], &[("page", &["core-1", "edge-1"])]);
        check(&["gone"], &[("gone", &["core-1", "edge-1"])]);
        check(&[], &[]);
    }
}
