//! Cutting off the oldest lines when they have been kept as long as they should: the chain goes on from a *base*.
//!
//! The base says how many lines went, the number of the last one and its link, under the key that seals the log, in the
//! transaction that removes them. So lines cannot be cut off at the front by anyone else without its being seen: without the
//! base they are missing, and a base cannot be made without the key. The line that tells of the cut names the same link.
//! A log that is in doubt is not cut: what is missing in it may be needed to find out what happened.

use ring::hmac;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde_json::json;

use super::super::config::{Entry, Table, log_change};
use super::super::connect::Fault;
use super::line::{HASH_BYTES, Hash, hex};
use super::seal::{Found, Keeper, Seal, read_seal};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::store::Change;

/// Where the chain begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// With the first line.
    First,
    /// After lines that were cut off.
    After(Seal),
    /// Where it begins was not written by this appliance.
    Wrong,
}

/// Reads where the chain begins. A database that was never opened by a version that cuts has no base.
pub(super) fn read_base(connection: &Connection, key: Option<&hmac::Key>) -> Result<Base, Fault> {
    let known: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'config_audit_base')",
        [],
        |row| row.get(0),
    )?;
    if !known {
        return Ok(Base::First);
    }
    let found = connection
        .query_row("SELECT lines, last_id, head, mac FROM config_audit_base WHERE one = 1", [], |row| {
            let head: Vec<u8> = row.get(2)?;
            let seal = Seal {
                lines: row.get(0)?,
                last_id: row.get(1)?,
                head: head.try_into().unwrap_or([0; HASH_BYTES]),
                doubt: String::new(),
            };
            Ok((seal, row.get::<_, Vec<u8>>(3)?))
        })
        .optional();
    match found {
        Ok(None) => Ok(Base::First),
        Ok(Some((seal, mac))) => {
            let is_ours = key.is_some_and(|key| hmac::verify(key, &seal.bytes("base"), &mac).is_ok());
            Ok(if is_ours { Base::After(seal) } else { Base::Wrong })
        }
        // Columns of other types than we write: altered, whatever they hold.
        Err(rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)) => Ok(Base::Wrong),
        Err(error) => Err(error.into()),
    }
}

/// The last line from before a moment, without those after a later one: numbers and times both ascend, except where the
/// clock was set, and then the first line that is young enough ends the cut.
fn last_to_go(transaction: &Transaction<'_>, before: Timestamp) -> Result<Option<(i64, Hash)>, Fault> {
    let first_to_stay: Option<i64> = transaction.query_row(
        "SELECT min(id) FROM config_audit_log WHERE changed_at >= ?1",
        [before.as_micros()],
        |row| row.get(0),
    )?;
    let found = transaction
        .query_row(
            "SELECT id, row_hash FROM config_audit_log WHERE id < ?1 ORDER BY id DESC LIMIT 1",
            [first_to_stay.unwrap_or(i64::MAX)],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    Ok(found.and_then(|(id, hash)| Some((id, hash.try_into().ok()?))))
}

/// Removes the lines from before a moment. Answers how many went.
pub(in super::super) fn cut(
    connection: &mut Connection,
    keeper: &mut Keeper,
    before: Timestamp,
    change: &Change,
    clock: &Clock,
) -> Result<u64, Fault> {
    let now = clock.now();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    keeper.begin(&transaction, now)?;
    let Found::Good(seal) = read_seal(&transaction, keeper.key())? else { return Ok(0) };
    let base = read_base(&transaction, Some(keeper.key()))?;
    let already = match &base {
        Base::First => 0,
        Base::After(base) => base.lines,
        Base::Wrong => return Ok(0),
    };
    let Some((last_id, head)) = last_to_go(&transaction, before)?.filter(|_| seal.doubt.is_empty()) else {
        return Ok(0);
    };
    let lines: i64 =
        transaction.query_row("SELECT count(*) FROM config_audit_log WHERE id <= ?1", [last_id], |row| row.get(0))?;
    let base = Seal { lines: already.saturating_add(lines), last_id, head, doubt: String::new() };
    let mac = hmac::sign(keeper.key(), &base.bytes("base"));
    transaction.execute(
        "INSERT OR REPLACE INTO config_audit_base (one, lines, last_id, head, mac) VALUES (1, ?1, ?2, ?3, ?4)",
        params![base.lines, base.last_id, base.head, mac.as_ref()],
    )?;
    transaction.execute_batch("DROP TRIGGER IF EXISTS config_audit_log_no_delete;")?;
    transaction.execute("DELETE FROM config_audit_log WHERE id <= ?1", [last_id])?;
    transaction.execute_batch(super::reseal::GUARDS)?;
    let table = Table { name: "config_audit_log", key: "", columns: &[], truths: &[], rules_decisions: false };
    let old = json!({"lines": lines, "last_id": last_id, "head": hex(&head), "before": before.to_string()});
    let entry = Entry { table, record_id: "cut", old: Some(old), new: None };
    log_change(&transaction, now, change, &entry)?;
    let sealed = keeper.end(&transaction)?;
    transaction.commit()?;
    keeper.committed(sealed);
    Ok(u64::try_from(lines).unwrap_or(0))
}
