//! The wall clock, handed to everything that needs the time, so that a test can hold it still.
//!
//! Nothing else in the crate reads the system's wall clock. A clock that jumps backwards only makes timestamps jump
//! backwards: event ids stay unique, and ordered if it jumps by less than a day (see [`crate::model::EventIds`]), and
//! durations are measured with `std::time::Instant`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// A source of wall-clock time; cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    fixed_micros: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `start` until it is advanced.
    pub fn fixed(start: Timestamp) -> Self {
        Self { fixed_micros: Some(Arc::new(AtomicI64::new(start.as_micros()))) }
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    pub fn now(&self) -> Timestamp {
        if let Some(fixed) = &self.fixed_micros {
            return Timestamp::from_micros(fixed.load(Ordering::Relaxed));
        }
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            // A clock before 1970 is a dead battery; time zero is as good a guess as any.
            Err(_) => 0,
        };
        Timestamp::from_micros(micros)
    }

    /// Moves a fixed clock forward; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(fixed) = &self.fixed_micros {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            fixed.fetch_add(micros, Ordering::Relaxed);
        }
    }
}
