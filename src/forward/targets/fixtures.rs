//! What the tests of all kinds share: an alert with everything a receiver may choke on, and reading of options.

use std::time::Duration;

use serde_json::Value;

use crate::forward::answer::{Answer, Verdict};
use crate::forward::{FailureReason, KindOptions};
use crate::model::{Alert, Cause, Environment, Event, Handling, Protocol, RuleId, Severity, Source, Team, Timestamp};

/// The alert's id.
pub(super) const ID: &str = "019be6e1-9c00-7000-8000-00000000002a";
/// When it was received: 2026-03-01T12:00:00Z.
pub(super) const RECEIVED: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// An alert that is always the same.
pub(super) fn sample() -> Alert {
    let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() };
    let mut event = Event::new(ID.parse().expect("an id"), RECEIVED, source);
    event.hostname = "core-sw-1".into();
    event.message = "Link <Te1/1> \"down\" & @all *flaps*".into();
    event.severity = Severity::new(3);
    event.app_name = Some("LINK-3-UPDOWN".into());
    event.raw = "<187>Mar  1 12:00:00 core-sw-1 LINK-3-UPDOWN: Link <Te1/1> \"down\" & @all *flaps*".into();
    let team = Team::new("NETO").expect("a team");
    let (environment, handling) = (Environment::Prod, Handling::PageOnly);
    Alert { event, cause: Cause::Rule(RuleId(7)), environment, handling, team }
}

/// The same from another host, with another message and severity.
pub(super) fn another(host: &str, message: &str, severity: u8) -> Alert {
    let mut alert = sample();
    alert.event.hostname = host.into();
    alert.event.message = message.into();
    alert.event.severity = Severity::new(severity);
    alert
}

/// The meta-alert for unhandled events.
pub(super) fn unhandled() -> Alert {
    let signature = "link <*> down since <*>".repeat(20);
    let mut alert = another("sw9", "100 unhandled events", 4);
    alert.cause = Cause::Unmatched { signature, count: 100, window_seconds: 86_400 };
    alert
}

/// A message longer than any receiver takes.
pub(super) fn huge() -> Alert {
    another("core-sw-1", &"🔥<&*é".repeat(100_000), 2)
}

/// Options as the configuration reads them.
pub(super) fn options<O: KindOptions>(value: Value) -> Result<O, String> {
    let options: O = serde_json::from_value(value).map_err(|error| error.to_string())?;
    options.check()?;
    Ok(options)
}

/// Options that must be refused with a text that names `word`.
pub(super) fn refused<O: KindOptions>(value: Value, word: &str) {
    let shown = value.to_string();
    let error = options::<O>(value).err().unwrap_or_else(|| panic!("{shown} was accepted"));
    assert!(error.contains(word), "{shown}: `{word}` is not in: {error}");
}

/// An answer without Retry-After.
pub(super) fn answer(status: u16, body: &str) -> Answer {
    Answer { status, retry_after: None, body: body.to_owned() }
}

/// The verdict `Retry` without a wish.
pub(super) const fn retry(reason: FailureReason) -> Verdict {
    Verdict::Retry { reason, after: None }
}

/// The verdict `Retry` with one.
pub(super) const fn retry_after(reason: FailureReason, after: Duration) -> Verdict {
    Verdict::Retry { reason, after: Some(after) }
}

/// The verdict `Refused` without further words.
pub(super) const fn plainly_refused() -> Verdict {
    Verdict::Refused { why: String::new() }
}
