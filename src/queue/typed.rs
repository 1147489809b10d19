//! The queue as stages see it: items in, leased batches of items out.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backend::{Backend, Depth, QueueError, Record, Seq};
use super::codec::{Undecodable, decode_items, encode_items};
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
    items: PhantomData<fn() -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            backend: Arc::clone(&self.backend),
            layout: self.layout,
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

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// A queue whose records are whole batches; they are leased and acked together.
    pub fn of_batches(name: &str, backend: Arc<dyn Backend>) -> Self {
        Self { name: name.into(), backend, layout: Layout::Batches, items: PhantomData }
    }

    /// A queue in which each item is leased and acked on its own.
    pub fn of_singles(name: &str, backend: Arc<dyn Backend>) -> Self {
        Self { name: name.into(), backend, layout: Layout::Singles, items: PhantomData }
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

    /// Encodes `items` as one record, or as two halves when one would be too large.
    fn encode(&self, items: &[T], records: &mut Vec<Record>) -> Result<(), QueueError> {
        if items.is_empty() {
            return Ok(());
        }
        let payload = encode_items(items).map_err(|error| QueueError::Storage {
            queue: self.name.to_string(),
            why: format!("cannot encode: {error}"),
        })?;
        if payload.len() <= Record::MAX_BYTES {
            records.push(Record { items: u32::try_from(items.len()).unwrap_or(u32::MAX), payload });
            return Ok(());
        }
        if items.len() == 1 {
            return Err(QueueError::TooLarge {
                queue: self.name.to_string(),
                bytes: payload.len(),
                limit: Record::MAX_BYTES,
            });
        }
        let (left, right) = items.split_at(items.len() / 2);
        self.encode(left, records)?;
        self.encode(right, records)
    }

    /// Up to `max` due records, oldest first; waits up to `wait` for the first.
    pub async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Leased<T>>, QueueError> {
        let leases = self.backend.lease(max, wait).await?;
        Ok(leases.into_iter().map(Self::decode).collect())
    }

    /// Up to `max` waiting records from `from` on, without leasing them.
    pub async fn peek(&self, from: Seq, max: usize) -> Result<Vec<Leased<T>>, QueueError> {
        let leases = self.backend.peek(from, max).await?;
        Ok(leases.into_iter().map(Self::decode).collect())
    }

    fn decode(lease: super::Lease) -> Leased<T> {
        Leased { seq: lease.seq, attempt: lease.attempt, items: decode_items(lease.payload) }
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
    fn noise(bytes: usize) -> Vec<u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..bytes / 10).map(|_| next() | 1 << 63).collect()
    }

    #[tokio::test]
    async fn a_batch_is_one_record_and_as_many_as_needed_when_it_is_too_large() {
        let queue = Queue::of_batches("test", Arc::new(MemoryBackend::new("test")));
        queue.append(&["a".to_owned(), "b".to_owned()]).await.unwrap();
        queue.append(&[]).await.unwrap();
        assert_eq!((queue.depth().records, queue.depth().items), (1, 2));

        let large = Queue::of_batches("test", Arc::new(MemoryBackend::new("test")));
        let items: Vec<Vec<u64>> = (0..8).map(|_| noise(400_000)).collect();
        large.append(&items).await.unwrap();
        assert!(large.depth().records >= 3 && large.depth().items == 8, "{:?}", large.depth());
        let leased = large.lease(10, Duration::ZERO).await.unwrap();
        let back: Vec<Vec<u64>> = leased.into_iter().flat_map(|leased| leased.items.unwrap()).collect();
        assert_eq!(back, items);
    }

    #[tokio::test]
    async fn one_item_that_is_too_large_refuses_the_whole_append() {
        let queue = Queue::of_batches("test", Arc::new(MemoryBackend::new("test")));
        let error = queue.append(&[vec![1], noise(2 << 20)]).await.unwrap_err();
        assert!(matches!(error, QueueError::TooLarge { .. }), "{error}");
        assert_eq!(queue.depth(), Depth::default());
    }

    #[tokio::test]
    async fn singles_are_settled_each_on_its_own() {
        let queue = Queue::of_singles("test", Arc::new(MemoryBackend::new("test")));
        queue.append(&[1, 2, 3]).await.unwrap();
        let leased = queue.lease(10, Duration::ZERO).await.unwrap();
        queue.ack(&[leased[1].seq]).await.unwrap();
        queue.release(&[leased[0].seq], Duration::ZERO).await.unwrap();
        assert_eq!(queue.depth().items, 2);
        let again = queue.lease(10, Duration::ZERO).await.unwrap();
        assert_eq!((again.len(), again[0].attempt, again[0].items.clone()), (1, 2, Ok(vec![1])));
    }
}
