//! Archives that are too old or too many are deleted, oldest first. Events that a hold covers are kept in a rewritten file,
//! whatever the age and whatever the cap.

use serde_json::json;

use super::days::name_of;
use super::report::{ExpiredFile, Report};
use super::run::{Run, Step, count_deleted};
use crate::store::archive::{FileState, Reason, Record};
use crate::store::{Change, Hold};

impl Run<'_> {
    /// Whether any archive is due to be deleted.
    pub(super) fn has_expired(&self) -> bool {
        let too_many = self.settings.archive_max_bytes;
        let too_old = |file: &FileState| file.facts.day < self.keeps_archives_from();
        self.parts.archive.files().iter().any(too_old) || (too_many > 0 && self.parts.archive.size().1 > too_many)
    }

    /// Deletes what is too old, then what is too much.
    pub(super) fn expire(&self, change: &Change, report: &mut Report) -> Step<()> {
        let holds = self.holds()?;
        for file in self.parts.archive.files() {
            if file.facts.day < self.keeps_archives_from() {
                self.expire_file(&file, Reason::Expired, &holds, change, report)?;
            }
        }
        let most = self.settings.archive_max_bytes;
        for file in self.parts.archive.files() {
            if most == 0 || self.parts.archive.size().1 <= most {
                break;
            }
            self.expire_file(&file, Reason::Cap, &holds, change, report)?;
        }
        Ok(())
    }

    fn expire_file(
        &self,
        file: &FileState,
        reason: Reason,
        holds: &[Hold],
        change: &Change,
        report: &mut Report,
    ) -> Step<()> {
        self.go_on()?;
        // A file whose copy someone is reading in the audit goes when the restore has ended.
        if file.restored_until.is_some() || !file.settled {
            return Ok(());
        }
        let name = name_of(&file.facts)?;
        let (removed, kept) = if holds.is_empty() {
            (self.parts.archive.delete(name, reason)?.rows, None)
        } else {
            let keep = |record: &Record| match record {
                Record::Event(judged, _) => holds.iter().any(|hold| hold.covers(judged)),
                // Whose they are cannot be told without their event; kept as long as anything is held.
                Record::Notes(..) | Record::Damaged(_) => true,
            };
            let rewrite = self.parts.archive.rewrite(name, reason, &keep, &|| self.rest())?;
            if rewrite.file.as_ref() == Some(&file.facts) {
                return Ok(());
            }
            (rewrite.removed, rewrite.file)
        };
        count_deleted(reason.name(), removed);
        let held = kept.as_ref().map_or(0, |kept| kept.rows);
        let old = json!({"rows": file.facts.rows, "sha256": file.facts.sha256, "because_of": reason.name()});
        let new = kept.as_ref().map(|kept| json!({"archive": kept.name, "rows": kept.rows, "because_of": "hold"}));
        self.tell_changes(change, "archives", &file.facts.name, Some(old), new)?;
        tracing::info!(
            file = file.facts.name,
            rows = removed,
            held,
            because_of = reason.name(),
            "{removed} events of the archive {} were deleted",
            file.facts.name
        );
        let name = file.facts.name.clone();
        report.add_expired(ExpiredFile { name, reason: reason.name().to_owned(), rows: removed, held });
        Ok(())
    }

    /// What deleting would do. Held events are not counted apart: that would mean to read every file.
    pub(super) fn plan_expiry(&self, report: &mut Report) -> Step<()> {
        let holds = self.holds()?.len();
        let (mut bytes, most) = (self.parts.archive.size().1, self.settings.archive_max_bytes);
        for file in self.parts.archive.files() {
            let too_old = file.facts.day < self.keeps_archives_from();
            let too_much = most > 0 && bytes > most;
            if !(too_old || too_much) {
                break;
            }
            bytes -= file.facts.bytes.min(bytes);
            let reason = if too_old { Reason::Expired } else { Reason::Cap }.name().to_owned();
            report.add_expired(ExpiredFile { name: file.facts.name, reason, rows: file.facts.rows, held: 0 });
        }
        if holds > 0 && !report.deleted.is_empty() {
            report.postponed.push(format!("{holds} holds are in force: what they cover of these archives is kept"));
        }
        if !self.is_a_usual_day() && !report.deleted.is_empty() {
            report
                .postponed
                .push("the clock may have been set: archives would be deleted by the next day's run".to_owned());
        }
        Ok(())
    }
}
