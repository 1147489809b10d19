//! Secrets: how each is, and its exchange step by step. A value is on no page but the one that answers its making.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::super::text::{ago, moment, visible};
use super::{Frame, Trouble, done, shown, shown_again};
use crate::admin::{AdminError, SecretAct, SecretLine, SlotLine};
use crate::model::Timestamp;
use crate::secret::Secret;

/// Where the page is.
const PLACE: &str = "/admin/secrets";

/// One place of a secret as the page shows it.
struct SlotView {
    set: bool,
    source: &'static str,
    since: String,
    last_used: String,
}

/// A secret as the page shows it.
struct SecretView {
    name: String,
    purpose: String,
    current: SlotView,
    next: SlotView,
    promote_at: Option<String>,
    awaited: bool,
    elsewhere: Option<String>,
}

#[derive(Template)]
#[template(path = "secrets.html")]
struct SecretsPage {
    frame: Frame,
    secrets: Vec<SecretView>,
    fault: Option<String>,
    vault: Option<(String, String)>,
    used_since: String,
    /// Name and value of a key that was made by this very request.
    made: Option<(String, Secret)>,
    trouble: Trouble,
}

#[derive(Template)]
#[template(path = "secret_act.html")]
struct ActPage {
    frame: Frame,
    secret: SecretView,
    act: &'static str,
    title: &'static str,
    consequence: &'static str,
    button: &'static str,
    /// Whether a value has to be typed, because the receiver makes it.
    wants_value: bool,
    /// Whether it may be said when NEXT becomes CURRENT by itself.
    wants_time: bool,
    promote_at: String,
    reason: String,
    trouble: Trouble,
}

/// `GET /admin/secrets`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "secrets").after(&fields), None, Trouble::default()))
}

fn page(web: &Web, frame: Frame, made: Option<(String, Secret)>, trouble: Trouble) -> SecretsPage {
    let now = web.admin.clock().now();
    let secrets = web.admin.secret_lines();
    let fault = secrets.fault.map(|(since, why)| format!("{} ({})", visible(&why), ago(since, now)));
    let vault = secrets.vault.map(|vault| {
        let state = match (&vault.trouble, vault.last_success) {
            (Some((since, why)), _) => format!("not well since {}: {}", moment(*since), visible(why)),
            (None, Some(at)) => format!("answered {}", ago(at, now)),
            (None, None) => "did not answer yet".to_owned(),
        };
        (visible(&vault.address), state)
    });
    SecretsPage {
        frame,
        secrets: secrets.lines.iter().map(|line| view(line, now)).collect(),
        fault,
        vault,
        used_since: secrets.counted_since.map(moment).unwrap_or_default(),
        made,
        trouble,
    }
}

/// `GET /admin/secrets/act?name=&act=`.
pub(super) async fn confirm(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let frame = Frame::new(&web, &by, "secrets");
    let page = act_page(&web, frame, &fields, Trouble::default())?;
    shown(&page)
}

/// `POST /admin/secrets/act`.
pub(super) async fn act(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (fields, by) = (&posted.fields, &posted.by);
    let name = fields.text("name");
    let outcome = match act_of(fields) {
        Ok(act) => web.admin.change_secret(&name, act, &by.actor, fields.get("reason")).await,
        Err(error) => Err(error),
    };
    let frame = || Frame::new(&web, by, "secrets");
    match outcome {
        Ok(changed) => match changed.made {
            Some(made) => shown(&page(&web, frame(), Some((visible(&name), made)), Trouble::default())),
            None => Ok(done(PLACE, "secret-changed")),
        },
        Err(error) => {
            let trouble = Trouble::from(error);
            let status = trouble.status;
            shown_again(&act_page(&web, frame(), fields, trouble)?, status)
        }
    }
}

/// What a form asks for.
fn act_of(fields: &Fields) -> Result<SecretAct, AdminError> {
    let promote_at = fields.time("promote_at");
    let promote_at =
        promote_at.map_err(|_| AdminError::invalid("promote_at", "it is not a time such as 2026-03-01 12:00"))?;
    match fields.text("act").as_str() {
        "rotate" => Ok(SecretAct::Rotate { value: fields.get("value").map(Secret::new), promote_at }),
        "promote" => Ok(SecretAct::Promote),
        "cancel" => Ok(SecretAct::Cancel),
        _ => Err(AdminError::invalid("act", "it is rotate, promote or cancel")),
    }
}

fn act_page(web: &Web, frame: Frame, fields: &Fields, trouble: Trouble) -> Answer<ActPage> {
    let line = web.admin.secret_line(&fields.text("name"))?;
    let (act, title, consequence, button) = match fields.text("act").as_str() {
        "rotate" => (
            "rotate",
            "Begin the exchange of a secret",
            "A next value is set beside the current one. Both count from then on: callers may use either, and a receiver \
             is sent the next one when it refuses the current one.",
            "Set the next value",
        ),
        "promote" => (
            "promote",
            "End the exchange of a secret",
            "The next value becomes the current one. What was current does not count any more and is forgotten: whoever \
             still uses it is refused.",
            "Promote",
        ),
        "cancel" => (
            "cancel",
            "Give up the exchange of a secret",
            "The next value is forgotten: whoever uses it already is refused.",
            "Forget the next value",
        ),
        _ => return Err(Fault::new(StatusCode::NOT_FOUND, "there is no such act on a secret")),
    };
    Ok(ActPage {
        frame,
        act,
        title,
        consequence,
        button,
        wants_value: act == "rotate" && !line.made_here,
        wants_time: act == "rotate",
        promote_at: fields.text("promote_at"),
        reason: fields.text("reason"),
        secret: view(&line, web.admin.clock().now()),
        trouble,
    })
}

fn view(line: &SecretLine, now: Timestamp) -> SecretView {
    let slot = |slot: &SlotLine| SlotView {
        set: slot.source.is_some(),
        source: slot.source.map_or("", |source| source.name()),
        since: slot.since.map(moment).unwrap_or_default(),
        last_used: slot.last_used.map_or_else(|| "not yet".to_owned(), |at| ago(at, now)),
    };
    SecretView {
        name: visible(&line.name),
        purpose: visible(&line.purpose),
        current: slot(&line.current),
        next: slot(&line.next),
        promote_at: line.promote_at.map(moment),
        awaited: line.awaited,
        elsewhere: line.elsewhere.as_deref().map(visible),
    }
}
