//! Rules over the API, under upstream's names: list, make, change, remove, put in order, and say which of them a message
//! meets and why. Trying one on what came in is in `rule_trials`, many changes at once in `rule_bulk`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::conditional::{IfMatch, tagged, unchanged};
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, Segment};
use super::{Pagination, Paging, created, rule_bulk, rule_trials, ruling_tag};
use crate::admin::{
    Activity, AdminError, Explained, RuleEdit, RuleInput, TestMessage, TestOutcome, rule_json, rule_tag,
};
use crate::model::{Oid, Rule, RuleDraft, RuleId, Severity};

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(test))
        .routes(routes!(explain))
        .routes(routes!(rule_trials::try_rule))
        .routes(routes!(rule_bulk::bulk))
        .routes(routes!(rule_bulk::reorder))
        .routes(routes!(show, replace, change, remove))
        .routes(routes!(enable))
        .routes(routes!(disable))
}

/// A rule.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RuleRow {
    /// Its number.
    id: i64,
    /// Text or regular expression to be found in the message, ignoring case.
    match_string: Option<String>,
    /// Prefix of the trap's OID, in whole arcs.
    trap_oid: Option<String>,
    /// The severity that the event must have.
    #[schema(minimum = 0, maximum = 7)]
    syslog_severity: Option<u8>,
    /// `contains`, `regex` or `oid_prefix`.
    match_type: &'static str,
    /// The lowest wins; of equal ones the lower number.
    priority: i32,
    /// What is done with events of production hosts.
    prod_handling: String,
    /// What is done with events of development hosts.
    dev_handling: String,
    /// The team whose work it is.
    team_assignment: String,
    /// Whether it is in force.
    is_active: bool,
}

/// A rule to be made, or members of one to be changed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read member by member")]
pub(super) struct RuleBody {
    /// Text or regular expression to be found in the message, ignoring case. This or `trap_oid` is needed.
    #[schema(max_length = 1024)]
    match_string: Option<String>,
    /// Prefix of the trap's OID, in whole arcs.
    trap_oid: Option<String>,
    /// The severity that the event must have: 0 to 7, or its name.
    #[schema(schema_with = severity_schema)]
    syslog_severity: Option<String>,
    /// How `match_string` is compared; `contains` unless said.
    #[schema(schema_with = match_type_schema)]
    match_type: Option<String>,
    /// The lowest wins; 100 unless said.
    priority: Option<i32>,
    /// What is done with events of production hosts: `Page_and_ticket`, `Page_only`, `Ticket_only` are forwarded.
    prod_handling: Option<String>,
    /// What is done with events of development hosts; `Ignore` unless said.
    dev_handling: Option<String>,
    /// The team whose work it is.
    team_assignment: Option<String>,
    /// Whether it is in force; true unless said.
    is_active: Option<bool>,
}

/// Rules by priority.
#[derive(Serialize, ToSchema)]
struct RuleRows {
    rules: Vec<RuleRow>,
    /// How many there are in all.
    total: usize,
    /// Rules that cannot be read or compiled, and why; they decide nothing.
    problems: Vec<String>,
    /// Only if a page was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Pagination>,
}

/// Rules that were made together.
#[derive(Serialize, ToSchema)]
struct RulesMade {
    total: usize,
    rules: Vec<RuleRow>,
}

/// A message as one would come in, or an event that did.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestBody {
    /// The text.
    #[serde(default)]
    message: Option<String>,
    /// The host that says it; decides the environment.
    #[serde(default)]
    hostname: Option<String>,
    /// 0 to 7, or its name.
    #[serde(default)]
    #[schema(schema_with = severity_schema)]
    severity: Option<Value>,
    /// The same by upstream's name.
    #[serde(default)]
    #[schema(schema_with = severity_schema)]
    syslog_severity: Option<Value>,
    /// For a trap: its OID.
    #[serde(default)]
    trap_oid: Option<String>,
    /// In the place of all these: an event of the recent store or the audit.
    #[serde(default)]
    event_id: Option<String>,
}

/// What the rules make of a message.
#[derive(Serialize, ToSchema)]
struct TestAnswer {
    /// Whether a rule matches.
    matched: bool,
    /// The rule that decides.
    rule: Option<RuleRow>,
    /// Why that one.
    why: String,
    /// Active rules that were considered.
    considered: usize,
    /// How many of them match.
    matching: usize,
    /// `prod` or `dev`.
    environment: &'static str,
    /// What would be done.
    handling: Option<String>,
    /// Whether an alert would go out.
    forwarded: bool,
    /// The team of the rule.
    team: Option<String>,
    /// The team listed for the host.
    host_team: Option<String>,
    /// What single rules say: those that match first, then those that come closest; at most 50.
    explanations: Vec<ExplanationRow>,
}

/// What one rule says to an event.
#[derive(Serialize, ToSchema)]
pub(super) struct ExplanationRow {
    rule_id: i64,
    matched: bool,
    /// The conditions that hold, or the first that does not.
    why: String,
}

pub(super) fn severity_schema() -> impl Into<RefOr<Schema>> {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(7));
    let names = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    OneOfBuilder::new().item(number).item(name).item(ObjectBuilder::new().schema_type(Type::Null))
}

fn match_type_schema() -> impl Into<RefOr<Schema>> {
    let words: Vec<Value> = vec!["contains".into(), "regex".into(), "oid_prefix".into(), Value::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null])).enum_values(Some(words))
}

fn rule_or_rules_schema() -> impl Into<RefOr<Schema>> {
    let rule = || RefOr::Ref(utoipa::openapi::Ref::from_schema_name("RuleBody"));
    let array = || utoipa::openapi::ArrayBuilder::new().items(rule());
    let wrapped = ObjectBuilder::new().property("rules", array()).required("rules");
    OneOfBuilder::new().item(rule()).item(array()).item(wrapped)
}

/// One rule, an array of rules, or an object with such an array.
struct RuleOrRules;

impl utoipa::PartialSchema for RuleOrRules {
    fn schema() -> RefOr<Schema> {
        rule_or_rules_schema().into()
    }
}

impl ToSchema for RuleOrRules {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((RuleBody::name().into_owned(), <RuleBody as utoipa::PartialSchema>::schema()));
    }
}

impl From<&Rule> for RuleRow {
    fn from(rule: &Rule) -> Self {
        let draft = &rule.draft;
        Self {
            id: rule.id.0,
            match_string: draft.match_string.clone(),
            trap_oid: draft.trap_oid.as_ref().map(ToString::to_string),
            syslog_severity: draft.syslog_severity.map(Severity::number),
            match_type: draft.match_type.name(),
            priority: draft.priority,
            prod_handling: draft.prod_handling.to_string(),
            dev_handling: draft.dev_handling.to_string(),
            team_assignment: draft.team_assignment.as_str().to_owned(),
            is_active: draft.is_active,
        }
    }
}

impl From<&Explained> for ExplanationRow {
    fn from(told: &Explained) -> Self {
        Self { rule_id: told.rule.id.0, matched: told.matched, why: told.why.clone() }
    }
}

/// Rules by priority
///
/// All of them, or a page where one is asked for. The tag in `ETag` differs after each change of a rule, host or team; sent
/// as `If-None-Match` it is answered 304 while nothing changed.
#[utoipa::path(
    get,
    path = "/rules",
    params(
        ("page" = Option<u32>, Query, minimum = 1, maximum = 1_000_000, description = "Which page; all rules unless this or `limit` is given"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many a page; 100 unless said"),
        ("If-None-Match" = Option<String>, Header, description = "The tag of the list that the reader has"),
    ),
    responses(
        (status = 200, body = RuleRows, headers(("ETag" = String, description = "The list's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn list(State(web): State<Web>, headers: HeaderMap, fields: Fields) -> Answer<Response> {
    fields.only(&["page", "limit"])?;
    let paged = fields.get("page").is_some() || fields.get("limit").is_some();
    let paging = Paging::of(&fields, 100)?;
    let tag = ruling_tag(&web).await?;
    if let Some(same) = unchanged(&headers, &tag) {
        return Ok(same);
    }
    let found = web.admin.rules().await?;
    let total = found.rules.len();
    let (skip, take) = if paged { ((paging.page - 1) * paging.limit, paging.limit) } else { (0, total) };
    let body = RuleRows {
        rules: found.rules.iter().skip(skip).take(take).map(RuleRow::from).collect(),
        total,
        problems: found.problems,
        pagination: paged.then(|| paging.pages(u64::try_from(total).unwrap_or(u64::MAX))),
    };
    Ok(tagged(&tag, Json(body)))
}

/// One rule
///
/// Its tag stands in `ETag`, for `If-Match`.
#[utoipa::path(
    get,
    path = "/rules/{id}",
    params(
        ("id" = String, Path, description = "The rule's number"),
        ("If-None-Match" = Option<String>, Header, description = "The tag of the rule that the reader has"),
    ),
    responses(
        (status = 200, body = RuleRow, headers(("ETag" = String, description = "The rule's tag"))),
        (status = 304, description = "The reader has it already"),
    )
)]
async fn show(State(web): State<Web>, headers: HeaderMap, Segment(id): Segment) -> Answer<Response> {
    let rule = web.admin.rule(rule_id(&id)?).await?;
    Ok(unchanged(&headers, &rule_tag(&rule)).unwrap_or_else(|| rule_answer(&rule)))
}

fn rule_answer(rule: &Rule) -> Response {
    tagged(&rule_tag(rule), Json(RuleRow::from(rule)))
}

/// Makes one rule, or many
///
/// An array of rules, also as member `rules`, is made as a whole or not at all.
#[utoipa::path(
    post,
    path = "/rules",
    request_body = RuleOrRules,
    responses((status = 201, description = "The rule, or all of them", content(
        (RuleRow = "application/json"),
    )))
)]
async fn create(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
    let many = match &body.value {
        Value::Array(rules) => Some(rules),
        Value::Object(members) if members.contains_key("rules") => {
            body.only(&["rules"])?;
            let rules = members.get("rules").and_then(Value::as_array);
            Some(rules.ok_or_else(|| Fault::field("rules", "it is not an array of rules"))?)
        }
        _ => None,
    };
    let reason = body.reason.as_deref();
    let Some(many) = many else {
        let rule = web.admin.create_rule(draft(body.members()?)?, &caller.0, reason).await?;
        return Ok(tagged(&rule_tag(&rule), created("rules", &rule.id.to_string(), RuleRow::from(&rule))));
    };
    let drafts: Result<Vec<RuleDraft>, AdminError> = many.iter().enumerate().map(numbered_draft).collect();
    let made = web.admin.create_rules(drafts?, &caller.0, reason).await?;
    let rules: Vec<RuleRow> = made.iter().map(RuleRow::from).collect();
    Ok((StatusCode::CREATED, Json(RulesMade { total: rules.len(), rules })).into_response())
}

/// Replaces a rule
///
/// What is left out falls back to its default.
#[utoipa::path(
    put,
    path = "/rules/{id}",
    params(
        ("id" = String, Path, description = "The rule's number"),
        ("If-Match" = Option<String>, Header, description = "The tag of the rule that this was decided on"),
    ),
    request_body = RuleBody,
    responses(
        (status = 200, body = RuleRow, headers(("ETag" = String, description = "The rule's new tag"))),
        (status = 412, description = "It was changed meanwhile; `ETag` says what it is now"),
    )
)]
async fn replace(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    IfMatch(expected): IfMatch,
    body: JsonBody,
) -> Answer<Response> {
    let id = rule_id(&id)?;
    let rule = Rule { id, draft: draft(&without_id(body.members()?, id)?)? };
    let saved = web.admin.update_rule(rule, expected, &caller.0, body.reason.as_deref()).await?;
    Ok(rule_answer(&saved))
}

/// How often a change of some members is tried again when somebody else changed others meanwhile.
const MERGES: usize = 3;

/// Changes members of a rule
///
/// What is left out stays as it is, also if somebody else changes it at the same moment.
#[utoipa::path(
    patch,
    path = "/rules/{id}",
    params(
        ("id" = String, Path, description = "The rule's number"),
        ("If-Match" = Option<String>, Header, description = "The tag of the rule that this was decided on"),
    ),
    request_body = RuleBody,
    responses(
        (status = 200, body = RuleRow, headers(("ETag" = String, description = "The rule's new tag"))),
        (status = 409, description = "Others change it all the time"),
        (status = 412, description = "It was changed meanwhile; `ETag` says what it is now"),
    )
)]
async fn change(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    IfMatch(expected): IfMatch,
    body: JsonBody,
) -> Answer<Response> {
    let id = rule_id(&id)?;
    let changes = without_id(body.members()?, id)?;
    for left in (0..MERGES).rev() {
        let seen = web.admin.rule(id).await?;
        let tag = rule_tag(&seen);
        if expected.as_ref().is_some_and(|tags| !tags.contains(&tag)) {
            return Err(AdminError::Stale { what: "rule", key: id.to_string(), tag }.into());
        }
        let mut members = match rule_json(&seen) {
            Value::Object(members) => without_id(&members, id)?,
            _ => Map::new(),
        };
        members.extend(changes.clone());
        let rule = Rule { id, draft: draft(&members)? };
        // What was read is what the members are put into: another change between the two would be undone by this one.
        match web.admin.update_rule(rule, Some(vec![tag]), &caller.0, body.reason.as_deref()).await {
            Err(AdminError::Stale { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
            Ok(saved) => return Ok(rule_answer(&saved)),
        }
    }
    Err(Fault::new(StatusCode::CONFLICT, "the rule is changed by others all the time; try again"))
}

/// Removes a rule
#[utoipa::path(
    delete,
    path = "/rules/{id}",
    params(
        ("id" = String, Path, description = "The rule's number"),
        ("If-Match" = Option<String>, Header, description = "The tag of the rule that this was decided on"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 412, description = "It was changed meanwhile; `ETag` says what it is now"),
    )
)]
async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    IfMatch(expected): IfMatch,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.delete_rule(rule_id(&id)?, expected, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a rule into force
#[utoipa::path(
    post,
    path = "/rules/{id}/enable",
    params(("id" = String, Path, description = "The rule's number")),
    responses((status = 200, body = RuleRow))
)]
async fn enable(web: State<Web>, caller: Caller, id: Segment, reason: Reason) -> Answer<Response> {
    activate(web, caller, id, Activity::On, reason).await
}

/// Takes a rule out of force
///
/// It is kept and can be put into force again.
#[utoipa::path(
    post,
    path = "/rules/{id}/disable",
    params(("id" = String, Path, description = "The rule's number")),
    responses((status = 200, body = RuleRow))
)]
async fn disable(web: State<Web>, caller: Caller, id: Segment, reason: Reason) -> Answer<Response> {
    activate(web, caller, id, Activity::Off, reason).await
}

async fn activate(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    activity: Activity,
    Reason(reason): Reason,
) -> Answer<Response> {
    let id = rule_id(&id)?;
    web.admin.rule(id).await?;
    web.admin.edit_rules(&[RuleEdit::Activate(id, activity)], false, &caller.0, reason.as_deref()).await?;
    Ok(rule_answer(&web.admin.rule(id).await?))
}

/// What would happen to a message
///
/// Which rule decides and why, and what the others say. Nothing is stored or sent.
#[utoipa::path(post, path = "/rules/test", request_body = TestBody, responses((status = 200, body = TestAnswer)))]
async fn test(State(web): State<Web>, body: JsonBody) -> Answer<Json<TestAnswer>> {
    let wanted: TestBody = body.read()?;
    if let Some(event) = &wanted.event_id {
        let event = super::event_id(event).map_err(|_| Fault::field("event_id", "it is no event's id"))?;
        return Ok(Json(answer(&web.admin.test_event(event).await?)));
    }
    let severity = match wanted.severity.as_ref().or(wanted.syslog_severity.as_ref()) {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(Fault::field("severity", "it is neither a number nor a name")),
    };
    let severity = severity.map(|text| text.parse::<Severity>()).transpose();
    let oid = wanted.trap_oid.filter(|oid| !oid.trim().is_empty()).map(|oid| oid.parse::<Oid>()).transpose();
    let message = TestMessage {
        message: wanted.message.unwrap_or_default(),
        hostname: wanted.hostname.unwrap_or_default(),
        severity: severity.map_err(|error| Fault::field("severity", error.to_string()))?,
        trap_oid: oid.map_err(|error| Fault::field("trap_oid", error.to_string()))?,
    };
    Ok(Json(answer(&web.admin.test_message(message).await?)))
}

/// Why a rule decides about a message or an event
///
/// The same as `/rules/test`, by the name under which it is looked for.
#[utoipa::path(post, path = "/rules/explain", request_body = TestBody, responses((status = 200, body = TestAnswer)))]
async fn explain(web: State<Web>, body: JsonBody) -> Answer<Json<TestAnswer>> {
    test(web, body).await
}

fn answer(outcome: &TestOutcome) -> TestAnswer {
    let winner = outcome.winner.as_ref();
    let handling = winner.map(|rule| rule.draft.handling(outcome.environment));
    TestAnswer {
        matched: winner.is_some(),
        rule: winner.map(RuleRow::from),
        why: outcome.why.clone(),
        considered: outcome.considered,
        matching: outcome.matching,
        environment: outcome.environment.name(),
        handling: handling.map(ToString::to_string),
        forwarded: handling.is_some_and(crate::model::Handling::is_forwarded),
        team: winner.map(|rule| rule.draft.team_assignment.as_str().to_owned()),
        host_team: outcome.host_team.clone(),
        explanations: outcome.explained.iter().map(ExplanationRow::from).collect(),
    }
}

/// A path segment that is no number names no rule.
pub(super) fn rule_id(text: &str) -> Result<RuleId, AdminError> {
    let not_found = || AdminError::NotFound { what: "rule", key: text.chars().take(40).collect() };
    text.parse().map(RuleId).map_err(|_| not_found())
}

pub(super) fn draft(members: &Map<String, Value>) -> Result<RuleDraft, AdminError> {
    let mut members = members.clone();
    // Clients that copy a rule send `id` along as null; a number would be ignored, so it is refused as unknown.
    if members.get("id").is_some_and(Value::is_null) {
        members.shift_remove("id");
    }
    if members.contains_key("id") {
        return Err(AdminError::invalid("id", "the number is given by the appliance; leave it out"));
    }
    RuleInput::from_json(&members)?.check()
}

fn numbered_draft((position, rule): (usize, &Value)) -> Result<RuleDraft, AdminError> {
    let place = format!("rules[{position}]");
    let members = rule.as_object().ok_or_else(|| AdminError::invalid(&*place, "it is not a JSON object"))?;
    draft(members).map_err(|error| error.within(&place))
}

/// The members without `id`, which clients send back as they got it.
fn without_id(members: &Map<String, Value>, id: RuleId) -> Result<Map<String, Value>, AdminError> {
    let mut members = members.clone();
    match members.shift_remove("id") {
        None | Some(Value::Null) => Ok(members),
        Some(Value::Number(number)) if number.as_i64() == Some(id.0) => Ok(members),
        Some(_) => Err(AdminError::invalid("id", "it is not the number in the address")),
    }
}
