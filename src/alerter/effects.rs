//! Makes what was judged durable, in an order that a crash cannot spoil, and only then acks.
//!
//! Every step is repeated until storage takes it. A step that was done is not done again within one batch; a batch that
//! a crash cut short is done again from the start, and every write but the append to an outbox knows that it was there.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::judgement::{Judgement, ORIGIN, Tally, panic_text};
use super::spans::{self, Times};
use super::{AlerterParts, AuditScope, Ruling, Settings, ShedMode, meta, route};
use crate::model::{Alert, DeadLetter, DeathClass, Judged, TargetName, Timestamp};
use crate::queue::{Queue, QueueError, Record};
use crate::store::{Overrun, StoreError, UnhandledEvents, UnhandledPolicy};
use crate::telemetry::metrics::{ALERTER_BATCH_SECONDS, ALERTER_PROCESSED, ALERTER_SHED, UNHANDLED_META_ALERTS};

/// Pause after a failed write; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Long enough not to hammer a full disk, short enough that operators see recovery at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A batch that ended in a panic is due again after so long.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// Payload bytes of a dead letter that are certain to fit into a record of its queue.
const MAX_DEAD_PAYLOAD: usize = Record::MAX_BYTES - (64 << 10);

/// One batch on its way.
pub(super) struct Work {
    pub(super) judgement: Judgement,
    /// What it was judged by.
    pub(super) ruling: Arc<Ruling>,
    /// The targets for which so many alerts wait that new ones are to be shed, and how many.
    pub(super) shed: BTreeMap<TargetName, u64>,
    /// When its judging began.
    pub(super) started: Instant,
    /// The same by the wall clock, and when it ended.
    pub(super) judging: (Timestamp, Timestamp),
}

/// Why a write was given up.
#[derive(Debug)]
enum Halt {
    /// The process is stopping while storage fails; the batch stays in the event queue.
    Stopped,
    /// It can never be stored as it is.
    Refused(String),
}

/// What a failed write calls for.
enum Trouble {
    /// Waiting: the disk may recover.
    Wait(String),
    /// Giving this item up: trying again would fail for ever.
    Refuse(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Wait(error.to_string()),
            _ => Self::Refuse(error.to_string()),
        }
    }
}

impl From<QueueError> for Trouble {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::TooLarge { .. } => Self::Refuse(error.to_string()),
            _ => Self::Wait(error.to_string()),
        }
    }
}

/// Takes batches in order until the sender is gone.
pub(super) async fn run(parts: AlerterParts, mut batches: mpsc::Receiver<Work>, stop: CancellationToken) {
    let effects = Effects { parts, stop };
    while let Some(work) = batches.recv().await {
        let seqs = work.judgement.seqs.clone();
        let outcome = AssertUnwindSafe(effects.apply(work)).catch_unwind().await;
        let Err(panic) = outcome else { continue };
        error!(error = panic_text(panic.as_ref()), "a batch of events could not be recorded; it will be tried again");
        // If this fails too, the records stay leased until the next start.
        if let Err(error) = effects.parts.events.release(&seqs, PANIC_PAUSE).await {
            error!(%error, "its records could not be released");
        }
    }
}

/// The doing.
struct Effects {
    parts: AlerterParts,
    stop: CancellationToken,
}

impl Effects {
    async fn apply(&self, work: Work) {
        match self.apply_in_order(work).await {
            Ok(()) => {}
            Err(Halt::Stopped) => {
                info!("stopped while storage was failing; the batch in hand stays in the event queue")
            }
            Err(Halt::Refused(why)) => {
                error!(error = why, "a batch could not be recorded; it stays in the event queue")
            }
        }
    }

    async fn apply_in_order(&self, work: Work) -> Result<(), Halt> {
        let Work { judgement, ruling, shed, started, judging } = work;
        let Judgement { seqs, judged, unhandled, mut dead, tally } = judgement;
        let settings = self.parts.settings.get();
        let mut alerts: Vec<Alert> = judged.iter().flat_map(|judged| judged.iter()).filter_map(route::alert).collect();

        let clock = &self.parts.clock;
        let writing = clock.now();
        let (refused, overruns) =
            tokio::try_join!(self.record(&judged, settings.audit), self.count(&settings, unhandled))?;
        let writing = (writing, clock.now());
        dead.extend(refused);
        let metas: Vec<Alert> = overruns.iter().map(|overrun| meta::meta_alert(overrun, &ruling, &settings)).collect();
        let meta_rows = Arc::new(metas.iter().map(meta::judged).collect::<Vec<_>>());
        dead.extend(self.record(std::slice::from_ref(&meta_rows), AuditScope::Matched).await?);
        alerts.extend(metas.iter().cloned());

        judged.iter().chain([&meta_rows]).for_each(|judged| (self.parts.recent)(judged));
        self.route(&settings, &alerts, &shed).await?;
        self.bury(&self.parts.dead_events, dead).await?;
        self.stored("event queue", || self.parts.events.ack(&seqs)).await?;

        spans::tell(&self.parts.tracer, &judged, Times { judging, writing });
        count_outcomes(tally, metas.len());
        if shed.is_empty() {
            self.parts.rates.count_forwarded(alerts.len() as u64);
        }
        metrics::histogram!(ALERTER_BATCH_SECONDS).record(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Audits what the scope asks for. Rows that the audit can never take come back as dead letters; their alerts go
    /// out all the same.
    async fn record(&self, judged: &[Arc<Vec<Judged>>], scope: AuditScope) -> Result<Vec<DeadLetter>, Halt> {
        let all = judged.iter().flat_map(|judged| judged.iter());
        let rows: Vec<&Judged> = all.filter(|judged| audited(judged, scope)).collect();
        let record = |rows: Vec<Judged>| self.parts.audit.record(rows);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let all = || record(rows.iter().copied().cloned().collect());
        match self.stored("audit", all).await {
            Ok(()) => return Ok(Vec::new()),
            Err(Halt::Stopped) => return Err(Halt::Stopped),
            Err(Halt::Refused(_)) => {}
        }
        let mut dead = Vec::new();
        for row in rows {
            match self.stored("audit", || record(vec![row.clone()])).await {
                Ok(()) => {}
                Err(Halt::Stopped) => return Err(Halt::Stopped),
                Err(Halt::Refused(why)) => {
                    error!(event.id = %row.event.id, error = why, "the audit refuses an event; it becomes a dead letter");
                    let reason = format!("the audit refuses it: {why}");
                    let now = self.parts.clock.now();
                    dead.push(DeadLetter::of_event(&row.event, ORIGIN, DeathClass::Audit, reason, now).after(1));
                }
            }
        }
        Ok(dead)
    }

    async fn count(&self, settings: &Settings, events: UnhandledEvents) -> Result<Vec<Overrun>, Halt> {
        if events.batches.is_empty() {
            return Ok(Vec::new());
        }
        let events = Arc::new(events);
        let policy = UnhandledPolicy {
            threshold: settings.unhandled_threshold,
            window: settings.unhandled_expiry,
            max_counters: settings.unhandled_max_counters,
        };
        let counted = self.stored("unhandled", || self.parts.unhandled.count(Arc::clone(&events), policy)).await;
        match counted {
            Err(Halt::Refused(why)) => {
                error!(error = why, "unhandled events could not be counted; no meta-alert can come of them");
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// Alerts into their outboxes, or into `dlq.forwarder` while they are shed.
    async fn route(&self, settings: &Settings, alerts: &[Alert], shed: &BTreeMap<TargetName, u64>) -> Result<(), Halt> {
        if alerts.is_empty() {
            return Ok(());
        }
        let outboxes = self.parts.outboxes.all();
        let dealt = route::deal(&outboxes, settings, alerts);
        if dealt.is_empty() {
            let reason = "there is no target to send it to";
            return self.bury_alerts(ORIGIN, alerts, DeathClass::NoTarget, reason).await;
        }
        for (target, outbox, share) in dealt {
            let Some(waiting) = shed.get(target) else {
                self.append_alerts(target, outbox, &share).await?;
                continue;
            };
            let reason = format!("shed: {waiting} alerts were waiting already (alerter_queue_shed_threshold)");
            metrics::counter!(ALERTER_SHED, "mode" => ShedMode::Dlq.name()).increment(share.len() as u64);
            self.bury_alerts(target.as_str(), &share, DeathClass::Shed, &reason).await?;
        }
        Ok(())
    }

    async fn append_alerts(&self, target: &TargetName, outbox: &Queue<Alert>, alerts: &[Alert]) -> Result<(), Halt> {
        match self.stored("outbox", || outbox.append(alerts)).await {
            Err(Halt::Refused(_)) => {}
            other => return other,
        }
        for alert in alerts {
            let alert = std::slice::from_ref(alert);
            match self.stored("outbox", || outbox.append(alert)).await {
                Err(Halt::Refused(why)) => {
                    self.bury_alerts(target.as_str(), alert, DeathClass::TooLarge, &why).await?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn bury_alerts(&self, origin: &str, alerts: &[Alert], class: DeathClass, reason: &str) -> Result<(), Halt> {
        let died_at = self.parts.clock.now();
        let letter = |alert| DeadLetter::of_alert(alert, origin, class, reason.to_owned(), died_at);
        let letters = alerts.iter().map(letter);
        self.bury(&self.parts.dead_alerts, letters.collect()).await
    }

    /// Dead letters into their queue; a payload that no record can hold is cut.
    async fn bury(&self, queue: &Queue<DeadLetter>, mut letters: Vec<DeadLetter>) -> Result<(), Halt> {
        if letters.is_empty() {
            return Ok(());
        }
        for letter in &mut letters {
            if letter.payload.len() > MAX_DEAD_PAYLOAD {
                letter.reason.push_str("; its bytes were too many and are cut");
                letter.payload.truncate(MAX_DEAD_PAYLOAD);
            }
        }
        self.stored("dead letters", || queue.append(&letters)).await
    }

    /// Calls until it succeeds. Failures are logged when they begin and when they end.
    async fn stored<T, E, F>(&self, what: &str, mut call: impl FnMut() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, E>>,
        Trouble: From<E>,
    {
        let mut pause = FIRST_PAUSE;
        let mut failing = false;
        loop {
            let why = match call().await.map_err(Trouble::from) {
                Ok(value) => {
                    if failing {
                        info!(storage = what, "storage works again; events are recorded");
                    }
                    return Ok(value);
                }
                Err(Trouble::Refuse(why)) => return Err(Halt::Refused(why)),
                Err(Trouble::Wait(why)) => why,
            };
            if !failing {
                error!(storage = what, error = why, "events cannot be recorded; they wait in the event queue");
                failing = true;
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(Halt::Stopped),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }
}

/// Whether the event becomes an audit row.
fn audited(judged: &Judged, scope: AuditScope) -> bool {
    judged.decision.matched.is_some()
        || match scope {
            AuditScope::Matched => false,
            AuditScope::All => true,
            AuditScope::Sample(one_in) => judged.event.id.ordinal() % i64::from(one_in.max(1)) == 0,
        }
}

fn count_outcomes(tally: Tally, metas: usize) {
    let outcomes = [
        ("forwarded", tally.forwarded),
        ("ignored", tally.ignored),
        ("unhandled", tally.unhandled),
        ("error", tally.error),
    ];
    for (status, events) in outcomes {
        metrics::counter!(ALERTER_PROCESSED, "status" => status).increment(events);
    }
    metrics::counter!(UNHANDLED_META_ALERTS).increment(metas as u64);
}
