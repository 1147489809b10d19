//! Many changes of rules by one request, all of them or none, and their order.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::JsonBody;
use super::rules::{RuleBody, RuleRow, draft};
use crate::admin::{Activity, AdminError, ItemFault, Order, RuleEdit, RuleEdited};
use crate::model::RuleId;

/// What is to be done to which rules.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkBody {
    /// Done one after the other; a later one sees what an earlier one did.
    #[schema(min_items = 1, max_items = 10_000)]
    items: Vec<BulkItem>,
    /// Only says what would become of them.
    #[serde(default)]
    dry_run: bool,
}

/// One thing to be done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BulkItem {
    action: BulkAction,
    /// The rule's number; a new one has none.
    #[serde(default)]
    id: Option<i64>,
    /// The new rule, or the members to be changed.
    #[serde(default)]
    #[schema(value_type = Option<RuleBody>)]
    rule: Option<Map<String, Value>>,
}

#[derive(Clone, Copy, Deserialize, Serialize, ToSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum BulkAction {
    Create,
    Change,
    Enable,
    Disable,
    Delete,
}

/// What became of all of it.
#[derive(Serialize, ToSchema)]
pub(super) struct BulkAnswer {
    dry_run: bool,
    /// How many were made, changed or removed.
    done: usize,
    /// In the order of the request.
    items: Vec<BulkDone>,
}

/// What became of one item.
#[derive(Serialize, ToSchema)]
struct BulkDone {
    action: BulkAction,
    /// The rule; null for one that a dry run would make.
    id: Option<i64>,
    /// `created`, `changed`, `unchanged` or `deleted`.
    outcome: &'static str,
}

/// The order that is wanted: either `order`, or `id` with `before` or `after`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderBody {
    /// Rules that are to stand in this order, in the places they have among the others now.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 10_000)]
    order: Option<Vec<i64>>,
    /// A rule that is to be moved.
    #[serde(default)]
    id: Option<i64>,
    /// It is put directly before this one.
    #[serde(default)]
    before: Option<i64>,
    /// It is put directly after this one.
    #[serde(default)]
    after: Option<i64>,
}

/// The rules whose priority was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderAnswer {
    changed: Vec<RuleRow>,
}

/// Many changes at once
///
/// Makes, changes, puts into and out of force and removes rules: all of it or nothing. With a fault nothing is done, and
/// `errors` names each item at fault by its place.
#[utoipa::path(
    post,
    path = "/rules/bulk",
    request_body = BulkBody,
    responses((status = 200, body = BulkAnswer), (status = 409, description = "Others change the same rules all the time"))
)]
pub(super) async fn bulk(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<BulkAnswer>> {
    let wanted: BulkBody = body.read()?;
    let (mut edits, mut faults) = (Vec::with_capacity(wanted.items.len()), Vec::new());
    for (index, item) in wanted.items.iter().enumerate() {
        match edit(item) {
            Ok(edit) => edits.push(edit),
            Err(error) => faults.push(ItemFault::new(index, &error)),
        }
    }
    if !faults.is_empty() {
        return Err(AdminError::Items(faults).into());
    }
    let done = web.admin.edit_rules(&edits, wanted.dry_run, &caller.0, body.reason.as_deref()).await?;
    let items: Vec<BulkDone> = wanted.items.iter().zip(&done).map(|(item, done)| outcome(item.action, done)).collect();
    Ok(Json(BulkAnswer {
        dry_run: wanted.dry_run,
        done: items.iter().filter(|item| item.outcome != "unchanged").count(),
        items,
    }))
}

fn edit(item: &BulkItem) -> Result<RuleEdit, AdminError> {
    let id = || {
        let id = item.id.ok_or_else(|| AdminError::invalid("id", "it is missing"))?;
        Ok::<_, AdminError>(RuleId(id))
    };
    let rule = || item.rule.as_ref().ok_or_else(|| AdminError::invalid("rule", "it is missing"));
    if item.rule.is_some() && !matches!(item.action, BulkAction::Create | BulkAction::Change) {
        return Err(AdminError::invalid("rule", "this action takes none"));
    }
    Ok(match item.action {
        BulkAction::Create if item.id.is_some() => {
            return Err(AdminError::invalid("id", "the number is given by the appliance; leave it out"));
        }
        BulkAction::Create => RuleEdit::Create(draft(rule()?)?),
        BulkAction::Change => RuleEdit::Change(id()?, rule()?.clone()),
        BulkAction::Enable => RuleEdit::Activate(id()?, Activity::On),
        BulkAction::Disable => RuleEdit::Activate(id()?, Activity::Off),
        BulkAction::Delete => RuleEdit::Delete(id()?, None),
    })
}

fn outcome(action: BulkAction, done: &RuleEdited) -> BulkDone {
    let (id, outcome) = match done {
        RuleEdited::Created(id) => (id.map(|id| id.0), "created"),
        RuleEdited::Changed(rule) => (Some(rule.id.0), "changed"),
        RuleEdited::Unchanged(rule) => (Some(rule.id.0), "unchanged"),
        RuleEdited::Deleted(id) => (Some(id.0), "deleted"),
    };
    BulkDone { action, id, outcome }
}

/// Puts rules in an order
///
/// Priorities are changed so that the rules are tried in this order: as few as possible, all of them anew where there is no
/// room between two.
#[utoipa::path(
    post,
    path = "/rules/reorder",
    request_body = OrderBody,
    responses((status = 200, body = OrderAnswer), (status = 409, description = "Others change the same rules all the time"))
)]
pub(super) async fn reorder(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<OrderAnswer>> {
    let wanted: OrderBody = body.read()?;
    let order = match wanted {
        OrderBody { order: Some(ids), id: None, before: None, after: None } => {
            Order::Sequence(ids.into_iter().map(RuleId).collect())
        }
        OrderBody { order: None, id: Some(id), before: Some(other), after: None } => {
            Order::Before(RuleId(id), RuleId(other))
        }
        OrderBody { order: None, id: Some(id), before: None, after: Some(other) } => {
            Order::After(RuleId(id), RuleId(other))
        }
        _ => return Err(Fault::bad_request("give `order`, or `id` with either `before` or `after`")),
    };
    let changed = web.admin.order_rules(&order, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(OrderAnswer { changed: changed.iter().map(RuleRow::from).collect() }))
}
