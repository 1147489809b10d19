//! What a run would do, said beforehand: the steps of a run in their order, looking only.
//!
//! Holds are looked at event by event, so it says what would stay; what cannot be known before it is done is said to be so: an
//! archive's size is known when it is written, so how many days a cap takes is an estimate. Changes nothing.

use std::collections::BTreeSet;

use super::expiry::held_by;
use super::report::{ArchivedDay, ExpiredFile, Report};
use super::run::{ARCHIVES_STAY, LINES_STAY, Run, Step, UNUSUAL};
use crate::model::{Day, Timestamp};
use crate::store::archive::{FileState, Reason, fault_of};
use crate::store::{Change, ChangeQuery, Hold};

impl Run<'_> {
    /// What a run would do.
    pub(super) fn plan(&self, change: &Change) -> Step<Report> {
        let mut report = Report { dry_run: true, ..self.report(change) };
        if let Some(doubt) = self.parts.stores.archive.doubt() {
            report.fault(format!("the manifest of the archive is in doubt, so nothing will be done: {doubt}"));
            return Ok(self.finished(report));
        }
        let files = self.parts.stores.archive.files();
        report.settled = files.iter().filter(|file| !file.settled).count() as u64;
        report.returned = files.iter().filter(|file| self.is_over(file)).map(|file| file.facts.name.clone()).collect();
        let mut waiting = self.block(self.parts.stores.holds.erasures())?;
        waiting.retain(|erasure| erasure.finished_at.is_none());
        report.erasures = waiting.len() as u64;
        self.plan_expiry(&files, &mut report)?;
        let leaving = self.plan_days(&mut report)?;
        self.plan_dropping(&files, &leaving, &mut report)?;
        self.plan_change_log(&mut report)?;
        Ok(self.finished(report))
    }

    /// Whether a restore would be ended.
    fn is_over(&self, file: &FileState) -> bool {
        file.restored_until.is_some_and(|until| until <= self.now)
    }

    /// Days that would be archived: by age, then by the cap.
    fn plan_days(&self, report: &mut Report) -> Step<BTreeSet<Day>> {
        let mut leaving = BTreeSet::new();
        for day in self.block(self.parts.stores.shelf.days(self.keeps_events_from()))? {
            self.plan_day(day, report, &mut leaving)?;
        }
        let most = self.settings.audit_max_bytes;
        let size = self.block(self.parts.stores.shelf.size())?;
        if most == 0 || size.used <= most {
            return Ok(leaving);
        }
        let by_age = report.archived.len();
        for day in self.block(self.parts.stores.shelf.days(self.today))? {
            // As if each row took the same.
            let left = u128::from(size.rows.saturating_sub(report.archived_rows));
            if u128::from(size.used) * left <= u128::from(most) * u128::from(size.rows) {
                break;
            }
            if day >= self.keeps_events_from() {
                self.plan_day(day, report, &mut leaving)?;
            }
        }
        let early = report.archived.len() - by_age;
        if early > 0 {
            report.postponed.push(format!(
                "audit_max_bytes takes about {early} days before their time: how much room a day gives back is an estimate"
            ));
        }
        Ok(leaving)
    }

    fn plan_day(&self, day: Day, report: &mut Report, leaving: &mut BTreeSet<Day>) -> Step<()> {
        self.go_on()?;
        let rows = self.block(self.parts.stores.shelf.rows_of(day))?.saturating_sub(self.restored_rows(day));
        leaving.insert(day);
        if rows > 0 {
            report.add_day(ArchivedDay { day, rows, files: Vec::new(), bytes: 0 });
        }
        Ok(())
    }

    /// Archives that would be deleted or rewritten, with what of them stays under a hold.
    fn plan_expiry(&self, files: &[FileState], report: &mut Report) -> Step<()> {
        if !self.is_a_usual_day() {
            if self.has_expired() {
                report.postponed.push(format!("{UNUSUAL}; {ARCHIVES_STAY}"));
            }
            return Ok(());
        }
        let holds = self.holds()?;
        let (mut bytes, most) = (self.parts.stores.archive.size().1, self.settings.archive_max_bytes);
        for file in files {
            self.go_on()?;
            let too_old = file.facts.day < self.keeps_archives_from();
            let too_much = most > 0 && bytes > most;
            if !(too_old || too_much) {
                break;
            }
            if file.restored_until.is_some() && !self.is_over(file) {
                continue;
            }
            let reason = if too_old { Reason::Expired } else { Reason::Cap };
            let planned = self.plan_file(file, reason, &holds);
            let Some(Some(planned)) = self.aside(report, "deleting archives", planned)? else { continue };
            let all = u128::from(planned.rows + planned.held).max(1);
            let freed = u128::from(file.facts.bytes) * u128::from(planned.rows) / all;
            bytes -= u64::try_from(freed).unwrap_or(u64::MAX).min(bytes);
            report.add_expired(planned);
        }
        Ok(())
    }

    /// What would become of one file; `None` if nothing.
    fn plan_file(&self, file: &FileState, reason: Reason, holds: &[Hold]) -> Step<Option<ExpiredFile>> {
        let (name, reason) = (file.facts.name.clone(), reason.name().to_owned());
        if holds.is_empty() {
            return Ok(Some(ExpiredFile { name, reason, rows: file.facts.rows, held: 0 }));
        }
        if self.is_held(&file.facts, holds) {
            return Ok(None);
        }
        let at = super::days::name_of(&file.facts)?;
        let reader = self.parts.stores.archive.read(at).map_err(|fault| fault_of(at, &fault))?;
        let (mut rows, mut stay) = (0, 0);
        for frame in &reader.index.frames {
            self.go_on()?;
            for record in reader.records(frame).map_err(|fault| fault_of(at, &fault))? {
                let counts = u64::from(!matches!(record, crate::store::archive::Record::Notes(..)));
                if held_by(holds, &record).0 { stay += counts } else { rows += counts }
            }
            self.rest();
        }
        Ok((rows > 0).then_some(ExpiredFile { name, reason, rows, held: stay }))
    }

    /// Files of past months in which nothing would be left.
    fn plan_dropping(&self, files: &[FileState], leaving: &BTreeSet<Day>, report: &mut Report) -> Step<()> {
        let copies: BTreeSet<Day> = files
            .iter()
            .filter(|file| file.restored_until.is_some() && !self.is_over(file))
            .map(|file| file.facts.day)
            .collect();
        let mut staying = BTreeSet::new();
        for day in self.block(self.parts.stores.shelf.days(self.today.plus(1)))? {
            let only_copies = || -> Step<bool> {
                let rows = self.block(self.parts.stores.shelf.rows_of(day))?;
                Ok(rows <= self.restored_rows(day))
            };
            let leaves = !copies.contains(&day) && (leaving.contains(&day) || only_copies()?);
            if !leaves {
                staying.insert(month_of(day));
            }
        }
        let this_month = month_of(self.today);
        for part in self.block(self.parts.stores.audit.partitions())? {
            if part.month < this_month && !staying.contains(&part.month) {
                report.dropped.push(part.file);
            }
        }
        Ok(())
    }

    fn plan_change_log(&self, report: &mut Report) -> Step<()> {
        let before: Timestamp = self.keeps_lines_from();
        let query = ChangeQuery { to: Some(before), ..ChangeQuery::default() };
        let lines = self.block(self.parts.stores.changes.count_changes(&query))?;
        if self.is_a_usual_day() {
            report.change_lines = lines;
        } else if lines > 0 {
            report.postponed.push(format!("{UNUSUAL}; {LINES_STAY}"));
        }
        Ok(())
    }
}

/// The month of a day, as partitions name it.
fn month_of(day: Day) -> String {
    day.to_string().chars().take(7).collect()
}
