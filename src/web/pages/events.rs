//! Searching events, and the whole way of one.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::api::{event_id, query};
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Segment};
use super::super::text::{moment, url_encode, visible, visible_lines};
use super::views::{EventRow, SeverityTag, Verdict, rule_from, severity_choices, source_choices, verdict};
use super::{Frame, Trouble, shown, shown_again};
use crate::admin::{EventStory, Explained, Found};
use crate::model::{DeliveryOutcome, Event, Flag, facility_name};

/// Events of one page.
const PAGE_SIZE: usize = 100;

/// The fields of the form, kept in the link to the next page.
const FORM_FIELDS: [&str; 10] =
    ["q", "hostname", "severity", "source", "peer", "rule_id", "matched", "from", "to", "correlation_id"];

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    typed: Typed,
    severities: Vec<(String, String)>,
    sources: Vec<(String, String)>,
    rows: Vec<EventRow>,
    /// The empty table that the live view fills.
    no_rows: Vec<EventRow>,
    next: Option<String>,
    newest: String,
    /// Where events come from as they come, for the script.
    live: String,
    later_page: bool,
    filtered: bool,
    warnings: Vec<String>,
    trouble: Trouble,
}

/// The form as it was typed.
struct Typed(Fields);

impl Typed {
    fn get(&self, name: &str) -> String {
        self.0.text(name)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.text(name) == value
    }
}

/// `GET /events`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let found = match query(&fields, PAGE_SIZE) {
        Ok(query) => web.admin.search(&query).await.map_err(Trouble::from),
        Err(fault) => Err(Trouble {
            field: fault.field.unwrap_or_default().into(),
            why: fault.detail.unwrap_or(fault.error),
            status: fault.status,
        }),
    };
    let (found, trouble) = match found {
        Ok(found) => (found, Trouble::default()),
        Err(trouble) => (Found::default(), trouble),
    };
    let status = trouble.status;
    let failed = trouble.any();
    let page = EventsPage {
        frame: Frame::new(&web, &by, "events"),
        severities: severity_choices(),
        sources: source_choices(),
        rows: found.items.iter().map(EventRow::new).collect(),
        no_rows: Vec::new(),
        next: found.next.map(|id| format!("/events?{}cursor={id}", kept(&fields))),
        newest: format!("/events?{}", kept(&fields).trim_end_matches('&')),
        live: format!("/api/v2/events/stream?{}", kept(&fields).trim_end_matches('&')),
        later_page: fields.get("cursor").is_some(),
        filtered: FORM_FIELDS.iter().any(|name| fields.get(name).is_some()),
        warnings: found.warnings.iter().map(|warning| visible(warning)).collect(),
        typed: Typed(fields),
        trouble,
    };
    if failed { shown_again(&page, status) } else { shown(&page) }
}

/// The filters as the start of a query.
fn kept(fields: &Fields) -> String {
    let given = FORM_FIELDS.iter().filter_map(|name| Some((name, fields.get(name)?)));
    given.map(|(name, value)| format!("{name}={}&", url_encode(value))).collect()
}

struct VarbindView {
    oid: String,
    name: Option<String>,
    kind: &'static str,
    value: String,
}

struct DeliveryView {
    time: String,
    target: String,
    attempt: u32,
    outcome: &'static str,
    class: &'static str,
    answer: String,
}

pub(super) struct ExplainedView {
    pub id: i64,
    pub matched: bool,
    pub winner: bool,
    pub active: bool,
    pub priority: i32,
    pub handling: String,
    pub why: String,
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    host: String,
    host_query: String,
    message: String,
    severity: Option<SeverityTag>,
    facts: Vec<(&'static str, String)>,
    flags: Vec<&'static str>,
    structured: Vec<(String, Vec<(String, String)>)>,
    varbinds: Vec<VarbindView>,
    fields: Option<String>,
    raw: Option<String>,
    verdict: Verdict,
    environment: &'static str,
    team: Option<String>,
    rule_gone: bool,
    why: Option<String>,
    near: Vec<ExplainedView>,
    deliveries: Vec<DeliveryView>,
    rule_link: String,
    /// It is in the archive only: no rule can be made from it, and nothing is done to it any more.
    archived: bool,
    /// Each step of its way: when, and what happened.
    steps: Vec<(String, String)>,
    warnings: Vec<String>,
}

/// `GET /events/{id}`.
pub(super) async fn show(State(web): State<Web>, by: SignedIn, Segment(id): Segment) -> Answer<Response> {
    let story = web.admin.event(event_id(&id)?).await?;
    shown(&event_page(Frame::new(&web, &by, "events"), &story))
}

/// An event that has left the audit, with what its archive knows of it.
pub(super) fn archived(frame: Frame, story: &EventStory) -> Answer<Response> {
    let mut page = event_page(frame, story);
    // Where it is kept is another place here, and what was never noted will not come any more.
    let steps = story.steps().into_iter().filter(|step| step.kind != "kept");
    let steps = steps.filter(|step| step.kind != "delivery" || step.at.is_some());
    page.steps = steps.map(|step| (step.at.map(moment).unwrap_or_default(), visible(&step.what))).collect();
    page.steps.push((String::new(), "kept in the archive of its day".to_owned()));
    page.archived = true;
    shown(&page)
}

fn event_page(frame: Frame, story: &EventStory) -> EventPage {
    let event = &story.judged.event;
    let decision = &story.judged.decision;
    let winner = decision.rule();
    let why = story.explained.iter().find(|told| Some(told.rule.id) == winner && told.matched);
    EventPage {
        frame,
        host: visible(&event.hostname),
        host_query: url_encode(&event.hostname),
        message: visible_lines(&event.message),
        severity: event.severity.map(SeverityTag::from),
        facts: facts(event),
        flags: event.flags.iter().map(|flag| flag_text(*flag)).collect(),
        structured: structured(event),
        varbinds: varbinds(event),
        fields: event.fields.as_deref().map(pretty_json),
        raw: (!event.raw.is_empty()).then(|| visible_lines(&event.raw)),
        verdict: verdict(&story.judged),
        environment: decision.environment.name(),
        team: decision.matched.as_ref().map(|matched| visible(matched.team.as_str())),
        rule_gone: winner.is_some_and(|id| id.0 != 0) && story.rule.is_none(),
        why: why.map(|told| visible(&told.why)),
        near: story.explained.iter().take(8).map(|told| explained_view(told, winner.map(|id| id.0))).collect(),
        deliveries: deliveries(story),
        rule_link: rule_from(event.id),
        archived: false,
        steps: story
            .steps()
            .into_iter()
            .map(|step| (step.at.map(moment).unwrap_or_default(), visible(&step.what)))
            .collect(),
        warnings: story.warnings.iter().map(|warning| visible(warning)).collect(),
    }
}

pub(super) fn explained_view(told: &Explained, winner: Option<i64>) -> ExplainedView {
    let draft = &told.rule.draft;
    ExplainedView {
        id: told.rule.id.0,
        matched: told.matched,
        winner: winner == Some(told.rule.id.0),
        active: draft.is_active,
        priority: draft.priority,
        handling: visible(draft.prod_handling.as_str()),
        why: visible(&told.why),
    }
}

/// Everything an event may have, in reading order; what it does not have is left out.
fn facts(event: &Event) -> Vec<(&'static str, String)> {
    let facility = event.facility.map(|number| match facility_name(number) {
        Some(name) => format!("{number} {name}"),
        None => number.to_string(),
    });
    let trap = event.trap.as_ref();
    let all = [
        ("Received", Some(format!("{} UTC", moment(event.received_at)))),
        ("Device time", event.timestamp.map(|time| format!("{} UTC", moment(time)))),
        ("Came by", Some(event.source.protocol.name().to_owned())),
        ("From address", Some(event.source.peer.to_string())),
        ("Facility", facility),
        ("Program", event.app_name.as_ref().map(ToString::to_string)),
        ("Process", event.proc_id.as_ref().map(ToString::to_string)),
        ("Message id", event.msg_id.as_ref().map(ToString::to_string)),
        ("Trap OID", trap.map(|trap| trap.oid.to_string())),
        ("SNMP version", trap.map(|trap| trap.version.clone())),
        ("Confirmed", trap.filter(|trap| trap.inform).map(|_| "yes, it was an inform".to_owned())),
        ("Agent address", trap.and_then(|trap| trap.agent).map(|agent| agent.to_string())),
        ("Device uptime", trap.and_then(|trap| trap.uptime).map(uptime)),
        ("Event id", Some(event.id.to_string())),
        ("Correlation id", Some(event.correlation())),
        ("Trace id", Some(event.trace_id().to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, visible(&value?)))).collect()
}

/// sysUpTime counts hundredths of a second.
fn uptime(hundredths: u32) -> String {
    super::super::text::span(std::time::Duration::from_millis(u64::from(hundredths) * 10))
}

const fn flag_text(flag: Flag) -> &'static str {
    match flag {
        Flag::Unparsed => "The header was not understood; the whole text is the message.",
        Flag::NoPri => "The message carried no valid priority; 13 (user.notice) was assumed.",
        Flag::InvalidUtf8 => "Bytes that are not UTF-8 were replaced.",
        Flag::Truncated => "The message was longer than the limit and was cut.",
        Flag::HostFromPeer => "The sender named no host; its address stands in.",
        Flag::BadTimestamp => "The device's time stamp was not understood.",
        Flag::BadStructuredData => "The structured data was not understood and is part of the message.",
        Flag::Replayed { .. } => {
            "It could not be processed or delivered at first and was put back from the dead letters."
        }
    }
}

fn structured(event: &Event) -> Vec<(String, Vec<(String, String)>)> {
    let pairs = |params: &[(String, String)]| params.iter().map(|(n, v)| (visible(n), visible(v))).collect();
    event.structured_data.iter().map(|element| (visible(&element.id), pairs(&element.params))).collect()
}

fn varbinds(event: &Event) -> Vec<VarbindView> {
    let all = event.trap.iter().flat_map(|trap| &trap.varbinds);
    all.map(|varbind| VarbindView {
        oid: varbind.oid.to_string(),
        name: varbind.name.as_deref().map(visible),
        kind: varbind.kind.name(),
        value: visible_lines(&varbind.value),
    })
    .collect()
}

fn pretty_json(text: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    // The line breaks of the layout are ours; those within values are escaped by JSON itself.
    pretty.map_or_else(|| visible_lines(text), |pretty| pretty.lines().map(visible).collect::<Vec<_>>().join("\n"))
}

fn deliveries(story: &EventStory) -> Vec<DeliveryView> {
    let view = |note: &crate::model::DeliveryNote| {
        let (outcome, class) = match note.outcome {
            DeliveryOutcome::Delivered => ("delivered", "ok"),
            DeliveryOutcome::Retrying => ("failed, will be tried again", "warn"),
            DeliveryOutcome::DeadLettered => ("given up, in the dead letters", "bad"),
        };
        DeliveryView {
            time: moment(note.at),
            target: visible(note.target.as_str()),
            attempt: note.attempt,
            outcome,
            class,
            answer: visible_lines(&note.answer),
        }
    };
    story.deliveries.iter().map(view).collect()
}
