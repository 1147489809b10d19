//! `Live<T>`: the current value of something that changes rarely and is read all the time.
//!
//! A reader takes a snapshot with [`Live::get`], which is lock-free and never waits for a writer; a task that must
//! react awaits [`Live::changed`]. The owner holds the [`LiveSender`] and replaces the whole value at once, so no
//! reader ever sees half a change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// The reading side; clones see the same value.
#[derive(Debug)]
pub struct Live<T> {
    value: Arc<ArcSwap<T>>,
    version: watch::Receiver<u64>,
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), version: self.version.clone() }
    }
}

/// The writing side.
#[derive(Debug)]
pub struct LiveSender<T> {
    value: Arc<ArcSwap<T>>,
    version: watch::Sender<u64>,
}

/// Makes a pair around a first value.
pub fn live<T>(first: T) -> (LiveSender<T>, Live<T>) {
    let value = Arc::new(ArcSwap::from_pointee(first));
    let (sender, receiver) = watch::channel(0);
    (LiveSender { value: Arc::clone(&value), version: sender }, Live { value, version: receiver })
}

impl<T> Live<T> {
    /// A value that never changes, for tests and for settings nobody can change at run time.
    pub fn constant(value: T) -> Self {
        live(value).1
    }

    /// The current value.
    pub fn get(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Waits for the next replacement. When the sender is gone it waits for ever: the last value stays in force.
    pub async fn changed(&mut self) {
        if self.version.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<T> LiveSender<T> {
    /// Replaces the value and wakes everyone waiting in [`Live::changed`].
    pub fn set(&self, value: T) {
        self.value.store(Arc::new(value));
        self.version.send_modify(|version| *version += 1);
    }

    /// A further reader.
    pub fn subscribe(&self) -> Live<T> {
        Live { value: Arc::clone(&self.value), version: self.version.subscribe() }
    }

    /// The current value.
    pub fn get(&self) -> Arc<T> {
        self.value.load_full()
    }
}
