//! One host's data is erased: from the audit, the archive, the store of recent events and the counters.
//!
//! Only events whose host it is; that its name occurs in another host's message is not looked for. Queues, dead letters and
//! backups are not covered. A request that was taken down is carried out by this step, now or by the next run; each part can be
//! done again, and the request counts as done when all parts are.

use super::days::name_of;
use super::report::Report;
use super::run::{BATCH, Run, Step};
use super::tell::count_deleted;
use crate::model::host_key;
use crate::store::archive::{FileState, Reason, Record};
use crate::store::{Change, Erased, Erasure, EventQuery};

impl Run<'_> {
    /// Carries out the erasures that wait.
    pub(super) fn erase_requested(&self, change: &Change, report: &mut Report) -> Step<()> {
        let mut waiting = self.block(self.parts.stores.holds.erasures())?;
        waiting.retain(|erasure| erasure.finished_at.is_none());
        waiting.sort_by_key(|erasure| erasure.id);
        for erasure in waiting {
            let holds = self.holds()?;
            if let Some(hold) = holds.iter().find(|hold| hold.is_about(&erasure.hostname)) {
                let why = format!("the erasure of `{}` waits: the hold `{}` may cover it", erasure.hostname, hold.name);
                report.postponed.push(why);
                continue;
            }
            let (erased, is_whole) = self.erase(&erasure, change, report)?;
            if !is_whole {
                // What could not be read may hold events of the host: the request waits for it.
                continue;
            }
            self.block(self.parts.stores.holds.finish_erasure(erasure.id, erased, change))?;
            report.erasures += 1;
            tracing::info!(
                erasure = erasure.id,
                audit = erased.audit,
                archive = erased.archive,
                recent = erased.recent,
                "Erasure {} is done",
                erasure.id
            );
        }
        Ok(())
    }

    /// Erases from everything that can be read. Answers whether that was everything.
    fn erase(&self, erasure: &Erasure, change: &Change, report: &mut Report) -> Step<(Erased, bool)> {
        let key = &erasure.hostname;
        let mut is_whole = true;
        let mut erased = Erased { audit: self.erase_from_audit(key)?, ..Erased::default() };
        for file in self.parts.stores.archive.files() {
            let removed = self.erase_from_file(&file, key, change);
            let removed = self.aside(report, &format!("erasing `{key}`"), removed)?;
            is_whole &= removed.is_some();
            let removed = removed.unwrap_or(0);
            erased.archive += removed;
            erased.files += u64::from(removed > 0);
        }
        self.block(self.parts.stores.shelf.forget_host(key))?;
        erased.recent = self.block(self.parts.stores.recent.erase_host(key))?;
        erased.counters = self.block(self.parts.stores.unhandled.forget_host(key))?;
        count_deleted(Reason::Erased.name(), erased.audit + erased.archive);
        Ok((erased, is_whole))
    }

    fn erase_from_audit(&self, key: &str) -> Step<u64> {
        let mut removed = 0;
        let mut query = EventQuery { hostname: Some(key.to_owned()), limit: BATCH, ..EventQuery::default() };
        loop {
            self.go_on()?;
            let page = self.block(self.parts.stores.audit.search(&query))?;
            let mut records = Vec::with_capacity(page.items.len());
            for judged in page.items {
                let notes = self.block(self.parts.stores.audit.deliveries(judged.event.id))?;
                records.push(Record::Event(Box::new(judged), notes));
            }
            if !records.is_empty() {
                removed += self.block(self.parts.stores.shelf.remove(records))?;
            }
            self.rest();
            query.before = page.next;
            if page.next.is_none() {
                return Ok(removed);
            }
        }
    }

    fn erase_from_file(&self, file: &FileState, key: &str, change: &Change) -> Step<u64> {
        self.go_on()?;
        let name = name_of(&file.facts)?;
        let reader =
            self.parts.stores.archive.read(name).map_err(|fault| crate::store::archive::fault_of(name, &fault))?;
        if !reader.index.frames.iter().any(|frame| frame.may_hold_host(key)) {
            return Ok(0);
        }
        if file.restored_until.is_some() {
            // The new file would not know that its events have copies in the audit.
            self.give_back(name, change)?;
        }
        let keep = |record: &Record| match record {
            Record::Event(judged, _) => host_key(&judged.event.hostname) != *key,
            Record::Notes(..) | Record::Damaged(_) => true,
        };
        let rewrite = self.parts.stores.archive.rewrite(name, Reason::Erased, &keep, &|| self.rest())?;
        Ok(rewrite.removed)
    }
}
