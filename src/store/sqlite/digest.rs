//! Which hosts and rules occur in which stretch of a month: what the audit has instead of an index on them.
//!
//! An index entry for each row lands on a page of its own for each host, so with some thousands of hosts every small
//! transaction rewrites thousands of pages. A digest is one row for some thousands of events: their least and greatest
//! ordinal, and the sorted numbers of the hosts and rules among them. A search reads the digests, then walks only the
//! stretches where the host or rule occurs. Digests are written in the transaction of their events, so a crash never
//! separates them. A digest that cannot be read counts as holding everything.

use rusqlite::{Connection, Transaction, params};

use super::connect::Fault;

/// Events summed up in one digest: walking as many takes about a millisecond.
const DIGEST_ROWS: usize = 4_096;

/// The digest that is being filled.
#[derive(Debug, Default)]
pub(super) struct Digest {
    /// Its row, once it has one.
    id: Option<i64>,
    first: i64,
    last: i64,
    rows: usize,
    hosts: Vec<i64>,
    rules: Vec<i64>,
    /// Whether it differs from its row.
    changed: bool,
}

impl Digest {
    /// Adds an event; a full digest is written and the next one begun.
    pub(super) fn add(
        &mut self,
        transaction: &Transaction<'_>,
        ordinal: i64,
        host: i64,
        rule: Option<i64>,
    ) -> Result<(), Fault> {
        (self.first, self.last) =
            if self.rows == 0 { (ordinal, ordinal) } else { (self.first.min(ordinal), self.last.max(ordinal)) };
        self.rows += 1;
        self.hosts.push(host);
        self.rules.extend(rule);
        self.changed = true;
        if self.rows >= DIGEST_ROWS {
            self.save(transaction)?;
            *self = Self::default();
        }
        Ok(())
    }

    /// Writes what was added since the last time.
    pub(super) fn save(&mut self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        if !self.changed {
            return Ok(());
        }
        let values = params![self.id, self.first, self.last, encode(&mut self.hosts), encode(&mut self.rules)];
        let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO digests VALUES (?1, ?2, ?3, ?4, ?5)")?;
        let id = put.insert(values)?;
        self.id = Some(id);
        self.changed = false;
        Ok(())
    }
}

/// Sorted numbers as varints of their differences.
fn encode(numbers: &mut Vec<i64>) -> Vec<u8> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut previous = 0;
    let steps = numbers.iter().map(|number| number.wrapping_sub(std::mem::replace(&mut previous, *number)));
    let steps: Vec<i64> = steps.collect();
    // A list of integers always encodes; an empty blob would be read as holding everything.
    postcard::to_stdvec(&steps).unwrap_or_default()
}

fn holds(blob: &[u8], wanted: i64) -> bool {
    let Ok(steps) = postcard::from_bytes::<Vec<i64>>(blob) else { return true };
    let mut number = 0_i64;
    steps.into_iter().any(|step| {
        number = number.wrapping_add(step);
        number == wanted
    })
}

/// The stretches of ordinals between `least` and `greatest` in which `host` and `rule` (where given) may occur: apart
/// from each other, the highest first.
pub(super) fn stretches(
    connection: &Connection,
    (least, greatest): (i64, i64),
    host: Option<i64>,
    rule: Option<i64>,
) -> Result<Vec<(i64, i64)>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT first, last, hosts, rules FROM digests WHERE last >= ?1 AND first <= ?2")?;
    let mut rows = statement.query([least, greatest])?;
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
        let has = |column: usize, wanted: Option<i64>| -> Result<bool, Fault> {
            let Some(wanted) = wanted else { return Ok(true) };
            Ok(holds(row.get_ref(column)?.as_blob().unwrap_or_default(), wanted))
        };
        if has(2, host)? && has(3, rule)? {
            stretches.push((first.max(least), last.min(greatest)));
        }
    }
    Ok(apart(stretches))
}

/// Joins stretches that overlap; the highest first.
fn apart(mut stretches: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    stretches.sort_unstable_by_key(|(_, last)| std::cmp::Reverse(*last));
    let mut joined: Vec<(i64, i64)> = Vec::with_capacity(stretches.len());
    for (first, last) in stretches {
        match joined.last_mut() {
            Some(above) if last >= above.0 => above.0 = above.0.min(first),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_exactly_its_numbers() {
        let mut numbers = vec![9, 3, 3, -7, i64::MAX, i64::MIN, 1 << 40];
        let blob = encode(&mut numbers);
        for number in [9, 3, -7, i64::MAX, i64::MIN, 1 << 40] {
            assert!(holds(&blob, number), "{number}");
        }
        for number in [0, 4, 8, -8, i64::MAX - 1] {
            assert!(!holds(&blob, number), "{number}");
        }
        assert!(!holds(&encode(&mut Vec::new()), 0));
        assert!(holds(b"", 0), "what cannot be read holds everything");
    }

    #[test]
    fn stretches_that_overlap_are_walked_once_and_from_the_top() {
        let check = |stretches: &[(i64, i64)], expected: &[(i64, i64)]| {
            assert_eq!(apart(stretches.to_vec()), expected, "{stretches:?}");
        };
        check(&[], &[]);
        check(&[(1, 5), (10, 20)], &[(10, 20), (1, 5)]);
        check(&[(1, 10), (10, 20)], &[(1, 20)]);
        check(&[(5, 6), (1, 20), (18, 30), (40, 41)], &[(40, 41), (1, 30)]);
    }
}
