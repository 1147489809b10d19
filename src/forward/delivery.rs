//! One delivery: what was leased is sent, and settled as the answer says.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::info;

use super::desk::{Blame, Desk};
use super::spans::Attempt;
use super::{DeliveryError, FailureReason, Receipt, Secret, SecretPair, Settings, Wiring, retry};
use crate::model::{Alert, DeadLetter, DeathClass, DeliveryOutcome};
use crate::queue::{Leased, Seq};
use crate::secret::Slot;
use crate::telemetry::metrics::{FORWARD_LATENCY, FORWARD_SECRET};

/// Room between two tries of the alert that a half-open breaker let through: the next one is another alert, if there is
/// one, so that an alert which spoils every trial does not keep the others waiting.
const BEHIND_OTHERS: Duration = Duration::from_secs(1);

/// But not for much longer than that when the breaker waits for hours: it may be reset by hand.
const LONGEST_BEHIND: Duration = Duration::from_secs(300);

/// Alerts that are sent together.
struct Load {
    seqs: Vec<Seq>,
    attempts: Vec<u32>,
    alerts: Vec<Alert>,
}

impl Load {
    fn noted(&self) -> Vec<(u32, &Alert)> {
        self.attempts.iter().copied().zip(&self.alerts).collect()
    }
}

/// How a call of the target ended.
enum Ended {
    Answered(Result<Receipt, DeliveryError>),
    /// It panicked.
    Broke,
}

impl Desk {
    /// Sends what was leased and settles all of it.
    pub(super) async fn handle(self: Arc<Self>, records: Vec<Leased<Alert>>) {
        let mut load = Load { seqs: Vec::new(), attempts: Vec::new(), alerts: Vec::new() };
        for Leased { seq, attempt, items } in records {
            match items {
                Ok(mut alerts) if alerts.len() == 1 => {
                    load.seqs.push(seq);
                    load.attempts.push(attempt);
                    load.alerts.append(&mut alerts);
                }
                // An outbox keeps one alert a record; whatever wrote more is corrected here.
                Ok(alerts) => {
                    if self.stored("outbox", || self.parts.outbox.append(&alerts)).await {
                        self.ack(&[seq]).await;
                    }
                }
                Err(undecodable) => {
                    let reason = undecodable.to_string();
                    let (origin, now) = (self.parts.name.as_str(), self.parts.clock.now());
                    let letter = DeadLetter::of_bytes(origin, undecodable.payload, reason, attempt, now);
                    self.bury(seq, letter).await;
                }
            }
        }
        if !load.alerts.is_empty() {
            self.deliver(load).await;
        }
    }

    async fn deliver(&self, mut load: Load) {
        let wiring = self.parts.wiring.get();
        let settings = &wiring.settings;
        let parts = &self.parts;
        let traced = Attempt::begin(&parts.tracer, &mut load.alerts, parts.clock.now());
        let load = &load;
        let started = Instant::now();
        let call = AssertUnwindSafe(self.send(&wiring, &load.alerts)).catch_unwind().await;
        metrics::histogram!(FORWARD_LATENCY).record(started.elapsed().as_secs_f64());
        traced.end(&parts.tracer, &parts.name, load.noted().into_iter(), call.as_ref().ok(), parts.clock.now());
        let ended = call.map_or(Ended::Broke, Ended::Answered);
        match ended {
            Ended::Answered(Ok(receipt)) => self.delivered(load, &receipt.answer).await,
            Ended::Answered(Err(DeliveryError::Retry { reason: FailureReason::RateLimited, answer, after })) => {
                self.hold(after, |holds| retry::pause(holds, None, settings, retry::dice()));
                // Due at once, but the target is not spoken to: whoever ends the hold frees these too.
                self.waits(load, FailureReason::RateLimited, &answer, Duration::ZERO).await;
            }
            Ended::Answered(Err(DeliveryError::Retry { reason, answer, after })) => {
                let certain = reason == FailureReason::Forbidden;
                let blame = self.failed(&load.seqs, certain, &answer, settings);
                self.retry_or_bury(load, reason, &answer, after, blame, settings).await;
            }
            Ended::Answered(Err(DeliveryError::Credentials { answer })) => {
                let blame = self.failed(&load.seqs, true, &format!("credentials: {answer}"), settings);
                self.retry_or_bury(load, FailureReason::Credentials, &answer, None, blame, settings).await;
            }
            Ended::Answered(Err(error @ DeliveryError::Refused { .. })) => self.refused(load, &error).await,
            Ended::Broke => {
                let blame = Blame::Alert(self.strike(&load.seqs));
                let answer = "the target failed while it made the request";
                self.retry_or_bury(load, FailureReason::Internal, answer, None, blame, settings).await;
            }
        }
    }

    /// Sends with the key that was taken last; if it is refused, with the other one at once.
    pub(super) async fn send(&self, wiring: &Wiring, alerts: &[Alert]) -> Result<Receipt, DeliveryError> {
        let Some(pair) = &wiring.secret else { return wiring.target.deliver(alerts, None).await };
        let keys: Vec<(Slot, &Secret)> = pair.slots().collect();
        let in_use = self.key_in_use.load(Ordering::Relaxed);
        let Some(first) = keys.get(in_use).or_else(|| keys.first()).copied() else {
            return wiring.target.deliver(alerts, None).await;
        };
        let outcome = wiring.target.deliver(alerts, Some(first.1)).await;
        let Err(DeliveryError::Credentials { .. }) = outcome else {
            self.key_worked(outcome.is_ok(), first.0, pair);
            return outcome;
        };
        let Some(other) = keys.iter().find(|key| key.1 != first.1).copied() else { return outcome };
        let outcome = wiring.target.deliver(alerts, Some(other.1)).await;
        self.key_worked(outcome.is_ok(), other.0, pair);
        outcome
    }

    /// Remembers which key a target takes, and says so when it is another one than before.
    fn key_worked(&self, worked: bool, slot: Slot, pair: &SecretPair) {
        let Some(index) = pair.slots().position(|(found, _)| found == slot).filter(|_| worked) else { return };
        pair.used(slot, self.parts.clock.now());
        let name = slot.name();
        metrics::counter!(FORWARD_SECRET, "target" => self.parts.name.to_string(), "secret" => name).increment(1);
        if self.key_in_use.swap(index, Ordering::Relaxed) != index {
            info!(target = %self.parts.name, secret = name, "the target takes another key than before");
        }
    }

    async fn delivered(&self, load: &Load, answer: &str) {
        self.ack(&load.seqs).await;
        self.well();
        self.count("success", "none", load.alerts.len());
        self.parts.board.delivered(self.parts.clock.now(), load.alerts.len() as u64);
        self.tell_success();
        self.note(&load.noted(), DeliveryOutcome::Delivered, answer).await;
    }

    async fn retry_or_bury(
        &self,
        load: &Load,
        reason: FailureReason,
        answer: &str,
        after: Option<Duration>,
        blame: Blame,
        settings: &Settings,
    ) {
        match blame {
            Blame::Alert(tries) if tries >= settings.max_tries => {
                let error = DeliveryError::retry(reason, answer);
                let why = format!("given up after {tries} tries; the last answer: {answer}");
                self.given_up(load, &error, &why).await;
            }
            Blame::Alert(tries) => {
                let pause = retry::pause(tries, after, settings, retry::dice());
                self.waits(load, reason, answer, pause).await;
            }
            Blame::Target | Blame::Trial => {
                // Nothing is sent meanwhile, so what waits may be due at once: for the fallback, and for whoever corrects
                // a key or an address. No alert is to blame for those.
                let corrected = matches!(reason, FailureReason::Credentials | FailureReason::Forbidden);
                let pause = match blame {
                    _ if corrected || settings.fallback.is_some() => Duration::ZERO,
                    Blame::Trial => settings.breaker_timeout.min(LONGEST_BEHIND) + BEHIND_OTHERS,
                    _ => retry::pause(1, after, settings, retry::dice()),
                };
                self.waits(load, reason, answer, pause).await;
            }
        }
    }

    /// Back into the outbox, due again after `pause`.
    async fn waits(&self, load: &Load, reason: FailureReason, answer: &str, pause: Duration) {
        self.release(&load.seqs, pause).await;
        self.count("retry", reason.name(), load.alerts.len());
        self.parts.board.retrying(self.parts.clock.now(), answer);
        self.tell_failure(answer);
        self.note(&load.noted(), DeliveryOutcome::Retrying, answer).await;
    }

    /// The receiver is well and will never take this. Of several alerts it is not known which one it meant: each goes
    /// alone then.
    async fn refused(&self, load: &Load, error: &DeliveryError) {
        self.well();
        if load.alerts.len() > 1 {
            self.singly.fetch_add(load.alerts.len(), Ordering::Relaxed);
            return self.waits(load, error.reason(), &error.to_string(), Duration::ZERO).await;
        }
        self.given_up(load, error, &error.to_string()).await;
    }

    async fn given_up(&self, load: &Load, error: &DeliveryError, why: &str) {
        let answer = error.to_string();
        let (origin, now) = (self.parts.name.as_str(), self.parts.clock.now());
        for ((seq, attempt), alert) in load.seqs.iter().zip(&load.attempts).zip(&load.alerts) {
            let letter = DeadLetter::of_alert(alert, origin, class_of(error.reason()), why.to_owned(), now);
            self.bury(*seq, letter.after(*attempt).answered(answer.clone())).await;
        }
        self.count("failed", error.reason().name(), load.alerts.len());
        self.tell_failure(&answer);
        self.note(&load.noted(), DeliveryOutcome::DeadLettered, &answer).await;
    }
}

/// The class under which dead letters of a failure are grouped.
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
