//! Chaining lines that have no chain yet, and chaining all of them anew when a person accepts the log as it is.
//!
//! A log is accepted only after a copy of the whole database was put aside as evidence; the line that says so is the
//! first one after it. A crash in between leaves the copy and the old chain.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::{Connection, Transaction, params};
use serde_json::json;

use super::super::config::{Entry, Table, log_change};
use super::super::connect::Fault;
use super::line::{Hash, hex, link, marks};
use super::seal::{Keeper, Seal};
use super::verify::{SELECT, read_values, verify};
use crate::clock::Clock;
use crate::store::{Change, StoreError};

/// Lines chained between two looks at the table: bounds memory.
const CHUNK: i64 = 1_000;

pub(super) const GUARDS: &str = "
DROP TRIGGER IF EXISTS config_audit_log_no_update;
DROP TRIGGER IF EXISTS config_audit_log_no_delete;
CREATE TRIGGER config_audit_log_no_update BEFORE UPDATE ON config_audit_log WHEN OLD.row_hash IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'config_audit_log is append-only'); END;
CREATE TRIGGER config_audit_log_no_delete BEFORE DELETE ON config_audit_log
BEGIN SELECT RAISE(ABORT, 'config_audit_log is append-only'); END;
";

/// Gives every line its link, from the first to the last, and answers with the end of the chain.
pub(super) fn chain_all(transaction: &Transaction<'_>) -> Result<Seal, Fault> {
    let mut seal = Seal { doubt: String::new(), ..Seal::EMPTY };
    let mut last_id = i64::MIN;
    loop {
        let links = links_after(transaction, last_id, seal.head)?;
        let Some((id, head, _)) = links.last() else { return Ok(seal) };
        (last_id, seal.last_id, seal.head) = (*id, *id, *head);
        seal.lines += i64::try_from(links.len()).unwrap_or(i64::MAX);
        let mut update =
            transaction.prepare_cached("UPDATE config_audit_log SET row_hash = ?1, row_marks = ?2 WHERE id = ?3")?;
        for (id, hash, marks) in links {
            update.execute(params![hash, marks, id])?;
        }
    }
}

/// Numbers, links and marks of the next lines.
fn links_after(transaction: &Transaction<'_>, after: i64, head: Hash) -> Result<Vec<(i64, Hash, Vec<u8>)>, Fault> {
    let mut statement = transaction.prepare_cached(&format!("{SELECT} WHERE id > ?1 ORDER BY id LIMIT {CHUNK}"))?;
    let mut rows = statement.query([after])?;
    let (mut links, mut previous) = (Vec::new(), head);
    while let Some(row) = rows.next()? {
        let values = read_values(row)?;
        previous = link(&previous, &values);
        links.push((row.get(0)?, previous, marks(&values)));
    }
    Ok(links)
}

/// Accepts the log as it is. Answers with the name of the copy.
pub(in super::super) fn reseal(
    connection: &mut Connection,
    keeper: &mut Keeper,
    change: &Change,
    clock: &Clock,
) -> Result<String, Fault> {
    let now = clock.now();
    let folder = keeper.folder().to_owned();
    let report = verify(connection, &folder, &[], clock)?;
    let copy = format!("evidence-{}.db", now.to_utc().format("%Y%m%dT%H%M%S%6fZ"));
    let path = folder.join(&copy);
    let Some(text) = path.to_str() else {
        return Err(StoreError::Invalid("the data directory's name is not valid UTF-8".into()).into());
    };
    connection.execute("VACUUM INTO ?1", [text])?;
    // It holds what the database holds; a copy that others may read is worse than none.
    let private = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600));
    private.map_err(|error| StoreError::Unavailable { store: copy.clone(), why: error.to_string() })?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    keeper.begin(&transaction, now)?;
    // Chained anew, it begins with the first line that is there.
    transaction.execute("DELETE FROM config_audit_base", [])?;
    transaction.execute_batch("DROP TRIGGER IF EXISTS config_audit_log_no_update;")?;
    let seal = chain_all(&transaction)?;
    transaction.execute_batch(GUARDS)?;
    transaction.execute(
        "UPDATE config_audit_seal SET lines = ?1, last_id = ?2, head = ?3, doubt = ''",
        params![seal.lines, seal.last_id, seal.head],
    )?;
    let table = Table { name: "config_audit_log", key: "", columns: &[], truths: &[], rules_decisions: false };
    let faults: Vec<String> = report.faults.iter().map(|fault| fault.why.clone()).collect();
    let old = json!({"head": report.head.hash, "lines": report.lines, "found": report.found, "faults": faults});
    let new = json!({"head": hex(&seal.head), "lines": seal.lines, "evidence": copy});
    let entry = Entry { table, record_id: "chain", old: Some(old), new: Some(new) };
    log_change(&transaction, now, change, &entry)?;
    let sealed = keeper.end(&transaction)?;
    transaction.commit()?;
    keeper.committed(sealed);
    Ok(copy)
}
