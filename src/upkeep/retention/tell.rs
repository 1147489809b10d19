//! How a run is told: the log, metrics, notices to people, and what is remembered of it. Also of a run that could not begin,
//! which is when people have to act.
//!
//! A notice that could not be sent counts as not told: the next run sends it. Changes no events.

use metrics::{counter, gauge};

use super::notice::Notice;
use super::report::{Nearness, Report};
use super::run::Run;
use super::{Inner, RetentionParts};
use crate::model::Day;
use crate::store::{Change, StoreResult};
use crate::telemetry::metrics::{
    ARCHIVE_BYTES, ARCHIVE_DOUBT, ARCHIVE_FILES, ARCHIVES_DAMAGED, EVENTS_ARCHIVED, EVENTS_DELETED, OLDEST_EVENT_AGE,
    RETENTION_LAST_RUN, RETENTION_LAST_RUN_OK, RETENTION_RUNS,
};

/// A cap is near at this share of it, in per cent.
const NEAR: u64 = 80;

impl Run<'_> {
    /// Tells how a run went that came to its end.
    pub(super) fn conclude(&self, report: &Report) {
        self.count(report);
        let before = self.inner.memory.lock().clone();
        let (audit, archive) = self.nearness(report);
        self.notify_cap("audit", "audit_max_bytes", before.audit, audit);
        self.notify_cap("archive", "archive_max_bytes", before.archive, archive);
        let failing = self.notify_run(before.failing, report);
        let unusual_day = self.unusual_day();
        self.inner.remember(|memory| {
            (memory.last_day, memory.unusual_day) = (Some(self.today), unusual_day);
            memory.report = report.clone();
            (memory.audit, memory.archive) = (audit, archive);
            (memory.failing, memory.unbegun) = (failing, false);
        });
    }

    /// Tells of a run that could not begin, or that a fault in this program ended. It is tried again at the next start or
    /// the next day.
    pub(super) fn could_not(&self, change: &Change, why: String) {
        let mut report = self.report(change);
        report.fault(why);
        let report = self.finished(report);
        self.count(&report);
        let before = self.inner.memory.lock().failing;
        let failing = self.notify_run(before, &report);
        let unusual_day = self.unusual_day();
        self.inner.remember(|memory| {
            (memory.last_day, memory.unusual_day) = (Some(self.today), unusual_day);
            memory.report = report;
            (memory.failing, memory.unbegun) = (failing, true);
        });
    }

    /// Today, if it is not believed.
    fn unusual_day(&self) -> Option<Day> {
        (!self.is_a_usual_day()).then_some(self.today)
    }

    /// The log and the metrics.
    fn count(&self, report: &Report) {
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
    }

    /// How near the caps are after this run.
    fn nearness(&self, report: &Report) -> (Nearness, Nearness) {
        let used = self.block(self.parts.stores.shelf.size()).map_or(0, |size| size.used);
        let near = |bytes: u64, most: u64| match most {
            0 => Nearness::Far,
            most if bytes.saturating_mul(100) >= most.saturating_mul(NEAR) => Nearness::Near,
            _ => Nearness::Far,
        };
        let early = report.archived.iter().any(|day| day.day >= self.keeps_events_from());
        let capped = report.deleted.iter().any(|file| file.reason == "cap");
        let audit = if early { Nearness::Bit } else { near(used, self.settings.audit_max_bytes) };
        let archive = if capped {
            Nearness::Bit
        } else {
            near(self.parts.stores.archive.size().1, self.settings.archive_max_bytes)
        };
        (audit, archive)
    }

    fn notify_cap(&self, what: &str, key: &str, before: Nearness, now: Nearness) {
        if before != now {
            self.notify(&Notice::of_cap(what, key, now));
        }
    }

    /// Tells people when runs begin to fail and when they go well again. Answers whether they know that runs fail.
    fn notify_run(&self, known: bool, report: &Report) -> bool {
        let told = known == report.is_clean() && self.notify(&Notice::of_run(report));
        known != told
    }

    /// Sends a notice; answers whether it is on its way.
    fn notify(&self, notice: &Notice) -> bool {
        notice.log();
        let alert = notice.alert(self.parts.ids.next(self.now), &self.parts.node, &self.settings.team, self.now);
        let sent = self.wait((self.parts.tell)(alert));
        if let Err(why) = &sent {
            tracing::error!("A notice about retention could not be sent as an alert: {why}");
        }
        sent.is_ok()
    }

    /// Looks how old the oldest event is. If the audit does not answer, what was known before stays.
    pub(super) fn look_at_age(&self) {
        if let Ok(oldest) = self.block(oldest_of_its_own(self.parts)) {
            *self.inner.oldest.lock() = oldest;
        }
        self.inner.publish();
    }
}

/// The day of the oldest event in the audit that is no copy of an archived one.
pub(super) async fn oldest_of_its_own(parts: &RetentionParts) -> StoreResult<Option<Day>> {
    let mut copies = std::collections::BTreeMap::<Day, u64>::new();
    for file in parts.stores.archive.files().into_iter().filter(|file| file.restored_until.is_some()) {
        *copies.entry(file.facts.day).or_default() += file.facts.rows;
    }
    if copies.is_empty() {
        return Ok(parts.stores.shelf.size().await?.oldest);
    }
    for day in parts.stores.shelf.days(Day::of(parts.clock.now()).plus(1)).await? {
        // A day may have nothing but notes that came late.
        if parts.stores.shelf.rows_of(day).await? > copies.get(&day).copied().unwrap_or(0) {
            return Ok(Some(day));
        }
    }
    Ok(None)
}

impl Inner {
    /// Publishes what can be seen at any time.
    pub(super) fn publish(&self) {
        let (files, bytes) = self.parts.stores.archive.size();
        gauge!(ARCHIVE_FILES).set(files as f64);
        gauge!(ARCHIVE_BYTES).set(bytes as f64);
        gauge!(ARCHIVE_DOUBT).set(if self.parts.stores.archive.doubt().is_some() { 1.0 } else { 0.0 });
        gauge!(ARCHIVES_DAMAGED).set(self.damaged().len() as f64);
        let age = self.oldest.lock().map_or(0, |oldest| Day::of(self.parts.clock.now()).since(oldest));
        gauge!(OLDEST_EVENT_AGE).set(age as f64);
        if let Some(last_run) = self.memory.lock().last_run {
            gauge!(RETENTION_LAST_RUN).set(last_run.as_micros() as f64 / 1e6);
        }
    }

    /// Archives that were not what they should be when they were last read, and that are there still.
    pub(super) fn damaged(&self) -> Vec<String> {
        let memory = self.memory.lock();
        let damaged = memory.checked.iter().filter(|(_, check)| check.fault.is_some());
        let there = |name: &String| name.parse().is_ok_and(|name| self.parts.stores.archive.file(name).is_some());
        damaged.map(|(name, _)| name.clone()).filter(there).collect()
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
