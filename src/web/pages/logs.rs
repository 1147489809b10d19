//! The last lines of the appliance's own log, filtered; with script they go on while one looks.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::api::log_filter;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::Fields;
use super::super::text::{moment, url_encode, visible};
use super::{Frame, Trouble, shown, shown_again};
use crate::model::EventId;
use crate::telemetry::logs::{LogLevel, LogLine, LogPage};

/// Lines of one page.
const PAGE_SIZE: usize = 200;

/// The fields of the form, kept in links.
const FORM_FIELDS: [&str; 3] = ["level", "component", "q"];

/// A field of a line.
struct FieldView {
    name: String,
    value: String,
    /// The event it names.
    event: Option<EventId>,
}

/// A line.
struct LineView {
    id: u64,
    iso: String,
    time: String,
    level: &'static str,
    component: String,
    message: String,
    fields: Vec<FieldView>,
}

#[derive(Template)]
#[template(path = "logs.html")]
struct LogsPage {
    frame: Frame,
    levels: Vec<(&'static str, bool)>,
    component: String,
    text: String,
    filtered: bool,
    lines: Vec<LineView>,
    next: Option<String>,
    newest: String,
    later_page: bool,
    /// Where new lines come from.
    stream: String,
    trouble: Trouble,
}

/// `GET /logs`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let asked = log_filter(&fields).and_then(|filter| {
        let before = fields.parsed("cursor", "a cursor from an earlier page", |text| text.parse::<u64>().ok())?;
        Ok((filter, before))
    });
    let newest = web.admin.logs().newest();
    let (page, trouble) = match asked {
        Ok((filter, before)) => (web.admin.logs().page(&filter, before, PAGE_SIZE), Trouble::default()),
        Err(fault) => (LogPage::default(), Trouble::from_fault(fault)),
    };
    let kept = kept(&fields);
    let level = fields.text("level").to_ascii_lowercase();
    let (status, failed) = (trouble.status, trouble.any());
    let page = LogsPage {
        frame: Frame::new(&web, &by, "logs"),
        levels: LogLevel::ALL.iter().rev().map(|known| (known.name(), known.name() == level)).collect(),
        component: fields.text("component"),
        text: fields.text("q"),
        filtered: !kept.is_empty(),
        lines: page.lines.iter().map(|line| LineView::new(line)).collect(),
        next: page.next.map(|id| format!("/logs?{kept}cursor={id}")),
        newest: format!("/logs?{}", kept.trim_end_matches('&')),
        later_page: fields.get("cursor").is_some(),
        stream: format!("/api/v2/logs/stream?{kept}cursor={newest}"),
        trouble,
    };
    if failed { shown_again(&page, status) } else { shown(&page) }
}

/// The filters as the start of a query.
fn kept(fields: &Fields) -> String {
    let given = FORM_FIELDS.iter().filter_map(|name| Some((name, fields.get(name)?)));
    given.map(|(name, value)| format!("{name}={}&", url_encode(value))).collect()
}

impl LineView {
    fn new(line: &LogLine) -> Self {
        Self {
            id: line.id,
            iso: line.at.to_string(),
            time: moment(line.at),
            level: line.level.name(),
            component: visible(line.component()),
            message: visible(&line.message),
            fields: line
                .fields
                .iter()
                .map(|(name, value)| {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let event = (name == "event.id").then(|| text.parse().ok()).flatten();
                    FieldView { name: visible(name), value: visible(&text), event }
                })
                .collect(),
        }
    }
}
