//! Development hosts and device teams: list, add, change, remove.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::api::host_query;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::{url_encode, visible};
use super::views::{ChangeView, counted};
use super::{ConfirmPage, Frame, Trouble, done, expected, meanwhile, shown, shown_again};
use crate::admin::{AdminError, HostPage, HostQuery, team_tag};
use crate::model::host_key;

/// A host in a list: as shown, as in an address, and its team where it has one.
struct HostRow {
    host: String,
    query: String,
    team: String,
}

/// Hosts of one page.
const PAGE_SIZE: u32 = 200;

/// Which part of a list is shown, and where it goes on.
struct HostsShown {
    /// The part of a name that was looked for.
    part: String,
    total: String,
    /// Whether earlier hosts were passed over.
    later_page: bool,
    next: Option<String>,
}

fn asked(fields: &Fields) -> HostQuery {
    host_query(fields, Some(PAGE_SIZE))
}

impl HostsShown {
    fn of<T>(path: &str, query: &HostQuery, page: &HostPage<T>) -> Self {
        let part = query.part.clone().unwrap_or_default();
        let next =
            page.next.as_ref().map(|after| format!("{path}?q={}&cursor={}", url_encode(&part), url_encode(after)));
        Self { part, total: counted(page.total, "host", "hosts"), later_page: query.after.is_some(), next }
    }
}

#[derive(Template)]
#[template(path = "dev_hosts.html")]
struct DevHostsPage {
    frame: Frame,
    rows: Vec<HostRow>,
    hosts: HostsShown,
    hostname: String,
    reason: String,
    trouble: Trouble,
}

/// `GET /dev-hosts`.
pub(super) async fn dev_hosts(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let frame = Frame::new(&web, &by, "dev-hosts").after(&fields);
    shown(&dev_hosts_page(&web, frame, &asked(&fields)).await?)
}

async fn dev_hosts_page(web: &Web, frame: Frame, query: &HostQuery) -> Answer<DevHostsPage> {
    let page = web.admin.dev_hosts_page(query).await?;
    let row = |host: &str| HostRow { host: visible(host), query: url_encode(host), team: String::new() };
    Ok(DevHostsPage {
        frame,
        rows: page.rows.iter().map(|host| row(&host.hostname)).collect(),
        hosts: HostsShown::of("/dev-hosts", query, &page),
        hostname: String::new(),
        reason: String::new(),
        trouble: Trouble::default(),
    })
}

/// `POST /dev-hosts`.
pub(super) async fn add_dev_host(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let hostname = posted.fields.text("hostname");
    let Err(error) = web.admin.add_dev_host(&hostname, &posted.by.actor, posted.fields.get("reason")).await else {
        return Ok(done("/dev-hosts", "host-added"));
    };
    let frame = Frame::new(&web, &posted.by, "dev-hosts");
    let mut page = dev_hosts_page(&web, frame, &asked(&posted.fields)).await?;
    (page.hostname, page.reason, page.trouble) = (hostname, posted.fields.text("reason"), error.into());
    let status = page.trouble.status;
    shown_again(&page, status)
}

/// `GET /dev-hosts/remove?hostname=`.
pub(super) async fn confirm_dev_host(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let host = web.admin.dev_host(&fields.text("hostname")).await?.hostname;
    shown(&confirm_dev_host_page(Frame::new(&web, &by, "dev-hosts"), host))
}

/// `POST /dev-hosts/remove`.
pub(super) async fn remove_dev_host(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let host = posted.fields.text("hostname");
    let Err(error) = web.admin.remove_dev_host(&host, &posted.by.actor, posted.fields.get("reason")).await else {
        return Ok(done("/dev-hosts", "host-removed"));
    };
    confirm_dev_host_page(Frame::new(&web, &posted.by, "dev-hosts"), host).again(error, &posted.fields)
}

/// The row is the host's name and nothing else: it is there or not, so there is no version to be missed.
fn confirm_dev_host_page(frame: Frame, host: String) -> ConfirmPage {
    ConfirmPage {
        frame,
        title: "Remove a development host".into(),
        consequence: "Events of this host will get the production handling of the rules that match them.",
        facts: vec![("Host", visible(&host))],
        action: "/dev-hosts/remove".into(),
        hidden: vec![("hostname", host)],
        button: "Remove host",
        back: "/dev-hosts".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    }
}

#[derive(Template)]
#[template(path = "teams.html")]
struct TeamsPage {
    frame: Frame,
    rows: Vec<HostRow>,
    hosts: HostsShown,
    hostname: String,
    team: String,
    reason: String,
    trouble: Trouble,
}

/// `GET /teams`.
pub(super) async fn teams(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&teams_page(&web, Frame::new(&web, &by, "teams").after(&fields), &asked(&fields)).await?)
}

async fn teams_page(web: &Web, frame: Frame, query: &HostQuery) -> Answer<TeamsPage> {
    let page = web.admin.device_teams_page(query).await?;
    let rows = page.rows.iter().map(|row| HostRow {
        host: visible(&row.hostname),
        query: url_encode(&row.hostname),
        team: visible(row.team_assignment.as_str()),
    });
    Ok(TeamsPage {
        frame,
        rows: rows.collect(),
        hosts: HostsShown::of("/teams", query, &page),
        hostname: String::new(),
        team: String::new(),
        reason: String::new(),
        trouble: Trouble::default(),
    })
}

/// `POST /teams`.
pub(super) async fn add_team(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (hostname, team) = (posted.fields.text("hostname"), posted.fields.text("team_assignment"));
    let reason = posted.fields.get("reason");
    let Err(error) = web.admin.add_device_team(&hostname, &team, &posted.by.actor, reason).await else {
        return Ok(done("/teams", "team-added"));
    };
    let mut page = teams_page(&web, Frame::new(&web, &posted.by, "teams"), &asked(&posted.fields)).await?;
    page.trouble = error.into();
    (page.hostname, page.team, page.reason) = (hostname, team, posted.fields.text("reason"));
    let status = page.trouble.status;
    shown_again(&page, status)
}

#[derive(Template)]
#[template(path = "team_form.html")]
struct TeamFormPage {
    frame: Frame,
    host: String,
    hostname: String,
    team: String,
    reason: String,
    /// The tag of the row that is being edited.
    version: String,
    /// What others did to it meanwhile.
    meanwhile: Vec<ChangeView>,
    trouble: Trouble,
}

/// `GET /teams/edit?hostname=`.
pub(super) async fn edit_team(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let row = web.admin.device_team(&fields.text("hostname")).await?;
    shown(&TeamFormPage {
        frame: Frame::new(&web, &by, "teams"),
        host: visible(&row.hostname),
        version: team_tag(&row),
        hostname: row.hostname,
        team: row.team_assignment.as_str().to_owned(),
        reason: String::new(),
        meanwhile: Vec::new(),
        trouble: Trouble::default(),
    })
}

/// `POST /teams/edit`.
pub(super) async fn save_team(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (hostname, team) = (posted.fields.text("hostname"), posted.fields.text("team_assignment"));
    let reason = posted.fields.get("reason");
    let expected = expected(&posted.fields);
    let Err(error) = web.admin.update_device_team(&hostname, &team, expected, &posted.by.actor, reason).await else {
        return Ok(done("/teams", "team-saved"));
    };
    let version = match &error {
        AdminError::Stale { tag, .. } => tag.clone(),
        _ => posted.fields.text("version"),
    };
    let page = TeamFormPage {
        frame: Frame::new(&web, &posted.by, "teams"),
        host: visible(&hostname),
        team,
        reason: posted.fields.text("reason"),
        version,
        meanwhile: meanwhile(&web, &error, "device_teams", &host_key(&hostname)).await,
        hostname,
        trouble: Trouble::from(error),
    };
    let status = page.trouble.status;
    shown_again(&page, status)
}

/// `GET /teams/remove?hostname=`.
pub(super) async fn confirm_team(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&confirm_team_page(&web, Frame::new(&web, &by, "teams"), &fields.text("hostname")).await?)
}

/// `POST /teams/remove`.
pub(super) async fn remove_team(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let host = posted.fields.text("hostname");
    let (expected, reason) = (expected(&posted.fields), posted.fields.get("reason"));
    let Err(error) = web.admin.remove_device_team(&host, expected, &posted.by.actor, reason).await else {
        return Ok(done("/teams", "team-removed"));
    };
    confirm_team_page(&web, Frame::new(&web, &posted.by, "teams"), &host).await?.again(error, &posted.fields)
}

/// Asks about the row as it is now; the answer counts for that one.
async fn confirm_team_page(web: &Web, frame: Frame, host: &str) -> Answer<ConfirmPage> {
    let row = web.admin.device_team(host).await?;
    Ok(ConfirmPage {
        frame,
        title: "Remove a team assignment".into(),
        consequence: "Alerts about unhandled events of this host will go to the default team.",
        facts: vec![("Host", visible(&row.hostname)), ("Team", visible(row.team_assignment.as_str()))],
        action: "/teams/remove".into(),
        hidden: vec![("version", team_tag(&row)), ("hostname", row.hostname)],
        button: "Remove assignment",
        back: "/teams".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    })
}
