//! The trap listener: one task that reads the socket, and short-lived ones that answer informs.
//!
//! When the intake has no room the task waits, the kernel's receive buffer takes up the slack, and what that cannot hold
//! is counted as kernel drops. No datagram and no socket error ends the task. A crash loses traps that were received and
//! not yet committed, as UDP allows; an inform is repeated by its sender until it is answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::community::is_accepted;
use super::drops;
use super::event::fill;
use super::informs::{InformKey, RecentInforms, Seen};
use super::message::{Kind, NoMessage, decode};
use crate::ingest::{DropReason, Intake, ListenerContext, Secrets};
use crate::model::{Event, Protocol, Source, Timestamp};
use crate::net::{BindError, Strangers, Transport, bind_udp, resize_receive_buffer};
use crate::telemetry::{ListenerHandle, ListenerState};

/// The listener's name on the board and in metrics.
const NAME: &str = "snmp";

/// Datagrams taken before the intake gets them: some 200 microseconds of work, short for the thread's other tasks.
const BATCH: usize = 64;
/// Receive buffer in bytes: no UDP datagram over IPv4 or IPv6 is larger.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Batches of informs waiting for the disk at once; beyond that the listener waits, as for traps.
const ANSWERS_AT_ONCE: usize = 64;
/// Pause after a socket error, so that a lasting one does not take a whole core.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How often the kernel's drops are looked up.
const DROPS_EVERY: Duration = Duration::from_secs(1);
/// Batches still read after the stop: more than the default receive buffer holds, and an end even under steady fire.
const DRAIN_BATCHES: usize = 1_024;
/// Silence after which the socket counts as empty at the stop.
const DRAIN_PATIENCE: Duration = Duration::from_millis(20);
/// Time for informs under way when the listener stops.
const ANSWER_DRAIN: Duration = Duration::from_secs(2);

/// Binds `address` and receives traps and informs until the context's release token is cancelled; what is in the socket by
/// then is still taken. Must be called within a tokio runtime.
pub fn start(context: &ListenerContext, address: SocketAddr) -> Result<JoinHandle<()>, BindError> {
    let wanted = context.settings.get().receive_buffer_bytes;
    let (socket, local, granted) = bind(address, wanted).inspect_err(|error| {
        context.board.register(NAME, ListenerState::Failed(error.explain()));
    })?;
    let line = context.board.register(NAME, ListenerState::Listening(local));
    line.set_receive_buffer(granted as u64);
    tracing::info!(listener.address = %local, buffer_bytes = granted, "SNMP traps are received on {local}");
    if granted < wanted {
        tracing::warn!(
            buffer_bytes = granted,
            "The kernel granted the trap listener a receive buffer of {granted} bytes, not {wanted}: bursts may be lost; \
             raise net.core.rmem_max or grant CAP_NET_ADMIN"
        );
    }
    let drops = tokio::spawn(count_drops(drops::inode_of(&socket), line.clone(), context.release.clone()));
    let listener = Listener {
        socket: Arc::new(socket),
        context: context.clone(),
        line,
        strangers: Strangers::default(),
        informs: Arc::default(),
        slots: Arc::new(Semaphore::new(ANSWERS_AT_ONCE)),
        answers: TaskTracker::new(),
        wanted,
        failing: None,
    };
    Ok(tokio::spawn(async move {
        listener.run().await;
        // It ends with the stop token; a panic in it has been logged and costs only the count.
        drop(drops.await);
    }))
}

fn bind(address: SocketAddr, receive_buffer: usize) -> Result<(UdpSocket, SocketAddr, usize), BindError> {
    let (socket, granted) = bind_udp(address, receive_buffer)?;
    let prepare = || {
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let local = socket.local_addr()?;
        Ok((socket, local, granted))
    };
    prepare().map_err(|source| BindError::System { transport: Transport::Udp, address, source })
}

/// Adds the kernel's drops to the board and the metrics as they grow.
async fn count_drops(inode: Option<u64>, line: ListenerHandle, stop: tokio_util::sync::CancellationToken) {
    let Some(inode) = inode else { return };
    let mut known = 0;
    loop {
        let stopped = tokio::time::timeout(DROPS_EVERY, stop.cancelled()).await.is_ok();
        let dropped = tokio::task::spawn_blocking(move || drops::dropped(inode)).await;
        // Without a line in the table there is nothing to count; a restarted count would show as less and is skipped.
        if let Ok(Some(dropped)) = dropped
            && dropped > known
        {
            line.count_kernel_drops(dropped - known);
            known = dropped;
        }
        if stopped {
            return;
        }
    }
}

/// What one batch of datagrams holds.
#[derive(Default)]
struct Batch {
    received: u64,
    traps: Vec<Event>,
    informs: Vec<Inform>,
    /// Answers to repetitions of informs that are stored already.
    repeats: Vec<(SocketAddr, Vec<u8>)>,
}

/// An inform that is to be stored and then answered.
struct Inform {
    event: Event,
    key: InformKey,
    peer: SocketAddr,
    answer: Vec<u8>,
}

struct Listener {
    socket: Arc<UdpSocket>,
    context: ListenerContext,
    line: ListenerHandle,
    strangers: Strangers,
    informs: Arc<Mutex<RecentInforms>>,
    slots: Arc<Semaphore>,
    answers: TaskTracker,
    /// The receive buffer that was asked for, in bytes.
    wanted: usize,
    /// The kind of the last socket error while errors go on, so that each is logged once.
    failing: Option<io::ErrorKind>,
}

impl Listener {
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let stop = self.context.release.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ready = self.socket.readable() => {
                    let result = match ready {
                        Ok(()) => self.take_batch(&mut buffer).await,
                        Err(error) => Err(error),
                    };
                    self.note_health(result).await;
                }
            }
        }
        self.drain(&mut buffer).await;
        self.answers.close();
        // Senders whose answer is cut off repeat their inform to the next process.
        drop(tokio::time::timeout(ANSWER_DRAIN, self.answers.wait()).await);
    }

    /// Takes what is in the receive buffer when the listener is stopped. The socket is asked with a little patience,
    /// because tokio may not have been told yet what has arrived.
    async fn drain(&mut self, buffer: &mut [u8]) {
        for _ in 0..DRAIN_BATCHES {
            let ready = tokio::time::timeout(DRAIN_PATIENCE, self.socket.readable()).await;
            if !matches!(ready, Ok(Ok(()))) || self.take_batch(buffer).await.is_err() {
                return;
            }
        }
    }

    /// Asks for another receive buffer when the settings want one.
    fn fit_buffer(&mut self) {
        let wanted = self.context.settings.get().receive_buffer_bytes;
        if wanted != std::mem::replace(&mut self.wanted, wanted) {
            self.line.set_receive_buffer(resize_receive_buffer(&*self.socket, wanted) as u64);
        }
    }

    async fn note_health(&mut self, result: io::Result<u64>) {
        match result {
            Ok(_) => self.failing = None,
            Err(error) => {
                if self.failing.replace(error.kind()) != Some(error.kind()) {
                    tracing::error!("SNMP datagrams cannot be read, trying again: {error}");
                }
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// Reads up to [`BATCH`] datagrams that are there and hands on what they hold; says how many they were.
    async fn take_batch(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        self.fit_buffer();
        let mut batch = Batch::default();
        let secrets = self.context.secrets.get();
        let now = self.context.clock.now();
        let mut result = Ok(());
        while batch.received < BATCH as u64 {
            match self.socket.try_recv_from(buffer) {
                Ok((length, peer)) => {
                    batch.received += 1;
                    self.take(&buffer[..length], peer, now, &secrets, &mut batch);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let received = batch.received;
        self.line.count_received(received);
        self.hand_over(batch).await;
        result.map(|()| received)
    }

    /// One datagram: into the batch, or counted as dropped.
    fn take(&mut self, datagram: &[u8], peer: SocketAddr, now: Timestamp, secrets: &Secrets, batch: &mut Batch) {
        let address = peer.ip().to_canonical();
        let message = match decode(datagram) {
            Ok(message) => message,
            Err(error) => return drop_one(error.reason(), peer, error),
        };
        if !is_accepted(message.community, &secrets.communities) {
            Intake::count_dropped(Protocol::SnmpTrap, DropReason::BadCommunity, 1);
            if self.strangers.mention(address, Instant::now()) {
                tracing::warn!(%peer, "An SNMP message from {address} has an unknown community and was dropped");
            }
            return;
        }
        let source = Source { protocol: Protocol::SnmpTrap, peer: address };
        let mut event = Event::new(self.context.ids.next(now), now, source);
        if let Err(error) = fill(&mut event, &message) {
            let error = NoMessage::from(error);
            return drop_one(error.reason(), peer, error);
        }
        match message.kind {
            Kind::TrapV1(_) | Kind::TrapV2 => batch.traps.push(event),
            Kind::Inform { answer } => match self.informs.lock().note(peer, datagram, Instant::now()) {
                (key, Seen::New) => batch.informs.push(Inform { event, key, peer, answer }),
                (_, Seen::Waiting) => {}
                (_, Seen::Stored) => batch.repeats.push((peer, answer)),
            },
        }
    }

    async fn hand_over(&self, batch: Batch) {
        for (peer, answer) in batch.repeats {
            send(&self.socket, peer, &answer).await;
        }
        self.context.intake.offer(batch.traps).await;
        if batch.informs.is_empty() {
            return;
        }
        // The semaphore is never closed; if it were, answering without a slot would only be less bounded.
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let (socket, intake, informs) =
            (Arc::clone(&self.socket), self.context.intake.clone(), Arc::clone(&self.informs));
        self.answers.spawn(async move {
            store_and_answer(&socket, &intake, &informs, batch.informs).await;
            drop(slot);
        });
    }
}

/// Answers informs once their events are on stable storage. Refused ones stay unanswered and may come again.
async fn store_and_answer(socket: &UdpSocket, intake: &Intake, recent: &Mutex<RecentInforms>, informs: Vec<Inform>) {
    let mut events = Vec::with_capacity(informs.len());
    let mut waiting = Vec::with_capacity(informs.len());
    for Inform { event, key, peer, answer } in informs {
        events.push(event);
        waiting.push((key, peer, answer));
    }
    let count = events.len() as u64;
    if let Err(refused) = intake.submit(events).await {
        Intake::count_dropped(Protocol::SnmpTrap, refused.refusal.reason(), count);
        let mut recent = recent.lock();
        waiting.iter().for_each(|(key, _, _)| recent.forget(*key));
        return;
    }
    for (key, peer, answer) in waiting {
        recent.lock().stored(key);
        send(socket, peer, &answer).await;
    }
}

/// A response that cannot be sent is one more that the network lost: the sender repeats its inform.
async fn send(socket: &UdpSocket, peer: SocketAddr, answer: &[u8]) {
    if let Err(error) = socket.send_to(answer, peer).await {
        tracing::debug!(%peer, "An inform was not answered: {error}");
    }
}

fn drop_one(reason: DropReason, peer: SocketAddr, error: NoMessage) {
    Intake::count_dropped(Protocol::SnmpTrap, reason, 1);
    tracing::debug!(%peer, "An SNMP datagram was dropped: {error}");
}
