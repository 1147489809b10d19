//! How each delivery target is: what the pages, `/ready` and the metrics show of it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::metrics::TARGET_UP;
use crate::model::{TargetName, Timestamp};

/// A target as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// Its name.
    pub name: TargetName,
    /// Where it is, without user, password, path or query: a webhook's path may be its secret.
    pub address: String,
    /// Whether the last delivery was taken; `None` before the first.
    pub up: Option<bool>,
    /// When a delivery was taken last.
    pub last_success: Option<Timestamp>,
    /// What went wrong last, and when.
    pub last_error: Option<(Timestamp, String)>,
    /// Alerts taken since the start.
    pub delivered: u64,
    /// Deliveries to be tried again since the start.
    pub retried: u64,
    /// Alerts given up since the start.
    pub dead: u64,
}

/// All targets of the process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct TargetBoard {
    targets: Arc<Mutex<Vec<Arc<Mutex<TargetStatus>>>>>,
}

/// A target's own line on the board.
#[derive(Debug, Clone)]
pub struct TargetHandle {
    status: Arc<Mutex<TargetStatus>>,
}

impl TargetBoard {
    /// Adds a line.
    pub fn register(&self, name: TargetName, address: String) -> TargetHandle {
        let status = TargetStatus {
            name,
            address,
            up: None,
            last_success: None,
            last_error: None,
            delivered: 0,
            retried: 0,
            dead: 0,
        };
        let status = Arc::new(Mutex::new(status));
        self.targets.lock().push(Arc::clone(&status));
        TargetHandle { status }
    }

    /// Every line, in the order of registration.
    pub fn status(&self) -> Vec<TargetStatus> {
        self.targets.lock().iter().map(|status| status.lock().clone()).collect()
    }
}

impl TargetHandle {
    /// Where the target is now; its address may change at run time.
    pub fn set_address(&self, address: String) {
        self.status.lock().address = address;
    }

    /// Nothing is sent, and why: something is not configured. Not counted as a failure of the target.
    pub fn waiting(&self, at: Timestamp, why: &str) {
        let mut status = self.status.lock();
        status.up = None;
        status.last_error = Some((at, why.to_owned()));
    }

    /// The target took an alert.
    pub fn delivered(&self, at: Timestamp) {
        let mut status = self.status.lock();
        status.up = Some(true);
        status.last_success = Some(at);
        status.delivered += 1;
        metrics::gauge!(TARGET_UP, "target" => status.name.to_string()).set(1.0);
    }

    /// The target failed; the alert will be tried again.
    pub fn retrying(&self, at: Timestamp, why: &str) {
        let mut status = self.status.lock();
        status.retried += 1;
        failed(&mut status, at, why);
    }

    /// An alert was given up.
    pub fn dead(&self, at: Timestamp, why: &str) {
        let mut status = self.status.lock();
        status.dead += 1;
        failed(&mut status, at, why);
    }
}

fn failed(status: &mut TargetStatus, at: Timestamp, why: &str) {
    status.up = Some(false);
    status.last_error = Some((at, why.to_owned()));
    metrics::gauge!(TARGET_UP, "target" => status.name.to_string()).set(0.0);
}
