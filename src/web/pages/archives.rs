//! Archives: which there are and how they are; verify, restore, end a restore, accept what is there after a doubt.
//!
//! Reads names and figures only; what takes long goes on by itself when the page does not wait any more.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::super::text::{bytes, count, short_moment, url_encode, visible};
use super::views::counted;
use super::{ConfirmPage, Frame, Trouble, done, shown, shown_again};
use crate::admin::{ArchiveCheck, ArchiveFilter, Begun, FileState, RestoreChoice};

/// Where they are.
const PLACE: &str = "/admin/retention/archives";
/// Archives of one page.
const PAGE_SIZE: usize = 50;
/// Most archives of one sample.
const MAX_SAMPLE: usize = 100_000;
/// Damaged archives that are named above the table; the table has them all.
const NAMED: usize = 5;
/// Misfits of manifest and files that are shown.
const MISFITS: usize = 50;
/// For how many days to restore when nothing is said.
const DEFAULT_DAYS: usize = 7;
/// Longest restore.
const MAX_DAYS: usize = 366;

/// What of the address or of a form says which page of the list is shown.
const KEPT: [&str; 3] = ["from", "to", "cursor"];

struct ArchiveRow {
    day: String,
    name: String,
    query: String,
    events: String,
    size: String,
    verified: String,
    /// It was not read again since it was written.
    only_written: bool,
    state: &'static str,
    class: &'static str,
    note: String,
    restored: bool,
}

#[derive(Template)]
#[template(path = "archives.html")]
struct ArchivesPage {
    frame: Frame,
    tab: &'static str,
    total: String,
    rows: Vec<ArchiveRow>,
    from: String,
    to: String,
    sample: String,
    filtered: bool,
    /// What the page is called up with, for its forms.
    place: Vec<(&'static str, String)>,
    later_page: bool,
    newest: String,
    next: Option<String>,
    /// What does not fit between manifest and files, if that was asked for.
    misfits: Option<Vec<String>>,
    /// What is wrong with the manifest.
    doubt: Option<String>,
    trouble: Trouble,
}

/// `GET /admin/retention/archives?from=&to=&cursor=&check=`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let mut page = page(&web, Frame::new(&web, &by, "retention").after(&fields), &fields);
    if fields.get("check").is_some() {
        let faults = web.admin.archive_overview().await?;
        let told = faults.iter().take(MISFITS).map(|fault| match &fault.name {
            Some(name) => format!("{}: {}", visible(name), visible(&fault.why)),
            None => format!("The manifest: {}", visible(&fault.why)),
        });
        page.misfits = Some(told.collect());
    }
    let status = page.trouble.status;
    shown_again(&page, status)
}

/// Which days, and after which archive.
fn selection(fields: &Fields) -> Answer<ArchiveFilter> {
    let after = fields.parsed("cursor", "an archive of this list", |text| text.parse().ok())?;
    Ok(ArchiveFilter { from: fields.day("from")?, to: fields.day("to")?, after })
}

/// The filters as the start of a query.
fn kept(fields: &Fields, names: &[&str]) -> String {
    let given = names.iter().filter_map(|name| Some((name, fields.get(name)?.trim())));
    given.map(|(name, value)| format!("{name}={}&", url_encode(value))).collect()
}

fn page(web: &Web, frame: Frame, fields: &Fields) -> ArchivesPage {
    let (selected, trouble) = match selection(fields) {
        Ok(selected) => (Some(selected), Trouble::default()),
        Err(fault) => (None, Trouble::from_fault(fault)),
    };
    let listed = selected.map(|filter| web.admin.archive_page(&filter, PAGE_SIZE));
    let checks = web.admin.archive_checks();
    let later_page = selected.is_some_and(|filter| filter.after.is_some());
    let shown = listed.iter().flat_map(|page| &page.files);
    let query = kept(fields, &KEPT[..2]);
    let next = listed.as_ref().and_then(|page| page.next);
    ArchivesPage {
        frame,
        tab: "archives",
        total: counted(listed.as_ref().map_or(0, |page| page.total) as u64, "archive", "archives"),
        rows: shown.map(|file| ArchiveRow::new(file, checks.get(&file.facts.name))).collect(),
        from: fields.text("from"),
        to: fields.text("to"),
        sample: fields.text("sample"),
        filtered: !query.is_empty() || later_page,
        place: KEPT.iter().map(|name| (*name, fields.text(name))).filter(|(_, value)| !value.is_empty()).collect(),
        later_page,
        next: next.map(|name| format!("{PLACE}?{query}cursor={name}")),
        newest: format!("{PLACE}?{}", query.trim_end_matches('&')),
        misfits: None,
        doubt: web.admin.archive_doubt().as_deref().map(visible),
        trouble,
    }
}

impl ArchiveRow {
    fn new(file: &FileState, check: Option<&ArchiveCheck>) -> Self {
        let fault = check.and_then(|check| check.fault.as_deref());
        let (state, class, note) = match (fault, file.restored_until) {
            (Some(why), _) => ("damaged", "bad", visible(why)),
            (None, Some(until)) => ("restored", "calm", format!("until {}", short_moment(until))),
            (None, None) if !file.settled => ("being moved", "warn", "its events are in the audit still".to_owned()),
            (None, None) => ("archived", "ok", String::new()),
        };
        let facts = &file.facts;
        Self {
            day: facts.day.to_string(),
            name: visible(&facts.name),
            query: url_encode(&facts.name),
            events: count(facts.rows),
            size: bytes(facts.bytes),
            verified: short_moment(check.map_or(file.at, |check| check.at)),
            only_written: check.is_none(),
            state,
            class,
            note,
            restored: file.restored_until.is_some(),
        }
    }
}

/// `POST /admin/retention/archives/verify`: one archive, a sample of all, or all.
pub(super) async fn verify(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let fields = &posted.fields;
    let outcome = match fields.number("sample", 0, 1, MAX_SAMPLE) {
        Ok(sample) => {
            let sample = (sample > 0).then_some(sample);
            web.admin.verify_archives(fields.get("name"), sample, &posted.by.actor, None).await.map_err(Trouble::from)
        }
        Err(fault) => Err(Trouble::from_fault(fault)),
    };
    let back = |code: &str| Ok(Redirect::to(&format!("{PLACE}?{}done={code}", kept(fields, &KEPT))).into_response());
    let trouble = match outcome {
        Ok(Begun::UnderWay { .. }) => return back("retention-going"),
        Ok(Begun::Done(report)) if report.damaged.is_empty() => return back("archive-verified"),
        Ok(Begun::Done(report)) => {
            let named: Vec<String> = report.damaged.iter().take(NAMED).map(|text| visible(text)).collect();
            let found = counted(report.damaged.len() as u64, "archive is", "archives are");
            let why = format!("{found} not what was archived: {}", named.join("; "));
            Trouble { field: String::new(), why, status: StatusCode::OK }
        }
        Err(trouble) => trouble,
    };
    let mut page = page(&web, Frame::new(&web, &posted.by, "retention"), fields);
    page.trouble = trouble;
    let status = page.trouble.status;
    shown_again(&page, status)
}

#[derive(Template)]
#[template(path = "archive_restore.html")]
struct RestorePage {
    frame: Frame,
    tab: &'static str,
    name: String,
    from: String,
    to: String,
    days: String,
    reason: String,
    trouble: Trouble,
}

impl RestorePage {
    fn new(frame: Frame, fields: &Fields, trouble: Trouble) -> Self {
        let days = fields.get("days").map_or_else(|| DEFAULT_DAYS.to_string(), |days| days.trim().to_owned());
        Self {
            frame,
            tab: "archives",
            name: fields.text("name"),
            from: fields.text("from"),
            to: fields.text("to"),
            days,
            reason: fields.text("reason"),
            trouble,
        }
    }
}

/// `GET /admin/retention/archives/restore?name=`.
pub(super) async fn restore_form(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&RestorePage::new(Frame::new(&web, &by, "retention"), &fields, Trouble::default()))
}

/// `POST /admin/retention/archives/restore`.
pub(super) async fn restore(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    match begin_restore(&web, &posted).await {
        Ok(begun) => Ok(done(PLACE, ended(&begun, "archive-restored"))),
        Err(trouble) => {
            let status = trouble.status;
            let frame = Frame::new(&web, &posted.by, "retention");
            shown_again(&RestorePage::new(frame, &posted.fields, trouble), status)
        }
    }
}

async fn begin_restore(web: &Web, posted: &Posted) -> Result<Begun, Trouble> {
    let fields = &posted.fields;
    let choice = restore_choice(fields).map_err(Trouble::from_fault)?;
    let days = fields.number("days", DEFAULT_DAYS, 1, MAX_DAYS).map_err(Trouble::from_fault)?;
    // The bound above fits.
    let days = u32::try_from(days).unwrap_or(1);
    Ok(web.admin.restore_archives(choice, days, &posted.by.actor, fields.get("reason")).await?)
}

/// One archive, or the days from one to another.
fn restore_choice(fields: &Fields) -> Answer<RestoreChoice> {
    match (fields.get("name"), fields.day("from")?, fields.day("to")?) {
        (Some(name), None, None) => Ok(RestoreChoice::File(name.trim().to_owned())),
        (None, Some(from), Some(to)) => Ok(RestoreChoice::Days(from, to)),
        (None, Some(_), None) => Err(Fault::field("to", "give the last day too")),
        (None, None, Some(_)) => Err(Fault::field("from", "give the first day too")),
        _ => Err(Fault::field("name", "give either an archive, or the first and the last day")),
    }
}

/// What is said after something that may take longer than the page waited.
const fn ended(begun: &Begun, code: &'static str) -> &'static str {
    match begun {
        Begun::Done(_) => code,
        Begun::UnderWay { .. } => "retention-going",
    }
}

/// `GET /admin/retention/archives/return?name=`.
pub(super) async fn confirm_return(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let name = web.admin.archive(&fields.text("name"))?.facts.name;
    shown(&return_page(Frame::new(&web, &by, "retention"), name, Trouble::default(), String::new()))
}

/// `POST /admin/retention/archives/return`.
pub(super) async fn give_back(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (name, reason) = (posted.fields.text("name"), posted.fields.get("reason"));
    match web.admin.return_archive(&name, &posted.by.actor, reason).await {
        Ok(begun) => Ok(done(PLACE, ended(&begun, "archive-returned"))),
        Err(error) => {
            let trouble = Trouble::from(error);
            let status = trouble.status;
            let frame = Frame::new(&web, &posted.by, "retention");
            shown_again(&return_page(frame, name, trouble, posted.fields.text("reason")), status)
        }
    }
}

fn return_page(frame: Frame, name: String, trouble: Trouble, reason: String) -> ConfirmPage {
    ConfirmPage {
        frame,
        title: "End the restore of an archive".into(),
        consequence: "The copies of its events leave the audit at once. The archive stays as it is.",
        facts: vec![("Archive", visible(&name))],
        action: format!("{PLACE}/return"),
        hidden: vec![("name", name)],
        button: "End the restore",
        back: PLACE.into(),
        trouble,
        reason,
    }
}

/// `GET /admin/retention/archives/accept`.
pub(super) async fn confirm_accept(State(web): State<Web>, by: SignedIn) -> Answer<Response> {
    shown(&accept_page(&web, Frame::new(&web, &by, "retention"), Trouble::default(), String::new()).await?)
}

/// `POST /admin/retention/archives/accept`.
pub(super) async fn accept(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    match web.admin.accept_archive(&posted.by.actor, posted.fields.get("reason")).await {
        Ok(begun) => Ok(done(PLACE, ended(&begun, "archive-accepted"))),
        Err(error) => {
            let trouble = Trouble::from(error);
            let status = trouble.status;
            let frame = Frame::new(&web, &posted.by, "retention");
            shown_again(&accept_page(&web, frame, trouble, posted.fields.text("reason")).await?, status)
        }
    }
}

async fn accept_page(web: &Web, frame: Frame, trouble: Trouble, reason: String) -> Answer<ConfirmPage> {
    let doubt = web.admin.retention().await?.doubt;
    let doubt = doubt.map_or_else(|| "there is none: nothing has to be accepted".to_owned(), |why| visible(&why));
    Ok(ConfirmPage {
        frame,
        title: "Accept the archive as it is".into(),
        consequence: "A new manifest begins with every archive that is whole; the one of now is kept as evidence. What \
                      was altered or taken away before this cannot be told by the new one.",
        facts: vec![("Doubt", doubt)],
        action: format!("{PLACE}/accept"),
        hidden: Vec::new(),
        button: "Accept the archive",
        back: "/admin/retention".into(),
        trouble,
        reason,
    })
}
