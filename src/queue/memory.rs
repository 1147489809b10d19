//! A queue in memory, for tests of what uses a queue: the same contract, except that nothing outlives the process.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::backend::{Backend, Depth, Lease, QueueError, Record, Seq, check_size};
use super::hands::Hands;

#[derive(Default)]
struct State {
    records: BTreeMap<Seq, Record>,
    /// The next record to be handed out for the first time.
    position: Seq,
    next: Seq,
    hands: Hands,
    depth: Depth,
    closed: bool,
}

/// A queue that lives as long as its process.
pub struct MemoryBackend {
    name: String,
    state: Mutex<State>,
    changed: Notify,
}

impl MemoryBackend {
    /// An empty queue.
    pub fn new(name: &str) -> Self {
        let state = State { position: 1, next: 1, ..State::default() };
        Self { name: name.to_owned(), state: Mutex::new(state), changed: Notify::new() }
    }

    fn closed(&self) -> QueueError {
        QueueError::Closed { queue: self.name.clone() }
    }

    fn open_state(&self) -> Result<parking_lot::MutexGuard<'_, State>, QueueError> {
        let state = self.state.lock();
        if state.closed { Err(self.closed()) } else { Ok(state) }
    }
}

impl State {
    /// The next record that was never handed out, claimed ones passed by.
    fn next_fresh(&self) -> Option<(&Seq, &Record)> {
        self.records.range(self.position..).find(|(seq, _)| self.hands.get(**seq).is_none())
    }

    fn claim_these(&mut self, seqs: &[Seq]) -> Vec<Lease> {
        let mut leases = Vec::new();
        for &seq in seqs {
            let Some(record) = self.records.get(&seq).filter(|_| !self.hands.is_leased(seq)) else { continue };
            let before = self.hands.get(seq).map(|hand| hand.attempt);
            let attempt = before.unwrap_or(0).saturating_add(1);
            leases.push(Lease { seq, attempt, items: record.items, payload: record.payload.clone() });
            match before {
                None => self.hands.lease_fresh(seq, attempt, record.items, record.payload.len()),
                Some(_) => self.hands.lease_again(seq, attempt),
            }
        }
        leases
    }

    fn claim(&mut self, max: usize, now: Instant) -> Vec<Lease> {
        self.hands.wake(now);
        let mut leases = Vec::new();
        while leases.len() < max {
            let (seq, attempt) = if let Some((seq, hand)) = self.hands.first_ready() {
                self.hands.lease_again(seq, hand.attempt.saturating_add(1));
                (seq, hand.attempt.saturating_add(1))
            } else if let Some((&seq, record)) = self.next_fresh() {
                self.hands.lease_fresh(seq, 1, record.items, record.payload.len());
                self.position = seq + 1;
                (seq, 1)
            } else {
                break;
            };
            if let Some(record) = self.records.get(&seq) {
                leases.push(Lease { seq, attempt, items: record.items, payload: record.payload.clone() });
            }
        }
        leases
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn append(&self, records: Vec<Record>) -> Result<(), QueueError> {
        check_size(&self.name, &records)?;
        let mut state = self.open_state()?;
        for record in records {
            let seq = state.next;
            state.next += 1;
            state.depth.add(&record);
            state.records.insert(seq, record);
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let (leases, next_due) = {
                let mut state = self.open_state()?;
                (state.claim(max, Instant::now()), state.hands.next_due())
            };
            if !leases.is_empty() || max == 0 || Instant::now() >= deadline {
                return Ok(leases);
            }
            let until = next_due.map_or(deadline, |due| due.min(deadline));
            drop(timeout_at(until, changed).await);
        }
    }

    async fn ack(&self, seqs: &[Seq]) -> Result<(), QueueError> {
        let mut state = self.open_state()?;
        for &seq in seqs {
            if state.hands.is_leased(seq) {
                state.hands.remove(seq);
                if let Some(record) = state.records.remove(&seq) {
                    state.depth.subtract(record.items, record.payload.len());
                }
            }
        }
        Ok(())
    }

    async fn release(&self, seqs: &[Seq], delay: Duration) -> Result<(), QueueError> {
        let due = (!delay.is_zero()).then(|| Instant::now() + delay);
        let mut state = self.open_state()?;
        for &seq in seqs {
            if state.hands.is_leased(seq) {
                state.hands.release(seq, due);
            }
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn peek(&self, from: Seq, max: usize) -> Result<Vec<Lease>, QueueError> {
        let state = self.open_state()?;
        let waiting = state.records.range(from..).take(max).map(|(&seq, record)| Lease {
            seq,
            attempt: state.hands.get(seq).map_or(0, |hand| hand.attempt),
            items: record.items,
            payload: record.payload.clone(),
        });
        Ok(waiting.collect())
    }

    async fn claim(&self, seqs: &[Seq]) -> Result<Vec<Lease>, QueueError> {
        Ok(self.open_state()?.claim_these(seqs))
    }

    fn depth(&self) -> Depth {
        self.state.lock().depth
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.state.lock().closed = true;
        self.changed.notify_waiters();
        Ok(())
    }
}
