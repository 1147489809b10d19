//! Every listener of the process: where each is to listen, what runs now, and how one moves to another address while the
//! others go on.
//!
//! A move never drops what is open: the old socket takes no more, its connections go on until they end or the process
//! stops. An address that cannot be had is found out beforehand ([`Listeners::prepare`]), and then nothing moves. Keeps
//! nothing: after a crash the next start binds what is configured.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Listen;
use crate::net::{self, BindError, Holder, Transport};
use crate::telemetry::ListenerBoard;

/// Looks whether an address is free after its old listener was told to let go, and the pause between them: a listener lets
/// go within 100 ms.
const LOOKS: u32 = 40;
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Starts a listener at an address; the token makes it let go of its socket.
pub(super) type Start = Box<dyn Fn(SocketAddr, CancellationToken) -> JoinHandle<()> + Send + Sync>;

/// One listener: what it is called and how it is started.
pub(super) struct Slot {
    /// Its name on the board.
    pub(super) name: &'static str,
    /// What it is bound as.
    pub(super) transport: Transport,
    /// Where the configuration wants it.
    pub(super) wanted: fn(&Listen) -> Option<SocketAddr>,
    /// Stops it with all of its connections.
    pub(super) stop: CancellationToken,
    /// Starts it.
    pub(super) start: Start,
}

/// A listener that is to be elsewhere.
struct Move {
    slot: usize,
    to: Option<SocketAddr>,
    /// The address is held by a listener of our own that has to let go first.
    later: bool,
}

/// What [`Listeners::prepare`] found, for [`Listeners::commit`].
pub(super) struct Moves(Vec<Move>);

/// All listeners.
pub(super) struct Listeners {
    slots: Vec<Slot>,
    state: Mutex<State>,
    board: ListenerBoard,
}

#[derive(Default)]
struct State {
    /// Where each slot is, in their order.
    at: Vec<Option<SocketAddr>>,
    /// What makes each let go of its socket.
    release: Vec<CancellationToken>,
    /// Every task with the slot it belongs to; those that have let go end with their last connection.
    tasks: Vec<(usize, JoinHandle<()>)>,
}

impl Listeners {
    /// Starts every slot where `listen` wants it. Must be called within a runtime.
    pub(super) fn start(slots: Vec<Slot>, listen: &Listen, board: ListenerBoard) -> Self {
        let mut state = State::default();
        for (index, slot) in slots.iter().enumerate() {
            let (address, release) = ((slot.wanted)(listen), slot.stop.child_token());
            state.tasks.extend(address.map(|address| (index, (slot.start)(address, release.clone()))));
            state.at.push(address);
            state.release.push(release);
        }
        Self { slots, state: Mutex::new(state), board }
    }

    /// Which listeners `listen` wants elsewhere; the error names an address that cannot be had and says what to do. Binds
    /// each new address for a moment, so it may block.
    pub(super) fn prepare(&self, listen: &Listen) -> Result<Moves, String> {
        let at = self.state.lock().at.clone();
        let mut moves = Vec::new();
        for (index, (slot, at)) in self.slots.iter().zip(at).enumerate() {
            let to = (slot.wanted)(listen);
            if to == at {
                continue;
            }
            let later = match to.map_or(Ok(()), |address| look(slot.transport, address)) {
                Ok(()) => false,
                Err(BindError::InUse { holder: Holder::Ourselves { .. }, .. }) => true,
                Err(error) => return Err(error.explain()),
            };
            moves.push(Move { slot: index, to, later });
        }
        Ok(Moves(moves))
    }

    /// Moves them. Must be called within a runtime.
    pub(super) fn commit(&self, moves: Moves) {
        let mut state = self.state.lock();
        state.tasks.retain(|(_, task)| !task.is_finished());
        // All let go before any binds, so that two may change places.
        for Move { slot, .. } in &moves.0 {
            let fresh = self.slots[*slot].stop.child_token();
            std::mem::replace(&mut state.release[*slot], fresh).cancel();
        }
        for Move { slot, to, later } in moves.0 {
            let listener = &self.slots[slot];
            state.at[slot] = to;
            match to {
                Some(address) => {
                    tracing::info!(listener = listener.name, %address, "A listener moves to another address");
                    let release = state.release[slot].clone();
                    if later {
                        wait_until_free(listener.transport, address);
                    }
                    state.tasks.push((slot, (listener.start)(address, release)));
                }
                None => {
                    tracing::info!(listener = listener.name, "A listener was switched off");
                    self.board.remove(listener.name);
                }
            }
        }
    }

    /// The running tasks of the slots that `stop` ends, to be waited for.
    pub(super) fn take_tasks(&self, names: &[&str]) -> Vec<JoinHandle<()>> {
        let mut state = self.state.lock();
        let tasks = std::mem::take(&mut state.tasks);
        let (taken, left) = tasks.into_iter().partition(|(slot, _)| names.contains(&self.slots[*slot].name));
        state.tasks = left;
        let taken: Vec<(usize, JoinHandle<()>)> = taken;
        taken.into_iter().map(|(_, task)| task).collect()
    }
}

/// Whether an address can be bound now.
fn look(transport: Transport, address: SocketAddr) -> Result<(), BindError> {
    match transport {
        // The kernel's smallest buffer: nothing is received here.
        Transport::Udp => net::bind_udp(address, 4_096).map(drop),
        Transport::Tcp => net::bind_tcp(address).map(drop),
    }
}

/// Waits until a listener of our own has let go of an address, or for a second: then the start itself tries on.
fn wait_until_free(transport: Transport, address: SocketAddr) {
    for _ in 0..LOOKS {
        if look(transport, address).is_ok() {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
