//! Retention: how long what is kept, how the last run went, when the next one is, and a run now.
//!
//! A run that takes longer than a page may goes on by itself; a crash in its middle is put right by the next one.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::super::text::{bytes, count, short_moment, span, visible};
use super::views::counted;
use super::{Frame, Trouble, done, shown, shown_again};
use crate::admin::{Begun, Nearness, RetentionReport, RetentionStatus};
use crate::model::Timestamp;

/// Where it is.
const PLACE: &str = "/admin/retention";
/// Days and archives of a report that are listed; the first run after a long time may have hundreds.
const LISTED: usize = 50;

/// Damaged archives that are named; the list of archives has them all.
const NAMED: usize = 5;

/// A day that went, or would go, to the archive.
struct DayLine {
    day: String,
    events: String,
    size: String,
}

/// An archive that was, or would be, deleted.
struct DeletedLine {
    name: String,
    why: &'static str,
    events: String,
    held: String,
}

/// What a run did, or would do.
struct ReportView {
    ok: bool,
    facts: Vec<(&'static str, String)>,
    archived: Vec<DayLine>,
    more_archived: usize,
    deleted: Vec<DeletedLine>,
    more_deleted: usize,
    faults: Vec<String>,
    damaged: Vec<String>,
    postponed: Vec<String>,
}

#[derive(Template)]
#[template(path = "retention.html")]
struct RetentionPage {
    frame: Frame,
    tab: &'static str,
    doubt: Option<String>,
    damaged: Option<String>,
    warnings: Vec<&'static str>,
    kept: Vec<(&'static str, String)>,
    there: Vec<(&'static str, String)>,
    runs: Vec<(&'static str, String)>,
    last: Option<ReportView>,
    plan: Option<ReportView>,
    reason: String,
    trouble: Trouble,
}

/// `GET /admin/retention`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "retention").after(&fields)).await?)
}

/// `POST /admin/retention/run`: a run, or what one would do.
pub(super) async fn run(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (fields, actor) = (&posted.fields, &posted.by.actor);
    let is_plan = match fields.text("act").as_str() {
        "plan" => true,
        "run" => false,
        _ => return Err(Fault::bad_request("this page has no such button")),
    };
    let outcome = match is_plan {
        true => web.admin.plan_retention(actor).await,
        false => web.admin.run_retention(actor, fields.get("reason")).await,
    };
    let frame = Frame::new(&web, &posted.by, "retention");
    match outcome {
        Ok(Begun::UnderWay { .. }) => Ok(done(PLACE, if is_plan { "retention-long" } else { "retention-going" })),
        Ok(Begun::Done(_)) if !is_plan => Ok(done(PLACE, "retention-ran")),
        Ok(Begun::Done(report)) => {
            let mut page = page(&web, frame).await?;
            (page.plan, page.reason) = (Some(ReportView::new(&report)), fields.text("reason"));
            shown(&page)
        }
        Err(error) => {
            let mut page = page(&web, frame).await?;
            (page.reason, page.trouble) = (fields.text("reason"), error.into());
            let status = page.trouble.status;
            shown_again(&page, status)
        }
    }
}

async fn page(web: &Web, frame: Frame) -> Answer<RetentionPage> {
    let status = web.admin.retention().await?;
    Ok(RetentionPage {
        frame,
        tab: "retention",
        doubt: status.doubt.as_deref().map(visible),
        damaged: damaged(&status.damaged),
        warnings: cap_warnings(&status),
        kept: kept(&status),
        there: there(&status),
        runs: runs(&status, web.admin.now()),
        last: status.last_run.map(|_| ReportView::new(&status.last_report)),
        plan: None,
        reason: String::new(),
        trouble: Trouble::default(),
    })
}

/// What is said of archives that are not what they should be.
fn damaged(names: &[String]) -> Option<String> {
    let named: Vec<String> = names.iter().take(NAMED).map(|name| visible(name)).collect();
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    let count = counted(names.len() as u64, "archive is", "archives are");
    (!names.is_empty()).then(|| format!("{count} not what was archived: {}{more}", named.join(", ")))
}

fn cap_warnings(status: &RetentionStatus) -> Vec<&'static str> {
    let audit = match status.audit_cap {
        Nearness::Far => None,
        Nearness::Near => Some("The audit is near its cap (audit_max_bytes)."),
        Nearness::Bit => Some("The audit reached its cap: events moved to the archive before their time."),
    };
    let archive = match status.archive_cap {
        Nearness::Far => None,
        Nearness::Near => Some("The archive is near its cap (archive_max_bytes)."),
        Nearness::Bit => Some("The archive reached its cap: archives were deleted before their time."),
    };
    audit.into_iter().chain(archive).collect()
}

fn kept(status: &RetentionStatus) -> Vec<(&'static str, String)> {
    let settings = &status.settings;
    let days = |days: i64| counted(u64::try_from(days).unwrap_or(0), "day", "days");
    let cap = |most: u64| if most == 0 { "no limit".to_owned() } else { bytes(most) };
    vec![
        ("Events in the audit", days(settings.event_days)),
        ("Events in all, with the archive", days(settings.archive_days)),
        ("Lines of the change log", days(settings.config_audit_days)),
        ("Most for the audit", cap(settings.audit_max_bytes)),
        ("Most for the archive", cap(settings.archive_max_bytes)),
        ("No archive is written below", format!("{} of free disk", bytes(settings.min_free_bytes))),
    ]
}

fn there(status: &RetentionStatus) -> Vec<(&'static str, String)> {
    let audit = &status.audit;
    let in_files = format!("{} in files of {}", bytes(audit.used), bytes(audit.files));
    vec![
        ("Events in the audit", count(audit.rows)),
        ("Their room", in_files),
        ("Oldest day of the audit", audit.oldest.map_or_else(|| "none".to_owned(), |day| day.to_string())),
        ("Archives", count(status.archive_files)),
        ("Their room", bytes(status.archive_bytes)),
    ]
}

fn runs(status: &RetentionStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let since = status.running_since.map(|since| ("Under way since", short_moment(since)));
    let last = match status.last_run {
        None => "none yet".to_owned(),
        Some(at) => {
            let went = if status.last_report.is_clean() { "went well" } else { "something went wrong, see below" };
            format!("{}: {went}", short_moment(at))
        }
    };
    let next = match status.next_run {
        None => "only when somebody asks for it (retention_enabled is false)".to_owned(),
        Some(at) if at <= now => "due now".to_owned(),
        Some(at) => format!("{}, in {}", short_moment(at), span(at.since(now))),
    };
    since.into_iter().chain([("Last run", last), ("Next run", next)]).collect()
}

impl ReportView {
    fn new(report: &RetentionReport) -> Self {
        let texts = |texts: &[String]| texts.iter().map(|text| visible(text)).collect();
        let archived = report.archived.iter().take(LISTED).map(|day| DayLine {
            day: day.day.to_string(),
            events: count(day.rows),
            // A dry run does not know what the day will be as an archive.
            size: if day.files.is_empty() { "not known yet".to_owned() } else { bytes(day.bytes) },
        });
        let deleted = report.deleted.iter().take(LISTED).map(|file| DeletedLine {
            name: visible(&file.name),
            why: if file.reason == "cap" { "the archive was too large" } else { "its time was up" },
            events: count(file.rows),
            held: count(file.held),
        });
        Self {
            ok: report.is_clean(),
            facts: facts(report),
            archived: archived.collect(),
            more_archived: report.archived.len().saturating_sub(LISTED),
            deleted: deleted.collect(),
            more_deleted: report.deleted.len().saturating_sub(LISTED),
            faults: texts(&report.faults),
            damaged: texts(&report.damaged),
            postponed: texts(&report.postponed),
        }
    }
}

/// What there is to say of a run in figures; what did not happen is left out.
fn facts(report: &RetentionReport) -> Vec<(&'static str, String)> {
    let some = |number: u64| (number > 0).then(|| count(number));
    let many = |names: &[String]| (!names.is_empty()).then(|| count(names.len() as u64));
    let all = [
        ("Asked for by", Some(visible(&report.by))),
        ("Began", report.started_at.map(short_moment)),
        ("Ended", report.finished_at.map(short_moment)),
        ("Events stay in the audit from", report.keeps_events_from.map(|day| day.to_string())),
        ("Archives stay from", report.keeps_archives_from.map(|day| day.to_string())),
        ("Events to the archive", Some(count(report.archived_rows))),
        ("Events deleted from the archive", Some(count(report.deleted_rows))),
        ("Archives of an interrupted run finished", some(report.settled)),
        ("Restores that ended", many(&report.returned)),
        ("Erasures", some(report.erasures)),
        ("Empty files of the audit deleted", many(&report.dropped)),
        ("Lines that left the change log", some(report.change_lines)),
        ("Archives read and compared", some(report.verified)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
