//! What every delivery of one target shares: whether the target may be spoken to, whose fault failures were, and the
//! writing down of how each ended. Locks here are held for a few instructions, never across an await.
//!
//! Everything in it but the board is in memory only: after a restart the breaker is closed and alerts have their tries
//! anew, which costs some requests and loses nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::breaker::{Admission, Breaker, Effect};
use super::strikes::Strikes;
use super::{ForwarderParts, Settings};
use crate::model::{Alert, DeadLetter, DeliveryNote, DeliveryOutcome};
use crate::queue::{QueueError, Seq};
use crate::telemetry::BreakerState;
use crate::telemetry::metrics::{FORWARD_DEAD, FORWARD_DELIVERIES, FORWARD_REQUESTS};

/// Pause after the outbox or the dead letter queue failed.
pub(super) const STORAGE_PAUSE: Duration = Duration::from_secs(1);
/// No alert waits longer than this for a target that asked for patience: it may have forgotten.
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);

/// Shared by the worker and its deliveries.
pub(super) struct Desk {
    pub(super) parts: ForwarderParts,
    pub(super) stop: CancellationToken,
    state: Mutex<State>,
    /// How many of the next deliveries carry one alert each, because several at once were refused.
    pub(super) singly: AtomicUsize,
    /// Which of the target's keys was taken last: 0 is CURRENT.
    pub(super) key_in_use: AtomicUsize,
    /// Whether the last delivery failed: people are told when that changes.
    failing: AtomicBool,
    notes_fail: AtomicBool,
}

struct State {
    breaker: Breaker,
    strikes: Strikes,
    /// The target asked for patience until then.
    hold: Option<Instant>,
    /// How often in a row it did.
    holds: u32,
}

/// What a failed try calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The target's fault, or the alert's: so many tries of the alert failed while the target took others.
    Alert(u32),
    /// The target's: no try was used up.
    Target,
    /// The target's, as far as one can tell: the one alert that was tried failed.
    Trial,
}

impl Desk {
    pub(super) fn new(parts: ForwarderParts, stop: CancellationToken) -> Self {
        let state = State { breaker: Breaker::new(), strikes: Strikes::default(), hold: None, holds: 0 };
        Self {
            parts,
            stop,
            state: Mutex::new(state),
            singly: AtomicUsize::new(0),
            key_in_use: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            notes_fail: AtomicBool::new(false),
        }
    }

    /// What may be sent now.
    pub(super) fn admission(&self) -> Admission {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(until) = state.hold {
            if now < until {
                return Admission::NotBefore(until);
            }
            state.hold = None;
            self.parts.board.held(None);
        }
        let admission = state.breaker.admission(now);
        drop(state);
        if admission == Admission::One {
            self.parts.board.breaker(BreakerState::HalfOpen, None);
        }
        admission
    }

    /// Whether nothing may be sent at all; changes nothing.
    pub(super) fn is_shut(&self) -> bool {
        let now = Instant::now();
        let state = self.state.lock();
        state.hold.is_some_and(|until| now < until) || state.breaker.is_open(now)
    }

    /// Whether the target has failed for so long that its fallback takes over. While it is half open, the one alert is
    /// still tried here.
    pub(super) fn is_given_over(&self, settings: &Settings) -> bool {
        let now = Instant::now();
        let state = self.state.lock();
        settings.fallback.is_some()
            && state.breaker.is_tripped()
            && state.breaker.failing_for(now) >= settings.fallback_after
    }

    /// The target answered as one that is well.
    pub(super) fn well(&self) {
        let mut state = self.state.lock();
        state.strikes.end_row();
        state.holds = 0;
        let recovered = state.breaker.succeeded();
        drop(state);
        if recovered {
            self.parts.board.breaker(BreakerState::Closed, None);
            info!(target = %self.parts.name, "the target answers again; its alerts are sent");
        }
    }

    /// The alerts were settled, one way or the other.
    pub(super) fn forget(&self, seqs: &[Seq]) {
        let mut state = self.state.lock();
        seqs.iter().for_each(|seq| state.strikes.forget(*seq));
    }

    /// A delivery of these alerts failed through somebody's fault; the answer says whose. `certain`: the target's.
    pub(super) fn failed(&self, seqs: &[Seq], certain: bool, why: &str, settings: &Settings) -> Blame {
        let now = Instant::now();
        let mut state = self.state.lock();
        let effect = state.breaker.failed(now, certain, settings.breaker_threshold, settings.breaker_timeout);
        let blame = match effect {
            Effect::Counted => Blame::Alert(seqs.iter().map(|seq| state.strikes.count(*seq)).max().unwrap_or(1)),
            Effect::Opened => {
                state.strikes.forgive_row();
                Blame::Target
            }
            Effect::Reopened => Blame::Trial,
            Effect::Late => Blame::Target,
        };
        drop(state);
        let at = self.parts.clock.now();
        match effect {
            Effect::Opened => {
                self.parts.board.tripped(at, why, at.plus(settings.breaker_timeout));
                warn!(
                    target = %self.parts.name,
                    answer = why,
                    pause_seconds = settings.breaker_timeout.as_secs(),
                    "the target is left alone for a while; its alerts wait"
                );
            }
            Effect::Reopened => {
                self.parts.board.breaker(BreakerState::Open, Some(at.plus(settings.breaker_timeout)));
            }
            Effect::Counted | Effect::Late => {}
        }
        blame
    }

    /// A try of these alerts failed through their own fault.
    pub(super) fn strike(&self, seqs: &[Seq]) -> u32 {
        let mut state = self.state.lock();
        state.strikes.end_row();
        let strikes = seqs.iter().map(|seq| state.strikes.count(*seq)).max().unwrap_or(1);
        // Another row, so that an outage which follows does not take these back.
        state.strikes.end_row();
        strikes
    }

    /// The target asks for patience: nothing is sent until then.
    pub(super) fn hold(&self, after: Option<Duration>, pause: impl FnOnce(u32) -> Duration) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.holds = state.holds.saturating_add(1);
        let hold = after.unwrap_or_else(|| pause(state.holds)).min(LONGEST_HOLD);
        // A shorter wish of a delivery that began earlier does not shorten a longer one.
        let until = state.hold.map_or(now + hold, |until| until.max(now + hold));
        state.hold = Some(until);
        // It answers, so it is not down.
        let recovered = state.breaker.succeeded();
        drop(state);
        if recovered {
            self.parts.board.breaker(BreakerState::Closed, None);
        }
        let left = until.saturating_duration_since(now);
        self.parts.board.held(Some(self.parts.clock.now().plus(left)));
    }

    /// The configuration changed: what was wrong may be right now.
    pub(super) fn reconsider(&self) {
        let mut state = self.state.lock();
        state.hold = None;
        let tripped = state.breaker.is_tripped();
        state.breaker.reconsider();
        drop(state);
        self.parts.board.held(None);
        if tripped {
            self.parts.board.breaker(BreakerState::HalfOpen, None);
        }
    }

    /// Someone asked for it: the target is spoken to again at once.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        state.hold = None;
        state.breaker.reset();
        drop(state);
        self.parts.board.held(None);
        self.parts.board.breaker(BreakerState::Closed, None);
        info!(target = %self.parts.name, "the target's breaker was reset by hand");
    }

    /// Counts tries by their end.
    pub(super) fn count(&self, status: &'static str, reason: &'static str, alerts: usize) {
        metrics::counter!(FORWARD_REQUESTS, "status" => status, "reason" => reason).increment(alerts as u64);
        let target = self.parts.name.to_string();
        metrics::counter!(FORWARD_DELIVERIES, "target" => target, "status" => status, "reason" => reason)
            .increment(alerts as u64);
    }

    /// The dead letter first, then the ack: a crash in between makes two, never none.
    pub(super) async fn bury(&self, seq: Seq, letter: DeadLetter) {
        let letters = [letter];
        if !self.stored("dead letters", || self.parts.dead.append(&letters)).await {
            return;
        }
        self.ack(&[seq]).await;
        metrics::counter!(FORWARD_DEAD, "target" => self.parts.name.to_string()).increment(1);
        self.parts.board.dead(self.parts.clock.now(), &letters[0].reason);
    }

    pub(super) async fn ack(&self, seqs: &[Seq]) {
        self.forget(seqs);
        self.stored("outbox", || self.parts.outbox.ack(seqs)).await;
    }

    pub(super) async fn release(&self, seqs: &[Seq], pause: Duration) {
        self.stored("outbox", || self.parts.outbox.release(seqs, pause)).await;
    }

    /// Calls until it succeeds; false if the process stops before that, or the item can never be stored.
    pub(super) async fn stored<F>(&self, what: &str, mut call: impl FnMut() -> F) -> bool
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

    pub(super) async fn unless_stopped(&self, wait: impl Future<Output = ()>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = wait => {}
        }
    }

    /// Says that deliveries succeed, if they did not before.
    pub(super) fn tell_success(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            info!(target = %self.parts.name, "deliveries succeed again");
        }
    }

    /// Says that deliveries fail, if they did not before.
    pub(super) fn tell_failure(&self, answer: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn!(target = %self.parts.name, answer, "a delivery failed; alerts wait or become dead letters");
        }
    }

    /// A lost note is a lost remark, so failing to write one holds nothing up.
    pub(super) async fn note(&self, alerts: &[(u32, &Alert)], outcome: DeliveryOutcome, answer: &str) {
        for (attempt, alert) in alerts {
            let event = &alert.event;
            debug!(
                event.id = %event.id,
                trace_id = %event.trace_id(),
                correlation_id = event.correlation(),
                target = %self.parts.name,
                attempt,
                answer,
                "Delivery of an alert: {}",
                outcome.name()
            );
        }
        let at = self.parts.clock.now();
        let notes = alerts.iter().map(|(attempt, alert)| DeliveryNote {
            event_id: alert.event.id,
            target: self.parts.name.clone(),
            at,
            attempt: *attempt,
            outcome,
            answer: answer.to_owned(),
        });
        match self.parts.audit.note_deliveries(notes.collect()).await {
            Ok(()) => self.notes_fail.store(false, Ordering::Relaxed),
            Err(error) if !self.notes_fail.swap(true, Ordering::Relaxed) => {
                warn!(%error, "what receivers answer cannot be noted");
            }
            Err(_) => {}
        }
    }
}
