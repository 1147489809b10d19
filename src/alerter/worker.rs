//! Leases records, has them judged and hands them on to be recorded.
//!
//! One batch is judged while the one before it is recorded; a third is not leased until there is room for it, so
//! memory holds two batches at most.
//!
//! A record that ends the process (a bug that is no panic, memory run out) must not do so for ever. After a start, and
//! as long as leased records have been leased before, records are taken one at a time, so that only the guilty one
//! collects attempts. After [`MAX_CRASHES`] it is taken apart into records of one event each; after as many more, alone
//! again, the guilty event becomes a dead letter. Nobody else's event is ever given up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::effects::{self, Work};
use super::judgement::{MAX_CRASHES, judge};
use super::pressure::{Level, Observed, Pressures};
use super::{AlerterParts, Settings, ShedMode};
use crate::live::Live;
use crate::model::{Event, TargetName};
use crate::queue::{Leased, Queue, QueueError, Seq};
use crate::rules::Scratch;
use crate::telemetry::metrics::{ALERTER_BACKPRESSURE, ALERTER_SHED, RULES_STEPS};

/// Records leased at once: up to 16,000 events, the size of audit transaction at which SQLite is quickest.
const RECORDS: usize = 16;
/// How long a lease waits for the first record; a stop and a changed threshold are noticed no later than this.
const LEASE_WAIT: Duration = Duration::from_millis(100);
/// Batches begin no sooner after one another while few records wait: each costs transactions and syncs, which at a
/// moderate rate were most of what an event cost (ADR-012). Nobody notices that an alert leaves so much later.
const CYCLE: Duration = Duration::from_millis(20);
/// Pause after the event queue could not be read.
const FAILED_LEASE_PAUSE: Duration = Duration::from_secs(1);
/// Events appended at once while a record is taken apart: they share their sync.
const APART_AT_ONCE: usize = 64;

/// The stage's life.
pub(super) async fn run(parts: AlerterParts, stop: CancellationToken) {
    let (sender, receiver) = mpsc::channel(1);
    let recording = tokio::spawn(effects::run(parts.clone(), receiver, stop.clone()));
    let mut worker = Worker {
        changes: parts.settings.clone(),
        parts,
        stop,
        pressures: Pressures::default(),
        level: Level::Calm,
        lease_fails: false,
        careful: true,
        leased_at: tokio::time::Instant::now(),
    };
    worker.run(&sender).await;
    drop(sender);
    if let Err(error) = recording.await {
        error!(%error, "the alerter did not end as it should");
    }
    info!("the alerter has stopped");
}

struct Worker {
    parts: AlerterParts,
    /// One subscription for the task's life: a clone made anew would tell an old change again and again.
    changes: Live<Settings>,
    stop: CancellationToken,
    pressures: Pressures,
    /// The level last told to people.
    level: Level,
    lease_fails: bool,
    /// Whether records are leased one at a time.
    careful: bool,
    /// When the last batch was leased.
    leased_at: tokio::time::Instant,
}

impl Worker {
    async fn run(&mut self, sender: &mpsc::Sender<Work>) {
        loop {
            let room = tokio::select! {
                () = self.stop.cancelled() => return,
                room = sender.reserve() => room,
            };
            let Ok(room) = room else { return };
            let settings = self.parts.settings.get();
            let observed = self.observe(&settings);
            if observed.all && settings.shed_mode == ShedMode::Defer {
                metrics::counter!(ALERTER_SHED, "mode" => ShedMode::Defer.name()).increment(1);
                self.defer(jittered(settings.defer_sleep)).await;
                continue;
            }
            self.let_gather().await;
            let records = self.lease(if self.careful { 1 } else { RECORDS }).await;
            if records.is_empty() {
                continue;
            }
            self.leased_at = tokio::time::Instant::now();
            // What was changed while these events were waited for counts for them.
            let settings = self.parts.settings.get();
            if let Some(work) = self.judge(records, &settings, observed.crowded).await {
                room.send(work);
            }
        }
    }

    /// Waits for company when few records wait and the last batch was begun a moment ago.
    async fn let_gather(&self) {
        let since = self.leased_at.elapsed();
        if !self.careful && since < CYCLE && self.parts.events.depth().records < 2 * RECORDS as u64 {
            self.pause(CYCLE - since).await;
        }
    }

    /// How full the outboxes are; tells people when that changes.
    fn observe(&mut self, settings: &Settings) -> Observed {
        let outboxes = self.parts.outboxes.all();
        let outboxes = outboxes.iter().filter(|(name, _)| settings.sends_to(name));
        let observed = self.pressures.observe(outboxes.map(|(name, outbox)| (name, outbox.depth().items)), settings);
        let Observed { level, waiting, .. } = observed;
        if level != self.level {
            metrics::gauge!(ALERTER_BACKPRESSURE).set(if level == Level::Calm { 0.0 } else { 1.0 });
            let mode = settings.shed_mode.name();
            match level {
                Level::Calm => info!(alerts = waiting, "the outboxes have drained"),
                Level::Warned => warn!(alerts = waiting, "alerts pile up in the outboxes; is the receiver well?"),
                Level::Shedding => error!(alerts = waiting, mode, "too many alerts wait in the outboxes"),
            }
            self.level = level;
        }
        observed
    }

    /// Records to judge; none if there are none or the queue cannot be read.
    async fn lease(&mut self, max: usize) -> Vec<Leased<Event>> {
        let leased = match self.parts.events.lease(max, LEASE_WAIT).await {
            Ok(leased) => leased,
            Err(error) => {
                if !self.lease_fails && !self.stop.is_cancelled() {
                    error!(%error, "the event queue cannot be read");
                }
                self.lease_fails = true;
                self.pause(FAILED_LEASE_PAUSE).await;
                return Vec::new();
            }
        };
        if std::mem::take(&mut self.lease_fails) {
            info!("the event queue can be read again");
        }
        self.careful = leased.iter().any(|record| record.attempt > 1) || (self.careful && leased.is_empty());
        let mut records = Vec::with_capacity(leased.len());
        for record in leased {
            match record.items {
                Ok(events) if record.attempt > MAX_CRASHES && events.len() > 1 => {
                    take_apart(&self.parts.events, record.seq, &events).await;
                }
                items => records.push(Leased { items, ..record }),
            }
        }
        records
    }

    async fn judge(
        &self,
        records: Vec<Leased<Event>>,
        settings: &Settings,
        shed: BTreeMap<TargetName, u64>,
    ) -> Option<Work> {
        let started = Instant::now();
        let ruling = self.parts.ruling.get();
        let seqs: Vec<Seq> = records.iter().map(|record| record.seq).collect();
        let (now, max_retries) = (self.parts.clock.now(), settings.max_retries);
        let (judging, traffic) = (Arc::clone(&ruling), Arc::clone(&self.parts.traffic));
        let judged = tokio::task::spawn_blocking(move || {
            traffic.see(&records);
            // Each event begins by clearing it, so a panic leaves nothing behind for the next one.
            let scratch = RefCell::new(Scratch::default());
            let decide = |event: &Event| judging.decide(event, &mut scratch.borrow_mut());
            let judgement = judge(records, &decide, max_retries, now);
            let effort = scratch.borrow().effort();
            metrics::counter!(RULES_STEPS).increment(effort.steps);
            traffic.count(effort);
            judgement
        });
        match judged.await {
            Ok(judgement) => {
                let judging = (now, self.parts.clock.now());
                Some(Work { judgement, ruling, shed, started, judging })
            }
            Err(error) => {
                // Judging catches panics event by event, so this is a fault of the stage itself.
                error!(%error, "a batch of events could not be judged; it will be tried again");
                give_back(&self.parts.events, &seqs).await;
                None
            }
        }
    }

    /// A pause that ends when the settings change: they may say that there is room.
    async fn defer(&mut self, duration: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.changes.changed() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }

    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }
}

/// Puts each event of a record into a record of its own and forgets the record. A crash in between makes duplicates.
async fn take_apart(queue: &Queue<Event>, seq: Seq, events: &[Event]) {
    let outcome: Result<(), QueueError> = async {
        for some in events.chunks(APART_AT_ONCE) {
            try_join_all(some.iter().map(|event| queue.append(std::slice::from_ref(event)))).await?;
        }
        queue.ack(&[seq]).await
    }
    .await;
    match outcome {
        Ok(()) => {
            let events = events.len();
            warn!(events, "a batch was taken apart because the process ended several times while it was in work");
        }
        Err(error) => {
            error!(%error, "a batch could not be taken apart; it will be tried again");
            give_back(queue, &[seq]).await;
        }
    }
}

async fn give_back(queue: &Queue<Event>, seqs: &[Seq]) {
    // If this fails too, the records stay leased until the next start.
    if let Err(error) = queue.release(seqs, FAILED_LEASE_PAUSE).await {
        error!(%error, "leased records could not be released");
    }
}

/// Between half and one and a half times `duration`, so that several nodes do not look all at once.
fn jittered(duration: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    duration.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}
