//! What was sent, by sequence number, and what of it stands in the audit: the proof that nothing was lost or doubled.
//!
//! Every line carries the run's mark and a running number, and the generator knows which lines a rule hits. So each row of
//! the audit can be told to be expected, unexpected or there for the second time. A bit a message is kept: some megabytes
//! for the longest run. The audit is read from the data folder of a server that has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::clock::Clock;
use crate::model::Protocol;
use crate::store::sqlite::AuditDb;
use crate::store::{AuditLog, EventQuery};

/// What the comparison found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Messages sent that a rule hits.
    pub expected: u64,
    /// Rows of this run.
    pub rows: u64,
    /// Messages that should have a row and have none.
    pub missing: u64,
    /// Rows beyond the first of a message.
    pub doubled: u64,
    /// Rows of messages that were never sent, or that no rule hits.
    pub unexpected: u64,
}

/// The messages of one run.
#[derive(Debug, Clone)]
pub struct Ledger {
    mark: String,
    /// Which messages of the pool a rule hits.
    hits: Vec<bool>,
    /// How many messages each connection sent.
    sent: BTreeMap<u64, u64>,
    connections: u64,
    /// A bit for each message that was seen.
    seen: Vec<u64>,
    findings: Findings,
}

impl Ledger {
    /// The messages marked `mark` that `connections` connections sent: connection `c` the numbers `c`, `c + connections`
    /// and so on, as many as `sent` says. Message `n` is hit if `hits[n % hits.len()]` is.
    pub fn new(mark: &str, hits: Vec<bool>, sent: BTreeMap<u64, u64>, connections: u64) -> Self {
        let last = sent.iter().map(|(connection, count)| connection + count.saturating_sub(1) * connections).max();
        let words = usize::try_from(last.unwrap_or(0) / 64 + 1).unwrap_or(1);
        let mut ledger = Self {
            mark: format!("{mark} seq="),
            hits,
            connections,
            seen: vec![0; words],
            findings: Findings::default(),
            sent: BTreeMap::new(),
        };
        ledger.findings.expected = sent
            .iter()
            .map(|(connection, count)| {
                (0..*count).filter(|k| ledger.is_hit(connection + k * connections)).count() as u64
            })
            .sum();
        ledger.sent = sent;
        ledger
    }

    fn is_hit(&self, number: u64) -> bool {
        let length = self.hits.len().max(1) as u64;
        usize::try_from(number % length).ok().and_then(|at| self.hits.get(at)).copied().unwrap_or(false)
    }

    fn was_sent(&self, number: u64) -> bool {
        let (connection, position) = (number % self.connections.max(1), number / self.connections.max(1));
        self.sent.get(&connection).is_some_and(|count| position < *count)
    }

    /// Takes note of a row by the message it holds; rows of other runs are passed over.
    pub fn note(&mut self, message: &str) {
        let Some(at) = message.rfind(&self.mark) else { return };
        let rest = &message[at + self.mark.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        // Running numbers that people see start at 1.
        let Some(number) = rest[..digits].parse::<u64>().ok().and_then(|seen| seen.checked_sub(1)) else { return };
        self.findings.rows += 1;
        if !self.was_sent(number) || !self.is_hit(number) {
            self.findings.unexpected += 1;
            return;
        }
        let Some(word) = usize::try_from(number / 64).ok().and_then(|at| self.seen.get_mut(at)) else { return };
        let bit = 1_u64 << (number % 64);
        if *word & bit != 0 {
            self.findings.doubled += 1;
        }
        *word |= bit;
    }

    /// What was found so far.
    pub fn findings(&self) -> Findings {
        let seen: u64 = self.seen.iter().map(|word| u64::from(word.count_ones())).sum();
        Findings { missing: self.findings.expected - seen, ..self.findings }
    }

    /// Reads every row of the audit below `data`, the data folder of a server that has ended.
    pub async fn compare(mut self, data: &Path) -> anyhow::Result<Findings> {
        let folder: PathBuf = data.join("store").join("audit");
        let audit = tokio::task::spawn_blocking(move || AuditDb::open(&folder, Clock::system()));
        let audit = audit.await?.context("cannot open the audit of the measured server")?;
        let mut query = EventQuery { limit: EventQuery::MAX_LIMIT, ..EventQuery::default() };
        loop {
            let page = audit.search(&query).await.context("cannot read the audit of the measured server")?;
            // Meta-alerts are made by the server itself and quote a message that no rule hit.
            for row in page.items.iter().filter(|row| row.event.source.protocol != Protocol::Internal) {
                self.note(&row.event.message);
            }
            match page.next {
                Some(next) => query.before = Some(next),
                None => break,
            }
        }
        audit.close().await.context("cannot close the audit of the measured server")?;
        Ok(self.findings())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages 0, 2, 4, 6 by one connection, 1 and 3 by another; every third of them is hit: 0, 3 and 6.
    fn ledger() -> Ledger {
        Ledger::new("r1", vec![true, false, false], BTreeMap::from([(0, 4), (1, 2)]), 2)
    }

    fn check(messages: &[&str], expected: Findings) {
        let mut ledger = ledger();
        messages.iter().for_each(|message| ledger.note(message));
        assert_eq!(ledger.findings(), expected, "{messages:?}");
    }

    #[test]
    fn every_expected_row_once_is_clean() {
        let all = ["x, r1 seq=0000000001", "y r1 seq=0000000004 (more)", "r1 seq=0000000007"];
        check(&all, Findings { expected: 3, rows: 3, ..Findings::default() });
    }

    #[test]
    fn gaps_doubles_and_strangers_are_told_apart() {
        check(&["r1 seq=0000000001"], Findings { expected: 3, rows: 1, missing: 2, ..Findings::default() });
        let twice = ["r1 seq=0000000001", "r1 seq=0000000001", "r1 seq=0000000004", "r1 seq=0000000007"];
        check(&twice, Findings { expected: 3, rows: 4, doubled: 1, ..Findings::default() });
        // Message 1 (seen as 2) is not hit; message 9 was never sent; message 5 neither.
        let strange = ["r1 seq=0000000002", "r1 seq=0000000010", "r1 seq=0000000006"];
        check(&strange, Findings { expected: 3, rows: 3, missing: 3, unexpected: 3, ..Findings::default() });
    }

    #[test]
    fn rows_of_other_runs_are_passed_over() {
        check(
            &["w0 seq=0000000001", "no number", "r1 seq=", "r1 seq=0"],
            Findings { expected: 3, missing: 3, ..Findings::default() },
        );
    }
}
