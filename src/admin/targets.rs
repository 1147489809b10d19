//! Delivery targets: how they are, a test, the breaker's reset, and what waits for targets that are no longer
//! configured. Every action is a line in the change log before it is done.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::actor::stated;
use super::{Actor, Admin, AdminError};
use crate::model::{
    Alert, Cause, DeadLetter, Environment, Event, EventIds, Handling, Protocol, RuleId, Severity, Source, TargetName,
    Team,
};
use crate::queue::{Depth, Queue};
use crate::store::Action;
use crate::telemetry::{NoForwarder, TargetCommand, TargetStatus, TestReport};

/// The longest that a test may take: two keys with the longest time-out.
const TEST_PATIENCE: Duration = Duration::from_secs(610);
/// Alerts moved or discarded with one write.
const BATCH: usize = 256;

/// A target and what waits for it.
#[derive(Debug, Clone)]
pub struct TargetLine {
    /// How it is.
    pub status: TargetStatus,
    /// What waits in its outbox.
    pub waiting: Depth,
}

/// What waits for a target that is not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abandoned {
    /// The target.
    pub name: TargetName,
    /// What waits.
    pub waiting: Depth,
}

/// All targets.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Those that are configured.
    pub configured: Vec<TargetLine>,
    /// Those that are not, and for which alerts wait.
    pub abandoned: Vec<Abandoned>,
}

/// What becomes of alerts that are taken out of an outbox.
enum Fate<'a> {
    /// They go there.
    Moved(&'a Queue<Alert>),
    /// Nothing.
    Discarded,
}

impl Admin {
    /// Every target, and every outbox without one.
    pub fn target_lines(&self) -> Targets {
        let statuses = self.targets();
        let outboxes = self.parts.queues.outboxes.all();
        let abandoned = outboxes
            .iter()
            .filter(|(name, outbox)| statuses.iter().all(|status| status.name != **name) && outbox.depth().items > 0);
        let abandoned = abandoned.map(|(name, outbox)| Abandoned { name: name.clone(), waiting: outbox.depth() });
        let abandoned = abandoned.collect();
        let depth = |name: &TargetName| outboxes.get(name).map(Queue::depth).unwrap_or_default();
        let configured = statuses.into_iter().map(|status| TargetLine { waiting: depth(&status.name), status });
        Targets { configured: configured.collect(), abandoned }
    }

    /// One configured target.
    pub fn target(&self, name: &str) -> Result<TargetLine, AdminError> {
        let found = self.target_lines().configured.into_iter().find(|line| line.status.name.as_str() == name);
        found.ok_or_else(|| AdminError::NotFound { what: "target", key: name.chars().take(40).collect() })
    }

    /// Has a target spoken to again at once, whatever its breaker says.
    pub async fn reset_target(
        &self,
        name: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<TargetLine, AdminError> {
        let line = self.target(name)?;
        let old = json!({"breaker": line.status.breaker.name()});
        self.note_act("targets", name, Some(old), Some(json!({"breaker": "closed"})), actor, reason).await?;
        self.command(&line.status.name, TargetCommand::Reset)?;
        Ok(line)
    }

    /// Sends a test alert past the queue and tells what was answered.
    pub async fn test_target(&self, name: &str, actor: &Actor, reason: Option<&str>) -> Result<TestReport, AdminError> {
        let line = self.target(name)?;
        let alert = self.test_alert(actor)?;
        let sent = json!({"test_alert": alert.event.id.to_string()});
        self.note_act("targets", name, None, Some(sent), actor, reason).await?;
        let (sender, report) = oneshot::channel();
        self.command(&line.status.name, TargetCommand::Test(Box::new(alert), sender))?;
        let report = tokio::time::timeout(TEST_PATIENCE, report).await;
        report
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| AdminError::Unavailable("the target's forwarder is stopping".into()))
    }

    /// Moves what waits for a target that is not configured to one that is. Durable there before it is forgotten here.
    /// Returns how many alerts were moved.
    pub async fn move_outbox(
        &self,
        from: &str,
        to: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<u64, AdminError> {
        let source = self.abandoned(from)?;
        let target = self.target(to).map_err(|_| AdminError::invalid("to", "it is not the name of a target"))?;
        let Some(target) = self.parts.queues.outboxes.get(&target.status.name) else {
            return Err(AdminError::Unavailable("that target has no outbox yet; start the appliance again".into()));
        };
        let waiting = source.depth().items;
        let old = json!({"target": from, "alerts": waiting});
        self.note_act("outboxes", from, Some(old), Some(json!({"target": to})), actor, reason).await?;
        self.drain(&source, Fate::Moved(&target)).await
    }

    /// Forgets what waits for a target that is not configured. Returns how many alerts that were.
    pub async fn discard_outbox(&self, from: &str, actor: &Actor, reason: Option<&str>) -> Result<u64, AdminError> {
        stated(reason, "say why these alerts are not needed")?;
        let source = self.abandoned(from)?;
        let old = json!({"target": from, "alerts": source.depth().items});
        self.note_act("outboxes", from, Some(old), None, actor, reason).await?;
        self.drain(&source, Fate::Discarded).await
    }

    /// An outbox that no forwarder works on.
    fn abandoned(&self, name: &str) -> Result<Queue<Alert>, AdminError> {
        let unknown = || AdminError::NotFound { what: "outbox without a target", key: name.chars().take(40).collect() };
        let found = self.target_lines().abandoned.into_iter().find(|line| line.name.as_str() == name);
        found.and_then(|line| self.parts.queues.outboxes.get(&line.name)).ok_or_else(unknown)
    }

    /// Takes everything out of a queue, batch by batch: kept elsewhere first, then the ack. What cannot be read is kept as a
    /// dead letter.
    async fn drain(&self, source: &Queue<Alert>, fate: Fate<'_>) -> Result<u64, AdminError> {
        let mut moved = 0;
        loop {
            // Picked, not leased: what waits for its next try is not due.
            let waiting: Vec<_> = source.peek(0, BATCH).await?.iter().map(|record| record.seq).collect();
            let records = source.claim(&waiting).await?;
            if records.is_empty() {
                return Ok(moved);
            }
            let seqs: Vec<_> = records.iter().map(|record| record.seq).collect();
            let mut alerts = Vec::new();
            let mut letters = Vec::new();
            for record in records {
                match record.items {
                    Ok(items) => alerts.extend(items),
                    Err(error) => letters.push(DeadLetter::of_bytes(
                        source.name(),
                        error.payload.clone(),
                        error.to_string(),
                        record.attempt,
                        self.parts.clock.now(),
                    )),
                }
            }
            let mut kept = self.parts.queues.dead_alerts.append(&letters).await;
            if let (Ok(()), Fate::Moved(target)) = (&kept, &fate) {
                kept = target.append(&alerts).await;
            }
            if let Err(error) = kept {
                source.release(&seqs, Duration::ZERO).await?;
                return Err(error.into());
            }
            source.ack(&seqs).await?;
            moved += alerts.len() as u64;
        }
    }

    fn command(&self, name: &TargetName, command: TargetCommand) -> Result<(), AdminError> {
        self.parts.targets.command(name, command).map_err(|error| match error {
            NoForwarder::Unknown => AdminError::NotFound { what: "target", key: name.to_string() },
            NoForwarder::Busy => AdminError::Unavailable(error.to_string()),
        })
    }

    async fn note_act(
        &self,
        kind: &'static str,
        record_id: &str,
        old: Option<serde_json::Value>,
        new: Option<serde_json::Value>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        let action = Action { kind, record_id: record_id.to_owned(), old, new };
        Ok(self.parts.stores.changes.note_action(action, &actor.change(reason)?).await?)
    }

    /// What a test sends: plainly a test, from the appliance itself.
    fn test_alert(&self, actor: &Actor) -> Result<Alert, AdminError> {
        let now = self.parts.clock.now();
        let source = Source { protocol: Protocol::Http, peer: std::net::Ipv4Addr::LOCALHOST.into() };
        let seed = getrandom::u64().map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let mut event = Event::new(EventIds::new(seed).next(now), now, source);
        event.hostname = "muttd".into();
        let message = format!("Test of this delivery target by {}; nothing is wrong.", actor.name);
        event.message = message.as_str().into();
        event.severity = Severity::new(6);
        event.correlation_id = Some(actor.correlation_id.as_str().into());
        let team = Team::new("NETO").map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let (environment, handling) = (Environment::Prod, Handling::TicketOnly);
        Ok(Alert { event, cause: Cause::Rule(RuleId(0)), environment, handling, team })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::{TestAdmin, matched};

    fn alert(number: u8) -> Alert {
        Alert {
            event: matched(number, "sw1", "fan failed", 7).event,
            cause: Cause::Rule(RuleId(7)),
            environment: Environment::Prod,
            handling: Handling::PageOnly,
            team: Team::new("NETO").expect("a team"),
        }
    }

    fn actor() -> Actor {
        Actor::new("alice", "c-1")
    }

    async fn house() -> TestAdmin {
        let house = TestAdmin::new().await;
        let alerts: Vec<Alert> = (0..3).map(alert).collect();
        let moogsoft = TargetName::new("moogsoft").expect("a name");
        house.queues.outboxes.get(&moogsoft).expect("an outbox").append(&alerts).await.expect("room");
        house
    }

    #[tokio::test]
    async fn what_waits_for_no_target_is_listed_and_discarded_only_with_a_reason() {
        let house = house().await;
        let abandoned = house.admin.target_lines().abandoned;
        assert_eq!((abandoned.len(), abandoned[0].waiting.items), (1, 3));
        let refused = house.admin.discard_outbox("moogsoft", &actor(), Some(" ")).await;
        assert!(matches!(refused, Err(AdminError::Invalid { .. })), "{refused:?}");
        assert_eq!(house.admin.discard_outbox("moogsoft", &actor(), Some("moved away")).await.expect("done"), 3);
        assert!(house.admin.target_lines().abandoned.is_empty());
        let lines = house.stores.changes.changes(&crate::store::ChangeQuery { limit: 10, ..Default::default() }).await;
        let line = lines.expect("readable").remove(0);
        assert_eq!((line.table_name.as_str(), line.reason.as_deref()), ("outboxes", Some("moved away")));
        assert_eq!(line.old_values.expect("before")["alerts"], 3);
    }

    #[tokio::test]
    async fn alerts_move_to_a_target_that_is_configured_and_to_no_other() {
        let house = house().await;
        let refused = house.admin.move_outbox("moogsoft", "chat", &actor(), None).await;
        assert!(matches!(refused, Err(AdminError::Invalid { .. })), "{refused:?}");
        let unknown = house.admin.move_outbox("nowhere", "chat", &actor(), None).await;
        assert!(matches!(unknown, Err(AdminError::NotFound { .. })), "{unknown:?}");
        assert_eq!(house.admin.target_lines().abandoned[0].waiting.items, 3);
    }

    #[tokio::test]
    async fn a_target_that_is_not_configured_is_neither_tested_nor_reset() {
        let house = house().await;
        assert!(matches!(house.admin.test_target("moogsoft", &actor(), None).await, Err(AdminError::NotFound { .. })));
        assert!(matches!(house.admin.reset_target("moogsoft", &actor(), None).await, Err(AdminError::NotFound { .. })));
    }
}
