//! Searching the archives where they are, and one archived event. Reads only, for some seconds at a time.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::api::{event_id, query};
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Segment};
use super::super::text::url_encode;
use super::views::EventRow;
use super::{Frame, Trouble, events, shown_again};
use crate::admin::{ArchiveHits, EventStory, KeptIn};
use crate::model::RuleId;

/// Where it is.
const PLACE: &str = "/admin/retention/search";
/// Events of one page.
const PAGE_SIZE: usize = 100;
/// The fields of the form, kept in the link that goes on.
const FORM_FIELDS: [&str; 4] = ["q", "hostname", "from", "to"];

#[derive(Template)]
#[template(path = "archive_search.html")]
struct SearchPage {
    frame: Frame,
    tab: &'static str,
    q: String,
    hostname: String,
    from: String,
    to: String,
    searched: bool,
    rows: Vec<EventRow>,
    next: Option<String>,
    /// Whether the manifest is in doubt, so that not every archive is searched.
    doubtful: bool,
    /// Archives that could not be read.
    left_out: Vec<String>,
    trouble: Trouble,
}

/// `GET /admin/retention/search`: the form; with `go`, a filter or a cursor, what was found.
pub(super) async fn search(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let searched = FORM_FIELDS.iter().chain(&["go", "cursor"]).any(|name| fields.get(name).is_some());
    let (found, trouble) = match look(&web, &fields, searched).await {
        Ok(found) => (found, Trouble::default()),
        Err(trouble) => (ArchiveHits::default(), trouble),
    };
    let ArchiveHits { items, next, left_out } = found;
    let status = trouble.status;
    let given = FORM_FIELDS.iter().filter_map(|name| Some((name, fields.get(name)?)));
    let kept: String = given.map(|(name, value)| format!("{name}={}&", url_encode(value))).collect();
    let page = SearchPage {
        frame: Frame::new(&web, &by, "retention"),
        tab: "search",
        q: fields.text("q"),
        hostname: fields.text("hostname"),
        from: fields.text("from"),
        to: fields.text("to"),
        searched,
        rows: items.iter().map(EventRow::new).collect(),
        next: next.map(|id| format!("{PLACE}?{kept}cursor={id}")),
        doubtful: web.admin.archive_doubt().is_some(),
        left_out: left_out.iter().map(ToString::to_string).collect(),
        trouble,
    };
    shown_again(&page, status)
}

async fn look(web: &Web, fields: &Fields, wanted: bool) -> Result<ArchiveHits, Trouble> {
    let query = query(fields, PAGE_SIZE).map_err(Trouble::from_fault)?;
    if !wanted {
        return Ok(ArchiveHits::default());
    }
    Ok(web.admin.search_archives(&query).await?)
}

/// `GET /admin/retention/events/{id}`: an event as its archive has it.
pub(super) async fn show(State(web): State<Web>, by: SignedIn, Segment(id): Segment) -> Answer<Response> {
    let (judged, deliveries) = web.admin.archived_event(event_id(&id)?).await?;
    let rule = match judged.decision.rule() {
        // Rule 0 is the meta-alert for unhandled events: no rule made it.
        Some(id) if id != RuleId(0) => web.admin.rule(id).await.ok(),
        _ => None,
    };
    let story = EventStory {
        judged,
        rule,
        explained: Vec::new(),
        deliveries,
        letters: Vec::new(),
        kept_in: KeptIn { recent: false, audit: false },
        warnings: Vec::new(),
    };
    events::archived(Frame::new(&web, &by, "retention"), &story)
}
