//! One target's task: leases alerts, delivers several at once, and settles each as its answer says.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::limit::Limiter;
use super::{DeliveryError, FailureReason, ForwarderParts, Wiring, retry};
use crate::live::Live;
use crate::model::{Alert, DeadLetter, DeathClass, DeliveryNote, DeliveryOutcome};
use crate::queue::{Leased, QueueError, Seq};
use crate::telemetry::metrics::{FORWARD_DEAD, FORWARD_LATENCY, FORWARD_REQUESTS};

/// How long a lease waits for an alert; a stop is noticed no later than this.
const LEASE_WAIT: Duration = Duration::from_millis(500);
/// Pause after the outbox or the dead letter queue failed.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);
/// What deliveries under way are given when the process stops; the process itself has ten seconds.
const DRAIN: Duration = Duration::from_secs(5);

/// The forwarder's life.
pub(super) async fn run(parts: ForwarderParts, stop: CancellationToken) {
    // One subscription for the task's life: a clone made anew would tell an old change again and again.
    let mut changes = parts.wiring.clone();
    let desk = Arc::new(Desk { parts, stop, failing: AtomicBool::new(false), notes_fail: AtomicBool::new(false) });
    let mut deliveries = JoinSet::new();
    let mut limiter = Limiter::new();
    while !desk.stop.is_cancelled() {
        desk.step(&mut deliveries, &mut limiter, &mut changes).await;
    }
    let drained = tokio::time::timeout(DRAIN, async { while deliveries.join_next().await.is_some() {} });
    if drained.await.is_err() {
        info!(target = %desk.parts.name, "deliveries under way were cut off; they come again");
    }
}

/// What every delivery of the target shares.
struct Desk {
    parts: ForwarderParts,
    stop: CancellationToken,
    /// Whether the last delivery failed: people are told when that changes.
    failing: AtomicBool,
    notes_fail: AtomicBool,
}

impl Desk {
    /// Waits for whatever is missing - configuration, a free place, a permit, an alert - and starts deliveries.
    async fn step(self: &Arc<Self>, deliveries: &mut JoinSet<()>, limiter: &mut Limiter, changes: &mut Live<Wiring>) {
        while deliveries.try_join_next().is_some() {}
        let parts = &self.parts;
        let wiring = changes.get();
        let settings = &wiring.settings;
        parts.board.set_address(wiring.target.address());
        if let Err(why) = wiring.target.ready() {
            parts.board.waiting(parts.clock.now(), &why);
            return self.unless_stopped(changes.changed()).await;
        }
        let free = settings.concurrency.max(1).saturating_sub(deliveries.len());
        if free == 0 {
            return self.unless_stopped(deliveries.join_next().map(drop)).await;
        }
        let permits = match limiter.take(free, settings) {
            Ok(permits) => permits,
            // Capped, so that a limit raised meanwhile is seen.
            Err(wait) => return self.unless_stopped(tokio::time::sleep(wait.min(LEASE_WAIT))).await,
        };
        match parts.outbox.lease(permits, LEASE_WAIT).await {
            Ok(records) => {
                limiter.give_back(permits.saturating_sub(records.len()));
                for record in records {
                    deliveries.spawn(Arc::clone(self).handle(record));
                }
            }
            Err(error) => {
                if !self.stop.is_cancelled() {
                    error!(target = %parts.name, %error, "the outbox cannot be read");
                }
                self.unless_stopped(tokio::time::sleep(STORAGE_PAUSE)).await;
            }
        }
    }

    async fn unless_stopped(&self, wait: impl Future<Output = ()>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = wait => {}
        }
    }

    async fn handle(self: Arc<Self>, record: Leased<Alert>) {
        let Leased { seq, attempt, items } = record;
        match items {
            Ok(alerts) => match alerts.as_slice() {
                [alert] => self.deliver(seq, attempt, alert).await,
                // An outbox keeps one alert a record; whatever wrote more is corrected here.
                alerts => {
                    self.stored("outbox", || self.parts.outbox.append(alerts)).await;
                    self.ack(seq).await;
                }
            },
            Err(undecodable) => {
                let reason = undecodable.to_string();
                let (origin, now) = (self.parts.name.as_str(), self.parts.clock.now());
                let letter = DeadLetter::of_bytes(origin, undecodable.payload, reason, attempt, now);
                self.bury(seq, letter).await;
            }
        }
    }

    async fn deliver(&self, seq: Seq, attempt: u32, alert: &Alert) {
        let wiring = self.parts.wiring.get();
        let settings = &wiring.settings;
        let key = wiring.secret.as_ref().and_then(|pair| pair.keys().next());
        let started = Instant::now();
        let outcome = AssertUnwindSafe(wiring.target.deliver(std::slice::from_ref(alert), key)).catch_unwind().await;
        metrics::histogram!(FORWARD_LATENCY).record(started.elapsed().as_secs_f64());
        let outcome = outcome.unwrap_or_else(|_| {
            let answer = "the target failed while it made the request".to_owned();
            Err(DeliveryError::Retry { reason: FailureReason::Internal, answer, after: None })
        });
        match outcome {
            Ok(receipt) => self.delivered(seq, attempt, alert, receipt.answer).await,
            Err(DeliveryError::Retry { reason, answer, after }) if attempt < settings.max_tries => {
                let pause = retry::pause(attempt, after, settings, retry::dice());
                self.retrying(seq, attempt, alert, reason, answer, pause).await;
            }
            Err(error) => self.given_up(seq, attempt, alert, &error).await,
        }
    }

    async fn delivered(&self, seq: Seq, attempt: u32, alert: &Alert, answer: String) {
        self.ack(seq).await;
        metrics::counter!(FORWARD_REQUESTS, "status" => "success", "reason" => "none").increment(1);
        self.parts.board.delivered(self.parts.clock.now());
        if self.failing.swap(false, Ordering::Relaxed) {
            info!(target = %self.parts.name, "deliveries succeed again");
        }
        self.note(attempt, alert, DeliveryOutcome::Delivered, answer).await;
    }

    async fn retrying(
        &self,
        seq: Seq,
        attempt: u32,
        alert: &Alert,
        reason: FailureReason,
        answer: String,
        pause: Duration,
    ) {
        self.stored("outbox", || self.parts.outbox.release(std::slice::from_ref(&seq), pause)).await;
        metrics::counter!(FORWARD_REQUESTS, "status" => "retry", "reason" => reason.name()).increment(1);
        self.parts.board.retrying(self.parts.clock.now(), &answer);
        self.tell_failure(&answer);
        self.note(attempt, alert, DeliveryOutcome::Retrying, answer).await;
    }

    async fn given_up(&self, seq: Seq, attempt: u32, alert: &Alert, error: &DeliveryError) {
        let answer = error.to_string();
        let reason = match error {
            DeliveryError::Refused { .. } | DeliveryError::Credentials { .. } => answer.clone(),
            DeliveryError::Retry { .. } => format!("given up after {attempt} tries; the last answer: {answer}"),
        };
        let (origin, now) = (self.parts.name.as_str(), self.parts.clock.now());
        let letter = DeadLetter::of_alert(alert, origin, class_of(error.reason()), reason, now);
        self.bury(seq, letter.after(attempt).answered(answer.clone())).await;
        metrics::counter!(FORWARD_REQUESTS, "status" => "failed", "reason" => error.reason().name()).increment(1);
        self.tell_failure(&answer);
        self.note(attempt, alert, DeliveryOutcome::DeadLettered, answer).await;
    }

    /// The dead letter first, then the ack: a crash in between makes two, never none.
    async fn bury(&self, seq: Seq, letter: DeadLetter) {
        let letters = [letter];
        if !self.stored("dead letters", || self.parts.dead.append(&letters)).await {
            return;
        }
        self.ack(seq).await;
        let name = self.parts.name.to_string();
        metrics::counter!(FORWARD_DEAD, "target" => name).increment(1);
        self.parts.board.dead(self.parts.clock.now(), &letters[0].reason);
    }

    async fn ack(&self, seq: Seq) {
        self.stored("outbox", || self.parts.outbox.ack(std::slice::from_ref(&seq))).await;
    }

    /// Calls until it succeeds; false if the process stops before that, or the item can never be stored.
    async fn stored<F>(&self, what: &str, mut call: impl FnMut() -> F) -> bool
    where
        F: Future<Output = Result<(), QueueError>>,
    {
        let mut failing = false;
        loop {
            let Err(error) = call().await else { return true };
            if !failing {
                error!(target = %self.parts.name, storage = what, %error, "a delivery cannot be settled; trying again");
                failing = true;
            }
            if self.stop.is_cancelled() || matches!(error, QueueError::TooLarge { .. }) {
                return false;
            }
            self.unless_stopped(tokio::time::sleep(STORAGE_PAUSE)).await;
        }
    }

    fn tell_failure(&self, answer: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn!(target = %self.parts.name, answer, "a delivery failed; alerts wait or become dead letters");
        }
    }

    /// A lost note is a lost remark, so failing to write one holds nothing up.
    async fn note(&self, attempt: u32, alert: &Alert, outcome: DeliveryOutcome, answer: String) {
        let note = DeliveryNote {
            event_id: alert.event.id,
            target: self.parts.name.clone(),
            at: self.parts.clock.now(),
            attempt,
            outcome,
            answer,
        };
        match self.parts.audit.note_deliveries(vec![note]).await {
            Ok(()) => self.notes_fail.store(false, Ordering::Relaxed),
            Err(error) if !self.notes_fail.swap(true, Ordering::Relaxed) => {
                warn!(%error, "what receivers answer cannot be noted");
            }
            Err(_) => {}
        }
    }
}

/// What a failure is called among the dead letters.
const fn class_of(reason: FailureReason) -> DeathClass {
    match reason {
        FailureReason::RateLimited => DeathClass::RateLimited,
        FailureReason::ServerError => DeathClass::ServerError,
        FailureReason::Timeout => DeathClass::Timeout,
        FailureReason::Connection | FailureReason::Forbidden => DeathClass::Connection,
        FailureReason::Credentials => DeathClass::Credentials,
        FailureReason::Rejected => DeathClass::Refused,
        FailureReason::Internal => DeathClass::Internal,
    }
}
