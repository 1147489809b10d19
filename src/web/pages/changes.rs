//! The change log: who changed what, when and why, with old and new values.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::Fields;
use super::super::text::url_encode;
use super::views::{ChangeView, counted};
use super::{Frame, shown};
use crate::admin::ChangeQuery;

/// Lines of one page.
const PAGE_SIZE: usize = 50;

/// The tables whose changes are kept, and what people call them.
const TABLES: [(&str, &str); 5] = [
    ("alert_rules", "Rules"),
    ("development_hosts", "Development hosts"),
    ("device_teams", "Teams"),
    ("dynamic_config", "Settings"),
    ("users", "Users"),
];

#[derive(Template)]
#[template(path = "changes.html")]
struct ChangesPage {
    frame: Frame,
    tables: [(&'static str, &'static str); 5],
    table: String,
    record: String,
    total: String,
    changes: Vec<ChangeView>,
    next: Option<String>,
}

/// `GET /changes`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let (table, record) = (fields.text("table_name"), fields.text("record_id"));
    let query = ChangeQuery {
        table_name: (!table.is_empty()).then(|| table.clone()),
        record_id: (!record.is_empty()).then(|| record.clone()),
        before: fields.parsed("before", "a line's number", |text| text.parse().ok())?,
        limit: PAGE_SIZE,
    };
    let found = web.admin.changes(&query).await?;
    let kept = format!("table_name={}&record_id={}", url_encode(&table), url_encode(&record));
    shown(&ChangesPage {
        frame: Frame::new(&web, &by, "changes"),
        tables: TABLES,
        total: counted(found.total, "change", "changes"),
        changes: found.rows.iter().map(ChangeView::new).collect(),
        next: found.next.map(|id| format!("/changes?{kept}&before={id}")),
        table,
        record,
    })
}
