//! One run: the steps in their order, and what they share. Runs on a thread of its own that may block.
//!
//! A step that fails is told in the report and does not keep the others from being tried, except where one must not be done
//! without the other. A stop ends it between two pieces of work.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Handle;

use super::report::{HeldFile, Report};
use super::{Inner, Pace, RetentionError, RetentionParts, Settings, Task};
use crate::model::{Day, Timestamp};
use crate::store::archive::Act;
use crate::store::{Action, Change, ChangeQuery, Hold, StoreResult};

/// Records removed or put back in one transaction: some milliseconds of the audit's writer.
pub(super) const BATCH: usize = 500;
/// Longest rest after a piece of work.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// A run that comes so many days after the last one, or before it, may owe its date to a clock that was set. It deletes no
/// archives and no lines of the change log; the next day's run does.
const USUAL_GAP: i64 = 7;
/// What is said of what such a run leaves.
pub(super) const UNUSUAL: &str =
    "the last run was more than a week ago or its day is in the future, so the clock may have been set";
/// What that means for archives.
pub(super) const ARCHIVES_STAY: &str = "archives are deleted by the next day's run";
/// And for the change log.
pub(super) const LINES_STAY: &str = "the change log is cut by the next day's run";

/// A run.
pub(super) struct Run<'a> {
    pub(super) inner: &'a Inner,
    pub(super) parts: &'a RetentionParts,
    pub(super) settings: Settings,
    runtime: Handle,
    pub(super) now: Timestamp,
    pub(super) today: Day,
    rested: Cell<Instant>,
    /// What was found out about expired files that holds keep.
    pub(super) held: RefCell<BTreeMap<String, HeldFile>>,
}

/// What a step answers.
pub(super) type Step<T> = Result<T, RetentionError>;

impl<'a> Run<'a> {
    pub(super) fn new(inner: &'a Inner, runtime: Handle, now: Timestamp) -> Self {
        let settings = (*inner.parts.settings.get()).clone();
        let rested = Cell::new(Instant::now());
        let (parts, held) = (&inner.parts, RefCell::default());
        Self { inner, parts, settings, runtime, now, today: Day::of(now), rested, held }
    }

    /// Does a task.
    pub(super) fn execute(&self, task: Task) -> Step<Report> {
        match task {
            Task::DryRun(change) => self.plan(&change),
            Task::Run(change) => self.run(&change),
            Task::Erase(change) => {
                let mut report = self.report(&change);
                self.ready(&change, &mut report)?;
                self.step(&mut report, "erasing", |report| self.erase_requested(&change, report))?;
                Ok(self.finished(report))
            }
            Task::Restore { names, until, change } => {
                let mut report = self.report(&change);
                self.ready(&change, &mut report)?;
                self.restore(&names, until, &change, &mut report)?;
                Ok(self.finished(report))
            }
            Task::Return { names, change } => {
                let mut report = self.report(&change);
                self.ready(&change, &mut report)?;
                for name in names {
                    self.give_back(name, &change)?;
                    report.returned.push(name.to_string());
                }
                Ok(self.finished(report))
            }
            Task::Verify { names, change } => {
                let mut report = self.report(&change);
                self.verify(&names, &mut report)?;
                Ok(self.finished(report))
            }
            Task::Accept(change) => {
                let (evidence, faults) = self.parts.stores.archive.accept(&change.by, &|| self.rest())?;
                let mut report = self.report(&change);
                report.damaged = faults.iter().filter_map(|fault| fault.name.clone()).collect();
                let (entries, head) = self.parts.stores.archive.head();
                let new = json!({"evidence": evidence, "manifest_lines": entries, "manifest_head": head});
                self.tell_changes(&change, "archive_manifest", "manifest", None, Some(new))?;
                Ok(self.finished(report))
            }
        }
    }

    pub(super) fn report(&self, change: &Change) -> Report {
        Report {
            by: change.by.clone(),
            started_at: Some(self.now),
            keeps_events_from: Some(self.keeps_events_from()),
            keeps_archives_from: Some(self.keeps_archives_from()),
            ..Report::default()
        }
    }

    pub(super) fn finished(&self, report: Report) -> Report {
        self.look_at_age();
        Report { finished_at: Some(self.parts.clock.now()), ..report }
    }

    /// The first day that stays in the audit.
    pub(super) fn keeps_events_from(&self) -> Day {
        self.today.plus(-self.settings.event_days)
    }

    /// The first day that stays in the archive.
    pub(super) fn keeps_archives_from(&self) -> Day {
        self.today.plus(-self.settings.archive_days)
    }

    /// The first moment of which lines of the change log stay.
    pub(super) fn keeps_lines_from(&self) -> Timestamp {
        self.today.plus(-self.settings.config_audit_days).start()
    }

    /// Brings everything into a state from which anything may be begun.
    fn ready(&self, change: &Change, report: &mut Report) -> Step<()> {
        self.parts.stores.archive.recover()?;
        self.settle_all(change, report)
    }

    fn run(&self, change: &Change) -> Step<Report> {
        // Before anything else, so that a run that fails at once is not tried again every half minute.
        self.inner.remember(|memory| memory.last_run = Some(self.now));
        match self.steps(change) {
            Ok(report) => {
                let report = self.finished(report);
                self.conclude(&report);
                Ok(report)
            }
            Err(RetentionError::Stopped) => Err(RetentionError::Stopped),
            Err(error) => {
                self.could_not(change, format!("it could not begin: {error}"));
                Err(error)
            }
        }
    }

    /// The steps of a run. An error is why it could not begin.
    fn steps(&self, change: &Change) -> Step<Report> {
        let mut report = self.report(change);
        self.ready(change, &mut report)?;
        self.step(&mut report, "ending restores", |report| self.end_restores(change, report))?;
        self.step(&mut report, "erasing", |report| self.erase_requested(change, report))?;
        self.step(&mut report, "deleting archives", |report| self.expire_or_postpone(change, report))?;
        self.step(&mut report, "archiving", |report| self.archive_days(change, report))?;
        self.step(&mut report, "dropping empty files", |report| self.drop_empty(change, report))?;
        self.step(&mut report, "cutting the change log", |report| self.cut_change_log(change, report))?;
        self.step(&mut report, "verifying archives", |report| self.verify(&self.due_for_verification(), report))?;
        Ok(report)
    }

    fn expire_or_postpone(&self, change: &Change, report: &mut Report) -> Step<()> {
        if self.is_a_usual_day() {
            return self.expire(change, report);
        }
        if self.has_expired() {
            report.postponed.push(format!("{UNUSUAL}; {ARCHIVES_STAY}"));
        }
        Ok(())
    }

    /// Does a step; what fails is told and the run goes on, unless the appliance is stopping.
    fn step(&self, report: &mut Report, what: &str, step: impl FnOnce(&mut Report) -> Step<()>) -> Step<()> {
        match step(report) {
            Err(RetentionError::Stopped) => Err(RetentionError::Stopped),
            Err(error) => {
                report.fault(format!("{what}: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Does something with one thing of many: what is wrong with it alone is told, and the others have their turn. Answers
    /// `None` then.
    pub(super) fn aside<T>(&self, report: &mut Report, what: &str, done: Step<T>) -> Step<Option<T>> {
        match done {
            Err(error) if error.is_about_one_thing() => {
                report.fault(format!("{what}: {error}"));
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    /// Whether the clock can be believed. A day that a run did not believe is not believed by a further run of that day.
    pub(super) fn is_a_usual_day(&self) -> bool {
        let memory = self.inner.memory.lock();
        let follows = memory.last_day.is_some_and(|last| (0..=USUAL_GAP).contains(&self.today.since(last)));
        follows && memory.unusual_day != Some(self.today)
    }

    fn drop_empty(&self, change: &Change, report: &mut Report) -> Step<()> {
        for file in self.block(self.parts.stores.shelf.drop_empty())? {
            tracing::info!(file = file.name, bytes = file.bytes, "Audit file {} is empty and was deleted", file.name);
            self.tell_changes(change, "event_audit", &file.name, Some(json!({"bytes": file.bytes})), None)?;
            report.dropped.push(file.name);
        }
        Ok(())
    }

    fn cut_change_log(&self, change: &Change, report: &mut Report) -> Step<()> {
        let before = self.keeps_lines_from();
        if !self.is_a_usual_day() {
            let oldest = ChangeQuery { ascending: true, limit: 1, ..ChangeQuery::default() };
            let oldest = self.block(self.parts.stores.changes.changes(&oldest))?;
            if oldest.first().is_some_and(|line| line.changed_at < before) {
                report.postponed.push(format!("{UNUSUAL}; {LINES_STAY}"));
            }
            return Ok(());
        }
        report.change_lines = self.block(self.parts.stores.changes.cut_before(before, change))?;
        if report.change_lines > 0 {
            tracing::info!(
                lines = report.change_lines,
                "{} lines before {before} left the change log",
                report.change_lines
            );
        }
        Ok(())
    }

    /// What archives there are.
    pub(super) fn archive_names(&self) -> BTreeSet<String> {
        self.parts.stores.archive.files().into_iter().map(|file| file.facts.name).collect()
    }

    /// Holds in force.
    pub(super) fn holds(&self) -> Step<Vec<Hold>> {
        Ok(self.block(self.parts.stores.holds.holds())?)
    }

    /// Waits for a store on this thread.
    pub(super) fn block<T>(&self, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        self.wait(call)
    }

    /// Waits for anything on this thread.
    pub(super) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Whether there is still time.
    pub(super) fn go_on(&self) -> Step<()> {
        if self.parts.stop.is_cancelled() { Err(RetentionError::Stopped) } else { Ok(()) }
    }

    /// Rests as long as the work since the last rest took.
    pub(super) fn rest(&self) {
        if self.parts.pace == Pace::Gentle && !self.parts.stop.is_cancelled() {
            std::thread::sleep(self.rested.get().elapsed().min(LONGEST_REST));
        }
        self.rested.set(Instant::now());
    }

    /// Writes a line into the change log.
    pub(super) fn tell_changes(
        &self,
        change: &Change,
        kind: &'static str,
        record_id: &str,
        old: Option<serde_json::Value>,
        new: Option<serde_json::Value>,
    ) -> StoreResult<()> {
        let action = Action { kind, record_id: record_id.to_owned(), old, new };
        self.block(self.parts.stores.changes.note_action(action, change))
    }

    /// Enters an act into the manifest.
    pub(super) fn note(&self, act: Act) -> StoreResult<()> {
        self.parts.stores.archive.note(act)
    }
}

/// A fault that concerns one thing.
pub(super) fn refused(why: impl Into<String>) -> RetentionError {
    RetentionError::Refused(why.into())
}
