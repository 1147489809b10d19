//! How dead letters come back: by themselves once their target is well, or because a person says so.
//!
//! Every `remediation_interval`, and on request, one run ([`RunReport`]) looks at the letters of `dlq.alerter` and
//! `dlq.forwarder`, oldest first:
//!
//! * an event the alerter gave up on goes back into the event queue;
//! * an alert goes back into the outbox of its target, if the target answers probes; the outbox's own rate limit, retries
//!   and breaker then apply as to any other alert;
//! * a letter that was put back `max_poison_retries` times and died again, and one that can never be processed, goes to
//!   the queue `dead` and is reported once: in the log and as an alert on its normal way.
//!
//! What a person does - replay, discard, change - goes through the same [`Remedy`], so no letter is ever in two hands.
//!
//! It never talks to a receiver but through an outbox, never sends a message that is not a letter or its own report, and
//! keeps nothing of its own: how often a message was put back travels with it. A crash repeats a step at most; see
//! `replay` for the order. Each action of a person runs to its end even if nobody waits for it any more.

#[cfg(test)]
mod fixtures;
mod letters;
mod poison;
mod probe;
mod replay;
mod run;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use letters::{DeadItem, DeadQueue, DeadRecord};
pub use probe::{Ask, ProbeParts, start_probe};
pub use replay::PutBack;
pub use run::{Reporter, RunReport};
pub use settings::Settings;

use crate::clock::Clock;
use crate::live::Live;
use crate::model::{DeadLetter, EventIds, Health, TargetName};
use crate::queue::{QueueError, Queues, Seq};
use replay::Desk;
use run::Runner;

/// Requests for a run that may wait: they are all answered by one.
const WAITING_REQUESTS: usize = 16;

/// What the remediation works with.
pub struct RemedyParts {
    /// Where letters are, and where they go.
    pub queues: Queues,
    /// How each target is.
    pub health: Live<Healths>,
    /// What may change while it runs.
    pub settings: Live<Settings>,
    /// How the operator is told.
    pub report: Reporter,
    /// The name of this appliance in its reports.
    pub node: String,
    /// Makes the ids of reports.
    pub ids: EventIds,
    /// The wall clock.
    pub clock: Clock,
}

/// How each target is, by its name; targets come and go while the process runs.
pub type Healths = BTreeMap<TargetName, Live<Health>>;

/// How the remediation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemedyStatus {
    /// Its settings now.
    pub settings: Settings,
    /// What the last run did; `None` before the first.
    pub last: Option<RunReport>,
    /// How each target is.
    pub health: Vec<Health>,
}

/// The remediation as others see it; clones share it.
#[derive(Clone)]
pub struct Remedy {
    desk: Desk,
    requests: mpsc::Sender<oneshot::Sender<RunReport>>,
    last: Arc<Mutex<Option<RunReport>>>,
    settings: Live<Settings>,
    health: Live<Healths>,
}

impl Remedy {
    /// Starts the loop; it ends soon after `stop` is cancelled, between two pages of letters.
    pub fn start(parts: RemedyParts, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let desk = Desk { queues: parts.queues };
        let (requests, asked) = mpsc::channel(WAITING_REQUESTS);
        let remedy = Self {
            desk: desk.clone(),
            requests,
            last: Arc::default(),
            settings: parts.settings.clone(),
            health: parts.health.clone(),
        };
        let runner = Runner {
            desk,
            health: parts.health,
            settings: parts.settings,
            report: parts.report,
            node: parts.node,
            ids: parts.ids,
            clock: parts.clock,
            stop,
        };
        let task = tokio::spawn(work(runner, asked, Arc::clone(&remedy.last)));
        (remedy, task)
    }

    /// Has one run made now, whatever the clock and `remediation_enabled` say; `None` if the process is stopping.
    pub async fn run_now(&self) -> Option<RunReport> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(answer).await.ok()?;
        answered.await.ok()
    }

    /// How it is.
    pub fn status(&self) -> RemedyStatus {
        RemedyStatus {
            settings: (*self.settings.get()).clone(),
            last: self.last.lock().clone(),
            health: self.health.get().values().map(|health| (*health.get()).clone()).collect(),
        }
    }

    /// Puts letters back because a person says so, healthy or not; alerts go to `to` if it is given.
    pub async fn put_back(
        &self,
        queue: DeadQueue,
        seqs: Vec<Seq>,
        to: Option<TargetName>,
    ) -> Result<PutBack, QueueError> {
        let desk = self.desk.clone();
        to_its_end(queue, async move { desk.put_back(queue, &seqs, to.as_ref()).await }).await
    }

    /// Takes letters away for good; returns how many.
    pub async fn discard(&self, queue: DeadQueue, seqs: Vec<Seq>) -> Result<u64, QueueError> {
        let desk = self.desk.clone();
        to_its_end(queue, async move { desk.discard(queue, &seqs).await }).await
    }

    /// Puts a changed letter in the place of another, at the end of the same queue; false if somebody else has that.
    pub async fn replace(&self, queue: DeadQueue, seq: Seq, letter: DeadLetter) -> Result<bool, QueueError> {
        let desk = self.desk.clone();
        to_its_end(queue, async move { desk.replace(queue, seq, letter).await }).await
    }
}

/// Runs an action as a task of its own: a request that is given up half-way must not leave letters in nobody's hands.
async fn to_its_end<T: Send + 'static>(
    queue: DeadQueue,
    action: impl Future<Output = Result<T, QueueError>> + Send + 'static,
) -> Result<T, QueueError> {
    let failed = |error| QueueError::Storage { queue: queue.name().to_owned(), why: format!("it failed: {error}") };
    tokio::spawn(action).await.unwrap_or_else(|error| Err(failed(error)))
}

/// Runs by the clock and on request until the process stops.
async fn work(
    runner: Runner,
    mut asked: mpsc::Receiver<oneshot::Sender<RunReport>>,
    last: Arc<Mutex<Option<RunReport>>>,
) {
    let mut settings = runner.settings.clone();
    let mut ended = Instant::now();
    loop {
        let now = settings.get();
        let due = ended + now.interval;
        let mut waiting = Vec::new();
        tokio::select! {
            () = runner.stop.cancelled() => return,
            request = asked.recv() => match request {
                Some(request) => waiting.push(request),
                None => return,
            },
            () = tokio::time::sleep_until(due), if now.enabled => {}
            () = settings.changed() => continue,
        }
        while let Ok(request) = asked.try_recv() {
            waiting.push(request);
        }
        let Ok(report) = AssertUnwindSafe(runner.run()).catch_unwind().await else {
            // What it had claimed waits again after a restart; everything else is looked at by the next run.
            tracing::error!("A remediation run failed inside; the next one goes on");
            ended = Instant::now();
            continue;
        };
        *last.lock() = Some(report.clone());
        ended = Instant::now();
        for request in waiting {
            // Whoever asked may have gone.
            drop(request.send(report.clone()));
        }
    }
}
