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
    pub(super) fn is_held(&self, facts: &FileFacts, holds: &[Hold]) -> bool {
        let in_force: BTreeSet<HoldMark> = holds.iter().map(HoldMark::of).collect();
        let memory = self.inner.memory.lock();
        let known = memory.held.get(&facts.name).filter(|known| known.sha256 == facts.sha256);
        known.is_some_and(|known| known.by.is_subset(&in_force))
    }

    fn expire_all(&self, change: &Change, report: &mut Report) -> Step<()> {
        for file in self.parts.stores.archive.files() {
            if file.facts.day < self.keeps_archives_from() {
                self.try_file(&file, Reason::Expired, change, report)?;
            }
        }
        let most = self.settings.archive_max_bytes;
        for file in self.parts.stores.archive.files() {
            if most == 0 || self.parts.stores.archive.size().1 <= most {
                break;
            }
            self.try_file(&file, Reason::Cap, change, report)?;
        }
        Ok(())
    }

    /// A file that cannot be read is told, and the others have their turn.
    fn try_file(&self, file: &FileState, reason: Reason, change: &Change, report: &mut Report) -> Step<()> {
        let expired = self.expire_file(file, reason, change, report);
        self.aside(report, "deleting archives", expired).map(drop)
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
            let keep = |record: &Record| {
                let (keeps, hold) = held_by(&holds, record);
                by.borrow_mut().extend(hold.map(HoldMark::of));
                keeps
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
}

/// Whether a record stays when its file expires, and because of which hold.
pub(super) fn held_by<'a>(holds: &'a [Hold], record: &Record) -> (bool, Option<&'a Hold>) {
    match record {
        Record::Event(judged, _) => {
            let hold = holds.iter().find(|hold| hold.covers(judged));
            (hold.is_some(), hold)
        }
        // Whose they are cannot be told without their event; kept as long as anything is held.
        Record::Notes(..) | Record::Damaged(_) => (true, None),
    }
}
