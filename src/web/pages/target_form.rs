//! Adding, changing and removing the delivery targets that are kept in the store: the definition as a text, as a
//! configuration file would have it, with what is wrong beside it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::visible;
use super::views::ChangeView;
use super::{ConfirmPage, Frame, Trouble, done, expected, meanwhile, shown, shown_again};
use crate::admin::{AdminError, Enabled};

/// What a new target's form begins with.
const EXAMPLE: &str = "name = \"chat\"\nkind = \"slack\"\nsecret = \"slack\"\n\n[route]\nteams = [\"NETO\"]\n";

#[derive(Template)]
#[template(path = "target_form.html")]
struct TargetFormPage {
    frame: Frame,
    /// Empty for a new one.
    name: String,
    definition: String,
    enabled: bool,
    reason: String,
    /// The tag of what is being edited.
    version: String,
    /// What others did to it meanwhile.
    meanwhile: Vec<ChangeView>,
    trouble: Trouble,
}

/// `GET /targets/edit?name=`: without a name, a new one.
pub(super) async fn form(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let name = fields.text("name");
    let (definition, enabled) = if name.is_empty() {
        (EXAMPLE.to_owned(), true)
    } else {
        let target = web.admin.target_definition(&name)?;
        (target.definition.unwrap_or_default(), target.enabled)
    };
    shown(&TargetFormPage {
        frame: Frame::new(&web, &by, "targets"),
        version: web.admin.target_tag(&name).unwrap_or_default(),
        name,
        definition,
        enabled,
        reason: String::new(),
        meanwhile: Vec::new(),
        trouble: Trouble::default(),
    })
}

/// `POST /targets/edit`.
pub(super) async fn save(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (name, definition) = (posted.fields.text("name"), posted.fields.exact("definition"));
    let enabled = if posted.fields.get("enabled").is_some() { Enabled::Yes } else { Enabled::No };
    let (actor, reason) = (&posted.by.actor, posted.fields.get("reason"));
    let outcome = if name.is_empty() {
        web.admin.add_target(&definition, enabled, actor, reason).await
    } else {
        web.admin.change_target(&name, &definition, enabled, expected(&posted.fields), actor, reason).await
    };
    let Err(error) = outcome else { return Ok(done("/targets", "target-saved")) };
    let version = match &error {
        AdminError::Stale { tag, .. } => tag.clone(),
        _ => posted.fields.text("version"),
    };
    let page = TargetFormPage {
        frame: Frame::new(&web, &posted.by, "targets"),
        version,
        meanwhile: meanwhile(&web, &error, "delivery_targets", &name).await,
        name,
        definition,
        enabled: enabled == Enabled::Yes,
        reason: posted.fields.text("reason"),
        trouble: Trouble::from(error),
    };
    let status = page.trouble.status;
    shown_again(&page, status)
}

/// `GET /targets/remove?name=`.
pub(super) async fn confirm(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&remove_page(&web, Frame::new(&web, &by, "targets"), &fields.text("name"))?)
}

/// `POST /targets/remove`.
pub(super) async fn remove(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let name = posted.fields.text("name");
    let (expected, reason) = (expected(&posted.fields), posted.fields.get("reason"));
    let Err(error) = web.admin.remove_target(&name, expected, &posted.by.actor, reason).await else {
        return Ok(done("/targets", "target-removed"));
    };
    remove_page(&web, Frame::new(&web, &posted.by, "targets"), &name)?.again(error, &posted.fields)
}

/// Asks about the target as it is now; the answer counts for that one.
fn remove_page(web: &Web, frame: Frame, name: &str) -> Answer<ConfirmPage> {
    let target = web.admin.target_definition(name)?;
    let state = if target.enabled { "in use" } else { "switched off" };
    let definition = target.definition.unwrap_or_else(|| "in the configuration file".to_owned());
    Ok(ConfirmPage {
        frame,
        title: "Remove a delivery target".into(),
        consequence: "It is not spoken to any more. Alerts that wait for it are kept until you move or discard them.",
        facts: vec![
            ("Target", visible(&target.name)),
            ("Kind", visible(&target.kind)),
            ("State", state.to_owned()),
            ("Definition", visible(&definition)),
        ],
        action: "/targets/remove".into(),
        hidden: vec![("version", web.admin.target_tag(name).unwrap_or_default()), ("name", target.name)],
        button: "Remove target",
        back: "/targets".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    })
}
