//! The change log: who changed what, when, why and from where, with old and new values side by side, and whether the log is
//! as it was written.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::api::change_query;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::{count, moment, shortened, url_encode, visible};
use super::views::{ChangeView, counted};
use super::{Frame, done, shown};
use crate::admin::{ChangeQuery, TrailReport};

/// Lines of one page.
const PAGE_SIZE: usize = 50;

/// Characters of the head that are shown: enough to compare by eye.
const SHOWN_HEAD: usize = 16;

/// The tables whose changes are kept, and what people call them.
const TABLES: &[(&str, &str)] = &[
    ("alert_rules", "Rules"),
    ("development_hosts", "Development hosts"),
    ("device_teams", "Teams"),
    ("dynamic_config", "Settings"),
    ("delivery_targets", "Targets"),
    ("users", "Users"),
    ("api_keys", "API keys"),
    ("secrets", "Secrets"),
    ("targets", "Acts on targets"),
    ("outboxes", "Acts on outboxes"),
    ("dead_letters", "Acts on dead letters"),
    ("config_audit_log", "The change log itself"),
];

/// The filters that a page keeps when it leads to the next one.
const FILTERS: [&str; 8] = ["table_name", "record_id", "user", "operation", "correlation_id", "from", "to", "sort"];

/// Whether the log is as it was written.
struct ChainView {
    whole: bool,
    checked: String,
    lines: String,
    head: String,
    faults: Vec<(String, String)>,
    more: Option<String>,
}

#[derive(Template)]
#[template(path = "changes.html")]
struct ChangesPage {
    frame: Frame,
    tables: Vec<(String, String)>,
    table: String,
    record: String,
    user: String,
    operation: String,
    from: String,
    to: String,
    correlation: String,
    oldest_first: bool,
    total: String,
    changes: Vec<ChangeView>,
    next: Option<String>,
    /// The same lines as a file.
    file: String,
    chain: Option<ChainView>,
}

/// `GET /changes`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let query = ChangeQuery { limit: PAGE_SIZE, ..change_query(&fields)? };
    let found = web.admin.changes(&query).await?;
    let kept: Vec<String> = FILTERS
        .iter()
        .filter_map(|name| fields.get(name).map(|value| format!("{name}={}", url_encode(value))))
        .collect();
    let table = fields.text("table_name");
    let mut tables: Vec<(String, String)> =
        TABLES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if !table.is_empty() && tables.iter().all(|(name, _)| *name != table) {
        tables.push((table.clone(), visible(&table)));
    }
    shown(&ChangesPage {
        frame: Frame::new(&web, &by, "changes").after(&fields),
        tables,
        total: counted(found.total, "change", "changes"),
        changes: found.rows.iter().map(ChangeView::new).collect(),
        next: found.next.map(|id| format!("/changes?{}&cursor={id}", kept.join("&"))),
        file: format!("/changes/file?{}&format=", kept.join("&")),
        table,
        record: fields.text("record_id"),
        user: fields.text("user"),
        operation: fields.text("operation").to_ascii_uppercase(),
        from: fields.text("from"),
        to: fields.text("to"),
        correlation: fields.text("correlation_id"),
        oldest_first: query.ascending,
        chain: web.admin.trail_report().as_deref().map(chain_view),
    })
}

/// `POST /changes/verify`: reads the whole log again.
pub(super) async fn verify(State(web): State<Web>, _posted: Posted) -> Answer<Response> {
    web.admin.verify_trail().await?;
    Ok(done("/changes", "trail-verified"))
}

fn chain_view(report: &TrailReport) -> ChainView {
    let faults = report.faults.iter().map(|fault| {
        let line = fault.id.map_or_else(|| "the end of the log".to_owned(), |id| format!("line {id}"));
        (line, visible(&fault.why))
    });
    let named = u64::try_from(report.faults.len()).unwrap_or(u64::MAX);
    ChainView {
        whole: report.is_whole(),
        checked: moment(report.checked_at),
        lines: counted(report.lines, "line", "lines"),
        head: shortened(&report.head.hash, SHOWN_HEAD),
        faults: faults.collect(),
        more: (report.found > named).then(|| count(report.found - named)),
    }
}
