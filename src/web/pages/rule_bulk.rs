//! What the list of rules does to several at once: in and out of force, up and down, removed after a question.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::super::Web;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::views::RuleRow;
use super::{ConfirmPage, Frame, Trouble, done, shown};
use crate::admin::{Activity, AdminError, Order, RuleEdit, rule_tag};
use crate::model::{Rule, RuleId};

/// Rules that the question before a removal names; of more it says how many.
const NAMED: usize = 10;

/// `POST /rules/bulk`.
pub(super) async fn act(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let fields = &posted.fields;
    let one = |name: &str| fields.get(name).and_then(|id| id.parse().ok()).map(RuleId);
    if let Some(order) = moved(&web, one("up"), one("down")).await? {
        web.admin.order_rules(&order, &posted.by.actor, fields.get("reason")).await?;
        return Ok(done("/rules", "rules-ordered"));
    }
    if let Some(id) = one("on") {
        return activate(&web, &posted, &[id], Activity::On).await;
    }
    if let Some(id) = one("off") {
        return activate(&web, &posted, &[id], Activity::Off).await;
    }
    let ids: Vec<RuleId> = fields.all("id").filter_map(|id| id.parse().ok().map(RuleId)).collect();
    if ids.is_empty() {
        return Err(Fault::bad_request("no rule was chosen; tick those that you mean"));
    }
    match fields.text("action").as_str() {
        "enable" => activate(&web, &posted, &ids, Activity::On).await,
        "disable" => activate(&web, &posted, &ids, Activity::Off).await,
        "delete" => shown(&question(&web, &posted, &ids).await?),
        "delete-them" => {
            let seen = versions(fields);
            let delete = |id: &RuleId| RuleEdit::Delete(*id, seen.get(&id.to_string()).cloned());
            let edits: Vec<RuleEdit> = ids.iter().map(delete).collect();
            match web.admin.edit_rules(&edits, false, &posted.by.actor, fields.get("reason")).await {
                Ok(_) => Ok(done("/rules", "rules-deleted")),
                Err(error) => question(&web, &posted, &ids).await?.again(error, fields),
            }
        }
        _ => Err(Fault::field("action", "it is not `enable`, `disable` or `delete`")),
    }
}

async fn activate(web: &Web, posted: &Posted, ids: &[RuleId], activity: Activity) -> Answer<Response> {
    let edits: Vec<RuleEdit> = ids.iter().map(|id| RuleEdit::Activate(*id, activity)).collect();
    web.admin.edit_rules(&edits, false, &posted.by.actor, posted.fields.get("reason")).await?;
    Ok(done("/rules", "rules-changed"))
}

/// One place up or down among all rules; at the end it stays.
async fn moved(web: &Web, up: Option<RuleId>, down: Option<RuleId>) -> Result<Option<Order>, AdminError> {
    let Some(id) = up.or(down) else { return Ok(None) };
    let rules = web.admin.rules().await?.rules;
    let missing = || AdminError::NotFound { what: "rule", key: id.to_string() };
    let at = rules.iter().position(|rule| rule.id == id).ok_or_else(missing)?;
    let neighbour = if up.is_some() { at.checked_sub(1) } else { Some(at + 1) };
    let neighbour = neighbour.and_then(|at| rules.get(at)).map_or(id, |rule| rule.id);
    Ok(Some(if up.is_some() { Order::Before(id, neighbour) } else { Order::After(id, neighbour) }))
}

/// The tags that the rules had when they were asked about, by their numbers.
fn versions(fields: &Fields) -> HashMap<String, String> {
    let versions = fields.all("version").filter_map(|version| version.split_once(':'));
    versions.map(|(id, tag)| (id.to_owned(), tag.to_owned())).collect()
}

/// Asks about the rules as they are now; the answer counts for those.
async fn question(web: &Web, posted: &Posted, ids: &[RuleId]) -> Answer<ConfirmPage> {
    let rules = web.admin.rules().await?.rules;
    let chosen: Vec<&Rule> = rules.iter().filter(|rule| ids.contains(&rule.id)).collect();
    if chosen.is_empty() {
        return Err(Fault::new(StatusCode::NOT_FOUND, "none of these rules is there any more"));
    }
    let named = chosen.iter().take(NAMED).map(|rule| RuleRow::new(rule));
    let mut facts: Vec<(&'static str, String)> =
        named.map(|row| ("Rule", format!("{}: {}", row.id, row.condition()))).collect();
    if chosen.len() > NAMED {
        facts.push(("Further rules", (chosen.len() - NAMED).to_string()));
    }
    let mut hidden: Vec<(&'static str, String)> = vec![("action", "delete-them".to_owned())];
    for rule in &chosen {
        hidden.push(("id", rule.id.to_string()));
        hidden.push(("version", format!("{}:{}", rule.id, rule_tag(rule))));
    }
    Ok(ConfirmPage {
        frame: Frame::new(web, &posted.by, "rules"),
        title: format!("Delete {} rules", chosen.len()),
        consequence: "Events that only these rules match will count as unhandled. The rules stay in the change log; to stop \
                      them for a while, disable them instead.",
        facts,
        action: "/rules/bulk".into(),
        hidden,
        button: "Delete rules",
        back: "/rules".into(),
        trouble: Trouble::default(),
        reason: posted.fields.text("reason"),
    })
}

/// The days that a rule in the form is to be tried on.
pub(super) fn trial_days(fields: &Fields) -> Answer<usize> {
    fields.number("days", 7, 1, crate::admin::MAX_TRIAL_DAYS)
}
