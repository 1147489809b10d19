//! The callers' side of a queue: waits, claims, hands over to the writer. Does no I/O itself.
//!
//! Cancelling any call is safe: an append that was handed over is stored or refused as if it had been waited for, and
//! records that were claimed but not returned are taken back.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::commit::{Answer, Command, Verdict, Writer};
use super::core::Core;
use super::state::{Claim, Kind};
use crate::queue::backend::{Backend, Depth, Lease, QueueError, Record, Seq, check_size};
use crate::queue::fault::Fault;
use crate::queue::options::QueueOptions;

/// Payload bytes waiting for the writer at most; further appends wait for room.
const WAITING_BYTES: usize = 32 << 20;

/// Commands waiting for the writer at most.
const WAITING_COMMANDS: usize = 4_096;

/// A queue on sled generations.
pub struct SledBackend {
    core: Arc<Core>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    room: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SledBackend {
    /// Opens a queue that is consumed in order, in `dir`. Blocks; takes longer after a crash.
    pub fn open_log(dir: &Path, name: &str, options: &QueueOptions) -> Result<Self, QueueError> {
        Self::open(dir, name, Kind::Log, options)
    }

    /// Opens a queue whose records are settled each on its own, in `dir`. Blocks; takes longer after a crash.
    pub fn open_work(dir: &Path, name: &str, options: &QueueOptions) -> Result<Self, QueueError> {
        Self::open(dir, name, Kind::Work, options)
    }

    fn open(dir: &Path, name: &str, kind: Kind, options: &QueueOptions) -> Result<Self, QueueError> {
        let (core, next) = Core::open(dir, name, kind, options.clone())?;
        let core = Arc::new(core);
        let (commands, receiver) = mpsc::channel(WAITING_COMMANDS);
        let writer = Writer::new(Arc::clone(&core), next);
        let thread = std::thread::Builder::new()
            .name(format!("queue-{name}"))
            .spawn(move || writer.run(receiver))
            .map_err(|error| core.storage_error(format!("cannot start a thread: {error}")))?;
        // What was drained before the last end of the process goes first.
        drop(commands.try_send(Command::Sweep));
        Ok(Self {
            core,
            commands: Mutex::new(Some(commands)),
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            writer: Mutex::new(Some(thread)),
        })
    }

    /// What tests look at from inside.
    #[cfg(test)]
    pub(super) fn core_for_tests(&self) -> &Core {
        &self.core
    }

    fn commands(&self) -> Result<mpsc::Sender<Command>, QueueError> {
        self.commands.lock().clone().ok_or_else(|| self.core.closed_error())
    }

    /// Has the writer do something and waits for its answer.
    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), QueueError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands()?.send(command(answer)).await;
        sent.map_err(|_| self.core.closed_error())?;
        answered.await.unwrap_or_else(|_| Err(self.core.closed_error()))
    }

    /// What a lease can do right now.
    fn step(&self, max: usize) -> Result<Step, QueueError> {
        let mut state = self.core.state.lock();
        if state.closed {
            return Err(self.core.closed_error());
        }
        let claim = state.claim(max, Instant::now());
        if !claim.is_empty() {
            let seqs = claim.fresh.iter().map(|lease| lease.seq).chain(claim.again.iter().map(|(seq, _)| *seq));
            let seqs = seqs.collect();
            return Ok(Step::Claimed(claim, HandOut { core: Arc::clone(&self.core), seqs }));
        }
        let Some(range) = state.start_read() else { return Ok(Step::Wait(state.hands.next_due())) };
        drop(state);
        // It runs to its end even if nobody waits for it any more, and so always ends the read.
        let core = Arc::clone(&self.core);
        Ok(Step::Read(spawn_blocking(move || core.read_ahead(range).map_err(|trouble| core.storage_error(trouble)))))
    }

    async fn write_mark(&self) -> Result<(), QueueError> {
        let core = Arc::clone(&self.core);
        blocking(
            &self.core,
            spawn_blocking(move || {
                core.write_mark();
                Ok(())
            }),
        )
        .await
    }

    /// Acks in a queue that remembers by its cursor.
    async fn ack_in_log(&self, seqs: &[Seq]) -> Result<(), QueueError> {
        let wants_sweep = {
            let mut state = self.core.state.lock();
            for &seq in seqs {
                if state.hands.is_leased(seq) {
                    state.forget(seq);
                }
            }
            state.settle_last();
            state.wants_sweep(self.core.worth_rolling())
        };
        self.write_mark().await?;
        if wants_sweep {
            // A writer that is too busy to be asked sweeps anyway.
            drop(self.commands()?.try_send(Command::Sweep));
        }
        Ok(())
    }
}

enum Step {
    Claimed(Claim, HandOut),
    Read(tokio::task::JoinHandle<Result<(), QueueError>>),
    Wait(Option<Instant>),
}

/// Records on their way to a caller; dropped before they arrive, they are taken back.
struct HandOut {
    core: Arc<Core>,
    seqs: Vec<Seq>,
}

impl HandOut {
    async fn finish_claimed(mut self, claimed: Vec<(Seq, u32)>) -> Result<Vec<Lease>, QueueError> {
        let core = Arc::clone(&self.core);
        let leases = blocking(&self.core, spawn_blocking(move || core.complete_claimed(claimed))).await;
        self.seqs.clear();
        leases
    }

    async fn finish(mut self, claim: Claim) -> Result<Vec<Lease>, QueueError> {
        let core = Arc::clone(&self.core);
        let leases = blocking(&self.core, spawn_blocking(move || core.complete(claim))).await;
        self.seqs.clear();
        leases
    }
}

impl Drop for HandOut {
    fn drop(&mut self) {
        if self.seqs.is_empty() {
            return;
        }
        let mut state = self.core.state.lock();
        for seq in self.seqs.drain(..) {
            if state.hands.is_leased(seq) {
                state.hands.take_back(seq);
            }
        }
        drop(state);
        self.core.changed.notify_waiters();
    }
}

async fn blocking<R>(core: &Core, task: tokio::task::JoinHandle<Result<R, QueueError>>) -> Result<R, QueueError> {
    task.await.unwrap_or_else(|error| Err(core.storage_error(format!("a blocking task failed: {error}"))))
}

#[async_trait]
impl Backend for SledBackend {
    async fn append(&self, records: Vec<Record>) -> Result<(), QueueError> {
        check_size(&self.core.name, &records)?;
        if records.is_empty() {
            return Ok(());
        }
        let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
        let permits = u32::try_from(bytes.clamp(1, WAITING_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_| self.core.closed_error())?;
        self.ask(|answer| Command::Append(records, answer, room)).await
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut changed = std::pin::pin!(self.core.changed.notified());
            changed.as_mut().enable();
            let next_due = match self.step(max)? {
                Step::Claimed(claim, hand_out) => match hand_out.finish(claim).await? {
                    leases if leases.is_empty() => continue,
                    leases => return Ok(leases),
                },
                Step::Read(reading) => {
                    blocking(&self.core, reading).await?;
                    continue;
                }
                Step::Wait(next_due) => next_due,
            };
            if max == 0 || Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            let until = next_due.map_or(deadline, |due| due.min(deadline));
            drop(timeout_at(until, changed).await);
        }
    }

    async fn ack(&self, seqs: &[Seq]) -> Result<(), QueueError> {
        match self.core.kind {
            _ if self.core.state.lock().closed => Err(self.core.closed_error()),
            Kind::Log => self.ack_in_log(seqs).await,
            Kind::Work => self.ask(|answer| Command::Settle(seqs.to_vec(), Verdict::Ack, answer)).await,
        }
    }

    async fn release(&self, seqs: &[Seq], delay: Duration) -> Result<(), QueueError> {
        let due = (!delay.is_zero()).then(|| Instant::now() + delay);
        if self.core.kind == Kind::Work {
            let verdict = Verdict::Release(delay, due);
            return self.ask(|answer| Command::Settle(seqs.to_vec(), verdict, answer)).await;
        }
        {
            let mut state = self.core.state.lock();
            if state.closed {
                return Err(self.core.closed_error());
            }
            for &seq in seqs {
                if state.hands.is_leased(seq) {
                    state.hands.release(seq, due);
                }
            }
        }
        self.core.changed.notify_waiters();
        Ok(())
    }

    async fn peek(&self, from: Seq, max: usize) -> Result<Vec<Lease>, QueueError> {
        if self.core.state.lock().closed {
            return Err(self.core.closed_error());
        }
        let core = Arc::clone(&self.core);
        blocking(&self.core, spawn_blocking(move || core.peek(from, max))).await
    }

    async fn claim(&self, seqs: &[Seq]) -> Result<Vec<Lease>, QueueError> {
        loop {
            let mut changed = std::pin::pin!(self.core.changed.notified());
            changed.as_mut().enable();
            let claimed = {
                let mut state = self.core.state.lock();
                if state.closed {
                    return Err(self.core.closed_error());
                }
                state.claim_these(seqs)
            };
            // The read that is under way ends whatever happens, and says so.
            let Some(claimed) = claimed else {
                changed.await;
                continue;
            };
            let out = claimed.iter().map(|(seq, _)| *seq).collect();
            let hand_out = HandOut { core: Arc::clone(&self.core), seqs: out };
            return hand_out.finish_claimed(claimed).await;
        }
    }

    fn depth(&self) -> Depth {
        self.core.state.lock().depth
    }

    fn faults(&self) -> Vec<Fault> {
        self.core.faults.list()
    }

    async fn close(&self) -> Result<(), QueueError> {
        let was_closed = std::mem::replace(&mut self.core.state.lock().closed, true);
        if was_closed {
            return Ok(());
        }
        self.core.changed.notify_waiters();
        let closed = self.ask(Command::Close).await;
        self.commands.lock().take();
        let writer = self.writer.lock().take();
        let joined = spawn_blocking(move || Ok(writer.map(JoinHandle::join).is_none_or(|joined| joined.is_ok())));
        match blocking(&self.core, joined).await? {
            true => closed,
            false => Err(self.core.storage_error("the writer's thread panicked")),
        }
    }
}

impl Drop for SledBackend {
    /// A queue that is dropped without being closed leaves no thread behind either.
    fn drop(&mut self) {
        self.commands.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            drop(writer.join());
        }
    }
}
