//! Archives that are too old or too many are deleted, oldest first. Events that a hold covers are kept in a rewritten file,
//! whatever the age and whatever the cap. Which holds keep what is left is remembered, so that such a file is read again only
//! when one of them was lifted.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::json;

use super::days::name_of;
use super::report::{ExpiredFile, HeldFile, HoldMark, Report};
use super::run::{Run, Step};
use super::tell::count_deleted;
use crate::store::archive::{FileFacts, FileState, Reason, Record};
use crate::store::{Change, Hold};

impl Run<'_> {
    /// Whether any archive is due to be deleted.
    pub(super) fn has_expired(&self) -> bool {
        let too_many = self.settings.archive_max_bytes;
        let too_old = |file: &FileState| file.facts.day < self.keeps_archives_from();
        self.parts.stores.archive.files().iter().any(too_old)
            || (too_many > 0 && self.parts.stores.archive.size().1 > too_many)
    }

    /// Deletes what is too old, then what is too much.
    pub(super) fn expire(&self, change: &Change, report: &mut Report) -> Step<()> {
        let expired = self.expire_all(change, report);
        let found = self.held.take();
        if !found.is_empty() {
            let there = self.archive_names();
            self.inner.remember(|memory| {
                memory.held.extend(found);
                memory.held.retain(|name, _| there.contains(name));
            });
        }
        expired
    }

    /// Whether what is left of a file is all kept by holds that are still in force.
    fn is_held(&self, facts: &FileFacts, holds: &[Hold]) -> bool {
        let in_force: BTreeSet<HoldMark> = holds.iter().map(HoldMark::of).collect();
        let memory = self.inner.memory.lock();
        let known = memory.held.get(&facts.name).filter(|known| known.sha256 == facts.sha256);
        known.is_some_and(|known| known.by.is_subset(&in_force))
    }

    fn expire_all(&self, change: &Change, report: &mut Report) -> Step<()> {
        for file in self.parts.stores.archive.files() {
            if file.facts.day < self.keeps_archives_from() {
                self.expire_file(&file, Reason::Expired, change, report)?;
            }
        }
        let most = self.settings.archive_max_bytes;
        for file in self.parts.stores.archive.files() {
            if most == 0 || self.parts.stores.archive.size().1 <= most {
                break;
            }
            self.expire_file(&file, Reason::Cap, change, report)?;
        }
        Ok(())
    }

    fn expire_file(&self, file: &FileState, reason: Reason, change: &Change, report: &mut Report) -> Step<()> {
        self.go_on()?;
        // A file whose copy someone is reading in the audit goes when the restore has ended.
        if file.restored_until.is_some() || !file.settled {
            return Ok(());
        }
        let name = name_of(&file.facts)?;
        // For each file anew: a hold may be placed while a run deletes years.
        let holds = self.holds()?;
        let (removed, kept) = if holds.is_empty() {
            (self.parts.stores.archive.delete(name, reason)?.rows, None)
        } else if self.is_held(&file.facts, &holds) {
            return Ok(());
        } else {
            let by = RefCell::new(BTreeSet::new());
            let keep = |record: &Record| match record {
                Record::Event(judged, _) => {
                    let hold = holds.iter().find(|hold| hold.covers(judged));
                    by.borrow_mut().extend(hold.map(HoldMark::of));
                    hold.is_some()
                }
                // Whose they are cannot be told without their event; kept as long as anything is held.
                Record::Notes(..) | Record::Damaged(_) => true,
            };
            let rewrite = self.parts.stores.archive.rewrite(name, reason, &keep, &|| self.rest())?;
            if let Some(kept) = &rewrite.file {
                let held = HeldFile { sha256: kept.sha256.clone(), by: by.into_inner() };
                self.held.borrow_mut().insert(kept.name.clone(), held);
            }
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
        let (mut bytes, most) = (self.parts.stores.archive.size().1, self.settings.archive_max_bytes);
        for file in self.parts.stores.archive.files() {
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
