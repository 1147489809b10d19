//! Rules over the API, under upstream's names.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, Segment};
use super::{Paging, created};
use crate::admin::{AdminError, RuleInput, TestMessage, TestOutcome, rule_json};
use crate::model::{Oid, Rule, RuleDraft, RuleId, Severity};

/// `GET /rules`: all of them, or a page where one is asked for.
pub(super) async fn list(State(web): State<Web>, fields: Fields) -> Answer<Json<Value>> {
    fields.only(&["page", "limit"])?;
    let paged = fields.get("page").is_some() || fields.get("limit").is_some();
    let paging = Paging::of(&fields, 100)?;
    let found = web.admin.rules().await?;
    let total = found.rules.len();
    let (skip, take) = if paged { ((paging.page - 1) * paging.limit, paging.limit) } else { (0, total) };
    let rules: Vec<Value> = found.rules.iter().skip(skip).take(take).map(rule_json).collect();
    let mut body = json!({"rules": rules, "total": total, "problems": found.problems});
    if paged {
        body["pagination"] = paging.json(u64::try_from(total).unwrap_or(u64::MAX));
    }
    Ok(Json(body))
}

/// `GET /rules/{id}`.
pub(super) async fn show(State(web): State<Web>, Segment(id): Segment) -> Answer<Json<Value>> {
    Ok(Json(rule_json(&web.admin.rule(rule_id(&id)?).await?)))
}

/// `POST /rules`: one rule, or an array of rules (also as member `rules`), all or none.
pub(super) async fn create(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Response> {
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
        return Ok(created("rules", &rule.id.to_string(), rule_json(&rule)));
    };
    let drafts: Result<Vec<RuleDraft>, AdminError> = many.iter().enumerate().map(numbered_draft).collect();
    let made = web.admin.create_rules(drafts?, &caller.0, reason).await?;
    let rules: Vec<Value> = made.iter().map(rule_json).collect();
    Ok((StatusCode::CREATED, Json(json!({"total": rules.len(), "rules": rules}))).into_response())
}

/// `PUT /rules/{id}`: what is left out falls back to its default.
pub(super) async fn replace(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    body: JsonBody,
) -> Answer<Json<Value>> {
    let id = rule_id(&id)?;
    let rule = Rule { id, draft: draft(&without_id(body.members()?, id)?)? };
    Ok(Json(rule_json(&web.admin.update_rule(rule, &caller.0, body.reason.as_deref()).await?)))
}

/// `PATCH /rules/{id}`: what is left out stays as it is.
pub(super) async fn change(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    body: JsonBody,
) -> Answer<Json<Value>> {
    let id = rule_id(&id)?;
    let changes = without_id(body.members()?, id)?;
    let mut members = match rule_json(&web.admin.rule(id).await?) {
        Value::Object(members) => without_id(&members, id)?,
        _ => Map::new(),
    };
    members.extend(changes);
    let rule = Rule { id, draft: draft(&members)? };
    Ok(Json(rule_json(&web.admin.update_rule(rule, &caller.0, body.reason.as_deref()).await?)))
}

/// `DELETE /rules/{id}`.
pub(super) async fn remove(
    State(web): State<Web>,
    caller: Caller,
    Segment(id): Segment,
    Reason(reason): Reason,
) -> Answer<StatusCode> {
    web.admin.delete_rule(rule_id(&id)?, &caller.0, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /rules/test`: what would happen to a message.
pub(super) async fn test(State(web): State<Web>, body: JsonBody) -> Answer<Json<Value>> {
    body.only(&["message", "hostname", "severity", "syslog_severity", "trap_oid"])?;
    let members = body.members()?;
    let given = |name: &str| members.get(name).filter(|value| !value.is_null());
    let text = |name: &str| if given(name).is_some() { body.text(name).map(str::to_owned) } else { Ok(String::new()) };
    let severity = match given("severity").or_else(|| given("syslog_severity")) {
        None => None,
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(Fault::field("severity", "it is neither a number nor a name")),
    };
    let severity = severity.map(|text| text.parse::<Severity>()).transpose();
    let oid = text("trap_oid")?;
    let oid = if oid.trim().is_empty() { Ok(None) } else { oid.parse::<Oid>().map(Some) };
    let message = TestMessage {
        message: text("message")?,
        hostname: text("hostname")?,
        severity: severity.map_err(|error| Fault::field("severity", error.to_string()))?,
        trap_oid: oid.map_err(|error| Fault::field("trap_oid", error.to_string()))?,
    };
    Ok(Json(outcome_json(&web.admin.test_message(message).await?)))
}

fn outcome_json(outcome: &TestOutcome) -> Value {
    let winner = outcome.winner.as_ref();
    let handling = winner.map(|rule| rule.draft.handling(outcome.environment));
    json!({
        "matched": winner.is_some(),
        "rule": winner.map(rule_json),
        "environment": outcome.environment.name(),
        "handling": handling.map(ToString::to_string),
        "forwarded": handling.is_some_and(crate::model::Handling::is_forwarded),
        "team": winner.map(|rule| rule.draft.team_assignment.as_str()),
        "host_team": outcome.host_team,
        "explanations": outcome.explained.iter().map(|told| json!({
            "rule_id": told.rule.id.0,
            "matched": told.matched,
            "why": told.why,
        })).collect::<Vec<_>>(),
    })
}

/// A path segment that is no number names no rule.
fn rule_id(text: &str) -> Result<RuleId, AdminError> {
    let not_found = || AdminError::NotFound { what: "rule", key: text.chars().take(40).collect() };
    text.parse().map(RuleId).map_err(|_| not_found())
}

fn draft(members: &Map<String, Value>) -> Result<RuleDraft, AdminError> {
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
