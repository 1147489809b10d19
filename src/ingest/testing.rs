//! What the listeners' tests share: a queue in memory that can be looked into and made to fail, and a context around it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Gate, Intake, ListenerContext, Secrets, Settings};
use crate::access::KeyRing;
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Event, EventIds};
use crate::queue::{Backend, Depth, Lease, Queue, QueueError, Record, Seq, decode_items};
use crate::telemetry::trace::Tracer;
use crate::telemetry::{ListenerBoard, Rates};

#[derive(Default)]
struct State {
    records: Vec<Record>,
    failing: bool,
    refusals: usize,
}

/// A backend that only takes; clones share it.
#[derive(Clone, Default)]
pub(super) struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    /// Everything appended so far.
    pub(super) fn events(&self) -> Vec<Event> {
        let records = self.state.lock().records.clone();
        records.into_iter().flat_map(|record| decode_items::<Event>(record.payload).expect("readable")).collect()
    }

    /// From now on every append fails as if the disk were full.
    pub(super) fn fail(&self) {
        self.state.lock().failing = true;
    }

    /// How many appends have failed.
    pub(super) fn refusals(&self) -> usize {
        self.state.lock().refusals
    }

    /// Appends work again.
    pub(super) fn recover(&self) {
        self.state.lock().failing = false;
    }
}

#[async_trait]
impl Backend for Memory {
    async fn append(&self, records: Vec<Record>) -> Result<(), QueueError> {
        let mut state = self.state.lock();
        if state.failing {
            state.refusals += 1;
            return Err(QueueError::Full { queue: "events".into(), why: "the disk is full".into() });
        }
        state.records.extend(records);
        Ok(())
    }

    async fn lease(&self, _: usize, _: Duration) -> Result<Vec<Lease>, QueueError> {
        Ok(Vec::new())
    }

    async fn ack(&self, _: &[Seq]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn release(&self, _: &[Seq], _: Duration) -> Result<(), QueueError> {
        Ok(())
    }

    async fn peek(&self, _: Seq, _: usize) -> Result<Vec<Lease>, QueueError> {
        Ok(Vec::new())
    }

    async fn claim(&self, _: &[Seq]) -> Result<Vec<Lease>, QueueError> {
        Ok(Vec::new())
    }

    fn depth(&self) -> Depth {
        let state = self.state.lock();
        let items = state.records.iter().map(|record| u64::from(record.items)).sum();
        Depth { items, records: state.records.len() as u64, bytes: 0 }
    }

    async fn close(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A listener's context around a queue in memory. Must be called on a runtime.
pub(super) fn context(memory: &Memory, settings: Settings, secrets: Secrets, clock: Clock) -> ListenerContext {
    let queue = Queue::of_batches("events", Arc::new(memory.clone()));
    let settings = Live::constant(settings);
    let (intake, _task) = Intake::start(queue, Gate::new(settings.clone()), Rates::new(clock.clone()), Tracer::off());
    let stop = CancellationToken::new();
    ListenerContext {
        tracer: Tracer::off(),
        intake,
        ids: Arc::new(EventIds::new(1)),
        clock,
        settings,
        secrets: Live::constant(secrets),
        keys: Live::constant(KeyRing::default()),
        board: ListenerBoard::default(),
        release: stop.child_token(),
        stop,
    }
}
