//! The queue as stages see it: items in, leased batches of items out.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::backend::{Backend, Depth, QueueError, Record, Seq};
use super::codec::{Form, Item, MAX_PLAIN, Scratch, Undecodable, Unfit, decode_with, encode_forms, encode_with};
use super::fault::Fault;

/// How items are laid into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Everything of one append in as few records as fit.
    Batches,
    /// One record an item.
    Singles,
}

/// A queue of `T`.
pub struct Queue<T> {
    name: Arc<str>,
    backend: Arc<dyn Backend>,
    layout: Layout,
    /// Whoever encodes or decodes takes one and puts it back; producers and the consumer work at once.
    scratches: Arc<Mutex<Vec<Scratch>>>,
    items: PhantomData<fn() -> T>,
}

/// Scratch buffers kept by a queue, at most.
const SCRATCHES: usize = 4;

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            backend: Arc::clone(&self.backend),
            layout: self.layout,
            scratches: Arc::clone(&self.scratches),
            items: PhantomData,
        }
    }
}

/// A record handed out for processing; ack or release it by `seq`.
#[derive(Debug)]
pub struct Leased<T> {
    /// What to ack or release it by.
    pub seq: Seq,
    /// 1 for the first time.
    pub attempt: u32,
    /// The items, or the bytes that could not be read.
    pub items: Result<Vec<T>, Undecodable>,
}

impl<T: Item> Queue<T> {
    /// A queue whose records are whole batches; they are leased and acked together.
    pub fn of_batches(name: &str, backend: Arc<dyn Backend>) -> Self {
        Self::new(name, backend, Layout::Batches)
    }

    /// A queue in which each item is leased and acked on its own.
    pub fn of_singles(name: &str, backend: Arc<dyn Backend>) -> Self {
        Self::new(name, backend, Layout::Singles)
    }

    fn new(name: &str, backend: Arc<dyn Backend>, layout: Layout) -> Self {
        Self { name: name.into(), backend, layout, scratches: Arc::default(), items: PhantomData }
    }

    fn with_scratch<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let result = work(&mut scratch);
        let mut scratches = self.scratches.lock();
        if scratches.len() < SCRATCHES {
            scratches.push(scratch);
        }
        result
    }

    /// The queue's name, as in metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores the items, in order; returns when they are on stable storage. All of them or none.
    pub async fn append(&self, items: &[T]) -> Result<(), QueueError> {
        let mut records = Vec::new();
        match self.layout {
            Layout::Batches => self.encode(items, &mut records)?,
            Layout::Singles => {
                for item in items {
                    self.encode(std::slice::from_ref(item), &mut records)?;
                }
            }
        }
        if records.is_empty() { Ok(()) } else { self.backend.append(records).await }
    }

    /// Stores items that were written already, in order; returns when they are on stable storage. All of them or none.
    /// Forms are put together in records of up to 1 MiB in plain; one that is larger has a record of its own.
    pub async fn append_forms(&self, forms: &[Form]) -> Result<(), QueueError> {
        let mut records = Vec::new();
        let mut rest = forms;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |form: &&Form| {
                bytes += form.bytes.len();
                bytes <= MAX_PLAIN
            };
            let (some, more) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let payload = self.with_scratch(|scratch| encode_forms(some, Record::MAX_BYTES, scratch));
            let payload = payload.map_err(|why| self.unfit(why))?;
            records.push(Record { items: some.iter().map(|form| form.items).sum(), payload });
            rest = more;
        }
        if records.is_empty() { Ok(()) } else { self.backend.append(records).await }
    }

    fn unfit(&self, why: Unfit) -> QueueError {
        let queue = self.name.to_string();
        match why {
            Unfit::TooLarge(bytes) => QueueError::TooLarge { queue, bytes, limit: Record::MAX_BYTES },
            Unfit::Broken(why) => QueueError::Storage { queue, why: format!("cannot encode: {why}") },
        }
    }

    /// Encodes `items` as one record, or as two halves when one would be too large.
    fn encode(&self, items: &[T], records: &mut Vec<Record>) -> Result<(), QueueError> {
        if items.is_empty() {
            return Ok(());
        }
        match self.with_scratch(|scratch| encode_with(items, Record::MAX_BYTES, scratch)) {
            Ok(payload) => {
                records.push(Record { items: u32::try_from(items.len()).unwrap_or(u32::MAX), payload });
                return Ok(());
            }
            Err(Unfit::TooLarge(_)) if items.len() > 1 => {}
            Err(why) => return Err(self.unfit(why)),
        }
        let (left, right) = items.split_at(items.len() / 2);
        self.encode(left, records)?;
        self.encode(right, records)
    }

    /// Up to `max` due records, oldest first; waits up to `wait` for the first.
    pub async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Leased<T>>, QueueError> {
        let leases = self.backend.lease(max, wait).await?;
        Ok(leases.into_iter().map(|lease| self.decode(lease)).collect())
    }

    /// Up to `max` waiting records from `from` on, without leasing them.
    pub async fn peek(&self, from: Seq, max: usize) -> Result<Vec<Leased<T>>, QueueError> {
        let leases = self.backend.peek(from, max).await?;
        Ok(leases.into_iter().map(|lease| self.decode(lease)).collect())
    }

    /// Leases these records, if they wait and nobody has them.
    pub async fn claim(&self, seqs: &[Seq]) -> Result<Vec<Leased<T>>, QueueError> {
        let leases = self.backend.claim(seqs).await?;
        Ok(leases.into_iter().map(|lease| self.decode(lease)).collect())
    }

    fn decode(&self, lease: super::Lease) -> Leased<T> {
        let items = self.with_scratch(|scratch| decode_with(lease.payload, scratch));
        Leased { seq: lease.seq, attempt: lease.attempt, items }
    }

    /// Forgets leased records.
    pub async fn ack(&self, seqs: &[Seq]) -> Result<(), QueueError> {
        self.backend.ack(seqs).await
    }

    /// Gives leased records back, due again after `delay`.
    pub async fn release(&self, seqs: &[Seq], delay: Duration) -> Result<(), QueueError> {
        self.backend.release(seqs, delay).await
    }

    /// How much waits; O(1).
    pub fn depth(&self) -> Depth {
        self.backend.depth()
    }

    /// What went wrong with the storage since the start, oldest first.
    pub fn faults(&self) -> Vec<Fault> {
        self.backend.faults()
    }

    /// Finishes what is under way and syncs.
    pub async fn close(&self) -> Result<(), QueueError> {
        self.backend.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::MemoryBackend;

    /// Text that does not compress.
    fn noise(bytes: usize) -> String {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..bytes / 16).map(|_| format!("{:016x}", next())).collect()
    }

    #[tokio::test]
    async fn a_batch_is_one_record_and_as_many_as_needed_when_it_is_too_large() {
        let queue = Queue::of_batches("test", Arc::new(MemoryBackend::new("test")));
        queue.append(&["a".to_owned(), "b".to_owned()]).await.unwrap();
        queue.append(&[]).await.unwrap();
        assert_eq!((queue.depth().records, queue.depth().items), (1, 2));

        let large = Queue::of_batches("test", Arc::new(MemoryBackend::new("test")));
        let items: Vec<String> = (0..8).map(|_| noise(800_000)).collect();
        large.append(&items).await.unwrap();
        assert!(large.depth().records >= 3 && large.depth().items == 8, "{:?}", large.depth());
        let leased = large.lease(10, Duration::ZERO).await.unwrap();
        let back: Vec<String> = leased.into_iter().flat_map(|leased| leased.items.unwrap()).collect();
        assert_eq!(back, items);
    }

    #[tokio::test]
    async fn one_item_that_is_too_large_refuses_the_whole_append() {
        let queue = Queue::of_batches("test", Arc::new(MemoryBackend::new("test")));
        let error = queue.append(&["1".to_owned(), noise(4 << 20)]).await.unwrap_err();
        assert!(matches!(error, QueueError::TooLarge { .. }), "{error}");
        assert_eq!(queue.depth(), Depth::default());
    }

    #[tokio::test]
    async fn singles_are_settled_each_on_its_own() {
        let queue = Queue::of_singles("test", Arc::new(MemoryBackend::new("test")));
        queue.append(&["1", "2", "3"].map(str::to_owned)).await.unwrap();
        let leased = queue.lease(10, Duration::ZERO).await.unwrap();
        queue.ack(&[leased[1].seq]).await.unwrap();
        queue.release(&[leased[0].seq], Duration::ZERO).await.unwrap();
        assert_eq!(queue.depth().items, 2);
        let again = queue.lease(10, Duration::ZERO).await.unwrap();
        assert_eq!((again.len(), again[0].attempt, again[0].items.clone()), (1, 2, Ok(vec!["1".to_owned()])));
    }
}
