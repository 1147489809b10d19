//! Reads the change log from the first line to the last and compares each with its link, then the end with seal and
//! anchor. Holds one line and a few hashes in memory; writes nothing; sees one moment of the database.
//!
//! A line that does not fit is named, and the walk goes on from there: what follows is compared with what it may have
//! been written after, so that one altered line is one fault and not a thousand.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::super::connect::Fault;
use super::cut::{Base, read_base};
use super::line::{Hash, differing, hex, link, marks};
use super::seal::{Anchored, Found, Seal, read_anchor, read_key, read_seal};
use super::{COLUMNS, Values};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::store::{StoreError, Tampering, TrailFault, TrailHead, TrailReport};

/// The columns of [`COLUMNS`], then link and marks.
pub(super) const SELECT: &str = "SELECT id, changed_at, changed_by, operation, table_name, record_id, old_values, \
     new_values, reason, correlation_id, changed_via, changed_from, row_hash, row_marks FROM config_audit_log";

/// Faults that are named; more are only counted.
const MOST_NAMED: usize = 100;

/// What a line may have been written after, beyond the one before it; more would only be tried in vain.
const MOST_CANDIDATES: usize = 8;

/// Verifies the log that `connection` reads.
pub(in super::super) fn verify(
    connection: &Connection,
    folder: &Path,
    against: &[TrailHead],
    clock: &Clock,
) -> Result<TrailReport, Fault> {
    known(connection)?;
    let key = read_key(folder);
    // Before the lines are looked at: a change that is made meanwhile moves the anchor on.
    let anchored = key.as_ref().map_or(Anchored::Missing, |key| read_anchor(folder, key));
    let moment = connection.unchecked_transaction()?;
    let found = match &key {
        Some(key) => Some(read_seal(&moment, key)?),
        None => None,
    };
    let base = read_base(&moment, key.as_ref())?;
    let mut walk = Walk::new(against, &anchored, &base);
    let mut statement = moment.prepare(&format!("{SELECT} ORDER BY id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        walk.line(row)?;
    }
    walk.settle();
    let guards: i64 = moment.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'config_audit_log' \
         AND name IN ('config_audit_log_no_update', 'config_audit_log_no_delete')",
        [],
        |row| row.get(0),
    )?;
    if guards < 2 {
        walk.fault(Tampering::Guard, None, "the triggers that keep the log append-only are gone".into());
    }
    let seal = walk.compare_seal(found, &anchored);
    Ok(walk.report(&seal, clock.now()))
}

/// The sealed end of the log; says nothing about whether it is right.
pub(in super::super) fn sealed_head(connection: &Connection) -> Result<TrailHead, Fault> {
    known(connection)?;
    let seal = connection.query_row("SELECT lines, last_id, head FROM config_audit_seal WHERE one = 1", [], |row| {
        let hash: Vec<u8> = row.get(2)?;
        Ok(TrailHead { lines: row.get::<_, i64>(0)?.try_into().unwrap_or(0), last_id: row.get(1)?, hash: hex(&hash) })
    });
    match seal {
        Err(rusqlite::Error::QueryReturnedNoRows) => {
            Err(StoreError::Invalid("the change log has no seal; see `muttd audit verify`".into()).into())
        }
        other => Ok(other?),
    }
}

/// Refuses a database that no version with a chain has opened yet.
fn known(connection: &Connection) -> Result<(), Fault> {
    let there: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'config_audit_seal')",
        [],
        |row| row.get(0),
    )?;
    if there {
        return Ok(());
    }
    let why = "its change log is not chained yet; start this version of the appliance on it once";
    Err(StoreError::Invalid(why.into()).into())
}

/// The chained values of a row of [`SELECT`].
pub(super) fn read_values<'a>(row: &'a Row<'_>) -> Result<Values<'a>, Fault> {
    let mut values = [ValueRef::Null; COLUMNS.len()];
    for (index, value) in values.iter_mut().enumerate() {
        *value = row.get_ref(index)?;
    }
    Ok(values)
}

/// Why the next line may follow a hash; tells what happened to the line before if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    /// It is the link of the line before, which is in order.
    InOrder,
    /// The line before carries it.
    Carried,
    /// The line before should carry it.
    Due,
    /// It comes from further up.
    Earlier,
}

/// A line that does not follow the one before it; the next line tells why.
struct Pending {
    id: i64,
    at: Option<Timestamp>,
}

/// The walk over the lines.
struct Walk {
    lines: u64,
    last_id: i64,
    last_hash: Hash,
    candidates: Vec<(Hash, Because)>,
    pending: Option<Pending>,
    /// Heads that must be met on the way, and whether each was.
    awaited: Vec<(TrailHead, Tampering, bool)>,
    /// Up to where lines were cut off at the beginning.
    cut: Option<TrailHead>,
    faults: Vec<TrailFault>,
    found: u64,
}

impl Walk {
    fn new(against: &[TrailHead], anchored: &Anchored, base: &Base) -> Self {
        let (start, is_wrong) = match base {
            Base::First => (Seal::EMPTY, false),
            Base::After(seal) => (seal.clone(), false),
            Base::Wrong => (Seal::EMPTY, true),
        };
        let heads = against.iter().map(|head| (head.clone(), Tampering::Head, false));
        let mut awaited: Vec<_> = heads.collect();
        if let Anchored::At(anchor) = anchored {
            awaited.push((anchor.head(), Tampering::Anchor, false));
        }
        // The head where the log begins is met before the first line.
        for (head, _, met) in &mut awaited {
            *met = *head == start.head();
        }
        let mut walk = Self {
            lines: u64::try_from(start.lines).unwrap_or(0),
            last_id: start.last_id,
            last_hash: start.head,
            candidates: vec![(start.head, Because::InOrder)],
            pending: None,
            awaited,
            cut: matches!(base, Base::After(_)).then(|| start.head()),
            faults: Vec::new(),
            found: 0,
        };
        if is_wrong {
            let why = "where the log was cut off at its beginning was not written by this appliance".to_owned();
            walk.fault(Tampering::Removed, None, why);
        }
        walk
    }

    fn fault(&mut self, kind: Tampering, line: Option<(i64, Option<Timestamp>)>, why: String) {
        self.found += 1;
        if self.faults.len() < MOST_NAMED {
            let (id, changed_at) = line.map_or((None, None), |(id, at)| (Some(id), at));
            self.faults.push(TrailFault { kind, id, changed_at, why });
        }
    }

    /// Looks at the next line.
    fn line(&mut self, row: &Row<'_>) -> Result<(), Fault> {
        let values = read_values(row)?;
        let id: i64 = row.get(0)?;
        let at = row.get::<_, i64>(1).ok().map(Timestamp::from_micros);
        self.lines += 1;
        let stored: Option<Hash> = match row.get_ref(COLUMNS.len())? {
            ValueRef::Blob(bytes) => bytes.try_into().ok(),
            _ => None,
        };
        let kept: &[u8] = match row.get_ref(COLUMNS.len() + 1)? {
            ValueRef::Blob(bytes) => bytes,
            _ => &[],
        };
        let Some(stored) = stored else {
            self.settle();
            let why = "it has no link: its `row_hash` was removed, or it was not written by the appliance".to_owned();
            self.fault(Tampering::Inserted, Some((id, at)), why);
            self.lead_on(&[], &values);
            self.last_id = id;
            return Ok(());
        };
        let differs = differing(kept, &marks(&values));
        let follows =
            self.candidates.iter().find(|(hash, _)| link(hash, &values) == stored).map(|(_, because)| *because);
        match follows {
            Some(because) => self.in_order(id, at, stored, because, differs.as_deref()),
            None => self.out_of_order(id, at, stored, differs, &values),
        }
        self.last_id = id;
        self.last_hash = stored;
        for (head, _, met) in &mut self.awaited {
            *met |= head.last_id == id && head.lines == self.lines && head.hash == hex(&stored);
        }
        Ok(())
    }

    fn in_order(
        &mut self,
        id: i64,
        at: Option<Timestamp>,
        stored: Hash,
        because: Because,
        differs: Option<&[&'static str]>,
    ) {
        if let Some(Pending { id, at }) = self.pending.take() {
            let (kind, why) = match because {
                Because::Due => (Tampering::Relinked, "its `row_hash` was altered"),
                Because::Earlier => {
                    (Tampering::Inserted, "it is not part of the chain: the line after it does not know it")
                }
                Because::InOrder | Because::Carried => (Tampering::Unlinked, NOT_FOLLOWING),
            };
            self.fault(kind, Some((id, at)), why.to_owned());
        }
        if differs.is_none_or(|columns| !columns.is_empty()) {
            self.fault(Tampering::Edited, Some((id, at)), "its `row_marks` were altered".to_owned());
        }
        self.candidates = vec![(stored, Because::InOrder)];
    }

    fn out_of_order(
        &mut self,
        id: i64,
        at: Option<Timestamp>,
        stored: Hash,
        differs: Option<Vec<&'static str>>,
        values: &Values<'_>,
    ) {
        self.settle();
        let line = Some((id, at));
        match differs.as_deref() {
            Some(["id"]) => {
                self.fault(Tampering::Moved, line, "it was written under another number: lines were moved".to_owned());
            }
            Some([]) if id > self.last_id + 1 => {
                let missing = missing(self.last_id + 1, id - 1);
                self.fault(Tampering::Removed, line, format!("{missing} before it"));
            }
            Some([]) => self.pending = Some(Pending { id, at }),
            Some(columns) => {
                let columns = columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
                self.fault(Tampering::Edited, line, format!("{columns} differ from what was written"));
            }
            None => self.fault(Tampering::Edited, line, "its `row_marks` and more were altered".to_owned()),
        }
        self.lead_on(&[stored], values);
    }

    /// What the next line may follow, after one that does not fit.
    fn lead_on(&mut self, carried: &[Hash], values: &Values<'_>) {
        let mut next: Vec<(Hash, Because)> = carried.iter().map(|hash| (*hash, Because::Carried)).collect();
        next.extend(self.candidates.first().map(|(hash, _)| (link(hash, values), Because::Due)));
        next.extend(self.candidates.iter().map(|(hash, _)| (*hash, Because::Earlier)));
        next.truncate(MOST_CANDIDATES);
        self.candidates = next;
    }

    /// Names a line that waits for a reason, when none will come.
    fn settle(&mut self) {
        if let Some(Pending { id, at }) = self.pending.take() {
            self.fault(Tampering::Unlinked, Some((id, at)), NOT_FOLLOWING.to_owned());
        }
    }

    /// Compares the end that was reached with the one that was sealed and anchored. Answers with the seal.
    fn compare_seal(&mut self, found: Option<Found>, anchored: &Anchored) -> Seal {
        let seal = match found {
            None => {
                self.fault(Tampering::Seal, None, "the key of the seal, `trail/chain.key`, is missing".into());
                Seal::EMPTY
            }
            Some(Found::Missing) => {
                self.fault(Tampering::Seal, None, "the seal at the end of the log is missing".into());
                Seal::EMPTY
            }
            Some(Found::Wrong(seal)) => {
                self.fault(
                    Tampering::Seal,
                    None,
                    "the seal at the end of the log was not written by this appliance".into(),
                );
                seal
            }
            Some(Found::Good(seal)) => {
                self.compare_end(&seal);
                seal
            }
        };
        match anchored {
            Anchored::Missing => {
                self.fault(Tampering::Anchor, None, "the anchor, `trail/anchor.json`, is missing".into());
            }
            Anchored::Wrong => {
                self.fault(
                    Tampering::Anchor,
                    None,
                    "the anchor, `trail/anchor.json`, was not written by this appliance".into(),
                );
            }
            Anchored::At(_) => {}
        }
        for (head, kind, met) in std::mem::take(&mut self.awaited) {
            if !met {
                let what = if kind == Tampering::Anchor { "the anchor" } else { "the head that was taken earlier" };
                let (lines, id) = (head.lines, head.last_id);
                let why = match &self.cut {
                    Some(cut) if id < cut.last_id => format!(
                        "{what} cannot be compared: it ends with line {id}, and the lines up to {} were cut off when their \
                         time was up",
                        cut.last_id
                    ),
                    _ => format!("{what} is not in the chain: it says {lines} lines up to line {id}"),
                };
                self.fault(kind, None, why);
            }
        }
        seal
    }

    fn compare_end(&mut self, seal: &Seal) {
        if !seal.doubt.is_empty() {
            self.fault(Tampering::Seal, None, seal.doubt.clone());
        }
        let lines = u64::try_from(seal.lines).unwrap_or(0);
        if self.last_id < seal.last_id {
            let why = format!("{} at the end", missing(self.last_id + 1, seal.last_id));
            self.fault(Tampering::Truncated, Some((seal.last_id, None)), why);
        } else if self.last_id > seal.last_id {
            let why = format!(
                "the log was sealed with line {}; what comes after was not written by the appliance",
                seal.last_id
            );
            self.fault(Tampering::Inserted, Some((self.last_id, None)), why);
        } else if self.lines != lines {
            let why = format!("there are {} lines, and {lines} were written", self.lines);
            self.fault(Tampering::Seal, None, why);
        } else if self.last_hash != seal.head {
            let why = "the chain was calculated anew: its end is not the one that was sealed".to_owned();
            self.fault(Tampering::Seal, Some((seal.last_id, None)), why);
        }
    }

    fn report(self, seal: &Seal, now: Timestamp) -> TrailReport {
        TrailReport {
            checked_at: now,
            head: seal.head(),
            lines: self.lines,
            cut: self.cut,
            faults: self.faults,
            found: self.found,
        }
    }
}

/// What is said of a line that nothing explains.
const NOT_FOLLOWING: &str =
    "it does not follow the line before it: lines between them were removed, or that line was altered";

fn missing(first: i64, last: i64) -> String {
    if first == last { format!("line {first} is missing") } else { format!("lines {first} to {last} are missing") }
}
