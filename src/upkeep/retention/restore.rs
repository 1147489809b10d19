//! Archives come back into the audit for some days, and their copies leave it again.
//!
//! That a file is restored is entered into the manifest before its first event is put back, so that a crash in between
//! leaves no event that would be taken for a new one. Before that the file is read as a whole: what was altered does not get
//! into the audit. Ending it removes exactly what the file holds; the file was never gone.

use serde_json::json;

use super::days::name_of;
use super::report::Report;
use super::run::{BATCH, Run, Step, refused};
use crate::model::Timestamp;
use crate::store::Change;
use crate::store::archive::{Act, FileName, Record, fault_of, point};

impl Run<'_> {
    /// Puts the events of files into the audit.
    pub(super) fn restore(
        &self,
        names: &[FileName],
        until: Timestamp,
        change: &Change,
        report: &mut Report,
    ) -> Step<()> {
        for name in names {
            let file = self.parts.stores.archive.file(*name);
            let file = file.ok_or_else(|| refused(format!("there is no archive `{name}`")))?;
            if !file.settled {
                return Err(refused(format!("the events of `{name}` have not left the audit yet")));
            }
            let damaged = report.damaged.len();
            self.verify(&[*name], report)?;
            if report.damaged.len() > damaged {
                if names.len() == 1 {
                    return Err(refused(format!("archive {}; nothing was restored", report.damaged[damaged])));
                }
                continue;
            }
            let act = Act::Restored { name: name.to_string(), until: until.as_micros(), by: change.by.clone() };
            self.note(act)?;
            point("restore noted");
            let reader = self.parts.stores.archive.read(*name).map_err(|fault| fault_of(*name, &fault))?;
            let mut rows = 0;
            for frame in &reader.index.frames {
                let mut records =
                    reader.records(frame).map_err(|fault| fault_of(*name, &fault))?.into_iter().peekable();
                while records.peek().is_some() {
                    self.go_on()?;
                    let batch: Vec<Record> = records.by_ref().take(BATCH).collect();
                    rows += self.block(self.parts.stores.shelf.put_back(batch))?;
                    point("rows put back");
                    self.rest();
                }
            }
            let new = json!({"rows": rows, "until": until.to_string(), "sha256": file.facts.sha256});
            self.tell_changes(change, "archive_restores", &name.to_string(), None, Some(new))?;
            tracing::info!(file = %name, rows, %until, "{rows} events of the archive {name} were put into the audit until {until}");
        }
        Ok(())
    }

    /// Ends every restore whose time is up.
    pub(super) fn end_restores(&self, change: &Change, report: &mut Report) -> Step<()> {
        for file in self.parts.stores.archive.files() {
            if file.restored_until.is_some_and(|until| until <= self.now) {
                let name = name_of(&file.facts)?;
                let given_back = self.give_back(name, change);
                if self.aside(report, "ending restores", given_back)?.is_some() {
                    report.returned.push(name.to_string());
                }
            }
        }
        Ok(())
    }

    /// Removes the copies of a restored file from the audit.
    pub(super) fn give_back(&self, name: FileName, change: &Change) -> Step<()> {
        let file = self.parts.stores.archive.file(name);
        if file.is_none_or(|file| file.restored_until.is_none()) {
            return Err(refused(format!("archive `{name}` is not restored")));
        }
        let removed = self.remove_all(name)?;
        self.note(Act::Returned { name: name.to_string(), removed })?;
        self.tell_changes(change, "archive_restores", &name.to_string(), Some(json!({"rows": removed})), None)?;
        tracing::info!(file = %name, rows = removed, "{removed} restored events of {name} left the audit again");
        Ok(())
    }
}
