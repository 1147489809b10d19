//! Walking the audit from its newest row down, over all partitions at once.
//!
//! A walk is a heap of nodes, each with a bound on the ordinals still to come from it: a partition that was not opened
//! yet, a run of its index, the rows that are in no run yet, a stretch of its table. The node with the highest bound
//! gives its rows down to the bound of the next one, so rows come in the order of their ordinals although partitions
//! and runs overlap (late events, parts of a month), and nothing is opened before its turn. A partition is read in one
//! transaction from when it is opened, so rows that move from batch to run meanwhile are met once.
//!
//! A damaged partition is left out; what the index cannot tell any more is read from the rows.

use std::cell::Cell;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::audit_write::protocol_number;
use super::connect::Fault;
use super::facts::Facts;
use super::index::{self, CHUNK_ROWS, Condition, Kind, NO_SEVERITY, RunInfo};
use super::months::{Lease, Months, PROBES, PartitionFile, tolerate_damage};
use crate::model::EventId;
use crate::store::EventQuery;

/// Rows that one step reads, at most.
const STEP_ROWS: usize = 256;
/// Rows that one step counts in a table without index, at most.
const COUNTED_ROWS: usize = 8_192;

/// A row as it lies in a partition.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) at: i64,
    pub(super) crc: u32,
    pub(super) body: Vec<u8>,
}

/// Some rows of one partition, newest first.
pub(super) type Rows = (Arc<PartitionFile>, Vec<Raw>);

/// What a walk has done so far: the measure of what a search costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Rows read.
    pub(super) rows: u64,
    /// Runs of which postings were read.
    pub(super) runs: u64,
    /// Partitions opened.
    pub(super) partitions: u64,
}

/// How the rows are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Through the index if that narrows the search, else row by row.
    Whichever,
    /// Through the index in any case, because rows are to be counted.
    Index,
}

/// A partition that is being read.
struct Opened {
    file: Arc<PartitionFile>,
    lease: Lease,
    conditions: Vec<Condition>,
    correlation: Option<String>,
    least: i64,
    greatest: i64,
    /// Nodes of it that are not done; with the last of them it is closed.
    nodes: usize,
    /// Everything from this ordinal on was given. The index may know a row twice: it left the audit, stayed noted, and was
    /// put back.
    given: Cell<i64>,
}

impl Opened {
    /// Leaves out what was given before, of ordinals that come newest first.
    fn fresh(&self, mut ordinals: Vec<i64>) -> Vec<i64> {
        ordinals.retain(|ordinal| *ordinal < self.given.get());
        if let Some(least) = ordinals.last() {
            self.given.set(*least);
        }
        ordinals
    }
}

/// Where rows come from.
enum Node {
    /// A partition whose turn has not come.
    Closed(Arc<PartitionFile>),
    /// A stretch of a partition's table, from its least ordinal up to the node's bound.
    Table {
        least: i64,
    },
    /// Rows with a correlation id.
    Correlation,
    /// Ordinals, ascending.
    Listed(Vec<i64>),
    /// A run, before and after its postings were read.
    Run(RunInfo),
    Found(FoundRun),
}

/// A run with the positions that may be hits.
struct FoundRun {
    run: RunInfo,
    bits: Vec<u64>,
    /// First and last ordinal of each chunk.
    chunks: Vec<(i64, i64)>,
    /// Chunks that are still to come: those below this one.
    next: usize,
    /// What is left of the chunk that was begun, ascending.
    begun: Vec<i64>,
}

/// A walk. `query` is prepared.
pub(super) struct Walk<'a> {
    months: &'a Arc<Months>,
    query: &'a EventQuery,
    by: By,
    heap: BinaryHeap<(i64, usize)>,
    /// Each with the partition it belongs to, if that is open; taken out while it is used and for ever when it is done.
    nodes: Vec<Option<(usize, Node)>>,
    opened: Vec<Option<Opened>>,
    work: Work,
}

impl<'a> Walk<'a> {
    /// Begins above the newest row that `query` admits; opens nothing.
    pub(super) fn new(months: &'a Arc<Months>, query: &'a EventQuery, by: By) -> Self {
        let mut walk = Self {
            months,
            query,
            by,
            heap: BinaryHeap::new(),
            nodes: Vec::new(),
            opened: Vec::new(),
            work: Work::default(),
        };
        let below = query.before.map_or(i64::MAX, |before| before.ordinal().saturating_add(PROBES));
        for file in months.newest_first() {
            let month = file.partition.month;
            let first = EventId::ordinal_at(month.start_millis());
            let mut last = EventId::ordinal_at(month.next().start_millis()).saturating_add(PROBES);
            match file.known_facts() {
                Some(Facts { last: Some(known), .. }) => last = last.min(known),
                Some(Facts { rows: 0, .. }) => continue,
                _ => {}
            }
            if first <= below {
                walk.put(last.min(below), 0, Node::Closed(file));
            }
        }
        walk
    }

    /// No row with an ordinal above this is still to come; `None` when all were seen.
    pub(super) fn bound(&self) -> Option<i64> {
        self.heap.peek().map(|(bound, _)| *bound)
    }

    /// What was done so far.
    pub(super) fn work(&self) -> Work {
        self.work
    }

    /// The next rows, newest first, `most` at most; it may take several calls to come to one, and `None` is the end.
    /// Every hit is among them, and others may be.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<Rows>, Fault> {
        let most = most.clamp(1, STEP_ROWS);
        let mut rows = Vec::new();
        let file = self.step(|node, bound, floor, opened, work| {
            let below = match node {
                Node::Table { .. } | Node::Correlation => read_table(node, bound, floor, opened, most, &mut rows)?,
                _ => {
                    let (ordinals, below) = take(node, floor, opened, most)?;
                    read_listed(&opened.lease, &opened.fresh(ordinals), &mut rows)?;
                    below
                }
            };
            work.rows += rows.len() as u64;
            Ok(below)
        })?;
        Ok(file.map(|file| (file, rows)))
    }

    /// Passes over the next rows that may be hits, `most` at most, and says how many; `None` is the end.
    pub(super) fn skip(&mut self, most: u64) -> Result<Option<u64>, Fault> {
        let mut passed = 0;
        let file = self.step(|node, bound, floor, opened, _| {
            let (count, below) = match node {
                Node::Table { .. } | Node::Correlation => count_table(node, bound, floor, opened, most)?,
                Node::Found(found) => found.pass(opened, floor, most)?,
                _ => {
                    let (ordinals, below) = take(node, floor, opened, usize::try_from(most).unwrap_or(usize::MAX))?;
                    (opened.fresh(ordinals).len() as u64, below)
                }
            };
            passed = count;
            Ok(below)
        })?;
        Ok(file.map(|_| passed))
    }

    /// Takes the node with the highest bound and has `act` work on it, down to the bound of the next one; `act` says
    /// what the node's bound is then, or that it is done.
    fn step(
        &mut self,
        act: impl FnOnce(&mut Node, i64, i64, &Opened, &mut Work) -> Result<Option<i64>, Fault>,
    ) -> Result<Option<Arc<PartitionFile>>, Fault> {
        let Some((bound, index)) = self.heap.pop() else { return Ok(None) };
        let floor = self.bound().unwrap_or(i64::MIN);
        let Some((part, mut node)) = self.nodes.get_mut(index).and_then(Option::take) else { return Ok(None) };
        if let Node::Closed(file) = node {
            self.work.partitions += 1;
            tolerate_damage(&file, self.open(&file))?;
            return Ok(Some(file));
        }
        let Some(opened) = self.opened.get_mut(part).and_then(Option::as_mut) else { return Ok(None) };
        let acted = find_postings(&mut node, opened, &mut self.work);
        let acted = acted.and_then(|()| act(&mut node, bound, floor, opened, &mut self.work));
        if acted.is_err() {
            opened.lease.spoil();
        }
        let file = Arc::clone(&opened.file);
        if let Some(Some(below)) = tolerate_damage(&file, acted)? {
            self.nodes[index] = Some((part, node));
            self.heap.push((below, index));
            return Ok(Some(file));
        }
        opened.nodes -= 1;
        if opened.nodes == 0 {
            self.opened[part] = None;
        }
        Ok(Some(file))
    }

    fn put(&mut self, bound: i64, part: usize, node: Node) {
        self.heap.push((bound, self.nodes.len()));
        self.nodes.push(Some((part, node)));
    }

    /// Opens a partition whose turn has come, and puts what there is to walk in it into the heap.
    fn open(&mut self, file: &Arc<PartitionFile>) -> Result<(), Fault> {
        let mut lease = self.months.lease(file)?;
        let planned = plan(&lease, self.query, self.by);
        if planned.is_err() {
            lease.spoil();
        }
        let Some(Plan { conditions, least, greatest, nodes }) = planned? else { return Ok(()) };
        let part = self.opened.len();
        if nodes.is_empty() {
            return Ok(());
        }
        let (file, correlation, count) = (Arc::clone(file), self.query.correlation_id.clone(), nodes.len());
        let given = Cell::new(i64::MAX);
        self.opened.push(Some(Opened { file, lease, conditions, correlation, least, greatest, nodes: count, given }));
        for (bound, node) in nodes {
            self.put(bound.min(greatest), part, node);
        }
        Ok(())
    }
}

/// What of a partition has to be walked.
struct Plan {
    conditions: Vec<Condition>,
    least: i64,
    greatest: i64,
    nodes: Vec<(i64, Node)>,
}

/// What of a partition to walk; `None` if it cannot hold a hit.
fn plan(connection: &Connection, query: &EventQuery, by: By) -> Result<Option<Plan>, Fault> {
    connection.execute_batch("BEGIN")?;
    let facts = Facts::read(connection)?;
    let (Some((least, greatest)), Some(conditions)) = (bounds(query, &facts), conditions(connection, query)?) else {
        return Ok(None);
    };
    let mut nodes = Vec::new();
    if query.correlation_id.is_some() {
        // Correlation ids have an index of SQLite's, because few events have one.
        nodes.push((greatest, Node::Correlation));
    } else if facts.unindexed > 0 || (by == By::Whichever && conditions.is_empty()) {
        nodes.push((greatest, Node::Table { least }));
    } else {
        let mut listed = Vec::new();
        for batch in index::batches(connection)? {
            let Some(entries) = batch.entries else {
                nodes.push((batch.last, Node::Table { least: batch.first.max(least) }));
                continue;
            };
            let hits = entries.iter().filter(|entry| conditions.iter().all(|condition| entry.has(*condition)));
            listed.extend(hits.map(|entry| entry.ordinal).filter(|ordinal| (least..=greatest).contains(ordinal)));
        }
        listed.sort_unstable();
        listed.dedup();
        if let Some(last) = listed.last() {
            nodes.push((*last, Node::Listed(listed)));
        }
        nodes.extend(index::runs(connection, least, greatest)?.into_iter().map(|run| (run.last, Node::Run(run))));
    }
    Ok(Some(Plan { conditions, least, greatest, nodes }))
}

/// Between which ordinals hits can lie.
fn bounds(query: &EventQuery, facts: &Facts) -> Option<(i64, i64)> {
    let (mut least, mut greatest) = (facts.first?, facts.last?);
    if let Some(from) = query.from {
        least = least.max(EventId::ordinal_at(from.as_millis().saturating_add(facts.least_skew_ms)));
    }
    if let Some(to) = query.to {
        // The first millisecond that is wholly out of the question.
        let end = to.as_micros().saturating_add(999).div_euclid(1_000).saturating_add(facts.greatest_skew_ms);
        greatest = greatest.min(EventId::ordinal_at(end).saturating_add(PROBES));
    }
    if let Some(before) = query.before {
        greatest = greatest.min(before.ordinal().saturating_add(PROBES));
    }
    (least <= greatest).then_some((least, greatest))
}

/// What the index can tell of `query`; `None` if the partition does not know the host.
fn conditions(connection: &Connection, query: &EventQuery) -> Result<Option<Vec<Condition>>, Fault> {
    let mut conditions = Vec::new();
    if let Some(hostname) = &query.hostname {
        let mut find = connection.prepare_cached("SELECT id FROM hosts WHERE name = ?1")?;
        let Some(host) = find.query_row([hostname], |row| row.get(0)).optional()? else { return Ok(None) };
        conditions.push((Kind::Host, host));
    }
    conditions.extend(query.rule.map(|rule| (Kind::Rule, rule.0)));
    conditions.extend(query.severity.map(|severity| (Kind::Severity, severity.number().min(NO_SEVERITY).into())));
    conditions.extend(query.protocol.map(|protocol| (Kind::Protocol, protocol_number(protocol))));
    conditions.extend(query.matched.map(|matched| (Kind::Matched, matched.into())));
    Ok(Some(conditions))
}

/// Reads the postings of a run whose turn has come. What cannot be read of it is read from the table instead.
fn find_postings(node: &mut Node, opened: &Opened, work: &mut Work) -> Result<(), Fault> {
    let run = match node {
        Node::Run(run) => std::mem::take(run),
        _ => return Ok(()),
    };
    work.runs += 1;
    let Some(chunks) = run.directory() else {
        *node = Node::Table { least: run.first.max(opened.least) };
        return Ok(());
    };
    let bits = run.bits(&opened.lease, &opened.conditions)?;
    *node = Node::Found(FoundRun { run, bits, next: chunks.len(), chunks, begun: Vec::new() });
    Ok(())
}

/// The next ordinals of a node that knows them, newest first and down to `floor`, and the bound of what is left.
fn take(node: &mut Node, floor: i64, opened: &Opened, most: usize) -> Result<(Vec<i64>, Option<i64>), Fault> {
    match node {
        Node::Listed(listed) => Ok(take_from(listed, floor, most)),
        Node::Found(found) => found.take(&opened.lease, (floor, opened.least, opened.greatest), most),
        _ => Ok((Vec::new(), None)),
    }
}

/// Takes from the end of ascending ordinals.
fn take_from(ascending: &mut Vec<i64>, floor: i64, most: usize) -> (Vec<i64>, Option<i64>) {
    let reach = ascending.partition_point(|ordinal| *ordinal < floor).max(ascending.len().saturating_sub(most));
    let mut taken = ascending.split_off(reach);
    taken.reverse();
    (taken, ascending.last().copied())
}

/// A floor above which rows are wanted now, and the least and greatest ordinal wanted at all.
type Range = (i64, i64, i64);

impl FoundRun {
    /// The next ordinals, newest first and down to the floor, and the bound of what is left.
    fn take(&mut self, connection: &Connection, range: Range, most: usize) -> Result<(Vec<i64>, Option<i64>), Fault> {
        let mut taken = Vec::new();
        loop {
            if self.begun.is_empty() {
                match self.next_chunk(range) {
                    None => return Ok((taken, None)),
                    Some((_, last)) if last < range.0 => return Ok((taken, Some(last))),
                    Some(_) => self.begin_chunk(connection, range)?,
                }
            }
            let (mut some, left) = take_from(&mut self.begun, range.0, most - taken.len());
            taken.append(&mut some);
            if left.is_some() || taken.len() >= most {
                return Ok((taken, left.or_else(|| self.next_chunk(range).map(|(_, last)| last))));
            }
        }
    }

    /// Like [`FoundRun::take`], but only counts, and reads nothing of chunks that lie wholly above the floor.
    fn pass(&mut self, opened: &Opened, floor: i64, most: u64) -> Result<(u64, Option<i64>), Fault> {
        let (least, greatest) = (opened.least, opened.greatest);
        let range = (floor, least, greatest);
        let mut passed = 0;
        while self.begun.is_empty() {
            let Some((first, _)) = self.next_chunk(range) else { return Ok((passed, None)) };
            let last = self.chunks[self.next - 1].1;
            let is_whole = first >= floor.max(least) && last <= greatest && last < opened.given.get();
            if !is_whole || passed + self.count(self.next - 1) > most {
                break;
            }
            passed += self.count(self.next - 1);
            opened.given.set(first);
            self.next -= 1;
        }
        let left = usize::try_from(most - passed).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok((passed, self.next_chunk(range).map(|(_, last)| last).max(self.begun.last().copied())));
        }
        let (taken, below) = self.take(&opened.lease, range, left.min(CHUNK_ROWS))?;
        Ok((passed + opened.fresh(taken).len() as u64, below))
    }

    /// The highest chunk that may hold a hit and was not begun: its first ordinal, and the last that is wanted.
    fn next_chunk(&mut self, (_, least, greatest): Range) -> Option<(i64, i64)> {
        while self.next > 0 {
            let (first, last) = self.chunks[self.next - 1];
            if last < least {
                self.next = 0;
            } else if first > greatest || self.count(self.next - 1) == 0 {
                self.next -= 1;
            } else {
                return Some((first, last.min(greatest)));
            }
        }
        None
    }

    fn begin_chunk(&mut self, connection: &Connection, (_, least, greatest): Range) -> Result<(), Fault> {
        self.next -= 1;
        let (first, last) = self.chunks[self.next];
        let wanted = |ordinal: &i64| (least..=greatest).contains(ordinal);
        self.begun = match self.run.ordinals(connection, self.next, first)? {
            Some(ordinals) => {
                let at = self.next * CHUNK_ROWS;
                let is_set =
                    |position: usize| self.bits.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1);
                let hits = ordinals.into_iter().enumerate().filter(|(offset, _)| is_set(at + offset));
                hits.map(|(_, ordinal)| ordinal).filter(wanted).collect()
            }
            // Any row there may be the run's.
            None => ordinals_between(connection, first, last)?.into_iter().filter(wanted).collect(),
        };
        Ok(())
    }

    /// Positions of a chunk that may be hits.
    fn count(&self, chunk: usize) -> u64 {
        const WORDS: usize = CHUNK_ROWS / 64;
        let end = ((chunk + 1) * WORDS).min(self.bits.len());
        let words = self.bits.get(chunk * WORDS..end).unwrap_or_default();
        words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

fn ordinals_between(connection: &Connection, first: i64, last: i64) -> Result<Vec<i64>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT ordinal FROM events WHERE ordinal BETWEEN ?1 AND ?2 ORDER BY ordinal")?;
    let ordinals = statement.query_map([first, last], |row| row.get(0))?;
    Ok(ordinals.collect::<Result<_, _>>()?)
}

/// Reads the rows at `ordinals`; one that is not there was removed.
fn read_listed(connection: &Connection, ordinals: &[i64], rows: &mut Vec<Raw>) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached("SELECT ordinal, crc, body FROM events WHERE ordinal = ?1")?;
    for ordinal in ordinals {
        rows.extend(statement.query_row([ordinal], read_raw).optional()?);
    }
    Ok(())
}

fn read_raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw { at: row.get(0)?, crc: row.get(1)?, body: row.get_ref(2)?.as_blob().unwrap_or_default().to_vec() })
}

/// The statement that reads a table's node, without its columns.
fn table(node: &Node) -> &'static str {
    match node {
        Node::Correlation => {
            "FROM events INDEXED BY events_correlation WHERE ordinal BETWEEN ?1 AND ?2 AND correlation = ?3 \
             ORDER BY ordinal DESC LIMIT ?4"
        }
        _ => "FROM events WHERE ordinal BETWEEN ?1 AND ?2 AND ?3 IS NULL ORDER BY ordinal DESC LIMIT ?4",
    }
}

/// Reads rows of a table from `bound` down to `floor`; the row after them is the bound of what is left.
fn read_table(
    node: &Node,
    bound: i64,
    floor: i64,
    opened: &Opened,
    most: usize,
    rows: &mut Vec<Raw>,
) -> Result<Option<i64>, Fault> {
    let mut statement = opened.lease.prepare_cached(&format!("SELECT ordinal, crc, body {}", table(node)))?;
    let mut found = statement.query(params![least(node, opened), bound, opened.correlation(node), limit(most)])?;
    while let Some(row) = found.next()? {
        let at = row.get(0)?;
        if at < floor || rows.len() == most {
            return Ok(Some(at));
        }
        rows.push(read_raw(row)?);
    }
    Ok(None)
}

/// Counts rows of a table from `bound` down to `floor`.
fn count_table(node: &Node, bound: i64, floor: i64, opened: &Opened, most: u64) -> Result<(u64, Option<i64>), Fault> {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(COUNTED_ROWS);
    let mut statement = opened.lease.prepare_cached(&format!("SELECT ordinal {}", table(node)))?;
    let mut found = statement.query(params![least(node, opened), bound, opened.correlation(node), limit(most)])?;
    let mut passed = 0;
    while let Some(row) = found.next()? {
        let at = row.get(0)?;
        if at < floor || passed == most as u64 {
            return Ok((passed, Some(at)));
        }
        passed += 1;
    }
    Ok((passed, None))
}

fn least(node: &Node, opened: &Opened) -> i64 {
    match node {
        Node::Table { least } => *least,
        _ => opened.least,
    }
}

fn limit(most: usize) -> i64 {
    i64::try_from(most.saturating_add(1)).unwrap_or(i64::MAX)
}

impl Opened {
    fn correlation(&self, node: &Node) -> Option<&str> {
        match node {
            Node::Correlation => self.correlation.as_deref(),
            _ => None,
        }
    }
}
