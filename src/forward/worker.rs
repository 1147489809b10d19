//! One target's task: waits until its target may be spoken to, leases alerts, and starts deliveries.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::breaker::Admission;
use super::desk::{Desk, STORAGE_PAUSE};
use super::limit::Limiter;
use super::{ForwarderParts, Wiring, commands, fallback};
use crate::live::Live;
use crate::model::Alert;
use crate::queue::{Leased, QueueError, Seq};
use crate::telemetry::TargetCommand;

/// How long a lease waits for an alert; a stop, a command and a breaker whose time is over are noticed no later.
const LEASE_WAIT: Duration = Duration::from_millis(500);
/// What deliveries under way are given when the process stops; the process itself has ten seconds.
const DRAIN: Duration = Duration::from_secs(5);

/// The forwarder's life.
pub(super) async fn run(parts: ForwarderParts, commands: mpsc::Receiver<TargetCommand>, stop: CancellationToken) {
    let mut worker = Worker {
        changes: parts.wiring.clone(),
        wiring: parts.wiring.get(),
        desk: Arc::new(Desk::new(parts, stop)),
        deliveries: JoinSet::new(),
        limiter: Limiter::new(),
        next_message: Instant::now(),
    };
    let desk = Arc::clone(&worker.desk);
    let orders = tokio::spawn(commands::obey(Arc::clone(&desk), commands));
    while !desk.stop.is_cancelled() {
        worker.step().await;
    }
    let drained = tokio::time::timeout(DRAIN, async { while worker.deliveries.join_next().await.is_some() {} });
    if drained.await.is_err() {
        info!(target = %desk.parts.name, "deliveries under way were cut off; they come again");
    }
    orders.abort();
}

struct Worker {
    desk: Arc<Desk>,
    /// One subscription for the task's life: a clone made anew would tell an old change again and again.
    changes: Live<Wiring>,
    /// The wiring that the last step went by.
    wiring: Arc<Wiring>,
    deliveries: JoinSet<()>,
    limiter: Limiter,
    /// When the next message of several alerts may go.
    next_message: Instant,
}

impl Worker {
    /// Waits for whatever is missing - configuration, an answer of the breaker, a free place, a permit, an alert - and
    /// starts deliveries.
    async fn step(&mut self) {
        while self.deliveries.try_join_next().is_some() {}
        let wiring = self.changes.get();
        if !Arc::ptr_eq(&wiring, &self.wiring) {
            self.wiring = Arc::clone(&wiring);
            self.desk.reconsider();
        }
        let desk = Arc::clone(&self.desk);
        desk.parts.board.set_address(wiring.target.address());
        if let Err(why) = wiring.ready() {
            desk.parts.board.waiting(desk.parts.clock.now(), &why);
            return desk.unless_stopped(self.changes.changed()).await;
        }
        let free = match desk.admission() {
            Admission::All => self.free(&wiring),
            // The trial's answer comes before anything else goes.
            Admission::One => usize::from(self.deliveries.is_empty()),
            Admission::NotBefore(_) if desk.is_given_over(&wiring.settings) => {
                return fallback::take_over(&desk, &wiring.settings).await;
            }
            Admission::NotBefore(until) => return self.sleep_until(until).await,
        };
        if free == 0 {
            return desk.unless_stopped(self.deliveries.join_next().map(drop)).await;
        }
        fallback::ended(&desk, &wiring.settings);
        if wiring.target.most() > 1 { self.send_together(&wiring).await } else { self.send_each(free, &wiring).await }
    }

    /// Deliveries that may be begun now. Messages of several alerts go one after the other.
    fn free(&self, wiring: &Wiring) -> usize {
        let most = if wiring.target.most() > 1 { 1 } else { wiring.settings.concurrency.max(1) };
        most.saturating_sub(self.deliveries.len())
    }

    /// One delivery for each alert.
    async fn send_each(&mut self, free: usize, wiring: &Wiring) {
        let permits = match self.limiter.take(free, &wiring.settings) {
            Ok(permits) => permits,
            Err(wait) => return self.sleep(wait).await,
        };
        let leased = self.desk.parts.outbox.lease(permits, LEASE_WAIT).await;
        match leased {
            Ok(records) => {
                let records = self.admitted(records).await;
                self.limiter.give_back(permits.saturating_sub(records.len()));
                for record in records {
                    self.deliveries.spawn(Arc::clone(&self.desk).handle(vec![record]));
                }
            }
            Err(error) => self.outbox_failed(&error).await,
        }
    }

    /// One delivery for as many alerts as wait, no sooner than the settings allow after the one before.
    async fn send_together(&mut self, wiring: &Wiring) {
        let now = Instant::now();
        if now < self.next_message {
            return self.sleep(self.next_message - now).await;
        }
        if let Err(wait) = self.limiter.take(1, &wiring.settings) {
            return self.sleep(wait).await;
        }
        let singly = self.desk.singly.load(Ordering::Relaxed) > 0;
        let most = if singly { 1 } else { wiring.target.most() };
        let leased = self.desk.parts.outbox.lease(most, LEASE_WAIT).await;
        match leased {
            Ok(records) => {
                let records = self.admitted(records).await;
                if records.is_empty() {
                    return self.limiter.give_back(1);
                }
                if singly {
                    self.desk.singly.fetch_sub(1, Ordering::Relaxed);
                } else {
                    self.next_message = Instant::now() + wiring.settings.coalesce;
                }
                self.deliveries.spawn(Arc::clone(&self.desk).handle(records));
            }
            Err(error) => self.outbox_failed(&error).await,
        }
    }

    /// What may still be sent: while an alert was waited for the breaker may have opened, or the pace have been changed.
    async fn admitted(&self, records: Vec<Leased<Alert>>) -> Vec<Leased<Alert>> {
        let unchanged = Arc::ptr_eq(&self.changes.get(), &self.wiring);
        if records.is_empty() || (unchanged && !self.desk.is_shut()) {
            return records;
        }
        let seqs: Vec<Seq> = records.iter().map(|record| record.seq).collect();
        self.desk.release(&seqs, Duration::ZERO).await;
        Vec::new()
    }

    async fn outbox_failed(&self, error: &QueueError) {
        if !self.desk.stop.is_cancelled() {
            error!(target = %self.desk.parts.name, %error, "the outbox cannot be read");
        }
        self.desk.unless_stopped(tokio::time::sleep(STORAGE_PAUSE)).await;
    }

    /// Sleeps, but no longer than until something changes; what a command changes is seen after a while.
    async fn sleep(&mut self, wait: Duration) {
        let desk = Arc::clone(&self.desk);
        let changed = self.changes.changed();
        let slept = tokio::time::sleep(wait.min(LEASE_WAIT));
        desk.unless_stopped(async {
            tokio::select! {
                () = changed => {}
                () = slept => {}
            }
        })
        .await;
    }

    async fn sleep_until(&mut self, until: Instant) {
        self.sleep(until.saturating_duration_since(Instant::now())).await;
    }
}
