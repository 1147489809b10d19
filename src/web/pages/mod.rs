//! The pages: server-rendered, complete without script. A form that fails is shown again with what was typed.

mod about;
mod archive_search;
mod archives;
mod changes;
mod changes_file;
mod dead_letter;
mod dead_letters;
mod events;
mod holds;
mod inventory;
mod keys;
mod login;
mod logs;
mod oidc;
mod overview;
mod retention;
mod rule_bulk;
mod rule_test;
mod rules;
mod secrets;
mod settings;
mod slo;
mod target_form;
mod targets;
mod users;
mod views;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use super::assets::Assets;
use super::auth::{SignedIn, page_guard};
use super::fault::{Answer, Fault};
use super::input::Fields;
use super::text::visible;
use super::{Web, fault};
use crate::access::{Right, Role};
use crate::admin::{AdminError, ChangeQuery, VERSION};
use views::ChangeView;

/// The pages' routes: those behind the login, and those before it.
pub(super) fn router(web: Web) -> Router<Web> {
    let guarded = Router::new()
        .route("/", get(overview::show))
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::show))
        .route("/rules", get(rules::list).post(rules::create))
        .route("/rules/new", get(rules::new_form))
        .route("/rules/test", get(rule_test::form).post(rule_test::run))
        .route("/rules/bulk", post(rule_bulk::act))
        .route("/rules/try", post(rules::try_out))
        .route("/rules/{id}", get(rules::edit_form).post(rules::save))
        .route("/rules/{id}/delete", get(rules::confirm_delete).post(rules::delete))
        .route("/rules/{id}/history", get(rules::history))
        .route("/dev-hosts", get(inventory::dev_hosts).post(inventory::add_dev_host))
        .route("/dev-hosts/remove", get(inventory::confirm_dev_host).post(inventory::remove_dev_host))
        .route("/teams", get(inventory::teams).post(inventory::add_team))
        .route("/teams/edit", get(inventory::edit_team).post(inventory::save_team))
        .route("/teams/remove", get(inventory::confirm_team).post(inventory::remove_team))
        .route("/changes", get(changes::list))
        .route("/admin/config", get(settings::list).post(settings::save))
        .route("/admin/config/reset", post(settings::reset))
        .route("/admin/config/history", get(settings::history))
        .route("/admin/config/revert", post(settings::revert))
        .route("/admin/secrets", get(secrets::list))
        .route("/admin/secrets/act", get(secrets::confirm).post(secrets::act))
        .route("/admin/retention", get(retention::show))
        .route("/admin/retention/run", post(retention::run))
        .route("/admin/retention/archives", get(archives::list))
        .route("/admin/retention/archives/verify", post(archives::verify))
        .route("/admin/retention/archives/restore", get(archives::restore_form).post(archives::restore))
        .route("/admin/retention/archives/return", get(archives::confirm_return).post(archives::give_back))
        .route("/admin/retention/archives/accept", get(archives::confirm_accept).post(archives::accept))
        .route("/admin/retention/search", get(archive_search::search))
        .route("/admin/retention/events/{id}", get(archive_search::show))
        .route("/admin/retention/holds", get(holds::list).post(holds::place))
        .route("/admin/retention/holds/lift", get(holds::confirm_lift).post(holds::lift))
        .route("/admin/retention/erase", get(holds::confirm_erase).post(holds::erase))
        .route("/changes/verify", post(changes::verify))
        .route("/changes/file", get(changes_file::download))
        .route("/targets", get(targets::list))
        .route("/targets/edit", get(target_form::form).post(target_form::save))
        .route("/targets/remove", get(target_form::confirm).post(target_form::remove))
        .route("/targets/test", post(targets::test))
        .route("/targets/reset", post(targets::reset))
        .route("/outboxes/move", post(targets::move_outbox))
        .route("/outboxes/discard", get(targets::confirm_discard).post(targets::discard_outbox))
        .route("/dead-letters", get(dead_letters::list).post(dead_letters::act))
        .route("/dead-letters/{queue}/{seq}", get(dead_letter::show).post(dead_letter::act))
        .route("/users", get(users::list).post(users::create))
        .route("/users/act", post(users::act))
        .route("/users/remove", get(users::confirm).post(users::remove))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/act", post(keys::act))
        .route("/keys/revoke", get(keys::confirm).post(keys::revoke))
        .route("/slo", get(slo::show))
        .route("/logs", get(logs::list))
        .route("/status", get(about::show))
        .route("/account", get(login::account_form).post(login::change_password))
        .route("/logout", post(login::logout))
        .route_layer(from_fn_with_state(web, page_guard));
    Router::new()
        .route("/login", get(login::form).post(login::log_in))
        .route("/login/oidc", get(oidc::begin))
        .route("/login/oidc/callback", get(oidc::finish))
        .route("/setup", get(login::setup_form).post(login::set_up))
        .merge(guarded)
        .method_not_allowed_fallback(fault::wrong_method)
}

/// What is around every page: who is logged in, where we are, what was just done.
struct Frame {
    assets: Arc<Assets>,
    section: &'static str,
    user: String,
    role: Role,
    /// The user has to change a temporary password before anything else.
    must_change_password: bool,
    csrf: String,
    done: Option<&'static str>,
    version: &'static str,
    /// What is wrong with the change log, on every page until somebody has dealt with it.
    trail: Option<String>,
}

impl Frame {
    fn new(web: &Web, by: &SignedIn, section: &'static str) -> Self {
        Self {
            assets: Arc::clone(&web.assets),
            section,
            user: by.session.user.clone(),
            role: by.session.role,
            must_change_password: by.session.must_change_password,
            csrf: by.session.csrf_token.clone(),
            done: None,
            version: VERSION,
            trail: web.admin.trail_warning().map(|why| visible(&why)),
        }
    }

    /// Tells what the request before this page did, by the code it redirected with.
    fn after(mut self, fields: &Fields) -> Self {
        self.done = fields.get("done").and_then(done_text);
        self
    }

    /// Whether the user logs in by the provider.
    fn is_provided(&self) -> bool {
        self.user.starts_with("oidc:")
    }

    /// Whether the user changes what the appliance works with.
    fn is_operator(&self) -> bool {
        self.role.has(Right::Operate)
    }

    /// Whether the user decides on users and keys.
    fn is_admin(&self) -> bool {
        self.role.has(Right::Administer)
    }

    /// The mark of the current section in the navigation.
    fn is_in(&self, section: &str) -> bool {
        self.section == section
    }
}

/// Only these sentences can be shown, whatever the address says.
fn done_text(code: &str) -> Option<&'static str> {
    Some(match code {
        "rule-created" => "The rule was created. It takes effect within a second.",
        "rule-saved" => "The rule was saved. It takes effect within a second.",
        "rule-deleted" => "The rule was deleted.",
        "rules-changed" => "The rules were changed. It takes effect within a second.",
        "rules-ordered" => "The order was changed. It takes effect within a second.",
        "rules-deleted" => "The rules were deleted.",
        "host-added" => "The host is a development host now.",
        "host-removed" => "The host is a production host again.",
        "team-added" => "The team was assigned.",
        "team-saved" => "The team was changed.",
        "team-removed" => "The host has no team of its own any more.",
        "target-saved" => "The target was saved and is in force.",
        "target-removed" => "The target was removed.",
        "target-reset" => "The target is spoken to again.",
        "secret-changed" => "The secret was changed and is in force.",
        "outbox-moved" => "The alerts were moved.",
        "outbox-discarded" => "The alerts were discarded.",
        "settings-saved" => "The settings were saved and are in force.",
        "settings-same" => "Nothing was changed: every value was the same.",
        "setting-reset" => "The setting comes from environment, file or default again.",
        "setting-reverted" => "The setting is what it was before that change.",
        "retention-ran" => "The run has ended; what it did is below.",
        "retention-going" => "It takes longer and goes on by itself; load this page again to see how it stands.",
        "retention-long" => "What a run would do cannot be told within twenty seconds; try again when less is waiting.",
        "archive-verified" => "What was read is what it was when it was archived.",
        "archive-restored" => "The events are in the audit again, for the time you said; the archives stay.",
        "archive-returned" => "The restored copies have left the audit; the archive stays.",
        "archive-accepted" => "The archive was accepted as it is; the manifest of before is kept as evidence.",
        "hold-placed" => "The hold was placed: what it covers is not deleted until it is lifted.",
        "hold-lifted" => "The hold was lifted: what it covered goes with the next run if its time is up.",
        "erasure-asked" => "The erasure was taken down; the list below says when it is done and what it came to.",
        "user-changed" => "The user was changed; the user's sessions ended.",
        "user-removed" => "The user was removed.",
        "key-promoted" => "The NEXT value is the key now; the old value works no more.",
        "key-revoked" => "The key was revoked.",
        "trail-verified" => "The change log was read again; see below.",
        "password-changed" => "The password was changed. Log in with the new one.",
        "logged-out" => "You are logged out.",
        _ => return None,
    })
}

/// What was wrong with a form; empty when nothing was.
#[derive(Debug, Clone, Default)]
struct Trouble {
    field: String,
    why: String,
    status: StatusCode,
}

impl Trouble {
    /// Whether anything was wrong.
    fn any(&self) -> bool {
        !self.why.is_empty()
    }

    /// What was wrong with one field.
    fn at(&self, field: &str) -> Option<&str> {
        (self.any() && self.field == field).then_some(self.why.as_str())
    }
}

impl From<AdminError> for Trouble {
    fn from(error: AdminError) -> Self {
        Self::from_fault(Fault::from(error))
    }
}

impl Trouble {
    /// What a fault says about a form.
    fn from_fault(fault: Fault) -> Self {
        Self {
            field: fault.field.clone().unwrap_or_default().into(),
            why: match (&fault.field, fault.detail, fault.items.first()) {
                (Some(_), Some(detail), _) => detail,
                (_, Some(detail), _) => format!("{}: {detail}", fault.error),
                (_, None, Some(first)) => format!("{}: {}", fault.error, first.why),
                (_, None, None) => fault.error,
            },
            status: fault.status,
        }
    }
}

/// Changes of others that are shown to somebody whose form they overtook.
const MEANWHILE: usize = 3;

/// What was done to a row since its form was filled in: its last changes, newest first. Without them the form would say
/// only that something changed.
async fn meanwhile(web: &Web, error: &AdminError, table: &str, record: &str) -> Vec<ChangeView> {
    if !matches!(error, AdminError::Stale { .. }) {
        return Vec::new();
    }
    let query = ChangeQuery {
        table_name: Some(table.to_owned()),
        record_id: Some(record.to_owned()),
        limit: MEANWHILE,
        ..ChangeQuery::default()
    };
    let found = web.admin.changes(&query).await;
    found.map(|page| page.rows.iter().map(ChangeView::new).collect()).unwrap_or_default()
}

/// The tag that a form was filled in for; a form without one is a script's that wants no check.
fn expected(fields: &Fields) -> Option<Vec<String>> {
    fields.get("version").map(|tag| vec![tag.to_owned()])
}

/// A page as an answer.
fn shown(template: &impl Template) -> Answer<Response> {
    match template.render() {
        Ok(html) => Ok(Html(html).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be shown"))
        }
    }
}

/// A page that shows its form again.
fn shown_again(template: &impl Template, trouble: StatusCode) -> Answer<Response> {
    Ok((trouble, shown(template)?).into_response())
}

/// On to a page that says what was done (303, so that reloading it does not do it again).
fn done(target: &str, code: &'static str) -> Response {
    Redirect::to(&format!("{target}?done={code}")).into_response()
}

/// A page that asks before something is removed.
#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    frame: Frame,
    title: String,
    consequence: &'static str,
    facts: Vec<(&'static str, String)>,
    action: String,
    hidden: Vec<(&'static str, String)>,
    button: &'static str,
    back: String,
    trouble: Trouble,
    reason: String,
}

impl ConfirmPage {
    /// Asks once more after it could not be done: what is removed by then may be another than the one that was looked at.
    fn again(mut self, error: AdminError, fields: &Fields) -> Answer<Response> {
        self.trouble = error.into();
        self.reason = fields.text("reason");
        let status = self.trouble.status;
        shown_again(&self, status)
    }
}
