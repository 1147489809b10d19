//! Takes letters out of their queues: back into the work they came from, into the queue `dead`, or away.
//!
//! A letter is claimed, so that nobody else has it; what follows from it is appended and on stable storage; then it is
//! acked. A crash in between leaves both the letter and what was made of it: the message comes twice, never not at all.
//! How often a message was put back travels with it, as a flag of its event, so a crash forgets no count either.

use std::collections::{BTreeMap, BTreeSet};

use super::letters::{DeadItem, DeadQueue, DeadRecord};
use crate::model::{Alert, DeadLetter, Event, TargetName};
use crate::queue::{Item, Queue, QueueError, Queues, Seq};
use crate::telemetry::metrics::{EVENTS_COMMITTED, EVENTS_RECEIVED};

/// Letters in work at once: the memory they take is bounded by this and the size of a record.
pub(super) const CHUNK: usize = 64;

/// What became of some letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutBack {
    /// How many went back.
    pub replayed: u64,
    /// Those that cannot go back, and why; they stay where they were.
    pub kept: Vec<(Seq, String)>,
}

/// Takes letters out of queues; clones share them.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) queues: Queues,
}

/// Where one letter goes back to.
enum Way {
    Events(Event),
    Outbox(TargetName, Alert),
}

/// Records for one queue, with the letters they come from.
struct Batch<T> {
    seqs: Vec<Seq>,
    items: Vec<T>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { seqs: Vec::new(), items: Vec::new() }
    }
}

impl<T> Batch<T> {
    fn add(&mut self, seq: Seq, item: T) {
        self.seqs.push(seq);
        self.items.push(item);
    }
}

impl Desk {
    pub(super) fn queue(&self, queue: DeadQueue) -> &Queue<DeadLetter> {
        queue.of(&self.queues)
    }

    /// The outbox that a letter of this origin goes back to: its target's, or the only one there is.
    pub(super) fn target_of(&self, origin: &str) -> Option<TargetName> {
        let outboxes = self.queues.outboxes.all();
        let mut targets = outboxes.keys();
        if let Some(own) = targets.clone().find(|target| target.as_str() == origin) {
            return Some(own.clone());
        }
        targets.next().filter(|_| targets.next().is_none()).cloned()
    }

    /// Puts letters back: events into the event queue, alerts into their target's outbox or that of `to`. Letters that
    /// somebody else has are left out. On an error what was not put back stays where it was.
    pub(super) async fn put_back(
        &self,
        queue: DeadQueue,
        seqs: &[Seq],
        to: Option<&TargetName>,
    ) -> Result<PutBack, QueueError> {
        let mut done = PutBack::default();
        for some in seqs.chunks(CHUNK) {
            let claimed = self.queue(queue).claim(some).await?;
            let items: Vec<DeadItem> = claimed.into_iter().map(|record| DeadItem::of(record, queue)).collect();
            let mut left: BTreeSet<Seq> = items.iter().map(|item| item.seq).collect();
            let outcome = self.put_back_items(queue, items, to, &mut left, &mut done).await;
            self.release(queue, &left.into_iter().collect::<Vec<_>>()).await;
            outcome?;
        }
        Ok(done)
    }

    /// Takes out of `left` what went back.
    async fn put_back_items(
        &self,
        queue: DeadQueue,
        items: Vec<DeadItem>,
        to: Option<&TargetName>,
        left: &mut BTreeSet<Seq>,
        done: &mut PutBack,
    ) -> Result<(), QueueError> {
        let mut events = Batch::default();
        let mut alerts: BTreeMap<TargetName, Batch<Alert>> = BTreeMap::new();
        for item in items {
            let seq = item.seq;
            match self.way(item, to) {
                Ok(Way::Events(event)) => events.add(seq, event),
                Ok(Way::Outbox(target, alert)) => alerts.entry(target).or_default().add(seq, alert),
                Err(why) => done.kept.push((seq, why)),
            }
        }
        let before = done.replayed;
        let outcome = self.append(queue, &self.queues.events, events, left, done).await;
        // Also those whose letter could not be acked: the events are in the queue.
        count_events(done.replayed - before);
        outcome?;
        for (target, batch) in alerts {
            if let Some(outbox) = self.queues.outboxes.get(&target) {
                self.append(queue, &outbox, batch, left, done).await?;
            }
        }
        Ok(())
    }

    /// Where a letter goes back to, with its count raised; or why it cannot.
    fn way(&self, item: DeadItem, to: Option<&TargetName>) -> Result<Way, String> {
        let letter = item.letter.map_err(|why| format!("the letter cannot be read: {why}"))?;
        let times = letter.replays.saturating_add(1);
        match item.record {
            DeadRecord::Event(mut event) => {
                event.note_replay(times, letter.first_died_at);
                Ok(Way::Events(*event))
            }
            DeadRecord::Alert(mut alert) => {
                let target = to.cloned().or_else(|| self.target_of(&letter.origin));
                let target = target.filter(|target| self.queues.outboxes.get(target).is_some());
                let target =
                    target.ok_or_else(|| format!("there is no target `{}` any more; name another", letter.origin))?;
                alert.event.note_replay(times, letter.first_died_at);
                Ok(Way::Outbox(target, *alert))
            }
            DeadRecord::Bytes(_) => Err("its bytes are not understood; it can only be discarded".to_owned()),
        }
    }

    /// Appends what letters hold, then acks them; one that does not fit is kept. A letter whose ack fails stays leased
    /// until the next start, so that it is not put back again and again meanwhile.
    async fn append<T>(
        &self,
        from: DeadQueue,
        to: &Queue<T>,
        batch: Batch<T>,
        left: &mut BTreeSet<Seq>,
        done: &mut PutBack,
    ) -> Result<(), QueueError>
    where
        T: Item,
    {
        if batch.items.is_empty() {
            return Ok(());
        }
        match to.append(&batch.items).await {
            Err(QueueError::TooLarge { .. }) => {}
            Err(error) => return Err(error),
            Ok(()) => return self.went(from, &batch.seqs, left, done).await,
        }
        for (seq, item) in batch.seqs.iter().zip(&batch.items) {
            match to.append(std::slice::from_ref(item)).await {
                Ok(()) => self.went(from, std::slice::from_ref(seq), left, done).await?,
                Err(error @ QueueError::TooLarge { .. }) => done.kept.push((*seq, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn went(
        &self,
        from: DeadQueue,
        seqs: &[Seq],
        left: &mut BTreeSet<Seq>,
        done: &mut PutBack,
    ) -> Result<(), QueueError> {
        done.replayed += seqs.len() as u64;
        left.retain(|seq| !seqs.contains(seq));
        self.queue(from).ack(seqs).await
    }

    /// Takes letters away for good; returns how many.
    pub(super) async fn discard(&self, queue: DeadQueue, seqs: &[Seq]) -> Result<u64, QueueError> {
        let mut discarded = 0;
        for some in seqs.chunks(CHUNK) {
            let claimed: Vec<Seq> = self.queue(queue).claim(some).await?.iter().map(|record| record.seq).collect();
            self.queue(queue).ack(&claimed).await?;
            discarded += claimed.len() as u64;
        }
        Ok(discarded)
    }

    /// Puts a changed letter in the place of another, at the end of the same queue; false if somebody else has it.
    pub(super) async fn replace(&self, queue: DeadQueue, seq: Seq, letter: DeadLetter) -> Result<bool, QueueError> {
        if self.queue(queue).claim(&[seq]).await?.is_empty() {
            return Ok(false);
        }
        if let Err(error) = self.queue(queue).append(&[letter]).await {
            self.release(queue, &[seq]).await;
            return Err(error);
        }
        self.queue(queue).ack(&[seq]).await?;
        Ok(true)
    }

    /// Gives letters back. If that fails they stay leased until the next start, where they wait again.
    pub(super) async fn release(&self, queue: DeadQueue, seqs: &[Seq]) {
        if seqs.is_empty() {
            return;
        }
        if let Err(error) = self.queue(queue).release(seqs, std::time::Duration::ZERO).await {
            tracing::warn!(queue.name = queue.name(), %error, "Letters could not be given back; they wait again after a restart");
        }
    }
}

/// Events that come back were counted as processed when they died, so they are counted in again: what is processed
/// never exceeds what was committed.
fn count_events(events: u64) {
    metrics::counter!(EVENTS_RECEIVED, "source" => "replayed").increment(events);
    metrics::counter!(EVENTS_COMMITTED).increment(events);
}
