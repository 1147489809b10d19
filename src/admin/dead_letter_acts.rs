//! What people do to dead letters: put back, discard, change, have the remediation run. Each act is in the change log
//! before it is done, with who, why and which letters; a crash in between leaves a line about an act that can be repeated.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::actor::stated;
use super::dead_letters::LetterReader;
use super::{Actor, Admin, AdminError, LetterFilter};
use crate::model::{DeadLetter, Edited, Event, Handling, Severity, TargetName, Team, event_json};
use crate::queue::{QueueError, Seq};
use crate::remedy::{DeadItem, DeadQueue, DeadRecord, RemedyStatus, RunReport};
use crate::store::Action;
use crate::telemetry::metrics::DEAD_LETTER_ACTIONS;

/// What stands in the change log in the place of a table's name.
const KIND: &str = "dead_letters";

/// Letters one call acts on, at most: the caller calls again for the rest.
pub const MAX_ACTED: usize = 10_000;
/// Letters one call looks at for those that fit a filter.
const MOST_LOOKED_AT: usize = 200_000;
/// Places that a line of the change log names; beyond, it says how many there were.
const PLACES_NAMED: usize = 100;
/// Reasons told for letters that could not be put back.
const REASONS_TOLD: usize = 20;

/// Which letters an act is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Places(Vec<Seq>),
    /// The oldest that fit, so many at most.
    Matching(LetterFilter, usize),
}

/// What an act did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acted {
    /// Letters it was about.
    pub selected: u64,
    /// Letters it was done to; others were in somebody else's hands or could not be.
    pub done: u64,
    /// Letters it could not be done to, and why; the first ones.
    pub kept: BTreeMap<Seq, String>,
    /// Whether more letters fit the filter.
    pub more: bool,
}

/// What a person wants changed in a letter; members that are `None` stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterEdit {
    /// The event's host.
    pub hostname: Option<String>,
    /// The event's text.
    pub message: Option<String>,
    /// The event's severity; `Some(None)` takes it away.
    pub severity: Option<Option<u8>>,
    /// The event's program.
    pub app_name: Option<String>,
    /// The team of an alert.
    pub team: Option<String>,
    /// The handling of an alert.
    pub handling: Option<String>,
}

impl Admin {
    /// Puts letters back into the work they came from; alerts go to `target` if it is named.
    pub async fn replay_dead(
        &self,
        queue: DeadQueue,
        selection: &Selection,
        target: Option<&str>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Acted, AdminError> {
        let target = target.map(|name| self.outbox_name(name)).transpose()?;
        let (seqs, more) = self.selected(queue, selection).await?;
        let mut acted = Acted { selected: seqs.len() as u64, more, ..Acted::default() };
        if seqs.is_empty() {
            return Ok(acted);
        }
        let act = json!({"action": "replay", "target": target.as_ref().map(TargetName::as_str)});
        self.note(queue, selection, &seqs, Some(act), actor, reason).await?;
        let back = self.parts.remedy.put_back(queue, seqs, target).await?;
        acted.done = back.replayed;
        acted.kept = back.kept.into_iter().take(REASONS_TOLD).collect();
        metrics::counter!(DEAD_LETTER_ACTIONS, "action" => "replay").increment(acted.done);
        Ok(acted)
    }

    /// Takes letters away for good; that wants a reason.
    pub async fn discard_dead(
        &self,
        queue: DeadQueue,
        selection: &Selection,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<Acted, AdminError> {
        stated(reason, "say why these messages may be lost")?;
        let (seqs, more) = self.selected(queue, selection).await?;
        let mut acted = Acted { selected: seqs.len() as u64, more, ..Acted::default() };
        if seqs.is_empty() {
            return Ok(acted);
        }
        self.note(queue, selection, &seqs, None, actor, reason).await?;
        acted.done = self.parts.remedy.discard(queue, seqs).await?;
        metrics::counter!(DEAD_LETTER_ACTIONS, "action" => "discard").increment(acted.done);
        Ok(acted)
    }

    /// Changes what a letter holds before it is put back. The record as it died stays beside it, and since it is another
    /// message now, its count of replays begins anew. The letter moves to the end of its queue.
    pub async fn edit_dead(
        &self,
        queue: DeadQueue,
        seq: Seq,
        edit: &LetterEdit,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        let item = self.dead_letter(queue, seq).await?;
        let before = snapshot(&item.record);
        let (letter, after) = edited(item, edit, actor, self.parts.clock.now())?;
        let action = Action { kind: KIND, record_id: place(queue, seq), old: Some(before), new: Some(after) };
        self.parts.stores.changes.note_action(action, &actor.change(reason)?).await?;
        let replaced = self.parts.remedy.replace(queue, seq, letter).await;
        let replaced = replaced.map_err(|error| match error {
            QueueError::TooLarge { .. } => {
                AdminError::invalid("message", "the letter does not fit into its queue together with its original")
            }
            other => other.into(),
        })?;
        if !replaced {
            return Err(AdminError::Unavailable(format!("letter {} is just being put back", place(queue, seq))));
        }
        metrics::counter!(DEAD_LETTER_ACTIONS, "action" => "edit").increment(1);
        Ok(())
    }

    /// Has one remediation run made now.
    pub async fn remediate(&self, actor: &Actor, reason: Option<&str>) -> Result<RunReport, AdminError> {
        let act = json!({"action": "remediate"});
        let action = Action { kind: KIND, record_id: "remediation".to_owned(), old: Some(Value::Null), new: Some(act) };
        self.parts.stores.changes.note_action(action, &actor.change(reason)?).await?;
        let report = self.parts.remedy.run_now().await;
        report.ok_or_else(|| AdminError::Unavailable("the appliance is stopping".to_owned()))
    }

    /// How the remediation is.
    pub fn remediation(&self) -> RemedyStatus {
        self.parts.remedy.status()
    }

    /// The targets letters can be sent to.
    pub fn target_names(&self) -> Vec<String> {
        self.parts.queues.outboxes.all().keys().map(ToString::to_string).collect()
    }

    fn outbox_name(&self, name: &str) -> Result<TargetName, AdminError> {
        let known = self.parts.queues.outboxes.all().keys().find(|target| target.as_str() == name).cloned();
        known.ok_or_else(|| {
            AdminError::invalid("target", format!("there is no such target; use {}", self.target_names().join(", ")))
        })
    }

    /// The places of the letters an act is about, and whether there are more.
    async fn selected(&self, queue: DeadQueue, selection: &Selection) -> Result<(Vec<Seq>, bool), AdminError> {
        let (filter, limit) = match selection {
            Selection::Places(seqs) if seqs.len() > MAX_ACTED => {
                return Err(AdminError::invalid("seqs", format!("at most {MAX_ACTED} at once")));
            }
            Selection::Places(seqs) => {
                let mut seqs = seqs.clone();
                seqs.sort_unstable();
                seqs.dedup();
                return Ok((seqs, false));
            }
            Selection::Matching(filter, limit) => (filter.prepared(), (*limit).clamp(1, MAX_ACTED)),
        };
        let mut reader = LetterReader::new(self, queue, 0);
        let (mut seqs, mut looked_at) = (Vec::new(), 0);
        while let Some(page) = reader.page(usize::MAX).await? {
            looked_at += page.len();
            for item in page.iter().filter(|item| filter.matches(item)) {
                if seqs.len() == limit {
                    return Ok((seqs, true));
                }
                seqs.push(item.seq);
            }
            if looked_at >= MOST_LOOKED_AT {
                return Ok((seqs, true));
            }
            tokio::task::yield_now().await;
        }
        Ok((seqs, false))
    }

    /// The line in the change log: about one letter under its own name, about several under their queue's. `act` is
    /// `None` when they are taken away.
    async fn note(
        &self,
        queue: DeadQueue,
        selection: &Selection,
        seqs: &[Seq],
        act: Option<Value>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        let (record_id, old) = match seqs {
            [seq] => match self.dead_letter(queue, *seq).await {
                Ok(item) => (place(queue, *seq), snapshot(&item.record)),
                Err(error) => return Err(error),
            },
            _ => (queue.name().to_owned(), several(selection, seqs)),
        };
        let action = Action { kind: KIND, record_id, old: Some(old), new: act };
        Ok(self.parts.stores.changes.note_action(action, &actor.change(reason)?).await?)
    }
}

/// How one letter is named in the change log.
fn place(queue: DeadQueue, seq: Seq) -> String {
    format!("{}/{seq}", queue.name())
}

/// What the change log keeps of several letters.
fn several(selection: &Selection, seqs: &[Seq]) -> Value {
    let mut kept = Map::new();
    kept.insert("letters".into(), seqs.len().into());
    kept.insert("seqs".into(), seqs.iter().take(PLACES_NAMED).copied().collect());
    if let Selection::Matching(filter, _) = selection {
        let filter = json!({
            "origin": filter.origin,
            "class": filter.class.map(crate::model::DeathClass::name),
            "hostname": filter.hostname,
            "q": filter.text,
            "from": filter.from.map(|time| time.to_string()),
            "to": filter.to.map(|time| time.to_string()),
        });
        kept.insert("filter".into(), filter);
    }
    Value::Object(kept)
}

/// What the change log keeps of one letter.
fn snapshot(record: &DeadRecord) -> Value {
    let mut kept = match record {
        DeadRecord::Bytes(bytes) => return json!({"bytes": bytes.len()}),
        DeadRecord::Event(event) => event_json(event),
        DeadRecord::Alert(alert) => event_json(&alert.event),
    };
    if let (Value::Object(members), DeadRecord::Alert(alert)) = (&mut kept, record) {
        members.insert("team".into(), alert.team.as_str().into());
        members.insert("handling".into(), alert.handling.as_str().into());
    }
    kept
}

/// The changed letter, and what the change log keeps of it.
fn edited(
    item: DeadItem,
    edit: &LetterEdit,
    actor: &Actor,
    now: crate::model::Timestamp,
) -> Result<(DeadLetter, Value), AdminError> {
    let letter = item.letter.map_err(AdminError::Conflict)?;
    let mut record = item.record;
    match &mut record {
        DeadRecord::Event(event) => {
            if edit.team.is_some() || edit.handling.is_some() {
                return Err(AdminError::invalid("team", "this letter is an event; only alerts have team and handling"));
            }
            edit_event(event, edit)?;
        }
        DeadRecord::Alert(alert) => {
            edit_event(&mut alert.event, edit)?;
            if let Some(team) = &edit.team {
                alert.team = Team::new(team).map_err(|error| AdminError::invalid("team", error.to_string()))?;
            }
            if let Some(handling) = &edit.handling {
                alert.handling = forwarded(handling)?;
            }
        }
        DeadRecord::Bytes(_) => {
            let why = "its bytes are not understood; it can only be discarded".to_owned();
            return Err(AdminError::Conflict(why));
        }
    }
    let payload = match &record {
        DeadRecord::Event(event) => postcard::to_stdvec(event.as_ref()),
        DeadRecord::Alert(alert) => postcard::to_stdvec(alert.as_ref()),
        DeadRecord::Bytes(bytes) => Ok(bytes.clone()),
    };
    let payload = payload.map_err(|error| AdminError::Unavailable(format!("the letter cannot be encoded: {error}")))?;
    let original = letter.edited.map_or(letter.payload, |edited| edited.original);
    let edited = Some(Edited { original, by: actor.name.clone(), at: now });
    let after = snapshot(&record);
    Ok((DeadLetter { payload, holds: record.holds(), replays: 0, edited, ..letter }, after))
}

/// An alert that is not forwarded is no alert: only those words are taken.
fn forwarded(text: &str) -> Result<Handling, AdminError> {
    let handling = Handling::new(text).ok().filter(Handling::is_forwarded);
    handling.ok_or_else(|| AdminError::invalid("handling", "use Page_and_ticket, Page_only or Ticket_only"))
}

fn edit_event(event: &mut Event, edit: &LetterEdit) -> Result<(), AdminError> {
    if let Some(hostname) = &edit.hostname {
        let hostname = hostname.trim();
        if hostname.is_empty() || hostname.len() > 255 || hostname.chars().any(char::is_control) {
            return Err(AdminError::invalid("hostname", "it must have 1 to 255 bytes without control characters"));
        }
        event.hostname = hostname.into();
    }
    if let Some(message) = &edit.message {
        if message.trim().is_empty() {
            return Err(AdminError::invalid("message", "it is empty"));
        }
        event.message = message.as_str().into();
    }
    match edit.severity {
        None => {}
        Some(None) => event.severity = None,
        Some(Some(number)) => {
            let severity = Severity::new(number).ok_or_else(|| AdminError::invalid("severity", "use 0 to 7"))?;
            event.severity = Some(severity);
        }
    }
    if let Some(name) = &edit.app_name {
        event.app_name = Some(name.trim()).filter(|name| !name.is_empty()).map(Into::into);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::{NOON, TestAdmin, judged};
    use crate::model::{Alert, Cause, DeathClass, Environment, RuleId};
    use crate::store::ChangeQuery;

    fn alert(host: &str) -> Alert {
        Alert {
            event: judged(1, host, "it broke").event,
            cause: Cause::Rule(RuleId(1)),
            environment: Environment::Prod,
            handling: Handling::PageOnly,
            team: Team::new("NETO").expect("a name"),
        }
    }

    async fn house(hosts: &[&str]) -> TestAdmin {
        let test = TestAdmin::new().await;
        for host in hosts {
            let letter = DeadLetter::of_alert(&alert(host), "moogsoft", DeathClass::Refused, "422".into(), NOON);
            test.queues.dead_alerts.append(&[letter]).await.expect("room");
        }
        test
    }

    fn alice() -> Actor {
        Actor::new("alice", "c-1")
    }

    async fn log(test: &TestAdmin) -> Vec<crate::store::ChangeRow> {
        let query = ChangeQuery { table_name: Some("dead_letters".into()), limit: 10, ..ChangeQuery::default() };
        test.admin.changes(&query).await.expect("the log").rows
    }

    #[tokio::test]
    async fn letters_that_match_are_put_back_and_the_change_log_says_who_and_why() {
        let test = house(&["core1", "core2", "core1"]).await;
        let filter = LetterFilter { hostname: Some("core1".into()), ..LetterFilter::default() };
        let selection = Selection::Matching(filter, 100);
        let acted = test.admin.replay_dead(DeadQueue::Forwarder, &selection, None, &alice(), Some("INC-7")).await;
        let acted = acted.expect("done");
        assert_eq!((acted.selected, acted.done, acted.more), (2, 2, false));
        assert_eq!(test.queues.dead_alerts.depth().items, 1);
        assert_eq!(test.queues.named()[1].1.items, 2);
        let rows = log(&test).await;
        assert_eq!((rows.len(), rows[0].changed_by.as_str(), rows[0].reason.as_deref()), (1, "alice", Some("INC-7")));
        assert_eq!((rows[0].record_id.as_str(), rows[0].correlation_id.as_str()), ("dlq.forwarder", "c-1"));
        let old = rows[0].old_values.as_ref().expect("what it was about");
        assert_eq!((&old["letters"], &old["filter"]["hostname"]), (&json!(2), &json!("core1")));
    }

    #[tokio::test]
    async fn discarding_wants_a_reason_and_keeps_the_message_in_the_log() {
        let test = house(&["core1"]).await;
        let one = Selection::Places(vec![1]);
        let refused = test.admin.discard_dead(DeadQueue::Forwarder, &one, &alice(), Some(" ")).await;
        assert!(matches!(refused, Err(AdminError::Invalid { field: Some(field), .. }) if field == "reason"));
        let acted = test.admin.discard_dead(DeadQueue::Forwarder, &one, &alice(), Some("a test")).await.expect("done");
        assert_eq!((acted.done, test.queues.dead_alerts.depth().items), (1, 0));
        let rows = log(&test).await;
        assert_eq!(rows[0].operation.name(), "DELETE");
        assert_eq!(rows[0].old_values.as_ref().expect("the letter")["message"], "it broke");
        assert!(test.admin.discard_dead(DeadQueue::Forwarder, &one, &alice(), Some("again")).await.is_err());
    }

    #[tokio::test]
    async fn a_changed_letter_keeps_its_original_and_goes_back_as_changed() {
        let test = house(&["core1"]).await;
        let edit = LetterEdit { hostname: Some("core9".into()), team: Some("SRE".into()), ..LetterEdit::default() };
        test.admin.edit_dead(DeadQueue::Forwarder, 1, &edit, &alice(), Some("wrong host")).await.expect("done");
        let page = test.admin.dead_letters(DeadQueue::Forwarder, &LetterFilter::default(), 0, 10).await.expect("open");
        let [item] = page.items.as_slice() else { panic!("one letter stays one") };
        let edited = item.letter.as_ref().expect("readable").edited.as_ref().expect("it was changed");
        let original: Alert = postcard::from_bytes(&edited.original).expect("an alert");
        assert_eq!((edited.by.as_str(), &*original.event.hostname), ("alice", "core1"));
        let DeadRecord::Alert(alert) = &item.record else { panic!("an alert") };
        assert_eq!((&*alert.event.hostname, alert.team.as_str()), ("core9", "SRE"));
        let rows = log(&test).await;
        let hosts =
            [&rows[0].old_values, &rows[0].new_values].map(|values| values.as_ref().unwrap()["hostname"].clone());
        assert_eq!(hosts, [json!("core1"), json!("core9")]);
        let bad = LetterEdit { severity: Some(Some(9)), ..LetterEdit::default() };
        assert!(test.admin.edit_dead(DeadQueue::Forwarder, item.seq, &bad, &alice(), None).await.is_err());
    }

    #[tokio::test]
    async fn a_target_that_does_not_exist_is_refused_by_name() {
        let test = house(&["core1"]).await;
        let one = Selection::Places(vec![1]);
        let refused = test.admin.replay_dead(DeadQueue::Forwarder, &one, Some("pager"), &alice(), None).await;
        assert!(refused.expect_err("no such target").to_string().contains("moogsoft"));
    }

    #[tokio::test]
    async fn a_run_on_request_is_noted() {
        let test = house(&["core1"]).await;
        assert_eq!(test.admin.remediate(&alice(), None).await.expect("it ran").replayed, 1);
        assert_eq!(log(&test).await[0].record_id, "remediation");
        assert_eq!(test.admin.remediation().last.expect("it ran").replayed, 1);
    }
}
