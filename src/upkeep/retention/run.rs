//! One run: the steps in their order, and what they share. Runs on a thread of its own that may block.
//!
//! A step that fails is told in the report and does not keep the others from being tried, except where one must not be done
//! without the other. A stop ends it between two pieces of work.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use serde_json::json;
use tokio::runtime::Handle;

use super::notice::Notice;
use super::report::{ArchiveCheck, Nearness, Report};
use super::{Inner, Pace, RetentionError, RetentionParts, Settings, Task};
use crate::model::{Day, Timestamp};
use crate::store::archive::{Act, FileName};
use crate::store::{Action, Change, Hold, StoreResult};
use crate::telemetry::metrics::{
    ARCHIVE_BYTES, ARCHIVE_FILES, EVENTS_ARCHIVED, EVENTS_DELETED, OLDEST_EVENT_AGE, RETENTION_LAST_RUN,
    RETENTION_LAST_RUN_OK, RETENTION_RUNS,
};

/// Records removed or put back in one transaction: some milliseconds of the audit's writer.
pub(super) const BATCH: usize = 500;
/// Longest rest after a piece of work.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// A run that comes so many days after the last one, or before it, may owe its date to a clock that was set. It deletes no
/// archives; the next day's run does.
const USUAL_GAP: i64 = 7;
/// Days of a month over which verification is spread: each has them.
const VERIFY_DAYS: u32 = 28;
/// A cap is near at this share of it, in per cent.
const NEAR: u64 = 80;

/// A run.
pub(super) struct Run<'a> {
    pub(super) inner: &'a Inner,
    pub(super) parts: &'a RetentionParts,
    pub(super) settings: Settings,
    runtime: Handle,
    pub(super) now: Timestamp,
    pub(super) today: Day,
    rested: Cell<Instant>,
}

/// What a step answers.
pub(super) type Step<T> = Result<T, RetentionError>;

impl<'a> Run<'a> {
    pub(super) fn new(inner: &'a Inner, runtime: Handle, now: Timestamp) -> Self {
        let settings = (*inner.parts.settings.get()).clone();
        let rested = Cell::new(Instant::now());
        Self { inner, parts: &inner.parts, settings, runtime, now, today: Day::of(now), rested }
    }

    /// Does a task.
    pub(super) fn execute(&self, task: Task) -> Step<Report> {
        match task {
            Task::DryRun(change) => self.plan(&change),
            Task::Run(change) => self.run(&change),
            Task::Erase(change) => {
                self.ready()?;
                let mut report = self.report(&change);
                self.step(&mut report, "erasing", |report| self.erase_requested(&change, report))?;
                Ok(self.finished(report))
            }
            Task::Restore { names, until, change } => {
                self.ready()?;
                self.restore(&names, until, &change).map(|()| self.finished(self.report(&change)))
            }
            Task::Return { names, change } => {
                self.ready()?;
                let mut report = self.report(&change);
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
                let (evidence, faults) = self.parts.archive.accept(&change.by, &|| self.rest())?;
                let mut report = self.report(&change);
                report.damaged = faults.iter().filter_map(|fault| fault.name.clone()).collect();
                let (entries, head) = self.parts.archive.head();
                let new = json!({"evidence": evidence, "manifest_lines": entries, "manifest_head": head});
                self.tell_changes(&change, "archive_manifest", "manifest", None, Some(new))?;
                Ok(self.finished(report))
            }
        }
    }

    fn report(&self, change: &Change) -> Report {
        Report {
            by: change.by.clone(),
            started_at: Some(self.now),
            keeps_events_from: Some(self.keeps_events_from()),
            keeps_archives_from: Some(self.keeps_archives_from()),
            ..Report::default()
        }
    }

    fn finished(&self, report: Report) -> Report {
        self.inner.publish();
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

    /// Brings everything into a state from which anything may be begun.
    fn ready(&self) -> Step<()> {
        self.parts.archive.recover()?;
        self.settle_all().map(drop)
    }

    fn run(&self, change: &Change) -> Step<Report> {
        let mut report = self.report(change);
        // Before anything else, so that a run that fails at once is not tried again every half minute.
        self.inner.remember(|memory| memory.last_run = Some(self.now));
        self.parts.archive.recover()?;
        report.settled = self.settle_all()?;
        self.step(&mut report, "ending restores", |report| self.end_restores(change, report))?;
        self.step(&mut report, "erasing", |report| self.erase_requested(change, report))?;
        if self.is_a_usual_day() {
            self.step(&mut report, "deleting archives", |report| self.expire(change, report))?;
        } else if self.has_expired() {
            report.postponed.push(
                "the last run was more than a week ago or its day is in the future, so the clock may have been set; \
                 archives are deleted by the next day's run"
                    .to_owned(),
            );
        }
        self.step(&mut report, "archiving", |report| self.archive_days(change, report))?;
        self.step(&mut report, "dropping empty files", |report| self.drop_empty(change, report))?;
        self.step(&mut report, "cutting the change log", |report| self.cut_change_log(change, report))?;
        self.step(&mut report, "verifying archives", |report| self.verify(&self.due_for_verification(), report))?;
        let report = self.finished(report);
        self.conclude(&report);
        Ok(report)
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

    pub(super) fn is_a_usual_day(&self) -> bool {
        let last = self.inner.memory.lock().last_day;
        last.is_some_and(|last| (0..=USUAL_GAP).contains(&self.today.since(last)))
    }

    /// What a run would do: looks only.
    fn plan(&self, change: &Change) -> Step<Report> {
        let mut report = Report { dry_run: true, ..self.report(change) };
        self.plan_days(&mut report)?;
        self.plan_expiry(&mut report)?;
        let pending = self.block(self.parts.holds.erasures())?.into_iter().filter(|one| one.finished_at.is_none());
        report.erasures = pending.count() as u64;
        if let Some(doubt) = self.parts.archive.doubt() {
            report.fault(format!("the manifest of the archive is in doubt, so nothing will be done: {doubt}"));
        }
        Ok(self.finished(report))
    }

    fn drop_empty(&self, change: &Change, report: &mut Report) -> Step<()> {
        for file in self.block(self.parts.shelf.drop_empty())? {
            tracing::info!(file = file.name, bytes = file.bytes, "Audit file {} is empty and was deleted", file.name);
            self.tell_changes(change, "event_audit", &file.name, Some(json!({"bytes": file.bytes})), None)?;
            report.dropped.push(file.name);
        }
        Ok(())
    }

    fn cut_change_log(&self, change: &Change, report: &mut Report) -> Step<()> {
        let before = self.today.plus(-self.settings.config_audit_days).start();
        report.change_lines = self.block(self.parts.changes.cut_before(before, change))?;
        if report.change_lines > 0 {
            tracing::info!(
                lines = report.change_lines,
                "{} lines before {before} left the change log",
                report.change_lines
            );
        }
        Ok(())
    }

    /// Archives whose turn it is today: each comes once a month.
    fn due_for_verification(&self) -> Vec<FileName> {
        let turn = |name: &FileName| {
            let sum: u32 = name.to_string().bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            sum % VERIFY_DAYS + 1
        };
        let files = self.parts.archive.files();
        let names = files.iter().filter_map(|file| file.facts.name.parse().ok());
        names.filter(|name| turn(name) == self.today.day_of_month()).collect()
    }

    /// Reads archives and compares them; what was read before something fails is remembered too.
    fn verify(&self, names: &[FileName], report: &mut Report) -> Step<()> {
        let mut checked = BTreeMap::new();
        let outcome = self.compare(names, report, &mut checked);
        if !checked.is_empty() {
            let there: BTreeSet<String> = self.parts.archive.files().into_iter().map(|file| file.facts.name).collect();
            self.inner.remember(|memory| {
                memory.checked.extend(checked);
                memory.checked.retain(|name, _| there.contains(name));
            });
        }
        outcome
    }

    fn compare(
        &self,
        names: &[FileName],
        report: &mut Report,
        checked: &mut BTreeMap<String, ArchiveCheck>,
    ) -> Step<()> {
        for name in names {
            self.go_on()?;
            let fault = self.parts.archive.verify(*name, &|| self.rest())?.map(|fault| fault.why);
            if let Some(why) = &fault {
                tracing::error!(file = %name, "Archive {name} is not what it was: {why}");
                report.damaged.push(format!("{name}: {why}"));
            }
            checked.insert(name.to_string(), ArchiveCheck { at: self.parts.clock.now(), fault });
            report.verified += 1;
        }
        Ok(())
    }

    /// Tells how the run went: log, metrics, notices, and what is remembered.
    fn conclude(&self, report: &Report) {
        let result = if report.is_clean() { "ok" } else { "failed" };
        counter!(RETENTION_RUNS, "result" => result).increment(1);
        gauge!(RETENTION_LAST_RUN).set(self.now.as_micros() as f64 / 1e6);
        gauge!(RETENTION_LAST_RUN_OK).set(if report.is_clean() { 1.0 } else { 0.0 });
        for fault in report.faults.iter().chain(&report.damaged) {
            tracing::error!("Retention: {fault}");
        }
        tracing::info!(
            by = report.by,
            archived = report.archived_rows,
            deleted = report.deleted_rows,
            files_dropped = report.dropped.len(),
            duration_ms = report.finished_at.map(|end| end.since(self.now).as_millis() as u64),
            "Retention run: {} events archived, {} deleted, {} faults",
            report.archived_rows,
            report.deleted_rows,
            report.faults.len() + report.damaged.len(),
        );
        let before = self.inner.memory.lock().clone();
        let (audit, archive) = self.nearness(report);
        self.notify_cap("audit", "audit_max_bytes", before.audit, audit);
        self.notify_cap("archive", "archive_max_bytes", before.archive, archive);
        if before.failing == report.is_clean() {
            self.notify(&Notice::of_run(report));
        }
        self.inner.remember(|memory| {
            memory.last_day = Some(self.today);
            memory.report = report.clone();
            (memory.audit, memory.archive) = (audit, archive);
            memory.failing = !report.is_clean();
        });
    }

    /// How near the caps are after this run.
    fn nearness(&self, report: &Report) -> (Nearness, Nearness) {
        let used = self.block(self.parts.shelf.size()).map_or(0, |size| size.used);
        let near = |bytes: u64, most: u64| match most {
            0 => Nearness::Far,
            most if bytes.saturating_mul(100) >= most.saturating_mul(NEAR) => Nearness::Near,
            _ => Nearness::Far,
        };
        let early = report.archived.iter().any(|day| day.day >= self.keeps_events_from());
        let capped = report.deleted.iter().any(|file| file.reason == "cap");
        let audit = if early { Nearness::Bit } else { near(used, self.settings.audit_max_bytes) };
        let archive =
            if capped { Nearness::Bit } else { near(self.parts.archive.size().1, self.settings.archive_max_bytes) };
        (audit, archive)
    }

    fn notify_cap(&self, what: &str, key: &str, before: Nearness, now: Nearness) {
        if before != now {
            self.notify(&Notice::of_cap(what, key, now));
        }
    }

    fn notify(&self, notice: &Notice) {
        notice.log();
        let alert = notice.alert(self.parts.ids.next(self.now), &self.parts.node, &self.settings.team, self.now);
        if let Err(why) = self.runtime.block_on((self.parts.tell)(alert)) {
            tracing::error!("A notice about retention could not be sent as an alert: {why}");
        }
    }

    /// Holds in force.
    pub(super) fn holds(&self) -> Step<Vec<Hold>> {
        Ok(self.block(self.parts.holds.holds())?)
    }

    /// Waits for a store on this thread.
    pub(super) fn block<T>(&self, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
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
        self.block(self.parts.changes.note_action(action, change))
    }

    /// Enters an act into the manifest.
    pub(super) fn note(&self, act: Act) -> StoreResult<()> {
        self.parts.archive.note(act)
    }
}

impl Inner {
    /// Publishes what can be seen at any time.
    pub(super) fn publish(&self) {
        let (files, bytes) = self.parts.archive.size();
        gauge!(ARCHIVE_FILES).set(files as f64);
        gauge!(ARCHIVE_BYTES).set(bytes as f64);
        if let Some(last_run) = self.memory.lock().last_run {
            gauge!(RETENTION_LAST_RUN).set(last_run.as_micros() as f64 / 1e6);
        }
    }

    /// The age of the oldest event in the audit, in days.
    pub(super) fn publish_oldest(&self, oldest: Option<Day>) {
        let age = oldest.map_or(0, |oldest| Day::of(self.parts.clock.now()).since(oldest));
        gauge!(OLDEST_EVENT_AGE).set(age as f64);
    }

    /// A run that could not even begin.
    pub(super) fn run_failed(&self, error: &RetentionError) {
        counter!(RETENTION_RUNS, "result" => "failed").increment(1);
        gauge!(RETENTION_LAST_RUN_OK).set(0.0);
        tracing::error!("The retention run failed: {error}");
    }
}

/// Counts events that were archived.
pub(super) fn count_archived(rows: u64) {
    counter!(EVENTS_ARCHIVED).increment(rows);
}

/// Counts events that were deleted for good.
pub(super) fn count_deleted(reason: &'static str, rows: u64) {
    counter!(EVENTS_DELETED, "reason" => reason).increment(rows);
}

/// A fault that concerns one thing.
pub(super) fn refused(why: impl Into<String>) -> RetentionError {
    RetentionError::Refused(why.into())
}
