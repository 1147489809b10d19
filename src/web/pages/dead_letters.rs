//! Dead letters: what could not be judged or delivered, and why.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::Fields;
use super::super::text::{bytes, count, moment, shortened, visible, visible_lines};
use super::{Frame, shown};
use crate::admin::{DeadItem, DeadQueue, DeadRecord};

/// Letters of one page.
const PAGE_SIZE: usize = 50;

struct LetterView {
    seq: u64,
    time: String,
    origin: String,
    attempts: String,
    reason: String,
    event: Option<String>,
    host: String,
    message: String,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    /// Name, letters, whether it is the one shown.
    queues: Vec<(&'static str, String, bool)>,
    letters: Vec<LetterView>,
    from_forwarder: bool,
    next: Option<String>,
}

/// `GET /dead-letters?queue=&from=`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let asked = fields.parsed("queue", "dlq.alerter or dlq.forwarder", |text| text.parse::<DeadQueue>().ok())?;
    let queue = asked.unwrap_or(DeadQueue::Forwarder);
    let from = fields.parsed("from", "a place in the queue", |text| text.parse().ok())?.unwrap_or(0);
    let page = web.admin.dead_letters(queue, from, PAGE_SIZE).await?;
    let lines = web.admin.queue_lines();
    let depth = |name: &str| lines.iter().find(|line| line.name == name).map_or(0, |line| line.depth.items);
    let queues = DeadQueue::ALL.map(|each| (each.name(), count(depth(each.name())), each == queue));
    shown(&DeadLettersPage {
        frame: Frame::new(&web, &by, "dead-letters"),
        queues: queues.to_vec(),
        letters: page.items.iter().map(letter_view).collect(),
        from_forwarder: queue == DeadQueue::Forwarder,
        next: page.next.map(|seq| format!("/dead-letters?queue={}&from={seq}", queue.name())),
    })
}

fn letter_view(item: &DeadItem) -> LetterView {
    let event = item.record.event();
    let (host, message) = match (&item.record, event) {
        (_, Some(event)) => (visible(&event.hostname), visible(&shortened(&event.message, 300))),
        (DeadRecord::Bytes(size), None) => {
            let size = bytes(u64::try_from(*size).unwrap_or(u64::MAX));
            (String::new(), format!("{size} that cannot be read"))
        }
        (_, None) => (String::new(), String::new()),
    };
    let letter = item.letter.as_ref().ok();
    let known_id = letter.and_then(|letter| letter.event_id).or_else(|| event.map(|event| event.id));
    LetterView {
        seq: item.seq,
        time: letter.map(|letter| moment(letter.died_at)).unwrap_or_default(),
        origin: letter.map(|letter| visible(&letter.origin)).unwrap_or_default(),
        attempts: letter.map(|letter| letter.attempts.to_string()).unwrap_or_default(),
        reason: match &item.letter {
            Ok(letter) => visible_lines(&shortened(&letter.reason, 600)),
            Err(why) => visible(why),
        },
        event: known_id.map(|id| id.to_string()),
        host,
        message,
    }
}
