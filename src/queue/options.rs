//! How large the queues' pieces are. Fixed while a queue is open; none of it changes what is already on disk.

use crate::clock::Clock;

/// Settings of the embedded queues.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Appends answer `Full` when the file system has less free than this: the audit, the logs and the queue's own
    /// housekeeping need room too. 64 MiB by default.
    pub reserve_free_bytes: u64,
    /// Items after which a queue begins a new generation. 500,000 by default: with a thousand items a record such a
    /// directory is deleted in a few milliseconds once it is drained.
    pub generation_items: u64,
    /// Payload bytes after which the event queue begins a new generation. 64 MiB by default: sled may keep all of an open
    /// generation in memory, and two are open.
    pub log_generation_bytes: u64,
    /// Payload bytes after which an outbox or dead letter queue begins a new generation. 32 MiB by default: these hold
    /// records that come out of order, so smaller pieces give space back sooner, and up to four are open.
    pub work_generation_bytes: u64,
    /// Bytes of committed records kept in memory for the consumer, so that it need not read them back from the disk.
    /// 32 MiB by default; the same again may be held for one read from the disk.
    pub handoff_bytes: usize,
    /// Bytes kept in a file that is removed when the queues are opened on a full disk, because sled cannot open there.
    /// 32 MiB by default, two segments for each of two queues.
    pub ballast_bytes: u64,
    /// Where due times come from.
    pub clock: Clock,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            reserve_free_bytes: 64 << 20,
            generation_items: 500_000,
            log_generation_bytes: 64 << 20,
            work_generation_bytes: 32 << 20,
            handoff_bytes: 32 << 20,
            ballast_bytes: 32 << 20,
            clock: Clock::system(),
        }
    }
}
