//! How each listener is: bound or not, what it received and lost. Read by `/ready`, the pages and the metrics.
//!
//! A listener that is bound later registers again under its name and gets the line it had. Nothing here is kept: after a
//! crash counting starts anew.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::metrics::{KERNEL_DROPS, LISTENER_UP};

/// Whether a listener works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerState {
    /// Bound and receiving at this address.
    Listening(SocketAddr),
    /// Not bound; the text says which port, who holds it and what to do.
    Failed(String),
}

/// A listener as people see it.
#[derive(Debug, Clone)]
pub struct ListenerStatus {
    /// `syslog_udp`, `syslog_tcp`, `syslog_tls`, `snmp`, `ingest_http`, `web_http`.
    pub name: &'static str,
    /// Whether it works.
    pub state: ListenerState,
    /// Datagrams, connections or requests since the start.
    pub received: u64,
    /// Datagrams the kernel dropped since the start.
    pub kernel_drops: u64,
    /// Receive buffer the kernel granted, in bytes; 0 where it does not matter.
    pub receive_buffer: u64,
}

impl ListenerStatus {
    /// What an operator should do, if something should be done.
    pub fn hint(&self) -> Option<String> {
        match (&self.state, self.kernel_drops) {
            (ListenerState::Failed(_), _) => Some(format!("{} is tried again every few seconds.", self.name)),
            (_, 0) => None,
            (_, drops) => Some(format!(
                "The kernel dropped {drops} datagrams for {} because its receive buffer of {} bytes was full. Allow a \
                 larger one (sysctl -w net.core.rmem_max=33554432, kept in /etc/sysctl.d/; with CAP_NET_ADMIN the limit \
                 does not count), ask for it with receive_buffer_bytes under [syslog], and restart.",
                self.name, self.receive_buffer
            )),
        }
    }
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    state: Mutex<ListenerState>,
    received: AtomicU64,
    kernel_drops: AtomicU64,
    receive_buffer: AtomicU64,
}

/// All listeners of the process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ListenerBoard {
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

/// A listener's own line on the board.
#[derive(Debug, Clone)]
pub struct ListenerHandle {
    entry: Arc<Entry>,
}

impl ListenerBoard {
    /// Adds a line, or gives the one of this name its new state.
    pub fn register(&self, name: &'static str, state: ListenerState) -> ListenerHandle {
        metrics::gauge!(LISTENER_UP, "listener" => name).set(if matches!(state, ListenerState::Listening(_)) {
            1.0
        } else {
            0.0
        });
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.iter().find(|entry| entry.name == name) {
            *entry.state.lock() = state;
            return ListenerHandle { entry: Arc::clone(entry) };
        }
        let entry = Arc::new(Entry {
            name,
            state: Mutex::new(state),
            received: AtomicU64::new(0),
            kernel_drops: AtomicU64::new(0),
            receive_buffer: AtomicU64::new(0),
        });
        entries.push(Arc::clone(&entry));
        ListenerHandle { entry }
    }

    /// Takes a line away: its listener was switched off, which is no failure, so its gauge has no value any more.
    pub fn remove(&self, name: &str) {
        let mut entries = self.entries.lock();
        if let Some(index) = entries.iter().position(|entry| entry.name == name) {
            let entry = entries.remove(index);
            metrics::gauge!(LISTENER_UP, "listener" => entry.name).set(f64::NAN);
        }
    }

    /// Every line, in the order of registration.
    pub fn status(&self) -> Vec<ListenerStatus> {
        let entries = self.entries.lock();
        let lines = entries.iter().map(|entry| ListenerStatus {
            name: entry.name,
            state: entry.state.lock().clone(),
            received: entry.received.load(Ordering::Relaxed),
            kernel_drops: entry.kernel_drops.load(Ordering::Relaxed),
            receive_buffer: entry.receive_buffer.load(Ordering::Relaxed),
        });
        lines.collect()
    }

    /// Where a listener is bound, if it is.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.status().into_iter().find(|line| line.name == name).and_then(|line| match line.state {
            ListenerState::Listening(address) => Some(address),
            ListenerState::Failed(_) => None,
        })
    }
}

impl ListenerHandle {
    /// Counts datagrams, connections or requests.
    pub fn count_received(&self, more: u64) {
        self.entry.received.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts datagrams the kernel dropped.
    pub fn count_kernel_drops(&self, more: u64) {
        self.entry.kernel_drops.fetch_add(more, Ordering::Relaxed);
        metrics::counter!(KERNEL_DROPS, "listener" => self.entry.name).increment(more);
    }

    /// Notes the receive buffer the kernel granted.
    pub fn set_receive_buffer(&self, bytes: u64) {
        self.entry.receive_buffer.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_bound_later_keeps_its_line() {
        let board = ListenerBoard::default();
        board.register("snmp", ListenerState::Failed("the port is held".into())).count_received(2);
        assert_eq!(board.address("snmp"), None);
        let address = SocketAddr::from(([127, 0, 0, 1], 162));
        board.register("snmp", ListenerState::Listening(address)).count_received(1);
        let status = board.status();
        assert_eq!((status.len(), status[0].received, board.address("snmp")), (1, 3, Some(address)));
        board.remove("snmp");
        assert!(board.status().is_empty());
    }

    #[test]
    fn a_hint_says_what_to_do_and_only_then() {
        let board = ListenerBoard::default();
        let line = board.register("syslog_udp", ListenerState::Listening(SocketAddr::from(([127, 0, 0, 1], 514))));
        line.set_receive_buffer(212_992);
        assert_eq!(board.status()[0].hint(), None);
        line.count_kernel_drops(7);
        let hint = board.status()[0].hint().expect("a hint");
        for part in ["7 datagrams", "syslog_udp", "212992 bytes", "net.core.rmem_max", "CAP_NET_ADMIN"] {
            assert!(hint.contains(part), "{hint}");
        }
        board.register("syslog_udp", ListenerState::Failed("x".into()));
        assert!(board.status()[0].hint().expect("a hint").contains("tried again"));
    }
}
