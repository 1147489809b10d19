//! Dead letters and remediation over the API.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Web;
use super::super::auth::Caller;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, JsonBody, Reason, body_time};
use super::super::openapi::parameters::{cursor, moment, number, text, words};
use super::super::text::hex_dump;
use super::letter_view::{Acted, Letter, LetterGroups, LetterQueue, Remediation, RemediationRun};
use crate::admin::{DeadQueue, DeadRecord, LetterEdit, LetterFilter, Selection};
use crate::model::{DeathClass, alert_json};

/// Parameters that say which letters.
const FILTERS: [&str; 6] = ["origin", "class", "hostname", "q", "from", "to"];
/// What a queue may be called.
const QUEUES: &str = "dlq.alerter, dlq.forwarder or dead";
/// Bytes shown of what is not understood.
const SHOWN_BYTES: usize = 4_096;
/// Letters acted on when nothing else is said.
const DEFAULT_ACTED: usize = 1_000;
/// Letters acted on in one call, at most.
const MAX_ACTED: usize = 10_000;

/// The routes of this section.
pub(super) fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(groups))
        .routes(routes!(replay))
        .routes(routes!(discard))
        .routes(routes!(show, change, discard_one))
        .routes(routes!(replay_one))
        .routes(routes!(remediation))
        .routes(routes!(run))
}

/// Dead letters by queue.
#[derive(Serialize, ToSchema)]
struct LetterList {
    queues: Vec<LetterQueue>,
}

/// How many letters died for which reason, by queue.
#[derive(Serialize, ToSchema)]
struct GroupList {
    queues: Vec<LetterGroups>,
}

/// What is to be changed of a letter's event or alert; what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LetterChange {
    hostname: Option<String>,
    message: Option<String>,
    /// 0 to 7; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u8>, maximum = 7)]
    severity: Option<Option<u8>>,
    app_name: Option<String>,
    /// Of an alert.
    team: Option<String>,
    /// Of an alert.
    handling: Option<String>,
}

/// Tells a null that was sent from a member that was not.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u8>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// That a letter was changed.
#[derive(Serialize, ToSchema)]
struct LetterChanged {
    status: &'static str,
    queue: &'static str,
}

/// Where a letter is to go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayOne {
    /// The target, for an alert that is to go to another one.
    target: Option<String>,
}

/// Which queue.
#[derive(Clone, Copy, Deserialize, ToSchema)]
enum QueueName {
    #[serde(rename = "dlq.alerter")]
    Alerter,
    #[serde(rename = "dlq.forwarder")]
    Forwarder,
    #[serde(rename = "dead")]
    Dead,
}

/// Which letters: those in `seqs`, or those that fit the other members, `limit` at most.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LetterSelection {
    queue: QueueName,
    /// Places in the queue; not together with the filters.
    #[schema(min_items = 1)]
    seqs: Option<Vec<u64>>,
    /// How many at most; 1,000 unless said.
    #[schema(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    origin: Option<String>,
    /// Why they died, such as `refused`.
    class: Option<String>,
    hostname: Option<String>,
    /// Text in reason, answer or event.
    q: Option<String>,
    #[schema(format = DateTime)]
    from: Option<String>,
    #[schema(format = DateTime)]
    to: Option<String>,
}

/// Which letters are to be replayed, and where to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplaySelection {
    queue: QueueName,
    /// Places in the queue; not together with the filters.
    #[schema(min_items = 1)]
    seqs: Option<Vec<u64>>,
    /// How many at most; 1,000 unless said.
    #[schema(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    origin: Option<String>,
    /// Why they died, such as `refused`.
    class: Option<String>,
    hostname: Option<String>,
    /// Text in reason, answer or event.
    q: Option<String>,
    #[schema(format = DateTime)]
    from: Option<String>,
    #[schema(format = DateTime)]
    to: Option<String>,
    /// The target, for alerts that are to go to another one.
    target: Option<String>,
}

/// The filters that lists of letters take, after the queue.
fn filter_parameters() -> Vec<Parameter> {
    vec![
        words("queue", &DeadQueue::ALL.map(DeadQueue::name), "Of this queue only"),
        text("origin", "That came from this stage or target"),
        words("class", &DeathClass::ALL.map(DeathClass::name), "That died for this kind of reason"),
        text("hostname", "Whose event is of this host"),
        text("q", "With this text in reason, answer or event"),
        moment("from", "That died not before"),
        moment("to", "That died before"),
    ]
}

/// The parameters of the list.
enum LetterFilters {}

impl IntoParams for LetterFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all = filter_parameters();
        all.push(number("limit", 1, 200, "How many of each queue; 50 unless said"));
        all.push(cursor("Where an earlier answer ended: the queue's `next_cursor`"));
        all
    }
}

/// The parameters of the groups.
enum GroupFilters {}

impl IntoParams for GroupFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        filter_parameters()
    }
}

/// Queue and place of one letter, from the address.
pub(super) struct Place(DeadQueue, u64);

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((queue, seq)) = path.map_err(|_| Fault::bad_request("the address is not valid UTF-8"))?;
        let queue = queue.parse().map_err(|_| Fault::field("queue", format!("use {QUEUES}")))?;
        let seq = seq.parse().map_err(|_| Fault::field("seq", "it is not a place in a queue"))?;
        Ok(Self(queue, seq))
    }
}

/// The filter that a query holds.
pub(in crate::web) fn filter(fields: &Fields) -> Answer<LetterFilter> {
    let text = |name: &str| fields.get(name).map(|text| text.trim().to_owned());
    Ok(LetterFilter {
        origin: text("origin"),
        class: fields.parsed("class", &classes(), DeathClass::parse)?,
        hostname: text("hostname"),
        text: text("q"),
        from: fields.time("from")?,
        to: fields.time("to")?,
    })
}

fn classes() -> String {
    format!("one of {}", DeathClass::ALL.map(DeathClass::name).join(", "))
}

/// The queue that a query names.
pub(in crate::web) fn queue(fields: &Fields) -> Answer<Option<DeadQueue>> {
    fields.parsed("queue", QUEUES, |text| text.parse().ok())
}

/// Dead letters
///
/// Every queue, or the one in `queue`, oldest first; `next_cursor` goes on in that queue.
#[utoipa::path(get, path = "/dead-letters", params(LetterFilters), responses((status = 200, body = LetterList)))]
async fn list(State(web): State<Web>, fields: Fields) -> Answer<Json<LetterList>> {
    fields.only(&[&["queue", "limit", "cursor"][..], &FILTERS].concat())?;
    let (asked, filter) = (queue(&fields)?, filter(&fields)?);
    let limit = fields.number("limit", 50, 1, 200)?;
    let from = fields.parsed("cursor", "a cursor from an earlier answer", |text| text.parse().ok())?.unwrap_or(0);
    let mut queues = Vec::new();
    for queue in DeadQueue::ALL.into_iter().filter(|queue| asked.is_none_or(|asked| asked == *queue)) {
        let page = web.admin.dead_letters(queue, &filter, from, limit).await?;
        queues.push(LetterQueue::new(queue, &page));
    }
    Ok(Json(LetterList { queues }))
}

/// How many letters died for which reason
#[utoipa::path(get, path = "/dead-letters/groups", params(GroupFilters), responses((status = 200, body = GroupList)))]
async fn groups(State(web): State<Web>, fields: Fields) -> Answer<Json<GroupList>> {
    fields.only(&[&["queue"][..], &FILTERS].concat())?;
    let (asked, filter) = (queue(&fields)?, filter(&fields)?);
    let mut queues = Vec::new();
    for queue in DeadQueue::ALL.into_iter().filter(|queue| asked.is_none_or(|asked| asked == *queue)) {
        let found = web.admin.dead_groups(queue, &filter).await?;
        queues.push(LetterGroups::new(queue, &found));
    }
    Ok(Json(GroupList { queues }))
}

/// One dead letter
#[utoipa::path(
    get,
    path = "/dead-letters/{queue}/{seq}",
    params(
        ("queue" = QueueName, Path, description = "The queue it is in"),
        ("seq" = u64, Path, description = "Its place there"),
    ),
    responses((status = 200, body = Letter))
)]
async fn show(State(web): State<Web>, Place(queue, seq): Place) -> Answer<Json<Letter>> {
    let item = web.admin.dead_letter(queue, seq).await?;
    let mut letter = Letter::from(&item);
    match &item.record {
        DeadRecord::Alert(alert) => letter.alert = Some(alert_json(alert)),
        DeadRecord::Bytes(bytes) => {
            letter.bytes = Some(bytes.len());
            letter.hex = Some(hex_dump(bytes, SHOWN_BYTES));
        }
        DeadRecord::Event(_) => {}
    }
    Ok(Json(letter))
}

/// Changes what a dead letter holds
///
/// It moves to the end of its queue.
#[utoipa::path(
    patch,
    path = "/dead-letters/{queue}/{seq}",
    params(
        ("queue" = QueueName, Path, description = "The queue it is in"),
        ("seq" = u64, Path, description = "Its place there"),
    ),
    request_body = LetterChange,
    responses((status = 200, body = LetterChanged), (status = 409, description = "What it holds cannot be changed so"))
)]
async fn change(
    State(web): State<Web>,
    caller: Caller,
    Place(queue, seq): Place,
    body: JsonBody,
) -> Answer<Json<LetterChanged>> {
    let LetterChange { hostname, message, severity, app_name, team, handling } = body.read()?;
    let edit = LetterEdit { hostname, message, severity, app_name, team, handling };
    web.admin.edit_dead(queue, seq, &edit, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(LetterChanged { status: "changed", queue: queue.name() }))
}

/// Replays a dead letter
///
/// It goes back into the work it came from; an alert to `target` if that is given.
#[utoipa::path(
    post,
    path = "/dead-letters/{queue}/{seq}/replay",
    params(
        ("queue" = QueueName, Path, description = "The queue it is in"),
        ("seq" = u64, Path, description = "Its place there"),
    ),
    request_body = ReplayOne,
    responses((status = 200, body = Acted), (status = 409, description = "It cannot be replayed so"))
)]
async fn replay_one(
    State(web): State<Web>,
    caller: Caller,
    Place(queue, seq): Place,
    body: JsonBody,
) -> Answer<Json<Acted>> {
    let ReplayOne { target } = body.read()?;
    let one = Selection::Places(vec![seq]);
    let acted = web.admin.replay_dead(queue, &one, target.as_deref(), &caller.0, body.reason.as_deref()).await?;
    Ok(Json(Acted::replayed(&acted)))
}

/// Discards a dead letter
///
/// A reason is needed, in `X-Change-Reason`.
#[utoipa::path(
    delete,
    path = "/dead-letters/{queue}/{seq}",
    params(
        ("queue" = QueueName, Path, description = "The queue it is in"),
        ("seq" = u64, Path, description = "Its place there"),
    ),
    responses((status = 200, body = Acted))
)]
async fn discard_one(
    State(web): State<Web>,
    caller: Caller,
    Place(queue, seq): Place,
    Reason(reason): Reason,
) -> Answer<Json<Acted>> {
    let one = Selection::Places(vec![seq]);
    let acted = web.admin.discard_dead(queue, &one, &caller.0, reason.as_deref()).await?;
    Ok(Json(Acted::discarded(&acted)))
}

/// Replays dead letters
///
/// Those in `seqs`, or those that fit the filters, `limit` at most.
#[utoipa::path(
    post,
    path = "/dead-letters/replay",
    request_body = ReplaySelection,
    responses((status = 200, body = Acted), (status = 404, description = "One of `seqs` is not there"), (status = 409, description = "They cannot be replayed so"))
)]
async fn replay(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<Acted>> {
    let ReplaySelection { queue, seqs, limit, origin, class, hostname, q, from, to, target } = body.read()?;
    let wanted = LetterSelection { queue, seqs, limit, origin, class, hostname, q, from, to };
    let (queue, selection) = wanted.checked()?;
    let acted = web.admin.replay_dead(queue, &selection, target.as_deref(), &caller.0, body.reason.as_deref()).await?;
    Ok(Json(Acted::replayed(&acted)))
}

/// Discards dead letters
///
/// Those in `seqs`, or those that fit the filters, `limit` at most. A reason is needed.
#[utoipa::path(
    post,
    path = "/dead-letters/discard",
    request_body = LetterSelection,
    responses((status = 200, body = Acted), (status = 404, description = "One of `seqs` is not there"))
)]
async fn discard(State(web): State<Web>, caller: Caller, body: JsonBody) -> Answer<Json<Acted>> {
    let (queue, selection) = body.read::<LetterSelection>()?.checked()?;
    let acted = web.admin.discard_dead(queue, &selection, &caller.0, body.reason.as_deref()).await?;
    Ok(Json(Acted::discarded(&acted)))
}

/// How remediation is
///
/// Its settings, its last run, and the health of the targets.
#[utoipa::path(get, path = "/remediation", responses((status = 200, body = Remediation)))]
async fn remediation(State(web): State<Web>) -> Json<Remediation> {
    Json(Remediation::from(&web.admin.remediation()))
}

/// Runs remediation now
#[utoipa::path(post, path = "/remediation/run", responses((status = 200, body = RemediationRun)))]
async fn run(State(web): State<Web>, caller: Caller, Reason(reason): Reason) -> Answer<Json<RemediationRun>> {
    Ok(Json(RemediationRun::from(&web.admin.remediate(&caller.0, reason.as_deref()).await?)))
}

impl From<QueueName> for DeadQueue {
    fn from(name: QueueName) -> Self {
        match name {
            QueueName::Alerter => Self::Alerter,
            QueueName::Forwarder => Self::Forwarder,
            QueueName::Dead => Self::Dead,
        }
    }
}

impl LetterSelection {
    /// Queue and letters.
    fn checked(self) -> Answer<(DeadQueue, Selection)> {
        let queue = DeadQueue::from(self.queue);
        if let Some(seqs) = self.seqs {
            let filters = [&self.origin, &self.class, &self.hostname, &self.q, &self.from, &self.to];
            if let Some((_, name)) = filters.into_iter().zip(FILTERS).find(|(filter, _)| filter.is_some()) {
                return Err(Fault::field(name, "give either `seqs` or filters"));
            }
            if seqs.is_empty() {
                return Err(Fault::field("seqs", "it is an empty list"));
            }
            return Ok((queue, Selection::Places(seqs)));
        }
        let class = |name: String| {
            DeathClass::parse(&name).ok_or_else(|| Fault::field("class", format!("it is not {}", classes())))
        };
        let filter = LetterFilter {
            origin: self.origin,
            class: self.class.map(class).transpose()?,
            hostname: self.hostname,
            text: self.q,
            from: body_time("from", self.from.as_deref())?,
            to: body_time("to", self.to.as_deref())?,
        };
        let limit = self.limit.unwrap_or(DEFAULT_ACTED);
        if !(1..=MAX_ACTED).contains(&limit) {
            return Err(Fault::field("limit", format!("it is not a whole number from 1 to {MAX_ACTED}")));
        }
        Ok((queue, Selection::Matching(filter, limit)))
    }
}
