//! One thread that writes a database, and a few connections that read it.
//!
//! Callers await an answer; nothing here blocks an async thread. The queue of jobs is bounded: when the disk is slow,
//! callers wait. A panic in a job fails that job, not the thread. On a crash, jobs not yet answered are not done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{error, warn};

use super::connect::{Fault, checkpoint, open_reader};
use crate::store::{StoreError, StoreResult};

/// Jobs waiting for a writer thread, at most.
const JOBS: usize = 64;
/// Reads of one database at once: as many as keep a small machine busy.
const READS: usize = 4;
/// Idle reading connections kept for one database.
const IDLE: usize = 2;

/// Where the answer to a job goes.
pub(super) type Answer<T> = oneshot::Sender<StoreResult<T>>;

/// A thread that owns a database and works off jobs of type `J`.
#[derive(Debug)]
pub(super) struct Worker<J> {
    store: String,
    sender: Mutex<Option<mpsc::Sender<J>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<J: Send + 'static> Worker<J> {
    /// Starts `body` on a thread of its own; it should end when the receiver is closed and empty.
    pub(super) fn start(store: &str, body: impl FnOnce(mpsc::Receiver<J>) + Send + 'static) -> StoreResult<Self> {
        let (sender, receiver) = mpsc::channel(JOBS);
        let thread = std::thread::Builder::new().name(format!("store {store}")).spawn(move || body(receiver)).map_err(
            |error| StoreError::Unavailable {
                store: store.to_owned(),
                why: format!("its thread cannot start: {error}"),
            },
        )?;
        Ok(Self { store: store.to_owned(), sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Hands over a job and waits for its answer.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> J) -> StoreResult<T> {
        let (answer, answered) = oneshot::channel();
        let sender = self.sender.lock().clone();
        let sent = match sender {
            Some(sender) => sender.send(job(answer)).await.is_ok(),
            None => false,
        };
        if !sent {
            return Err(self.unavailable("it is closed"));
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(self.unavailable("its writer gave up on this call, see the log")),
        }
    }

    /// Hands over a job nobody waits for; `false` if there was no room.
    pub(super) fn tell(&self, job: J) -> bool {
        self.sender.lock().as_ref().is_some_and(|sender| sender.try_send(job).is_ok())
    }

    /// Finishes the jobs that were handed over and ends the thread.
    pub(super) async fn close(&self) -> StoreResult<()> {
        drop(self.sender.lock().take());
        let thread = self.thread.lock().take();
        let Some(thread) = thread else { return Ok(()) };
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.unavailable("its writer thread ended with a panic")),
        }
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable { store: self.store.clone(), why: why.to_owned() }
    }
}

/// A job for a database without state beside it.
pub(super) type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// Works off [`Task`]s until there are no more, then writes the log back.
pub(super) fn run_tasks(store: &str, mut connection: Connection, mut tasks: mpsc::Receiver<Task>) {
    while let Some(task) = tasks.blocking_recv() {
        // The transaction inside is rolled back by unwinding, so the connection is as it was before.
        if catch_unwind(AssertUnwindSafe(|| task(&mut connection))).is_err() {
            error!(store, "a write to {store} panicked and was rolled back");
        }
    }
    if let Err(fault) = checkpoint(&connection) {
        warn!(store, reason = ?fault, "the log of {store} was not written back; the next start reads it");
    }
}

/// Runs `body` in a transaction that is committed if it succeeds.
pub(super) fn in_transaction<T>(
    connection: &mut Connection,
    body: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = body(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// Connections that read one database, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    store: String,
    idle: Mutex<Vec<Connection>>,
    gate: Semaphore,
}

impl Readers {
    /// For the database at `path`.
    pub(super) fn new(path: PathBuf, store: String) -> Self {
        Self { path, store, idle: Mutex::new(Vec::new()), gate: Semaphore::new(READS) }
    }

    /// Runs `body` with a connection on this thread; only for threads that may block.
    pub(super) fn with<T>(&self, body: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let result = body(&connection);
        if result.is_ok() {
            let mut idle = self.idle.lock();
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
        result
    }

    /// Runs `body` with a connection on a thread for blocking work.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        body: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> StoreResult<T> {
        let closed = |why: String| StoreError::Unavailable { store: self.store.clone(), why };
        let _permit = self.gate.acquire().await.map_err(|_| closed("it is closed".into()))?;
        let readers = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || readers.with(body));
        read.await.map_err(|error| closed(error.to_string()))?.map_err(|fault| fault.of(&self.store))
    }
}
