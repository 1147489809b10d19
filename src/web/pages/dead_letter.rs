//! One dead letter: what it holds, why it died, and what can be done: put back, change, discard.

use askama::Template;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::Posted;
use super::super::text::{hex_dump, moment, visible, visible_lines};
use super::dead_letters::did;
use super::{Frame, Trouble, shown, shown_again};
use crate::admin::{DeadItem, DeadQueue, DeadRecord, LetterEdit, Selection};
use crate::model::{DeathClass, Severity};

/// Bytes shown of what is not understood.
const SHOWN_BYTES: usize = 4_096;

/// Queue and place, from the address.
pub(super) struct Place(DeadQueue, u64);

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<(String, u64)>::from_request_parts(parts, state).await;
        let path = path.ok().and_then(|Path((queue, seq))| Some(Self(queue.parse().ok()?, seq)));
        path.ok_or_else(|| Fault::bad_request("there is no such queue or place"))
    }
}

/// The form for changing an alert or event.
#[derive(Default)]
struct EditForm {
    hostname: String,
    message: String,
    app_name: String,
    /// Of alerts only.
    team: Option<String>,
    handling: Option<String>,
}

#[derive(Template)]
#[template(path = "dead_letter.html")]
struct DeadLetterPage {
    frame: Frame,
    queue: &'static str,
    seq: u64,
    facts: Vec<(&'static str, String)>,
    event: Option<String>,
    hex: Option<String>,
    form: Option<EditForm>,
    /// Number, name, whether it is the event's.
    severities: Vec<(u8, &'static str, bool)>,
    targets: Vec<String>,
    reason: String,
    trouble: Trouble,
}

/// `GET /dead-letters/{queue}/{seq}`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn, Place(queue, seq): Place) -> Answer<Response> {
    let frame = Frame::new(&web, &by, "dead-letters");
    shown(&page(&web, frame, queue, seq).await?)
}

async fn page(web: &Web, frame: Frame, queue: DeadQueue, seq: u64) -> Answer<DeadLetterPage> {
    let item = web.admin.dead_letter(queue, seq).await?;
    let event = item.record.event();
    let severity = event.and_then(|event| event.severity);
    let form = event.map(|event| EditForm {
        hostname: event.hostname.to_string(),
        message: event.message.to_string(),
        app_name: event.app_name.as_deref().unwrap_or_default().to_owned(),
        team: alert_part(&item, |alert| alert.team.as_str().to_owned()),
        handling: alert_part(&item, |alert| alert.handling.as_str().to_owned()),
    });
    let hex = match &item.record {
        DeadRecord::Bytes(bytes) => Some(hex_dump(bytes, SHOWN_BYTES)),
        _ => None,
    };
    Ok(DeadLetterPage {
        frame,
        queue: queue.name(),
        seq,
        facts: facts(&item),
        event: event.map(|event| event.id.to_string()),
        hex,
        form,
        severities: Severity::all().map(|each| (each.number(), each.name(), severity == Some(each))).collect(),
        targets: web.admin.target_names(),
        reason: String::new(),
        trouble: Trouble::default(),
    })
}

fn alert_part(item: &DeadItem, part: impl Fn(&crate::model::Alert) -> String) -> Option<String> {
    match &item.record {
        DeadRecord::Alert(alert) => Some(part(alert)),
        _ => None,
    }
}

fn facts(item: &DeadItem) -> Vec<(&'static str, String)> {
    let letter = match &item.letter {
        Ok(letter) => letter,
        Err(why) => return vec![("Reason", visible(why))],
    };
    let mut facts = vec![
        ("Given up by", visible(&letter.origin)),
        ("Why", letter.class.name().to_owned()),
        ("Reason", visible_lines(&letter.reason)),
    ];
    facts.extend(letter.answer.as_ref().map(|answer| ("The receiver's answer", visible_lines(answer))));
    facts.push(("Tries", letter.attempts.to_string()));
    facts.push(("Put back so far", letter.replays.to_string()));
    facts.push(("First given up", moment(letter.first_died_at)));
    facts.push(("Last given up", moment(letter.died_at)));
    if letter.class == DeathClass::Unknown {
        facts.push(("Note", "written by an older version, which kept less".to_owned()));
    }
    if let Some(edited) = &letter.edited {
        facts.push(("Changed", format!("by {} at {}", visible(&edited.by), moment(edited.at))));
        let original = crate::model::DeadLetter { payload: edited.original.clone(), edited: None, ..letter.clone() };
        if let Some(event) = DeadRecord::of(&original, DeadQueue::Dead).event() {
            facts.push(("Original host", visible(&event.hostname)));
            facts.push(("Original message", visible_lines(&event.message)));
        }
    }
    facts
}

/// `POST /dead-letters/{queue}/{seq}`: replays, changes or discards it, as the button says.
pub(super) async fn act(State(web): State<Web>, Place(queue, seq): Place, posted: Posted) -> Answer<Response> {
    let (fields, actor) = (&posted.fields, &posted.by.actor);
    let reason = fields.get("reason");
    let one = Selection::Places(vec![seq]);
    let outcome = match fields.get("act") {
        Some("replay") => {
            let acted = web.admin.replay_dead(queue, &one, fields.get("target"), actor, reason).await;
            acted.map(|acted| did("replay", &acted))
        }
        Some("discard") => web.admin.discard_dead(queue, &one, actor, reason).await.map(|acted| did("discard", &acted)),
        Some("edit") => {
            let edit = edit(&posted)?;
            web.admin.edit_dead(queue, seq, &edit, actor, reason).await.map(|()| "did=edit".to_owned())
        }
        _ => return Err(Fault::bad_request("this page has no such button")),
    };
    match outcome {
        Ok(did) => Ok(Redirect::to(&format!("/dead-letters?queue={}&{did}", queue.name())).into_response()),
        Err(error) => {
            let mut page = page(&web, Frame::new(&web, &posted.by, "dead-letters"), queue, seq).await?;
            page.trouble = error.into();
            page.reason = fields.text("reason");
            let status = page.trouble.status;
            shown_again(&page, status)
        }
    }
}

fn edit(posted: &Posted) -> Answer<LetterEdit> {
    let fields = &posted.fields;
    let severity = fields.parsed("severity", "0 to 7", |text| text.parse().ok())?;
    Ok(LetterEdit {
        hostname: Some(fields.text("hostname")),
        message: Some(fields.exact("message").replace("\r\n", "\n")),
        severity: Some(severity),
        app_name: Some(fields.text("app_name")),
        team: fields.get("team").map(str::to_owned),
        handling: fields.get("handling").map(str::to_owned),
    })
}
