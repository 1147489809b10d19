//! Dead letters: what could not be judged or delivered, and why; by reason, by filter, all that fit at once.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use super::super::Web;
use super::super::api::{letter_filter, letter_queue};
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::super::text::{bytes, count, moment, shortened, url_encode, visible, visible_lines};
use super::{Frame, shown};
use crate::admin::{Acted, DeadGroup, DeadItem, DeadQueue, DeadRecord, Selection};
use crate::model::DeathClass;

/// Letters of one page.
const PAGE_SIZE: usize = 50;
/// Letters that one press of a button acts on.
const ACTED_AT_ONCE: usize = 10_000;
/// Letters grouped when the page is opened; beyond, the groups are a click away.
const GROUPED_AT_ONCE: u64 = 10_000;

/// Names of the filter's fields, in their order on the page.
const FILTERS: [&str; 6] = ["q", "origin", "class", "hostname", "from", "to"];

struct LetterView {
    seq: u64,
    place: String,
    time: String,
    origin: String,
    class: &'static str,
    attempts: String,
    replays: String,
    reason: String,
    event: Option<String>,
    host: String,
    message: String,
    edited: bool,
}

struct GroupView {
    count: String,
    origin: String,
    class: &'static str,
    reason: String,
    link: String,
}

/// How the remediation is, in words.
pub(super) struct RemedyView {
    state: String,
    last: Option<String>,
    sick: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    /// Name, letters, whether it is the one shown.
    queues: Vec<(&'static str, String, bool)>,
    queue: &'static str,
    explained: &'static str,
    /// What the filter holds, by field.
    values: Vec<(&'static str, String)>,
    classes: Vec<(&'static str, bool)>,
    filtered: bool,
    groups: Vec<GroupView>,
    groups_complete: bool,
    groups_link: Option<String>,
    letters: Vec<LetterView>,
    next: Option<String>,
    remedy: RemedyView,
    targets: Vec<String>,
    told: Option<String>,
    wrong: Option<String>,
}

impl DeadLettersPage {
    fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value.as_str())
    }
}

/// `GET /dead-letters?queue=&...`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let told = told(&fields);
    shown(&page(&web, Frame::new(&web, &by, "dead-letters"), &fields, told, None).await?)
}

async fn page(
    web: &Web,
    frame: Frame,
    fields: &Fields,
    told: Option<String>,
    wrong: Option<String>,
) -> Answer<DeadLettersPage> {
    let queue = letter_queue(fields)?.unwrap_or(DeadQueue::Forwarder);
    let filter = letter_filter(fields)?;
    let cursor = fields.parsed("cursor", "a place in the queue", |text| text.parse().ok())?.unwrap_or(0);
    let found = web.admin.dead_letters(queue, &filter, cursor, PAGE_SIZE).await?;
    let may_group = found.total <= GROUPED_AT_ONCE || fields.get("groups").is_some();
    let grouped = if may_group { Some(web.admin.dead_groups(queue, &filter).await?) } else { None };
    let lines = web.admin.queue_lines();
    let depth = |name: &str| lines.iter().find(|line| line.name == name).map_or(0, |line| line.depth.items);
    let query = query(fields, queue);
    Ok(DeadLettersPage {
        frame,
        queues: DeadQueue::ALL.map(|each| (each.name(), count(depth(each.name())), each == queue)).to_vec(),
        queue: queue.name(),
        explained: explained(queue),
        values: FILTERS.map(|name| (name, fields.text(name))).to_vec(),
        classes: DeathClass::ALL.map(|class| (class.name(), filter.class == Some(class))).to_vec(),
        filtered: !filter.is_empty(),
        groups_complete: grouped.as_ref().is_none_or(|groups| groups.complete),
        groups: grouped.iter().flat_map(|groups| &groups.groups).map(|group| group_view(queue, group)).collect(),
        groups_link: (!may_group).then(|| format!("/dead-letters?{query}&groups=1")),
        letters: found.items.iter().map(|item| letter_view(queue, item)).collect(),
        next: found.next.map(|seq| format!("/dead-letters?{query}&cursor={seq}")),
        remedy: remedy_view(web),
        targets: web.admin.target_names(),
        told,
        wrong,
    })
}

/// `POST /dead-letters`: replays or discards every letter that fits the filter, or has a remediation run made.
pub(super) async fn act(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let fields = &posted.fields;
    let queue = letter_queue(fields)?.unwrap_or(DeadQueue::Forwarder);
    let actor = &posted.by.actor;
    let reason = fields.get("reason");
    let outcome = match fields.get("act") {
        Some("remediate") => {
            web.admin.remediate(actor, reason).await.map(|report| format!("did=run&n={}", report.replayed))
        }
        Some("replay") => {
            let all = Selection::Matching(letter_filter(fields)?, ACTED_AT_ONCE);
            web.admin
                .replay_dead(queue, &all, fields.get("target"), actor, reason)
                .await
                .map(|acted| did("replay", &acted))
        }
        Some("discard") => {
            let all = Selection::Matching(letter_filter(fields)?, ACTED_AT_ONCE);
            web.admin.discard_dead(queue, &all, actor, reason).await.map(|acted| did("discard", &acted))
        }
        _ => return Err(Fault::bad_request("this page has no such button")),
    };
    match outcome {
        Ok(did) => Ok(Redirect::to(&format!("/dead-letters?{}&{did}", query(fields, queue))).into_response()),
        Err(error) => {
            let trouble = super::Trouble::from(error);
            let frame = Frame::new(&web, &posted.by, "dead-letters");
            let page = page(&web, frame, fields, None, Some(trouble.why.clone())).await?;
            super::shown_again(&page, trouble.status)
        }
    }
}

/// What an act did, for the address of the page after it.
pub(super) fn did(what: &str, acted: &Acted) -> String {
    let more = if acted.more { "&more=1" } else { "" };
    let kept = acted.selected.saturating_sub(acted.done);
    format!("did={what}&n={}&kept={kept}{more}", acted.done)
}

/// What the request before this page did, in words; only numbers come from the address.
pub(super) fn told(fields: &Fields) -> Option<String> {
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let letters = count(number("n"));
    let mut told = match fields.get("did")? {
        "replay" => format!("Letters put back: {letters}."),
        "discard" => format!("Letters discarded: {letters}."),
        "edit" => {
            "The letter was changed; it is the last one of its queue now, with its original beside it.".to_owned()
        }
        "run" => format!("The remediation ran. Letters put back: {letters}."),
        _ => return None,
    };
    if number("kept") > 0 {
        told.push_str(&format!(" Letters that could not be and are still here: {}.", count(number("kept"))));
    }
    if number("more") > 0 {
        told.push_str(" More letters fit the filter: press the button again.");
    }
    Some(told)
}

/// The part of the address that says what is shown.
fn query(fields: &Fields, queue: DeadQueue) -> String {
    let mut query = format!("queue={}", queue.name());
    for name in FILTERS {
        if let Some(value) = fields.get(name) {
            query.push_str(&format!("&{name}={}", url_encode(value.trim())));
        }
    }
    query
}

/// What lies in a queue.
const fn explained(queue: DeadQueue) -> &'static str {
    match queue {
        DeadQueue::Alerter => "Events that could not be processed after every retry.",
        DeadQueue::Forwarder => "Alerts that a receiver refused, or that could not be delivered after every retry.",
        DeadQueue::Dead => "Messages that were put back too often or can never be processed: only you take them out.",
    }
}

pub(super) fn remedy_view(web: &Web) -> RemedyView {
    let status = web.admin.remediation();
    let state = match status.settings.enabled {
        true => format!(
            "Letters are put back every {} s while their target is healthy, {} times at most.",
            status.settings.interval.as_secs(),
            status.settings.max_poison_retries
        ),
        false => "Letters are not put back by themselves (remediation_enabled is false).".to_owned(),
    };
    let last = status.last.map(|run| {
        let failed = run.error.map(|error| format!(", stopped by: {}", visible(&error))).unwrap_or_default();
        format!(
            "Last run {}: {} put back, {} set aside{failed}.",
            moment(run.at),
            count(run.replayed),
            count(run.poison)
        )
    });
    let sick = status.health.iter().filter(|health| !health.healthy);
    RemedyView { state, last, sick: sick.map(|health| (health.target.to_string(), visible(&health.why))).collect() }
}

fn group_view(queue: DeadQueue, group: &DeadGroup) -> GroupView {
    let origin = if group.origin.is_empty() { String::new() } else { format!("&origin={}", url_encode(&group.origin)) };
    GroupView {
        count: count(group.count),
        origin: visible(&group.origin),
        class: group.class.name(),
        reason: visible(&group.reason),
        link: format!("/dead-letters?queue={}{origin}&class={}", queue.name(), group.class.name()),
    }
}

fn letter_view(queue: DeadQueue, item: &DeadItem) -> LetterView {
    let event = item.record.event();
    let (host, message) = match (&item.record, event) {
        (_, Some(event)) => (visible(&event.hostname), visible(&shortened(&event.message, 300))),
        (DeadRecord::Bytes(found), None) => {
            let size = bytes(u64::try_from(found.len()).unwrap_or(u64::MAX));
            (String::new(), format!("{size} that cannot be read"))
        }
        (_, None) => (String::new(), String::new()),
    };
    let letter = item.letter.as_ref().ok();
    let known_id = letter.and_then(|letter| letter.event_id).or_else(|| event.map(|event| event.id));
    LetterView {
        seq: item.seq,
        place: format!("/dead-letters/{}/{}", queue.name(), item.seq),
        time: letter.map(|letter| moment(letter.died_at)).unwrap_or_default(),
        origin: letter.map(|letter| visible(&letter.origin)).unwrap_or_default(),
        class: letter.map_or(DeathClass::Undecodable, |letter| letter.class).name(),
        attempts: letter.map(|letter| letter.attempts.to_string()).unwrap_or_default(),
        replays: letter.map(|letter| letter.replays.to_string()).unwrap_or_default(),
        reason: match &item.letter {
            Ok(letter) => visible_lines(&shortened(&letter.reason, 600)),
            Err(why) => visible(why),
        },
        event: known_id.map(|id| id.to_string()),
        host,
        message,
        edited: letter.is_some_and(|letter| letter.edited.is_some()),
    }
}
