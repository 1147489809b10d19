//! The way of one connection: read, cut into frames, parse, have committed. Any stream of bytes will do.
//!
//! While one batch is being committed the next one is read; a connection that is ahead of the disk is simply not read
//! from, which slows its sender down. Nothing is dropped for want of room: refused events are kept and tried again until
//! the process stops. In a crash the sender loses what it had sent and we had not committed, since syslog over a stream
//! has no acknowledgement.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::frame::{Frame, Framer};
use super::parse::{ParseOptions, parse, whole_characters};
use crate::ingest::{Intake, ListenerContext, Refusal, Refused};
use crate::model::{Event, Flag, Protocol, Source, Timestamp};
use crate::telemetry::metrics::SYSLOG_CONNECTIONS;

/// Events in one batch, at most: as many as the intake puts into one record.
const BATCH_EVENTS: usize = 1_024;
/// Bytes of text in one batch, at most. With the events' own size a batch takes about a megabyte.
const BATCH_BYTES: usize = 256 << 10;
/// What a syslog line takes, usually.
const USUAL_LINE_BYTES: usize = 160;
/// Connections that may hold batches at once, two each: bounds the memory of all connections to some 128 MiB, however
/// many there are. Others wait without parsing; what they sent stays in their sockets.
const BUSY_CONNECTIONS: usize = 64;

/// Pause before refused events are offered again: short enough to go unnoticed, growing so that a full disk is not
/// hammered.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long refused events are still offered once the process stops, which has 10 s for all of it.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// When stopping, what is already in the socket is still read: up to so many bytes, until nothing comes for so long.
const DRAIN_BYTES: usize = 256 << 10;
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// What all connections of one listener share.
pub struct Streams {
    context: ListenerContext,
    protocol: Protocol,
    busy: Arc<Semaphore>,
    /// Whether the intake refuses at present: refusals are logged on change, not by each connection.
    refused: AtomicBool,
    /// When refused events are given up; set once the process stops, the same for all connections and batches.
    give_up_at: OnceLock<Instant>,
}

/// Parsed events on their way to the intake.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }
}

/// Keeps the gauge of open connections right, however a connection ends.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!(SYSLOG_CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(SYSLOG_CONNECTIONS).decrement(1.0);
    }
}

impl Streams {
    /// For the connections of a listener that speaks `protocol`.
    pub fn new(context: ListenerContext, protocol: Protocol) -> Self {
        let busy = Arc::new(Semaphore::new(BUSY_CONNECTIONS));
        Self { context, protocol, busy, refused: AtomicBool::new(false), give_up_at: OnceLock::new() }
    }

    /// Serves one connection until it ends, falls silent for too long, or the listener is stopped; whatever was read is
    /// committed first.
    pub async fn serve<R: AsyncRead + Unpin>(&self, mut reader: R, peer: IpAddr) {
        let _counted = Counted::new();
        let source = Source { protocol: self.protocol, peer: peer.to_canonical() };
        let mut framer = Framer::new(self.context.settings.get().max_message_bytes);
        let mut gathered = Batch::default();
        // Held from the first byte of work to the last commit; while it is waited for, nothing is under way.
        let mut permit = None;
        let mut delivery = None;
        let mut open = true;
        loop {
            self.gather(&mut framer, &mut gathered, source, open);
            if delivery.is_none() && !gathered.events.is_empty() {
                let batch = std::mem::take(&mut gathered);
                delivery = Some(Box::pin(self.deliver(batch.events)));
            }
            if delivery.is_none() {
                permit = None;
                if !open {
                    return;
                }
            }
            let read_more = open && !gathered.is_full();
            tokio::select! {
                () = finish(&mut delivery), if delivery.is_some() => delivery = None,
                bytes = self.read(&mut reader, &mut framer), if read_more => {
                    open = bytes > 0;
                    self.become_busy(&mut permit).await;
                }
                () = self.context.stop.cancelled(), if open => {
                    self.become_busy(&mut permit).await;
                    drain(&mut reader, &mut framer).await;
                    open = false;
                }
            }
        }
    }

    /// Waits for a place among the busy connections, unless this one has it.
    async fn become_busy(&self, permit: &mut Option<OwnedSemaphorePermit>) {
        if permit.is_none() {
            *permit = Arc::clone(&self.busy).acquire_owned().await.ok();
        }
    }

    /// Turns buffered frames into events until the batch is full.
    fn gather(&self, framer: &mut Framer, batch: &mut Batch, source: Source, open: bool) {
        let settings = self.context.settings.get();
        let now = self.context.clock.now();
        let options = ParseOptions::new(settings.device_zone, now, settings.max_message_bytes);
        if batch.events.capacity() == 0 {
            // Growing step by step would copy a full batch twice over.
            batch.events.reserve((framer.buffered() / USUAL_LINE_BYTES).min(BATCH_EVENTS));
        }
        while !batch.is_full() {
            if let Some(frame) = framer.next_frame() {
                self.take(&frame, batch, source, now, &options);
                continue;
            }
            let last = if open { None } else { framer.last_frame() };
            let Some(frame) = last else { return };
            self.take(&frame, batch, source, now, &options);
        }
    }

    fn take(&self, frame: &Frame<'_>, batch: &mut Batch, source: Source, now: Timestamp, options: &ParseOptions) {
        let bytes = if frame.cut { whole_characters(frame.bytes) } else { frame.bytes };
        let event = Event::new(self.context.ids.next(now), now, source);
        let Some(mut event) = parse(bytes, event, options) else { return };
        if frame.cut && !event.has(Flag::Truncated) {
            event.flags.push(Flag::Truncated);
        }
        batch.bytes += bytes.len();
        batch.events.push(event);
    }

    /// Reads once; 0 when the connection is over, for whatever reason.
    async fn read<R: AsyncRead + Unpin>(&self, reader: &mut R, framer: &mut Framer) -> usize {
        let idle = self.context.settings.get().idle_timeout;
        let bytes = match timeout(idle, reader.read_buf(framer.room())).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                // Devices reboot and links fail: nothing an operator must act on.
                tracing::debug!(listener.protocol = %self.protocol, "Syslog connection broke off: {error}");
                0
            }
            Err(_) => {
                let idle_seconds = idle.as_secs();
                tracing::debug!(listener.protocol = %self.protocol, idle_seconds, "Idle syslog connection closed");
                0
            }
        };
        framer.note_read(bytes);
        bytes
    }

    /// Has the events committed. Refused ones are kept and offered again, in order; only a stopping process gives up.
    async fn deliver(&self, events: Vec<Event>) {
        // The last batch is the next one; a batch that is too large for a record, or for the whole
        // queue, is offered in halves.
        let mut waiting = vec![events];
        let mut pause = FIRST_PAUSE;
        while let Some(events) = waiting.pop() {
            let count = events.len();
            let Err(Refused { mut events, refusal }) = self.context.intake.submit(events).await else {
                self.note_accepted();
                pause = FIRST_PAUSE;
                continue;
            };
            if refusal.needs_parts(events.len()) {
                waiting.push(events.split_off(events.len() / 2));
                waiting.push(events);
                continue;
            }
            let stopping = self.context.stop.is_cancelled();
            let late = stopping && Instant::now() >= *self.give_up_at.get_or_init(|| Instant::now() + STOP_GRACE);
            let hopeless = events.is_empty() || matches!(refusal, Refusal::TooLarge(_) | Refusal::Stopping);
            if late || hopeless {
                tracing::warn!(events = count, listener.protocol = %self.protocol, "Syslog events dropped: {refusal}");
                Intake::count_dropped(self.protocol, refusal.reason(), u64::try_from(count).unwrap_or(u64::MAX));
                continue;
            }
            self.note_refused(&refusal);
            waiting.push(events);
            sleep(pause).await;
            pause = if stopping { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
    }

    fn note_refused(&self, refusal: &Refusal) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                listener.protocol = %self.protocol,
                "Syslog connections are not read from for now, their senders wait: {refusal}"
            );
        }
    }

    fn note_accepted(&self) {
        if self.refused.load(Ordering::Relaxed) && self.refused.swap(false, Ordering::Relaxed) {
            tracing::info!(listener.protocol = %self.protocol, "Syslog connections are read from again");
        }
    }
}

/// Polls the delivery under way; never called without one.
async fn finish<F: Future<Output = ()> + Unpin>(delivery: &mut Option<F>) {
    if let Some(delivery) = delivery {
        delivery.await;
    }
}

/// Reads what already arrived.
async fn drain<R: AsyncRead + Unpin>(reader: &mut R, framer: &mut Framer) {
    let mut total = 0;
    while total < DRAIN_BYTES {
        let read: Result<io::Result<usize>, _> = timeout(DRAIN_PAUSE, reader.read_buf(framer.room())).await;
        match read {
            Ok(Ok(bytes)) if bytes > 0 => {
                framer.note_read(bytes);
                total += bytes;
            }
            _ => return,
        }
    }
}
