//! Legal holds and erasures: list, place, lift; what erasing a host would take, and doing it.
//!
//! Both are asked about before they happen. An erasure is taken down first and carried out even after a crash.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::{count, short_moment, visible};
use super::views::counted;
use super::{ConfirmPage, Frame, Trouble, done, shown, shown_again};
use crate::admin::{AdminError, Erasure, ErasurePlan, Hold, HoldDraft};
use crate::model::Timestamp;

/// Where they are.
const PLACE: &str = "/admin/retention/holds";
/// Where a host is erased.
const ERASE: &str = "/admin/retention/erase";
/// Erasures that are listed.
const LISTED: usize = 100;

struct HoldRow {
    id: i64,
    name: String,
    host: String,
    from: String,
    to: String,
    reason: String,
    by: String,
    at: String,
}

impl HoldRow {
    fn new(hold: &Hold) -> Self {
        let time = |at: Option<Timestamp>| at.map_or_else(|| "any time".to_owned(), short_moment);
        Self {
            id: hold.id,
            name: visible(&hold.name),
            host: hold.hostname.as_deref().map_or_else(|| "every host".to_owned(), visible),
            from: time(hold.from),
            to: time(hold.to),
            reason: visible(&hold.reason),
            by: visible(&hold.placed_by),
            at: short_moment(hold.placed_at),
        }
    }
}

struct ErasureRow {
    host: String,
    reason: String,
    by: String,
    at: String,
    done: Option<String>,
    outcome: String,
}

impl ErasureRow {
    fn new(erasure: &Erasure) -> Self {
        let erased = &erasure.erased;
        let outcome = format!(
            "{} from the audit, {} from {}, {} from the recent ones",
            counted(erased.audit, "event", "events"),
            count(erased.archive),
            counted(erased.files, "archive", "archives"),
            count(erased.recent)
        );
        Self {
            host: visible(&erasure.hostname),
            reason: visible(&erasure.reason),
            by: visible(&erasure.requested_by),
            at: short_moment(erasure.requested_at),
            done: erasure.finished_at.map(short_moment),
            outcome: if erasure.finished_at.is_some() { outcome } else { String::new() },
        }
    }
}

#[derive(Template)]
#[template(path = "holds.html")]
struct HoldsPage {
    frame: Frame,
    tab: &'static str,
    rows: Vec<HoldRow>,
    name: String,
    hostname: String,
    from: String,
    to: String,
    reason: String,
    trouble: Trouble,
    erasures: Vec<ErasureRow>,
    more_erasures: usize,
    /// The host that was typed to be erased.
    erase: String,
    erase_trouble: Trouble,
}

/// `GET /admin/retention/holds`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "retention").after(&fields)).await?)
}

async fn page(web: &Web, frame: Frame) -> Answer<HoldsPage> {
    let holds = web.admin.holds().await?;
    let erasures = web.admin.erasures().await?;
    Ok(HoldsPage {
        frame,
        tab: "holds",
        rows: holds.iter().map(HoldRow::new).collect(),
        name: String::new(),
        hostname: String::new(),
        from: String::new(),
        to: String::new(),
        reason: String::new(),
        trouble: Trouble::default(),
        erasures: erasures.iter().take(LISTED).map(ErasureRow::new).collect(),
        more_erasures: erasures.len().saturating_sub(LISTED),
        erase: String::new(),
        erase_trouble: Trouble::default(),
    })
}

/// `POST /admin/retention/holds`.
pub(super) async fn place(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let Err(trouble) = place_hold(&web, &posted).await else { return Ok(done(PLACE, "hold-placed")) };
    let fields = &posted.fields;
    let mut page = page(&web, Frame::new(&web, &posted.by, "retention")).await?;
    (page.name, page.hostname, page.reason) = (fields.text("name"), fields.text("hostname"), fields.text("reason"));
    (page.from, page.to, page.trouble) = (fields.text("from"), fields.text("to"), trouble);
    let status = page.trouble.status;
    shown_again(&page, status)
}

async fn place_hold(web: &Web, posted: &Posted) -> Result<(), Trouble> {
    let fields = &posted.fields;
    let draft = HoldDraft {
        name: fields.text("name"),
        hostname: fields.get("hostname").map(str::to_owned),
        from: fields.time("from").map_err(Trouble::from_fault)?,
        to: fields.time("to").map_err(Trouble::from_fault)?,
        reason: fields.text("reason"),
    };
    web.admin.place_hold(draft, &posted.by.actor).await?;
    Ok(())
}

/// The hold that an address or a form names.
async fn hold_of(web: &Web, fields: &Fields) -> Answer<Hold> {
    let id = fields.text("id");
    let found = web.admin.holds().await?.into_iter().find(|hold| hold.id.to_string() == id);
    Ok(found.ok_or_else(|| AdminError::NotFound { what: "hold", key: id.chars().take(40).collect() })?)
}

/// `GET /admin/retention/holds/lift?id=`.
pub(super) async fn confirm_lift(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let hold = hold_of(&web, &fields).await?;
    shown(&lift_page(Frame::new(&web, &by, "retention"), &hold, Trouble::default(), String::new()))
}

/// `POST /admin/retention/holds/lift`.
pub(super) async fn lift(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let hold = hold_of(&web, &posted.fields).await?;
    let Err(error) = web.admin.lift_hold(hold.id, &posted.by.actor, posted.fields.get("reason")).await else {
        return Ok(done(PLACE, "hold-lifted"));
    };
    let trouble = Trouble::from(error);
    let status = trouble.status;
    let frame = Frame::new(&web, &posted.by, "retention");
    shown_again(&lift_page(frame, &hold, trouble, posted.fields.text("reason")), status)
}

fn lift_page(frame: Frame, hold: &Hold, trouble: Trouble, reason: String) -> ConfirmPage {
    let row = HoldRow::new(hold);
    ConfirmPage {
        frame,
        title: "Lift a legal hold".into(),
        consequence: "What it covered and no other hold covers is deleted by the next run if its time is up. A reason \
                      is needed.",
        facts: vec![
            ("Hold", row.name),
            ("Host", row.host),
            ("Received from", row.from),
            ("Received before", row.to),
            ("Why it was placed", row.reason),
            ("Placed", format!("{} by {}", row.at, row.by)),
        ],
        action: format!("{PLACE}/lift"),
        hidden: vec![("id", hold.id.to_string())],
        button: "Lift hold",
        back: PLACE.into(),
        trouble,
        reason,
    }
}

/// `GET /admin/retention/erase?hostname=`: what would go, and whether that is wanted.
pub(super) async fn confirm_erase(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let hostname = fields.text("hostname");
    let frame = Frame::new(&web, &by, "retention");
    match web.admin.plan_erasure(&hostname).await {
        Ok(plan) => shown(&erase_page(frame, hostname, plan, Trouble::default(), String::new())),
        Err(error) => {
            let mut page = page(&web, frame).await?;
            (page.erase, page.erase_trouble) = (hostname, error.into());
            let status = page.erase_trouble.status;
            shown_again(&page, status)
        }
    }
}

/// `POST /admin/retention/erase`.
pub(super) async fn erase(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (hostname, reason) = (posted.fields.text("hostname"), posted.fields.text("reason"));
    let Err(error) = web.admin.erase_host(&hostname, &reason, &posted.by.actor).await else {
        return Ok(done(PLACE, "erasure-asked"));
    };
    let plan = web.admin.plan_erasure(&hostname).await?;
    let trouble = Trouble::from(error);
    let status = trouble.status;
    shown_again(&erase_page(Frame::new(&web, &posted.by, "retention"), hostname, plan, trouble, reason), status)
}

fn erase_page(frame: Frame, hostname: String, plan: ErasurePlan, trouble: Trouble, reason: String) -> ConfirmPage {
    ConfirmPage {
        frame,
        title: "Erase everything of a host".into(),
        consequence: "It cannot be undone. Events of other hosts that mention it, queues, dead letters, backups and \
                      what receivers hold are not touched. It is refused while a hold may cover the host. A reason is \
                      needed.",
        facts: vec![
            ("Host", visible(&hostname)),
            ("Events in the audit", format!("at least {}", count(plan.audit_rows))),
            ("Archives that may hold events of it", count(plan.archive_files)),
        ],
        action: ERASE.into(),
        hidden: vec![("hostname", hostname)],
        button: "Erase for good",
        back: PLACE.into(),
        trouble,
        reason,
    }
}
