//! Events over the API: search, the whole way of one, and the audit under upstream's name and filters.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::Web;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Segment};
use super::Paging;
use crate::admin::{AdminError, EventQuery, rule_json};
use crate::model::{DeliveryNote, EventId, Judged, Protocol, RuleId, Severity, event_json};

/// Events of one answer when no limit is given.
const DEFAULT_LIMIT: usize = 100;

/// The filters of a search.
const FILTERS: [&str; 12] = [
    "q",
    "hostname",
    "severity",
    "source",
    "peer",
    "rule_id",
    "matched",
    "from",
    "to",
    "correlation_id",
    "limit",
    "cursor",
];

/// `GET /events`: newest first; `next_cursor` is the next request's `cursor`.
pub(super) async fn search(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&FILTERS)?;
    let found = web.admin.search(&query(&fields, DEFAULT_LIMIT)?).await?;
    Ok(Json(json!({
        "items": found.items.iter().map(judged_json).collect::<Vec<_>>(),
        "next_cursor": found.next.map(|id| id.to_string()),
        "warnings": found.warnings,
    })))
}

/// The filters of a search, from a query; pages use the same.
pub(in crate::web) fn query(fields: &Fields, default_limit: usize) -> Result<EventQuery, Fault> {
    let number = |text: &str| text.parse::<i64>().ok().map(RuleId);
    let truth = |text: &str| match text {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    };
    let source = "http, syslog_udp, syslog_tcp, syslog_tls, snmp_trap or internal";
    Ok(EventQuery {
        text: fields.get("q").map(str::to_owned),
        hostname: fields.get("hostname").map(str::to_owned),
        severity: fields.parsed("severity", "a severity, 0 to 7 or a name", |text| text.parse::<Severity>().ok())?,
        protocol: fields.parsed("source", source, |text| text.parse::<Protocol>().ok())?,
        peer: fields.parsed("peer", "an IP address", |text| text.parse().ok())?,
        rule: fields.parsed("rule_id", "a rule's number", number)?,
        matched: fields.parsed("matched", "true or false", truth)?,
        from: fields.time("from")?,
        to: fields.time("to")?,
        correlation_id: fields.get("correlation_id").map(|id| id.trim().to_owned()),
        before: fields.parsed("cursor", "a cursor from an earlier answer", |text| text.parse::<EventId>().ok())?,
        limit: fields.number("limit", default_limit, 1, EventQuery::MAX_LIMIT)?,
    })
}

/// `GET /events/{id}`: the event, the decision, the rule as it is now and why, and what receivers said.
pub(super) async fn show(State(web): State<Web>, Segment(id): Segment) -> Answer<Json<Value>> {
    let story = web.admin.event(event_id(&id)?).await?;
    let mut body = judged_json(&story.judged);
    body["rule"] = story.rule.as_ref().map_or(Value::Null, rule_json);
    body["explanations"] = story
        .explained
        .iter()
        .map(|told| json!({"rule_id": told.rule.id.0, "matched": told.matched, "why": told.why}))
        .collect();
    body["deliveries"] = story.deliveries.iter().map(delivery_json).collect();
    body["warnings"] = story.warnings.into();
    Ok(Json(body))
}

/// Text that is no event id names no event.
pub(in crate::web) fn event_id(text: &str) -> Result<EventId, AdminError> {
    let not_found = || AdminError::NotFound { what: "event", key: text.chars().take(64).collect() };
    text.parse().map_err(|_| not_found())
}

/// A matched event as upstream's audit log has it.
#[derive(Debug, Serialize)]
pub(super) struct AuditLog {
    /// The event's id.
    id: String,
    /// The device's time; where it gave none, when it came in.
    event_timestamp: String,
    /// When it came in.
    received_at: String,
    /// The host.
    hostname: String,
    /// The rule that won; 0 for the meta-alert for unhandled events.
    matched_rule_id: Option<i64>,
    /// What was to be done.
    handling_decision: Option<String>,
    /// `prod` or `dev`.
    environment: &'static str,
    /// Whether an alert went out.
    forwarded_to_moog: bool,
    /// The team.
    team_assignment: Option<String>,
    /// The sender's id of it.
    correlation_id: String,
    /// As it was received.
    raw_message: String,
}

/// A page of them.
#[derive(Debug, Serialize)]
pub(super) struct AuditLogs {
    /// Newest first.
    logs: Vec<AuditLog>,
    /// Where the page stands.
    pagination: AuditPages,
    /// Where to go on; null at the end. It costs the same however far that is.
    next_cursor: Option<String>,
}

/// Where a page of the audit stands.
#[derive(Debug, Serialize)]
struct AuditPages {
    /// Its number; null for a page asked for by cursor.
    page: Option<usize>,
    /// Rows of a page, at most.
    limit: usize,
    /// Whether there are older ones.
    has_more: bool,
    /// Rows there are: an estimate, because counting would cost a scan; never less than what was seen.
    total: u64,
    /// Pages there are by `total`.
    pages: u64,
    /// Whether `total` is exact.
    total_is_exact: bool,
}

/// `GET /audit-logs`: matched events by page or by cursor.
pub(super) async fn audit_logs(State(web): State<Web>, fields: Fields) -> Answer<Json<AuditLogs>> {
    fields.only(&["page", "limit", "hostname", "rule_id", "start_date", "end_date", "cursor"])?;
    let paging = Paging::of(&fields, 50)?;
    let mut query = audit_query(&fields)?;
    query.before = fields.parsed("cursor", "a cursor from an earlier answer", |text| text.parse::<EventId>().ok())?;
    let by_cursor = query.before.is_some();
    if by_cursor && fields.get("page").is_some() {
        return Err(Fault::field("page", "give a page or a cursor, not both"));
    }
    let found = web.admin.audit_page(&query, paging.page, paging.limit).await?;
    let limit = u64::try_from(paging.limit).unwrap_or(1);
    Ok(Json(AuditLogs {
        logs: found.items.iter().map(AuditLog::from).collect(),
        next_cursor: found.items.last().filter(|_| found.has_more).map(|judged| judged.event.id.to_string()),
        pagination: AuditPages {
            page: (!by_cursor).then_some(paging.page),
            limit: paging.limit,
            has_more: found.has_more,
            total: found.total,
            pages: found.total.div_ceil(limit),
            total_is_exact: found.is_exact,
        },
    }))
}

/// The filters of the audit log.
pub(super) fn audit_query(fields: &Fields) -> Answer<EventQuery> {
    Ok(EventQuery {
        hostname: fields.get("hostname").map(str::to_owned),
        rule: fields.parsed("rule_id", "a rule's number", |text| text.parse::<i64>().ok().map(RuleId))?,
        matched: Some(true),
        from: fields.time("start_date")?,
        to: fields.time("end_date")?,
        ..EventQuery::default()
    })
}

fn judged_json(judged: &Judged) -> Value {
    let decision = &judged.decision;
    let matched = decision.matched.as_ref();
    let mut body = event_json(&judged.event);
    body["matched"] = matched.is_some().into();
    body["rule_id"] = matched.map(|matched| matched.rule.0).into();
    body["environment"] = decision.environment.name().into();
    body["handling"] = matched.map(|matched| matched.handling.as_str()).into();
    body["team"] = matched.map(|matched| matched.team.as_str()).into();
    body["forwarded"] = decision.forwarded().into();
    body
}

impl From<&Judged> for AuditLog {
    fn from(judged: &Judged) -> Self {
        let event = &judged.event;
        let matched = judged.decision.matched.as_ref();
        Self {
            id: event.id.to_string(),
            event_timestamp: event.event_time().to_string(),
            received_at: event.received_at.to_string(),
            hostname: event.hostname.to_string(),
            matched_rule_id: matched.map(|matched| matched.rule.0),
            handling_decision: matched.map(|matched| matched.handling.as_str().to_owned()),
            environment: judged.decision.environment.name(),
            forwarded_to_moog: judged.decision.forwarded(),
            team_assignment: matched.map(|matched| matched.team.as_str().to_owned()),
            correlation_id: event.correlation(),
            raw_message: if event.raw.is_empty() { event.message.to_string() } else { event.raw.to_string() },
        }
    }
}

fn delivery_json(note: &DeliveryNote) -> Value {
    json!({
        "target": note.target.as_str(),
        "at": note.at.to_string(),
        "attempt": note.attempt,
        "outcome": note.outcome.name(),
        "answer": note.answer,
    })
}
