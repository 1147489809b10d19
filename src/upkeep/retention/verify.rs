//! Archives are read back as a whole and compared with the manifest: each once a month, one that was found damaged at every
//! run until it is whole again, and any on request.
//!
//! Changes nothing. When each was read last, and what did not fit, is remembered beside the archive; after a crash what was
//! not remembered is read again in its turn.

use std::collections::{BTreeMap, BTreeSet};

use metrics::counter;

use super::report::{ArchiveCheck, Report};
use super::run::{Run, Step};
use crate::store::archive::FileName;
use crate::telemetry::metrics::ARCHIVES_VERIFIED;

/// Days of a month over which verification is spread: each has them.
const VERIFY_DAYS: u32 = 28;

impl Run<'_> {
    /// Archives whose turn it is today, and those that were not what they should be when they were last read.
    pub(super) fn due_for_verification(&self) -> Vec<FileName> {
        let turn = |name: &FileName| {
            let sum: u32 = name.to_string().bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            sum % VERIFY_DAYS + 1
        };
        let damaged: BTreeSet<String> = {
            let memory = self.inner.memory.lock();
            let damaged = memory.checked.iter().filter(|(_, check)| check.fault.is_some());
            damaged.map(|(name, _)| name.clone()).collect()
        };
        let files = self.parts.stores.archive.files();
        let names = files.iter().filter_map(|file| file.facts.name.parse().ok());
        names.filter(|name| turn(name) == self.today.day_of_month() || damaged.contains(&name.to_string())).collect()
    }

    /// Reads archives and compares them; what was read before something fails is remembered too.
    pub(super) fn verify(&self, names: &[FileName], report: &mut Report) -> Step<()> {
        let mut checked = BTreeMap::new();
        let outcome = self.compare(names, report, &mut checked);
        if !checked.is_empty() {
            let there = self.archive_names();
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
            let fault = self.parts.stores.archive.verify(*name, &|| self.rest())?.map(|fault| fault.why);
            if let Some(why) = &fault {
                tracing::error!(file = %name, "Archive {name} is not what it was: {why}");
                report.damaged.push(format!("{name}: {why}"));
            }
            let result = if fault.is_none() { "ok" } else { "damaged" };
            counter!(ARCHIVES_VERIFIED, "result" => result).increment(1);
            checked.insert(name.to_string(), ArchiveCheck { at: self.parts.clock.now(), fault });
            report.verified += 1;
        }
        Ok(())
    }
}
