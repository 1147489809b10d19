//! Days leave the audit: read, written into a file, read back, entered into the manifest, and only then removed.
//!
//! Removing goes by what the file gives back, record by record, so a row that came in meanwhile stays and makes a further
//! file at the next run. Rows of a day that are only restored copies are passed over.

use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use super::RetentionError;
use super::report::{ArchivedDay, Report};
use super::run::{BATCH, Run, Step, refused};
use super::tell::count_archived;
use crate::model::{Day, EventId};
use crate::store::archive::{Act, FileFacts, FileName, Record, Writer, fault_of, point};
use crate::store::{Change, Place, StoreError};

/// Rows read at once.
const CHUNK: usize = 1_000;
/// Events in one file: a gigabyte unpacked. A day with more makes several, so that a file can be rewritten and verified in
/// seconds.
const FILE_ROWS: u64 = 1_000_000;

impl Run<'_> {
    /// Removes from the audit what is in files that were entered and not finished with. A file that is not what it was stays as
    /// it is, and so does its day, until it is whole again.
    pub(super) fn settle_all(&self, change: &Change, report: &mut Report) -> Step<()> {
        for file in self.parts.stores.archive.files().into_iter().filter(|file| !file.settled) {
            let settled = self.settle(&file.facts, "interrupted", change);
            if self.aside(report, "finishing an interrupted run", settled)?.is_some() {
                report.settled += 1;
            }
        }
        Ok(())
    }

    /// Days of which a file was not finished with: what is in the audit of them may be in the file too.
    pub(super) fn unsettled_days(&self) -> BTreeSet<Day> {
        let files = self.parts.stores.archive.files();
        files.iter().filter(|file| !file.settled).map(|file| file.facts.day).collect()
    }

    /// Removes the events of a file from the audit, and tells so. The line of the change log comes before the manifest says that
    /// it is done, so that a crash between the two costs a second line and not the only one.
    fn settle(&self, facts: &FileFacts, why: &'static str, change: &Change) -> Step<u64> {
        let removed = self.remove_all(name_of(facts)?)?;
        let day = facts.day;
        let (entries, head) = self.parts.stores.archive.head();
        let new = json!({
            "archive": facts.name, "rows": facts.rows, "notes": facts.notes, "sha256": facts.sha256,
            "because_of": why, "manifest_lines": entries, "manifest_head": head,
        });
        self.tell_changes(change, "event_audit", &day.to_string(), Some(json!({"rows": facts.rows})), Some(new))?;
        point("change log written");
        self.note(Act::Settled { name: facts.name.clone(), removed })?;
        count_archived(facts.rows);
        tracing::info!(
            %day, file = facts.name, rows = facts.rows, bytes = facts.bytes, because_of = why,
            "{} events of {day} left the audit for the archive {}", facts.rows, facts.name
        );
        Ok(removed)
    }

    /// Removes every record of a file from the audit, in small transactions.
    pub(super) fn remove_all(&self, name: FileName) -> Step<u64> {
        let reader = self.parts.stores.archive.read(name).map_err(|fault| fault_of(name, &fault))?;
        let mut removed = 0;
        for frame in &reader.index.frames {
            let mut records = reader.records(frame).map_err(|fault| fault_of(name, &fault))?.into_iter().peekable();
            while records.peek().is_some() {
                self.go_on()?;
                let batch: Vec<Record> = records.by_ref().take(BATCH).collect();
                removed += self.block(self.parts.stores.shelf.remove(batch))?;
                point("rows removed");
                self.rest();
            }
        }
        Ok(removed)
    }

    /// Rows of a day that are copies of restored archives.
    pub(super) fn restored_rows(&self, day: Day) -> u64 {
        let files = self.parts.stores.archive.files();
        files
            .iter()
            .filter(|file| file.facts.day == day && file.restored_until.is_some())
            .map(|file| file.facts.rows)
            .sum()
    }

    /// Archives every day whose time is up, then as many further ones as the audit's cap asks for, oldest first.
    pub(super) fn archive_days(&self, change: &Change, report: &mut Report) -> Step<()> {
        for day in self.block(self.parts.stores.shelf.days(self.keeps_events_from()))? {
            self.try_day(day, "age", change, report)?;
        }
        let most = self.settings.audit_max_bytes;
        if most > 0 {
            for day in self.block(self.parts.stores.shelf.days(self.today))? {
                if self.block(self.parts.stores.shelf.size())?.used <= most {
                    break;
                }
                self.try_day(day, "cap", change, report)?;
            }
        }
        Ok(())
    }

    /// Archives one day. A day that cannot be read is told and others are still tried; a disk that is short of room ends it.
    fn try_day(&self, day: Day, why: &'static str, change: &Change, report: &mut Report) -> Step<()> {
        self.go_on()?;
        self.enough_room()?;
        if self.unsettled_days().contains(&day) {
            // Why was told when it was tried to finish with its file.
            return Ok(());
        }
        let archived = self.archive_day(day, why, change, report);
        self.aside(report, &format!("archiving {day}"), archived).map(drop)
    }

    fn enough_room(&self) -> Step<()> {
        let free = (self.parts.free)();
        if let Some(free) = free.filter(|free| *free < self.settings.min_free_bytes) {
            return Err(refused(format!(
                "{free} bytes of disk are free, and an archive is only written while there are {} \
                 (retention_min_free_bytes); free some space, nothing was removed",
                self.settings.min_free_bytes
            )));
        }
        Ok(())
    }

    fn archive_day(&self, day: Day, why: &'static str, change: &Change, report: &mut Report) -> Step<()> {
        let mut files: Vec<FileFacts> = Vec::new();
        let written = self.write_day(day, &mut files);
        let mut removed = 0;
        for facts in &files {
            removed += self.settle(facts, why, change)?;
        }
        if !files.is_empty() {
            let bytes = files.iter().map(|facts| facts.bytes).sum();
            let files = files.into_iter().map(|facts| facts.name).collect();
            report.add_day(ArchivedDay { day, rows: removed, files, bytes });
        }
        written
    }

    /// Writes a day into files; those that are whole are in `files`, also when a later one fails.
    fn write_day(&self, day: Day, files: &mut Vec<FileFacts>) -> Step<()> {
        let copies = self.restored_ids(day)?;
        let archive = &self.parts.stores.archive;
        let mut writer: Option<Writer> = None;
        let mut place = Some(Place::Start);
        while let Some(at) = place {
            self.go_on()?;
            let chunk = self.block(self.parts.stores.shelf.read_day(day, at, CHUNK)).map_err(unreadable)?;
            for record in chunk.records {
                if copies.contains(&record.id()) && !matches!(record, Record::Notes(..)) {
                    continue;
                }
                let under_way = match writer.take() {
                    Some(writer) => writer,
                    None => archive.create(day)?,
                };
                let under_way = writer.insert(under_way);
                archive.push(under_way, &record)?;
                if under_way.rows() >= FILE_ROWS
                    && let Some(full) = writer.take()
                {
                    files.push(archive.commit(full, &|| self.rest())?);
                }
            }
            place = chunk.next;
            self.rest();
        }
        if let Some(last) = writer {
            files.push(archive.commit(last, &|| self.rest())?);
        }
        Ok(())
    }

    /// The events of a day that are in the audit as restored copies.
    fn restored_ids(&self, day: Day) -> Step<HashSet<EventId>> {
        let mut ids = HashSet::new();
        for file in self.parts.stores.archive.files() {
            if file.facts.day != day || file.restored_until.is_none() {
                continue;
            }
            let name = name_of(&file.facts)?;
            let reader = self.parts.stores.archive.read(name).map_err(|fault| fault_of(name, &fault))?;
            for frame in &reader.index.frames {
                self.go_on()?;
                let records = reader.records(frame).map_err(|fault| fault_of(name, &fault))?;
                ids.extend(records.iter().map(Record::id));
            }
        }
        Ok(ids)
    }
}

/// An audit that cannot be read fails for the days that lie in the same file, not for all.
fn unreadable(error: StoreError) -> RetentionError {
    refused(error.to_string())
}

/// The name in a file's facts.
pub(super) fn name_of(facts: &FileFacts) -> Step<FileName> {
    facts.name.parse().map_err(|error| refused(format!("{error}")))
}
