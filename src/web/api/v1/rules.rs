//! Rules in version 1: a bare array of rows, and changes that are answered with a sentence.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::super::Web;
use super::super::super::auth::Caller;
use super::super::super::fault::{Answer, Fault};
use super::super::super::input::{JsonBody, Reason, Segment};
use super::super::rules::RuleRow;
use super::{Done, told};
use crate::admin::{AdminError, RuleInput, rule_json};
use crate::model::{Rule, RuleId};

/// The members of a rule that can be given.
const MEMBERS: [&str; 9] = [
    "match_string",
    "trap_oid",
    "syslog_severity",
    "match_type",
    "priority",
    "prod_handling",
    "dev_handling",
    "team_assignment",
    "is_active",
];

/// Those that a new rule must have.
const REQUIRED: [&str; 3] = ["prod_handling", "dev_handling", "team_assignment"];

/// A rule as version 1 takes it; of a change only the members that are to change.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read member by member")]
pub(super) struct OldRule {
    /// Text or regular expression.
    match_string: Option<String>,
    /// Prefix of the trap's OID.
    trap_oid: Option<String>,
    /// 0 to 7.
    syslog_severity: Option<u8>,
    /// `contains` (unless said), `regex` or `oid_prefix`.
    match_type: Option<String>,
    /// Lower wins; 100 unless said.
    priority: Option<i32>,
    /// Needed for a new rule.
    prod_handling: Option<String>,
    /// Needed for a new rule.
    dev_handling: Option<String>,
    /// Needed for a new rule.
    team_assignment: Option<String>,
    /// True unless said.
    is_active: Option<bool>,
}

/// What a new rule is answered with in version 1.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OldRuleCreated)]
pub(super) struct Created {
    /// Its number.
    id: i64,
    /// What was done.
    message: &'static str,
}

/// Rules, as a bare array
#[utoipa::path(get, path = "/rules", responses((status = 200, body = Vec<RuleRow>)))]
pub(super) async fn list(State(web): State<Web>) -> Answer<Json<Vec<RuleRow>>> {
    Ok(Json(web.admin.rules().await?.rules.iter().map(RuleRow::from).collect()))
}

/// One rule
#[utoipa::path(
    get,
    path = "/rules/{id}",
    params(("id" = String, Path, description = "The rule's number")),
    responses((status = 200, body = RuleRow))
)]
pub(super) async fn show(State(web): State<Web>, Segment(id): Segment) -> Answer<Json<RuleRow>> {
    Ok(Json(RuleRow::from(&web.admin.rule(rule_id(&id)?).await.map_err(no_rule)?)))
}

/// Makes a rule
#[utoipa::path(post, path = "/rules", request_body = OldRule, responses((status = 201, body = Created)))]
pub(super) async fn create(
    State(web): State<Web>,
    caller: Caller,
    body: JsonBody,
) -> Answer<(StatusCode, Json<Created>)> {
    let members = given(&body)?;
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| !members.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(Fault::bad_request(format!("Missing required fields: {}", missing.join(", "))));
    }
    if !members.contains_key("match_string") && !members.contains_key("trap_oid") {
        return Err(Fault::bad_request("Either match_string or trap_oid is required"));
    }
    let draft = RuleInput::from_json(&members)?.check()?;
    let rule = web.admin.create_rule(draft, &caller.0, body.reason.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(Created { id: rule.id.0, message: "Rule created successfully" })))
}

/// Changes members of a rule
///
/// What is left out stays as it is.
#[utoipa::path(
    put,
    path = "/rules/{id}",
    params(("id" = String, Path, description = "The rule's number")),
    request_body = OldRule,
    responses((status = 200, body = Done))
)]
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    body: JsonBody,
) -> Answer<Json<Done>> {
    let id = rule_id(&id)?;
    let sent = body.members()?;
    let named: Vec<&str> = MEMBERS.into_iter().filter(|name| sent.contains_key(*name)).collect();
    if named.is_empty() {
        return Err(Fault::bad_request("No fields to update"));
    }
    let mut members = match rule_json(&web.admin.rule(id).await.map_err(no_rule)?) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.shift_remove("id");
    for name in named {
        members.shift_remove(name);
    }
    members.extend(given(&body)?);
    let rule = Rule { id, draft: RuleInput::from_json(&members)?.check()? };
    web.admin.update_rule(rule, None, &caller.0, body.reason.as_deref()).await.map_err(no_rule)?;
    Ok(Json(Done { message: "Rule updated successfully" }))
}

/// Removes a rule
#[utoipa::path(
    delete,
    path = "/rules/{id}",
    params(("id" = String, Path, description = "The rule's number")),
    responses((status = 200, body = Done))
)]
pub(super) async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    Reason(reason): Reason,
) -> Answer<Json<Done>> {
    web.admin.delete_rule(rule_id(&id)?, None, &caller.0, reason.as_deref()).await.map_err(no_rule)?;
    Ok(Json(Done { message: "Rule deleted successfully" }))
}

/// The known members of a body that have a value: null and an empty text are none.
fn given(body: &JsonBody) -> Answer<Map<String, Value>> {
    let is_none = |value: &Value| value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
    let known = body.members()?.iter().filter(|(name, value)| MEMBERS.contains(&name.as_str()) && !is_none(value));
    Ok(known.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// A path segment that is no number names no rule.
fn rule_id(text: &str) -> Result<RuleId, Fault> {
    text.parse().map(RuleId).map_err(|_| Fault::new(StatusCode::NOT_FOUND, "Rule not found"))
}

fn no_rule(error: AdminError) -> Fault {
    told(error, "Rule not found", "Rule already exists")
}
