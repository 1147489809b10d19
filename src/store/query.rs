//! Searching events, the same way in the audit and in the recent store.

use std::net::IpAddr;

use crate::model::{EventId, Judged, Protocol, RuleId, Severity, Timestamp, host_key};

/// What to look for; members that are `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// A substring of the message, the raw text, structured data or varbind values, ignoring case.
    pub text: Option<String>,
    /// The host, ignoring case, in full.
    pub hostname: Option<String>,
    /// The severity.
    pub severity: Option<Severity>,
    /// The protocol it came by.
    pub protocol: Option<Protocol>,
    /// The address it came from.
    pub peer: Option<IpAddr>,
    /// The rule that matched it.
    pub rule: Option<RuleId>,
    /// Only events that a rule matched, or only those none did.
    pub matched: Option<bool>,
    /// Received at or after.
    pub from: Option<Timestamp>,
    /// Received before.
    pub to: Option<Timestamp>,
    /// The correlation id, in full.
    pub correlation_id: Option<String>,
    /// Only events older than this one: where the last page ended.
    pub before: Option<EventId>,
    /// Events wanted, at most; stores cap it at [`EventQuery::MAX_LIMIT`].
    pub limit: usize,
}

/// Events found, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// Newest first, no event twice.
    pub items: Vec<Judged>,
    /// Where to go on (as [`EventQuery::before`]); `None` when the store was searched to its end.
    /// A search may stop at its time budget with fewer items than asked and still have a `next`.
    pub next: Option<EventId>,
}

/// A page of events by its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberedPage {
    /// Newest first. Where rows were removed since they were counted, fewer than asked.
    pub items: Vec<Judged>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// Where to go on, as [`EventQuery::before`], if there are older ones.
    pub next: Option<EventId>,
    /// Events in all, about: rows that were removed one by one may still be counted. `None` if counting takes too long.
    pub total: Option<u64>,
}

impl EventQuery {
    /// Most events one search returns.
    pub const MAX_LIMIT: usize = 1_000;

    /// Whether `judged` is what is looked for. `text` is compared in lower case: give it to [`EventQuery::prepared`] first.
    pub fn matches(&self, judged: &Judged) -> bool {
        let event = &judged.event;
        self.severity.is_none_or(|severity| event.severity == Some(severity))
            && self.protocol.is_none_or(|protocol| event.source.protocol == protocol)
            && self.peer.is_none_or(|peer| event.source.peer == peer)
            && self.rule.is_none_or(|rule| judged.decision.rule() == Some(rule))
            && self.matched.is_none_or(|matched| judged.decision.matched.is_some() == matched)
            && self.from.is_none_or(|from| event.received_at >= from)
            && self.to.is_none_or(|to| event.received_at < to)
            && self.before.is_none_or(|before| event.id < before)
            && self.hostname.as_ref().is_none_or(|host| host_key(&event.hostname) == *host)
            && self.correlation_id.as_ref().is_none_or(|wanted| event.correlation() == *wanted)
            && self.text.as_ref().is_none_or(|text| contains_text(judged, text))
    }

    /// The query with host and text in the form [`EventQuery::matches`] compares, and the limit capped.
    pub fn prepared(&self) -> Self {
        let mut query = self.clone();
        query.hostname = query.hostname.as_deref().map(host_key);
        query.text = query.text.as_deref().filter(|text| !text.is_empty()).map(str::to_lowercase);
        query.limit = query.limit.clamp(1, Self::MAX_LIMIT);
        query
    }
}

fn contains_text(judged: &Judged, lower: &str) -> bool {
    let event = &judged.event;
    let contains = |text: &str| text.to_lowercase().contains(lower);
    contains(&event.message)
        || contains(&event.raw)
        || event.structured_data.iter().any(|element| {
            contains(&element.id) || element.params.iter().any(|(name, value)| contains(name) || contains(value))
        })
        || event.trap.as_ref().is_some_and(|trap| trap.varbinds.iter().any(|varbind| contains(&varbind.value)))
}
