//! Events over the API: search, the whole way of one, and the audit under upstream's name and filters.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Segment};
use super::rules::{ExplanationRow, RuleRow};
use super::{Paging, event_stream};
use crate::admin::{AdminError, EventLetter, EventQuery};
use crate::model::{DeliveryNote, EventId, Judged, Protocol, RuleId, Severity, event_json};
use crate::web::openapi::parameters::{moment, text, words};

/// Events of one answer when no limit is given.
const DEFAULT_LIMIT: usize = 100;

/// The filters of a search.
pub(super) const SEARCH_FILTERS: [&str; 10] =
    ["q", "hostname", "severity", "source", "peer", "rule_id", "matched", "from", "to", "correlation_id"];

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(event_stream::stream))
        .routes(routes!(show))
        .routes(routes!(audit_logs))
}

/// An event and what was decided about it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `judged_json` makes")]
pub(super) struct JudgedEvent {
    id: String,
    /// The sender's id of it, or its own.
    correlation_id: String,
    #[schema(format = DateTime)]
    received_at: String,
    source: EventSource,
    /// The device's own time.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    hostname: String,
    message: String,
    severity: Option<u8>,
    facility: Option<u8>,
    app_name: Option<String>,
    proc_id: Option<String>,
    msg_id: Option<String>,
    /// By element, by name.
    #[schema(value_type = Option<Object>, additional_properties)]
    structured_data: Option<Value>,
    trap_oid: Option<String>,
    /// The values of a trap: `oid`, `type`, `value`, `name`.
    #[schema(value_type = Option<Vec<Object>>)]
    varbinds: Option<Value>,
    /// `version`, `inform`, `agent_address`, `uptime` of a trap.
    #[schema(value_type = Option<Object>, additional_properties)]
    snmp: Option<Value>,
    /// Every other member of a JSON event, as it was sent.
    fields: Option<Value>,
    /// As it was received.
    raw: String,
    /// What was odd about it.
    flags: Vec<String>,
    /// The trace that tells its way (W3C).
    trace_id: String,
    /// Whether a rule matched.
    matched: bool,
    /// The rule; 0 for the meta-alert for unhandled events.
    rule_id: Option<i64>,
    /// `prod` or `dev`.
    environment: String,
    /// What was to be done.
    handling: Option<String>,
    team: Option<String>,
    /// Whether an alert went out.
    forwarded: bool,
}

/// What is told of one event besides: its way.
#[derive(Serialize, ToSchema)]
struct EventMore {
    /// The rule that decided, as it is now; null if none did or it is gone.
    rule: Option<RuleRow>,
    /// What the rules as they are now say.
    explanations: Vec<ExplanationRow>,
    /// Each try to deliver its alert, oldest first.
    deliveries: Vec<DeliveryRow>,
    /// Where it is kept.
    kept: Kept,
    /// Its dead letters that wait now.
    dead_letters: Vec<LetterRow>,
    /// Its way in words, oldest first.
    steps: Vec<StepRow>,
    /// What could not be read.
    warnings: Vec<String>,
}

/// Where an event is kept.
#[derive(Serialize, ToSchema)]
struct Kept {
    recent: bool,
    audit: bool,
}

/// A dead letter of an event.
#[derive(Serialize, ToSchema)]
struct LetterRow {
    queue: &'static str,
    seq: u64,
    /// The stage or target that gave up.
    origin: String,
    reason: String,
    /// How often it was put back before.
    replays: u32,
    #[schema(format = DateTime)]
    died_at: String,
}

/// A step of an event's way.
#[derive(Serialize, ToSchema)]
struct StepRow {
    #[schema(format = DateTime)]
    at: Option<String>,
    /// `received`, `judged`, `kept`, `delivery`, `dead_letter` or `replayed`.
    kind: &'static str,
    what: String,
}

/// A try to deliver an alert.
#[derive(Serialize, ToSchema)]
struct DeliveryRow {
    target: String,
    #[schema(format = DateTime)]
    at: String,
    attempt: u32,
    outcome: &'static str,
    /// What the receiver said.
    answer: String,
}

/// An event with its way: the members of both.
struct EventWay(Value);

impl Serialize for EventWay {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl PartialSchema for EventWay {
    fn schema() -> RefOr<Schema> {
        match (JudgedEvent::schema(), EventMore::schema()) {
            (RefOr::T(Schema::Object(mut event)), RefOr::T(Schema::Object(more))) => {
                event.properties.extend(more.properties);
                event.required.extend(more.required);
                event.description = Some("An event, what was decided about it, and its way".to_owned());
                RefOr::T(Schema::Object(event))
            }
            (other, _) => other,
        }
    }
}

impl ToSchema for EventWay {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        JudgedEvent::schemas(schemas);
        EventMore::schemas(schemas);
    }
}

/// Where an event came from.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `event_json` makes")]
struct EventSource {
    protocol: String,
    peer: String,
}

/// Events, newest first.
#[derive(Serialize, ToSchema)]
struct EventsFound {
    #[schema(value_type = Vec<JudgedEvent>)]
    items: Vec<Value>,
    /// What `cursor` must be for those that follow; null at the end. There may be one with fewer items than asked for: then
    /// the search ran out of its time.
    next_cursor: Option<String>,
    /// What could not be searched.
    warnings: Vec<String>,
}

/// The parameters of a search.
pub(super) enum EventFilters {}

impl IntoParams for EventFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            text("q", "A text in message, raw text, structured data or values of a trap, ignoring case"),
            text("hostname", "The host, ignoring case, in full"),
            text("severity", "The severity, 0 to 7 or its name"),
            words(
                "source",
                &["http", "syslog_udp", "syslog_tcp", "syslog_tls", "snmp_trap", "internal"],
                "The protocol it came by",
            ),
            text("peer", "The address it came from"),
            text("rule_id", "The number of the rule that matched it"),
            words(
                "matched",
                &["true", "false", "1", "0", "yes", "no"],
                "Only events that a rule matched, or only those none did",
            ),
            moment("from", "Received at or after"),
            moment("to", "Received before"),
            text("correlation_id", "The correlation id, in full"),
        ]
    }
}

/// Searches events
///
/// In the recent store and the audit, newest first.
#[utoipa::path(
    get,
    path = "/events",
    params(
        EventFilters,
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many; 100 unless said"),
        ("cursor" = Option<String>, Query, description = "Where an earlier answer ended: its `next_cursor`"),
    ),
    responses((status = 200, body = EventsFound))
)]
async fn search(State(web): State<Web>, fields: Fields) -> Answer<Json<EventsFound>> {
    fields.only(&[&SEARCH_FILTERS[..], &["limit", "cursor"]].concat())?;
    let found = web.admin.search(&query(&fields, DEFAULT_LIMIT)?).await?;
    Ok(Json(EventsFound {
        items: found.items.iter().map(judged_json).collect(),
        next_cursor: found.next.map(|id| id.to_string()),
        warnings: found.warnings,
    }))
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

/// The whole way of an event
///
/// As it came in, what was decided, by which rule and why, and each attempt to deliver it.
#[utoipa::path(
    get,
    path = "/events/{id}",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, body = EventWay))
)]
async fn show(State(web): State<Web>, Segment(id): Segment) -> Answer<Json<EventWay>> {
    let story = web.admin.event(event_id(&id)?).await?;
    let steps = story.steps().into_iter();
    let more = EventMore {
        rule: story.rule.as_ref().map(RuleRow::from),
        explanations: story.explained.iter().map(ExplanationRow::from).collect(),
        deliveries: story.deliveries.iter().map(DeliveryRow::from).collect(),
        kept: Kept { recent: story.kept_in.recent, audit: story.kept_in.audit },
        dead_letters: story.letters.iter().map(LetterRow::from).collect(),
        steps: steps
            .map(|step| StepRow { at: step.at.map(|at| at.to_string()), kind: step.kind, what: step.what })
            .collect(),
        warnings: story.warnings,
    };
    let mut body = judged_json(&story.judged);
    // Structs with text members always serialise.
    if let (Value::Object(members), Ok(Value::Object(more))) = (&mut body, serde_json::to_value(more)) {
        members.extend(more);
    }
    Ok(Json(EventWay(body)))
}

/// Text that is no event id names no event.
pub(in crate::web) fn event_id(text: &str) -> Result<EventId, AdminError> {
    let not_found = || AdminError::NotFound { what: "event", key: text.chars().take(64).collect() };
    text.parse().map_err(|_| not_found())
}

/// A matched event as upstream's audit log has it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditLog {
    /// The event's id.
    id: String,
    /// The device's time; where it gave none, when it came in.
    #[schema(format = DateTime)]
    event_timestamp: String,
    /// When it came in.
    #[schema(format = DateTime)]
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
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditLogs {
    /// Newest first.
    logs: Vec<AuditLog>,
    /// Where the page stands.
    pagination: AuditPages,
    /// Where to go on; null at the end. It costs the same however far that is.
    next_cursor: Option<String>,
}

/// Where a page of the audit stands.
#[derive(Debug, Serialize, ToSchema)]
struct AuditPages {
    /// Its number; null for a page asked for by cursor.
    page: Option<usize>,
    /// Rows of a page, at most.
    limit: usize,
    /// Whether there are older ones.
    has_more: bool,
    /// Rows there are. If counting takes too long (`total_is_exact`), only those seen.
    total: u64,
    /// Pages there are by `total`.
    pages: u64,
    /// Whether `total` was counted; rows that were removed one by one may still be counted.
    total_is_exact: bool,
}

/// The filters of the audit log.
pub(super) enum AuditFilters {}

impl IntoParams for AuditFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            text("hostname", "The host, ignoring case, in full"),
            text("rule_id", "The number of the rule that matched it"),
            moment("start_date", "Received at or after"),
            moment("end_date", "Received before"),
        ]
    }
}

/// Matched events
///
/// By page or by cursor, newest first; as quick at any depth.
#[utoipa::path(
    get,
    path = "/audit-logs",
    params(
        AuditFilters,
        ("page" = Option<u32>, Query, minimum = 1, maximum = 1_000_000, description = "Which page; 1 unless said. Not together with `cursor`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many a page; 50 unless said"),
        ("cursor" = Option<String>, Query, description = "Where an earlier answer ended: its `next_cursor`"),
    ),
    responses((status = 200, body = AuditLogs))
)]
async fn audit_logs(State(web): State<Web>, fields: Fields) -> Answer<Json<AuditLogs>> {
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
        next_cursor: found.next.map(|id| id.to_string()),
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

pub(super) fn judged_json(judged: &Judged) -> Value {
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

impl From<&EventLetter> for LetterRow {
    fn from(letter: &EventLetter) -> Self {
        Self {
            queue: letter.queue.name(),
            seq: letter.seq,
            origin: letter.origin.clone(),
            reason: letter.reason.clone(),
            replays: letter.replays,
            died_at: letter.died_at.to_string(),
        }
    }
}

impl From<&DeliveryNote> for DeliveryRow {
    fn from(note: &DeliveryNote) -> Self {
        Self {
            target: note.target.as_str().to_owned(),
            at: note.at.to_string(),
            attempt: note.attempt,
            outcome: note.outcome.name(),
            answer: note.answer.clone(),
        }
    }
}
