//! How each delivery target is: what the pages, `/ready` and the metrics show of it, and the bell by which people reach
//! its forwarder.
//!
//! The forwarder writes, everyone else reads. Commands wait in a short queue; when it is full or the forwarder has
//! ended, the caller is told.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::metrics::{BREAKER_STATE, BREAKER_TRIPS, DIVERTING, MOOG_BREAKER_STATE, MOOG_BREAKER_TRIPS, TARGET_UP};
use crate::model::{Alert, TargetName, Timestamp};

/// The target whose breaker also has upstream's metrics, which know only one.
const UPSTREAM: &str = "moogsoft";
/// Commands that wait at once: each comes from a person.
const COMMANDS: usize = 8;

/// Whether a target is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything is sent.
    Closed,
    /// Nothing is sent for a while.
    Open,
    /// One alert is tried.
    HalfOpen,
}

impl BreakerState {
    /// The name used in the API and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A target as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// Its name.
    pub name: TargetName,
    /// What kind of receiver it is.
    pub kind: &'static str,
    /// Where it is, without user, password, path or query: a webhook's path may be its secret.
    pub address: String,
    /// Whether the last delivery was taken; `None` before the first.
    pub up: Option<bool>,
    /// When a delivery was taken last.
    pub last_success: Option<Timestamp>,
    /// What went wrong last, and when.
    pub last_error: Option<(Timestamp, String)>,
    /// Whether it is spoken to.
    pub breaker: BreakerState,
    /// Why it was left alone last, and since when.
    pub last_trip: Option<(Timestamp, String)>,
    /// When one alert is tried, while it is left alone.
    pub next_probe: Option<Timestamp>,
    /// Until when it asked for patience.
    pub held_until: Option<Timestamp>,
    /// The target that gets its alerts while it fails.
    pub diverted_to: Option<TargetName>,
    /// Alerts taken since the start.
    pub delivered: u64,
    /// Deliveries to be tried again since the start.
    pub retried: u64,
    /// Alerts given up since the start.
    pub dead: u64,
    /// Alerts handed to the fallback since the start.
    pub diverted: u64,
    /// How often it was left alone since the start.
    pub trips: u64,
}

/// What a person may ask of a forwarder.
#[derive(Debug)]
pub enum TargetCommand {
    /// Speak to the target again.
    Reset,
    /// Send this alert past the queue and tell what was answered.
    Test(Box<Alert>, oneshot::Sender<TestReport>),
}

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestReport {
    /// Whether the target took it.
    pub taken: bool,
    /// What it answered, or why there was no answer.
    pub answer: String,
    /// How long it took.
    pub took: Duration,
}

/// Why a command did not reach a forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoForwarder {
    /// No target has this name.
    #[error("there is no such target")]
    Unknown,
    /// It has as many commands as it can remember, or is stopping.
    #[error("the target's forwarder is busy; try again in a moment")]
    Busy,
}

#[derive(Debug)]
struct Line {
    status: Mutex<TargetStatus>,
    commands: mpsc::Sender<TargetCommand>,
}

/// All targets of the process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct TargetBoard {
    lines: Arc<Mutex<Vec<Arc<Line>>>>,
}

/// A target's own line on the board.
#[derive(Debug, Clone)]
pub struct TargetHandle {
    line: Arc<Line>,
}

impl TargetBoard {
    /// Adds a line; the receiver is where its commands arrive.
    pub fn register(
        &self,
        name: TargetName,
        kind: &'static str,
        address: String,
    ) -> (TargetHandle, mpsc::Receiver<TargetCommand>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let status = TargetStatus {
            name,
            kind,
            address,
            up: None,
            last_success: None,
            last_error: None,
            breaker: BreakerState::Closed,
            last_trip: None,
            next_probe: None,
            held_until: None,
            diverted_to: None,
            delivered: 0,
            retried: 0,
            dead: 0,
            diverted: 0,
            trips: 0,
        };
        publish_breaker(&status);
        let line = Arc::new(Line { status: Mutex::new(status), commands });
        self.lines.lock().push(Arc::clone(&line));
        (TargetHandle { line }, receiver)
    }

    /// Takes a line away: its target is not configured any more.
    pub fn remove(&self, name: &TargetName) {
        self.lines.lock().retain(|line| line.status.lock().name != *name);
    }

    /// Every line, in the order of registration.
    pub fn status(&self) -> Vec<TargetStatus> {
        self.lines.lock().iter().map(|line| line.status.lock().clone()).collect()
    }

    /// Hands a command to a target's forwarder.
    pub fn command(&self, name: &TargetName, command: TargetCommand) -> Result<(), NoForwarder> {
        let line = self.lines.lock().iter().find(|line| line.status.lock().name == *name).map(Arc::clone);
        line.ok_or(NoForwarder::Unknown)?.commands.try_send(command).map_err(|_| NoForwarder::Busy)
    }
}

impl TargetHandle {
    /// Where the target is now; its address may change at run time.
    pub fn set_address(&self, address: String) {
        self.line.status.lock().address = address;
    }

    /// Nothing is sent, and why: something is not configured. Not counted as a failure of the target.
    pub fn waiting(&self, at: Timestamp, why: &str) {
        let mut status = self.line.status.lock();
        status.up = None;
        status.last_error = Some((at, why.to_owned()));
    }

    /// The target took alerts.
    pub fn delivered(&self, at: Timestamp, alerts: u64) {
        let mut status = self.line.status.lock();
        status.up = Some(true);
        status.last_success = Some(at);
        status.delivered += alerts;
        metrics::gauge!(TARGET_UP, "target" => status.name.to_string()).set(1.0);
    }

    /// The target failed; alerts will be tried again.
    pub fn retrying(&self, at: Timestamp, why: &str) {
        let mut status = self.line.status.lock();
        status.retried += 1;
        failed(&mut status, at, why);
    }

    /// An alert was given up.
    pub fn dead(&self, at: Timestamp, why: &str) {
        let mut status = self.line.status.lock();
        status.dead += 1;
        failed(&mut status, at, why);
    }

    /// The target is left alone because of failures.
    pub fn tripped(&self, at: Timestamp, why: &str, next_probe: Timestamp) {
        let mut status = self.line.status.lock();
        status.trips += 1;
        status.last_trip = Some((at, why.to_owned()));
        status.breaker = BreakerState::Open;
        status.next_probe = Some(next_probe);
        metrics::counter!(BREAKER_TRIPS, "target" => status.name.to_string()).increment(1);
        if status.name.as_str() == UPSTREAM {
            metrics::counter!(MOOG_BREAKER_TRIPS).increment(1);
        }
        publish_breaker(&status);
    }

    /// The breaker changed otherwise; `next_probe` belongs to an open one.
    pub fn breaker(&self, state: BreakerState, next_probe: Option<Timestamp>) {
        let mut status = self.line.status.lock();
        status.breaker = state;
        status.next_probe = next_probe;
        publish_breaker(&status);
    }

    /// The target asked for patience until then, or no longer does.
    pub fn held(&self, until: Option<Timestamp>) {
        self.line.status.lock().held_until = until;
    }

    /// Its alerts go to another target, or no longer do; true if that is news.
    pub fn diverting(&self, to: Option<&TargetName>) -> bool {
        let mut status = self.line.status.lock();
        let news = status.diverted_to.as_ref() != to;
        if news {
            status.diverted_to = to.cloned();
            metrics::gauge!(DIVERTING, "target" => status.name.to_string()).set(f64::from(u8::from(to.is_some())));
        }
        news
    }

    /// Alerts were handed to the fallback.
    pub fn diverted(&self, alerts: u64) {
        self.line.status.lock().diverted += alerts;
    }
}

/// 1 while nothing or only a trial is sent, as upstream has it.
fn publish_breaker(status: &TargetStatus) {
    let open = if status.breaker == BreakerState::Closed { 0.0 } else { 1.0 };
    metrics::gauge!(BREAKER_STATE, "target" => status.name.to_string()).set(open);
    if status.name.as_str() == UPSTREAM {
        metrics::gauge!(MOOG_BREAKER_STATE).set(open);
        // Present from the start, so that a dashboard shows 0 and not "no data".
        metrics::counter!(MOOG_BREAKER_TRIPS).increment(0);
    }
}

fn failed(status: &mut TargetStatus, at: Timestamp, why: &str) {
    status.up = Some(false);
    status.last_error = Some((at, why.to_owned()));
    metrics::gauge!(TARGET_UP, "target" => status.name.to_string()).set(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_reach_their_target_and_are_bounded() {
        let board = TargetBoard::default();
        let name = |text: &str| TargetName::new(text).expect("a name");
        let (_handle, mut commands) = board.register(name("chat"), "slack", String::new());
        assert_eq!(board.command(&name("mail"), TargetCommand::Reset), Err(NoForwarder::Unknown));
        for _ in 0..COMMANDS {
            board.command(&name("chat"), TargetCommand::Reset).expect("room");
        }
        assert_eq!(board.command(&name("chat"), TargetCommand::Reset), Err(NoForwarder::Busy));
        assert!(matches!(commands.try_recv(), Ok(TargetCommand::Reset)));
        drop(commands);
        assert_eq!(board.command(&name("chat"), TargetCommand::Reset), Err(NoForwarder::Busy));
    }
}
