//! Which task is under way, and how the last ones ended: who began one and did not wait for it asks here for its report.
//!
//! Plain memory: a restart forgets it, and what a task did stands nevertheless.

use std::collections::VecDeque;

use super::{Report, RetentionError};
use crate::model::Timestamp;

/// Tasks whose end is remembered: more than people begin while one of them looks away.
const KEPT: usize = 16;

/// How a task stands.
#[derive(Debug, Clone)]
pub enum TaskState {
    /// It has not ended yet.
    UnderWay,
    /// It has ended.
    Ended(Result<Box<Report>, RetentionError>),
}

/// The task under way and the last ones that ended.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    under_way: Option<(u64, Timestamp)>,
    last: u64,
    ended: VecDeque<(u64, Result<Box<Report>, RetentionError>)>,
}

impl Tasks {
    /// Begins a task, unless one is under way, and gives it a number that no other has, also not one of before a restart.
    pub(super) fn begin(&mut self, now: Timestamp) -> Result<u64, RetentionError> {
        if let Some((_, since)) = self.under_way {
            return Err(RetentionError::Busy { since });
        }
        self.last = u64::try_from(now.as_micros()).unwrap_or(0).max(self.last + 1);
        self.under_way = Some((self.last, now));
        Ok(self.last)
    }

    /// A task has ended; the next may begin. One that has ended already stays as it is.
    pub(super) fn end(&mut self, task: u64, result: Result<Report, RetentionError>) {
        if self.under_way.is_none_or(|(number, _)| number != task) {
            return;
        }
        if self.ended.len() == KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back((task, result.map(Box::new)));
        self.under_way = None;
    }

    /// Since when a task is under way.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.under_way.map(|(_, since)| since)
    }

    /// How a task stands; `None` if there was none of that number or it was too long ago.
    pub(super) fn state(&self, task: u64) -> Option<TaskState> {
        if self.under_way.is_some_and(|(number, _)| number == task) {
            return Some(TaskState::UnderWay);
        }
        let ended = self.ended.iter().find(|(number, _)| *number == task);
        ended.map(|(_, result)| TaskState::Ended(result.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_at_a_time_and_the_last_ones_are_remembered() {
        let mut tasks = Tasks::default();
        let now = Timestamp::from_millis(1_790_000_000_000);
        let first = tasks.begin(now).expect("begins");
        assert!(matches!(tasks.begin(now), Err(RetentionError::Busy { since }) if since == now));
        assert!(matches!(tasks.state(first), Some(TaskState::UnderWay)));
        tasks.end(first, Err(RetentionError::Stopped));
        tasks.end(first, Ok(Report::default()));
        assert!(matches!(tasks.state(first), Some(TaskState::Ended(Err(RetentionError::Stopped)))));
        // The clock stands still and the numbers go on.
        for n in 1..=KEPT as u64 {
            let task = tasks.begin(now).expect("begins");
            assert_eq!(task, first + n);
            tasks.end(task, Ok(Report { verified: n, ..Report::default() }));
        }
        assert!(tasks.state(first).is_none() && tasks.since().is_none());
        let Some(TaskState::Ended(Ok(report))) = tasks.state(first + 3) else { panic!("it is remembered") };
        assert_eq!(report.verified, 3);
    }
}
