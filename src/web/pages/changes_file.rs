//! The change log as a file: what the page's filters find, as CSV for spreadsheets or as one JSON object a line. Bounded in
//! lines; the file says when there is more. Reads only.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::super::Web;
use super::super::api::{change_line, change_query};
use super::super::fault::{Answer, Fault};
use super::super::input::Fields;
use crate::admin::{ChangeQuery, ChangeRow};

/// Lines of one file, at most: some 10 MiB.
const MOST: usize = 10_000;
/// Lines read at once, as many as the log gives.
const AT_ONCE: usize = 1_000;

/// The columns of the CSV form.
const COLUMNS: &str = "id,changed_at,changed_by,operation,table_name,record_id,reason,correlation_id,changed_via,\
     changed_from,old_values,new_values,hash\r\n";

/// `GET /changes/file?format=csv`: with the filters of the page.
pub(super) async fn download(State(web): State<Web>, fields: Fields) -> Answer<Response> {
    let csv = match fields.text("format").as_str() {
        "" | "csv" => true,
        "jsonl" => false,
        _ => return Err(Fault::field("format", "use csv or jsonl")),
    };
    let mut query = ChangeQuery { limit: AT_ONCE, ..change_query(&fields)? };
    let mut text = if csv { COLUMNS.to_owned() } else { String::new() };
    let mut lines = 0;
    loop {
        let page = web.admin.changes(&query).await?;
        for row in &page.rows {
            text.push_str(&if csv { csv_line(row) } else { format!("{}\n", change_line(row)) });
        }
        lines += page.rows.len();
        let Some(next) = page.next else { break };
        if lines >= MOST {
            let more =
                format!("more follow; ask with {}={next}", if query.ascending { "sort=asc&cursor" } else { "cursor" });
            text.push_str(&if csv {
                format!("{}\r\n", cell(&more))
            } else {
                format!("{}\n", serde_json::json!({"more": more}))
            });
            break;
        }
        if query.ascending { query.after = Some(next) } else { query.before = Some(next) }
    }
    let (kind, name) =
        if csv { ("text/csv; charset=utf-8", "changes.csv") } else { ("application/jsonl", "changes.jsonl") };
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)], text).into_response())
}

fn csv_line(row: &ChangeRow) -> String {
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let cells = [
        row.id.to_string(),
        row.changed_at.to_string(),
        row.changed_by.clone(),
        row.operation.name().to_owned(),
        row.table_name.clone(),
        row.record_id.clone(),
        text(&row.reason),
        row.correlation_id.clone(),
        text(&row.changed_via),
        text(&row.changed_from),
        json(&row.old_values),
        json(&row.new_values),
        text(&row.hash),
    ];
    format!("{}\r\n", cells.map(|text| cell(&text)).join(","))
}

/// A cell (RFC 4180). What a spreadsheet would take for a formula begins with an apostrophe: names and reasons come from
/// people, and from requests.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if formula { format!("'{text}") } else { text.to_owned() };
    if guarded.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        let check = |text: &str, expected: &str| assert_eq!(cell(text), expected);
        check("plain", "plain");
        check("", "");
        check("a,b", "\"a,b\"");
        check("say \"no\"", "\"say \"\"no\"\"\"");
        check("two\nlines", "\"two\nlines\"");
        check("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\"");
        check("-1", "'-1");
    }
}
